"""An event socket that is kept connected, for events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import ContractError, Rejected
from shared.observe.metrics import Metrics
from shared.pbx.freeswitch.esl_client import EslAddress, EslSession, esl_session
from shared.pbx.freeswitch.reader import WANTED, FreeSwitchReader, channels_record
from shared.pbx.intake import Intake
from shared.pbx.source import KeptSource

log = structlog.get_logger(__name__)

_KIND = "freeswitch"
#: FreeSWITCH writes its list of channels a moment after it tells the event.
_LIST_LAGS = timedelta(seconds=1)
#: A list of some thousand channels takes a moment.
_LIST_WITHIN = timedelta(seconds=10)


class EslEvents(KeptSource[FreeSwitchReader]):
    """Events, and after each connecting the list of what goes on."""

    def __init__(
        self,
        address: EslAddress,
        reader: FreeSwitchReader,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        super().__init__(_KIND, reader, host=address.host, clock=clock, metrics=metrics)
        self._address = address

    async def _serve(self, intake: Intake) -> None:
        async with esl_session(self._address, clock=self._clock) as session:
            heard, began = self._heard or self._clock.now(), self._clock.now()
            await session.subscribe(WANTED)
            self._kept.up()
            events = session.events()
            try:
                await self._resync(session, events, intake, heard=heard, since=began)
                async for record in events:
                    await intake.take(record)
                    if not session.waiting_events and (lost := session.losses()):
                        count, heard = lost
                        log.error("pbx_events_dropped", host=self._address.host, dropped=count)
                        self._metrics.count("callmesh_pbx_events_total", _KIND, "dropped", by=count)
                        since = self._clock.now() - _LIST_LAGS
                        await self._resync(session, events, intake, heard=heard, since=since)
            finally:
                self._heard = session.heard_at

    async def _resync(
        self,
        session: EslSession,
        events: AsyncIterator[bytes],
        intake: Intake,
        *,
        heard: datetime,
        since: datetime,
    ) -> None:
        """*heard*: until when events were complete before; *since* when they are again."""
        try:
            listed = await session.api("show channels as json", within=_LIST_WITHIN)
            record = channels_record(listed, heard=heard, since=since)
        except (Rejected, ContractError) as error:
            # New calls are worth more than the ends of old ones.
            log.error(  # noqa: TRY400  no traceback
                "esl_resync_refused",
                error=error.message,
                change="directory: the user needs esl-allowed-api with `show`",
            )
            return
        # What came before the list says more of the same.
        for _ in range(session.waiting_events):
            await intake.take(await anext(events))
        await intake.take(record)
