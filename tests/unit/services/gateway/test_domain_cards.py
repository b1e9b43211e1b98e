"""Which card opens at which screen, when, and what of it who comes later is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.domain.cards import web_address
from shared.contracts.calls import Direction, LegOutcome, Party, TransferKind
from shared.contracts.contacts import ContactResolved
from shared.contracts.envelope import Event
from shared.contracts.screens import Seen
from shared.site.telling import PopMoment, PopOpens, PopupPolicy
from shared.testing.builders import a_call, a_contact
from tests.unit.services.gateway.pops_kit import (
    ADA,
    BOB,
    CALLER,
    CLOSED,
    OUTGOING,
    OUTSIDE,
    POP,
    RINGING,
    SEEN,
    Rules,
    Watch,
    answered,
    chosen,
    ended,
    handed_on,
    leg_ended,
    outgoing,
    ringing,
    seen,
    several,
    unknown_contact,
)

PAGE = "https://crm.example/Contacts/829"
NEW = "https://crm.example/new?phone=447700900123"
BOTH = (Direction.INBOUND, Direction.OUTBOUND)
SECOND = timedelta(seconds=1)


def watching(
    moment: PopMoment = PopMoment.RINGING,
    *,
    unknown: bool = True,
    page: str | None = NEW,
    **policy: Any,
) -> Watch:
    found = PopupPolicy(moment=moment, directions=BOTH, **policy)
    return Watch(Rules(found, found if unknown else None, page))


def with_page(call: str = "c1", **changes: Any) -> ContactResolved:
    card = a_contact(page_url=PAGE, **changes)
    return ContactResolved(call_id=call, number="447700900123", contact=card)


# -- moments ------------------------------------------------------------------------------------


def test_the_card_opens_at_the_ring_once_the_contact_is_known() -> None:
    watch = watching().take(a_call(), ringing(queue="support"))
    assert watch.cards == []
    (card,) = watch.take(with_page()).cards

    assert (card.extension, card.call_id, card.page_url) == ("101", "c1", PAGE)
    assert (card.opens, card.direction, card.queue) == (PopOpens.AUTOMATIC, "inbound", "support")
    assert (card.caller_number, card.contact_known, card.create_url) == (
        CALLER.number,
        True,
        None,
    )
    assert card.event_name == "pop"


def test_a_contact_that_was_known_before_the_ring_opens_with_it() -> None:
    watch = watching().take(with_page(), ringing())
    assert watch.words == ["ringing 101", "pop 101"]


def test_a_card_opens_once_however_often_all_is_told() -> None:
    events = [a_call(), ringing(), with_page()]
    assert len(watching().take(*events, *events, *reversed(events)).cards) == 1


def test_a_card_that_opens_at_the_answer_waits_for_it() -> None:
    watch = watching(PopMoment.ANSWERED).take(ringing(), ringing("102", "l2"), with_page())
    assert watch.cards == []
    watch.take(answered("102", "l2"))
    assert [card.extension for card in watch.cards] == ["102"]


def test_a_contact_that_is_known_after_the_answer_opens_then() -> None:
    watch = watching(PopMoment.ANSWERED).take(ringing(), answered(), with_page())
    assert watch.words[-2:] == ["contact 101", "pop 101"]


@pytest.mark.parametrize("last", [leg_ended(LegOutcome.ANSWERED), ended()])
def test_a_card_that_opens_at_the_end_is_not_closed_by_it(last: Event) -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), with_page(), answered())
    assert watch.cards == []
    watch.take(last)
    assert watch.words[-2:] == ["closed 101", "pop 101"]
    watch.take(ended())
    assert watch.words[-1] == "pop 101"
    assert [event.kind for event in watch.shown("101")] == [POP]


def test_who_did_not_take_the_call_gets_no_card_at_its_end() -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), ringing("102", "l2"), with_page())
    watch.take(answered("102", "l2"), ended())
    assert [card.extension for card in watch.cards] == ["102"]


def test_a_contact_that_is_known_shortly_after_the_end_still_opens() -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), answered(), ended())
    watch.take(with_page(), after=59 * SECOND)
    assert watch.words[-1] == "pop 101"


def test_one_that_is_known_long_after_the_end_opens_no_more() -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), answered(), ended())
    assert watch.take(with_page(), after=61 * SECOND).cards == []


def test_a_card_of_the_end_is_shown_for_minutes_to_who_comes_later() -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), answered(), with_page(), ended())
    watch.take(ended("c9"), after=timedelta(minutes=10))
    assert [event.kind for event in watch.shown("101")] == [POP]
    watch.take(ended("c9"), after=timedelta(minutes=10, seconds=1))
    assert watch.shown("101") == []


def test_a_card_that_opens_on_a_click_says_so() -> None:
    (card,) = watching(opens=PopOpens.ON_CLICK).take(ringing(), with_page()).cards
    assert card.opens is PopOpens.ON_CLICK


# -- who it is ----------------------------------------------------------------------------------


def test_for_a_caller_whom_nobody_knows_the_page_of_a_new_contact_opens() -> None:
    (card,) = watching().take(a_call(), ringing(), unknown_contact()).cards
    assert (card.contact_known, card.create_url, card.page_url) == (False, NEW, None)


def test_the_page_is_of_the_customer_also_where_the_phone_shows_a_colleague() -> None:
    """Who asks before he passes the call on."""
    policy = PopupPolicy()
    rules = Rules(policy, policy, NEW)
    colleague = Party(number="101", name="Agent One")
    (card,) = Watch(rules).take(ringing(caller=colleague), unknown_contact()).cards
    assert (card.create_url, rules.asked) == (NEW, [CALLER.number])


def test_without_such_a_page_the_card_comes_all_the_same() -> None:
    (card,) = watching(page=None).take(ringing(), unknown_contact()).cards
    assert (card.contact_known, card.create_url) == (False, None)


def test_where_nothing_is_to_open_for_strangers_nothing_does() -> None:
    assert watching(unknown=False).take(ringing(), unknown_contact(), answered()).cards == []


def test_of_several_the_agent_chooses_and_then_the_page_opens() -> None:
    watch = watching().take(ringing(), several())
    (card,) = watch.cards
    assert (card.candidates, card.ambiguous, card.page_url) == ((ADA, BOB), True, None)

    watch.take(chosen(BOB.model_copy(update={"page_url": PAGE})), after=SECOND)
    assert watch.cards[-1].page_url == PAGE
    assert (watch.cards[-1].ambiguous, len(watch.cards)) == (None, 2)
    assert watch.cards[0].id != watch.cards[1].id


def test_a_choice_that_is_made_after_the_call_opens_its_page() -> None:
    watch = watching().take(ringing(), several(), answered(), ended())
    watch.take(chosen(BOB), after=timedelta(minutes=2))
    assert (watch.words[-1], len(watch.cards)) == ("pop 101", 2)
    watch.take(ringing("102", "l2", "c2"), after=timedelta(minutes=3))
    assert [event.call_id for event in watch.shown("101")] == ["c1"]


def test_a_stranger_who_becomes_a_contact_in_the_call_has_a_card_then() -> None:
    watch = watching().take(ringing(), unknown_contact()).take(answered())
    watch.take(with_page(), after=SECOND)
    assert [card.create_url for card in watch.cards] == [NEW, None]
    assert watch.cards[-1].page_url == PAGE


def test_that_nobody_knew_him_is_no_news_when_it_comes_late() -> None:
    watch = watching().take(ringing()).take(with_page(), after=SECOND)
    watch.take(unknown_contact())
    assert watch.words == ["ringing 101", "contact 101", "pop 101"]


def test_one_crm_may_have_other_rules_than_the_next() -> None:
    class OfSite(Rules):
        def known(self, tenant: str, connection: str) -> PopupPolicy:
            moments = {"zoho": PopMoment.RINGING, "sugar": PopMoment.ANSWERED}
            return PopupPolicy(moment=moments[connection])

    watch = Watch(OfSite(PopupPolicy())).take(ringing(), ringing("102", "l2", "c2"))
    watch.take(with_page(), with_page("c2", connection="sugar"))
    assert [card.extension for card in watch.cards] == ["101"]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//crm.example/1",
        "ftp://crm.example",
        "https://",
        "https://crm.example/a b",
        "https://crm.example/\n",
        "https://[1/",
        "https://crm.example/" + "x" * 4096,
        "",
        None,
    ],
)
def test_only_web_addresses_are_opened(address: str | None) -> None:
    assert web_address(address) is None
    card = ADA.model_copy(update={"page_url": address})
    found = ContactResolved(call_id="c1", number="447700900123", contact=card)
    watch = watching(page=address).take(ringing(), ringing(call="c2"), found)
    assert watch.cards[0].page_url is None
    watch.take(unknown_contact("c2"))
    assert watch.cards[1].create_url is None


def test_a_web_address_is_one_by_http_or_https() -> None:
    for address in ("http://10.0.0.5:8080/crm?id=1#tab", "https://crm.example/%20"):
        assert web_address(address) == address


# -- directions ---------------------------------------------------------------------------------


def test_a_colleague_has_no_card() -> None:
    internal = a_call(direction=Direction.INTERNAL, caller=Party(extension="102"))
    assert watching().take(internal, ringing(), with_page()).cards == []


def test_directions_that_the_policy_leaves_out_open_nothing() -> None:
    inbound = Watch(Rules(PopupPolicy(directions=(Direction.OUTBOUND,))))
    assert inbound.take(a_call(), ringing(), with_page()).cards == []
    outbound = Watch(Rules(PopupPolicy()))
    assert outbound.take(outgoing(), with_page(), ended()).cards == []


def test_whom_an_agent_calls_opens_at_the_agent() -> None:
    watch = watching().take(outgoing(), with_page())
    assert watch.words == ["outgoing 101", "contact 101", "pop 101"]
    card = watch.cards[0]
    assert (card.direction, card.caller_number) == ("outbound", "447700900123")
    watch.take(answered(callee=OUTSIDE, leg="t1"), ended())
    assert watch.words[3:] == ["answered 101", "closed 101"]


def test_an_outgoing_card_of_the_answer_waits_for_the_other_party() -> None:
    watch = watching(PopMoment.ANSWERED).take(outgoing(), with_page())
    assert watch.cards == []
    watch.take(answered(callee=OUTSIDE, leg="t1"))
    assert watch.words[-2:] == ["answered 101", "pop 101"]


@pytest.mark.parametrize("answer", [(), (answered(callee=OUTSIDE, leg="t1"),)])
def test_an_outgoing_card_of_the_end_opens_whether_it_was_answered_or_not(
    answer: tuple[Event, ...],
) -> None:
    watch = watching(PopMoment.ENDED).take(outgoing(), with_page(), *answer, ended())
    assert watch.words[-2:] == ["closed 101", "pop 101"]


@pytest.mark.parametrize(
    "reached",
    [
        ringing(callee=OUTSIDE, leg="t1"),
        answered(callee=OUTSIDE, leg="t1"),
        answered("101", "a1", own_phone=True),
    ],
)
def test_of_a_click_the_card_waits_for_the_agents_own_phone(reached: Event) -> None:
    watch = watching().take(outgoing(dial_id="d1"), ringing("101", "a1", own_phone=True))
    watch.take(with_page())
    assert watch.cards == []
    watch.take(reached)
    assert [card.extension for card in watch.cards] == ["101"]


def test_a_click_whose_own_phone_is_not_picked_up_closes() -> None:
    watch = watching().take(outgoing(dial_id="d1"), with_page())
    own = leg_ended(LegOutcome.NO_ANSWER, "101", "a1").model_copy(update={"own_phone": True})
    watch.take(own)
    assert (watch.words[-1], watch.told[-1].reason) == ("closed 101", "no_answer")
    assert watch.cards == []


def test_a_click_that_is_picked_up_at_another_device_goes_on() -> None:
    watch = watching().take(outgoing(dial_id="d1"), with_page())
    taken_off = leg_ended(LegOutcome.ELSEWHERE, "101", "a1").model_copy(update={"own_phone": True})
    watch.take(answered("101", "a2", own_phone=True), taken_off)
    assert watch.words == ["outgoing 101", "contact 101", "pop 101"]
    assert [event.kind for event in watch.shown("101")] == [OUTGOING, POP]


def test_a_call_of_nobody_of_ours_is_on_no_screen() -> None:
    assert watching().take(outgoing(caller=Party(number="447700900999")), with_page()).told == []


def test_the_answer_may_overtake_the_beginning_of_an_outgoing_call() -> None:
    watch = watching(PopMoment.ANSWERED).take(answered(callee=OUTSIDE, leg="t1"), with_page())
    watch.take(outgoing())
    assert watch.words == ["outgoing 101", "answered 101", "pop 101"]


# -- transfers ----------------------------------------------------------------------------------


def test_in_a_blind_transfer_the_new_phone_has_all_at_once_and_the_old_one_closes() -> None:
    watch = watching().take(a_call(), ringing(), with_page(), answered())
    watch.take(leg_ended(LegOutcome.ANSWERED), ringing("102", "l2"), after=SECOND)
    assert watch.words[-3:] == ["closed 101", "ringing 102", "pop 102"]
    assert watch.told[-2].contact == watch.cards[-1].contact == a_contact(page_url=PAGE)
    assert watch.shows("101") == []


def test_in_an_attended_transfer_both_have_it_until_the_call_is_handed_over() -> None:
    watch = watching().take(a_call(), ringing(), with_page(), answered())
    # 102 is asked in a call of its own, inside.
    inside = a_call(call_id="c2", direction=Direction.INTERNAL, caller=Party(extension="101"))
    asked = ringing("102", "m1", "c2", caller=Party(extension="101"))
    watch.take(inside, asked, answered("102", "m1", "c2"))
    assert [card.extension for card in watch.cards] == ["101"]

    watch.take(answered("102", "l2", caller=CALLER), after=SECOND)
    assert watch.words[-3:] == ["ringing 102", "answered 102", "pop 102"]
    assert watch.shows("101") == ["c1"]
    watch.take(leg_ended(LegOutcome.ANSWERED), after=2 * SECOND)
    assert (watch.words[-1], watch.shows("102")) == ("closed 101", ["c1", "c2"])


@pytest.mark.parametrize("kind", list(TransferKind))
def test_who_hands_his_own_call_on_closes(kind: TransferKind) -> None:
    watch = watching().take(outgoing(), with_page(), answered(callee=OUTSIDE, leg="t1"))
    watch.take(handed_on(kind, by="101", to="102"), ringing("102", "l2"), after=SECOND)
    assert watch.words[-3:] == ["closed 101", "ringing 102", "pop 102"]
    watch.take(outgoing(), handed_on(kind, by="101", to="102"), after=2 * SECOND)
    assert watch.words[-1] == "pop 102", "told again, they open and close nothing"


def test_who_was_called_is_closed_by_his_own_leg_and_not_by_the_transfer() -> None:
    watch = watching().take(ringing(), answered(), handed_on(TransferKind.BLIND, "101", "102"))
    assert watch.words[-1] == "answered 101"


def test_what_an_agent_dialled_may_come_back_to_him() -> None:
    watch = watching().take(outgoing(), with_page()).take(ringing("101", "l5"), after=SECOND)
    assert watch.words[-3:] == ["closed 101", "ringing 101", "pop 101"]


# -- queues and several calls --------------------------------------------------------------------


@pytest.mark.parametrize("legs", [("l1", "l2"), ("101", "101")])
def test_a_queue_that_rings_the_phone_again_opens_its_card_again(legs: tuple[str, str]) -> None:
    """Also where the PBX tells its legs by their extensions: the second ring has ids of its own."""
    first, second = legs
    watch = watching().take(a_call(), with_page(), ringing("101", first, queue="support"))
    watch.take(leg_ended(LegOutcome.NO_ANSWER, "101", first), after=15 * SECOND)
    watch.take(ringing("101", second, queue="support"), after=20 * SECOND)

    assert watch.words == ["ringing 101", "pop 101", "closed 101", "ringing 101", "pop 101"]
    ids = [event.id for event in watch.told]
    assert len(set(ids)) == len(ids)


def test_an_old_answer_told_again_closes_nobody_who_rings_since_then() -> None:
    """By another replica of who reads the PBX, or out of the journal."""
    watch = watching().take(ringing(), answered())
    watch.take(ringing("102", "l2"), ringing("103", "l3"), after=9 * SECOND)
    watch.take(answered())
    assert (watch.shows("102"), watch.shows("103")) == (["c1"], ["c1"])


def test_a_ring_told_again_after_another_was_faster_opens_nothing() -> None:
    watch = watching().take(ringing("101", "l1"), ringing("102", "l2"), answered("102", "l2"))
    watch.take(ringing("101", "l1"))
    assert (watch.words.count("ringing 101"), watch.shows("101")) == (1, [])


def test_a_ring_told_again_does_not_take_the_answer_back() -> None:
    watch = watching().take(ringing(), answered(), ringing())
    assert [event.kind for event in watch.shown("101")] == ["ringing", "answered"]


def test_two_calls_at_once_have_a_card_each() -> None:
    watch = watching().take(ringing(), with_page(), answered())
    watch.take(ringing("101", "m1", "c2"), unknown_contact("c2"))
    assert [(card.call_id, card.contact_known) for card in watch.cards] == [
        ("c1", True),
        ("c2", False),
    ]
    watch.take(ended("c1"))
    assert watch.shows("101") == ["c2"]


def test_everybody_in_the_group_has_the_card_and_the_losers_close() -> None:
    watch = watching().take(a_call(), with_page())
    watch.take(*(ringing(f"10{n}", f"l{n}") for n in range(1, 5)))
    assert [card.extension for card in watch.cards] == ["101", "102", "103", "104"]
    watch.take(answered("103", "l3"))
    closed = [event for event in watch.told if event.kind is CLOSED]
    assert {(event.extension, event.reason) for event in closed} == {
        ("101", "elsewhere"),
        ("102", "elsewhere"),
        ("104", "elsewhere"),
    }


# -- several devices ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", list(Seen))
def test_what_became_of_a_pop_is_told_and_kept_for_who_connects_later(what: Seen) -> None:
    watch = watching().take(ringing(), with_page()).take(seen(what), after=SECOND)
    assert (watch.told[-1].kind, watch.told[-1].seen) == (SEEN, what)
    shown = [event for event in watch.shown("101") if event.kind is POP]
    assert [card.seen for card in shown] == [what]
    assert shown[0].id == watch.cards[0].id


def test_a_card_of_the_end_that_was_seen_is_shown_to_nobody_any_more() -> None:
    watch = watching(PopMoment.ENDED).take(ringing(), with_page(), answered(), ended())
    watch.take(seen(Seen.DISMISSED), after=SECOND)
    assert watch.shown("101") == []


def test_a_new_ring_is_not_seen_because_the_last_one_was() -> None:
    watch = watching().take(ringing(), with_page())
    first = watch.board.card_id("acme", "c1", "101")
    assert first == watch.cards[0].id
    watch.take(seen(Seen.DISMISSED, pop=first), after=SECOND)
    watch.take(leg_ended(LegOutcome.NO_ANSWER), after=2 * SECOND)
    watch.take(ringing("101", "l2"), after=3 * SECOND)
    assert [card.seen for card in watch.cards] == [None, None]


def test_a_page_is_not_seen_because_the_choice_was() -> None:
    watch = watching().take(ringing(), several())
    watch.take(seen(Seen.OPENED, pop=watch.cards[0].id), after=SECOND)
    watch.take(chosen(BOB), after=2 * SECOND)
    assert [card.seen for card in watch.cards] == [None, None]
    assert [card.seen for card in watch.shown("101") if card.kind is POP] == [None]


@pytest.mark.parametrize("off", [timedelta(hours=-20), timedelta(hours=20)])
def test_a_pbx_whose_clock_is_off_has_its_cards_all_the_same(off: timedelta) -> None:
    """Its events have its own times, a contact and what was seen have ours."""
    watch = watching(PopMoment.ENDED)
    board, now = watch.board, watch.now
    for event in (a_call(), ringing(), answered(), ended()):
        board.take("acme", event, at=now + off, now=now)
    for late in (SECOND, 30 * SECOND):
        told = board.take("acme", with_page(), at=now + late, now=now + late)
        assert [event.kind for _, event in told] == ([POP] if late == SECOND else [])
    card = board.card_id("acme", "c1", "101")
    shown = list(board.shown("acme", "101", now=now + 9 * timedelta(minutes=1)))
    assert [event.id for event in shown] == [card]
    board.take("acme", seen(Seen.OPENED, pop=card), at=now + SECOND, now=now + SECOND)
    assert list(board.shown("acme", "101", now=now + SECOND)) == []


def test_that_a_pop_was_seen_may_come_before_the_pop_itself() -> None:
    """Another replica was faster, and its client too."""
    watch = watching().take(seen(Seen.OPENED), after=SECOND).take(ringing(), with_page())
    assert [card.seen for card in watch.cards] == [Seen.OPENED]


def test_to_see_it_twice_is_no_news_and_to_dismiss_it_then_is() -> None:
    watch = watching().take(ringing(), with_page())
    for second, what in enumerate((Seen.OPENED, Seen.OPENED, Seen.DISMISSED), start=1):
        watch.take(seen(what), after=second * SECOND)
    assert [event.seen for event in watch.told if event.kind is SEEN] == ["opened", "dismissed"]


def test_a_pop_at_one_agent_is_not_seen_by_another() -> None:
    watch = watching().take(ringing(), ringing("102", "l2"), with_page())
    watch.take(seen(Seen.OPENED, "102"), after=SECOND)
    shown = [event for event in watch.shown("101") if event.kind is POP]
    assert [card.seen for card in shown] == [None]


# -- whatever the order -------------------------------------------------------------------------

DAY: list[Event] = [
    a_call(),
    with_page(),
    ringing("101", "l1"),
    ringing("102", "l2"),
    answered("102", "l2"),
    leg_ended(LegOutcome.ELSEWHERE, "101", "l1"),
    leg_ended(LegOutcome.ANSWERED, "102", "l2"),
    ended(),
]


@settings(deadline=None)
@given(events=st.permutations(DAY + DAY), moment=st.sampled_from(PopMoment))
def test_no_card_opens_twice_and_none_stays_whatever_the_order(
    events: list[Event], moment: PopMoment
) -> None:
    watch = watching(moment).take(*events)
    ids = [event.id for event in watch.told]
    assert len(set(ids)) == len(ids)
    assert [event for event in watch.shown("101") if event.kind in {RINGING, OUTGOING}] == []
    assert len([card for card in watch.cards if card.extension == "101"]) <= 1


@settings(deadline=None)
@given(events=st.permutations(DAY))
def test_two_boards_that_hear_in_other_orders_say_the_same_by_the_same_ids(
    events: list[Event],
) -> None:
    """What both tell of one ring, answer, card or closing has one id: a client may change over."""
    here, there = watching().take(*DAY), watching().take(*events)
    known = {(e.kind, e.extension): e.id for e in here.told}
    for event in there.told:
        assert known.get((event.kind, event.extension), event.id) == event.id
