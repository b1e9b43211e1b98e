"""
The screens of one process: who rings at whom, and what is known of the caller. Pure.

Events come in any order; a pop is keyed by call and extension. It opens when the phone rings,
learns the contact when the CRM has answered, and closes when another agent is faster, the caller
gives up or the call ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    EndKnown,
    LegEnded,
    LegOutcome,
)
from shared.contracts.contacts import ContactCard, ContactResolved, ContactUnknown
from shared.contracts.dialing import (
    DialReason,
    DialState,
    DialStateChanged,
    DialStep,
    is_news,
)

#: Calls remembered; a call that never ends (its end was lost) goes after a while.
_CALLS = 20_000
_LONGEST_CALL = timedelta(hours=6)


class AgentEventKind(StrEnum):
    RINGING = "ringing"
    CONTACT = "contact"
    ANSWERED = "answered"
    CLOSED = "closed"
    DIAL = "dial"


class AgentEvent(BaseModel):
    """What an agent's screen is told. ``call_id`` says which pop it is about."""

    kind: AgentEventKind
    extension: str
    call_id: str | None = None
    caller_number: str | None = None
    caller_name: str | None = None
    queue: str | None = None
    contact: ContactCard | None = Field(
        default=None, description="ringing, contact: the caller's card, as soon as it is known."
    )
    contact_known: bool | None = Field(
        default=None, description="False: the CRM was asked and does not know the number."
    )
    candidates: tuple[ContactCard, ...] | None = Field(
        default=None, description="Where several match: all, likeliest first."
    )
    ambiguous: bool | None = Field(
        default=None,
        description="True: the agent has to choose among `candidates`; `contact` is the first.",
    )
    reason: str | None = Field(default=None, description="closed: why.")
    dial_id: str | None = None
    dial_state: DialState | None = None
    dial_reason: DialReason | None = None

    @property
    def event_name(self) -> str:
        """The name of the server-sent event."""
        return self.kind.value


@dataclass(slots=True)
class _Pop:
    leg_id: str
    extension: str
    caller_number: str | None
    caller_name: str | None
    queue: str | None
    answered: bool = False


@dataclass(slots=True)
class _Call:
    seen_at: datetime
    pops: dict[str, _Pop] = field(default_factory=dict)
    contact: ContactCard | None = None
    contact_known: bool | None = None
    #: Where several match.
    candidates: tuple[ContactCard, ...] | None = None
    ambiguous: bool | None = None
    #: When a person said who it is.
    chosen_at: datetime | None = None
    #: When legs ended: a ring of theirs that comes late opens nothing. Not every PBX has ids for
    #: legs, so one that is told by its extension may ring again.
    ended_legs: dict[str, datetime] = field(default_factory=dict)
    #: Legs whose answer came, perhaps before their ring did.
    answered_legs: set[str] = field(default_factory=set)
    over: bool = False


Told = list[tuple[str, AgentEvent]]


class PopBoard:
    """``take`` an event, get what to tell whom: pairs of tenant and event."""

    def __init__(self) -> None:
        self._calls: OrderedDict[tuple[str, str], _Call] = OrderedDict()
        self._dials: OrderedDict[tuple[str, str], DialStep] = OrderedDict()

    def take(self, tenant: str, body: Any, *, at: datetime, now: datetime) -> Told:
        """*at* is when it happened, *now* when we learn of it."""
        self._forget_old(now)
        match body:
            case CallRinging():
                told = self._ringing(tenant, body, at, now)
            case CallAnswered():
                told = self._answered(tenant, body, now)
            case LegEnded():
                told = self._leg_ended(tenant, body, at, now)
            case CallEnded():
                told = self._ended(tenant, body, now)
            case ContactResolved():
                told = self._resolved(tenant, body, at, now)
            case ContactUnknown():
                told = self._unknown(tenant, body, now)
            case DialStateChanged():
                told = self._dial(tenant, body)
            case _:
                told = []
        return [(tenant, event) for event in told]

    def open_pops(self, tenant: str, extension: str) -> Iterator[AgentEvent]:
        """What an agent's screen shows who connects now: what rings, and the call he is in."""
        for (whose, call_id), call in self._calls.items():
            if whose == tenant and extension in call.pops:
                pop = call.pops[extension]
                yield _ringing_event(call_id, call, pop)
                if pop.answered:
                    yield _answered_event(call_id, extension)

    def _call(self, tenant: str, call_id: str, now: datetime) -> _Call:
        call = self._calls.setdefault((tenant, call_id), _Call(now))
        while len(self._calls) > _CALLS:
            self._calls.popitem(last=False)
        return call

    def _ringing(
        self, tenant: str, body: CallRinging, at: datetime, now: datetime
    ) -> list[AgentEvent]:
        extension = body.callee.extension
        call = self._call(tenant, body.call_id, now)
        ended_at = call.ended_legs.get(body.leg_id)
        late = call.over or (ended_at is not None and at <= ended_at)
        if extension is None or body.own_phone or late:
            return []
        if extension in call.pops:
            # The same phone rings anew, and the end of its earlier leg is still on its way.
            call.pops[extension].leg_id = body.leg_id
            call.pops[extension].answered = False
            return []
        pop = _Pop(body.leg_id, extension, body.caller.number, body.caller.name, body.queue)
        call.pops[extension] = pop
        told = [_ringing_event(body.call_id, call, pop)]
        if body.leg_id in call.answered_legs:
            pop.answered = True
            told.append(_answered_event(body.call_id, extension))
        return told

    def _resolved(
        self, tenant: str, body: ContactResolved, at: datetime, now: datetime
    ) -> list[AgentEvent]:
        call = self._call(tenant, body.call_id, now)
        # A person knows better, whatever comes late; of two choices the later one counts.
        if call.chosen_at is not None and (body.chosen_by is None or at < call.chosen_at):
            return []
        call.contact, call.contact_known = body.contact, True
        call.candidates = body.candidates if len(body.candidates) > 1 else None
        call.ambiguous = body.ambiguous or None
        call.chosen_at = at if body.chosen_by is not None else None
        return _contact_events(body.call_id, call)

    def _unknown(self, tenant: str, body: ContactUnknown, now: datetime) -> list[AgentEvent]:
        call = self._call(tenant, body.call_id, now)
        if call.chosen_at is not None:
            return []
        call.contact, call.contact_known = None, False
        call.candidates = call.ambiguous = None
        return _contact_events(body.call_id, call)

    def _answered(self, tenant: str, body: CallAnswered, now: datetime) -> list[AgentEvent]:
        call = self._call(tenant, body.call_id, now)
        winner = body.callee.extension
        if body.own_phone or winner is None:
            return []
        call.answered_legs.add(body.leg_id)
        told = []
        if winner not in call.pops and body.caller is not None and not call.over:
            # The call was handed to him: he was asked in another, and did not hear of this one.
            pop = _Pop(body.leg_id, winner, body.caller.number, body.caller.name, None)
            call.pops[winner] = pop
            told.append(_ringing_event(body.call_id, call, pop))
        if winner in call.pops:
            call.pops[winner].answered = True
            told.append(_answered_event(body.call_id, winner))
        # In a transfer the one who asks and the one who is asked are both in the call.
        losers = [other for other, pop in call.pops.items() if other != winner and not pop.answered]
        told += [_closed(call, body.call_id, loser, LegOutcome.ELSEWHERE) for loser in losers]
        return told

    def _leg_ended(
        self, tenant: str, body: LegEnded, at: datetime, now: datetime
    ) -> list[AgentEvent]:
        call = self._call(tenant, body.call_id, now)
        call.ended_legs[body.leg_id] = at
        call.answered_legs.discard(body.leg_id)
        extension = body.callee.extension
        pop = call.pops.get(extension) if extension else None
        # By leg: after a transfer back the same phone rings again, under another leg.
        if extension is None or pop is None or pop.leg_id != body.leg_id:
            return []
        reason = "ended" if body.outcome is LegOutcome.ANSWERED else body.outcome.value
        return [_closed(call, body.call_id, extension, reason)]

    def _ended(self, tenant: str, body: CallEnded, now: datetime) -> list[AgentEvent]:
        call = self._call(tenant, body.call_id, now)
        # One that was given up after silence may go on all the same.
        call.over = call.over or body.known is not EndKnown.SILENCE
        return [_closed(call, body.call_id, extension, "ended") for extension in list(call.pops)]

    def _dial(self, tenant: str, body: DialStateChanged) -> list[AgentEvent]:
        """A state that was overtaken on its way is no news."""
        key, step = (tenant, body.dial_id), (body.state, body.reason)
        last = self._dials.get(key)
        if last is not None and not is_news(step, after=last):
            return []
        self._dials[key] = step
        while len(self._dials) > _CALLS:
            self._dials.popitem(last=False)
        return [
            AgentEvent(
                kind=AgentEventKind.DIAL,
                extension=body.extension,
                call_id=body.call_id,
                dial_id=body.dial_id,
                dial_state=body.state,
                dial_reason=body.reason,
            )
        ]

    def _forget_old(self, now: datetime) -> None:
        while self._calls:
            key, call = next(iter(self._calls.items()))
            if now - call.seen_at < _LONGEST_CALL:
                return
            del self._calls[key]


def _ringing_event(call_id: str, call: _Call, pop: _Pop) -> AgentEvent:
    return AgentEvent(
        kind=AgentEventKind.RINGING,
        extension=pop.extension,
        call_id=call_id,
        caller_number=pop.caller_number,
        caller_name=pop.caller_name,
        queue=pop.queue,
        contact=call.contact,
        contact_known=call.contact_known,
        candidates=call.candidates,
        ambiguous=call.ambiguous,
    )


def _contact_events(call_id: str, call: _Call) -> list[AgentEvent]:
    return [
        AgentEvent(
            kind=AgentEventKind.CONTACT,
            extension=extension,
            call_id=call_id,
            contact=call.contact,
            contact_known=call.contact_known,
            candidates=call.candidates,
            ambiguous=call.ambiguous,
        )
        for extension in call.pops
    ]


def _answered_event(call_id: str, extension: str) -> AgentEvent:
    return AgentEvent(kind=AgentEventKind.ANSWERED, extension=extension, call_id=call_id)


def _closed(call: _Call, call_id: str, extension: str, reason: str) -> AgentEvent:
    del call.pops[extension]
    return AgentEvent(
        kind=AgentEventKind.CLOSED, extension=extension, call_id=call_id, reason=str(reason)
    )
