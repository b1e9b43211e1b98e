"""The Manager Interfaces of all tenants' Asterisks: one link each, as the site says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import structlog

from services.ingest.store import SAY_EVERY, LinkBook
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.errors import BadSetting, Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_client import AmiAddress, AmiSession
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Sighting
from shared.secrets import SecretBox
from shared.site.book import SiteBook
from shared.site.following import run_for_each
from shared.site.models import AsteriskPbx

log = structlog.get_logger(__name__)

#: While a PBX is quiet, how often calls are looked at that nothing followed.
_TICK = timedelta(milliseconds=100)
_AGAIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every reader works with."""

    publisher: Publisher
    book: LinkBook
    secrets: SecretBox
    clock: Clock
    metrics: Metrics
    publish_at_once: int


class Wanted(NamedTuple):
    pbx: AsteriskPbx
    extensions: frozenset[str]


class AsteriskReader:
    """One PBX of one tenant: its link, its tracker, and the way of its events to the bus."""

    def __init__(self, tenant: str, wanted: Wanted, tools: Tools) -> None:
        pbx, extensions = wanted
        self._tenant = tenant
        self._pbx = pbx
        self._publisher = tools.publisher
        self._book = tools.book
        self._clock = tools.clock
        self._metrics = tools.metrics
        self._counted = False
        self._places = asyncio.Semaphore(tools.publish_at_once)
        self._sending: set[asyncio.Task[None]] = set()
        self._tracker = CallTracker(
            tenant=tenant,
            pbx=pbx.name,
            trunks=pbx.trunks,
            extensions=extensions,
        )
        self._link = AmiLink(
            AmiAddress(
                host=pbx.host,
                port=pbx.port,
                username=pbx.username,
                secret=tools.secrets.open(pbx.secret),
                tls=pbx.tls,
            ),
            wanted=self._tracker.wanted,
            clock=tools.clock,
            on_event=self._on_event,
            on_connect=self._on_connect,
        )

    async def run(self) -> None:
        """Until cancelled; what was seen by then is sent."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._link.run())
                group.create_task(self._tick())
                group.create_task(self._say())
        finally:
            self._count(connected=False)
            if self._sending:
                await asyncio.gather(*self._sending, return_exceptions=True)

    async def _on_event(self, message: AmiMessage) -> None:
        self._metrics.count("callmesh_pbx_events_total", "asterisk", "used")
        await self._send(self._tracker.feed(message, now=self._clock.now()))

    async def _on_connect(self, session: AmiSession) -> None:
        """There is no replay: of what is gone by now the end was missed."""
        if self._tracker.live_calls:
            channels = await session.list_action("CoreShowChannels")
            live = {channel.get("Uniqueid") for channel in channels}
            await self._send(self._tracker.resync(live, now=self._clock.now()))

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(_TICK)
            self._count(connected=self._link.connected)
            await self._send(self._tracker.tick(self._clock.now()))

    def _count(self, *, connected: bool) -> None:
        if connected != self._counted:
            self._metrics.count("callmesh_pbx_connected", "asterisk", by=1 if connected else -1)
            self._counted = connected

    async def _say(self) -> None:
        while True:
            fault = self._link.fault
            with suppress(Unavailable):
                await self._book.say(tenant=self._tenant, pbx=self._pbx.name, fault=fault)
            waited = timedelta(0)
            while self._link.fault == fault and waited < SAY_EVERY:
                await self._clock.sleep(_AGAIN)
                waited += _AGAIN

    async def _send(self, sightings: list[Sighting]) -> None:
        """Side by side, as no order is promised; a full house makes the reading wait."""
        for sighting in sightings:
            await self._places.acquire()
            task = asyncio.create_task(self._publish(sighting))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._places.release()

    async def _publish(self, sighting: Sighting) -> None:
        while True:
            try:
                await self._publisher.publish(
                    sighting.body, tenant=self._tenant, key=sighting.key, at=sighting.at
                )
            except Unavailable as error:
                # Bus and store are both away: held here, and the PBX's events queue behind it.
                log.error("event_held", pbx=self._pbx.name, error=error.message)  # noqa: TRY400  no traceback
                await self._clock.sleep(_AGAIN)
            else:
                return


class AsteriskReaders:
    """One reader for each Asterisk of the site."""

    def __init__(self, site: SiteBook, tools: Tools) -> None:
        self._site = site
        self._tools = tools

    async def run(self) -> None:
        await run_for_each(self._site, self._wanted, self._read)

    def _wanted(self) -> dict[tuple[str, str], Wanted]:
        """A reader is begun anew also when the phones change, by which it knows who is inside."""
        return {
            (tenant, pbx.name): Wanted(
                pbx, frozenset(agent.extension for agent in self._site.current[tenant].agents)
            )
            for tenant, pbx in self._site.asterisks()
        }

    async def _read(self, key: tuple[str, str], wanted: Wanted) -> None:
        tenant, name = key
        try:
            reader = AsteriskReader(tenant, wanted, self._tools)
        except BadSetting as error:
            log.error("pbx_not_usable", tenant=tenant, pbx=name, error=error.message)  # noqa: TRY400  no traceback
        else:
            await reader.run()
