"""A Manager Interface that is kept connected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import MeshError, Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_client import AmiAddress, AmiSession, ami_session
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.kept import Kept
from shared.pbx.ordering import Said, ordering
from shared.pbx.port import OnOrder

log = structlog.get_logger(__name__)

OnEvent = Callable[[AmiMessage], Awaitable[None]]
OnConnect = Callable[[AmiSession], Awaitable[None]]


class AmiLink:
    """
    Run :meth:`run` as a task. *on_connect* comes before the first event of each session, and
    again when events had to be dropped: its reader has missed something.
    """

    def __init__(
        self,
        address: AmiAddress,
        *,
        wanted: Collection[str],
        clock: Clock,
        on_event: OnEvent,
        on_connect: OnConnect | None = None,
        on_order: OnOrder | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._on_order = on_order
        self._address = address
        self._wanted = frozenset(wanted)
        self._clock = clock
        self._on_event = on_event
        self._on_connect = on_connect
        self._metrics = metrics
        #: When the PBX was last heard over a session that is over, by our clock.
        self.heard_at: datetime | None = None
        self._session: AmiSession | None = None
        self._kept = Kept(host=address.host, clock=clock)

    @property
    def fault(self) -> str | None:
        """As :attr:`Kept.fault`."""
        return self._kept.fault

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def run(self) -> None:
        """For ever; ends only by cancellation."""
        await self._kept.run(self._serve)

    async def action(
        self,
        name: str,
        fields: Mapping[str, str | list[str]],
        *,
        within: timedelta,
        action_id: str | None = None,
    ) -> AmiMessage:
        """Raises: Unavailable, Rejected, ContractError, as the session's."""
        with self._ordering(name, fields) as said:
            answer = await self._open().action(name, fields, within=within, action_id=action_id)
            said.answer = answer.get("Message")
        return answer

    async def list_action(
        self, name: str, fields: Mapping[str, str | list[str]], *, within: timedelta
    ) -> list[AmiMessage]:
        """As the session's."""
        with self._ordering(name, fields) as said:
            items = await self._open().list_action(name, fields, within=within)
            said.answer = f"{len(items) - 1} listed"
        return items

    def _ordering(
        self, name: str, fields: Mapping[str, str | list[str]]
    ) -> AbstractContextManager[Said]:
        return ordering(
            self._on_order, protocol="AMI", name=name, text=_in_lines(fields), clock=self._clock
        )

    def _open(self) -> AmiSession:
        if self._session is None:
            raise Unavailable(f"no connection to the PBX: {self.fault}", sent=False)
        return self._session

    async def _serve(self) -> None:
        async with ami_session(
            self._address, wanted=self._wanted, clock=self._clock, metrics=self._metrics
        ) as session:
            self._kept.up()
            try:
                await self._follow(session)
            finally:
                self._session = None
                self.heard_at = session.heard_at

    async def _follow(self, session: AmiSession) -> None:
        dropped = 0
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

    async def _connected(self, session: AmiSession) -> None:
        if self._on_connect is not None:
            try:
                await self._on_connect(session)
            except MeshError:
                raise  # this session is of no use
            except Exception:
                # As with events: what goes on from here on is worth more.
                log.exception("ami_resync_failed")
        session.dropping_since = None


def _in_lines(fields: Mapping[str, str | list[str]]) -> str:
    lines = []
    for name, value in fields.items():
        lines += [f"{name}: {one}" for one in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines)
