from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from shared.clock import Clock, ManualClock
from shared.sqlite import SqliteFile
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.condition_contract import ConditionContract
from shared.testing.storage_contract import THINGS, StoreContract, Thing


class TestSqliteStore(StoreContract, ConditionContract):
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


async def test_what_is_past_its_time_leaves_the_file_with_the_writes_that_follow(
    clock: ManualClock,
) -> None:
    db = SqliteFile(None)
    await db.open()
    things = SqliteStore(db, clock).collection(THINGS)
    for day in range(3):
        soon = clock.now() + timedelta(hours=1)
        for number in range(600):
            await things.put(Thing(key=f"{day}-{number}", expires_at=soon))
        await clock.advance(timedelta(days=1))
    await things.put(Thing(key="last"))

    rows = await db.read(lambda c: c.execute("SELECT count(*) FROM doc_test_things").fetchone())
    assert rows == (1,)
    await db.close()
