"""Which cards a CRM is to show: whatever the order in which a call's events come."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.lookup.card_due import FRESH, due_cards, still_shown, with_told
from services.lookup.card_facts import CardFacts, with_event
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
    Party,
    TransferKind,
)
from shared.contracts.cards import CardMoment
from shared.site.telling import PopMoment, PopupPolicy
from shared.testing.builders import NOON, a_call

IN, OUT, HANGUP = CardMoment.INCOMING, CardMoment.OUTGOING, CardMoment.HANGUP
RINGING = PopupPolicy(directions=(Direction.INBOUND, Direction.OUTBOUND))
ANSWERED = RINGING.model_copy(update={"moment": PopMoment.ANSWERED})
CUSTOMER = Party(number="447700900123")
OUTWARD = a_call(
    direction=Direction.OUTBOUND, caller=Party(extension="101"), dialled="+447700900123"
)
Seen = tuple[Any, float]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def rings(phone: str | None, leg: str = "", *, own: bool = False) -> CallRinging:
    callee = Party(extension=phone) if phone else CUSTOMER
    return CallRinging(
        call_id="c1",
        pbx="main",
        leg_id=leg or f"leg-{phone}",
        callee=callee,
        caller=CUSTOMER,
        own_phone=own,
    )


def answers(phone: str | None, leg: str = "", *, own: bool = False) -> CallAnswered:
    callee = Party(extension=phone) if phone else CUSTOMER
    return CallAnswered(
        call_id="c1", pbx="main", leg_id=leg or f"leg-{phone}", callee=callee, own_phone=own
    )


def ends(
    phone: str | None,
    outcome: LegOutcome = LegOutcome.NO_ANSWER,
    leg: str = "",
    *,
    own: bool = False,
) -> LegEnded:
    return LegEnded(
        call_id="c1",
        pbx="main",
        leg_id=leg or f"leg-{phone}",
        callee=Party(extension=phone) if phone else CUSTOMER,
        outcome=outcome,
        own_phone=own,
    )


def passes_on(by: str, to: str) -> CallTransferred:
    return CallTransferred(
        call_id="c1",
        pbx="main",
        kind=TransferKind.BLIND,
        by=Party(extension=by),
        to=Party(extension=to),
    )


def over(disposition: Disposition | None = None) -> CallEnded:
    return CallEnded(call_id="c1", pbx="main", disposition=disposition)


def is_agent(extension: str) -> bool:
    return extension.startswith("1")


def after(*seen: Seen, known: CardFacts | None = None) -> CardFacts:
    facts = known or CardFacts()
    for event, seconds in seen:
        facts = with_event(facts, event, at(seconds), is_agent)
    return facts


Due = list[tuple[CardMoment, set[str], Disposition | None]]


def due(facts: CardFacts, seconds: float, popup: PopupPolicy = RINGING) -> Due:
    found = due_cards(facts, popup, CardMoment, at(seconds))
    return [(one.moment, set(one.phones), one.disposition) for one in found]


def tell(
    facts: CardFacts, seconds: float, popup: PopupPolicy = RINGING, *, failed: bool = False
) -> tuple[CardFacts, Due]:
    """All that is due, told at once."""
    found = due(facts, seconds, popup)
    for card in due_cards(facts, popup, CardMoment, at(seconds)):
        facts = with_told(facts, card, card.phones, failed=failed)
    assert due(facts, seconds, popup) == []
    return facts, found


STARTED: Seen = (a_call(), 0)


def test_phones_that_ring_are_told_of_together_and_once() -> None:
    facts = after(STARTED, *((rings(f"1{n:02}"), 1 + n / 1000) for n in range(20)))
    facts, told = tell(facts, 1.1)
    assert told == [(IN, {f"1{n:02}" for n in range(20)}, None)]
    again = after(*((rings(f"1{n:02}"), 1 + n / 1000) for n in range(20)), known=facts)
    assert due(again, 2) == []


def test_who_answers_keeps_the_card_and_the_others_lose_it() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (rings("102"), 1)), 1)
    facts = after((answers("101"), 4), (ends("102", LegOutcome.ELSEWHERE), 4.1), known=facts)
    facts, told = tell(facts, 5)
    assert told == [(HANGUP, {"102"}, Disposition.MISSED)]
    facts, told = tell(after((ends("101", LegOutcome.ANSWERED), 60), known=facts), 60)
    assert told == [(HANGUP, {"101"}, Disposition.ANSWERED)]
    assert due(after((over(Disposition.ANSWERED), 60.1), known=facts), 61) == []


@pytest.mark.parametrize(
    ("outcome", "became"),
    [
        (LegOutcome.BUSY, Disposition.BUSY),
        (LegOutcome.UNREACHABLE, Disposition.FAILED),
        (LegOutcome.NO_ANSWER, Disposition.MISSED),
        (LegOutcome.CANCELLED, Disposition.MISSED),
        (LegOutcome.ANSWERED, Disposition.ANSWERED),
    ],
)
def test_the_end_says_what_became_of_it_at_this_phone(
    outcome: LegOutcome, became: Disposition
) -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1)
    assert due(after((ends("101", outcome), 9), known=facts), 9) == [(HANGUP, {"101"}, became)]


def test_a_call_that_ends_closes_what_is_open_whoever_was_told() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (rings("102"), 1)), 1)
    facts = after((answers("102"), 3), (over(), 50), known=facts)
    assert due(facts, 50) == [
        (HANGUP, {"101"}, Disposition.MISSED),
        (HANGUP, {"102"}, Disposition.ANSWERED),
    ]


def test_a_phone_that_rings_anew_is_told_of_anew() -> None:
    """A queue rings it again after a pause; and so does a transfer back."""
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1)
    facts, told = tell(after((ends("101"), 16), known=facts), 16)
    assert told == [(HANGUP, {"101"}, Disposition.MISSED)]
    facts, told = tell(after((rings("101", "leg-2"), 21), known=facts), 21)
    assert told == [(IN, {"101"}, None)]
    assert due(after((rings("101", "leg-2"), 22), known=facts), 22) == []


def test_one_that_rings_anew_before_its_end_was_told_keeps_its_card() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1)
    facts = after((rings("101", "leg-2"), 17), (ends("101"), 16), known=facts)
    assert due(facts, 17) == [(IN, {"101"}, None)]


def test_a_transfer_shows_the_card_to_the_next_agent() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (answers("101"), 3)), 3)
    facts = after((rings("102"), 30), (ends("101", LegOutcome.ANSWERED), 30.1), known=facts)
    assert due(facts, 30.2) == [(IN, {"102"}, None), (HANGUP, {"101"}, Disposition.ANSWERED)]


def test_one_who_was_asked_first_and_then_joined_sees_it_when_he_is_there() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (answers("101"), 3)), 3)
    assert due(after((answers("102"), 40), known=facts), 40) == [(IN, {"102"}, None)]


def test_a_ring_that_is_old_when_we_come_to_it_is_dropped() -> None:
    facts = after(STARTED, (rings("101"), 1))
    late = 1 + FRESH.total_seconds()
    assert due(facts, late) == [(IN, {"101"}, None)]
    assert due(facts, late + 0.1) == []
    # Nothing is open, so nothing is closed.
    assert due(after((ends("101"), late + 1), known=facts), late + 1) == []


def test_a_card_that_was_left_open_is_closed_for_ten_minutes() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1)
    facts = after((over(), 30), known=facts)
    assert due(facts, 30 + 600)
    assert not due(facts, 30 + 601)


def test_what_the_crm_did_not_take_is_not_told_again_nor_closed() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1, failed=True)
    assert due(after((ends("101"), 9), (over(), 10), known=facts), 10) == []


def test_shown_at_the_answer_only_who_answers_sees_it() -> None:
    facts = after(STARTED, (rings("101"), 1), (rings("102"), 1))
    assert due(facts, 2, ANSWERED) == []
    facts = after((answers("102"), 5), known=facts)
    facts, told = tell(facts, 5, ANSWERED)
    assert told == [(IN, {"102"}, None)]
    facts = after((ends("101", LegOutcome.ELSEWHERE), 5), (over(), 60), known=facts)
    assert due(facts, 60, ANSWERED) == [(HANGUP, {"102"}, Disposition.ANSWERED)]


def test_shown_at_the_end_the_crm_is_told_nothing() -> None:
    popup = RINGING.model_copy(update={"moment": PopMoment.ENDED})
    facts = after(STARTED, (rings("101"), 1), (answers("101"), 2), (over(), 9))
    assert due(facts, 9, popup) == []


@pytest.mark.parametrize("started", [a_call(direction=Direction.INTERNAL), None])
def test_of_a_call_inside_and_of_one_of_which_nothing_is_known_no_card_is_shown(
    started: CallStarted | None,
) -> None:
    facts = after(*([(started, 0)] if started else []), (rings("101"), 1), (answers("101"), 2))
    assert due(facts, 2) == []


def test_a_phone_that_is_no_agents_has_no_card() -> None:
    assert due(after(STARTED, (rings("900"), 1), (answers("900"), 2)), 2) == []
    fax = OUTWARD.model_copy(update={"caller": Party(extension="900")})
    assert due(after((fax, 0), (rings(None), 1)), 1) == []
    ordered = after((CLICKED, 0), (rings("900", own=True), 1), (rings(None), 2))
    assert due(ordered, 2) == []


def test_however_many_phones_there_are_each_is_told_once() -> None:
    """What is told and not noted would be told again at once, and again."""
    ringing = ((rings(f"1{number:03}"), 0.5) for number in range(600))
    facts = after((OUTWARD, 0), *ringing)
    _, told = tell(after((rings(None), 1), known=facts), 1)  # and sees that nothing is left
    assert [(moment, len(phones)) for moment, phones, _ in told] == [(IN, 500), (OUT, 1)]


def test_the_crm_hears_of_both_directions_whatever_cards_of_ours_open() -> None:
    inbound_only = PopupPolicy()
    assert due(after((OUTWARD, 0), (rings(None), 2)), 2, inbound_only) == [(OUT, {"101"}, None)]
    assert due(after(STARTED, (rings("101"), 2)), 2, inbound_only) == [(IN, {"101"}, None)]


# -- several devices at one extension, several agents ------------------------------------------------


@pytest.mark.parametrize("taken", ["a", "b"])
def test_who_answers_at_one_device_keeps_the_card_until_that_one_hangs_up(taken: str) -> None:
    other = "b" if taken == "a" else "a"
    facts, told = tell(after(STARTED, (rings("101", "a"), 1.1), (rings("101", "b"), 1.2)), 1.2)
    assert told == [(IN, {"101"}, None)]
    facts = after(
        (answers("101", taken), 5), (ends("101", LegOutcome.ELSEWHERE, other), 5.1), known=facts
    )
    assert due(facts, 6) == []
    assert still_shown(facts) == {"101"}
    facts = after((ends("101", LegOutcome.ANSWERED, taken), 65), known=facts)
    assert due(facts, 65) == [(HANGUP, {"101"}, Disposition.ANSWERED)]
    assert still_shown(facts) == set()


def test_where_both_legs_have_the_name_of_the_phone_he_keeps_it_as_well() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (answers("101"), 5)), 5)
    facts = after((ends("101", LegOutcome.ELSEWHERE), 5.1), known=facts)
    assert due(facts, 6) == []
    # Handed on, he is rung again with others, and another is faster.
    facts, _ = tell(after((ends("101", LegOutcome.ANSWERED), 60), known=facts), 60)
    facts, told = tell(after((rings("101"), 70), known=facts), 70)
    assert told == [(IN, {"101"}, None)]
    facts = after((ends("101", LegOutcome.ELSEWHERE), 75), known=facts)
    assert due(facts, 75) == [(HANGUP, {"101"}, Disposition.MISSED)]


@pytest.mark.parametrize("outcome", [LegOutcome.BUSY, LegOutcome.UNREACHABLE])
def test_a_device_that_will_not_be_disturbed_leaves_the_card_to_the_other(
    outcome: LegOutcome,
) -> None:
    facts, _ = tell(after(STARTED, (rings("101", "a"), 1), (rings("101", "b"), 1.1)), 1.1)
    facts = after((ends("101", outcome, "b"), 1.2), (ends("101", outcome, "c"), 1.3), known=facts)
    assert due(facts, 2) == []
    facts = after((ends("101", LegOutcome.NO_ANSWER, "a"), 20), known=facts)
    assert due(facts, 20) == [(HANGUP, {"101"}, Disposition.MISSED)]


@pytest.mark.parametrize("phone", ["101", "900"])
def test_a_pbx_that_tells_no_end_of_who_only_rang_closes_him_by_the_answer(phone: str) -> None:
    """Also by that of a phone which is no agent's."""
    facts, _ = tell(after(STARTED, (rings("101"), 1), (rings("102"), 1)), 1)
    facts, told = tell(after((answers(phone), 8), known=facts), 8)
    lost = {"101", "102"} - {phone}
    assert told == [(HANGUP, lost, Disposition.MISSED)]
    # Who is rung after it has not lost by it.
    facts, told = tell(after((rings("103"), 30), known=facts), 30)
    assert told == [(IN, {"103"}, None)]


def test_a_line_outside_that_answers_leaves_the_phones_to_their_own_ends() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1)), 1)
    assert due(after((answers(None), 8), known=facts), 8) == []


def test_a_phone_that_a_queue_rings_for_hours_is_known_by_its_last_rings() -> None:
    facts = after(STARTED)
    for number in range(100):
        ring = (rings("101", f"leg-{number}"), number * 20)
        facts = after(ring, (ends("101", leg=f"leg-{number}"), number * 20 + 15), known=facts)
    (phone,) = facts.phones
    assert {leg.leg_id for leg in phone.legs} == {f"leg-{number}" for number in range(80, 100)}


# -- outbound ----------------------------------------------------------------------------------------

CLICKED = a_call(
    direction=Direction.OUTBOUND, caller=Party(), dialled="+447700900123", dial_id="d1"
)


def test_of_a_click_the_crm_is_told_when_the_customer_rings() -> None:
    facts = after((CLICKED, 0), (rings("101", own=True), 1), (answers("101", own=True), 4))
    assert due(facts, 4) == []
    facts, told = tell(after((rings(None), 5), known=facts), 5)
    assert told == [(OUT, {"101"}, None)]
    assert facts.outside_number == "+447700900123"
    facts = after((answers(None), 9), (over(), 60), known=facts)
    assert due(facts, 60) == [(HANGUP, {"101"}, Disposition.ANSWERED)]


def test_of_a_call_from_the_phone_itself_too() -> None:
    facts, told = tell(after((OUTWARD, 0), (rings(None), 1)), 1)
    assert told == [(OUT, {"101"}, None)]
    busy = after((over(Disposition.BUSY), 5), known=facts)
    assert due(busy, 5) == [(HANGUP, {"101"}, Disposition.BUSY)]


def test_a_pbx_that_tells_no_ring_of_the_customer_tells_the_answer() -> None:
    assert due(after((OUTWARD, 0), (answers(None), 3)), 3) == [(OUT, {"101"}, None)]


def test_an_agent_who_does_not_pick_up_his_own_phone_sees_nothing() -> None:
    facts = after((CLICKED, 0), (rings("101", own=True), 1), (ends("101", own=True), 20))
    assert due(after((over(Disposition.MISSED), 20), known=facts), 20) == []


def test_the_customer_handed_to_a_colleague_rings_there() -> None:
    facts, _ = tell(after((OUTWARD, 0), (rings(None), 1), (answers(None), 2)), 2)
    facts = after((rings("102"), 30), known=facts)
    facts, told = tell(facts, 30)
    assert told == [(IN, {"102"}, None)]
    facts = after((ends("101", LegOutcome.ANSWERED), 31), known=facts)
    assert due(facts, 31) == [(HANGUP, {"101"}, Disposition.ANSWERED)]


@pytest.mark.parametrize(
    ("outcome", "became"),
    [
        (LegOutcome.BUSY, Disposition.BUSY),
        (LegOutcome.UNREACHABLE, Disposition.FAILED),
        (LegOutcome.NO_ANSWER, Disposition.MISSED),
    ],
)
def test_what_became_of_the_customers_line_is_known_before_the_calls_end(
    outcome: LegOutcome, became: Disposition
) -> None:
    facts, _ = tell(after((CLICKED, 0), (rings("101", own=True), 1), (rings(None), 3)), 3)
    facts = after(
        (ends(None, outcome), 6), (ends("101", LegOutcome.ANSWERED, own=True), 6), known=facts
    )
    assert due(facts, 6.1) == [(HANGUP, {"101"}, became)]


def test_his_own_phone_by_a_number_outside_is_not_the_customers_line() -> None:
    facts, _ = tell(after((OUTWARD, 0), (rings(None), 3)), 3)
    facts = after((ends(None, LegOutcome.BUSY, own=True), 6), (over(), 6), known=facts)
    assert due(facts, 6) == [(HANGUP, {"101"}, Disposition.MISSED)]


def test_a_click_that_is_picked_up_at_another_device_is_told() -> None:
    facts = after((CLICKED, 0), (rings("101", "a", own=True), 1), (rings("101", "b", own=True), 1))
    facts = after(
        (answers("101", "b", own=True), 3),
        (rings(None), 3),
        (ends("101", LegOutcome.ELSEWHERE, "a", own=True), 3.1),
        known=facts,
    )
    facts, told = tell(facts, 3.2)
    assert told == [(OUT, {"101"}, None)]


HANDED_ON: list[Seen] = [
    (OUTWARD, 0),
    (rings(None), 1),
    (answers(None), 4),
    (passes_on("101", "102"), 30),
    (rings("102"), 30.1),
]


def test_who_dialled_by_hand_and_passes_the_call_on_loses_his_card() -> None:
    facts, _ = tell(after(*HANDED_ON[:3]), 4)
    facts, told = tell(after(*HANDED_ON[3:], known=facts), 31)
    assert told == [(IN, {"102"}, None), (HANGUP, {"101"}, Disposition.ANSWERED)]
    # Nobody takes it there, and it comes back to him.
    facts = after((ends("102"), 45), (rings("101"), 45), known=facts)
    facts, told = tell(facts, 45)
    assert told == [(IN, {"101"}, None), (HANGUP, {"102"}, Disposition.MISSED)]
    facts = after((ends("101"), 60), known=facts)
    assert due(facts, 60) == [(HANGUP, {"101"}, Disposition.MISSED)]


def test_who_was_called_and_passes_it_on_keeps_his_card_until_his_leg_ends() -> None:
    facts, _ = tell(after(STARTED, (rings("101"), 1), (answers("101"), 3)), 3)
    assert due(after((passes_on("101", "102"), 30), known=facts), 30) == []


# -- any order ---------------------------------------------------------------------------------------

STORY: list[Seen] = [
    STARTED,
    (rings("101"), 1),
    (rings("102"), 1),
    (answers("101"), 4),
    (ends("102", LegOutcome.ELSEWHERE), 4),
    (rings("103"), 10),
    (ends("101", LegOutcome.ANSWERED), 11),
    (answers("103"), 12),
    (over(), 15),
]


@settings(max_examples=300, deadline=None)
@given(st.permutations([*STORY, *STORY[1:5]]), st.data())
def test_in_any_order_nobody_is_told_twice_and_everybody_who_was_told_is_told_the_end(
    events: list[Seen], data: st.DataObject
) -> None:
    facts, told = CardFacts(), []
    for event, seconds in events:
        facts = with_event(facts, event, at(seconds), is_agent)
        if data.draw(st.booleans()):
            facts, now = tell(facts, 16)
            told += now
    facts, now = tell(facts, 16)
    told += now
    opened = [one for moment, phones, _ in told for one in phones if moment is IN]
    closed = [one for moment, phones, _ in told for one in phones if moment is HANGUP]
    assert len(opened) == len(set(opened))
    assert sorted(closed) == sorted(opened)


DEVICES: list[Seen] = [
    STARTED,
    (rings("101", "a"), 1),
    (rings("101", "b"), 1.5),
    (ends("101", LegOutcome.BUSY, "c"), 1.6),
    (answers("101", "a"), 4),
    (ends("101", LegOutcome.ELSEWHERE, "b"), 4.5),
    (ends("101", LegOutcome.ANSWERED, "a"), 11),
    (over(), 15),
]


@pytest.mark.parametrize("story", [STORY, DEVICES, [*HANDED_ON, (over(), 60)]])
def test_the_fold_does_not_hang_on_the_order(story: list[Seen]) -> None:
    whole = after(*story)
    for events in itertools.islice(itertools.permutations(story), 0, 4000, 37):
        found = after(*events)
        assert sorted(found.phones, key=lambda one: one.extension) == sorted(
            whole.phones, key=lambda one: one.extension
        )
        assert found.model_copy(update={"phones": ()}) == whole.model_copy(update={"phones": ()})
