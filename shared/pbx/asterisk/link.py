"""A PBX connection that is kept: opened again after a loss, never against a refused login."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.errors import MeshError, Unavailable
from shared.pbx.asterisk.ami_client import AmiAddress, AmiSession, LoginRefused, ami_session
from shared.pbx.asterisk.ami_wire import AmiMessage

log = structlog.get_logger(__name__)

_FIRST_WAIT = timedelta(milliseconds=500)
_LONGEST_WAIT = timedelta(seconds=30)
#: A connection that held for so long was a good one: the next is tried soon.
_STEADY = timedelta(minutes=1)

OnEvent = Callable[[AmiMessage], Awaitable[None]]
OnConnect = Callable[[AmiSession], Awaitable[None]]


class AmiLink:
    """
    Run :meth:`run` as a task. *on_connect* comes before the first event of each session, and
    again when events had to be dropped: its reader has missed something.

    ``fault`` says why there is no connection; after a refused login it stays, and nothing more
    is tried: a new link is made when the configuration changes.
    """

    def __init__(
        self,
        address: AmiAddress,
        *,
        wanted: Collection[str],
        clock: Clock,
        on_event: OnEvent,
        on_connect: OnConnect | None = None,
    ) -> None:
        self._address = address
        self._wanted = frozenset(wanted)
        self._clock = clock
        self._on_event = on_event
        self._on_connect = on_connect
        self._session: AmiSession | None = None
        self.fault: str | None = "not tried yet"

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def run(self) -> None:
        """For ever; ends only by cancellation."""
        wait = _FIRST_WAIT
        while True:
            began = self._clock.now()
            try:
                async with ami_session(
                    self._address, wanted=self._wanted, clock=self._clock
                ) as session:
                    await self._serve(session)
            except LoginRefused as error:
                self.fault = error.message
                log.error("ami_login_refused", host=self._address.host, error=error.message)  # noqa: TRY400  no traceback
                await asyncio.Event().wait()
            except MeshError as error:
                self.fault = error.message
                log.warning("ami_away", host=self._address.host, error=error.message)
            if self._clock.now() - began >= _STEADY:
                wait = _FIRST_WAIT
            # Between half and the whole, so that replicas do not come back in step.
            await self._clock.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, _LONGEST_WAIT)

    async def action(
        self,
        name: str,
        fields: Mapping[str, str | list[str]],
        *,
        within: timedelta,
        action_id: str | None = None,
    ) -> AmiMessage:
        """Raises: Unavailable, Rejected, ContractError, as the session's."""
        if self._session is None:
            raise Unavailable(f"no connection to the PBX: {self.fault}")
        return await self._session.action(name, fields, within=within, action_id=action_id)

    async def _serve(self, session: AmiSession) -> None:
        self.fault = None
        dropped = 0
        try:
            await self._connected(session)
            # After the resync: until then nothing may be asked over this session.
            self._session = session
            async for event in session.events():
                try:
                    await self._on_event(event)
                except Exception:
                    # One event that cannot be read must not end the reading of all others.
                    log.exception("ami_event_failed", ami_event=event.event)
                if session.dropped > dropped and not session.waiting_events:
                    log.error("ami_events_dropped", dropped=session.dropped - dropped)
                    dropped = session.dropped
                    await self._connected(session)
        finally:
            self._session = None

    async def _connected(self, session: AmiSession) -> None:
        if self._on_connect is not None:
            await self._on_connect(session)
