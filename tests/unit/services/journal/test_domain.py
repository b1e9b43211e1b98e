from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal.domain import Seen, agent_of, fold
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallQueued,
    CallRecord,
    CallResumed,
    CallRinging,
    CallSummarised,
    CallTransferred,
    Direction,
    Disposition,
    EndKnown,
    EntryState,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
    TransferKind,
)
from shared.contracts.contacts import ContactCard, ContactResolved, ContactUnknown
from shared.contracts.dialing import DialState, DialStateChanged
from shared.contracts.envelope import Event
from shared.contracts.hooks import HookEvent
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.contracts.routing import CallRouted, Destination, RouteDecision, RouteReason
from shared.pbx.asterisk.ami_wire import AmiParser
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.generic.parse import sighting
from shared.testing.builders import NOON, a_call, a_contact

RECORDINGS = Path(__file__).parents[3] / "data" / "pbx"
BASE: dict[str, Any] = {"call_id": "c1", "pbx": "main"}
CUSTOMER = Party(number="447700900123")
OUTSIDE = Party(number="+447700900777")


def phone(extension: str) -> Party:
    return Party(extension=extension)


def ringing(leg: str = "l1", extension: str = "101", **more: Any) -> CallRinging:
    known: dict[str, Any] = {"callee": phone(extension), "caller": CUSTOMER}
    return CallRinging(**BASE, leg_id=leg, **(known | more))


def answered(leg: str = "l1", extension: str = "101", **more: Any) -> CallAnswered:
    return CallAnswered(**BASE, leg_id=leg, **({"callee": phone(extension)} | more))


def leg_ended(
    outcome: LegOutcome = LegOutcome.ANSWERED, leg: str = "l1", extension: str = "101", **more: Any
) -> LegEnded:
    return LegEnded(**BASE, leg_id=leg, outcome=outcome, **({"callee": phone(extension)} | more))


def held(leg: str = "l1") -> CallHeld:
    return CallHeld(**BASE, leg_id=leg)


def resumed(leg: str = "l1") -> CallResumed:
    return CallResumed(**BASE, leg_id=leg)


def ended(**more: Any) -> CallEnded:
    return CallEnded(**BASE, **more)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seen(events: Iterable[tuple[float, Event]]) -> list[Seen]:
    return [Seen(f"e{number}", at(after), body) for number, (after, body) in enumerate(events)]


def record_of(*events: tuple[float, Event]) -> CallRecord:
    """*events*: seconds after noon, and what was seen."""
    return fold("c1", seen(events))


def seconds(length: timedelta) -> float:
    return length.total_seconds()


def outcomes(record: CallRecord) -> dict[str, LegOutcome | None]:
    return {leg.callee.label: leg.outcome for leg in record.legs}


# -- what became of it ----------------------------------------------------------------------


def test_an_answered_call() -> None:
    record = record_of(
        (0, a_call()),
        (1, ringing()),
        (5, answered()),
        (65, leg_ended()),
        (65, ended(hangup_by="caller")),
    )

    assert record.disposition is Disposition.ANSWERED
    assert record.direction is Direction.INBOUND
    assert record.caller == CUSTOMER
    assert record.dialled == "442079460000"
    assert (record.started_at, record.answered_at, record.ended_at) == (at(0), at(5), at(65))
    assert (seconds(record.wait_time), seconds(record.talk_time)) == (4, 60)
    assert record.hangup_by == "caller"
    (leg,) = record.legs
    assert (leg.rang_at, leg.answered_at, leg.ended_at) == (at(1), at(5), at(65))
    assert leg.outcome is LegOutcome.ANSWERED


def test_a_call_that_lasts_has_no_disposition_and_no_talk_time() -> None:
    record = record_of((0, a_call()), (1, ringing()), (5, answered()))

    assert record.disposition is None
    assert record.ended_at is None
    assert record.talk_time == timedelta(0)
    assert seconds(record.wait_time) == 4


@pytest.mark.parametrize(
    ("direction", "outcome", "expected"),
    [
        (Direction.INBOUND, LegOutcome.NO_ANSWER, Disposition.MISSED),
        (Direction.INBOUND, LegOutcome.CANCELLED, Disposition.MISSED),
        (Direction.INBOUND, LegOutcome.UNREACHABLE, Disposition.MISSED),
        (Direction.INBOUND, LegOutcome.BUSY, Disposition.BUSY),
        (Direction.OUTBOUND, LegOutcome.NO_ANSWER, Disposition.MISSED),
        (Direction.OUTBOUND, LegOutcome.BUSY, Disposition.BUSY),
        (Direction.INTERNAL, LegOutcome.NO_ANSWER, Disposition.MISSED),
    ],
)
def test_where_the_pbx_does_not_say_it_follows_from_the_legs_that_rang(
    direction: Direction, outcome: LegOutcome, expected: Disposition
) -> None:
    record = record_of(
        (0, a_call(direction=direction)), (1, ringing()), (9, leg_ended(outcome)), (9, ended())
    )

    assert record.disposition is expected
    assert record.answered_at is None


def test_an_outbound_call_that_rang_nowhere_failed() -> None:
    record = record_of(
        (0, a_call(direction=Direction.OUTBOUND)),
        (1, leg_ended(LegOutcome.UNREACHABLE)),
        (1, ended()),
    )

    assert record.disposition is Disposition.FAILED


def test_the_word_of_the_pbx_goes_before_the_legs() -> None:
    record = record_of((0, a_call()), (1, ringing()), (9, ended(disposition=Disposition.VOICEMAIL)))

    assert record.disposition is Disposition.VOICEMAIL


def test_a_call_that_one_phone_refused_and_another_took_is_answered() -> None:
    record = record_of(
        (0, a_call()),
        (1, leg_ended(LegOutcome.BUSY, "l1", "101")),
        (1, ringing("l2", "102")),
        (3, answered("l2", "102")),
        (9, ended()),
    )

    assert record.disposition is Disposition.ANSWERED


def test_in_a_group_the_faster_phone_has_answered_and_the_other_has_not() -> None:
    record = record_of(
        (0, a_call()),
        (1, ringing("l1", "101")),
        (1, ringing("l2", "102")),
        (3, answered("l2", "102")),
        (3, leg_ended(LegOutcome.ELSEWHERE, "l1", "101")),
        (9, leg_ended(LegOutcome.ANSWERED, "l2", "102")),
        (9, ended()),
    )

    assert outcomes(record) == {"101": LegOutcome.ELSEWHERE, "102": LegOutcome.ANSWERED}
    assert agent_of(record) == "102"


# -- wait, hold, talk -----------------------------------------------------------------------


def test_the_wait_in_a_queue_begins_with_the_queue() -> None:
    record = record_of(
        (0, a_call()),
        (2, CallQueued(**BASE, queue="support")),
        (10, ringing(queue="support")),
        (14, answered()),
        (20, ended()),
    )

    assert seconds(record.wait_time) == 12
    assert record.queue == "support"
    assert record.legs[0].queue == "support"


def test_the_first_of_several_queues_is_the_call_s() -> None:
    record = record_of(
        (0, a_call()),
        (2, CallQueued(**BASE, queue="sales")),
        (30, CallQueued(**BASE, queue="support")),
        (40, ended()),
    )

    assert record.queue == "sales"
    assert seconds(record.wait_time) == 38


def test_who_is_never_answered_waits_until_the_end() -> None:
    record = record_of((0, a_call()), (1, ringing()), (9, ended()))

    assert seconds(record.wait_time) == 8


def test_a_call_that_rang_nowhere_did_not_wait() -> None:
    assert record_of((0, a_call()), (9, ended())).wait_time == timedelta(0)


def test_a_hold_is_no_talk() -> None:
    record = record_of(
        (0, a_call()),
        (0, ringing()),
        (10, answered()),
        (20, held()),
        (25, resumed()),
        (30, held()),
        (45, resumed()),
        (60, ended()),
    )

    assert seconds(record.hold_time) == 20
    assert seconds(record.talk_time) == 30


def test_a_hold_that_nobody_ends_lasts_to_the_end_of_the_call() -> None:
    record = record_of((0, a_call()), (10, answered()), (20, held()), (50, ended()))

    assert seconds(record.hold_time) == 30
    assert seconds(record.talk_time) == 10


def test_a_hold_ends_with_its_leg() -> None:
    """An attended transfer: the agent holds the caller and hangs up; another one goes on."""
    record = record_of(
        (0, a_call()),
        (0, ringing("l1", "101")),
        (10, answered("l1", "101")),
        (20, held("l1")),
        (25, answered("l2", "102")),
        (30, leg_ended(LegOutcome.ANSWERED, "l1", "101")),
        (60, leg_ended(LegOutcome.ANSWERED, "l2", "102")),
        (60, ended()),
    )

    assert seconds(record.hold_time) == 10


def test_a_hold_told_twice_is_one_hold() -> None:
    record = record_of(
        (0, a_call()), (10, answered()), (20, held()), (25, held()), (30, resumed()), (60, ended())
    )

    assert seconds(record.hold_time) == 10


def test_time_in_which_both_parties_hold_counts_once() -> None:
    record = record_of(
        (0, a_call()),
        (10, answered("l1")),
        (20, held("l1")),
        (30, held("l2")),
        (40, resumed("l1")),
        (50, resumed("l2")),
        (60, ended()),
    )

    assert seconds(record.hold_time) == 30
    assert seconds(record.talk_time) == 20


def test_a_resume_without_a_hold_means_nothing() -> None:
    """After a blind transfer by REFER Asterisk says so."""
    record = record_of((0, a_call()), (10, answered()), (20, resumed()), (60, ended()))

    assert record.hold_time == timedelta(0)
    assert seconds(record.talk_time) == 50


def test_the_talk_time_of_the_pbx_goes_before_ours() -> None:
    record = record_of(
        (0, a_call()), (10, answered()), (60, ended(talk_time=timedelta(seconds=42)))
    )

    assert seconds(record.talk_time) == 42


def test_times_that_run_backwards_make_no_negative_length() -> None:
    record = record_of((0, a_call()), (30, ringing()), (40, answered()), (20, ended()))

    assert record.talk_time == timedelta(0)
    assert record.wait_time >= timedelta(0)


# -- transfer, outbound, click-to-call -------------------------------------------------------


def transferred() -> CallRecord:
    return record_of(
        (0, a_call()),
        (0, ringing("l1", "101")),
        (5, answered("l1", "101")),
        (
            20,
            CallTransferred(**BASE, kind=TransferKind.BLIND, by=phone("101"), to=phone("102")),
        ),
        (20, leg_ended(LegOutcome.ANSWERED, "l1", "101")),
        (21, ringing("l2", "102")),
        (24, answered("l2", "102")),
        (60, leg_ended(LegOutcome.ANSWERED, "l2", "102")),
        (60, ended()),
    )


def test_a_transfer_says_who_passed_the_call_to_whom() -> None:
    (transfer,) = transferred().transfers

    assert (transfer.kind, transfer.by.label, transfer.to.label) == ("blind", "101", "102")
    assert transfer.at == at(20)


def test_a_transferred_call_belongs_to_who_took_it_last() -> None:
    record = transferred()

    assert agent_of(record) == "102"
    assert seconds(record.wait_time) == 5


def passed(by: str, to: str) -> CallTransferred:
    return CallTransferred(**BASE, kind=TransferKind.BLIND, by=phone(by), to=phone(to))


@pytest.mark.parametrize("ends_are_told", [True, False])
def test_a_phone_that_gets_the_call_back_has_another_leg_of_the_same_name(
    ends_are_told: bool,
) -> None:
    """As PBXs tell it that name legs by extensions."""
    events = [
        (0, a_call()),
        (1, ringing("101", "101")),
        (5, answered("101", "101")),
        (60, passed("101", "102")),
        (60, leg_ended(leg="101", extension="101")),
        (60, ringing("102", "102")),
        (65, answered("102", "102")),
        (100, passed("102", "101")),
        (100, leg_ended(leg="102", extension="102")),
        (101, ringing("101", "101")),
        (105, answered("101", "101")),
        (300, leg_ended(leg="101", extension="101")),
        (300, ended()),
    ]
    told = [(at, one) for at, one in events if ends_are_told or not isinstance(one, LegEnded)]

    record = record_of(*told)

    assert [leg.leg_id for leg in record.legs] == ["101", "102", "101"]
    assert [leg.answered_at for leg in record.legs] == [at(5), at(65), at(105)]
    ends = [at(60), at(100), at(300)] if ends_are_told else [None] * 3
    assert [leg.ended_at for leg in record.legs] == ends
    assert agent_of(record) == "101"


def test_a_leg_whose_end_is_told_by_a_clock_that_is_behind_is_one() -> None:
    record = record_of(
        (0, a_call()), (1, ringing()), (3, leg_ended()), (5, answered()), (65, ended())
    )

    (leg,) = record.legs
    assert (leg.rang_at, leg.answered_at, leg.ended_at) == (at(1), at(5), at(3))


def test_an_outbound_call_is_the_callers_and_about_the_dialled_number() -> None:
    record = record_of(
        (0, a_call(direction=Direction.OUTBOUND, caller=phone("101"), dialled="+447700900777")),
        (1, ringing(callee=OUTSIDE)),
        (5, answered(callee=OUTSIDE)),
        (65, ended(hangup_by="callee")),
    )

    assert agent_of(record) == "101"
    assert record.outside_number == "+447700900777"
    assert record.disposition is Disposition.ANSWERED


def click_to_call(*after_own_ring: tuple[float, Event]) -> CallRecord:
    started = a_call(
        direction=Direction.OUTBOUND,
        caller=phone("101"),
        dialled="+447700900777",
        dial_id="d1",
    )
    return record_of((0, started), (0, ringing("own", "101", own_phone=True)), *after_own_ring)


def test_in_click_to_call_the_customer_s_answer_counts_and_not_the_own_phone() -> None:
    record = click_to_call(
        (3, answered("own", "101", own_phone=True)),
        (4, ringing("l2", callee=OUTSIDE)),
        (10, answered("l2", callee=OUTSIDE)),
        (40, ended()),
    )

    assert record.answered_at == at(10)
    assert (seconds(record.wait_time), seconds(record.talk_time)) == (6, 30)
    assert record.dial_id == "d1"
    assert agent_of(record) == "101"


@pytest.mark.parametrize("after", [1.5, 900.0])
def test_what_the_customer_of_a_click_sees_is_known_by_its_order(after: float) -> None:
    told = DialStateChanged(
        dial_id="d1",
        call_id="c1",
        extension="101",
        number="+447700900123",
        state=DialState.AGENT_RINGING,
        caller_id="+442079460000",
    )
    without = told.model_copy(update={"caller_id": None})
    record = click_to_call((after, told), (after + 1, without))
    assert record.caller_id == "+442079460000"
    assert record.model_copy(update={"caller_id": None}) == click_to_call()


def test_click_to_call_that_only_the_agent_took_is_not_answered() -> None:
    record = click_to_call(
        (3, answered("own", "101", own_phone=True)),
        (4, ringing("l2", callee=OUTSIDE)),
        (20, leg_ended(LegOutcome.NO_ANSWER, "l2", callee=OUTSIDE)),
        (20, ended()),
    )

    assert record.disposition is Disposition.MISSED
    assert record.talk_time == timedelta(0)


def test_click_to_call_whose_agent_does_not_pick_up_called_nobody() -> None:
    record = click_to_call(
        (15, leg_ended(LegOutcome.NO_ANSWER, "own", "101", own_phone=True)), (15, ended())
    )

    assert record.disposition is Disposition.FAILED
    assert record.wait_time == timedelta(0)


def test_a_generic_hook_without_talk_time_gives_one() -> None:
    hooks: list[dict[str, Any]] = [
        {"event": "started", "at": "00", "direction": "inbound", "caller": "447700900123"},
        {"event": "ringing", "at": "02", "extension": "101"},
        {"event": "answered", "at": "07", "extension": "101"},
        {"event": "held", "at": "20", "extension": "101"},
        {"event": "resumed", "at": "30", "extension": "101"},
        {"event": "ended", "at": "47"},
    ]
    events = [
        HookEvent.model_validate({**hook, "call": "x1", "at": f"2026-01-01T12:00:{hook['at']}Z"})
        for hook in hooks
    ]
    sightings = [sighting(event, tenant="acme", pbx="cloud") for event in events]

    record = fold("c1", [Seen(s.key, s.at, s.body) for s in sightings])

    assert record.disposition is Disposition.ANSWERED
    assert (seconds(record.wait_time), seconds(record.hold_time)) == (5, 10)
    assert seconds(record.talk_time) == 30
    assert agent_of(record) == "101"


# -- what comes late, or beside --------------------------------------------------------------


def test_of_nothing_nothing_is_known() -> None:
    assert fold("c1", []) == CallRecord(call_id="c1")


@pytest.mark.parametrize("better", list(EndKnown))
@pytest.mark.parametrize("worse", list(EndKnown))
@pytest.mark.parametrize("first", [8.0, 12.0])
def test_of_several_ends_the_better_known_one_holds(
    better: EndKnown, worse: EndKnown, first: float
) -> None:
    """Whichever was earlier, and whichever came first."""
    if better.rank >= worse.rank:
        return
    good = ended(known=better, talk_time=timedelta(seconds=3), hangup_by="caller")
    record = record_of((0, a_call()), (1, answered()), (first, ended(known=worse)), (10, good))
    assert record.ended_at == at(10)
    assert (record.end_known, record.hangup_by) == (better, "caller")
    assert seconds(record.talk_time) == 3


@pytest.mark.parametrize("first", [8.0, 12.0])
def test_what_the_better_known_end_does_not_say_the_other_may(first: float) -> None:
    """A hook that says only that a call ended, and the record of a call that went to voicemail."""
    report = ended(known=EndKnown.REPORT, disposition=Disposition.VOICEMAIL, hangup_by="caller")
    record = record_of((0, a_call()), (1, ringing()), (first, report), (10, ended()))
    assert record.ended_at == at(10)
    assert record.end_known is EndKnown.SEEN
    assert (record.disposition, record.hangup_by) == (Disposition.VOICEMAIL, "caller")


def test_a_late_event_fills_its_gap() -> None:
    events = seen([(0, a_call()), (1, ringing()), (5, answered()), (60, ended())])
    late = Seen("late", at(61), RecordingReady(**BASE, recording="/rec/c1.wav"))

    record = fold("c1", [*events[1:], late, events[0]])

    assert record.recordings == ("/rec/c1.wav",)
    assert record.caller == CUSTOMER
    assert record.ended_at == at(60)


def test_a_recording_told_twice_is_one() -> None:
    ready = RecordingReady(**BASE, recording="/rec/c1.wav")

    assert record_of((1, ready), (2, ready)).recordings == ("/rec/c1.wav",)


def test_a_contact_that_is_found_goes_before_one_that_was_not() -> None:
    card = a_contact()
    resolved = ContactResolved(call_id="c1", number="1", contact=card, candidates=(card,))
    unknown = ContactUnknown(call_id="c1", number="1")

    for events in ((unknown, resolved), (resolved, unknown)):
        record = record_of(*enumerate(events))
        assert (record.contact, record.contact_known) == (card, True)


def test_a_number_that_nobody_knows_is_not_one_that_nobody_asked_for() -> None:
    asked = record_of((0, ContactUnknown(call_id="c1", number="1")))

    assert asked.contact_known is False
    assert record_of((0, a_call())).contact_known is None


def test_the_route_is_kept_with_its_reason() -> None:
    decision = RouteDecision(
        destination=Destination.parse("queue:gold"), reason=RouteReason.ROW_MATCHED
    )
    routed = CallRouted(call_id="c1", pbx="main", did="442079460000", decision=decision)

    assert record_of((0, routed), (1, a_call())).route == decision


def test_what_was_told_last_of_an_entry_holds() -> None:
    """One that died may be sent after all; one that the CRM lost may die when it is sent again."""
    sent = CallJournaled(call_id="c1", connection="zoho", entry_id="77")
    failed = JournalFailed(call_id="c1", connection="zoho", reason="refused", attempts=3)
    again = failed.model_copy(update={"reason": "refused again"})

    (entry,) = record_of((0, failed), (1, sent)).entries
    assert (entry.state, entry.entry_id) == (EntryState.SENT, "77")
    (entry,) = record_of((0, sent), (1, failed), (2, again)).entries
    assert (entry.state, entry.reason) == (EntryState.DEAD, "refused again")


def test_an_entry_that_becomes_another_agents_stays_one() -> None:
    said: dict[str, Any] = {"call_id": "c1", "connection": "zoho"}
    of_101 = CallJournaled(**said, agent="101", entry="c1/zoho/101", entry_id="77")
    # Told by an older version: by its agent alone.
    older = of_101.model_copy(update={"entry": None})
    of_102 = of_101.model_copy(update={"agent": "102", "updated": True})
    failed = JournalFailed(**said, agent="101", entry="c1/zoho/101", reason="no", attempts=1)

    for first in (of_101, older, failed):
        (entry,) = record_of((0, first), (1, of_102)).entries
        assert (entry.agent, entry.state, entry.updates) == ("102", EntryState.UPDATED, 1)


def test_one_that_is_sent_again_under_another_id_has_not_been_changed() -> None:
    first = CallJournaled(call_id="c1", connection="zoho", entry_id="77")
    changed = first.model_copy(update={"updated": True})
    again = first.model_copy(update={"entry_id": "78"})

    (entry,) = record_of((0, first), (1, changed), (2, again)).entries
    assert (entry.entry_id, entry.state, entry.updates) == ("78", EntryState.SENT, 0)


def test_each_crm_has_its_entry() -> None:
    record = record_of(
        (0, CallJournaled(call_id="c1", connection="zoho", entry_id="77")),
        (0, JournalFailed(call_id="c1", connection="other", reason="refused", attempts=3)),
    )

    states = {entry.connection: entry.state for entry in record.entries}
    assert states == {"zoho": EntryState.SENT, "other": EntryState.DEAD}


def test_each_agent_has_an_entry_of_his_own() -> None:
    record = record_of(
        (0, CallJournaled(call_id="c1", connection="zoho", agent="101", entry_id="77")),
        (0, CallJournaled(call_id="c1", connection="zoho", agent="102", entry_id="78")),
        (
            1,
            CallJournaled(
                call_id="c1", connection="zoho", agent="101", entry_id="77", updated=True
            ),
        ),
    )

    said = {entry.agent: (entry.entry_id, entry.state, entry.updates) for entry in record.entries}
    assert said == {"101": ("77", EntryState.UPDATED, 1), "102": ("78", EntryState.SENT, 0)}


def test_what_was_said_in_it_is_the_last_word_on_each_part() -> None:
    record = record_of(
        (70, CallSummarised(**BASE, summary="wants a quote", sentiment="0.2")),
        (90, CallSummarised(**BASE, summary="wants two quotes", transcription="Hello?")),
    )

    assert (record.summary, record.transcription) == ("wants two quotes", "Hello?")
    assert record.sentiment == "0.2"


# -- order and repeats mean nothing ----------------------------------------------------------


@cache
def recorded_calls(name: str) -> dict[str, list[Seen]]:
    """The events of each call of a recording, in the order in which they were seen."""
    tracker = CallTracker(
        tenant="acme", pbx="main", trunks=["trunk"], extensions=["101", "102", "103"]
    )
    now = NOON
    sightings = []
    for message in AmiParser().feed((RECORDINGS / f"{name}.ami.txt").read_bytes()):
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        sightings += tracker.feed(message, now=now)
    sightings += tracker.tick(now + timedelta(seconds=1))
    calls: dict[str, list[Seen]] = {}
    for found in sightings:
        if isinstance(found.body, CallEvent):
            calls.setdefault(found.body.call_id, []).append(Seen(found.key, found.at, found.body))
    return calls


def shuffled(events: list[Seen], chance: random.Random) -> list[Seen]:
    """*events* in another order, some of them twice or three times."""
    more = [event for event in events for _ in range(chance.choice([1, 1, 2, 3]))]
    chance.shuffle(more)
    return more


@pytest.mark.parametrize(
    "name", sorted(path.name.removesuffix(".ami.txt") for path in RECORDINGS.glob("*.ami.txt"))
)
@settings(deadline=None, max_examples=15)
@given(chance=st.randoms(use_true_random=False))
def test_a_recorded_call_adds_up_to_the_same_in_any_order(name: str, chance: random.Random) -> None:
    for call_id, events in recorded_calls(name).items():
        assert fold(call_id, shuffled(events, chance)) == fold(call_id, events)


BODIES = st.sampled_from(
    [
        a_call(),
        CallQueued(**BASE, queue="support"),
        ringing("l1", "101"),
        ringing("l2", "102"),
        answered("l1", "101"),
        answered("l2", "102"),
        held("l1"),
        resumed("l1"),
        held("l2"),
        resumed("l2"),
        leg_ended(LegOutcome.BUSY, "l1", "101"),
        leg_ended(LegOutcome.ANSWERED, "l2", "102"),
        ContactUnknown(call_id="c1", number="1"),
        ContactResolved(call_id="c1", number="1", contact=a_contact()),
        JournalFailed(call_id="c1", connection="zoho", reason="refused", attempts=3),
        CallJournaled(call_id="c1", connection="zoho", entry_id="77"),
        RecordingReady(**BASE, recording="a.wav"),
        ended(hangup_by="caller"),
    ]
)


@settings(deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 4), BODIES), max_size=12),
    chance=st.randoms(use_true_random=False),
)
def test_any_events_add_up_to_the_same_in_any_order(
    events: list[tuple[int, Event]], chance: random.Random
) -> None:
    """Whole seconds, so that many of them happen at the same moment."""
    in_order = seen(events)

    record = fold("c1", shuffled(in_order, chance))

    assert record == fold("c1", in_order)
    assert min(record.wait_time, record.hold_time, record.talk_time) >= timedelta(0)


# -- whose call -----------------------------------------------------------------------------


def test_a_missed_call_is_of_the_phone_that_rang_first() -> None:
    record = record_of(
        (0, a_call()), (1, ringing("l2", "102")), (2, ringing("l1", "101")), (9, ended())
    )

    assert agent_of(record) == "102"


def test_a_phone_that_rang_goes_before_one_that_could_not() -> None:
    record = record_of(
        (0, a_call()),
        (1, leg_ended(LegOutcome.UNREACHABLE, "l1", "101")),
        (2, ringing("l2", "102")),
        (9, ended()),
    )

    assert agent_of(record) == "102"


def test_a_call_that_was_offered_to_no_phone_is_nobody_s() -> None:
    assert agent_of(record_of((0, a_call()), (9, ended()))) is None


@pytest.mark.parametrize(
    ("place", "expected"),
    [("extension:199", "199"), ("voicemail:108", "108"), ("queue:support", None), (None, None)],
)
def test_where_no_phone_rang_it_is_whose_phone_or_voicemail_it_was_sent_to(
    place: str | None, expected: str | None
) -> None:
    """A phone that is off makes no leg: the decision is all that says whom the call was for."""
    decision = RouteDecision(
        destination=Destination.parse(place) if place else None, reason=RouteReason.ROW_MATCHED
    )
    routed = CallRouted(**BASE, did="442079460000", decision=decision)
    assert agent_of(record_of((0, a_call()), (1, routed), (9, ended()))) == expected


# -- who of several is it? --------------------------------------------------------------------

ADA, BOB = a_contact(), a_contact(contact_id="830", display_name="Bob")


def several(**changes: Any) -> ContactResolved:
    known: dict[str, Any] = {"contact": ADA, "candidates": (ADA, BOB), "ambiguous": True}
    return ContactResolved(call_id="c1", number="1", **(known | changes))


def chosen(card: ContactCard) -> ContactResolved:
    return several(contact=card, ambiguous=False, chosen_by="screen")


def test_where_the_agent_has_to_choose_nobody_is_the_contact_yet() -> None:
    record = record_of((0, a_call()), (1, several()))
    assert (record.contact, record.contact_known) == (None, True)
    assert record.candidates == (ADA, BOB)


@pytest.mark.parametrize("automatic_at", [1, 3])
@pytest.mark.parametrize("arrives", ["first", "last"])
def test_a_choice_stands_whenever_the_lookup_ends(automatic_at: float, arrives: str) -> None:
    events: list[tuple[float, Event]] = [(automatic_at, several()), (2, chosen(BOB))]
    record = record_of((0, a_call()), *(events if arrives == "first" else events[::-1]))
    assert (record.contact, record.chosen_by) == (BOB, "screen")
    assert record.candidates == (ADA, BOB)


def test_the_last_choice_counts() -> None:
    record = record_of((3, chosen(ADA)), (2, chosen(BOB)), (1, chosen(ADA)), (0, several()))
    assert record.contact == ADA


def test_a_choice_outlives_a_lookup_that_knows_only_one() -> None:
    alone = several(candidates=(ADA,), ambiguous=False)
    assert record_of((1, chosen(BOB)), (2, alone)).contact == BOB
