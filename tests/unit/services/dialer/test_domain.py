from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dialer.domain import connected, cost_of, moved, step
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallRinging,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
)
from shared.contracts.dialing import DialReason, DialRecord, DialState
from shared.pbx.asterisk.ami_wire import AmiParser
from shared.pbx.asterisk.tracker import CallTracker
from shared.testing.builders import a_call

RECORDINGS = Path(__file__).parents[3] / "data" / "pbx"
AGENT, CUSTOMER = Party(extension="101"), Party(number="+447700900777")
Progress = tuple[DialState, DialReason | None]


def ringing(*, own_phone: bool) -> CallRinging:
    callee = AGENT if own_phone else CUSTOMER
    return CallRinging(
        call_id="c1",
        pbx="main",
        leg_id="own" if own_phone else "l2",
        callee=callee,
        caller=CUSTOMER,
        own_phone=own_phone,
    )


def answered(*, own_phone: bool) -> CallAnswered:
    callee = AGENT if own_phone else CUSTOMER
    leg = "own" if own_phone else "l2"
    return CallAnswered(call_id="c1", pbx="main", leg_id=leg, callee=callee, own_phone=own_phone)


def ended(disposition: Disposition | None = None) -> CallEnded:
    return CallEnded(call_id="c1", pbx="main", disposition=disposition)


AGENT_RINGS, CUSTOMER_RINGS = ringing(own_phone=True), ringing(own_phone=False)
AGENT_ANSWERS, CUSTOMER_ANSWERS = answered(own_phone=True), answered(own_phone=False)


def after(
    events: Iterable[CallEvent],
    state: DialState = DialState.REQUESTED,
    reason: DialReason | None = None,
) -> Progress:
    for event in events:
        state, reason = step(state, reason, event) or (state, reason)
    return state, reason


# -- step by step ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        (DialState.REQUESTED, AGENT_RINGS, DialState.AGENT_RINGING),
        (DialState.AGENT_RINGING, AGENT_ANSWERS, DialState.AGENT_ANSWERED),
        (DialState.AGENT_ANSWERED, CUSTOMER_RINGS, DialState.CUSTOMER_RINGING),
        (DialState.CUSTOMER_RINGING, CUSTOMER_ANSWERS, DialState.CONNECTED),
        (DialState.CONNECTED, ended(Disposition.ANSWERED), DialState.ENDED),
        (DialState.CONNECTED, ended(), DialState.ENDED),
        (DialState.REQUESTED, AGENT_ANSWERS, DialState.AGENT_ANSWERED),
        (DialState.AGENT_ANSWERED, CUSTOMER_ANSWERS, DialState.CONNECTED),
        (DialState.REQUESTED, ended(Disposition.ANSWERED), DialState.ENDED),
    ],
)
def test_each_event_of_the_call_is_a_step(
    state: DialState, event: CallEvent, expected: DialState
) -> None:
    assert step(state, None, event) == (expected, None)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([AGENT_RINGS, ended(Disposition.FAILED)], DialReason.AGENT_NO_ANSWER),
        ([AGENT_RINGS, AGENT_ANSWERS, ended(Disposition.BUSY)], DialReason.CUSTOMER_BUSY),
        (
            [AGENT_RINGS, AGENT_ANSWERS, CUSTOMER_RINGS, ended(Disposition.MISSED)],
            DialReason.CUSTOMER_NO_ANSWER,
        ),
        (
            [AGENT_RINGS, AGENT_ANSWERS, ended(Disposition.FAILED)],
            DialReason.CUSTOMER_UNREACHABLE,
        ),
    ],
)
def test_a_call_that_was_not_answered_says_on_whose_side_it_failed(
    events: list[CallEvent], reason: DialReason
) -> None:
    assert after(events) == (DialState.FAILED, reason)


@pytest.mark.parametrize(
    "event",
    [
        a_call(),
        CallHeld(call_id="c1", pbx="main", leg_id="own"),
        LegEnded(call_id="c1", pbx="main", leg_id="own", callee=AGENT, outcome=LegOutcome.ANSWERED),
    ],
    ids=lambda event: type(event).__name__,
)
def test_other_events_are_no_step(event: CallEvent) -> None:
    assert step(DialState.REQUESTED, None, event) is None


def test_the_same_event_again_says_nothing_new() -> None:
    assert step(DialState.AGENT_RINGING, None, AGENT_RINGS) is None


# -- never back -----------------------------------------------------------------------------

EVENTS = st.sampled_from(
    [
        AGENT_RINGS,
        AGENT_ANSWERS,
        CUSTOMER_RINGS,
        CUSTOMER_ANSWERS,
        ended(),
        *map(ended, Disposition),
    ]
)
REASONS = st.none() | st.sampled_from(
    [reason for reason in DialReason if reason is not DialReason.INTERRUPTED]
)

#: Read off how far the call was seen.
GUESSES = {DialReason.AGENT_NO_ANSWER, DialReason.CUSTOMER_UNREACHABLE}


@settings(deadline=None)
@given(state=st.sampled_from(DialState), reason=REASONS, event=EVENTS)
def test_a_state_never_goes_back(
    state: DialState, reason: DialReason | None, event: CallEvent
) -> None:
    following = step(state, reason, event)

    assert following is None or following[0].rank > state.rank or state is DialState.FAILED


@settings(deadline=None)
@given(reason=REASONS, event=EVENTS)
def test_what_has_ended_or_failed_stays_so(reason: DialReason | None, event: CallEvent) -> None:
    assert step(DialState.ENDED, None, event) is None
    following = step(DialState.FAILED, reason, event)

    assert following is None or (following[0] is DialState.FAILED and reason in GUESSES)


@pytest.mark.parametrize("reason", [r for r in DialReason if r is not DialReason.INTERRUPTED])
@pytest.mark.parametrize("disposition", [None, Disposition.FAILED, Disposition.ANSWERED])
def test_an_end_that_does_not_say_why_corrects_no_reason(
    reason: DialReason, disposition: Disposition | None
) -> None:
    assert step(DialState.FAILED, reason, ended(disposition)) is None


# -- any order ------------------------------------------------------------------------------

STORIES: dict[str, list[CallEvent]] = {
    "answered": [
        AGENT_RINGS,
        AGENT_ANSWERS,
        CUSTOMER_RINGS,
        CUSTOMER_ANSWERS,
        ended(Disposition.ANSWERED),
    ],
    "busy": [AGENT_RINGS, AGENT_ANSWERS, ended(Disposition.BUSY)],
    "missed": [AGENT_RINGS, AGENT_ANSWERS, CUSTOMER_RINGS, ended(Disposition.MISSED)],
    "unreachable": [AGENT_RINGS, AGENT_ANSWERS, ended(Disposition.FAILED)],
    "agent away": [AGENT_RINGS, ended(Disposition.FAILED)],
}


@cache
def recorded(name: str) -> tuple[CallEvent, ...]:
    tracker = CallTracker(tenant="acme", pbx="main", trunks=["trunk", "trunk2"], extensions=["101"])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for message in AmiParser().feed((RECORDINGS / f"{name}.ami.txt").read_bytes()):
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        found += tracker.feed(message, now=now)
    found += tracker.tick(now + timedelta(seconds=1))
    return tuple(s.body for s in found if isinstance(s.body, CallEvent))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("originate_ami", (DialState.ENDED, None)),
        ("originate_ami_agent_no_answer", (DialState.FAILED, DialReason.AGENT_NO_ANSWER)),
        ("originate_ami_customer_busy", (DialState.FAILED, DialReason.CUSTOMER_BUSY)),
        ("originate_ari", (DialState.ENDED, None)),
        ("click183", (DialState.FAILED, DialReason.CUSTOMER_NO_ANSWER)),
    ],
)
def test_a_recorded_click_to_call_ends_as_it_did(name: str, expected: Progress) -> None:
    assert after(recorded(name)) == expected


def test_a_customer_whose_carrier_plays_the_tone_itself_is_rung() -> None:
    rings = [event for event in recorded("click183") if isinstance(event, CallRinging)]

    assert after(rings) == (DialState.CUSTOMER_RINGING, None)


@pytest.mark.parametrize("name", STORIES)
def test_in_any_order_a_call_ends_in_the_same_state(name: str) -> None:
    ends = {after(events)[0] for events in itertools.permutations(STORIES[name])}

    assert ends == {after(STORIES[name])[0]}


@pytest.mark.parametrize("name", STORIES)
def test_in_any_order_the_agent_reads_the_same_reason(name: str) -> None:
    """Where the end does not say it, what is late of the agent's phone does."""
    ends = {after(events) for events in itertools.permutations(STORIES[name])}

    assert ends == {after(STORIES[name])}


@settings(deadline=None, max_examples=50)
@given(
    name=st.sampled_from(["originate_ami", "originate_ami_customer_busy", "originate_ari"]),
    data=st.data(),
)
def test_a_recorded_click_to_call_ends_in_the_same_state_in_any_order(
    name: str, data: st.DataObject
) -> None:
    events = recorded(name)
    shuffled = data.draw(st.permutations(events + events))

    assert after(shuffled)[0] is after(events)[0]


# -- known better later ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guess", "event", "reason"),
    [
        (DialReason.AGENT_NO_ANSWER, AGENT_ANSWERS, DialReason.CUSTOMER_UNREACHABLE),
        (DialReason.AGENT_NO_ANSWER, ended(Disposition.BUSY), DialReason.CUSTOMER_BUSY),
        (DialReason.AGENT_NO_ANSWER, ended(Disposition.MISSED), DialReason.CUSTOMER_NO_ANSWER),
        (DialReason.CUSTOMER_UNREACHABLE, ended(Disposition.BUSY), DialReason.CUSTOMER_BUSY),
    ],
)
def test_a_reason_that_was_guessed_is_put_right_by_who_knows_it(
    guess: DialReason, event: CallEvent, reason: DialReason
) -> None:
    assert step(DialState.FAILED, guess, event) == (DialState.FAILED, reason)


@pytest.mark.parametrize("event", [AGENT_RINGS, CUSTOMER_RINGS, CUSTOMER_ANSWERS])
@pytest.mark.parametrize("guess", sorted(GUESSES))
def test_what_else_is_late_puts_no_reason_right(guess: DialReason, event: CallEvent) -> None:
    assert step(DialState.FAILED, guess, event) is None


@pytest.mark.parametrize(
    "known", [DialReason.CUSTOMER_BUSY, DialReason.CANCELLED, DialReason.PBX_REFUSED]
)
def test_a_reason_that_is_known_is_not_put_right(known: DialReason) -> None:
    for event in (AGENT_ANSWERS, ended(Disposition.MISSED), ended(Disposition.FAILED)):
        assert step(DialState.FAILED, known, event) is None


# -- given up too early ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (AGENT_RINGS, DialState.AGENT_RINGING),
        (AGENT_ANSWERS, DialState.AGENT_ANSWERED),
        (CUSTOMER_RINGS, DialState.CUSTOMER_RINGING),
        (CUSTOMER_ANSWERS, DialState.CONNECTED),
        (ended(Disposition.ANSWERED), DialState.ENDED),
    ],
)
def test_an_order_that_was_given_up_unknown_goes_on_with_its_call(
    event: CallEvent, expected: DialState
) -> None:
    assert step(DialState.FAILED, DialReason.INTERRUPTED, event) == (expected, None)


def test_an_order_that_was_given_up_unknown_fails_for_the_reason_that_is_seen() -> None:
    busy = ended(Disposition.BUSY)

    assert step(DialState.FAILED, DialReason.INTERRUPTED, busy) == (
        DialState.FAILED,
        DialReason.CUSTOMER_BUSY,
    )


@pytest.mark.parametrize("reason", [r for r in DialReason if r is not DialReason.INTERRUPTED])
def test_an_order_that_failed_for_another_reason_is_over(reason: DialReason) -> None:
    assert step(DialState.FAILED, reason, CUSTOMER_ANSWERS) is None


def test_an_order_that_goes_on_ends_like_any_other() -> None:
    story = STORIES["answered"]

    assert after(story, DialState.FAILED, DialReason.INTERRUPTED) == (DialState.ENDED, None)


# -- cancelled ------------------------------------------------------------------------------


def test_an_agent_who_gives_up_before_the_customer_answers_has_cancelled() -> None:
    gave_up = CallEnded(
        call_id="c1", pbx="main", disposition=Disposition.MISSED, hangup_by="caller"
    )
    events = [AGENT_RINGS, AGENT_ANSWERS, CUSTOMER_RINGS, gave_up]

    assert after(events) == (DialState.FAILED, DialReason.CANCELLED)
    ends = {after(order) for order in itertools.permutations(events)}
    assert ends == {(DialState.FAILED, DialReason.CANCELLED)}


@pytest.mark.parametrize("hangup_by", ["callee", "pbx", None])
def test_a_customer_who_does_not_answer_has_not_cancelled(hangup_by: Any) -> None:
    end = CallEnded(call_id="c1", pbx="main", disposition=Disposition.MISSED, hangup_by=hangup_by)

    assert after([AGENT_RINGS, AGENT_ANSWERS, CUSTOMER_RINGS, end]) == (
        DialState.FAILED,
        DialReason.CUSTOMER_NO_ANSWER,
    )


@pytest.mark.parametrize("disposition", [None, *Disposition])
@pytest.mark.parametrize("state", [state for state in DialState if not state.is_final])
def test_an_end_that_was_wanted_has_no_other_reason(
    state: DialState, disposition: Disposition | None
) -> None:
    found = step(state, None, ended(disposition), cancelled=True)

    talked = disposition is Disposition.ANSWERED or state is DialState.CONNECTED
    assert found == (
        (DialState.ENDED, None) if talked else (DialState.FAILED, DialReason.CANCELLED)
    )


# -- what it cost ---------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECONDS = timedelta(seconds=1)


def a_record(state: DialState, reason: DialReason | None = None, **more: Any) -> DialRecord:
    return DialRecord(
        dial_id="d1",
        extension="101",
        number="+447700900777",
        requested_at=NOON,
        state=state,
        reason=reason,
        changed_at=NOON,
        **more,
    )


@pytest.mark.parametrize(
    ("record", "talk_s", "after_s", "cost"),
    [
        (a_record(DialState.CONNECTED, connected_at=NOON), None, 3600, None),
        (a_record(DialState.FAILED, DialReason.CUSTOMER_BUSY, ended_at=NOON), None, 0, 0),
        # Who cancelled may have spoken already.
        (a_record(DialState.FAILED, DialReason.CANCELLED, ended_at=NOON), None, 59, None),
        (a_record(DialState.FAILED, DialReason.CANCELLED, ended_at=NOON), None, 60, 0),
        (a_record(DialState.FAILED, DialReason.CANCELLED, ended_at=NOON), 121, 0, 21),
        # Nobody knows whether there was a call; it may be seen yet.
        (a_record(DialState.FAILED, DialReason.INTERRUPTED, ended_at=NOON), None, 599, None),
        (a_record(DialState.FAILED, DialReason.INTERRUPTED, ended_at=NOON), None, 600, 0),
        (a_record(DialState.ENDED, connected_at=NOON, ended_at=NOON), None, 0, 7),
        (a_record(DialState.ENDED, connected_at=NOON, ended_at=NOON + 60 * SECONDS), None, 0, 7),
        (a_record(DialState.ENDED, connected_at=NOON, ended_at=NOON + 61 * SECONDS), None, 0, 14),
        # What the PBX tells of it is better than what was seen.
        (a_record(DialState.ENDED, connected_at=NOON, ended_at=NOON + 61 * SECONDS), 5, 0, 7),
        (a_record(DialState.ENDED, ended_at=NOON), 121, 0, 21),
        # Answered, and nobody told when: what is late comes within a minute.
        (a_record(DialState.ENDED, ended_at=NOON), None, 59, None),
        (a_record(DialState.ENDED, ended_at=NOON), None, 60, 7),
        # Clocks of a PBX and ours may differ.
        (a_record(DialState.ENDED, connected_at=NOON, ended_at=NOON - 5 * SECONDS), None, 0, 7),
    ],
)
def test_a_dial_costs_its_begun_minutes_as_soon_as_they_are_known(
    record: DialRecord, talk_s: int | None, after_s: int, cost: int | None
) -> None:
    talk_time = None if talk_s is None else talk_s * SECONDS
    now = NOON + after_s * SECONDS

    assert cost_of(record, price=7, talk_time=talk_time, now=now) == cost
    if cost is not None:
        assert cost_of(record, price=0, talk_time=talk_time, now=now) == 0


# -- times ----------------------------------------------------------------------------------


def test_of_several_beginnings_of_a_conversation_the_first_counts() -> None:
    record = connected(a_record(DialState.AGENT_ANSWERED), CUSTOMER_ANSWERS, at=NOON)
    for at in (NOON + SECONDS, NOON):
        record = connected(record, CUSTOMER_ANSWERS, at=at)
    assert record.connected_at == NOON

    record = connected(record, CUSTOMER_ANSWERS, at=NOON - SECONDS)
    assert record.connected_at == NOON - SECONDS
    assert connected(a_record(DialState.REQUESTED), AGENT_ANSWERS, at=NOON).connected_at is None


def test_what_was_given_up_and_goes_on_has_no_end_and_no_reason() -> None:
    over = moved(
        a_record(DialState.REQUESTED),
        (DialState.FAILED, DialReason.INTERRUPTED),
        at=NOON,
        now=NOON,
    )
    assert (over.ended_at, over.message) == (NOON, DialReason.INTERRUPTED.words)

    found = moved(over, (DialState.AGENT_RINGING, None), at=NOON, now=NOON + SECONDS)
    assert (found.ended_at, found.message, found.changed_at) == (None, None, NOON + SECONDS)


def test_a_reason_that_is_put_right_leaves_the_end_where_it_was() -> None:
    over = a_record(DialState.FAILED, DialReason.AGENT_NO_ANSWER, ended_at=NOON)
    to = DialState.FAILED, DialReason.CUSTOMER_BUSY
    found = moved(over, to, at=NOON - SECONDS, now=NOON + SECONDS)

    assert (found.ended_at, found.message) == (NOON, DialReason.CUSTOMER_BUSY.words)
