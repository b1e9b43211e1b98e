"""What a call's events mean for the screens that it is on. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from services.gateway.domain.calls import OUTGOING_LEG, Call, Pop, SeenAt
from services.gateway.domain.cards import PopRules, card_of
from services.gateway.domain.events import AgentEvent, AgentEventKind, event_id
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    EndKnown,
    LegEnded,
    LegOutcome,
)
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.screens import PopSeen
from shared.moments import to_ms

#: A card that opens at the end waits so long for the CRM, and is shown so long to who comes later.
_CARD_WAITS = timedelta(minutes=1)
CARD_STAYS = timedelta(minutes=10)

_ENDED = "ended"
_TRANSFERRED = "transferred"


class Telling:
    """Changes the call that it is given."""

    def __init__(self, rules: PopRules) -> None:
        self._rules = rules

    def of_call(self, call: Call, body: Any, at: datetime, now: datetime) -> list[AgentEvent]:
        match body:
            case CallStarted():
                return self._started(call, body, at)
            case CallRinging():
                return self._ringing(call, body, at)
            case CallAnswered():
                return self._answered(call, body, at)
            case CallTransferred():
                return self._transferred(call, body, at)
            case LegEnded():
                return self._leg_ended(call, body, at)
            case CallEnded():
                return self._ended(call, body, at)
            case ContactResolved():
                return self._resolved(call, body, at, now)
            case ContactUnknown():
                return self._unknown(call, body, at, now)
            case PopSeen():
                return _seen(call, body, at)
        return []

    def _started(self, call: Call, body: CallStarted, at: datetime) -> list[AgentEvent]:
        call.direction = body.direction
        extension = body.caller.extension
        told: list[AgentEvent] = []
        if body.direction is Direction.INBOUND:
            call.caller_name = body.caller.name
        if body.direction is Direction.OUTBOUND:
            # By a click the agent's own phone rings first; nobody else is called before that.
            call.reached = call.reached or body.dial_id is None
            is_new = extension not in call.pops and not call.closings[extension or "", OUTGOING_LEG]
            if extension is not None and is_new:
                pop = Pop(
                    leg_id=OUTGOING_LEG,
                    extension=extension,
                    number=body.dialled,
                    name=None,
                    rang_at=at,
                    answered=call.outside_answered,
                )
                told = self._opened(call, pop, at)
        return [*told, *self._cards(call, at)]

    def _ringing(self, call: Call, body: CallRinging, at: datetime) -> list[AgentEvent]:
        extension = body.callee.extension
        if extension is None:
            call.reached = call.reached or not body.own_phone
            return self._cards(call, at)
        if body.own_phone:
            return []
        there, told = call.pops.get(extension), []
        if there is not None and there.outgoing:
            # Whom he called is put through to him: a call from outside like any other.
            told = self._closed(call, there, _TRANSFERRED, at)
        elif there is not None:
            return self._rings_anew(call, there, body, at)
        pop = Pop(
            leg_id=body.leg_id,
            extension=extension,
            number=body.caller.number,
            name=body.caller.name,
            queue=body.queue,
            rang_at=at,
            answered=body.leg_id in call.answered_legs,
        )
        return [*told, *self._opened(call, pop, at)]

    def _rings_anew(
        self, call: Call, there: Pop, body: CallRinging, at: datetime
    ) -> list[AgentEvent]:
        """Another device of his, or the end of its earlier leg is still on its way."""
        known = there.legs.get(body.leg_id)
        if call.ended_by(body.leg_id, at) or (known is not None and at <= known):
            return []
        there.legs[body.leg_id] = at
        talks_since = call.answered_legs.get(there.answered_leg or "", at)
        if body.leg_id == there.leg_id or at < max(there.rang_at, talks_since):
            return []
        there.leg_id, there.rang_at = body.leg_id, at
        there.ring = call.closings[there.extension, body.leg_id]
        there.answered = body.leg_id in call.answered_legs
        there.answered_leg = body.leg_id if there.answered else None
        told = [call.answering(there, at)] if there.answered else []
        return [*told, *self._cards(call, at)]

    def _answered(self, call: Call, body: CallAnswered, at: datetime) -> list[AgentEvent]:
        winner = body.callee.extension
        if body.own_phone or winner is None:
            call.reached = True
            return self._outside_answered(call, body, at)
        if not call.ended_by(body.leg_id, at):
            call.answered_legs[body.leg_id] = at
        told: list[AgentEvent] = []
        pop = call.pops.get(winner)
        if pop is None and body.caller is not None:
            # The call was handed to him: he was asked in another, and did not hear of this one.
            pop = Pop(
                leg_id=body.leg_id,
                extension=winner,
                number=body.caller.number,
                name=body.caller.name,
                rang_at=at,
                answered=True,
            )
            told = self._opened(call, pop, at)
        elif pop is not None and not pop.answered and pop.is_told_by(body.leg_id, at):
            pop.answered, pop.answered_leg = True, body.leg_id
            pop.legs.setdefault(body.leg_id, at)
            told = [call.answering(pop, at)]
        # In a transfer the one who asks and the one who is asked are both in the call; and who
        # began to ring after this answer did not lose by it.
        losers = [
            other
            for other in call.pops.values()
            if other.extension != winner
            and not (other.answered or other.outgoing or other.rang_at > at)
        ]
        for loser in losers:
            told += self._closed(call, loser, LegOutcome.ELSEWHERE, at)
        return [*told, *self._cards(call, at)]

    def _outside_answered(self, call: Call, body: CallAnswered, at: datetime) -> list[AgentEvent]:
        told: list[AgentEvent] = []
        if not body.own_phone:
            call.outside_answered = True
            for pop in call.pops.values():
                if pop.outgoing and not pop.answered:
                    pop.answered = True
                    told.append(call.answering(pop, at))
        return [*told, *self._cards(call, at)]

    def _transferred(self, call: Call, body: CallTransferred, at: datetime) -> list[AgentEvent]:
        """Who was called tells so by the end of his leg; who called has none."""
        pop = call.pops.get(body.by.extension or "")
        if pop is None or not pop.outgoing or at < pop.rang_at:
            return []
        return self._closed(call, pop, _TRANSFERRED, at)

    def _leg_ended(self, call: Call, body: LegEnded, at: datetime) -> list[AgentEvent]:
        extension = body.callee.extension
        reason = _ENDED if body.outcome is LegOutcome.ANSWERED else body.outcome.value
        pop = call.pops.get(extension) if extension else None
        elsewhere = body.outcome is LegOutcome.ELSEWHERE
        if body.own_phone:
            # One that was taken off is another device of who clicked.
            is_over = pop is not None and pop.outgoing and not elsewhere
            return self._closed(call, pop, reason, at) if pop is not None and is_over else []
        if pop is not None and pop.answered_leg == body.leg_id and elsewhere:
            # So is one whose leg has the name of that at which he talks.
            return []
        call.leg_ended(body.leg_id, at, reason)
        call.answered_legs.pop(body.leg_id, None)
        # By leg: after a transfer back the same phone rings again, under another leg.
        rang_at = pop.legs.get(body.leg_id) if pop is not None else None
        if pop is None or rang_at is None or at < rang_at:
            return []
        talks_on = pop.answered and pop.answered_leg != body.leg_id
        rings_on = not pop.answered and len(pop.legs) > 1
        if talks_on or rings_on:
            # Another device of his.
            del pop.legs[body.leg_id]
            return []
        return self._closed(call, pop, reason, at)

    def _ended(self, call: Call, body: CallEnded, at: datetime) -> list[AgentEvent]:
        # One that was given up after silence may go on all the same.
        call.over = call.over or body.known is not EndKnown.SILENCE
        told: list[AgentEvent] = []
        for pop in list(call.pops.values()):
            told += self._closed(call, pop, _ENDED, at)
        return told

    def _opened(self, call: Call, pop: Pop, at: datetime) -> list[AgentEvent]:
        pop.ring = call.closings[pop.extension, pop.leg_id]
        pop.legs[pop.leg_id] = pop.rang_at
        pop.answered_leg = pop.leg_id if pop.answered else None
        if call.ended_by(pop.leg_id, at):
            if pop.ring:
                return []
            # Another replica may have shown it in time, and its client be with us by now.
            ended_at, reason = call.ended_legs.get(pop.leg_id, (at, _ENDED))
            call.closings[pop.extension, pop.leg_id] += 1
            return [call.closing(pop, reason, ended_at)]
        call.pops[pop.extension] = pop
        told = [call.opening(pop)]
        if pop.answered:
            told.append(call.answering(pop, at))
        return [*told, *self._card(call, pop, at)]

    def _closed(self, call: Call, pop: Pop, reason: str, at: datetime) -> list[AgentEvent]:
        del call.pops[pop.extension]
        for leg_id in {pop.leg_id, *pop.legs}:
            call.closings[pop.extension, leg_id] += 1
            # Its ring may come once more, and is not to open it again.
            call.leg_ended(leg_id, at, reason)
        # Of our own clock: the PBX's may be hours away.
        pop.left_at = call.heard_at
        call.after[pop.extension] = pop
        return [call.closing(pop, reason, at), *self._card(call, pop, at)]

    # -- who it is ---------------------------------------------------------------------------

    def _resolved(
        self, call: Call, body: ContactResolved, at: datetime, now: datetime
    ) -> list[AgentEvent]:
        chosen = body.chosen_by is not None
        # A person knows better, whatever comes late; of two of a kind the later one counts.
        if call.chosen and not chosen:
            return []
        if call.chosen == chosen and call.contact_at is not None and at < call.contact_at:
            return []
        before = (call.contact, call.contact_known, call.candidates, call.ambiguous)
        call.contact, call.contact_known = body.contact, True
        call.candidates = body.candidates if len(body.candidates) > 1 else None
        call.ambiguous = body.ambiguous or None
        call.chosen, call.contact_at = chosen, at
        return self._contact_told(call, before, at, now)

    def _unknown(
        self, call: Call, body: ContactUnknown, at: datetime, now: datetime
    ) -> list[AgentEvent]:
        if call.chosen or (call.contact_at is not None and at <= call.contact_at):
            return []
        before = (call.contact, call.contact_known, call.candidates, call.ambiguous)
        call.contact, call.contact_known, call.contact_at = None, False, at
        call.unknown_number = body.number
        call.candidates = call.ambiguous = None
        return self._contact_told(call, before, at, now)

    def _contact_told(
        self, call: Call, before: tuple[Any, ...], at: datetime, now: datetime
    ) -> list[AgentEvent]:
        if before == (call.contact, call.contact_known, call.candidates, call.ambiguous):
            return []
        told = [call.telling_contact(pop) for pop in call.pops.values()]
        told += self._cards(call, at)
        for pop in call.after.values():
            # Its card opens at the end, for which the CRM was too slow.
            if not is_past(pop, CARD_STAYS if pop.card else _CARD_WAITS, now):
                told += self._card(call, pop, at)
        return told

    def _cards(self, call: Call, at: datetime) -> list[AgentEvent]:
        return [card for pop in call.pops.values() for card in self._card(call, pop, at)]

    def _card(self, call: Call, pop: Pop, at: datetime) -> list[AgentEvent]:
        card = card_of(call, pop, self._rules, at=at)
        return [card] if card else []


def _seen(call: Call, body: PopSeen, at: datetime) -> list[AgentEvent]:
    last = call.seen.get(body.extension)
    now = SeenAt(body.seen, body.pop_id, at)
    if last is not None and (at < last.at or (now.seen, now.pop_id) == (last.seen, last.pop_id)):
        return []
    call.seen[body.extension] = now
    return [
        AgentEvent(
            kind=AgentEventKind.SEEN,
            id=event_id(call.tenant, call.call_id, body.extension, body.seen, str(to_ms(at))),
            at=at,
            extension=body.extension,
            call_id=call.call_id,
            seen=body.seen,
        )
    ]


def is_past(pop: Pop, span: timedelta, now: datetime) -> bool:
    """Whether its part in the call has been over for longer than *span*."""
    return pop.left_at is not None and now - pop.left_at > span
