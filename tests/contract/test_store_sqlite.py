from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.clock import Clock, ManualClock
from shared.sqlite import SqliteFile
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.storage_contract import THINGS, StoreContract, Thing


class TestSqliteStore(StoreContract):
    @asynccontextmanager
    async def opened(self, clock: Clock) -> AsyncIterator[DocumentStore]:
        db = SqliteFile(None)
        await db.open()
        try:
            yield SqliteStore(db, clock)
        finally:
            await db.close()


async def test_what_was_written_is_there_after_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    for expected in (0, 1):
        db = SqliteFile(tmp_path / "mesh.db")
        await db.open()
        things = SqliteStore(db, clock).collection(THINGS)
        assert await things.count() == expected
        await things.put(Thing(key="k"))
        await db.close()
