"""Calls that ended while nobody read their PBX, over a real bus and store; time is the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.journal.handlers import Deps, end_calls_gone
from services.journal.store import CALLS, CallLog
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, EndKnown, Party, PbxResynced
from shared.contracts.envelope import Command, Event, Message, wrap
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.registry import Templates
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call
from shared.testing.waiting import eventually


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


class Publishing(ServicePublisher):
    """Remembers what it published: that nothing was, no waiting on a bus would show."""

    def __init__(self, bus: EmbeddedBus, clock: ManualClock) -> None:
        super().__init__(bus, service="journal", clock=clock)
        self.published: list[Message[Any]] = []

    async def publish(self, body: Event | Command, **more: Any) -> Message[Any]:
        self.published.append(await super().publish(body, **more))
        return self.published[-1]


class Journal:
    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        store, metrics = SqliteStore(db, clock), Metrics()
        self.calls = CallLog(store.collection(CALLS), clock, silent_after=timedelta(hours=12))
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=metrics)
        self.told: list[Message[CallEnded]] = []
        self.bus.subscribe(
            Subscription(consumer=Consumer("journal", CallEnded), handler=self._take)
        )
        self.publishing = Publishing(self.bus, clock)
        connections = CrmConnections(
            store,
            http=HttpClient(AddressGuard()),
            secrets=SecretBox([new_key()]),
            clock=clock,
            metrics=metrics,
            templates=Templates(None),
        )
        self.deps = Deps.over(
            store,
            calls=self.calls,
            site=SiteBook(store.collection(SITES), clock, poll=seconds(1)),
            connections=connections,
            finder=Finder(connections, store, clock=clock, metrics=metrics),
            publisher=self.publishing,
            clock=clock,
        )

    async def hear(
        self,
        body: Event,
        *,
        after: float = 0,
        call: str = "c1",
        behind: timedelta = timedelta(0),
    ) -> None:
        """It comes when it happened, by our clock; *behind*: how far the PBX's is behind that."""
        await self._until(after)
        at = NOON + seconds(after) - behind
        await self.calls.take(wrap(body, source="test", occurred_at=at, tenant="acme"), call)

    async def back(self, *live: str, after: float, heard_until: float, pbx: str = "main") -> None:
        """A reader connected, *after* seconds, and found the calls *live*."""
        body = PbxResynced(pbx=pbx, live=live, heard_until=NOON + seconds(heard_until))
        await self._until(after)
        at = NOON + seconds(after)
        await end_calls_gone(self.deps, wrap(body, source="ingest", occurred_at=at, tenant="acme"))

    async def _until(self, after: float) -> None:
        left = NOON + seconds(after) - self.clock.now()
        if left > timedelta(0):
            await self.clock.advance(left)

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message)
        await self.calls.take(message, message.body.call_id)


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    db = SqliteFile(None)
    await db.open()
    found = Journal(db, ManualClock(NOON))
    await found.bus.start()
    yield found
    await found.bus.stop(drain=seconds(1))
    await db.close()


def answered() -> CallAnswered:
    return CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"))


async def test_one_that_is_gone_ended_when_the_pbx_was_last_heard(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.hear(answered(), after=4)
    await journal.back(after=300, heard_until=64)

    async def over() -> bool:
        return (await journal.calls.get("acme", "c1")).ended_at is not None

    await eventually(over)
    record = await journal.calls.get("acme", "c1")
    assert record.ended_at == NOON + seconds(64)
    assert record.end_known is EndKnown.RESYNC
    assert record.talk_time == seconds(60)


async def test_one_that_goes_on_goes_on(journal: Journal) -> None:
    await journal.hear(a_call())
    pbx_call_id = (await journal.calls.get("acme", "c1")).pbx_call_id
    assert pbx_call_id is not None
    await journal.back(pbx_call_id, after=300, heard_until=64)
    assert not journal.publishing.published


async def test_another_pbx_says_nothing_of_it(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.back(after=300, heard_until=64, pbx="other")
    assert not journal.publishing.published


async def test_one_that_began_a_moment_ago_may_be_on_its_way(journal: Journal) -> None:
    await journal.hear(a_call(), after=295)
    await journal.back(after=300, heard_until=64)
    assert not journal.publishing.published


async def test_one_that_began_a_moment_ago_at_a_pbx_whose_clock_is_behind_goes_on(
    journal: Journal,
) -> None:
    await journal.hear(a_call(), after=295, behind=timedelta(hours=1))
    await journal.back(after=300, heard_until=64)
    assert not journal.publishing.published


async def test_two_replicas_that_come_back_tell_one_end(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.back(after=300, heard_until=64)
    await journal.back(after=301, heard_until=64)
    first, second = journal.publishing.published
    assert (first.id, first.body) == (second.id, second.body)


async def test_one_that_ended_in_the_meantime_stays_as_it_ended(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.hear(CallEnded(call_id="c1", pbx="main"), after=20)
    await journal.back(after=300, heard_until=64)
    assert not journal.publishing.published


async def test_another_tenant_s_pbx_of_that_name_says_nothing_of_it(journal: Journal) -> None:
    await journal.hear(a_call())
    body = PbxResynced(pbx="main", live=(), heard_until=NOON + seconds(64))
    at = NOON + seconds(300)
    await end_calls_gone(journal.deps, wrap(body, source="ingest", occurred_at=at, tenant="globex"))
    assert not journal.publishing.published


async def test_what_is_not_known_to_be_one_of_the_pbx_s_calls_is_left_alone(
    journal: Journal,
) -> None:
    """Its start is on its way still: by which id the PBX knows it nobody can say."""
    await journal.hear(answered())
    await journal.back(after=300, heard_until=64)
    assert not journal.publishing.published


async def test_a_call_that_was_heard_of_after_the_gap_does_not_end_before_that(
    journal: Journal,
) -> None:
    """Another replica heard more of it than the one that came back."""
    await journal.hear(a_call())
    await journal.hear(answered(), after=100)
    await journal.back(after=300, heard_until=64)
    (told,) = journal.publishing.published
    assert told.occurred_at == NOON + seconds(100)


async def test_of_many_those_end_that_are_gone(journal: Journal) -> None:
    """More than a page of them."""
    for n in range(120):
        await journal.hear(a_call(call_id=f"c{n}", pbx_call_id=f"p{n}"), call=f"c{n}")
    await journal.back(*(f"p{n}" for n in range(0, 120, 3)), after=300, heard_until=64)
    gone = {message.body.call_id for message in journal.publishing.published}
    assert gone == {f"c{n}" for n in range(120) if n % 3}
    assert len(journal.publishing.published) == len(gone)
