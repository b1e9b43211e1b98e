"""The board of one process: events in, what to tell which screen out. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from services.gateway.domain.beside import BesideCalls
from services.gateway.domain.calls import Call
from services.gateway.domain.cards import PopRules
from services.gateway.domain.events import AgentEvent
from services.gateway.domain.telling import CARD_STAYS, Telling, is_past
from shared.contracts.agents import AgentStatusSettled
from shared.contracts.dialing import DialStateChanged

#: Calls remembered; a call that never ends (its end was lost) goes after a while.
_CALLS = 20_000
_LONGEST_CALL = timedelta(hours=6)

Told = list[tuple[str, AgentEvent]]


class PopBoard:
    """``take`` an event, get what to tell whom: pairs of tenant and event."""

    def __init__(self, rules: PopRules) -> None:
        self._telling = Telling(rules)
        self._beside = BesideCalls()
        self._calls: OrderedDict[tuple[str, str], Call] = OrderedDict()
        #: Those of them that stand on a screen, by tenant and id.
        self._shown: dict[str, dict[str, Call]] = {}
        #: Those that have left screens, and when.
        self._leaving: deque[tuple[datetime, Call]] = deque()

    def take(self, tenant: str, body: Any, *, at: datetime, now: datetime) -> Told:
        """*at* is when it happened, *now* when we learn of it."""
        self._forget_old(now)
        match body:
            case DialStateChanged():
                told = self._beside.dial(tenant, body, at)
            case AgentStatusSettled():
                told = self._beside.status(tenant, body)
            case _ if (call_id := getattr(body, "call_id", None)) is not None:
                told = self._of_call(self._call(tenant, call_id, now), body, at, now)
            case _:
                told = []
        return [(tenant, event) for event in told]

    def shown(self, tenant: str, extension: str | None, *, now: datetime) -> Iterator[AgentEvent]:
        """
        What a screen shows that connects now: what rings, the calls under way and their cards.
        *extension* None: of every agent.
        """
        for call in self._shown.get(tenant, {}).values():
            for pop in call.pops.values():
                if extension not in {None, pop.extension}:
                    continue
                yield call.opening(pop)
                if pop.answered:
                    yield call.answering(pop, None)
                if pop.card is not None:
                    yield call.as_shown(pop.card)
            for pop in call.after.values():
                if pop.card is None or not pop.stays or extension not in {None, pop.extension}:
                    continue
                card = call.as_shown(pop.card)
                if card.seen is None and not is_past(pop, CARD_STAYS, now):
                    yield card

    def silent_calls(self, tenant: str, *, since: datetime) -> list[str]:
        """Calls that ring or are under way, of which nothing was heard since then."""
        calls = self._shown.get(tenant, {}).values()
        return [call.call_id for call in calls if call.pops and call.heard_at < since]

    def knows(self, tenant: str, call_id: str) -> bool:
        return (tenant, call_id) in self._calls

    def card_id(self, tenant: str, call_id: str, extension: str) -> str | None:
        """Of the card that was opened last at this screen for this call."""
        call = self._calls.get((tenant, call_id))
        pop = (call.pops.get(extension) or call.after.get(extension)) if call else None
        return pop.card.id if pop is not None and pop.card is not None else None

    def caller_name(self, tenant: str, call_id: str) -> str | None:
        """As the PBX shows the caller of an incoming call."""
        call = self._calls.get((tenant, call_id))
        return call.caller_name if call is not None else None

    def _of_call(self, call: Call, body: Any, at: datetime, now: datetime) -> list[AgentEvent]:
        closings, call.heard_at = call.closings.total(), now
        told = self._telling.of_call(call, body, at, now)
        if call.pops or call.after:
            self._shown.setdefault(call.tenant, {})[call.call_id] = call
        if call.closings.total() > closings:
            self._leaving.append((now, call))
        return told

    def _call(self, tenant: str, call_id: str, now: datetime) -> Call:
        call = self._calls.setdefault((tenant, call_id), Call(tenant, call_id, now, now))
        while len(self._calls) > _CALLS:
            self._hide(self._calls.popitem(last=False)[1])
        return call

    def _hide(self, call: Call) -> None:
        of_tenant = self._shown.get(call.tenant, {})
        of_tenant.pop(call.call_id, None)
        if not of_tenant:
            self._shown.pop(call.tenant, None)

    def _forget_old(self, now: datetime) -> None:
        while self._leaving and now - self._leaving[0][0] > CARD_STAYS:
            _, call = self._leaving.popleft()
            call.after = {
                extension: pop
                for extension, pop in call.after.items()
                if not is_past(pop, CARD_STAYS, now)
            }
            if not call.pops and not call.after:
                self._hide(call)
        while self._calls:
            key, call = next(iter(self._calls.items()))
            if now - call.known_at < _LONGEST_CALL:
                return
            del self._calls[key]
            self._hide(call)
