"""Orders of which nothing was heard, over a real bus and store; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.dialer.handlers import (
    Deps,
    dial_number,
    follow_call,
    give_up_unheard,
    know_call,
    set_agent_status,
)
from services.dialer.links import Switchboards
from services.dialer.store import DIALS, STATUSES, DialBook, StatusBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.agents import AgentStatus, SetAgentStatus
from shared.contracts.calls import CallRinging, CallStarted, Direction, Party
from shared.contracts.dialing import DialNumber, DialReason, DialState, DialStateChanged
from shared.contracts.envelope import Event, Message, wrap
from shared.errors import NotFound, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, Finding, PbxAdapter
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE
from shared.testing.waiting import eventually

SECOND = timedelta(seconds=1)
#: To accept the order, to ring the agent, and some more.
PATIENCE = timedelta(seconds=5 + 15 + 5)


class Dialer:
    """The dialer's orders, and what it tells of them."""

    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        store = SqliteStore(db, clock)
        self.box = SecretBox([new_key()])
        self.sites = store.collection(SITES)
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        self.told: list[DialStateChanged] = []
        consumer = Consumer("gateway", DialStateChanged)
        self.bus.subscribe(Subscription(consumer=consumer, handler=self._take))
        site = SiteBook(self.sites, clock, poll=SECOND)
        self.adapters = self._adapters()
        self.boards = Switchboards(site, self.adapters, clock=clock, on_refusal=self._refused)
        self.deps = Deps(
            dials=DialBook(store.collection(DIALS), clock, keep=timedelta(days=1)),
            statuses=StatusBook(store.collection(STATUSES), clock, keep=timedelta(minutes=4)),
            boards=self.boards,
            site=site,
            publisher=ServicePublisher(self.bus, service="dialer", clock=clock),
            clock=clock,
            metrics=Metrics(),
            order_within=timedelta(seconds=5),
        )

    async def apply(self) -> None:
        text = site_file(crm_url="http://127.0.0.1:1", ami_port=1)
        (site,) = read_site_file(
            text, source="test", sealing=Sealing(self.box, {}, Path()), around=HERE
        )
        now = self.clock.now()
        await self.sites.put(
            SiteDocument(
                key=TENANT, tenant=TENANT, site=site.stored, changed_at=now, changed_by="test"
            )
        )
        await self.deps.site.refresh()

    async def order(self) -> None:
        """One that the PBX has accepted."""
        now = self.clock.now()
        order = DialNumber(
            dial_id="d1",
            extension="101",
            number="+447700900123",
            requested_at=now,
            expires_at=now + timedelta(minutes=1),
        )
        document = await self.deps.dials.open(TENANT, order, call_id="c1", pbx=PBX)
        await self.deps.dials.mark_ordered(document)

    async def hear(self, event: Event) -> None:
        message = wrap(event, source="ingest", occurred_at=self.clock.now(), tenant=TENANT)
        await follow_call(self.deps, message)

    async def wait(self, time: timedelta) -> None:
        """Until it has been looked after the orders at the end of *time*."""
        left = time
        while left > timedelta(0):
            await self.clock.advance(min(left, SECOND))
            left -= SECOND
            await eventually(lambda: self.clock.sleepers == 1)

    async def state(self) -> tuple[DialState, DialReason | None]:
        record = (await self.deps.dials.by_dial(TENANT, "d1")).record
        return record.state, record.reason

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message.body)

    def _adapters(self) -> Adapters:
        http = HttpClient(AddressGuard())
        return Adapters(secrets=self.box, http=http, clock=self.clock, metrics=Metrics())

    async def _refused(self, tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
        raise AssertionError((tenant, pbx, reference, reason))


@pytest.fixture
async def dialer(clock: ManualClock) -> AsyncIterator[Dialer]:
    db = SqliteFile(None)
    await db.open()
    found = Dialer(db, clock)
    await found.bus.start()
    await found.apply()
    task = asyncio.create_task(give_up_unheard(found.deps))
    await eventually(lambda: clock.sleepers == 1)
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await found.bus.stop(drain=SECOND)
    await db.close()


def agent_rings() -> CallRinging:
    own, customer = Party(extension="101"), Party(number="+447700900123")
    return CallRinging(
        call_id="c1", pbx=PBX, leg_id="c1", callee=own, caller=customer, own_phone=True
    )


async def test_an_order_that_nothing_follows_is_given_up_and_told(dialer: Dialer) -> None:
    await dialer.order()
    await dialer.wait(PATIENCE - SECOND)
    before = await dialer.state()
    await dialer.wait(timedelta(seconds=7))

    assert before == (DialState.REQUESTED, None)
    assert await dialer.state() == (DialState.FAILED, DialReason.INTERRUPTED)
    await eventually(lambda: [told.state for told in dialer.told] == [DialState.FAILED])


async def test_an_order_whose_phone_rings_is_left_alone(dialer: Dialer) -> None:
    await dialer.order()
    await dialer.hear(agent_rings())
    await dialer.wait(2 * PATIENCE)

    assert await dialer.state() == (DialState.AGENT_RINGING, None)


async def test_an_order_that_was_given_up_goes_on_when_its_call_is_seen(dialer: Dialer) -> None:
    await dialer.order()
    await dialer.wait(2 * PATIENCE)
    await dialer.hear(agent_rings())

    assert await dialer.state() == (DialState.AGENT_RINGING, None)


async def test_a_state_that_was_kept_and_never_told_is_told_when_its_event_comes_again(
    dialer: Dialer,
) -> None:
    """As a crash between store and bus leaves it."""
    await dialer.order()
    await dialer.deps.dials.advance("c1", lambda _: (DialState.AGENT_RINGING, None))
    await dialer.hear(agent_rings())

    await eventually(lambda: [told.state for told in dialer.told] == [DialState.AGENT_RINGING])


async def test_a_pbx_with_an_id_of_its_own_is_followed_by_it(dialer: Dialer) -> None:
    """Yeastar, UIS: the call's id is known when the order was taken, or when the call says whose it is."""
    await dialer.order()
    theirs = CallStarted(
        call_id="theirs",
        pbx=PBX,
        pbx_call_id="77",
        direction=Direction.OUTBOUND,
        caller=Party(extension="101"),
        dial_id="d1",
    )
    message = wrap(theirs, source="ingest", occurred_at=dialer.clock.now(), tenant=TENANT)
    await know_call(dialer.deps, message)
    await dialer.hear(agent_rings().model_copy(update={"call_id": "theirs"}))

    assert await dialer.state() == (DialState.AGENT_RINGING, None)
    record = (await dialer.deps.dials.by_dial(TENANT, "d1")).record
    assert record.call_id == "theirs"


async def test_a_status_that_waited_for_too_long_is_not_set(dialer: Dialer) -> None:
    said = SetAgentStatus(extension="101", status=AgentStatus.BREAK)
    message = wrap(said, source="gateway", occurred_at=dialer.clock.now(), tenant=TENANT)
    with pytest.raises(Unavailable):  # the PBX is away: it is tried again
        await set_agent_status(dialer.deps, message)
    await dialer.wait(timedelta(minutes=3))

    await set_agent_status(dialer.deps, message)


async def test_a_status_of_a_phone_that_is_none_of_ours_is_refused(dialer: Dialer) -> None:
    said = SetAgentStatus(extension="999", status=AgentStatus.BREAK)
    message = wrap(said, source="gateway", occurred_at=dialer.clock.now(), tenant=TENANT)

    with pytest.raises(NotFound, match="999"):
        await set_agent_status(dialer.deps, message)


class Desk:
    """A PBX that does as it is told, but for the orders that it is *away* for."""

    fault: str | None = None

    def __init__(self) -> None:
        self.is_away = False
        self.fails_once = False
        self.set_to: list[AgentStatus] = []

    async def run(self, on_refusal: object) -> None:
        if self.fails_once:
            self.fails_once = False
            raise KeyError("a fault of ours")
        await asyncio.Event().wait()

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        return DialReceipt()

    async def set_status(self, agent: AgentAt, status: AgentStatus, *, within: timedelta) -> None:
        if self.is_away:
            raise Unavailable("away")
        self.set_to.append(status)


async def test_a_status_that_is_tried_again_does_not_undo_a_newer_one(dialer: Dialer) -> None:
    desk = dialer.boards._boards[TENANT, PBX] = Desk()

    def order(status: AgentStatus) -> Message[Any]:
        said = SetAgentStatus(extension="101", status=status)
        return wrap(said, source="gateway", occurred_at=dialer.clock.now(), tenant=TENANT)

    pause = order(AgentStatus.BREAK)
    desk.is_away = True
    with pytest.raises(Unavailable):
        await set_agent_status(dialer.deps, pause)
    desk.is_away = False
    await dialer.wait(SECOND)
    await set_agent_status(dialer.deps, order(AgentStatus.FREE))
    await set_agent_status(dialer.deps, pause)
    assert desk.set_to == [AgentStatus.FREE]

    again = order(AgentStatus.DINNER)
    for _ in range(2):  # killed before it was done with
        await set_agent_status(dialer.deps, again)
    assert desk.set_to == [AgentStatus.FREE, AgentStatus.DINNER, AgentStatus.DINNER]


async def test_before_the_sites_are_loaded_nothing_is_refused(dialer: Dialer) -> None:
    """The store was away at the start: which PBXs there are is not known yet."""
    dialer.deps.site.loaded = False
    now = dialer.clock.now()
    status = SetAgentStatus(extension="101", status=AgentStatus.BREAK)
    number = DialNumber(
        dial_id="d2",
        extension="101",
        number="+447700900123",
        requested_at=now,
        expires_at=now + timedelta(minutes=1),
    )
    with pytest.raises(Unavailable, match="not loaded"):
        await set_agent_status(
            dialer.deps, wrap(status, source="gateway", occurred_at=now, tenant=TENANT)
        )
    with pytest.raises(Unavailable, match="not loaded"):
        await dial_number(
            dialer.deps, wrap(number, source="gateway", occurred_at=now, tenant=TENANT)
        )
    assert not dialer.told


async def test_a_switchboard_that_fails_by_a_fault_of_ours_begins_anew(dialer: Dialer) -> None:
    """And the orders to other PBXs go on."""
    desk = Desk()
    desk.fails_once = True
    made = PbxAdapter(check=_nothing, switchboard=lambda: desk)
    settings = dialer.adapters.wanted(dialer.deps.site)[TENANT, PBX]
    dialer.adapters.make = lambda *_: made  # type: ignore[method-assign]  # a PBX of this test
    keeping = asyncio.create_task(dialer.boards._keep((TENANT, PBX), settings))
    await eventually(lambda: dialer.clock.sleepers == 2)
    assert (TENANT, PBX) not in dialer.boards._boards

    await dialer.clock.advance(timedelta(seconds=10))
    await eventually(lambda: dialer.boards._boards.get((TENANT, PBX)) is desk)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert not dialer.boards._boards


async def _nothing() -> AsyncIterator[Finding]:
    yield Finding("nothing")
