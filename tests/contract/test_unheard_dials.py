"""Orders of which nothing was heard, over a real bus and store; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.dialer.handlers import Deps, follow_call, give_up_unheard
from services.dialer.links import DialLinks
from services.dialer.store import DIALS, DialBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallRinging, Party
from shared.contracts.dialing import DialNumber, DialReason, DialState, DialStateChanged
from shared.contracts.envelope import Event, Message, wrap
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.models import Sealing
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
        self.deps = Deps(
            dials=DialBook(store.collection(DIALS), clock, keep=timedelta(days=1)),
            links=DialLinks(site, secrets=self.box, clock=clock, on_refusal=self._refused),
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
            SiteDocument(key=TENANT, tenant=TENANT, site=site, changed_at=now, changed_by="test")
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

    async def _refused(self, tenant: str, pbx: str, message: AmiMessage) -> None:
        raise AssertionError((tenant, pbx, message))


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
