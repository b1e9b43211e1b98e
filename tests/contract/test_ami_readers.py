"""What ingest makes of a PBX's events, over real sockets, a real bus and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from services.ingest.app import ENTRY
from services.ingest.raw import RawTape
from services.ingest.readers import PbxReaders, Tools
from services.ingest.store import LINKS, RAW, LinkBook, RawBook
from services.journal.handlers import end_calls_gone
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    Party,
    PbxResynced,
)
from shared.contracts.envelope import Event, Message
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.pbx.port import Finding, Keep, PbxAdapter, Phones, See, Sighting
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters, PbxSettings
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE
from shared.testing.waiting import eventually
from tests.contract.test_calls_gone import Journal

SECOND = timedelta(seconds=1)


class Exchange:
    """A PBX whose calls go on as its own clock says, its reader, and what the reader tells."""

    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.db = db
        self.clock = clock
        self.pbx = SandboxPbx(clock=ManualClock(clock.now()))
        self.box = SecretBox([new_key()])
        self.sites = SqliteStore(db, clock).collection(SITES)
        self.site = SiteBook(self.sites, clock, poll=SECOND)
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        self.told: list[Event] = []
        self.messages: list[Message[Any]] = []
        for contract in ENTRY.publishes:
            consumer = Consumer("journal", contract)
            self.bus.subscribe(Subscription(consumer=consumer, handler=self._take))
        store = SqliteStore(db, clock)
        self.book = LinkBook(store.collection(LINKS), clock)
        self.raw = RawBook(store.collection(RAW), clock, keep=timedelta(days=1))
        self.readers = self.replica()
        self.port = 0
        self._playing: asyncio.Task[object] | None = None

    def replica(self) -> PbxReaders:
        """The readers of another process of ingest."""
        return PbxReaders(
            self.site,
            Tools(
                publisher=ServicePublisher(self.bus, service="ingest", clock=self.clock),
                book=LinkBook(SqliteStore(self.db, self.clock).collection(LINKS), self.clock),
                tape=RawTape(self.raw, self.clock),
                adapters=Adapters(
                    secrets=self.box,
                    http=HttpClient(AddressGuard()),
                    clock=self.clock,
                    metrics=Metrics(),
                ),
                clock=self.clock,
                metrics=Metrics(),
                publish_at_once=4,
            ),
        )

    async def apply(self, changes: Mapping[str, str] | None = None) -> None:
        """The demo site with texts of its file changed; its secrets are sealed anew."""
        text = site_file(crm_url="http://127.0.0.1:1", ami_port=self.port)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (site,) = read_site_file(
            text, source="test", sealing=Sealing(self.box, {}, Path()), around=HERE
        )
        now = self.clock.now()
        await self.sites.put(
            SiteDocument(
                key=TENANT, tenant=TENANT, site=site.stored, changed_at=now, changed_by="test"
            )
        )
        await self.clock.advance(timedelta(milliseconds=1))
        await self.site.refresh()

    async def play(self, name: str, *, until: float) -> None:
        """Begin a recorded call, and let it come so far, in seconds."""
        cast = Cast(started_at=self.clock.now(), serial=1)
        self._playing = asyncio.create_task(self.pbx.play(name, cast))
        await self.go_on(until)

    async def go_on(self, seconds: float = 60) -> None:
        clock = self.pbx_clock
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(timedelta(seconds=seconds))

    @property
    def pbx_clock(self) -> ManualClock:
        clock = self.pbx.clock
        assert isinstance(clock, ManualClock)
        return clock

    async def connected(self, readers: int = 1) -> None:
        await eventually(lambda: self.pbx.listeners == readers)

    async def lose_the_link(self) -> None:
        self.pbx.cut()
        await eventually(lambda: self.pbx.listeners == 0)

    async def find_it_again(self) -> None:
        async def back() -> bool:
            await self.clock.advance(SECOND)
            return self.pbx.listeners == 1

        await eventually(back)

    async def hears(self, kind: type[Event]) -> Any:
        """The first event of its kind; a moment passes, as a call's end waits for one."""

        async def found() -> bool:
            await self.clock.advance(timedelta(milliseconds=50))
            return any(isinstance(event, kind) for event in self.told)

        await eventually(found)
        return next(event for event in self.told if isinstance(event, kind))

    async def resynced_again(self) -> PbxResynced:
        """What is told after the second connect."""

        def found() -> list[PbxResynced]:
            return [event for event in self.told if isinstance(event, PbxResynced)]

        await eventually(lambda: len(found()) == 2)
        return found()[-1]

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message.body)
        self.messages.append(message)

    async def stop(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        await self.pbx.stop()


@pytest.fixture
async def exchange(clock: ManualClock) -> AsyncIterator[Exchange]:
    db = SqliteFile(None)
    await db.open()
    found = Exchange(db, clock)
    await found.bus.start()
    found.port = await found.pbx.start()
    await found.apply()
    try:
        yield found
    finally:
        await found.stop()
        await found.bus.stop(drain=SECOND)
        await db.close()


@asynccontextmanager
async def reading(
    exchange: Exchange, replica: PbxReaders | None = None, *, as_number: int = 1
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task((replica or exchange.readers).run())
    try:
        await exchange.connected(as_number)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_call_is_told_to_its_end(exchange: Exchange) -> None:
    async with reading(exchange):
        await exchange.play("answered", until=60)

        ended: CallEnded = await exchange.hears(CallEnded)

    assert ended.disposition is Disposition.ANSWERED
    assert ended.talk_time == timedelta(seconds=3.007696)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {'- {extension: "101"': '- {extension: "150"}\n      - {extension: "101"'},
        {"askers: [127.0.0.0/8]": "askers: []\n        ring_agent: 30s"},
        {"trunks: [trunk]": "trunks: [trunk, another]"},
    ],
    ids=["applied again", "an agent", "the PBX's entry", "a trunk"],
)
async def test_a_call_outlives_a_change_of_the_site(
    exchange: Exchange, changes: dict[str, str]
) -> None:
    async with reading(exchange):
        await exchange.play("answered", until=2)
        await exchange.hears(CallAnswered)
        await exchange.apply(changes)
        await exchange.go_on()

        ended: CallEnded = await exchange.hears(CallEnded)

    assert ended.talk_time == timedelta(seconds=3.007696)


async def test_a_trunk_that_is_added_is_one_from_the_next_call_on(exchange: Exchange) -> None:
    await exchange.apply({"trunks: [trunk]": "trunks: [another]"})
    async with reading(exchange):
        await exchange.apply()
        await exchange.play("answered", until=1)

        started: CallStarted = await exchange.hears(CallStarted)

    assert started.direction is Direction.INBOUND


async def test_another_host_is_another_connection(exchange: Exchange) -> None:
    async with reading(exchange):
        assert exchange.pbx.logins == 1
        await exchange.apply({"host: 127.0.0.1": "host: localhost"})

        await eventually(lambda: exchange.pbx.logins == 2)


async def test_an_answer_while_the_link_was_away_is_told(exchange: Exchange) -> None:
    async with reading(exchange):
        await exchange.play("answered", until=1)
        await exchange.hears(CallRinging)
        await exchange.lose_the_link()
        await exchange.go_on(1)
        await exchange.find_it_again()
        answered: CallAnswered = await exchange.hears(CallAnswered)
        await exchange.go_on()

        ended: CallEnded = await exchange.hears(CallEnded)

    assert answered.callee.extension == "101"
    assert ended.disposition is Disposition.ANSWERED
    assert ended.talk_time is not None
    assert ended.talk_time > timedelta(0)


async def test_a_user_who_may_not_list_channels_reads_on_and_is_told_what_to_change(
    exchange: Exchange,
) -> None:
    exchange.pbx.forbids.add("CoreShowChannels")
    merge = structlog.contextvars.merge_contextvars
    with capture_logs(processors=[merge]) as logs:
        async with reading(exchange):
            await exchange.play("answered", until=1)
            await exchange.hears(CallRinging)
            await exchange.lose_the_link()
            await exchange.find_it_again()
            await exchange.go_on()

            ended: CallEnded = await exchange.hears(CallEnded)

    assert ended.disposition is Disposition.ANSWERED
    refused, *_ = [line for line in logs if line["event"] == "ami_resync_refused"]
    assert "write = originate,reporting" in refused["change"]
    for name in ("ami_resync_refused", "ami_connected", "pbx_away"):
        line = next(line for line in logs if line["event"] == name)
        assert (line["service"], line["tenant"], line["pbx"]) == ("ingest", TENANT, PBX)


async def test_a_stop_while_bus_and_store_are_away_ends_and_says_what_is_lost(
    exchange: Exchange,
) -> None:
    """Two seconds in real time, those that what is under way may take."""
    with capture_logs() as logs:
        async with reading(exchange) as task:
            await exchange.db.close()
            await exchange.play("answered", until=1)
            await eventually(lambda: any(line["event"] == "event_held" for line in logs))

            task.cancel()
            await eventually(task.done)

    (lost,) = [line for line in logs if line["event"] == "events_lost"]
    assert lost["events"] >= 2


# -- a process that ends in the middle of a call --------------------------------------------


async def test_a_call_goes_on_when_ingest_begins_anew_and_each_fact_is_told_once(
    exchange: Exchange,
) -> None:
    async with reading(exchange):
        await exchange.play("answered", until=2)
        await exchange.hears(CallAnswered)
    await exchange.connected(0)

    async with reading(exchange, exchange.replica()):
        resynced = await exchange.resynced_again()
        assert len(resynced.live) == 1
        await exchange.go_on()
        ended: CallEnded = await exchange.hears(CallEnded)

    assert ended.known is EndKnown.JOINED
    # How long they talked before it came, it cannot know: that follows from the events.
    assert ended.talk_time is None
    facts = {message.id: message.body for message in exchange.messages}.values()
    for kind in (CallStarted, CallRinging, CallAnswered, LegEnded, CallEnded):
        assert sum(isinstance(fact, kind) for fact in facts) == 1, kind
    assert {fact.call_id for fact in facts if isinstance(fact, CallEvent)} == {ended.call_id}


async def test_a_call_that_ended_while_nobody_read_ended_when_the_pbx_was_last_heard(
    exchange: Exchange,
) -> None:
    """Told by ingest, concluded by journal."""
    async with reading(exchange):
        await exchange.play("answered", until=2)
        await exchange.hears(CallAnswered)
        answered_at = exchange.clock.now()

        async def said() -> bool:
            await exchange.clock.advance(SECOND)
            heard = await exchange.book.heard_until(TENANT, PBX)
            return heard is not None and heard > answered_at + timedelta(seconds=20)

        await eventually(said)
        await exchange.clock.advance(timedelta(seconds=10))
        heard_until = exchange.clock.now()
    # When it stopped in good order, and not when it last said that it was there.
    assert await exchange.book.heard_until(TENANT, PBX) == heard_until
    await exchange.connected(0)
    await exchange.go_on()
    await exchange.clock.advance(timedelta(minutes=5))

    async with reading(exchange, exchange.replica()):
        resynced = await exchange.resynced_again()
    assert not any(isinstance(event, CallEnded) for event in exchange.told)
    assert (resynced.live, resynced.heard_until) == ((), heard_until)

    db = SqliteFile(None)
    await db.open()
    try:
        # It took the events when they came.
        clock = ManualClock(answered_at)
        journal = Journal(db, clock)
        await journal.bus.start()
        for message in exchange.messages:
            if isinstance(message.body, CallEvent):
                await journal.calls.take(message, message.body.call_id)
        back = next(m for m in exchange.messages if m.body == resynced)
        await clock.advance(back.occurred_at - clock.now())
        await end_calls_gone(journal.deps, back)
        await eventually(lambda: bool(journal.told))
        (told,) = journal.told
        record = await journal.calls.get(TENANT, told.body.call_id)
        await journal.bus.stop(drain=SECOND)
    finally:
        await db.close()
    assert (told.body.known, told.occurred_at) == (EndKnown.RESYNC, heard_until)
    assert (record.ended_at, record.end_known) == (heard_until, EndKnown.RESYNC)
    assert record.disposition is Disposition.ANSWERED


async def test_of_two_that_read_one_may_die_in_the_middle(exchange: Exchange) -> None:
    async with reading(exchange):
        async with reading(exchange, exchange.replica(), as_number=2):
            await exchange.play("answered", until=2)
            await exchange.hears(CallAnswered)
        await exchange.connected(1)
        await exchange.go_on()
        ended: CallEnded = await exchange.hears(CallEnded)

    assert ended.known is EndKnown.SEEN
    assert ended.talk_time == timedelta(seconds=3.007696)
    facts = {message.id: message.body for message in exchange.messages}.values()
    for kind in (CallStarted, CallRinging, CallAnswered, LegEnded, CallEnded):
        assert sum(isinstance(fact, kind) for fact in facts) == 1, kind
    assert len(exchange.messages) > len(facts), "both told it"


# -- one PBX's surprises ----------------------------------------------------------------------


class Scripted:
    """A source that tells what its test gives it, then fails or waits."""

    connected, fault = True, None

    def __init__(self, *batches: list[Sighting], failure: Exception | None = None) -> None:
        self._batches = batches
        self._failure = failure

    def know(self, phones: Phones) -> None:
        pass

    async def run(self, see: See, keep: Keep) -> None:
        for batch in self._batches:
            await see(batch)
        if self._failure is not None:
            raise self._failure
        await asyncio.Event().wait()


async def _nothing() -> AsyncIterator[Finding]:
    yield Finding("nothing")


def of_calls(at: datetime, *, over: bool = False) -> list[Sighting]:
    party = Party(extension="101")
    answered = CallAnswered(call_id="c1", pbx="door", leg_id="1", callee=party)
    ended = CallEnded(call_id="c1", pbx="door")
    told = [Sighting(answered, at, "door/c1/answered/1")]
    return [*told, Sighting(ended, at + SECOND, "door/c1/ended")] if over else told


def with_a_source_of_its_own(exchange: Exchange, make: Callable[[], Scripted]) -> PbxReaders:
    """Readers for whom the generic PBX of the site is one that tells by itself."""
    found = exchange.replica()
    adapters = found._tools.adapters
    made = adapters.make

    def instead(tenant: str, pbx: str, settings: PbxSettings) -> PbxAdapter:
        if pbx != "door":
            return made(tenant, pbx, settings)
        return PbxAdapter(check=_nothing, source=make)

    adapters.make = instead  # type: ignore[method-assign, assignment]  # a PBX of this test
    return found


async def test_a_fault_of_ours_at_one_pbx_does_not_end_the_reading_of_others(
    exchange: Exchange,
) -> None:
    """What a hostile PBX brings about, it brings about at itself; and it is tried again."""
    runs: list[Scripted] = []

    def make() -> Scripted:
        failure = KeyError("surprise") if not runs else None
        runs.append(Scripted(failure=failure))
        return runs[-1]

    with capture_logs() as logs:
        async with reading(exchange, with_a_source_of_its_own(exchange, make)) as task:
            await exchange.play("answered", until=60)
            await exchange.hears(CallEnded)
            assert not task.done()
            await exchange.clock.advance(timedelta(seconds=10))
            await eventually(lambda: len(runs) == 2)
    assert [line["event"] for line in logs].count("pbx_reader_failed") == 1


@pytest.mark.parametrize(
    ("over", "told"), [(True, None), (False, -180.0)], ids=["a whole call", "as it happens"]
)
async def test_a_pbx_s_clock_is_not_judged_by_what_is_told_afterwards(
    exchange: Exchange, over: bool, told: float | None
) -> None:
    """A record of a call comes minutes after the call was answered."""
    at = exchange.clock.now() - timedelta(minutes=3)
    readers = with_a_source_of_its_own(exchange, lambda: Scripted(of_calls(at, over=over)))
    with capture_logs() as logs:
        async with reading(exchange, readers):
            await exchange.hears(CallAnswered)
            for _ in range(31):
                await exchange.clock.advance(SECOND)

            async def said() -> bool:
                found = await exchange.book.links(TENANT, "door")
                return bool(found) and found[0].seen_at > exchange.clock.now() - SECOND * 5

            await eventually(said)
            (link,) = await exchange.book.links(TENANT, "door")
    warned = "pbx_clock_off" in [line["event"] for line in logs]
    assert warned is (told is not None)
    assert (link.clock_ahead_seconds is None) is (told is None)


@pytest.mark.parametrize(
    "ahead", [-timedelta(hours=1), timedelta(hours=1)], ids=["behind", "ahead"]
)
async def test_what_an_agent_does_is_told_by_our_clock(
    exchange: Exchange, ahead: timedelta
) -> None:
    """It is weighed against what others say: an hour of every change would be lost, or won."""
    now = exchange.clock.now()
    body = AgentStatusChanged(extension="101", status=AgentStatus.BREAK)
    seen = [Sighting(body, now + ahead, "door/agent/101/break")]
    async with reading(exchange, with_a_source_of_its_own(exchange, lambda: Scripted(seen))):
        await exchange.hears(AgentStatusChanged)
    (told,) = [m for m in exchange.messages if isinstance(m.body, AgentStatusChanged)]
    assert now - 5 * SECOND <= told.occurred_at <= exchange.clock.now()
