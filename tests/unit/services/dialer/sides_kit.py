"""Sides as their words make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.dialer.sides import Render, Rendering
from shared.contracts.agents import STATUS_HOLDS, AgentStatus

FREE, BUSY, BREAK, DINNER, OFFLINE = AgentStatus
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

#: As FreeSWITCH has it: a dinner is a break, and nobody is busy by hand.
FEW = {FREE: FREE, BREAK: BREAK, DINNER: BREAK, OFFLINE: OFFLINE, BUSY: BREAK}
#: As an account of UIS with the older flag: free, or not.
TWO = {FREE: FREE, BREAK: BUSY, DINNER: BUSY, OFFLINE: BUSY, BUSY: BUSY}
ALL = {status: status for status in AgentStatus}
#: As retailCRM: nobody is offline.
NO_OFFLINE = {status: status for status in AgentStatus if status is not OFFLINE}
#: Nothing is on its way any more, and no echo is waited for.
QUIET = STATUS_HOLDS + timedelta(seconds=61)


def a_render(words: dict[AgentStatus, AgentStatus]) -> Render:
    def render(status: AgentStatus, own: str | None) -> Rendering | None:
        return Rendering(word=own, heard=(words[status],)) if status in words else None

    return render
