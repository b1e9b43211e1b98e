"""Orders of which nothing was heard, over a real bus and store; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.dialer.ordering import order
from services.dialer.tending import tend
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.dialing import DialNumber, DialReason, DialState, DialStateChanged
from shared.contracts.envelope import Message, wrap
from shared.errors import Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.port import Finding, OnRefusal, PbxAdapter
from shared.sandbox.site import PBX, TENANT
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.contract.dial_kit import CUSTOMER, SECOND, Floor, Line, Replica, Seen

#: To accept the order, to ring the agent, and some more.
PATIENCE = timedelta(seconds=5 + 15 + 5)


class Dialer:
    """A replica of the dialer that is looked after, and what it tells."""

    def __init__(self, floor: Floor, replica: Replica, bus: EmbeddedBus) -> None:
        self.clock = floor.clock
        publisher = ServicePublisher(bus, service="dialer", clock=floor.clock)
        self.deps = replace(replica.deps, publisher=publisher)
        self.floor = floor
        self.replica = Replica(self.deps, replica.fuse)
        self.told: list[DialStateChanged] = []
        self.ordered: list[Message[Any]] = []
        for contract, handler in ((DialStateChanged, self._take), (DialNumber, self._order)):
            consumer = Consumer("gateway", contract)
            bus.subscribe(Subscription(consumer=consumer, handler=handler))

    async def order(self) -> Seen:
        """One that the PBX has accepted."""
        record = await self.replica.place(dial_id="d1")
        await eventually(lambda: bool(self.ordered))
        await order(self.deps, self.ordered[0])
        return Seen.of(record)

    async def wait(self, time: timedelta) -> None:
        """Until it has been looked after the orders at the end of *time*."""
        left = time
        while left > timedelta(0):
            await self.clock.advance(min(left, SECOND))
            left -= SECOND
            await eventually(lambda: self.clock.sleepers == 1)

    async def state(self) -> tuple[DialState, DialReason | None]:
        return await self.replica.state("d1")

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message.body)

    async def _order(self, message: Message[Any]) -> None:
        self.ordered.append(message)


@pytest.fixture
async def dialer(clock: ManualClock) -> AsyncIterator[Dialer]:
    db = SqliteFile(None)
    await db.open()
    bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
    floor = Floor(SqliteStore(db, clock), clock)
    found = Dialer(floor, await floor.replica(), bus)
    await bus.start()
    task = asyncio.create_task(tend(found.deps))
    await eventually(lambda: clock.sleepers == 1)
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bus.stop(drain=SECOND)
    await db.close()


async def test_an_order_that_nothing_follows_is_given_up_and_told(dialer: Dialer) -> None:
    await dialer.order()
    await dialer.wait(PATIENCE - SECOND)
    before = await dialer.state()
    await dialer.wait(timedelta(seconds=7))

    assert before == (DialState.REQUESTED, None)
    assert await dialer.state() == (DialState.FAILED, DialReason.INTERRUPTED)
    await eventually(lambda: dialer.told[-1].state is DialState.FAILED)
    assert dialer.told[-1].message == DialReason.INTERRUPTED.words


async def test_an_order_whose_phone_rings_is_left_alone(dialer: Dialer) -> None:
    call = await dialer.order()
    await dialer.replica.hear(call.rings(agent=True))
    await dialer.wait(2 * PATIENCE)

    assert await dialer.state() == (DialState.AGENT_RINGING, None)


async def test_an_order_that_was_given_up_goes_on_when_its_call_is_seen(dialer: Dialer) -> None:
    call = await dialer.order()
    await dialer.wait(2 * PATIENCE)
    await dialer.replica.hear(call.rings(agent=True))

    assert await dialer.state() == (DialState.AGENT_RINGING, None)


async def test_a_state_that_was_kept_and_never_told_is_told_when_its_event_comes_again(
    dialer: Dialer,
) -> None:
    """As a crash between store and bus leaves it."""
    call = await dialer.order()
    document = await dialer.replica.document("d1")
    rings = document.record.model_copy(update={"state": DialState.AGENT_RINGING})
    await dialer.deps.dials.edit(
        document.key, lambda found: found.model_copy(update={"record": rings})
    )
    await dialer.replica.hear(call.rings(agent=True))

    await eventually(lambda: dialer.told[-1].state is DialState.AGENT_RINGING)


async def test_a_pbx_with_an_id_of_its_own_is_followed_by_it(dialer: Dialer) -> None:
    """Yeastar, UIS: the call's id is known when the order was taken, or when the call says whose it is."""
    await dialer.order()
    theirs = Seen.by_own_id("77")
    await dialer.replica.hear(theirs.started("d1", "77"))
    await dialer.replica.hear(theirs.rings(agent=True))

    assert await dialer.state() == (DialState.AGENT_RINGING, None)
    document = await dialer.replica.document("d1")
    assert (document.record.call_id, document.pbx_call_id) == (theirs.call, "77")


async def test_before_the_sites_are_loaded_nothing_is_refused(dialer: Dialer) -> None:
    """The store was away at the start: which PBXs there are is not known yet."""
    dialer.deps.site.loaded = False
    now = dialer.clock.now()
    number = DialNumber(
        dial_id="d2",
        extension="101",
        number=CUSTOMER,
        requested_at=now,
        expires_at=now + timedelta(minutes=1),
    )
    with pytest.raises(Unavailable, match="not loaded"):
        await dialer.replica.place()
    with pytest.raises(Unavailable, match="not loaded"):
        await order(dialer.deps, wrap(number, source="gateway", occurred_at=now, tenant=TENANT))
    assert not dialer.told


class Failing(Line):
    """Its switchboard has a fault of ours in it, once."""

    has_failed = False

    async def run(self, on_refusal: OnRefusal) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise KeyError("a fault of ours")
        await super().run(on_refusal)


async def test_a_switchboard_that_fails_by_a_fault_of_ours_begins_anew(dialer: Dialer) -> None:
    """And the orders to other PBXs go on."""
    line, boards = Failing(), dialer.deps.boards
    made = PbxAdapter(check=_nothing, switchboard=lambda: line)
    settings = boards._adapters.wanted(dialer.deps.site)[TENANT, PBX]
    boards._adapters.make = lambda *_: made  # type: ignore[method-assign]  # a PBX of this test
    keeping = asyncio.create_task(boards._keep((TENANT, PBX), settings))
    await eventually(lambda: dialer.clock.sleepers == 2)
    assert (TENANT, PBX) not in boards._boards

    await dialer.clock.advance(timedelta(seconds=10))
    await eventually(lambda: boards._boards.get((TENANT, PBX)) is line)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert not boards._boards


async def _nothing() -> AsyncIterator[Finding]:
    yield Finding("nothing")
