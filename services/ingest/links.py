"""The Manager Interfaces of all tenants' Asterisks: one link each, as the site says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.ingest.store import SAY_EVERY, LinkBook
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_client import AmiAddress, AmiSession
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Sighting
from shared.secrets import SecretBox
from shared.site.addresses import ami_addresses
from shared.site.book import SiteBook
from shared.site.following import run_for_each
from shared.site.models import AsteriskPbx

log = structlog.get_logger(__name__)

#: While a PBX is quiet, how often calls are looked at that nothing followed.
_TICK = timedelta(milliseconds=100)
_AGAIN = timedelta(seconds=1)
#: What was seen and is not sent gets so long at the end; the bus and the store may be gone.
_DRAIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every reader works with."""

    publisher: Publisher
    book: LinkBook
    secrets: SecretBox
    clock: Clock
    metrics: Metrics
    publish_at_once: int


class AsteriskReader:
    """
    One PBX of one tenant: its link, its tracker, and the way of its events to the bus. Its calls
    outlive every change of the site that leaves the connection as it is.
    """

    def __init__(
        self, tenant: str, pbx: str, address: AmiAddress, site: SiteBook, tools: Tools
    ) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._site = site
        self._publisher = tools.publisher
        self._book = tools.book
        self._clock = tools.clock
        self._metrics = tools.metrics
        self._counted = False
        self._at_once = tools.publish_at_once
        self._places = asyncio.Semaphore(tools.publish_at_once)
        self._sending: set[asyncio.Task[None]] = set()
        self._tracker = CallTracker(tenant=tenant, pbx=pbx, trunks=())
        self._link = AmiLink(
            address,
            wanted=self._tracker.wanted,
            clock=tools.clock,
            on_event=self._on_event,
            on_connect=self._on_connect,
        )

    async def run(self) -> None:
        """Until cancelled; what was seen by then is sent, as far as it can be at once."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_site())
                group.create_task(self._link.run())
                group.create_task(self._tick())
                group.create_task(self._say())
        finally:
            self._count(connected=False)
            await self._drain()

    async def _drain(self) -> None:
        if not self._sending:
            return
        _, late = await asyncio.wait(self._sending, timeout=_DRAIN.total_seconds())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        if late:
            log.error("events_lost", events=len(late))

    async def _follow_site(self) -> None:
        while True:
            site = self._site.site(self._tenant)
            pbx = site.pbx_named(self._pbx) if site else None
            if site is not None and isinstance(pbx, AsteriskPbx):
                self._tracker.know(
                    trunks=pbx.trunks, extensions=[agent.extension for agent in site.agents]
                )
            await self._site.changed()

    async def _on_event(self, message: AmiMessage) -> None:
        self._metrics.count("callmesh_pbx_events_total", "asterisk", "used")
        await self._send(self._tracker.feed(message, now=self._clock.now()))

    async def _on_connect(self, session: AmiSession) -> None:
        """There is no replay: what the channels are like by now says what was missed."""
        if not self._tracker.live_calls:
            return
        try:
            channels = await session.list_action("CoreShowChannels")
        except Rejected as error:
            # New calls are worth more than the ends of old ones.
            log.error(  # noqa: TRY400  no traceback
                "ami_resync_refused",
                error=error.message,
                change="manager.conf: the user needs write = originate,reporting",
            )
            return
        await self._send(self._tracker.resync(channels, now=self._clock.now()))

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
                await self._book.say(tenant=self._tenant, pbx=self._pbx, fault=fault)
            waited = timedelta(0)
            while self._link.fault == fault and waited < SAY_EVERY:
                await self._clock.sleep(_AGAIN)
                waited += _AGAIN

    async def _send(self, sightings: list[Sighting]) -> None:
        """Side by side, as no order is promised; a full house makes the reading wait."""
        for sighting in sightings:
            task = asyncio.create_task(self._publish(sighting))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        while len(self._sending) > self._at_once:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)

    async def _publish(self, sighting: Sighting) -> None:
        async with self._places:
            while True:
                try:
                    await self._publisher.publish(
                        sighting.body, tenant=self._tenant, key=sighting.key, at=sighting.at
                    )
                except Unavailable as error:
                    # Bus and store are both away: held here, and the PBX's events queue behind it.
                    log.error("event_held", error=error.message)  # noqa: TRY400  no traceback
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

    def _wanted(self) -> dict[tuple[str, str], AmiAddress]:
        return ami_addresses(self._site, self._tools.secrets)

    async def _read(self, key: tuple[str, str], address: AmiAddress) -> None:
        tenant, pbx = key
        structlog.contextvars.bind_contextvars(service="ingest", tenant=tenant, pbx=pbx)
        await AsteriskReader(tenant, pbx, address, self._site, self._tools).run()
