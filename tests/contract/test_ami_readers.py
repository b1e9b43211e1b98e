"""What ingest makes of a PBX's events, over real sockets, a real bus and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from services.ingest.app import ENTRY
from services.ingest.links import AsteriskReaders, Tools
from services.ingest.store import LINKS, LinkBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
)
from shared.contracts.envelope import Message
from shared.observe.metrics import Metrics
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.recording import Cast
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
        self.told: list[CallEvent] = []
        for contract in ENTRY.publishes:
            consumer = Consumer("journal", contract)
            self.bus.subscribe(Subscription(consumer=consumer, handler=self._take))
        self.readers = AsteriskReaders(
            self.site,
            Tools(
                publisher=ServicePublisher(self.bus, service="ingest", clock=clock),
                book=LinkBook(SqliteStore(db, clock).collection(LINKS), clock),
                secrets=self.box,
                clock=clock,
                metrics=Metrics(),
                publish_at_once=4,
            ),
        )
        self.port = 0
        self._playing: asyncio.Task[object] | None = None

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
            SiteDocument(key=TENANT, tenant=TENANT, site=site, changed_at=now, changed_by="test")
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

    async def connected(self) -> None:
        await eventually(lambda: self.pbx.listeners == 1)

    async def lose_the_link(self) -> None:
        self.pbx.cut()
        await eventually(lambda: self.pbx.listeners == 0)

    async def find_it_again(self) -> None:
        async def back() -> bool:
            await self.clock.advance(SECOND)
            return self.pbx.listeners == 1

        await eventually(back)

    async def hears(self, kind: type[CallEvent]) -> Any:
        """The first event of its kind; a moment passes, as a call's end waits for one."""

        async def found() -> bool:
            await self.clock.advance(timedelta(milliseconds=50))
            return any(isinstance(event, kind) for event in self.told)

        await eventually(found)
        return next(event for event in self.told if isinstance(event, kind))

    async def _take(self, message: Message[Any]) -> None:
        self.told.append(message.body)

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
async def reading(exchange: Exchange) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(exchange.readers.run())
    try:
        await exchange.connected()
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
    (refused,) = [line for line in logs if line["event"] == "ami_resync_refused"]
    assert "write = originate,reporting" in refused["change"]
    for name in ("ami_resync_refused", "ami_connected", "ami_away"):
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
