"""Orders to one FreeSWITCH: click-to-call, and what agents of its queues are doing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.dialing import DialReason
from shared.errors import ContractError, MeshError, Rejected, Unavailable
from shared.ids import derived_id
from shared.pbx.freeswitch.causes import refusal_of
from shared.pbx.freeswitch.esl_client import EslAddress, EslSession, esl_session
from shared.pbx.freeswitch.esl_wire import json_object, read_event
from shared.pbx.freeswitch.orders import (
    agent_status,
    channels_of,
    originate,
    status_word,
    word,
    words_of,
)
from shared.pbx.kept import Kept
from shared.pbx.lines import one_line
from shared.pbx.ordering import Said, ordering
from shared.pbx.port import (
    AgentAt,
    DialReceipt,
    DialRequest,
    HangUp,
    OnOrder,
    OnRefusal,
)

log = structlog.get_logger(__name__)

_KIND = "freeswitch"
#: Orders whose outcome is waited for; each is over within a minute.
_MOST_ORDERS = 5_000
#: An order is taken before its channel is there.
_CHANNEL_LAGS = timedelta(milliseconds=300)
_GONE = "no such channel"


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
        statuses: Mapping[AgentStatus, str] | None = None,
        on_order: OnOrder | None = None,
    ) -> None:
        self._on_order = on_order
        self._address = address
        self._words = words_of(statuses)
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
        channel = self._channel(order.reference)
        job = str(derived_id("freeswitch-job", *self._names, order.reference))
        try:
            line = originate(order, channel=channel, domain=self._domain, context=self._context)
        except ContractError as error:
            raise Rejected(error.message) from None
        self._jobs[job] = order.reference
        while len(self._jobs) > _MOST_ORDERS:
            del self._jobs[next(iter(self._jobs))]
        try:
            with self._ordering(f"bgapi {line}") as said:
                frame = await session.command(f"bgapi {line}", {"Job-UUID": job}, within=within)
                said.answer = one_line(frame.reply)
        except Rejected:
            self._jobs.pop(job, None)
            raise
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from error
        return DialReceipt(channel)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """Also who is left of it, where the agent has passed it on."""
        session = self._connection()
        channel = self._channel(call.reference)
        for last in (False, True):
            killed = [
                await self._kill(session, one, within=within)
                for one in await self._channels(session, channel, within=within)
            ]
            if any(killed):
                return
            if not last:
                await self._clock.sleep(_CHANNEL_LAGS)

    async def _channels(self, session: EslSession, channel: str, *, within: timedelta) -> list[str]:
        try:
            with self._ordering("api show channels as json"):
                listed = await session.api("show channels as json", within=within)
            return channels_of(json_object(listed.encode()), channel)
        except (Rejected, ContractError):
            return [channel]  # without that right it is the agent's own that can be named

    async def _kill(self, session: EslSession, channel: str, *, within: timedelta) -> bool:
        """Whether it was there. Raises: Rejected, Unavailable."""
        try:
            answer = await self._api(session, f"uuid_kill {word(channel)}", within=within)
        except ContractError:
            return False  # nothing that FreeSWITCH calls a channel
        except Rejected as error:
            if _GONE in error.message.lower():
                return False
            raise Rejected(
                f"{error.message}; allow `uuid_kill` in esl-allowed-api of the directory's user"
            ) from None
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from error
        return answer.startswith("+OK")

    async def _api(self, session: EslSession, line: str, *, within: timedelta) -> str:
        """Raises as :meth:`EslSession.api`."""
        with self._ordering(f"api {line}") as said:
            answer = await session.api(line, within=within)
            said.answer = one_line(answer)
            if answer.startswith("-"):
                said.error = said.answer
        return answer

    def _ordering(self, line: str) -> AbstractContextManager[Said]:
        name = " ".join(line.split()[:2])
        return ordering(self._on_order, protocol="ESL", name=name, text=line, clock=self._clock)

    def _channel(self, reference: str) -> str:
        return str(derived_id("freeswitch-call", *self._names, reference))

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        session = self._connection()
        known = status_word(self._words, status, own)
        try:
            line = agent_status(agent, known, queue_domain=self._queue_domain)
        except ContractError as error:
            raise Rejected(error.message) from None
        try:
            answer = await self._api(session, line, within=within)
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from error
        if not answer.startswith("+OK"):
            raise Rejected(f"callcenter_config: {answer[:200] or 'no answer'}")

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        said = self._words.word(status, own)
        return self._words.status(said or "") or status

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
