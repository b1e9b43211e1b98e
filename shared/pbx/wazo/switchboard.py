"""Orders to a Wazo: calld makes calls, agentd pauses agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Forbidden, NotFound, Rejected, Unavailable
from shared.pbx.kept import Kept
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, OnRefusal
from shared.pbx.wazo.api import WazoApi
from shared.pbx.wazo.fields import Values, parts_of, text_in
from shared.pbx.wazo.pauses import paused_for, words_of

_LOOK = timedelta(minutes=5)
_CALLD = ("api", "calld", "1.0")
_AGENTS = ("api", "agentd", "1.0", "agents")
_ACTIONS = {AgentStatus.FREE: "unpause", AgentStatus.OFFLINE: "logoff"}


class WazoSwitchboard:
    """Nothing has to be open for orders; it is only tried whether Wazo takes the login."""

    def __init__(
        self,
        api: WazoApi,
        *,
        context: str | None,
        clock: Clock,
        statuses: Mapping[AgentStatus, str] | None = None,
    ) -> None:
        self._api = api
        self._words = words_of(statuses)
        self._context = context
        self._clock = clock
        self._kept = Kept(host=api.host, clock=clock)

    @property
    def fault(self) -> str | None:
        return self._kept.fault

    async def run(self, on_refusal: OnRefusal) -> None:
        await self._kept.run(self._look)

    async def _look(self) -> None:
        while True:
            await self._api.token()
            self._kept.up()
            await self._clock.sleep(_LOOK)

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        """
        Wazo rings the user's phone and then dials; for how long it rings, and which number the
        customer sees, are Wazo's settings.

        Raises: Rejected with Wazo's words, Unavailable with ``sent``.
        """
        if order.user is None:
            raise Rejected(
                f"extension {order.extension} has no Wazo user: say the user's UUID as `pbx_user` "
                "of the agent in the site file"
            )
        async with _refusals():
            try:
                context = self._context or await self._context_of(order.user)
            except Unavailable as error:
                raise Unavailable(error.message, sent=False) from None
            body = {
                "source": {"user": order.user},
                "destination": {"extension": order.number, "context": context, "priority": 1},
            }
            try:
                told = await self._api.post(*_CALLD, "calls", body=body, within=within)
            except ContractError:
                return DialReceipt()  # it took the order; what it said of it cannot be read
        values: Values = told if isinstance(told, dict) else {}
        # The phone's channel is the first of its conversation, which has its name.
        name = text_in(values, "conversation_id") or text_in(values, "call_id")
        return DialReceipt(name or None)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """All channels of the conversation, so that a call ends too that the agent passed on."""
        name = call.pbx_call_id
        if name is None:
            raise Rejected("it is not known what Wazo calls this call: end it at the phone")
        async with _refusals():
            told = await self._asked(*_CALLD, "calls")
            channels = [
                text_in(one, "call_id")
                for one in parts_of(told, "items")
                if name in {text_in(one, "conversation_id"), text_in(one, "call_id")}
            ]
            # The phone that was rung first: the conversation has its name.
            for channel in sorted(filter(None, channels), key=lambda one: one != name):
                try:
                    await self._api.delete(*_CALLD, "calls", channel, within=within)
                except NotFound:
                    continue  # it went with the one before it

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        """Pauses with the status as reason, unpauses, logs off. Raises: Rejected, Unavailable."""
        async with _refusals():
            number = await self._agent_number(agent.extension)
            action = _ACTIONS.get(status, "pause")
            reason = self._words.word(status, own)
            body = {"reason": reason} if action == "pause" else None
            await self._api.post(*_AGENTS, "by-number", number, action, body=body, within=within)

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        """A reason that the site does not know is heard as a break."""
        if status in _ACTIONS:
            return status
        return paused_for(self._words.word(status, own) or "", self._words)

    async def _context_of(self, user: str) -> str:
        """Where the phone of the user's first line dials."""
        try:
            told = await self._asked("api", "confd", "1.1", "users", user)
        except NotFound:
            raise Rejected(f"Wazo knows no user {user}: correct `pbx_user` of the agent") from None
        for line in parts_of(told, "lines"):
            for extension in parts_of(line, "extensions"):
                if context := text_in(extension, "context"):
                    return context
        raise Rejected(f"Wazo's user {user} has no line with an extension to dial from")

    async def _agent_number(self, extension: str) -> str:
        """Of who is logged in at the phone, else of who has its number."""
        told = await self._api.get(*_AGENTS)
        agents: list[Any] = told if isinstance(told, list) else []
        if isinstance(told, dict):
            agents = parts_of(told, "items")
        known = [one for one in agents if isinstance(one, dict) and text_in(one, "number")]
        at_phone: Callable[[Values], bool] = lambda one: text_in(one, "extension") == extension  # noqa: E731  a rule with a name
        found = next((one for one in known if at_phone(one)), None) or next(
            (one for one in known if text_in(one, "number") == extension), None
        )
        if found is None:
            raise Rejected(f"no agent of Wazo is logged in at extension {extension}")
        return text_in(found, "number")

    async def _asked(self, *path: str) -> Values:
        told = await self._api.get(*path)
        return told if isinstance(told, dict) else {}


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """What an order can be refused with is Rejected to whoever gave it."""
    try:
        yield
    except (Forbidden, NotFound, ContractError) as error:
        raise Rejected(error.message) from None
