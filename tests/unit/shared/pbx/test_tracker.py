from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.contracts.envelope import wrap
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.channels import endpoint_of
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Phones, Sighting
from shared.sandbox.pbx import LiveChannels

RECORDINGS = Path(__file__).parents[3] / "data" / "pbx"
NAMES = sorted(path.name.removesuffix(".ami.txt") for path in RECORDINGS.glob("*.ami.txt"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LINGER = timedelta(milliseconds=200)
TRUNK, CUSTOMER, DID = "PJSIP/trunk-00000001", "447700900123", "442079460000"


def a_tracker(**changes: Any) -> CallTracker:
    known: dict[str, Any] = {
        "tenant": "acme",
        "pbx": "main",
        "trunks": ["trunk", "trunk2"],
        "extensions": ["101", "102", "103"],
    }
    return CallTracker(**(known | changes))


@cache
def recorded(name: str) -> tuple[AmiMessage, ...]:
    return tuple(AmiParser().feed((RECORDINGS / f"{name}.ami.txt").read_bytes()))


def replayed(messages: Iterable[AmiMessage], tracker: CallTracker | None = None) -> list[Sighting]:
    """By the messages' own clock, and a second more, so that what has ended is told."""
    tracker = tracker or a_tracker()
    now, found = NOON, []
    for message in messages:
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        found += tracker.feed(message, now=now)
    return found + tracker.tick(now + timedelta(seconds=1))


def event(name: str, after: float | None = None, /, **headers: str) -> AmiMessage:
    """*after* seconds from noon; None: a PBX without ``timestampevents``."""
    known = {"Event": name, **headers}
    if after is not None:
        known["Timestamp"] = f"{NOON.timestamp() + after:.6f}"
    return AmiMessage({key: (value,) for key, value in known.items()})


def caller_comes(after: float = 0, **changes: str) -> AmiMessage:
    known = {
        "Channel": TRUNK,
        "Uniqueid": "1.0",
        "Linkedid": "1.0",
        "ChannelStateDesc": "Ring",
        "CallerIDNum": CUSTOMER,
        "CallerIDName": "Customer",
        "Exten": DID,
    }
    return event("Newchannel", after, **(known | changes))


def phone_rings(
    after: float, extension: str = "101", leg: str = "1.1", call: str = "1.0"
) -> list[AmiMessage]:
    ids = {"Channel": f"PJSIP/{extension}-0000000{leg[-1]}", "Uniqueid": leg, "Linkedid": call}
    shown = {"ConnectedLineNum": CUSTOMER, "ConnectedLineName": "Customer"}
    return [
        event("Newchannel", after, ChannelStateDesc="Down", **ids),
        event("DialBegin", after, DestUniqueid=leg, DestLinkedid=call, DialString=extension),
        event("Newstate", after, ChannelStateDesc="Ringing", **ids, **shown),
    ]


def dial_end(after: float, status: str = "ANSWER", leg: str = "1.1") -> AmiMessage:
    return event("DialEnd", after, DestUniqueid=leg, DialStatus=status)


def enters(after: float, leg: str, bridge: str = "b1") -> AmiMessage:
    return event("BridgeEnter", after, BridgeUniqueid=bridge, Uniqueid=leg)


def leaves(after: float, leg: str, bridge: str = "b1") -> AmiMessage:
    return event("BridgeLeave", after, BridgeUniqueid=bridge, Uniqueid=leg)


def hangs_up(after: float, leg: str, cause: str = "16") -> AmiMessage:
    return event("Hangup", after, Uniqueid=leg, Cause=cause)


def asks_to_hang_up(after: float, leg: str) -> AmiMessage:
    return event("HangupRequest", after, Uniqueid=leg)


def talking() -> list[AmiMessage]:
    """A caller and 101, who picks up after five seconds."""
    return [caller_comes(), *phone_rings(1), dial_end(5), enters(5, "1.1"), enters(5, "1.0")]


def over(after: float, *legs: str) -> list[AmiMessage]:
    return [
        *(leaves(after, leg) for leg in legs),
        *(hangs_up(after, leg) for leg in legs),
    ]


def bodies(found: Sequence[Sighting], kind: type[Any]) -> list[Any]:
    return [sighting.body for sighting in found if isinstance(sighting.body, kind)]


def the(found: Sequence[Sighting], kind: type[Any]) -> Any:
    (body,) = bodies(found, kind)
    return body


def calls_in(found: Iterable[Sighting]) -> set[str]:
    return {sighting.body.call_id for sighting in found if isinstance(sighting.body, CallEvent)}


def by_key(found: Iterable[Sighting]) -> dict[str, Sighting]:
    return {sighting.key: sighting for sighting in found}


# -- identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_two_replicas_see_the_same(name: str) -> None:
    assert replayed(recorded(name)) == replayed(recorded(name))


@pytest.mark.parametrize("other", [{"tenant": "other"}, {"pbx": "second"}], ids=str)
def test_another_tenant_or_pbx_has_other_calls(other: dict[str, str]) -> None:
    ours = replayed(recorded("answered"))
    theirs = replayed(recorded("answered"), a_tracker(**other))

    assert len(ours) == len(theirs)
    assert calls_in(ours).isdisjoint(calls_in(theirs))


def test_a_call_s_id_is_made_of_its_linkedid() -> None:
    found = replayed(recorded("answered"))

    assert calls_in(found) == {call_id("acme", "main", "1795244075.0")}


@pytest.mark.parametrize("name", NAMES)
def test_no_two_sightings_of_a_recording_share_a_key(name: str) -> None:
    found = replayed(recorded(name))

    assert len(by_key(found)) == len(found)


# -- repeats and gaps -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_event_that_comes_twice_says_nothing_new(name: str) -> None:
    twice = replayed(message for message in recorded(name) for _ in range(2))

    assert by_key(twice) == by_key(replayed(recorded(name)))


@pytest.mark.parametrize("name", NAMES)
def test_all_events_once_more_right_away_say_nothing_new(name: str) -> None:
    """Two links that read the same PBX; the second is a little behind."""
    tracker, found = a_tracker(), []
    for before, message in pairwise([None, *recorded(name)]):
        now = datetime.fromtimestamp(float(message.get("Timestamp") or 0), UTC) if message else NOON
        for one in (message, before):
            found += tracker.feed(one, now=now) if one else []
    found += tracker.tick(datetime(2100, 1, 1, tzinfo=UTC))

    assert set(by_key(found)) == set(by_key(replayed(recorded(name))))


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(NAMES), share=st.floats(0, 1))
def test_joining_in_the_middle_of_a_call_is_no_error(name: str, share: float) -> None:
    messages = recorded(name)

    found = replayed(messages[round(share * len(messages)) :])

    assert set(by_key(found)) <= set(by_key(replayed(messages)))


@pytest.mark.parametrize("name", ["answered", "queue_ringall", "transfer_attended", "voicemail"])
def test_of_a_call_whose_beginning_was_missed_nothing_is_told(name: str) -> None:
    messages = recorded(name)
    begin = next(n for n, message in enumerate(messages) if message.event == "Newchannel")

    assert replayed(messages[begin + 1 :]) == []


def test_unknown_channels_leave_nothing_behind() -> None:
    tracker = a_tracker()
    replayed(talking()[1:] + over(9, "1.0", "1.1"), tracker)

    assert tracker.live_calls == 0


# -- the end of a call ----------------------------------------------------------------------


def test_a_call_ends_when_nothing_followed_its_last_leg_for_a_moment() -> None:
    tracker = a_tracker()
    gone = NOON + timedelta(seconds=9)
    for message in talking() + over(9, "1.0", "1.1"):
        tracker.feed(message, now=gone)

    assert tracker.tick(gone + LINGER / 2) == []
    (ended,) = tracker.tick(gone + LINGER)
    assert isinstance(ended.body, CallEnded)
    assert ended.at == gone
    assert tracker.tick(gone + 2 * LINGER) == []
    assert tracker.live_calls == 0


def test_a_leg_that_comes_within_the_moment_keeps_the_call_open() -> None:
    tracker = a_tracker()
    gone = NOON + timedelta(seconds=9)
    for message in talking() + over(9, "1.0", "1.1"):
        tracker.feed(message, now=gone)
    for message in phone_rings(9.1, "102", "1.2"):
        tracker.feed(message, now=gone + LINGER / 2)

    assert bodies(tracker.tick(gone + 2 * LINGER), CallEnded) == []
    assert tracker.live_calls == 1


def test_the_next_event_closes_what_is_due_without_a_tick() -> None:
    tracker = a_tracker()
    for message in talking() + over(9, "1.0", "1.1"):
        tracker.feed(message, now=NOON + timedelta(seconds=9))

    found = tracker.feed(
        caller_comes(12, Uniqueid="2.0", Linkedid="2.0"), now=NOON + timedelta(seconds=12)
    )

    assert the(found, CallEnded).call_id == call_id("acme", "main", "1.0")


def test_times_are_the_pbx_s_and_the_waiting_is_by_our_clock() -> None:
    """A PBX whose clock is an hour ahead: what it stamps is kept, and its calls end in time."""
    tracker = a_tracker()
    ours = NOON - timedelta(hours=1)
    for message in talking() + over(9, "1.0", "1.1"):
        tracker.feed(message, now=ours)

    (ended,) = tracker.tick(ours + LINGER)
    assert ended.at == NOON + timedelta(seconds=9)


def test_a_pbx_without_timestamps_is_read_by_our_clock() -> None:
    tracker = a_tracker()
    found = []
    for second, message in enumerate(talking() + over(9, "1.0", "1.1")):
        bare = {k: v for k, v in message.headers.items() if k != "Timestamp"}
        found += tracker.feed(AmiMessage(bare), now=NOON + timedelta(seconds=second))
    found += tracker.tick(NOON + timedelta(minutes=1))

    times = {type(sighting.body): sighting.at for sighting in found}
    assert times[CallStarted] == NOON
    assert times[CallRinging] == NOON + timedelta(seconds=3)
    assert times[CallEnded] == NOON + timedelta(seconds=10)
    assert the(found, CallEnded).talk_time == timedelta(seconds=1)


# -- after a gap ----------------------------------------------------------------------------


def channel(
    leg: str, state: str, *, bridge: str = "", call: str = "1.0", **more: str
) -> AmiMessage:
    """An item of CoreShowChannels."""
    name = TRUNK if leg == "1.0" else f"PJSIP/10{leg[-1]}-0000000{leg[-1]}"
    ids = {"Channel": name, "Uniqueid": leg, "Linkedid": call}
    return event("CoreShowChannel", ChannelStateDesc=state, BridgeId=bridge, **(ids | more))


def up(leg: str, bridge: str = "b1", **more: str) -> AmiMessage:
    return channel(leg, "Up", bridge=bridge, **more)


def test_a_resync_ends_what_is_gone() -> None:
    tracker = a_tracker()
    replayed(talking(), tracker)

    found = tracker.resync([], now=NOON + timedelta(minutes=1))

    assert the(found, LegEnded).outcome is LegOutcome.ANSWERED
    ended = the(found, CallEnded)
    # What a phone did is known; how the call ended, and when, is not.
    assert (ended.known, ended.disposition, ended.talk_time) == (EndKnown.RESYNC, None, None)
    assert tracker.live_calls == 0


def test_a_call_that_was_ending_before_the_gap_has_ended_as_it_was_seen() -> None:
    tracker = a_tracker()
    for message in [*talking(), *over(9, "1.0", "1.1")]:
        tracker.feed(message, now=NOON + timedelta(seconds=9))

    found = tracker.resync([], now=NOON + timedelta(seconds=9.1))

    ended = the(found, CallEnded)
    assert (ended.known, ended.disposition) == (EndKnown.SEEN, Disposition.ANSWERED)


def test_a_call_that_is_listed_before_its_beginning_is_read_was_seen_from_its_beginning() -> None:
    """Events come while the list is asked for; they wait until it is read."""
    tracker = a_tracker()
    listed = tracker.resync([channel("1.0", "Ring")], now=NOON)

    found = replayed([*talking(), *over(9, "1.0", "1.1")], tracker)

    ended = the(found, CallEnded)
    assert (ended.known, ended.talk_time) == (EndKnown.SEEN, timedelta(seconds=4))
    assert len(bodies(listed + found, CallStarted)) == 1


def test_who_is_joined_in_the_gap_to_a_call_that_began_in_it_keeps_the_own_call() -> None:
    """The customer's channel has come under a Linkedid of which nothing was heard."""
    tracker = a_tracker()
    replayed(talking(), tracker)

    elsewhere = {"call": "0.9"}
    found = tracker.resync([up("1.0", **elsewhere), up("1.2", **elsewhere)], now=NOON)
    after = replayed(over(60, "1.0", "1.2"), tracker)

    assert calls_in(found + after) == {call_id("acme", "main", "1.0")}
    assert the(found, CallAnswered).callee.label == "102"
    assert the(after, CallEnded).disposition is Disposition.ANSWERED
    assert tracker.live_calls == 0


def test_a_resync_keeps_what_lives_and_it_ends_once() -> None:
    tracker = a_tracker()
    before = replayed(talking(), tracker)

    kept = tracker.resync([up("1.0"), up("1.1")], now=NOON + timedelta(minutes=1))
    after = replayed(over(90, "1.0", "1.1"), tracker)

    assert kept == []
    assert tracker.live_calls == 0
    assert set(by_key(before + after)) == set(by_key(replayed(talking() + over(90, "1.0", "1.1"))))


def test_a_resync_ends_one_leg_of_a_call_that_lives() -> None:
    tracker = a_tracker()
    replayed([caller_comes(), *phone_rings(1), *phone_rings(1, "102", "1.2")], tracker)

    live = [channel("1.0", "Ring"), channel("1.1", "Ringing")]
    found = tracker.resync(live, now=NOON + timedelta(minutes=1))

    ended = the(found, LegEnded)
    assert (ended.leg_id, ended.outcome) == ("1.2", LegOutcome.NO_ANSWER)
    assert tracker.live_calls == 1


def test_a_call_that_a_resync_ended_does_not_end_again() -> None:
    tracker = a_tracker()
    replayed(talking(), tracker)
    tracker.resync([], now=NOON + timedelta(minutes=1))

    assert replayed(over(90, "1.0", "1.1"), tracker) == []


def test_who_answered_in_the_gap_has_answered_now() -> None:
    tracker = a_tracker()
    replayed([caller_comes(), *phone_rings(1), *phone_rings(1, "102", "1.2")], tracker)
    back = NOON + timedelta(seconds=6)

    found = tracker.resync([up("1.0"), up("1.1")], now=back)
    end = replayed(over(66, "1.0", "1.1"), tracker)

    (answer,) = [s for s in found if isinstance(s.body, CallAnswered)]
    assert (answer.at, answer.body) == (
        back,
        CallAnswered(
            call_id=call_id("acme", "main", "1.0"),
            pbx="main",
            leg_id="1.1",
            callee=Party(extension="101"),
        ),
    )
    # The phone that was slower is gone, and was not the caller's wish.
    assert the(found, LegEnded).outcome is LegOutcome.ELSEWHERE
    ended = the(end, CallEnded)
    assert (ended.disposition, ended.talk_time) == (Disposition.ANSWERED, timedelta(minutes=1))


def test_a_phone_that_began_to_ring_in_the_gap_rings_now() -> None:
    tracker = a_tracker()
    replayed([caller_comes()], tracker)
    shown = {"ConnectedLineNum": CUSTOMER, "ConnectedLineName": "Customer"}

    found = tracker.resync(
        [channel("1.0", "Ring"), channel("1.1", "Ringing", **shown)],
        now=NOON + timedelta(seconds=6),
    )
    after = replayed([dial_end(8), *over(9, "1.0", "1.1")], tracker)

    ringing = the(found, CallRinging)
    assert (ringing.callee.label, ringing.caller.number) == ("101", CUSTOMER)
    assert the(after, CallEnded).disposition is Disposition.ANSWERED
    assert tracker.live_calls == 0


def test_a_line_that_was_dialled_in_the_gap_makes_the_call_outbound() -> None:
    tracker = a_tracker()
    replayed([phone_dials("907700900777")], tracker)
    line = {"Channel": "PJSIP/trunk-00000002", "CallerIDNum": "07700900777"}

    found = tracker.resync(
        [up("1.0", Channel="PJSIP/101-00000001"), up("1.1", **line)],
        now=NOON + timedelta(seconds=6),
    )

    started = the(found, CallStarted)
    assert (started.direction, started.dialled) == (Direction.OUTBOUND, "07700900777")
    assert the(found, CallAnswered).callee == Party(number="07700900777")


def test_the_agent_s_own_phone_that_answered_in_the_gap_answered_no_call() -> None:
    tracker = a_tracker()
    begin = next(n for n, m in enumerate(recorded("originate_ami")) if m.event == "DialEnd")
    for message in recorded("originate_ami")[:begin]:
        tracker.feed(message, now=NOON)

    own = {"Channel": "PJSIP/101-00000000"}
    found = tracker.resync([up("click-0001", call="click-0001", bridge="", **own)], now=NOON)
    end = replayed(over(60, "click-0001"), tracker)

    assert the(found, CallAnswered).own_phone
    assert the(end, CallEnded).disposition is Disposition.FAILED


def test_a_talk_that_began_in_a_parking_lot_s_gap_is_none() -> None:
    """Two wait in one bridge, each in a call of its own."""
    tracker = a_tracker()
    replayed([caller_comes(), caller_comes(Uniqueid="2.0", Linkedid="2.0")], tracker)

    tracker.resync(
        [up("1.0", bridge="lot"), up("2.0", bridge="lot", call="2.0", Channel=TRUNK)], now=NOON
    )
    found = replayed([*over(60, "1.0"), *over(60, "2.0")], tracker)

    assert [ended.talk_time for ended in bodies(found, CallEnded)] == [timedelta(0)] * 2


def test_the_channels_of_a_real_asterisk_are_read_after_a_gap() -> None:
    """Recorded with the list of channels in the middle of the call; what came before it is lost."""
    messages = recorded("resync")
    items = [message for message in messages if message.event == "CoreShowChannel"]
    before = next(n for n, message in enumerate(messages) if message.event == "DialEnd")
    after = next(n for n, message in enumerate(messages) if message.event == "HangupRequest")
    now = datetime.fromtimestamp(float(messages[before].get("Timestamp")), UTC)
    tracker = a_tracker()

    found = [s for message in messages[:before] for s in tracker.feed(message, now=now)]
    found += tracker.resync(items, now=now)
    found += replayed(messages[after:], tracker)

    assert story(found) == story(replayed(messages))
    assert abs(the(found, CallEnded).talk_time - timedelta(seconds=3.5)) < timedelta(seconds=0.1)


#: But for a pickup: its events say the taker's own Linkedid longer than the channels have it.
ANSWERED = sorted(
    name
    for name in NAMES
    if name != "pickup"
    and [e.disposition for e in bodies(replayed(recorded(name)), CallEnded)] == ["answered"]
)


@settings(deadline=None, max_examples=100)
@given(name=st.sampled_from(ANSWERED), places=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_an_answered_call_that_outlives_a_gap_was_answered(
    name: str, places: tuple[float, float]
) -> None:
    messages = [m for m in recorded(name) if m.event in a_tracker().wanted]
    first = messages[0].get("Uniqueid")
    last = max(n for n, m in enumerate(messages) if m.event in {"BridgeEnter", "DialEnd"})
    begin, end = sorted(1 + round(place * last) for place in places)
    tracker, live, found, now = a_tracker(), LiveChannels(), [], NOON
    for message in messages[:begin]:
        live.note(message)
        now = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
        found += tracker.feed(message, now=now)
    for message in messages[begin:end]:
        live.note(message)
        now = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
    items = [AmiMessage({k: (v,) for k, v in item.items()}) for item in live.items()]

    found += tracker.resync(items, now=now)
    found += replayed(messages[end:], tracker)

    ended = {e.call_id: e.disposition for e in bodies(found, CallEnded)}
    assert ended[call_id("acme", "main", first)] is Disposition.ANSWERED
    assert tracker.live_calls == 0


# -- what the site says ---------------------------------------------------------------------


def test_a_trunk_that_is_added_counts_from_then_on_and_no_call_is_lost() -> None:
    tracker = a_tracker(trunks=["other"])
    before = replayed([caller_comes()], tracker)

    tracker.know(Phones(trunks=frozenset({"other", "trunk"}), extensions=frozenset({"101"})))
    after = replayed(
        [
            *phone_rings(1),
            caller_comes(2, Uniqueid="2.0", Linkedid="2.0"),
            *over(9, "1.0", "1.1", "2.0"),
        ],
        tracker,
    )

    directions = {s.call_id: s.direction for s in bodies(before + after, CallStarted)}
    assert directions == {
        call_id("acme", "main", "1.0"): Direction.INTERNAL,
        call_id("acme", "main", "2.0"): Direction.INBOUND,
    }
    assert len(bodies(after, CallEnded)) == 2


# -- who calls whom -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("PJSIP/trunk-0000002a", "trunk"),
        ("PJSIP/my-trunk-0000002a", "my-trunk"),
        ("SIP/101-0000002a", "101"),
        ("IAX2/trunk-5713", "trunk"),
        ("DAHDI/1-1", "1"),
        ("DAHDI/i1/07700900123-2", "i1"),
        ("Local/102@internal-00000000;1", "102"),
    ],
)
def test_an_endpoint_is_what_a_channel_is_named_after(name: str, endpoint: str) -> None:
    assert endpoint_of(name)[1] == endpoint


@pytest.mark.parametrize(
    "name", ["Message/ast_msg_queue", "CBAnn/1000-00000001;2", "Snoop/1.0-00000001"]
)
def test_a_channel_of_asterisk_s_own_is_no_call_and_nobody_to_talk_to(name: str) -> None:
    errand = {"Channel": name, "Uniqueid": "9.0", "Linkedid": "9.0"}
    found = replayed(
        [
            caller_comes(),
            event("Newchannel", 1, ChannelStateDesc="Up", **errand),
            event("BridgeEnter", 1, BridgeUniqueid="b1", **errand),
            enters(1, "1.0"),
            leaves(9, "1.0"),
            event("Hangup", 9, Cause="16", **errand),
            hangs_up(9, "1.0"),
        ]
    )

    assert the(found, CallEnded).talk_time == timedelta(0)


def test_a_caller_from_the_trunk_is_inbound() -> None:
    started = the(replayed(talking()), CallStarted)

    assert started.direction is Direction.INBOUND
    assert started.caller == Party(number=CUSTOMER, name="Customer")
    assert (started.dialled, started.pbx_call_id) == (DID, "1.0")


@pytest.mark.parametrize("number", ["", "<unknown>", "unknown", "Unknown"])
def test_a_caller_who_shows_no_number_has_none(number: str) -> None:
    started = the(replayed([caller_comes(CallerIDNum=number)]), CallStarted)

    assert started.caller.number is None


def test_a_ringing_phone_shows_the_caller() -> None:
    ringing = the(replayed(talking()), CallRinging)

    assert ringing.callee == Party(extension="101")
    assert ringing.caller == Party(number=CUSTOMER, name="Customer")
    assert not ringing.own_phone


def phone_dials(exten: str) -> AmiMessage:
    return caller_comes(Channel="PJSIP/101-00000001", CallerIDNum="101", Exten=exten)


def test_a_phone_that_dials_a_phone_is_internal() -> None:
    started = the(replayed([phone_dials("102"), *phone_rings(1, "102")]), CallStarted)

    assert started.direction is Direction.INTERNAL
    assert (started.caller.extension, started.dialled) == ("101", "102")


@pytest.mark.parametrize("dial_string", ["+447700900777@trunk", "trunk/+447700900777"])
def test_a_phone_that_dials_the_trunk_is_outbound(dial_string: str) -> None:
    line = {"Channel": "PJSIP/trunk-00000002", "Uniqueid": "1.1", "Linkedid": "1.0"}
    found = replayed(
        [
            phone_dials("+447700900777"),
            event("Newchannel", 1, ChannelStateDesc="Down", **line),
            event("DialBegin", 1, DestUniqueid="1.1", DialString=dial_string),
            dial_end(3),
        ]
    )

    started = the(found, CallStarted)
    assert started.direction is Direction.OUTBOUND
    assert started.dialled == "+447700900777"
    assert the(found, CallAnswered).callee == Party(number="+447700900777")


def test_the_beginning_is_dated_back_to_the_first_channel() -> None:
    found = replayed([phone_dials("102"), *phone_rings(1, "102")])

    assert next(s.at for s in found if isinstance(s.body, CallStarted)) == NOON


def test_a_phone_that_called_nobody_made_an_internal_call_that_failed() -> None:
    found = replayed([phone_dials("*97"), hangs_up(5, "1.0")])

    assert the(found, CallStarted).direction is Direction.INTERNAL
    assert the(found, CallEnded).disposition is Disposition.FAILED


def test_click_to_call_rings_the_own_phone_first_and_knows_its_order() -> None:
    found = replayed(recorded("originate_ami"))

    started = the(found, CallStarted)
    assert started.direction is Direction.OUTBOUND
    assert (started.caller.extension, started.dialled) == ("101", "+447700900777")
    assert started.dial_id == "click-0001"
    assert [ringing.own_phone for ringing in bodies(found, CallRinging)] == [True, False]
    assert [answer.own_phone for answer in bodies(found, CallAnswered)] == [True, False]


def test_the_halves_of_a_local_channel_are_nobody_s_legs() -> None:
    found = replayed(recorded("transfer_attended"))

    legs = {ringing.callee.label for ringing in bodies(found, CallRinging)}
    assert legs == {"101", "102"}
    assert len(bodies(found, LegEnded)) == 2


# -- what became of the legs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome", "disposition"),
    [
        ("NOANSWER", LegOutcome.NO_ANSWER, Disposition.MISSED),
        ("BUSY", LegOutcome.BUSY, Disposition.BUSY),
        ("CHANUNAVAIL", LegOutcome.UNREACHABLE, Disposition.MISSED),
        ("CONGESTION", LegOutcome.UNREACHABLE, Disposition.MISSED),
    ],
)
def test_what_dial_says_of_a_leg_became_of_it(
    status: str, outcome: LegOutcome, disposition: Disposition
) -> None:
    found = replayed(
        [
            caller_comes(),
            *phone_rings(1),
            dial_end(9, status),
            hangs_up(9, "1.1", "0"),
            hangs_up(9, "1.0", "19"),
        ]
    )

    assert the(found, LegEnded).outcome is outcome
    assert the(found, CallEnded).disposition is disposition


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        ("3", LegOutcome.UNREACHABLE),
        ("17", LegOutcome.BUSY),
        ("19", LegOutcome.NO_ANSWER),
        ("21", LegOutcome.BUSY),
        ("26", LegOutcome.ELSEWHERE),
        ("0", LegOutcome.NO_ANSWER),
        ("", LegOutcome.NO_ANSWER),
        ("none", LegOutcome.NO_ANSWER),
    ],
)
def test_without_a_word_of_dial_the_cause_of_the_hangup_says_it(
    cause: str, outcome: LegOutcome
) -> None:
    found = replayed([caller_comes(), *phone_rings(1), hangs_up(9, "1.1", cause)])

    assert the(found, LegEnded).outcome is outcome


def test_who_was_cancelled_because_the_caller_gave_up_was_not_answered_elsewhere() -> None:
    found = replayed(
        [
            caller_comes(),
            *phone_rings(1),
            *phone_rings(1, "102", "1.2"),
            asks_to_hang_up(4, "1.0"),
            dial_end(4, "CANCEL", "1.1"),
            dial_end(4, "CANCEL", "1.2"),
            hangs_up(4, "1.1", "127"),
            hangs_up(4, "1.2", "0"),
            hangs_up(4, "1.0", "127"),
        ]
    )

    assert [ended.outcome for ended in bodies(found, LegEnded)] == [LegOutcome.CANCELLED] * 2
    ended = the(found, CallEnded)
    assert (ended.disposition, ended.hangup_by) == (Disposition.MISSED, "caller")


@pytest.mark.parametrize("cancel_first", [True, False])
def test_the_slower_phone_of_a_group_was_answered_elsewhere(*, cancel_first: bool) -> None:
    """Dial(101&102) says CANCEL before the winner's ANSWER, Queue() after it."""
    cancel, answer = dial_end(4, "CANCEL", "1.2"), dial_end(4, "ANSWER", "1.1")
    found = replayed(
        [
            caller_comes(),
            *phone_rings(1),
            *phone_rings(1, "102", "1.2"),
            *([cancel, answer] if cancel_first else [answer, cancel]),
            hangs_up(4, "1.2", "26"),
        ]
    )

    ended = the(found, LegEnded)
    assert (ended.leg_id, ended.outcome) == ("1.2", LegOutcome.ELSEWHERE)


def test_a_phone_that_is_not_registered_has_no_leg() -> None:
    found = replayed([caller_comes(), hangs_up(1, "1.0", "3")])

    assert bodies(found, LegEnded) == []
    assert the(found, CallEnded).disposition is Disposition.FAILED


def test_the_queue_is_told_when_the_caller_joins_it_and_with_each_ring() -> None:
    found = replayed(
        [
            caller_comes(),
            event("QueueCallerJoin", 1, Uniqueid="1.0", Queue="support", Position="2"),
            *phone_rings(3),
        ]
    )

    queued = the(found, CallQueued)
    assert (queued.queue, queued.position) == ("support", 2)
    assert the(found, CallRinging).queue == "support"


def test_who_left_the_queue_is_not_in_it_at_the_next_ring() -> None:
    found = replayed(
        [
            caller_comes(),
            event("QueueCallerJoin", 1, Uniqueid="1.0", Queue="support", Position="1"),
            *phone_rings(3),
            event("QueueCallerLeave", 9, Uniqueid="1.0", Queue="support"),
            *phone_rings(9, "102", "1.2"),
        ]
    )

    assert [ringing.queue for ringing in bodies(found, CallRinging)] == ["support", None]


@pytest.mark.parametrize(
    ("status", "disposition"),
    [("NOANSWER", Disposition.MISSED), ("CHANUNAVAIL", Disposition.FAILED)],
)
def test_early_media_is_a_tone_unless_the_line_fails(status: str, disposition: Disposition) -> None:
    """It may be the voice that says that there is no such number."""
    line = {"Channel": "PJSIP/trunk-00000002", "Uniqueid": "1.1", "Linkedid": "1.0"}
    found = replayed(
        [
            phone_dials("+447700900777"),
            event("Newchannel", 1, ChannelStateDesc="Down", **line),
            event("DialBegin", 1, DestUniqueid="1.1", DialString="+447700900777@trunk"),
            event("DialState", 1, DestUniqueid="1.1", DialStatus="PROGRESS"),
            dial_end(20, status),
            *over(20, "1.1", "1.0"),
        ]
    )

    assert the(found, CallRinging).callee == Party(number="+447700900777")
    assert the(found, CallEnded).disposition is disposition


def test_an_agent_who_refuses_an_order_is_no_busy_customer() -> None:
    own = {"Channel": "PJSIP/101-00000001", "Uniqueid": "1.0", "Linkedid": "1.0"}
    found = replayed(
        [
            event("Newchannel", 0, ChannelStateDesc="Down", **own),
            event("Newstate", 0, ChannelStateDesc="Ringing", ConnectedLineNum=CUSTOMER, **own),
            hangs_up(5, "1.0", "21"),
        ]
    )

    assert the(found, LegEnded).outcome is LegOutcome.BUSY
    assert the(found, CallEnded).disposition is Disposition.FAILED


# -- hold, talk, hanging up -----------------------------------------------------------------


def test_who_did_not_hold_does_not_resume() -> None:
    found = replayed([*talking(), event("Unhold", 9, Uniqueid="1.1")])

    assert bodies(found, CallResumed) == []


def test_talk_is_the_time_that_the_caller_is_in_a_bridge_with_somebody() -> None:
    found = replayed(
        [
            *talking(),
            leaves(15, "1.1"),  # 10 s together
            hangs_up(15, "1.1"),
            *phone_rings(20, "102", "1.2"),
            enters(30, "1.2"),
            *over(50, "1.2", "1.0"),  # 20 s with the next one
        ]
    )

    assert the(found, CallEnded).talk_time == timedelta(seconds=30)


def test_a_hold_is_no_talk() -> None:
    """Both stay in the bridge while the caller hears music."""
    found = replayed(
        [
            *talking(),
            event("Hold", 15, Uniqueid="1.1"),
            event("Unhold", 25, Uniqueid="1.1"),
            *over(35, "1.0", "1.1"),
        ]
    )

    assert the(found, CallEnded).talk_time == timedelta(seconds=20)


def test_waiting_and_announcements_are_no_talk() -> None:
    assert the(replayed(recorded("announcement")), CallEnded).talk_time == timedelta(0)
    assert the(replayed(recorded("voicemail")), CallEnded).talk_time == timedelta(0)


@pytest.mark.parametrize(("leg", "who"), [("1.0", "caller"), ("1.1", "callee")])
def test_who_asked_for_the_hangup_hung_up(leg: str, who: str) -> None:
    found = replayed([*talking(), asks_to_hang_up(9, leg), *over(9, "1.0", "1.1")])

    assert the(found, CallEnded).hangup_by == who


@pytest.mark.parametrize(
    ("state", "cause", "who"),
    [
        ("Busy", "17", "pbx"),
        ("Busy", "34", "pbx"),
        # His phone has hung up before the channel had its new state.
        ("Ring", "17", "pbx"),
        ("Ring", "34", "pbx"),
        ("Ring", "127", "caller"),
        ("Up", "17", "caller"),
    ],
)
def test_a_caller_whom_the_dialplan_refuses_did_not_hang_up(
    state: str, cause: str, who: str
) -> None:
    """As a real Asterisk says it of Busy(), of Congestion() and of one who gives up."""
    asked = event("HangupRequest", 1, Uniqueid="1.0", ChannelStateDesc=state, Cause=cause)
    found = replayed([caller_comes(), asked, hangs_up(1, "1.0", cause)])

    assert the(found, CallEnded).hangup_by == who


def test_nobody_s_wish_is_the_pbx_s() -> None:
    assert the(replayed([*talking(), *over(9, "1.0", "1.1")]), CallEnded).hangup_by == "pbx"


def test_a_local_channel_wishes_nothing() -> None:
    """Asterisk's own halves follow the caller's wish and ask for it once more."""
    found = replayed(
        [
            *talking(),
            event(
                "Newchannel", 6, Channel="Local/102@x-00000000;2", Uniqueid="1.5", Linkedid="1.0"
            ),
            asks_to_hang_up(9, "1.0"),
            asks_to_hang_up(9, "1.5"),
            *over(9, "1.0", "1.1", "1.5"),
        ]
    )

    assert the(found, CallEnded).hangup_by == "caller"


# -- transfers, recordings, voicemail --------------------------------------------------------


def blind_transfer(after: float, extension: str, **more: str) -> AmiMessage:
    return event("BlindTransfer", after, TransfererUniqueid="1.1", Extension=extension, **more)


@pytest.mark.parametrize(
    ("target", "to"),
    [
        ("102", Party(extension="102")),
        ("support", Party(extension="support")),
        ("+447700900777", Party(number="+447700900777")),
        ("447700900777", Party(number="447700900777")),
    ],
)
def test_a_blind_transfer_names_the_phone_or_the_number(target: str, to: Party) -> None:
    transferred = the(
        replayed([*talking(), blind_transfer(9, target, Result="Success")]), CallTransferred
    )

    assert (transferred.kind, transferred.by.label, transferred.to) == ("blind", "101", to)


def test_a_transfer_that_failed_is_none() -> None:
    found = replayed([*talking(), blind_transfer(9, "102", Result="Fail")])

    assert bodies(found, CallTransferred) == []


def joined_by_the_phone(**transfer: str) -> list[AmiMessage]:
    """101 takes a call, calls 102 on its own, and joins them: REFER with Replaces."""
    consult = {"Channel": "PJSIP/101-00000005", "Uniqueid": "2.0", "Linkedid": "2.0"}
    taken_along = {"Uniqueid": "2.1", "Linkedid": "1.0"}
    return [
        *talking(),
        event("Newchannel", 10, ChannelStateDesc="Ring", Exten="102", CallerIDNum="101", **consult),
        *phone_rings(10, "102", "2.1", "2.0"),
        dial_end(12, leg="2.1"),
        enters(12, "2.1", "b2"),
        enters(12, "2.0", "b2"),
        event(
            "AttendedTransfer",
            20,
            OrigTransfererUniqueid="1.1",
            OrigTransfererLinkedid="1.0",
            SecondTransfererUniqueid="2.0",
            SecondTransfererLinkedid="2.0",
            TransfereeChannel=TRUNK,
            **transfer,
        ),
        leaves(20, "2.1", "b2"),
        leaves(20, "1.1"),
        event("BridgeEnter", 20, BridgeUniqueid="b1", **taken_along),
        leaves(20, "2.0", "b2"),
        hangs_up(20, "1.1"),
        hangs_up(20, "2.0"),
        asks_to_hang_up(30, "1.0"),
        leaves(30, "1.0"),
        leaves(30, "2.1"),
        hangs_up(30, "1.0"),
        event("Hangup", 30, Cause="16", **taken_along),
    ]


NAMED = {"TransferTargetChannel": "PJSIP/102-00000001"}  # Asterisk 22 says it, 16 does not


@pytest.mark.parametrize("transfer", [NAMED, {}], ids=["22", "16"])
def test_an_attended_transfer_by_the_phone_passes_the_call_to_who_was_asked(
    transfer: dict[str, str],
) -> None:
    found = replayed(joined_by_the_phone(**transfer))

    transferred = the(found, CallTransferred)
    assert (transferred.kind, transferred.by.label, transferred.to.label) == (
        "attended",
        "101",
        "102",
    )
    assert transferred.call_id == call_id("acme", "main", "1.0")


def test_of_two_calls_that_join_each_ends_once_and_the_first_talks_on() -> None:
    found = replayed(joined_by_the_phone(**NAMED))

    ends = {s.body.call_id: s for s in found if isinstance(s.body, CallEnded)}
    first, second = (ends[call_id("acme", "main", linkedid)] for linkedid in ("1.0", "2.0"))
    assert len(bodies(found, CallEnded)) == 2
    assert (first.at, second.at) == (NOON + timedelta(seconds=30), NOON + timedelta(seconds=20))
    assert isinstance(first.body, CallEnded)
    assert first.body.talk_time == timedelta(seconds=25)
    assert first.body.hangup_by == "caller"


def test_who_takes_a_call_over_by_attended_transfer_has_answered_it() -> None:
    found = replayed(joined_by_the_phone(**NAMED))

    answers = [
        (answer.callee.label, answer.call_id == call_id("acme", "main", "1.0"))
        for answer in bodies(found, CallAnswered)
    ]
    assert ("102", True) in answers


@pytest.mark.parametrize("name", ["pickup", "parked"])
def test_who_takes_a_call_that_did_not_ring_at_the_own_phone_is_told_who_is_there(
    name: str,
) -> None:
    answers = bodies(replayed(recorded(name)), CallAnswered)

    (taken,) = [answer for answer in answers if answer.callee.label == "102"]
    assert taken.caller == Party(number="447700900123")


@pytest.mark.parametrize("name", NAMES)
def test_only_a_phone_that_did_not_ring_for_the_call_is_told_who_is_there(name: str) -> None:
    found = replayed(recorded(name))

    rang = {(ring.call_id, ring.leg_id) for ring in bodies(found, CallRinging)}
    for answer in bodies(found, CallAnswered):
        told = answer.caller is not None
        inside = answer.callee.extension is not None and not answer.own_phone
        assert told == (inside and (answer.call_id, answer.leg_id) not in rang)


def test_an_internal_call_taken_from_the_parking_lot_stays_the_same_call() -> None:
    """The taker's phone dials the lot; its own call is no more than that."""
    taker = {"Channel": "PJSIP/103-00000009", "Uniqueid": "2.0"}
    found = replayed(
        [
            phone_dials("102"),
            *phone_rings(1, "102"),
            dial_end(2),
            hangs_up(9, "1.1"),
            event("Newchannel", 10, ChannelStateDesc="Ring", Exten="701", Linkedid="2.0", **taker),
            event("UnParkedCall", 10, RetrieverUniqueid="2.0", ParkeeUniqueid="1.0"),
            event("BridgeEnter", 10, BridgeUniqueid="b1", Linkedid="1.0", **taker),
            enters(10, "1.0"),
            *over(15, "2.0", "1.0"),
        ]
    )

    answers = bodies(found, CallAnswered)
    assert [answer.callee.label for answer in answers] == ["102", "103"]
    assert answers[1].caller == Party(extension="101")
    ended = the(found, CallEnded)
    assert ended.call_id == call_id("acme", "main", "1.0")
    assert ended.talk_time == timedelta(seconds=5)


def test_a_phone_that_joins_a_call_whose_beginning_was_missed_tells_nothing() -> None:
    taker = {"Channel": "PJSIP/102-00000009", "Uniqueid": "2.0"}
    found = replayed(
        [
            event("Newchannel", 1, ChannelStateDesc="Ring", Exten="701", Linkedid="2.0", **taker),
            event("BridgeEnter", 1, BridgeUniqueid="b1", Linkedid="1.0", **taker),
            event("Hangup", 9, Cause="16", Linkedid="1.0", **taker),
        ]
    )

    assert found == []


def test_a_phone_that_picks_up_a_call_of_which_nothing_is_known_made_none_itself() -> None:
    taker = {"Channel": "PJSIP/102-00000009", "Uniqueid": "2.0", "Linkedid": "2.0"}
    found = replayed(
        [
            event("Newchannel", 1, ChannelStateDesc="Ring", Exten="*8", **taker),
            event("Pickup", 1, TargetUniqueid="1.1", **taker),
            event("DialEnd", 1, Uniqueid="1.0", DestUniqueid="2.0", DialStatus="ANSWER"),
            hangs_up(9, "2.0"),
        ]
    )

    assert found == []


def test_a_recording_is_told_once_per_file() -> None:
    def starts(after: float, file: str) -> AmiMessage:
        headers = event("MixMonitorStart", after, Uniqueid="1.0").headers
        return AmiMessage({**headers, "ChanVariable": ("X=", f"MIXMONITOR_FILENAME={file}")})

    found = replayed(
        [*talking(), starts(5, "/rec/a.wav"), starts(9, "/rec/a.wav"), starts(12, "/rec/b.wav")]
    )

    assert [ready.recording for ready in bodies(found, RecordingReady)] == [
        "/rec/a.wav",
        "/rec/b.wav",
    ]


def test_voicemail_is_a_message_that_was_left_not_one_that_waits() -> None:
    def call(new: str) -> Disposition:
        waiting = event("MessageWaiting", 20, Uniqueid="1.0", Mailbox="101", New=new)
        missed = [caller_comes(), *phone_rings(1), dial_end(9, "NOANSWER"), hangs_up(9, "1.1", "0")]
        asked = asks_to_hang_up(20, "1.0")
        ended: CallEnded = the(replayed([*missed, asked, waiting, hangs_up(20, "1.0")]), CallEnded)
        assert ended.disposition is not None
        return ended.disposition

    assert call("1") is Disposition.VOICEMAIL
    assert call("0") is Disposition.MISSED


WITH_CALLS = [name for name in NAMES if replayed(recorded(name))]


# -- the order of different channels ---------------------------------------------------------


def channel_of(message: AmiMessage) -> str:
    return message.get("Uniqueid") or message.get("DestUniqueid")


def jostled(messages: Sequence[AmiMessage], chance: random.Random) -> list[AmiMessage]:
    """
    Neighbours of different channels within 20 ms in another order. A channel begins before
    anything else is said of it.
    """
    found = [message for message in messages if message.event in a_tracker().wanted]
    for _ in range(len(found)):
        place = chance.randrange(len(found) - 1)
        one, other = found[place : place + 2]
        apart = float(other.get("Timestamp")) - float(one.get("Timestamp"))
        together = {one.event, other.event} & {"Newchannel"} or channel_of(one) == channel_of(other)
        if not together and abs(apart) < 0.02:
            found[place : place + 2] = other, one
    return found


def story(found: Iterable[Sighting]) -> set[tuple[str, str]]:
    """What was seen, without its times."""
    told = set()
    for sighting in found:
        body = sighting.body.model_dump(mode="json", exclude={"talk_time"})
        told.add((type(sighting.body).__name__, repr(sorted(body.items()))))
    return told


@pytest.mark.parametrize("name", WITH_CALLS)
@settings(deadline=None, max_examples=15)
@given(chance=st.randoms(use_true_random=False))
def test_only_the_order_of_one_channel_matters(name: str, chance: random.Random) -> None:
    assert story(replayed(jostled(recorded(name), chance))) == story(replayed(recorded(name)))


# -- hostile texts --------------------------------------------------------------------------

ODD = st.one_of(
    st.sampled_from(
        ["", " ", "0", "-1", "1.0", "NaN", "1e999", "²", "٣", "\x00", "\x1b[2J", "a\tb", "/", "@"]
    ),
    st.sampled_from(["PJSIP/101-00000001", "Local/x@y;1", "trunk", "<unknown>", "click-0001"]),
    st.text(max_size=40),
)
TIMES = st.one_of(
    st.sampled_from(["", "NaN", "-1", "0", "1e999", "-1e999", "1e17", "253402300799", "x"]),
    st.floats().map(str),
)
LONG = st.sampled_from(["x" * 257, "1" * 300, "PJSIP/" + "1" * 5000, "é" * 256 + "x"])
NAMING = (
    *("Uniqueid", "Linkedid", "Channel", "Exten", "CallerIDNum", "CallerIDName", "Queue"),
    *("ConnectedLineNum", "ConnectedLineName", "DialString", "Extension"),
)
CHANGEABLE = sorted(
    {header for name in NAMES for message in recorded(name) for header in message.headers}
    - {"Event", "Timestamp"}
)
PLACES = st.integers(0, 300)


def with_header(message: AmiMessage, header: str, value: str) -> AmiMessage:
    return AmiMessage({**message.headers, header: (value,)})


def read_to_the_end(messages: Iterable[AmiMessage]) -> list[Sighting]:
    tracker = a_tracker()
    found = [one for message in messages for one in tracker.feed(message, now=NOON)]
    found += tracker.tick(NOON + timedelta(seconds=1))
    found += tracker.resync([], now=NOON + timedelta(days=1))
    for sighting in found:
        wrap(sighting.body, source="t", tenant="acme", occurred_at=sighting.at).encode()
    assert tracker.live_calls == 0
    return found


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(WITH_CALLS),
    changes=st.lists(st.tuples(PLACES, st.sampled_from(CHANGEABLE), ODD), min_size=1, max_size=8),
)
def test_no_text_of_a_pbx_stops_the_reading(name: str, changes: list[tuple[int, str, str]]) -> None:
    messages = [message for message in recorded(name) if message.event in a_tracker().wanted]
    for place, header, value in changes:
        at = place % len(messages)
        messages[at] = with_header(messages[at], header, value)

    read_to_the_end(messages)


@settings(deadline=None, max_examples=150)
@given(name=st.sampled_from(WITH_CALLS), header=st.sampled_from(NAMING), place=PLACES, long=LONG)
def test_no_long_text_of_a_pbx_stops_the_reading(
    name: str, header: str, place: int, long: str
) -> None:
    """Somebody's name, number or id, wherever it stands."""
    values = sorted({message.get(header) for message in recorded(name)}) or [""]
    old = values[place % len(values)]

    read_to_the_end(
        AmiMessage({k: tuple(long if v == old else v for v in vs) for k, vs in one.headers.items()})
        for one in recorded(name)
    )


@settings(deadline=None, max_examples=100)
@given(name=st.sampled_from(WITH_CALLS), place=PLACES, stamp=TIMES)
def test_no_time_of_a_pbx_stops_the_reading(name: str, place: int, stamp: str) -> None:
    """From some event on it is all wrong."""
    messages = recorded(name)
    at = place % len(messages)

    read_to_the_end(
        [*messages[:at], *(with_header(message, "Timestamp", stamp) for message in messages[at:])]
    )


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(WITH_CALLS), chance=st.randoms(use_true_random=False))
def test_no_order_of_events_stops_the_reading(name: str, chance: random.Random) -> None:
    messages = [m for m in recorded(name) if chance.random() < 0.8]
    chance.shuffle(messages)

    read_to_the_end(messages)
