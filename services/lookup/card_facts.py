"""
What is known of a call for which a CRM may show cards: a fold of the call's events. Pure.

Events come in any order and more than once. A phone is told of once for each time that it rings:
told, over, and ringing anew it is told of again. It may be several devices, and a leg of the call
is at one of them: it is over when the last of its legs is. All times are those of the events, by
one clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
)
from shared.contracts.dialing import DialStateChanged
from shared.moments import Instant

#: Phones of one call; a call that rings at more has another fault.
_MOST_PHONES = 500
#: Legs at one phone; a queue that rings it anew makes another each time.
_MOST_LEGS = 20
_MOST_ANSWERS = 100

_OfLeg = CallRinging | CallAnswered | LegEnded


class LegFacts(BaseModel):
    """A ring at one device. Where a PBX names legs by their phones, all that there was at it."""

    leg_id: str
    rang_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None
    outcome: LegOutcome | None = None
    #: When it was taken off, as a colleague or another device was faster.
    elsewhere_at: Instant | None = None


class PhoneFacts(BaseModel):
    """
    A phone of an agent. *told_at* is the ring or the answer of which the CRM was told, *closed_at*
    the one of those whose end it was told.
    """

    extension: str
    legs: tuple[LegFacts, ...] = ()
    #: Of who calls: when he passed the call on, or his own phone was hung up.
    left_at: Instant | None = None
    told_at: Instant | None = None
    closed_at: Instant | None = None
    #: The CRM did not take it: there is nothing to be closed.
    failed: bool = False


class CardFacts(BaseModel):
    """What is known of a call. *caller* is the agent's phone of an outbound one."""

    direction: Direction | None = None
    number: str | None = None
    dialled: str | None = None
    caller: str | None = None
    #: What the customer of a click sees, as its order says.
    caller_id: str | None = None
    #: Of an outbound call: when the other side rang, and answered.
    customer_rang_at: Instant | None = None
    customer_answered_at: Instant | None = None
    #: What became of the line outside that ended last.
    customer_ended_at: Instant | None = None
    customer_outcome: LegOutcome | None = None
    phones: tuple[PhoneFacts, ...] = ()
    #: When phones of ours answered, in order, whoever's they are.
    answers: tuple[Instant, ...] = ()
    ended_at: Instant | None = None
    disposition: Disposition | None = None

    def phone(self, extension: str) -> PhoneFacts:
        return next(
            (one for one in self.phones if one.extension == extension),
            PhoneFacts(extension=extension),
        )

    @property
    def outside_number(self) -> str | None:
        return self.dialled if self.direction is Direction.OUTBOUND else self.number


# -- what is known ---------------------------------------------------------------------------------


def with_event(
    facts: CardFacts, event: Any, at: datetime, is_agent: Callable[[str], bool]
) -> CardFacts:
    """*facts* and what *event* says; the same, where it says nothing new."""
    match event:
        case CallStarted():
            phone = event.caller.extension
            return facts.model_copy(
                update={
                    "direction": event.direction,
                    "number": event.caller.number,
                    "dialled": event.dialled,
                    "caller": facts.caller or (phone if phone and is_agent(phone) else None),
                }
            )
        case DialStateChanged():
            return facts.model_copy(update={"caller_id": event.caller_id or facts.caller_id})
        case CallRinging() | CallAnswered() if event.own_phone:
            phone = event.callee.extension
            return facts.model_copy(
                update={"caller": phone if phone and is_agent(phone) else facts.caller}
            )
        case CallRinging() | CallAnswered() | LegEnded():
            phone = event.callee.extension
            if phone is None:
                return _outside(facts, event, at)
            if isinstance(event, CallAnswered):
                answers = sorted({*facts.answers, at})[-_MOST_ANSWERS:]
                facts = facts.model_copy(update={"answers": tuple(answers)})
            return _at_phone(facts, facts.phone(phone), event, at) if is_agent(phone) else facts
        case CallTransferred():
            # Who called has no leg whose end would tell that he is out of the call.
            phone = event.by.extension
            return _left(facts, facts.phone(phone), at) if phone and is_agent(phone) else facts
        case CallEnded():
            return facts.model_copy(
                update={
                    "ended_at": _later(facts.ended_at, at),
                    "disposition": event.disposition or facts.disposition,
                }
            )
    return facts


def _outside(facts: CardFacts, event: _OfLeg, at: datetime) -> CardFacts:
    known = facts.customer_ended_at
    match event:
        case CallRinging():
            update: dict[str, Any] = {"customer_rang_at": _first(facts.customer_rang_at, at)}
        case CallAnswered():
            update = {"customer_answered_at": _first(facts.customer_answered_at, at)}
        case LegEnded(own_phone=False) if known is None or at > known:
            update = {"customer_ended_at": at, "customer_outcome": event.outcome}
        case _:
            return facts
    return facts.model_copy(update=update)


def _at_phone(facts: CardFacts, phone: PhoneFacts, event: _OfLeg, at: datetime) -> CardFacts:
    known = next((leg for leg in phone.legs if leg.leg_id == event.leg_id), None)
    leg = known or LegFacts(leg_id=event.leg_id)
    match event:
        case CallRinging():
            update: dict[str, Any] = {"rang_at": _later(leg.rang_at, at)}
        case CallAnswered():
            update = {"answered_at": _later(leg.answered_at, at)}
        case LegEnded(own_phone=True):
            # One that was taken off is another device of who clicked.
            is_over = event.outcome is not LegOutcome.ELSEWHERE
            return _left(facts, phone, at) if is_over else facts
        case LegEnded(outcome=LegOutcome.ELSEWHERE):
            update = {"elsewhere_at": _later(leg.elsewhere_at, at)}
        case _ if leg.ended_at is None or at > leg.ended_at:
            update = {"ended_at": at, "outcome": event.outcome}
        case _:
            return facts
    others = [one for one in phone.legs if one.leg_id != leg.leg_id]
    newest = sorted([*others, leg.model_copy(update=update)], key=_last_seen)[-_MOST_LEGS:]
    return having(facts, phone, legs=tuple(sorted(newest, key=lambda one: one.leg_id)))


def _last_seen(leg: LegFacts) -> datetime:
    seen = (leg.rang_at, leg.answered_at, leg.ended_at, leg.elsewhere_at)
    return max(at for at in seen if at is not None)


def _left(facts: CardFacts, phone: PhoneFacts, at: datetime) -> CardFacts:
    return having(facts, phone, left_at=_later(phone.left_at, at))


def having(
    facts: CardFacts, phone: PhoneFacts, *, is_due: bool = False, **changes: Any
) -> CardFacts:
    """*is_due*: however many there are, for what is told and not noted is told again at once."""
    changed = phone.model_copy(update=changes)
    others = tuple(one for one in facts.phones if one.extension != phone.extension)
    if changed == phone or (len(others) >= _MOST_PHONES and not is_due):
        return facts
    return facts.model_copy(update={"phones": (*others, changed)})


def _first(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else min(known, at)


def _later(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else max(known, at)
