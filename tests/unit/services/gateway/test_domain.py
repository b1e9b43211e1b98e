from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import (
    CallEvent,
    EndKnown,
    LegOutcome,
    Party,
)
from shared.contracts.contacts import ContactResolved
from shared.contracts.dialing import DialReason, DialState, DialStateChanged
from shared.contracts.envelope import Event
from shared.testing.builders import NOON, a_call, a_contact
from tests.unit.services.gateway.pops_kit import (
    ADA,
    ANSWERED,
    BOB,
    CALLER,
    CLOSED,
    CONTACT,
    RINGING,
    Watch,
    answered,
    chosen,
    ended,
    known_contact,
    leg_ended,
    ringing,
    several,
    unknown_contact,
)

# -- transfers and screens that come late -----------------------------------------------------


def test_who_is_handed_a_call_that_never_rang_at_his_phone_sees_it() -> None:
    """An attended transfer: 102 was asked in a call of its own, which is then joined to this one."""
    watch = Watch().take(ringing("101", "l1"), answered("101", "l1"), known_contact())
    watch.take(answered("102", "l2", caller=CALLER))

    assert watch.words[-2:] == ["ringing 102", "answered 102"]
    card = watch.told[-2]
    assert (card.caller_number, card.contact) == (CALLER.number, a_contact())
    assert watch.shows("102") == ["c1"]
    watch.take(leg_ended(LegOutcome.ANSWERED, "102", "l2"))
    assert watch.shows("102") == []


def test_an_answer_that_overtakes_its_ring_is_shown_with_it() -> None:
    watch = Watch().take(answered("101", "l1"), ringing("101", "l1"))
    assert watch.words == ["ringing 101", "answered 101"]


def test_a_leg_that_was_answered_and_ended_rings_anew() -> None:
    """A PBX that tells its legs by their extensions."""
    watch = Watch().take(ringing("101", "101"), answered("101", "101"))
    watch.take(leg_ended(LegOutcome.ANSWERED, "101", "101"))
    watch.take(ringing("101", "101"), after=timedelta(seconds=9))
    assert watch.words[-1] == "ringing 101"


def test_a_call_that_was_given_up_after_silence_may_ring_again() -> None:
    watch = Watch().take(
        ringing("101", "l1"), ended().model_copy(update={"known": EndKnown.SILENCE})
    )
    watch.take(ringing("102", "l2"))
    assert watch.words == ["ringing 101", "closed 101", "ringing 102"]


def test_a_call_that_is_over_is_handed_to_nobody() -> None:
    watch = Watch().take(ended(), answered("102", "l2", caller=CALLER))
    assert (watch.words, watch.shows("102")) == (["closed 102"], [])


def test_who_asks_for_a_transfer_keeps_the_pop_while_the_other_answers() -> None:
    watch = Watch().take(ringing("101", "l1"), answered("101", "l1"))
    watch.take(ringing("102", "l2"), answered("102", "l2"))

    assert watch.words[-1] == "answered 102"
    assert (watch.shows("101"), watch.shows("102")) == (["c1"], ["c1"])


def test_a_screen_that_comes_in_the_middle_of_a_call_learns_that_it_was_answered() -> None:
    watch = Watch().take(ringing(), answered(), ringing(call="c2", leg="l2"))

    found = [(event.kind, event.call_id) for event in watch.shown("101")]
    assert found == [(RINGING, "c1"), (ANSWERED, "c1"), (RINGING, "c2")]


# -- one phone ------------------------------------------------------------------------------


def test_a_ringing_phone_opens_a_pop_with_the_caller() -> None:
    (event,) = Watch().take(ringing(queue="support")).told

    assert (event.kind, event.extension, event.call_id) == (RINGING, "101", "c1")
    assert (event.caller_number, event.caller_name) == ("447700900123", "Customer")
    assert event.queue == "support"
    assert (event.contact, event.contact_known) == (None, None)


def test_a_contact_found_after_the_ring_is_told_to_the_phone() -> None:
    event = Watch().take(ringing(), known_contact()).told[-1]

    assert (event.kind, event.extension) == (CONTACT, "101")
    assert (event.contact, event.contact_known) == (a_contact(), True)


def test_a_contact_found_before_the_ring_comes_with_it() -> None:
    (event,) = Watch().take(known_contact(), ringing()).told

    assert event.kind is RINGING
    assert (event.contact, event.contact_known) == (a_contact(), True)


@pytest.mark.parametrize("contact_first", [False, True])
def test_a_caller_whom_no_crm_knows_is_not_one_that_was_not_looked_up(
    *, contact_first: bool
) -> None:
    events = [ringing(), unknown_contact()]

    event = Watch().take(*(reversed(events) if contact_first else events)).told[-1]

    assert (event.contact, event.contact_known) == (None, False)


def test_a_ring_told_twice_opens_one_pop() -> None:
    assert Watch().take(ringing(), ringing()).words == ["ringing 101"]


def test_who_answers_keeps_the_pop_until_the_leg_ends() -> None:
    watch = Watch().take(ringing(), answered())
    assert watch.shows("101") == ["c1"]

    watch.take(leg_ended(LegOutcome.ANSWERED))

    assert watch.words == ["ringing 101", "answered 101", "closed 101"]
    assert watch.told[-1].reason == "ended"
    assert watch.shows("101") == []


@pytest.mark.parametrize(
    "outcome", [LegOutcome.NO_ANSWER, LegOutcome.CANCELLED, LegOutcome.BUSY, LegOutcome.ELSEWHERE]
)
def test_a_pop_that_nobody_took_closes_with_the_reason(outcome: LegOutcome) -> None:
    watch = Watch().take(ringing(), leg_ended(outcome))

    assert (watch.words[-1], watch.told[-1].reason) == ("closed 101", outcome.value)


def test_a_line_outside_has_no_screen() -> None:
    outside = Party(number="+447700900777")

    assert Watch().take(ringing(callee=outside), answered(callee=outside)).told == []


def test_the_own_phone_of_click_to_call_gets_no_pop() -> None:
    watch = Watch().take(ringing(own_phone=True), answered(own_phone=True), known_contact())

    assert watch.told == []
    assert watch.shows("101") == []


def test_the_beginning_of_a_call_alone_shows_nobody_anything() -> None:
    assert Watch().take(a_call(), known_contact()).told == []


# -- several phones -------------------------------------------------------------------------


def test_in_a_group_the_winner_is_told_and_the_others_close() -> None:
    watch = Watch().take(
        ringing("101", "l1"), ringing("102", "l2"), ringing("103", "l3"), answered("102", "l2")
    )

    assert watch.words[3:] == ["answered 102", "closed 101", "closed 103"]
    assert {event.reason for event in watch.told[4:]} == {"elsewhere"}
    assert watch.shows("102") == ["c1"]
    assert watch.shows("101") == []


def test_the_end_of_a_loser_s_leg_after_that_is_no_news() -> None:
    watch = Watch().take(
        ringing("101", "l1"),
        ringing("102", "l2"),
        answered("102", "l2"),
        leg_ended(LegOutcome.ELSEWHERE, "101", "l1"),
    )

    assert watch.words.count("closed 101") == 1


def test_the_contact_is_told_to_every_phone_that_rings() -> None:
    watch = Watch().take(ringing("101", "l1"), ringing("102", "l2"), known_contact())

    assert watch.words[2:] == ["contact 101", "contact 102"]


def test_a_queue_that_tries_one_after_the_other_opens_and_closes_each() -> None:
    watch = Watch().take(
        ringing("101", "l1", queue="support"),
        leg_ended(LegOutcome.NO_ANSWER, "101", "l1"),
        ringing("102", "l2", queue="support"),
        answered("102", "l2"),
    )

    assert watch.words == ["ringing 101", "closed 101", "ringing 102", "answered 102"]


def test_a_line_outside_that_answers_leaves_the_phones_to_their_own_ends() -> None:
    """Who answers for all is known by extension only; the losers' legs end by themselves."""
    outside = Party(number="+447700900777")
    watch = Watch().take(ringing("101", "l1"), answered(leg="l2", callee=outside))
    watch.take(leg_ended(LegOutcome.ELSEWHERE, "101", "l1"))

    assert watch.words == ["ringing 101", "closed 101"]


def test_after_a_transfer_back_the_same_phone_rings_again() -> None:
    watch = Watch().take(
        ringing("101", "l1"),
        answered("101", "l1"),
        leg_ended(LegOutcome.ANSWERED, "101", "l1"),
        ringing("102", "l2"),
        answered("102", "l2"),
        leg_ended(LegOutcome.ANSWERED, "102", "l2"),
        ringing("101", "l3"),
    )

    assert watch.words[-1] == "ringing 101"
    assert watch.shows("101") == ["c1"]


def test_the_late_end_of_an_earlier_leg_does_not_close_the_new_pop() -> None:
    watch = Watch().take(
        ringing("101", "l1"),
        leg_ended(LegOutcome.NO_ANSWER, "101", "l1"),
        ringing("101", "l2"),
        leg_ended(LegOutcome.NO_ANSWER, "101", "l1"),
    )

    assert watch.shows("101") == ["c1"]


def test_a_phone_that_rings_anew_before_its_earlier_leg_has_ended_keeps_the_pop() -> None:
    """Transferred back to a phone whose first leg is still there, or told in another order."""
    watch = Watch().take(
        ringing("101", "l1"),
        answered("101", "l1"),
        ringing("101", "l2"),
        leg_ended(LegOutcome.ANSWERED, "101", "l1"),
    )

    assert watch.shows("101") == ["c1"]


# -- several devices at one extension ---------------------------------------------------------

DEVICES = (ringing("101", "a"), ringing("101", "b"))


@pytest.mark.parametrize("taken", ["a", "b"])
@pytest.mark.parametrize("rings", [DEVICES, DEVICES[::-1]])
def test_who_answers_at_one_device_talks_until_that_one_hangs_up(
    taken: str, rings: tuple[Event, ...]
) -> None:
    other = "b" if taken == "a" else "a"
    watch = Watch().take(*rings, answered("101", taken))
    watch.take(leg_ended(LegOutcome.ELSEWHERE, "101", other), after=timedelta(seconds=1))
    assert watch.words == ["ringing 101", "answered 101"]
    watch.take(leg_ended(LegOutcome.ANSWERED, "101", taken), after=timedelta(minutes=1))
    assert (watch.words[-1], watch.told[-1].reason) == ("closed 101", "ended")
    watch.take(*rings, answered("101", taken))
    assert watch.shows("101") == []


def test_where_both_legs_have_the_name_of_the_phone_he_talks_on_as_well() -> None:
    watch = Watch().take(ringing("101", "101"), ringing("101", "101"), answered("101", "101"))
    watch.take(leg_ended(LegOutcome.ELSEWHERE, "101", "101"), after=timedelta(seconds=1))
    assert watch.words == ["ringing 101", "answered 101"]
    watch.take(leg_ended(LegOutcome.ANSWERED, "101", "101"), after=timedelta(minutes=1))
    assert watch.words[-1] == "closed 101"


@pytest.mark.parametrize("declines", ["a", "b"])
def test_one_device_that_declines_leaves_the_call_to_the_other(declines: str) -> None:
    other = "b" if declines == "a" else "a"
    watch = Watch().take(*DEVICES, leg_ended(LegOutcome.BUSY, "101", declines))
    assert watch.shows("101") == ["c1"]
    watch.take(answered("101", other))
    assert watch.words == ["ringing 101", "answered 101"]
    watch.take(leg_ended(LegOutcome.ANSWERED, "101", other), *DEVICES)
    assert watch.words[-1] == "closed 101"


def test_when_both_decline_the_call_is_gone() -> None:
    ends = (leg_ended(LegOutcome.BUSY, "101", leg) for leg in ("a", "b"))
    assert Watch().take(*DEVICES, *ends).words == ["ringing 101", "closed 101"]


def test_a_device_whose_ring_comes_behind_the_answer_takes_nothing_back() -> None:
    """The journal tells leg by leg."""
    watch = Watch().take(ringing("101", "a"))
    watch.take(answered("101", "a"), after=timedelta(seconds=5))
    watch.take(ringing("101", "b"), after=timedelta(seconds=1))
    watch.take(leg_ended(LegOutcome.ELSEWHERE, "101", "b"), after=timedelta(seconds=5))
    assert [event.kind for event in watch.shown("101")] == [RINGING, ANSWERED]


def test_a_device_that_answers_without_a_ring_of_its_own_ends_the_call_by_its_end() -> None:
    watch = Watch().take(ringing("101", "a"), answered("101", "b"))
    watch.take(leg_ended(LegOutcome.ELSEWHERE, "101", "a"))
    assert watch.shows("101") == ["c1"]
    watch.take(leg_ended(LegOutcome.ANSWERED, "101", "b"))
    assert watch.shows("101") == []


def test_the_late_end_of_a_ring_does_not_cost_the_next_one_its_own() -> None:
    """Where legs have the names of their phones."""
    watch = Watch().take(ringing("101", "101"), after=timedelta(seconds=20))
    watch.take(leg_ended(LegOutcome.NO_ANSWER, "101", "101"), after=timedelta(seconds=15))
    assert watch.shows("101") == ["c1"]
    watch.take(leg_ended(LegOutcome.NO_ANSWER, "101", "101"), after=timedelta(seconds=35))
    assert watch.shows("101") == []


def test_the_late_end_of_a_ring_does_not_end_the_next_one() -> None:
    watch = Watch().take(ringing("101", "101"))
    watch.take(ringing("101", "101"), after=timedelta(seconds=20))
    watch.take(leg_ended(LegOutcome.NO_ANSWER, "101", "101"), after=timedelta(seconds=15))
    assert watch.shows("101") == ["c1"]


def test_a_ring_that_is_told_again_after_that_of_the_other_device_is_no_news() -> None:
    watch = Watch().take(answered("101", "a"), *DEVICES, *DEVICES)
    assert watch.words == ["ringing 101", "answered 101"]


TWO_DEVICES: list[Event] = [
    *DEVICES,
    answered("101", "a"),
    leg_ended(LegOutcome.ELSEWHERE, "101", "b"),
    leg_ended(LegOutcome.ANSWERED, "101", "a"),
    ended(),
]


@settings(deadline=None)
@given(events=st.permutations(TWO_DEVICES * 2))
def test_of_two_devices_nothing_is_told_twice_and_nothing_stays(events: list[Event]) -> None:
    watch = Watch().take(*events)
    ids = [event.id for event in watch.told]
    assert len(ids) == len(set(ids))
    assert watch.shows("101") == []


# -- order, repeats, ends -------------------------------------------------------------------


def test_a_ring_that_comes_after_the_end_of_its_leg_opens_nothing() -> None:
    """Late, or delivered a second time."""
    watch = Watch().take(leg_ended(LegOutcome.NO_ANSWER, "101", "l1"), ringing("101", "l1"))

    assert watch.shows("101") == []


def test_a_leg_that_is_told_by_its_extension_may_ring_again() -> None:
    watch = Watch().take(ringing("101", "101"), leg_ended(LegOutcome.NO_ANSWER, "101", "101"))
    watch.take(ringing("101", "101"), after=timedelta(seconds=5))

    assert watch.shows("101") == ["c1"]


def test_a_ring_that_comes_after_the_end_of_the_call_opens_nothing() -> None:
    """That it is closed is told all the same: another replica may have shown it in time."""
    watch = Watch().take(ended(), ringing(), ringing())

    assert (watch.words, watch.shows("101")) == (["closed 101"], [])


def test_the_end_of_the_call_closes_every_pop() -> None:
    watch = Watch().take(ringing("101", "l1"), ringing("102", "l2"), ended())

    assert watch.words[2:] == ["closed 101", "closed 102"]
    assert {event.reason for event in watch.told[2:]} == {"ended"}
    assert (watch.shows("101"), watch.shows("102")) == ([], [])


STORY: list[CallEvent | ContactResolved] = [
    ringing("101", "l1"),
    ringing("102", "l2"),
    known_contact(),
    answered("102", "l2"),
    leg_ended(LegOutcome.ELSEWHERE, "101", "l1"),
    leg_ended(LegOutcome.ANSWERED, "102", "l2"),
    ended(),
]


@settings(deadline=None)
@given(events=st.permutations(STORY + STORY))
def test_when_all_of_a_call_was_told_no_screen_shows_it_whatever_the_order(
    events: list[Event],
) -> None:
    watch = Watch().take(*events)

    assert (watch.shows("101"), watch.shows("102")) == ([], [])
    ids = [event.id for event in watch.told]
    assert len(ids) == len(set(ids))
    in_order = {event.id for event in Watch().take(*STORY).told if event.kind is CLOSED}
    assert {event.id for event in watch.told if event.kind is CLOSED} == in_order
    for extension in ("101", "102"):
        kinds = [event.kind for event in watch.told if event.extension == extension]
        assert kinds[-1] is CLOSED
        assert kinds.count(RINGING) <= kinds.count(CLOSED)


@settings(deadline=None)
@given(events=st.lists(st.sampled_from(STORY), max_size=20))
def test_a_screen_hears_only_of_pops_that_are_open_or_that_another_replica_may_have_shown(
    events: list[Event],
) -> None:
    open_now: set[str | None] = set()
    for event in Watch().take(*events).told:
        if event.kind is RINGING:
            assert event.extension not in open_now
            open_now.add(event.extension)
        elif event.kind is CLOSED:
            open_now.discard(event.extension)
        else:
            assert event.extension in open_now


# -- who connects late, tenants, forgetting --------------------------------------------------


def test_who_connects_late_is_shown_what_rings_with_all_that_is_known() -> None:
    watch = Watch().take(ringing("101", "l1", queue="support"), known_contact())
    watch.take(ringing("101", "l9", "c2"), ringing("102", "l2", "c3"))

    first, second = watch.shown("101")

    assert (first.kind, first.call_id, first.queue) == (RINGING, "c1", "support")
    assert (first.contact, first.contact_known) == (a_contact(), True)
    assert (second.call_id, second.contact_known) == ("c2", None)


def test_tenants_never_mix() -> None:
    """Two PBXs may give one id to two calls, and every office has a 101."""
    watch = Watch().take(ringing(), tenant="acme").take(ringing(), tenant="other")
    watch.take(known_contact(), tenant="other")
    watch.take(ended(), tenant="other")

    (pop,) = watch.shown("101")
    assert pop.contact is None
    assert watch.shows("101", "other") == []


def test_a_call_whose_end_was_lost_is_forgotten_after_hours() -> None:
    watch = Watch().take(ringing())

    watch.take(ringing("102", "l2", "c2"), after=timedelta(hours=5))
    assert watch.shows("101") == ["c1"]
    watch.take(ringing("103", "l3", "c3"), after=timedelta(hours=6))

    assert watch.shows("101") == []
    assert watch.shows("102") == ["c2"]


def test_the_board_remembers_a_bounded_number_of_calls() -> None:
    watch = Watch().take(ringing("101", "l1", "first"))
    for number in range(20_000):
        watch.board.take("acme", known_contact(f"c{number}"), at=NOON, now=NOON)

    assert len(watch.board._calls) == 20_000
    assert watch.shows("101") == []


# -- orders ---------------------------------------------------------------------------------


def order(
    state: DialState, reason: DialReason | None = None, dial: str = "d1", extension: str = "101"
) -> DialStateChanged:
    return DialStateChanged(
        dial_id=dial,
        call_id="c1",
        extension=extension,
        number="+447700900777",
        state=state,
        reason=reason,
    )


def states(watch: Watch) -> list[tuple[str | None, DialState | None]]:
    return [(event.dial_id, event.dial_state) for event in watch.told]


def test_the_agent_sees_how_far_the_order_is() -> None:
    watch = Watch().take(
        order(DialState.AGENT_RINGING), order(DialState.FAILED, DialReason.AGENT_NO_ANSWER)
    )

    assert watch.words == ["dial 101", "dial 101"]
    assert watch.told[-1].dial_state is DialState.FAILED
    assert watch.told[-1].dial_reason is DialReason.AGENT_NO_ANSWER


def test_a_state_that_was_overtaken_is_no_news() -> None:
    watch = Watch().take(
        order(DialState.REQUESTED),
        order(DialState.CONNECTED),
        order(DialState.AGENT_RINGING),
        order(DialState.CONNECTED),
        order(DialState.ENDED),
    )

    assert [state for _, state in states(watch)] == ["requested", "connected", "ended"]


def test_each_order_has_its_own_states_also_in_another_tenant() -> None:
    watch = Watch().take(order(DialState.CONNECTED), order(DialState.REQUESTED, dial="d2"))
    watch.take(order(DialState.REQUESTED), tenant="other")

    assert states(watch) == [("d1", "connected"), ("d2", "requested"), ("d1", "requested")]


def test_an_order_that_was_given_up_and_goes_on_after_all_is_shown_to_go_on() -> None:
    """INTERRUPTED means that nobody knew; an event of its call then says that the PBX took it."""
    watch = Watch().take(
        order(DialState.FAILED, DialReason.INTERRUPTED),
        order(DialState.AGENT_RINGING),
        order(DialState.CONNECTED),
    )

    assert [state for _, state in states(watch)][-1] == "connected"


def test_every_kind_of_event_has_the_name_of_its_kind() -> None:
    events = Watch().take(*STORY, order(DialState.REQUESTED)).told

    names = [name for name, _ in itertools.groupby(sorted(event.event_name for event in events))]
    assert names == ["answered", "closed", "contact", "dial", "ringing"]


# -- who of several is it? --------------------------------------------------------------------


def test_an_agent_who_has_to_choose_is_shown_all() -> None:
    for events in ([ringing(), several()], [several(), ringing()]):
        event = Watch().take(*events).told[-1]
        assert (event.ambiguous, event.candidates, event.contact) == (True, (ADA, BOB), ADA)


def test_one_alone_is_no_choice() -> None:
    event = Watch().take(ringing(), several(candidates=(ADA,), ambiguous=False)).told[-1]
    assert "candidates" not in event.model_dump_json(exclude_none=True)
    assert "ambiguous" not in event.model_dump_json(exclude_none=True)


def test_every_phone_of_the_call_sees_the_choice() -> None:
    watch = Watch().take(ringing("101", "l1"), ringing("102", "l2"), several(), chosen(BOB))
    assert watch.words[-2:] == ["contact 101", "contact 102"]
    assert (watch.told[-1].contact, watch.told[-1].ambiguous) == (BOB, None)
    (shown,) = watch.shown("101")
    assert (shown.contact, shown.candidates) == (BOB, (ADA, BOB))


@pytest.mark.parametrize("late", [several(), unknown_contact()])
def test_what_is_found_out_after_the_choice_does_not_undo_it(late: Event) -> None:
    watch = Watch().take(ringing(), chosen(BOB)).take(late, after=timedelta(seconds=1))
    (shown,) = watch.shown("101")
    assert (shown.contact, watch.words) == (BOB, ["ringing 101", "contact 101"])


def test_of_two_choices_the_later_one_counts_whatever_comes_first() -> None:
    watch = Watch().take(ringing()).take(chosen(BOB), after=timedelta(seconds=2))
    watch.take(chosen(ADA), after=timedelta(seconds=1))
    (shown,) = watch.shown("101")
    assert shown.contact == BOB
