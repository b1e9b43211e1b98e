"""Orders to a UIS account: a call by the Call API, an employee's status by the Data API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared.contracts.agents import AgentStatus
from shared.errors import Forbidden, Rejected, Throttled, Unavailable
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, OnRefusal
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.pbx.uis.settings import STATUSES, UisSettings


class UisSwitchboard:
    """There is no connection to keep: each order is a request of its own."""

    def __init__(self, settings: UisSettings, *, calls: JsonRpc, data: JsonRpc) -> None:
        self._settings = settings
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
        itself.
        """
        asked = {
            "first_call": "employee",
            "switch_at_once": True,
            "early_switching": True,
            "show_virtual_phone_number": False,
            "virtual_phone_number": _digits(self._settings.virtual_number),
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

    async def set_status(self, agent: AgentAt, status: AgentStatus, *, within: timedelta) -> None:
        asked: dict[str, Any] = {"id": _employee_id(agent.extension, agent.user)}
        if self._settings.calls_available:
            asked["calls_available"] = status is AgentStatus.FREE
        else:
            asked["status"] = self._settings.statuses.get(status) or STATUSES[status]
        await self._order(self._data, "update.employees", asked, within=within)

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


def _digits(number: str) -> str:
    """E.164 as UIS writes it, without the plus sign."""
    return "".join(filter(str.isdigit, number))
