"""Which cards a CRM is to show or close by what is known of a call: what, to whom, since when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.lookup.card_facts import CardFacts, LegFacts, PhoneFacts, having
from shared.contracts.calls import Direction, Disposition, LegOutcome
from shared.contracts.cards import CardMoment
from shared.site.telling import PopMoment, PopupPolicy

#: A ring that is older when we come to it is over, or the phone has been looked at.
FRESH = timedelta(seconds=20)
#: A card that was left open is closed as long as somebody may still look at it.
_CLOSED_WITHIN = timedelta(minutes=10)
_OUTCOMES = {
    LegOutcome.ANSWERED: Disposition.ANSWERED,
    LegOutcome.BUSY: Disposition.BUSY,
    LegOutcome.UNREACHABLE: Disposition.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCard:
    """What the CRM is to be told at once. *phones*: extension → since when its card is due."""

    moment: CardMoment
    phones: Mapping[str, datetime]
    disposition: Disposition | None = None


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
            facts = having(facts, phone, is_due=True, closed_at=at)
        else:
            facts = having(facts, phone, is_due=True, told_at=at, failed=failed)
    return facts


def still_shown(facts: CardFacts) -> frozenset[str]:
    """Phones whose card is there and has to stay."""
    return frozenset(
        phone.extension
        for phone in facts.phones
        if _has_card(phone) and _over_at(facts, phone) is None
    )


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
        if began is None or now - began > FRESH:
            continue
        if phone.told_at is None or not _later_than(phone.told_at, _ended(facts, phone)):
            yield extension, which, began


def _began(
    facts: CardFacts, phone: PhoneFacts, moment: PopMoment
) -> tuple[CardMoment, datetime | None]:
    """Which moment it is for this phone, and since when; None: not yet, or not any more."""
    if _is_calling(facts, phone):
        own = (facts.customer_rang_at, facts.customer_answered_at)
        return CardMoment.OUTGOING, _goes_on(own, _ended(facts, phone), moment)
    found = [
        _goes_on((leg.rang_at, leg.answered_at), _leg_over_at(facts, leg), moment)
        for leg in phone.legs
    ]
    return CardMoment.INCOMING, max((at for at in found if at is not None), default=None)


def _goes_on(
    seen: tuple[datetime | None, datetime | None], ended: datetime | None, moment: PopMoment
) -> datetime | None:
    """*seen*: the ring and the answer; that of them which is *moment*, unless it ended by now."""
    rang, answered = seen
    # One that was joined to the call has not rung for it.
    times = {PopMoment.RINGING: (rang, answered), PopMoment.ANSWERED: (answered,)}.get(moment, ())
    return next((at for at in times if at is not None and _later_than(at, ended)), None)


def _closing(facts: CardFacts, opening: frozenset[str], now: datetime) -> Iterator[DueCard]:
    """One for each way in which the phones' part ended."""
    over: dict[Disposition, dict[str, datetime]] = {}
    for phone in facts.phones:
        ended, told_at = _over_at(facts, phone), phone.told_at
        if told_at is None or not _has_card(phone) or phone.extension in opening:
            continue
        if ended is not None and now - ended <= _CLOSED_WITHIN:
            over.setdefault(_became(facts, phone), {})[phone.extension] = told_at
    for disposition, phones in over.items():
        yield DueCard(moment=CardMoment.HANGUP, phones=phones, disposition=disposition)


def _has_card(phone: PhoneFacts) -> bool:
    return phone.told_at is not None and phone.told_at != phone.closed_at and not phone.failed


def _became(facts: CardFacts, phone: PhoneFacts) -> Disposition:
    """For who sits at this phone: a call that another took was missed here."""
    if _is_calling(facts, phone):
        if facts.customer_answered_at is not None:
            return Disposition.ANSWERED
        # The call's own end comes behind that of its legs.
        of_call = facts.disposition or _word_for(facts.customer_outcome)
        return of_call if of_call is not Disposition.ANSWERED else Disposition.MISSED
    answers = (leg.answered_at for leg in phone.legs if leg.answered_at is not None)
    if any(phone.told_at is None or at >= phone.told_at for at in answers):
        return Disposition.ANSWERED
    ends = [(over, leg) for leg in phone.legs if (over := _leg_over_at(facts, leg)) is not None]
    over, last = max(ends, key=lambda one: one[0], default=(None, None))
    return _word_for(last.outcome if last is not None and last.ended_at == over else None)


def _word_for(outcome: LegOutcome | None) -> Disposition:
    return _OUTCOMES.get(outcome, Disposition.MISSED) if outcome else Disposition.MISSED


# -- when it is over -------------------------------------------------------------------------------


def _over_at(facts: CardFacts, phone: PhoneFacts) -> datetime | None:
    """None: it rings, or talks."""
    if facts.ended_at is not None:
        return facts.ended_at
    if not _is_calling(facts, phone) and _going_on(facts, phone):
        return None
    ended = _ended(facts, phone)
    if ended is None or (phone.told_at is not None and phone.told_at > ended):
        return None
    return ended


def _ended(facts: CardFacts, phone: PhoneFacts) -> datetime | None:
    """When his part was over the last time, before what goes on there by now."""
    left_at = phone.left_at if phone.extension == facts.caller else None
    if _is_calling(facts, phone):
        ends, going_on = [leg.ended_at for leg in phone.legs], []
    else:
        ends = [_leg_over_at(facts, leg) for leg in phone.legs]
        going_on = _going_on(facts, phone)
    before = (at for at in (*ends, left_at) if at is not None and all(at < on for on in going_on))
    return max(before, default=None)


def _going_on(facts: CardFacts, phone: PhoneFacts) -> list[datetime]:
    """Rings and answers at this phone that are not over."""
    return [
        at
        for leg in phone.legs
        for over in [_leg_over_at(facts, leg)]
        for at in (leg.rang_at, leg.answered_at)
        if at is not None and _later_than(at, over)
    ]


def _leg_over_at(facts: CardFacts, leg: LegFacts) -> datetime | None:
    if leg.answered_at is not None and _later_than(leg.answered_at, leg.ended_at):
        # What was taken off is another device, whose leg has the same name.
        return leg.ended_at
    ends = (leg.ended_at, leg.elsewhere_at, _lost_at(facts, leg))
    return max((at for at in ends if at is not None), default=None)


def _lost_at(facts: CardFacts, leg: LegFacts) -> datetime | None:
    """When another was faster: not every PBX tells the end of a leg that only rang."""
    rang, answered = leg.rang_at, leg.answered_at
    if rang is None or (answered is not None and answered >= rang):
        return None
    return next((at for at in facts.answers if at >= rang), None)


def _is_calling(facts: CardFacts, phone: PhoneFacts) -> bool:
    """Whether he is in the call as who made it: it may come back to him who passed it on."""
    if facts.direction is not Direction.OUTBOUND or phone.extension != facts.caller:
        return False
    rings = (leg.rang_at for leg in phone.legs if leg.rang_at is not None)
    return phone.left_at is None or not any(at > phone.left_at for at in rings)


def _later_than(at: datetime, ended: datetime | None) -> bool:
    return ended is None or at > ended
