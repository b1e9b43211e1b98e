"""Calls that ended while nobody read their PBX, over a real bus and store; time is the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.journal.handlers import Deps, end_calls_gone
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, EndKnown, Party, PbxResynced
from shared.contracts.envelope import Event, Message, wrap
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
        connections = CrmConnections(
            store,
            http=HttpClient(AddressGuard()),
            secrets=SecretBox([new_key()]),
            clock=clock,
            metrics=metrics,
            templates=Templates(None),
        )
        self.deps = Deps(
            calls=self.calls,
            entries=EntryBook(store.collection(ENTRIES), clock),
            finder=Finder(connections, store, clock=clock, metrics=metrics),
            site=SiteBook(store.collection(SITES), clock, poll=seconds(1)),
            publisher=ServicePublisher(self.bus, service="journal", clock=clock),
            wake=lambda: None,
        )

    async def hear(self, body: Event, *, after: float = 0, call: str = "c1") -> None:
        message = wrap(body, source="test", occurred_at=NOON + seconds(after), tenant="acme")
        await self.calls.take(message, call)

    async def back(self, *live: str, after: float, heard_until: float, pbx: str = "main") -> None:
        """A reader connected, *after* seconds, and found the calls *live*."""
        body = PbxResynced(pbx=pbx, live=live, heard_until=NOON + seconds(heard_until))
        at = NOON + seconds(after)
        await end_calls_gone(self.deps, wrap(body, source="ingest", occurred_at=at, tenant="acme"))

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message)
        await self.calls.take(message, message.body.call_id)


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    db = SqliteFile(None)
    await db.open()
    found = Journal(db, ManualClock())
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
    assert not journal.told


@pytest.mark.parametrize("pbx", ["other"])
async def test_another_pbx_says_nothing_of_it(journal: Journal, pbx: str) -> None:
    await journal.hear(a_call())
    await journal.back(after=300, heard_until=64, pbx=pbx)
    assert not journal.told


async def test_one_that_began_a_moment_ago_may_be_on_its_way(journal: Journal) -> None:
    await journal.hear(a_call(), after=295)
    await journal.back(after=300, heard_until=64)
    assert not journal.told


async def test_two_replicas_that_come_back_tell_one_end(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.back(after=300, heard_until=64)
    await journal.back(after=301, heard_until=64)
    await eventually(lambda: len(journal.told) >= 1)
    assert len({message.id for message in journal.told}) == 1
