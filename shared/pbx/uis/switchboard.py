"""Orders to a UIS account: calls by the Call API, an employee's status by the Data API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared.contracts.agents import AgentStatus
from shared.errors import Forbidden, Rejected, Throttled, Unavailable
from shared.pbx.lines import text_of
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, OnRefusal
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.pbx.uis.settings import UisSettings
from shared.pbx.uis.staff import StaffWords


class UisSwitchboard:
    """There is no connection to keep: each order is a request of its own."""

    def __init__(self, settings: UisSettings, *, calls: JsonRpc, data: JsonRpc) -> None:
        self._settings = settings
        self._words = StaffWords(statuses=settings.statuses, by_flag=settings.calls_available)
        self._calls = calls
        self._data = data

    @property
    def fault(self) -> None:
        return None

    async def run(self, on_refusal: OnRefusal) -> None:
        """What becomes of an order comes with the call's notifications."""
        await asyncio.Event().wait()

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        """
        The employee's phones ring in the order that the account has for them; how long, it says
        itself. What the contact sees is always a virtual number of the account.
        """
        asked = {
            "first_call": "employee",
            "switch_at_once": True,
            "early_switching": True,
            "show_virtual_phone_number": False,
            "virtual_phone_number": _digits(order.caller_id or self._settings.virtual_number),
            "external_id": order.reference,
            "direction": "out",
            "contact": _digits(order.number),
            "employee": {"id": _employee_id(order.extension, order.user)},
        }
        result = await self._order(self._calls, "start.employee_call", asked, within=within)
        answer = result.get("data")
        session = answer.get("call_session_id") if isinstance(answer, dict) else None
        known = isinstance(session, int | str) and not isinstance(session, bool) and session != ""
        # Without it the order was taken all the same; `external_id` says whose call it is.
        return DialReceipt(str(session)[:64] if known else None)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """
        Without the session's id, which a lost answer may have had, it is found among the calls
        that go on. Which word of the account means "over" no document says: they tell that too.
        """
        session = call.pbx_call_id or await self._session(call, within=within)
        if session is None:
            return
        asked = {"call_session_id": _session_id(session)}
        try:
            await self._order(self._calls, "release.call", asked, within=within)
        except Rejected as refused:
            if await self._goes_on(session, refused, within=within):
                raise

    async def _session(self, call: HangUp, *, within: timedelta) -> str | None:
        for one in await self._live(within=within):
            if text_of(one.get("external_id")) == call.reference:
                return text_of(one.get("call_session_id")) or None
        return None

    async def _goes_on(self, session: str, refused: Rejected, *, within: timedelta) -> bool:
        """Raises: *refused* where the account does not say."""
        try:
            live = await self._live(within=within)
        except Rejected:
            raise refused from None
        return any(text_of(one.get("call_session_id")) == session for one in live)

    async def _live(self, *, within: timedelta) -> list[dict[str, Any]]:
        result = await self._order(self._calls, "list.calls", {}, within=within)
        found = result.get("data")
        rows = found if isinstance(found, list) else []
        return [row for row in rows if isinstance(row, dict)]

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        name, value = self._words.set_by(status, own)
        asked = {"id": _employee_id(agent.extension, agent.user), name: value}
        await self._order(self._data, "update.employees", asked, within=within)

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        return self._words.heard_as(status, own)

    async def _order(
        self, api: JsonRpc, method: str, asked: Mapping[str, Any], *, within: timedelta
    ) -> dict[str, Any]:
        try:
            return await api.call(method, asked, within=within)
        except Throttled as error:
            # Refused before it was looked at.
            raise Unavailable(error.message, retry_after=error.retry_after, sent=False) from error
        except Forbidden as error:
            raise Rejected(error.message, **error.details) from error


def _employee_id(extension: str, user: str | None) -> int:
    if user is None or not (user.isascii() and user.isdigit() and len(user) <= 18):  # noqa: PLR2004  fits 64 bits
        raise Rejected(
            f"extension {extension} has no employee id: set `pbx_user` of the agent to the id that "
            "the account has for the employee (a number)"
        )
    return int(user)


def _session_id(session: str) -> int:
    if not (session.isascii() and session.isdigit() and len(session) <= 18):  # noqa: PLR2004  fits 64 bits
        raise Rejected(f"{session[:40]!r} is no id of a UIS call session")
    return int(session)


def _digits(number: str) -> str:
    """E.164 as UIS writes it, without the plus sign."""
    return "".join(filter(str.isdigit, number))
