"""
Of which calls a CRM is to show a card, to whom and when: a fold of the call's events, and what is
due by it. Pure.

Events come in any order and more than once. A phone is told of once for each time that it rings:
told, over, and ringing anew it is told of again. All times are those of the events, by one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
)
from shared.contracts.cards import CardMoment
from shared.contracts.dialing import DialStateChanged
from shared.moments import Instant
from shared.site.telling import PopMoment, PopupPolicy

#: A ring that is older when we come to it is over, or the phone has been looked at.
FRESH = timedelta(seconds=20)
#: A card that was left open is closed as long as somebody may still look at it.
_CLOSED_WITHIN = timedelta(minutes=10)
#: Phones of one call; a call that rings at more has another fault.
_MOST_PHONES = 500
_OUTCOMES = {
    LegOutcome.ANSWERED: Disposition.ANSWERED,
    LegOutcome.BUSY: Disposition.BUSY,
    LegOutcome.UNREACHABLE: Disposition.FAILED,
}


class PhoneFacts(BaseModel):
    """
    A phone of an agent. *told_at* is the ring or the answer of which the CRM was told, *closed_at*
    the one of those whose end it was told.
    """

    extension: str
    rang_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None
    outcome: LegOutcome | None = None
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
    phones: tuple[PhoneFacts, ...] = ()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCard:
    """What the CRM is to be told at once. *phones*: extension → since when its card is due."""

    moment: CardMoment
    phones: Mapping[str, datetime]
    disposition: Disposition | None = None


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
        case CallRinging():
            return _rang(facts, event.callee.extension, at, is_agent)
        case CallAnswered():
            return _answered(facts, event.callee.extension, at, is_agent)
        case LegEnded():
            return _leg_ended(facts, event, at, is_agent)
        case CallEnded():
            return facts.model_copy(
                update={
                    "ended_at": _later(facts.ended_at, at),
                    "disposition": event.disposition or facts.disposition,
                }
            )
    return facts


def _rang(
    facts: CardFacts, extension: str | None, at: datetime, is_agent: Callable[[str], bool]
) -> CardFacts:
    if extension is None:
        return facts.model_copy(update={"customer_rang_at": _first(facts.customer_rang_at, at)})
    if not is_agent(extension):
        return facts
    phone = facts.phone(extension)
    return _having(facts, phone, rang_at=_later(phone.rang_at, at))


def _answered(
    facts: CardFacts, extension: str | None, at: datetime, is_agent: Callable[[str], bool]
) -> CardFacts:
    if extension is None:
        known = facts.customer_answered_at
        return facts.model_copy(update={"customer_answered_at": _first(known, at)})
    if not is_agent(extension):
        return facts
    phone = facts.phone(extension)
    return _having(facts, phone, answered_at=_later(phone.answered_at, at))


def _leg_ended(
    facts: CardFacts, event: LegEnded, at: datetime, is_agent: Callable[[str], bool]
) -> CardFacts:
    extension = event.callee.extension
    if extension is None or not is_agent(extension):
        return facts
    phone = facts.phone(extension)
    if phone.ended_at is not None and phone.ended_at >= at:
        return facts
    return _having(facts, phone, ended_at=at, outcome=event.outcome)


def _having(
    facts: CardFacts, phone: PhoneFacts, *, is_due: bool = False, **changes: Any
) -> CardFacts:
    """*is_due*: however many there are, for what is told and not noted is told again at once."""
    changed = phone.model_copy(update=changes)
    others = tuple(one for one in facts.phones if one.extension != phone.extension)
    if changed == phone or (len(others) >= _MOST_PHONES and not is_due):
        return facts
    return facts.model_copy(update={"phones": (*others, changed)})


# -- what is due -----------------------------------------------------------------------------------


def due_cards(
    facts: CardFacts, popup: PopupPolicy, moments: Iterable[CardMoment], now: datetime
) -> list[DueCard]:
    """*moments*: those of which the CRM can be told."""
    known = frozenset(moments)
    # The directions of `popup` are of cards that we open: of a click, too, the CRM wants to hear.
    outside = facts.direction in {Direction.INBOUND, Direction.OUTBOUND}
    opening = list(_opening(facts, popup.moment, now)) if outside else []
    found: list[DueCard] = []
    for moment in (CardMoment.INCOMING, CardMoment.OUTGOING):
        phones = {extension: at for extension, which, at in opening if which is moment}
        if phones and moment in known:
            found.append(DueCard(moment=moment, phones=phones))
    if CardMoment.HANGUP in known:
        found += _closing(facts, frozenset(extension for extension, _, _ in opening), now)
    return found


def with_told(
    facts: CardFacts, card: DueCard, extensions: Iterable[str], *, failed: bool
) -> CardFacts:
    """*facts* once the CRM was told of *card* for these of its phones, or would not take it."""
    for extension in extensions:
        phone, at = facts.phone(extension), card.phones[extension]
        if card.moment is CardMoment.HANGUP:
            facts = _having(facts, phone, is_due=True, closed_at=at)
        else:
            facts = _having(facts, phone, is_due=True, told_at=at, failed=failed)
    return facts


def _opening(
    facts: CardFacts, moment: PopMoment, now: datetime
) -> Iterator[tuple[str, CardMoment, datetime]]:
    if facts.ended_at is not None:
        return
    phones = {phone.extension: phone for phone in facts.phones}
    if facts.direction is Direction.OUTBOUND and facts.caller is not None:
        phones.setdefault(facts.caller, PhoneFacts(extension=facts.caller))
    for extension, phone in phones.items():
        which, began = _began(facts, phone, moment)
        if began is None or now - began > FRESH or not _later_than(began, phone.ended_at):
            continue
        if phone.told_at is None or not _later_than(phone.told_at, phone.ended_at):
            yield extension, which, began


def _began(
    facts: CardFacts, phone: PhoneFacts, moment: PopMoment
) -> tuple[CardMoment, datetime | None]:
    """Which moment it is for this phone, and since when; None: not yet, or not any more."""
    if facts.direction is Direction.OUTBOUND and phone.extension == facts.caller:
        which, rang, answered = (
            CardMoment.OUTGOING,
            facts.customer_rang_at,
            facts.customer_answered_at,
        )
    else:
        which, rang, answered = CardMoment.INCOMING, phone.rang_at, phone.answered_at
    # One that was joined to the call has not rung for it.
    times = {PopMoment.RINGING: (rang, answered), PopMoment.ANSWERED: (answered,)}.get(moment, ())
    going_on = [at for at in times if at is not None and _later_than(at, phone.ended_at)]
    return which, going_on[0] if going_on else None


def _closing(facts: CardFacts, opening: frozenset[str], now: datetime) -> Iterator[DueCard]:
    """One for each way in which the phones' part ended."""
    over: dict[Disposition, dict[str, datetime]] = {}
    for phone in facts.phones:
        if phone.told_at is None or phone.told_at == phone.closed_at or phone.failed:
            continue
        ended = _over_at(facts, phone)
        if phone.extension in opening or ended is None or now - ended > _CLOSED_WITHIN:
            continue
        over.setdefault(_became(facts, phone), {})[phone.extension] = phone.told_at
    for disposition, phones in over.items():
        yield DueCard(moment=CardMoment.HANGUP, phones=phones, disposition=disposition)


def _over_at(facts: CardFacts, phone: PhoneFacts) -> datetime | None:
    if facts.ended_at is not None:
        return facts.ended_at
    seen = [at for at in (phone.rang_at, phone.answered_at, phone.told_at) if at is not None]
    if phone.ended_at is None or any(at > phone.ended_at for at in seen):
        return None
    return phone.ended_at


def _became(facts: CardFacts, phone: PhoneFacts) -> Disposition:
    """For who sits at this phone: a call that another took was missed here."""
    if facts.direction is Direction.OUTBOUND and phone.extension == facts.caller:
        if facts.customer_answered_at is not None:
            return Disposition.ANSWERED
        of_call = facts.disposition
        return of_call if of_call not in {None, Disposition.ANSWERED} else Disposition.MISSED
    spoke = phone.answered_at is not None and not (
        phone.told_at is not None and phone.answered_at < phone.told_at
    )
    if spoke:
        return Disposition.ANSWERED
    return _OUTCOMES.get(phone.outcome, Disposition.MISSED) if phone.outcome else Disposition.MISSED


def _first(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else min(known, at)


def _later(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else max(known, at)


def _later_than(at: datetime, ended: datetime | None) -> bool:
    return ended is None or at > ended
