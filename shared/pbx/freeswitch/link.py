"""An event socket that is kept connected, for orders and for events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.dialing import DialReason
from shared.errors import ContractError, MeshError, Rejected, Unavailable
from shared.ids import derived_id
from shared.observe.metrics import Metrics
from shared.pbx.freeswitch.causes import refusal_of
from shared.pbx.freeswitch.esl_client import EslAddress, EslSession, esl_session
from shared.pbx.freeswitch.esl_wire import read_event
from shared.pbx.freeswitch.orders import agent_status, originate
from shared.pbx.freeswitch.reader import WANTED, FreeSwitchReader, channels_record
from shared.pbx.intake import Intake
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, OnRefusal
from shared.pbx.source import KeptSource

log = structlog.get_logger(__name__)

_KIND = "freeswitch"
#: FreeSWITCH writes its list of channels a moment after it tells the event.
_LIST_LAGS = timedelta(seconds=1)
#: A list of some thousand channels takes a moment.
_LIST_WITHIN = timedelta(seconds=10)
#: Orders whose outcome is waited for; each is over within a minute.
_MOST_ORDERS = 5_000


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


class EslSwitchboard:
    """The Switchboard: a connection of its own, so that no flood of events delays an order."""

    def __init__(
        self,
        address: EslAddress,
        *,
        tenant: str,
        pbx: str,
        context: str,
        domain: str | None,
        queue_domain: str,
        clock: Clock,
    ) -> None:
        self._address = address
        self._names = tenant, pbx
        self._context = context
        self._domain = domain
        self._queue_domain = queue_domain
        self._clock = clock
        self._kept = Kept(host=address.host, clock=clock)
        self._session: EslSession | None = None
        #: References by the job that carries the order out.
        self._jobs: dict[str, str] = {}

    @property
    def fault(self) -> str | None:
        if self._session is not None:
            return None
        return self._kept.fault or "being connected"

    async def run(self, on_refusal: OnRefusal) -> None:
        await self._kept.run(lambda: self._serve(on_refusal))

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        session = self._connection()
        channel = str(derived_id("freeswitch-call", *self._names, order.reference))
        job = str(derived_id("freeswitch-job", *self._names, order.reference))
        try:
            line = originate(order, channel=channel, domain=self._domain, context=self._context)
        except ContractError as error:
            raise Rejected(error.message) from None
        self._jobs[job] = order.reference
        while len(self._jobs) > _MOST_ORDERS:
            del self._jobs[next(iter(self._jobs))]
        try:
            await session.command(f"bgapi {line}", {"Job-UUID": job}, within=within)
        except Rejected:
            self._jobs.pop(job, None)
            raise
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from error
        return DialReceipt(channel)

    async def set_status(self, agent: AgentAt, status: AgentStatus, *, within: timedelta) -> None:
        session = self._connection()
        try:
            line = agent_status(agent, status, queue_domain=self._queue_domain)
        except ContractError as error:
            raise Rejected(error.message) from None
        try:
            answer = await session.api(line, within=within)
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from error
        if not answer.startswith("+OK"):
            raise Rejected(f"callcenter_config: {answer[:200] or 'no answer'}")

    def _connection(self) -> EslSession:
        if self._session is None:
            raise Unavailable(f"no connection to the PBX: {self.fault}", sent=False)
        return self._session

    async def _serve(self, on_refusal: OnRefusal) -> None:
        async with esl_session(self._address, clock=self._clock) as session:
            await session.subscribe(["BACKGROUND_JOB"])
            self._kept.up()
            self._session = session
            try:
                async for record in session.events():
                    await self._outcome(record, on_refusal)
            finally:
                self._session = None

    async def _outcome(self, record: bytes, on_refusal: OnRefusal) -> None:
        try:
            event = read_event(record)
        except ContractError as error:
            log.warning(
                "pbx_event_unreadable", kind=_KIND, host=self._address.host, error=error.message
            )
            return
        reference = self._jobs.pop(event.get("Job-UUID", ""), None)
        if reference is None:
            return
        answer = event.get("_body", "").strip()
        if not answer.startswith("+OK"):
            await self._refuse(on_refusal, reference, refusal_of(answer))

    @staticmethod
    async def _refuse(on_refusal: OnRefusal, reference: str, reason: DialReason) -> None:
        try:
            await on_refusal(reference, reason)
        except MeshError as error:
            # The orders after it must not wait for a connection that this would end.
            log.error("dial_refusal_not_told", reference=reference, error=error.message)  # noqa: TRY400  no traceback
