"""What agents are doing, as replicas of routing know it: over a real bus, store and call log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr

from services.journal.store import CALLS, CallLog
from services.routing.staff import HEARD, Staff
from services.routing.staff_check import ASK_AFTER, LOOK_BACK, LOOK_EVERY, StaffCheck
from services.routing.staff_store import AGENTS, KEEP, READ_EVERY, StaffBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, AgentStatusSettled, Side
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallPage,
    CallRecord,
    FetchCall,
    ListCalls,
    Party,
)
from shared.contracts.envelope import Event, Message, wrap
from shared.errors import ContractError, Unavailable
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

SECOND = timedelta(seconds=1)
FREE, BUSY, BREAK = AgentStatus.FREE, AgentStatus.BUSY, AgentStatus.BREAK


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    found = SqliteFile(tmp_path / "mesh.db")
    await found.open()
    yield found
    await found.close()


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def store(
    request: pytest.FixtureRequest, db: SqliteFile, clock: ManualClock
) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        yield SqliteStore(db, clock)
        return
    url, database = request.getfixturevalue("mongo_url"), f"test-{new_id().hex[:10]}"
    found = MongoStore(SecretStr(url), database=database, clock=clock)
    yield found
    await found.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client.drop_database(database)


def told(status: AgentStatus, at: datetime, extension: str = "101") -> Message[AgentStatusChanged]:
    body = AgentStatusChanged(extension=extension, status=status)
    return wrap(body, source="test", occurred_at=at, tenant="acme")


# -- statuses over the store -----------------------------------------------------------------


class Replica:
    def __init__(self, store: DocumentStore, clock: ManualClock) -> None:
        self.staff = Staff(clock)
        self.book = StaffBook(store.collection(AGENTS), clock)

    async def seen(self, extension: str = "101") -> str | None:
        await self.book.read(self.staff)
        return self.staff.seen("acme", extension)


async def test_a_replica_that_begins_later_knows_what_was_told(
    store: DocumentStore, clock: ManualClock
) -> None:
    one = Replica(store, clock)
    await one.book.keep(told(BREAK, clock.now()))
    await one.book.keep(told(FREE, clock.now(), "102"))
    await clock.advance(timedelta(days=20))
    other = Replica(store, clock)
    assert (await other.seen(), await other.seen("102"), await other.seen("103")) == (
        "break",
        "free",
        None,
    )


async def test_an_older_word_does_not_win_in_the_store_either(
    store: DocumentStore, clock: ManualClock
) -> None:
    one = Replica(store, clock)
    now = clock.now()
    await one.book.keep(told(BREAK, now))
    await one.book.keep(told(FREE, now - SECOND))
    assert await one.seen() == "break"
    await one.book.keep(told(AgentStatus.DINNER, now))
    assert await one.seen() == "dinner", "of one moment the last that was told"


async def test_what_is_settled_is_known_later_too(store: DocumentStore, clock: ManualClock) -> None:
    one, now = Replica(store, clock), clock.now()
    settled = AgentStatusSettled(
        extension="101", status=AgentStatus.DINNER, source=Side.CRM, since=now, weighed=now
    )
    message = wrap(settled, source="test", occurred_at=now, tenant="acme")
    await one.book.keep(message)
    await one.book.keep(told(BREAK, now))
    other = Replica(store, clock)
    assert await other.seen() == "dinner", "of one moment what is settled holds"
    await clock.advance(SECOND)
    await one.book.keep(told(BREAK, clock.now()))
    assert await other.seen() == "break"
    body = AgentStatusChanged(extension="101", status=FREE, source=Side.API, source_name="key")
    said = wrap(body, source="test", occurred_at=clock.now() + SECOND, tenant="acme")
    await one.book.keep(said)
    assert await other.seen() == "break", "it waits for the dialer"


async def test_words_told_at_once_come_to_the_latest(
    store: DocumentStore, clock: ManualClock
) -> None:
    books = [StaffBook(store.collection(AGENTS), clock) for _ in range(3)]
    words = [told(status, clock.now() - n * SECOND) for n, status in enumerate(AgentStatus)]
    await asyncio.gather(*(book.keep(word) for book in books for word in reversed(words)))
    assert await Replica(store, clock).seen() == AgentStatus.FREE


async def test_a_clock_that_was_ahead_does_not_have_the_last_word(
    store: DocumentStore, clock: ManualClock
) -> None:
    one = Replica(store, clock)
    await one.book.keep(told(BREAK, clock.now() + timedelta(days=365)))
    await clock.advance(SECOND)
    await one.book.keep(told(FREE, clock.now()))
    assert await one.seen() == "free"


async def test_what_was_missed_live_is_read_and_only_what_is_new(
    store: DocumentStore, clock: ManualClock
) -> None:
    one, other = Replica(store, clock), Replica(store, clock)
    await one.book.keep(told(BREAK, clock.now()))
    assert await other.seen() == "break"
    await clock.advance(timedelta(minutes=5))
    assert await other.seen() == "break"
    # What is in the store for long is not read again: it would show if it were.
    other.staff._statuses.clear()
    await one.book.keep(told(FREE, clock.now(), "102"))
    assert await other.seen("102") == "free"
    assert other.staff.seen("acme", "101") is None


async def test_a_status_of_which_nothing_is_told_any_more_is_forgotten(
    store: DocumentStore, clock: ManualClock
) -> None:
    await Replica(store, clock).book.keep(told(BREAK, clock.now()))
    await clock.advance(KEEP)
    assert await Replica(store, clock).seen() is None


async def test_while_the_store_is_away_what_was_read_holds(
    db: SqliteFile, clock: ManualClock
) -> None:
    one = Replica(SqliteStore(db, clock), clock)
    await one.book.keep(told(BREAK, clock.now()))
    await db.close()
    following = asyncio.create_task(one.book.follow(one.staff))
    try:
        await eventually(lambda: clock.sleepers == 1)
        assert one.staff.seen("acme", "101") is None
        await db.open()
        await clock.advance(READ_EVERY)
        await eventually(lambda: one.staff.seen("acme", "101") == "break")
        await eventually(lambda: clock.sleepers == 1)
        await db.close()
        await clock.advance(READ_EVERY)
        await eventually(lambda: clock.sleepers == 1)
        assert one.staff.seen("acme", "101") == "break"
        with pytest.raises(Unavailable):
            await one.book.keep(told(FREE, clock.now()))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await db.open()


# -- over the bus, and with the journal's calls ----------------------------------------------


class Mesh:
    """A replica of routing that hears live, and the journal's answers about its calls."""

    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        self.staff = Staff(clock)
        self.calls = CallLog(
            SqliteStore(db, clock).collection(CALLS), clock, silent_after=timedelta(hours=12)
        )
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        self.tenants = ["acme"]
        #: What the journal answers in place of a call.
        self.failure: Exception | None = None
        self.too_large = ""
        self.asked: list[str] = []
        for contract in HEARD:
            consumer = Consumer("routing", contract)
            self.bus.subscribe(Subscription(consumer=consumer, handler=self._hear, live=True))

    def answer_for_the_journal(self) -> None:
        for query, handler in ((FetchCall, self._fetch), (ListCalls, self._list)):
            self.bus.subscribe(Subscription(consumer=Consumer("journal", query), handler=handler))

    def check(self, staff: Staff | None = None) -> StaffCheck:
        requester = ServicePublisher(self.bus, service="routing", clock=self.clock)
        return StaffCheck(
            staff or self.staff, requester, self.clock, tenants=lambda: tuple(self.tenants)
        )

    async def journal(self, *events: Event, at: datetime | None = None) -> None:
        """The journal hears them, and routing does not."""
        for event in events:
            message = wrap(event, source="test", occurred_at=at or self.clock.now(), tenant="acme")
            await self.calls.take(message, message.body.call_id)  # type: ignore[attr-defined]  # of calls

    async def tell(self, *events: Event) -> None:
        publisher = ServicePublisher(self.bus, service="ingest", clock=self.clock)
        for event in events:
            await publisher.publish(event, tenant="acme", at=self.clock.now())

    def busy(self) -> list[str]:
        return [one for one in ("101", "102", "103") if self.staff.on_call("acme", one)]

    async def _hear(self, message: Message[Any]) -> None:
        self.staff.hear(message)

    async def _fetch(self, message: Message[FetchCall]) -> CallRecord:
        self.asked.append(message.body.call_id)
        if self.failure is not None:
            raise self.failure
        if message.body.call_id == self.too_large:
            raise Unavailable("not in time")
        return await self.calls.get(message.tenant, message.body.call_id)

    async def _list(self, message: Message[ListCalls]) -> CallPage:
        self.asked.append("list")
        if self.failure is not None:
            raise self.failure
        if message.tenant == self.too_large:
            raise Unavailable("not in time")
        return await self.calls.list(message.tenant, message.body)


@asynccontextmanager
async def running(db: SqliteFile, clock: ManualClock, *, journal: bool) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        found = Mesh(db, clock)
        if journal:
            found.answer_for_the_journal()
        await found.bus.start()
        stack.push_async_callback(found.bus.stop, drain=SECOND)
        yield found


@pytest.fixture
async def mesh(db: SqliteFile, clock: ManualClock) -> AsyncIterator[Mesh]:
    async with running(db, clock, journal=True) as found:
        yield found


def answered(extension: str, call: str) -> CallAnswered:
    callee = Party(extension=extension)
    return CallAnswered(call_id=call, pbx="main", leg_id=extension, callee=callee)


def ended(call: str) -> CallEnded:
    return CallEnded(call_id=call, pbx="main")


async def test_what_is_told_is_known_at_once(mesh: Mesh) -> None:
    changed = AgentStatusChanged(extension="102", status=BREAK)
    now = mesh.clock.now()
    settled = AgentStatusSettled(
        extension="104", status=BUSY, source=Side.API, since=now, weighed=now
    )
    await mesh.tell(answered("101", "c1"), answered("103", "c3"), changed, settled)
    await eventually(lambda: mesh.busy() == ["101", "103"])
    await eventually(lambda: mesh.staff.seen("acme", "102") == "break")
    await eventually(lambda: mesh.staff.seen("acme", "104") == "busy")
    await mesh.tell(ended("c1"))
    await eventually(lambda: mesh.busy() == ["103"])


async def test_calls_that_go_on_are_known_after_a_restart(mesh: Mesh) -> None:
    await mesh.journal(answered("101", "c1"), answered("102", "c2"), ended("c2"))
    await mesh.journal(answered("103", "c3"), at=mesh.clock.now() - LOOK_BACK - SECOND)
    for number in range(210):
        # More than a page, and newer.
        await mesh.journal(ended(f"x{number}"), at=mesh.clock.now() + SECOND)
    assert mesh.busy() == []
    check = mesh.check()
    await check.look()
    assert mesh.busy() == ["101"]
    listed = mesh.asked.count("list")
    assert listed == 3
    await check.look()
    assert mesh.asked.count("list") == listed, "once is enough"


async def test_an_end_that_did_not_reach_us_is_asked_for(mesh: Mesh) -> None:
    check = mesh.check()
    await check.look()
    for extension, call in (("101", "c1"), ("102", "c2"), ("103", "unheard-of")):
        await mesh.tell(answered(extension, call))
    await mesh.journal(answered("101", "c1"), answered("102", "c2"), ended("c1"))
    await eventually(lambda: mesh.busy() == ["101", "102", "103"])
    mesh.asked.clear()
    await check.look()
    assert mesh.asked == [], "they were heard of just now"
    await mesh.clock.advance(ASK_AFTER + SECOND)
    await check.look()
    assert mesh.busy() == ["102", "103"]
    assert sorted(mesh.asked) == ["c1", "c2", "unheard-of"]
    await check.look()
    assert len(mesh.asked) == 3, "each in its turn"


async def test_one_call_that_cannot_be_told_of_does_not_stop_the_others(mesh: Mesh) -> None:
    mesh.failure = ContractError("a document of another time")
    check = mesh.check()
    await mesh.tell(answered("101", "c1"), answered("102", "c2"))
    await eventually(lambda: mesh.busy() == ["101", "102"])
    await mesh.clock.advance(ASK_AFTER + SECOND)
    await check.look()
    assert sorted(mesh.asked) == ["c1", "c2", "list"]
    assert mesh.busy() == ["101", "102"]


async def test_a_tenant_that_the_journal_is_too_slow_for_holds_up_no_other(mesh: Mesh) -> None:
    mesh.tenants, mesh.too_large = ["large", "acme"], "large"
    await mesh.journal(answered("101", "c1"))
    check = mesh.check()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await check.look()
    assert mesh.busy() == ["101"]

    await mesh.journal(ended("c1"))
    await mesh.clock.advance(ASK_AFTER + SECOND)
    with pytest.raises(Unavailable):
        await check.look()
    assert mesh.busy() == []


async def test_a_call_that_the_journal_is_too_slow_for_holds_up_no_other(mesh: Mesh) -> None:
    mesh.too_large = "c1"
    check = mesh.check()
    await mesh.tell(answered("101", "c1"), answered("102", "c2"))
    await eventually(lambda: mesh.busy() == ["101", "102"])
    await mesh.journal(answered("102", "c2"), ended("c2"))
    await mesh.clock.advance(ASK_AFTER + SECOND)
    with pytest.raises(Unavailable):
        await check.look()
    await check.look()
    assert mesh.busy() == ["101"]


async def test_while_the_journal_is_away_what_was_heard_holds(mesh: Mesh) -> None:
    mesh.failure = Unavailable("the store is away")
    await mesh.journal(answered("102", "c2"))
    checking = asyncio.create_task(mesh.check().run())
    try:
        await mesh.tell(answered("101", "c1"))
        await eventually(lambda: mesh.busy() == ["101"])
        await eventually(lambda: mesh.clock.sleepers == 1)
        mesh.failure = None
        await mesh.clock.advance(LOOK_EVERY)
        await eventually(lambda: mesh.busy() == ["101", "102"])
    finally:
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)


async def test_a_tenant_whose_rules_begin_to_ask_is_read_then(mesh: Mesh) -> None:
    await mesh.journal(answered("101", "c1"))
    mesh.tenants.clear()
    check = mesh.check()
    await check.look()
    assert mesh.asked == []
    mesh.tenants.append("acme")
    await check.look()
    assert mesh.busy() == ["101"]
