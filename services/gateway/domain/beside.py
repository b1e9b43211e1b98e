"""What screens are told beside calls: how far a dial is, what an agent is doing. Pure."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Any

from services.gateway.domain.events import AgentEvent, AgentEventKind, event_id
from shared.contracts.agents import AgentStatusSettled
from shared.contracts.dialing import DialStateChanged, DialStep, is_news
from shared.moments import to_ms

_REMEMBERED = 20_000


class BesideCalls:
    """What came again, or was overtaken on its way, is no news."""

    def __init__(self) -> None:
        self._dials: OrderedDict[tuple[str, str], DialStep] = OrderedDict()
        self._statuses: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def dial(self, tenant: str, body: DialStateChanged, at: datetime) -> list[AgentEvent]:
        key, step = (tenant, body.dial_id), (body.state, body.reason)
        last = self._dials.get(key)
        if last is not None and not is_news(step, after=last):
            return []
        _keep(self._dials, key, step)
        return [
            AgentEvent(
                kind=AgentEventKind.DIAL,
                id=event_id(tenant, body.dial_id, body.state, body.reason or ""),
                at=at,
                extension=body.extension,
                call_id=body.call_id,
                dial_id=body.dial_id,
                dial_state=body.state,
                dial_reason=body.reason,
            )
        ]

    def status(self, tenant: str, body: AgentStatusSettled) -> list[AgentEvent]:
        key = (tenant, body.extension)
        last = self._statuses.get(key)
        if last is not None and body.since <= last:
            return []
        _keep(self._statuses, key, body.since)
        return [
            AgentEvent(
                kind=AgentEventKind.STATUS,
                id=event_id(tenant, "status", body.extension, body.status, str(to_ms(body.since))),
                at=body.since,
                extension=body.extension,
                status=body.status,
                own_status=body.own,
            )
        ]


def _keep(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
