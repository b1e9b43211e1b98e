"""The PBX connections of all tenants that tell their events by themselves: one reader each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from services.ingest.raw import RawTape
from services.ingest.store import SAY_EVERY, LinkBook
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, PbxResynced
from shared.errors import MeshError, NotFound, Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.port import EventSource, Sighting
from shared.site.adapters import Adapters, PbxSettings, phones_of
from shared.site.book import SiteBook
from shared.site.following import run_for_each

log = structlog.get_logger(__name__)

_AGAIN = timedelta(seconds=1)
_LOOK = timedelta(milliseconds=250)
#: What was seen and is not sent gets so long at the end; the bus and the store may be gone.
_DRAIN = timedelta(seconds=2)
#: A reader that failed by a fault of ours begins anew after so long: the others read on.
_AFTER_A_FAULT = timedelta(seconds=10)
#: A PBX's clock that is further off makes wrong times in CRMs: said in the log, once.
_CLOCK_OFF = timedelta(seconds=5)
#: What a connection brings is not older.
_OF_NOW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every reader works with."""

    publisher: Publisher
    book: LinkBook
    tape: RawTape
    adapters: Adapters
    clock: Clock
    metrics: Metrics
    publish_at_once: int


class PbxReader:
    """
    One PBX of one tenant: its event source, and the way of its events to the bus. Its calls
    outlive every change of the site that leaves the connection as it is.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        tenant: str,
        pbx: str,
        kind: str,
        site: SiteBook,
        tools: Tools,
    ) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._kind = kind
        self._source = source
        self._site = site
        self._tools = tools
        self._counted = False
        self._ahead: timedelta | None = None
        #: Until when a reader before this one heard the PBX.
        self._heard_before: datetime | None = None
        self._places = asyncio.Semaphore(tools.publish_at_once)
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled; what was seen by then is sent, as far as it can be at once."""
        with suppress(MeshError):
            self._heard_before = await self._tools.book.heard_until(self._tenant, self._pbx)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_site())
                group.create_task(self._source.run(self._see, self._keep))
                group.create_task(self._watch())
                group.create_task(self._say())
        finally:
            if self._counted:
                # What ends from now on ended after this, and not after what was said last.
                with suppress(MeshError, TimeoutError):
                    async with asyncio.timeout(_DRAIN.total_seconds()):
                        await self._say_now(None)
            self._count(connected=False)
            await self._drain()

    def _keep(self, record: bytes) -> None:
        self._tools.tape.keep(self._tenant, self._pbx, record)

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
            if site is not None and pbx is not None:
                self._source.know(phones_of(site, pbx))
            await self._site.changed()

    async def _watch(self) -> None:
        while True:
            await self._tools.clock.sleep(_LOOK)
            self._count(connected=self._source.connected)

    def _count(self, *, connected: bool) -> None:
        if connected != self._counted:
            self._tools.metrics.count(
                "callmesh_pbx_connected", self._kind, by=1 if connected else -1
            )
            self._counted = connected

    async def _say(self) -> None:
        while True:
            fault = self._source.fault
            with suppress(MeshError):
                await self._say_now(fault)
            waited = timedelta(0)
            while self._source.fault == fault and waited < SAY_EVERY:
                await self._tools.clock.sleep(_AGAIN)
                waited += _AGAIN

    async def _say_now(self, fault: str | None) -> None:
        """Raises: MeshError."""
        await self._tools.book.say(
            tenant=self._tenant, pbx=self._pbx, kind=self._kind, fault=fault, ahead=self._ahead
        )

    async def _see(self, sightings: Sequence[Sighting]) -> None:
        """Side by side, as no order is promised; a full house makes the reading wait."""
        # A record of a whole call, or what goes on after a gap, is told later than it was.
        if not any(isinstance(one.body, CallEnded | PbxResynced) for one in sightings):
            self._compare_clocks(sightings)
        for sighting in sightings:
            task = asyncio.create_task(self._publish(self._dated(sighting)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        while len(self._sending) > self._tools.publish_at_once:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)

    def _dated(self, sighting: Sighting) -> Sighting:
        """
        A new source does not know until when the PBX was heard before it. What an agent does is told
        at once, and weighed against what others say by our clock; the PBX's may be off.
        """
        body = sighting.body
        if isinstance(body, AgentStatusChanged):
            now = self._tools.clock.now()
            return replace(sighting, at=min(max(sighting.at, now - _OF_NOW), now))
        if not isinstance(body, PbxResynced) or self._heard_before is None:
            return sighting
        heard, self._heard_before = min(body.heard_until, self._heard_before), None
        return replace(sighting, body=body.model_copy(update={"heard_until": heard}))

    def _compare_clocks(self, sightings: Sequence[Sighting]) -> None:
        """By what is told at once; a call's start is dated back."""
        told = [one.at for one in sightings if isinstance(one.body, CallRinging | CallAnswered)]
        if not told:
            return
        before, self._ahead = self._ahead, max(told) - self._tools.clock.now()
        was_off = before is not None and abs(before) > _CLOCK_OFF
        if abs(self._ahead) > _CLOCK_OFF and not was_off:
            log.warning(
                "pbx_clock_off",
                ahead_seconds=round(self._ahead.total_seconds(), 1),
                change="set the PBX's clock by NTP: times in CRMs are the PBX's",
            )

    async def _publish(self, sighting: Sighting) -> None:
        async with self._places:
            while True:
                try:
                    await self._tools.publisher.publish(
                        sighting.body, tenant=self._tenant, key=sighting.key, at=sighting.at
                    )
                except Unavailable as error:
                    # Bus and store are both away: held here, and the PBX's events queue behind it.
                    log.error("event_held", error=error.message)  # noqa: TRY400  no traceback
                    await self._tools.clock.sleep(_AGAIN)
                else:
                    return


class PbxReaders:
    """One reader for each PBX of the site that tells its events by itself."""

    def __init__(self, site: SiteBook, tools: Tools) -> None:
        self._site = site
        self._tools = tools

    async def run(self) -> None:
        await run_for_each(self._site, self._wanted, self._read)

    def _wanted(self) -> dict[tuple[str, str], PbxSettings]:
        return self._tools.adapters.wanted(self._site)

    async def _read(self, key: tuple[str, str], settings: PbxSettings) -> None:
        tenant, pbx = key
        structlog.contextvars.bind_contextvars(service="ingest", tenant=tenant, pbx=pbx)
        make = self._tools.adapters.make(tenant, pbx, settings).source
        if make is None:
            await asyncio.Event().wait()  # its events come by hooks
            return
        while True:
            try:
                _, connection = self._site.pbx(tenant, pbx)
                kind = connection.kind
                reader = PbxReader(
                    make(), tenant=tenant, pbx=pbx, kind=kind, site=self._site, tools=self._tools
                )
                await reader.run()
            except NotFound:
                return  # removed between the wish and its fulfilment
            except Exception:
                # What one PBX sent must not end the reading of all others.
                log.exception("pbx_reader_failed")
                await self._tools.clock.sleep(_AFTER_A_FAULT)
