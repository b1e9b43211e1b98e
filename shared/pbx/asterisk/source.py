"""The events of one Asterisk, over a Manager Interface that is kept connected."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.calls import PbxResynced
from shared.errors import Rejected
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_client import AmiSession
from shared.pbx.asterisk.ami_connect import AmiAddress
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.asterisk.reader import CHANNELS, MEMBERS, AmiReader
from shared.pbx.port import Keep, Phones, See, Sighting

log = structlog.get_logger(__name__)

#: While a PBX is quiet, how often calls are looked at that nothing followed.
_TICK = timedelta(milliseconds=100)
_LIST_WITHIN = timedelta(seconds=10)


class AsteriskSource:
    """
    An :class:`EventSource`. After each connect, and after events had to be dropped, it asks what
    goes on, and tells it as :class:`PbxResynced`: there is no replay.
    """

    def __init__(
        self,
        address: AmiAddress,
        *,
        tenant: str,
        pbx: str,
        clock: Clock,
        metrics: Metrics,
        statuses: Mapping[AgentStatus, str] | None = None,
    ) -> None:
        self._pbx = pbx
        self._clock = clock
        self._metrics = metrics
        self._reader = AmiReader(tenant=tenant, pbx=pbx, statuses=statuses)
        self._link = AmiLink(
            address,
            wanted=self._reader.wanted,
            clock=clock,
            on_event=self._on_event,
            on_connect=self._on_connect,
            metrics=metrics,
        )
        self._see: See = _nobody
        self._keep: Keep = _nowhere

    @property
    def connected(self) -> bool:
        return self._link.connected

    @property
    def fault(self) -> str | None:
        return self._link.fault

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the PBX's clock is ahead of ours; None: its events have no times."""
        return self._reader.clock_ahead

    def know(self, phones: Phones) -> None:
        self._reader.know(phones)

    async def run(self, see: See, keep: Keep) -> None:
        self._see, self._keep = see, keep
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(_TICK)
            await self._tell(self._reader.tick(self._clock.now()))

    async def _on_event(self, message: AmiMessage) -> None:
        self._metrics.count("callmesh_pbx_events_total", "asterisk", "used")
        await self._tell(self._read(message))

    def _read(self, message: AmiMessage) -> list[Sighting]:
        self._keep(message.raw)
        return self._reader.take(message, now=self._clock.now())

    async def _tell(self, sightings: Sequence[Sighting]) -> None:
        if sightings:
            await self._see(sightings)

    # -- after a connect ---------------------------------------------------------------------

    async def _on_connect(self, session: AmiSession) -> None:
        heard_until = session.dropping_since or self._link.heard_at or self._clock.now()
        # What events say of times has precedence; before the first of them this is all there is.
        self._read(await session.action("Ping"))
        channels = await self._listed(session, CHANNELS)
        if channels is not None:
            await self._tell([*channels, self._resynced(heard_until)])
        await self._tell(await self._listed(session, MEMBERS) or [])

    async def _listed(self, session: AmiSession, action: str) -> list[Sighting] | None:
        """None where the PBX lists nothing to this user."""
        try:
            items = await session.list_action(action, within=_LIST_WITHIN)
        except Rejected as error:
            if action == CHANNELS:
                # New calls are worth more than the ends of old ones. A PBX without queues has
                # nothing to say of their members.
                log.error(  # noqa: TRY400  no traceback
                    "ami_resync_refused",
                    error=error.message,
                    change="manager.conf: the user needs write = originate,reporting",
                )
            return None
        return [sighting for item in items for sighting in self._read(item)]

    def _resynced(self, heard_until: datetime) -> Sighting:
        now = self._clock.now()
        body = PbxResynced(
            pbx=self._pbx, live=self._reader.live_ids, heard_until=min(heard_until, now)
        )
        return Sighting(body, now, f"{self._pbx}/resynced/{now.isoformat()}")


async def _nobody(_: Sequence[Sighting]) -> None:
    """Until somebody runs the source."""


def _nowhere(_: bytes) -> None:
    """Until somebody runs the source."""
