"""What PBXs sent, on its way to the store: in order, within bounds, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from services.ingest import raw
from services.ingest.raw import RawTape
from services.ingest.store import RAW, RawBook, RawInput, RawKind, records_in
from shared.clock import ManualClock
from shared.contracts.hooks import HookKind, HookReceived
from shared.errors import ContractError, MeshError, Unavailable
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


class Book(RawBook):
    """Over a real store; fails as its test says."""

    fault: MeshError | None = None
    tries = 0

    async def add_records(
        self,
        *,
        tenant: str,
        pbx: str,
        records: Sequence[tuple[datetime, bytes]],
        what: RawKind = RawKind.RECORDS,
    ) -> None:
        self.tries += 1
        if self.fault is not None and pbx != "well":
            raise self.fault
        await super().add_records(tenant=tenant, pbx=pbx, records=records, what=what)


class Shelf:
    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        self.began = clock.now()
        self.book = Book(SqliteStore(db, clock).collection(RAW), clock, keep=DAY)
        self.tape = RawTape(self.book, clock)

    async def inputs(self, pbx: str = "main", tenant: str = "acme") -> list[RawInput]:
        span = {"since": self.began - DAY, "until": self.clock.now() + DAY}
        return [one async for one in self.book.between(tenant, pbx, **span)]

    async def kept(self, pbx: str = "main", tenant: str = "acme") -> list[bytes]:
        return [record for one in await self.inputs(pbx, tenant) for _, record in records_in(one)]


@pytest.fixture
async def shelf(clock: ManualClock) -> AsyncIterator[Shelf]:
    db = SqliteFile(None)
    await db.open()
    yield Shelf(db, clock)
    await db.close()


async def test_records_are_kept_byte_for_byte_with_their_times(shelf: Shelf) -> None:
    odd = bytes(range(256))
    shelf.tape.keep("acme", "main", odd)
    await shelf.clock.advance(timedelta(milliseconds=250))
    shelf.tape.keep("acme", "main", b"")
    await shelf.tape.flush()

    (found,) = await shelf.inputs()
    first, second = records_in(found)
    assert (first[1], second[1]) == (odd, b"")
    assert second[0] - first[0] == 250
    assert (found.what, found.came_at) == (RawKind.RECORDS, shelf.began)


async def test_pbxs_and_tenants_are_kept_apart(shelf: Shelf) -> None:
    for tenant, pbx in (("acme", "main"), ("acme", "other"), ("globex", "main")):
        shelf.tape.keep(tenant, pbx, f"{tenant}/{pbx}".encode())
    await shelf.tape.flush()

    assert await shelf.kept() == [b"acme/main"]
    assert await shelf.kept("other") == [b"acme/other"]
    assert await shelf.kept("main", "globex") == [b"globex/main"]


async def test_they_go_to_the_store_once_a_second_and_at_the_end(shelf: Shelf) -> None:
    running = asyncio.create_task(shelf.tape.run())
    await eventually(lambda: shelf.clock.sleepers == 1)
    shelf.tape.keep("acme", "main", b"one")
    assert await shelf.kept() == []
    await shelf.clock.advance(SECOND)

    async def there() -> bool:
        return await shelf.kept() == [b"one"]

    await eventually(there)
    shelf.tape.keep("acme", "main", b"two")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await shelf.kept() == [b"one", b"two"]


async def test_while_the_store_is_away_they_wait_in_their_order(shelf: Shelf) -> None:
    shelf.book.fault = Unavailable("away")
    for name in (b"one", b"two"):
        shelf.tape.keep("acme", "main", name)
        await shelf.tape.flush()
        await shelf.clock.advance(SECOND)
    assert await shelf.kept() == []
    shelf.book.fault = None
    shelf.tape.keep("acme", "main", b"three")
    await shelf.tape.flush()

    assert await shelf.kept() == [b"one", b"two", b"three"]
    await shelf.tape.flush()
    assert await shelf.kept() == [b"one", b"two", b"three"], "and each once"


async def test_what_the_store_will_never_take_holds_up_nothing(shelf: Shelf) -> None:
    shelf.book.fault = ContractError("too large")
    with capture_logs() as logs:
        shelf.tape.keep("acme", "ill", b"no")
        shelf.tape.keep("acme", "well", b"yes")
        await shelf.tape.flush()
        await shelf.tape.flush()

    assert await shelf.kept("well") == [b"yes"]
    assert shelf.book.tries == 2, "not tried for ever"
    assert [line["error"] for line in logs] == ["too large"]


async def test_many_are_cut_into_documents_that_a_store_takes(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "_MOST_BYTES", 10)
    records = [bytes([n]) * 4 for n in range(7)] + [b"x" * 50, b"y"]
    for record in records:
        shelf.tape.keep("acme", "main", record)
        await shelf.clock.advance(timedelta(milliseconds=1))
    await shelf.tape.flush()

    sizes = [sum(len(r) for _, r in records_in(one)) for one in await shelf.inputs()]
    assert sizes == [8, 8, 8, 4, 50, 1]
    assert await shelf.kept() == records


async def test_memory_has_a_bound_and_the_loss_is_told_once_an_outage(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "_MOST_WAITING", 10)
    shelf.book.fault = Unavailable("away")
    with capture_logs() as logs:
        for _ in range(2):
            for name in (b"12345", b"67890", b"lost", b"lost"):
                shelf.tape.keep("acme", "main", name)
            assert shelf.tape.let_go == 2
            shelf.book.fault = None
            await shelf.tape.flush()
            shelf.tape.keep("acme", "main", b".")
            await shelf.tape.flush()

    assert b"".join(await shelf.kept()) == b"1234567890." * 2
    told = [(line["event"], line.get("let_go")) for line in logs]
    assert told == [("raw_records_not_kept", None), ("raw_records_kept_again", 2)] * 2


async def test_they_are_gone_after_their_time(shelf: Shelf) -> None:
    shelf.tape.keep("acme", "main", b"one")
    await shelf.tape.flush()
    await shelf.clock.advance(DAY - SECOND)
    assert await shelf.kept() == [b"one"]
    await shelf.clock.advance(SECOND)
    assert await shelf.kept() == []


async def test_hooks_are_kept_apart_from_records_and_with_their_own_times(shelf: Shelf) -> None:
    hook = HookReceived(pbx="main", kind=HookKind.GENERIC, body='{"name": "Ада"}')
    came_at = shelf.clock.now() - SECOND
    text = hook.model_dump_json().encode()
    shelf.tape.keep("acme", "main", text, what=RawKind.HOOKS, at=came_at)
    shelf.tape.keep("acme", "main", b"a record")
    await shelf.tape.flush()

    hooks, records = await shelf.inputs()
    assert (hooks.what, hooks.came_at, records.what) == (RawKind.HOOKS, came_at, RawKind.RECORDS)
    ((_, kept),) = records_in(hooks)
    assert HookReceived.model_validate_json(kept) == hook
