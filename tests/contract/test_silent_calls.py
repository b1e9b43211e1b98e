"""Calls whose end nobody told, over a real bus and store; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.journal.silence import end_silent_calls
from services.journal.store import CALLS, MAX_EVENTS, CallLog
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, CallHeld, Disposition, Party
from shared.contracts.envelope import Event, Message, wrap
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call
from shared.testing.waiting import eventually

SILENT_AFTER = timedelta(hours=12)


class Journal:
    """The journal's call log, and what takes the ends that it tells."""

    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        self.calls = CallLog(
            SqliteStore(db, clock).collection(CALLS), clock, silent_after=SILENT_AFTER
        )
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        self.told: list[Message[CallEnded]] = []
        self.bus.subscribe(
            Subscription(consumer=Consumer("journal", CallEnded), handler=self._take)
        )

    async def hear(self, body: Event, *, after: float = 0) -> None:
        at = NOON + timedelta(seconds=after)
        await self.calls.take(wrap(body, source="test", occurred_at=at, tenant="acme"), "c1")

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message)
        await self.calls.take(message, message.body.call_id)

    async def quiet_for(self, time: timedelta) -> None:
        """Until it has been looked at the end of *time*."""
        for step in (time, timedelta(minutes=1)):
            await self.clock.advance(step)
            await eventually(lambda: self.clock.sleepers == 1)

    async def ended(self) -> bool:
        return (await self.calls.get("acme", "c1")).ended_at is not None


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    db = SqliteFile(None)
    await db.open()
    found = Journal(db, ManualClock())
    await found.bus.start()
    publisher = ServicePublisher(found.bus, service="journal", clock=found.clock)
    ending = asyncio.create_task(end_silent_calls(found.calls, publisher, found.clock))
    await eventually(lambda: found.clock.sleepers == 1)
    yield found
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await found.bus.stop(drain=timedelta(seconds=1))
    await db.close()


def answered() -> CallAnswered:
    return CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"))


async def test_it_ends_when_its_last_event_was(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.hear(answered(), after=4)
    await journal.hear(CallHeld(call_id="c1", pbx="main", leg_id="1"), after=64)
    await journal.quiet_for(SILENT_AFTER)
    await eventually(journal.ended)
    record = await journal.calls.get("acme", "c1")
    assert record.ended_at == NOON + timedelta(seconds=64)
    assert record.disposition is Disposition.ANSWERED
    assert record.talk_time == timedelta(seconds=60)


async def test_one_that_is_heard_of_again_lives_on(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.quiet_for(SILENT_AFTER - timedelta(minutes=5))
    await journal.hear(answered(), after=4)
    await journal.quiet_for(timedelta(minutes=10))
    assert not journal.told


async def test_one_that_has_ended_is_left_alone(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.hear(CallEnded(call_id="c1", pbx="main"), after=9)
    await journal.quiet_for(2 * SILENT_AFTER)
    assert not journal.told


async def test_told_once_however_often_it_is_looked_at(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.quiet_for(SILENT_AFTER)
    await eventually(journal.ended)
    await journal.quiet_for(timedelta(hours=1))
    assert len({message.id for message in journal.told}) == 1


async def test_one_that_takes_no_more_events_still_ends(journal: Journal) -> None:
    await journal.hear(a_call())
    for number in range(MAX_EVENTS):
        await journal.hear(CallHeld(call_id="c1", pbx="main", leg_id=f"{number}"), after=number)
    await journal.quiet_for(SILENT_AFTER)
    await eventually(journal.ended)


async def test_the_end_that_comes_after_all_is_the_true_one(journal: Journal) -> None:
    await journal.hear(a_call())
    await journal.hear(answered(), after=4)
    await journal.quiet_for(SILENT_AFTER)
    await eventually(journal.ended)
    await journal.hear(CallEnded(call_id="c1", pbx="main"), after=90)
    record = await journal.calls.get("acme", "c1")
    assert record.ended_at == NOON + timedelta(seconds=90)
    assert record.talk_time == timedelta(seconds=86)
