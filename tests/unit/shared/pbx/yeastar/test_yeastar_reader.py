"""Yeastar's events: bad ones, doubled ones, odd ones, and what is remembered of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dialer.domain import step as next_step
from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    RecordingReady,
)
from shared.contracts.dialing import DialReason, DialState, DialStep
from shared.errors import ContractError
from shared.pbx.port import Phones, RawHook, Sighting
from shared.pbx.yeastar.hooks import YeastarHooks
from shared.pbx.yeastar.memory import MOST_CALLS
from shared.pbx.yeastar.reader import RESYNC, YeastarReader
from tests.calltable import calls_of
from tests.unit.shared.pbx.yeastar.yeastar_kit import (
    BEGAN,
    EVENTS,
    NAMES,
    PHONES,
    Step,
    a_reader,
    by_webhook,
    by_websocket,
    steps,
)

_SECOND = timedelta(seconds=1)


def event(kind: object, msg: object) -> bytes:
    return orjson.dumps({"type": kind, "sn": "3631A2124XXX", "msg": msg})


def members(*said: dict[str, Any], call_id: str = "1.1", kind: int = 30011) -> bytes:
    return event(kind, orjson.dumps({"call_id": call_id, "members": said}).decode())


def extension(number: str, status: str, **more: str) -> dict[str, Any]:
    said = {"number": number, "channel_id": f"PJSIP/{number}-01", "member_status": status}
    return {"extension": {**said, **more}}


def inbound(status: str, **more: str) -> dict[str, Any]:
    said = {"from": "447700900123", "to": "442079460000", "channel_id": "PJSIP/t-01"}
    return {"inbound": {**said, "member_status": status, **more}}


def outbound(status: str) -> dict[str, Any]:
    said = {"from": "1005", "to": "07700900777", "channel_id": "PJSIP/t-09"}
    return {"outbound": {**said, "member_status": status}}


def record(**more: object) -> bytes:
    said = {
        "call_id": "1.1",
        "time_start": "2026-10-19 14:00:00",
        "call_from": "447700900123",
        "call_to": "1005",
        "call_duration": 30,
        "talk_duration": 20,
        "status": "ANSWERED",
        "type": "Inbound",
        "src_trunk_name": "main",
        "uid": "u1",
        **more,
    }
    return event(30012, orjson.dumps(said).decode())


def read(*records: bytes, reader: YeastarReader | None = None) -> list[Sighting]:
    reader = reader or a_reader()
    return [
        sighting
        for after, given in enumerate(records)
        for sighting in reader.read(given, now=BEGAN + after * _SECOND)
    ]


def bodies(sightings: list[Sighting], kind: type) -> list[Any]:
    return [found.body for found in sightings if isinstance(found.body, kind)]


# -- hostile input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"", b"{", b"[]", b'"30011"', b"\xff\xfe", b"null", b"[" * 100_000),
        event(30011, None),
        event(30011, "{"),
        event(30011, "[1]"),
        event(30011, []),
        event(30011, {"members": []}),
        event(30011, {"call_id": "x" * 500, "members": []}),
        event(30011, {"call_id": "1\r\n2", "members": []}),
        event(30011, {"call_id": "1.1", "members": {"extension": {}}}),
        event(30012, {"call_from": "1005"}),
    ],
)
def test_garbage_is_refused_in_words_that_repeat_none_of_it(garbage: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        a_reader().read(garbage, now=BEGAN)

    assert len(caught.value.message) < 100
    hook = RawHook(body=garbage, received_at=BEGAN)
    with pytest.raises(ContractError):
        YeastarHooks(EVENTS, None).read(hook, PHONES)


@pytest.mark.parametrize(
    "odd",
    [
        b"{}",
        b'{"errcode":0,"errmsg":"SUCCESS"}',
        b'{"event":"test","message":"Connectivity test"}',
        event(30099, {}),
        event(30007, {"extension": "1005", "status": "Registered"}),
        event(30008, {"extension": "not an extension", "status": "Busy"}),
        event(30008, {"extension": "1005", "status": 7}),
        event(30015, {"call_id": "1.1", "reason": "486 Busy here"}),
        event(30011, {"call_id": "1.1", "members": [None, 7, "x", {}, {"extension": []}]}),
        event(30011, {"call_id": "1.1", "members": [extension("", "RING")]}),
        event(30011, {"call_id": "1.1", "members": [extension("1005", "DANCING")]}),
    ],
)
def test_what_says_nothing_is_no_fault_and_tells_nothing(odd: bytes) -> None:
    assert read(odd) == []


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
_NAMES = st.sampled_from(
    [
        *("call_id", "members", "extension", "inbound", "outbound", "number", "member_status"),
        *("from", "to", "status", "type", "call_duration", "talk_duration", "time_start", "reason"),
        *("call_from", "call_to", "recording", "agent_number", "channel_id", "call_path"),
    ]
)
_VALUES = st.sampled_from(["1.1", "1005", "RING", "BYE", "ANSWER", "HOLD", "6400", "Inbound", " "])
_LIKE_A_MSG = st.recursive(
    _VALUES | _JSON,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([30008, 30009, 30011, 30012, 30013, 30015, 30016]), _LIKE_A_MSG),
        max_size=6,
    )
)
def test_no_event_whatever_its_types_breaks_the_reader(said: list[tuple[int, Any]]) -> None:
    reader = a_reader()
    for kind, msg in said:
        for given_event in (event(kind, msg), event(kind, orjson.dumps(msg).decode())):
            try:
                found = reader.read(given_event, now=BEGAN)
            except (ContractError, orjson.JSONEncodeError):
                continue
            assert all(sighting.key.startswith("berlin/") for sighting in found)


# -- doubles, order, replicas ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_doubled_events_add_up_to_the_same_calls(name: str, data: st.DataObject) -> None:
    once = steps(name)
    twice = sorted([*once, *data.draw(st.lists(st.sampled_from(once)))], key=lambda step: step.at)

    assert calls_of(by_websocket(twice)) == calls_of(by_websocket(once))
    assert calls_of(by_webhook(twice)) == calls_of(by_webhook(once))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_webhooks_in_any_order_and_by_any_replica_tell_the_same(
    name: str, data: st.DataObject
) -> None:
    given_steps = steps(name)
    shuffled = data.draw(st.permutations(given_steps))

    def keys(of: list[Step]) -> set[str]:
        return {sighting.key for sighting in by_webhook(of)}

    assert keys(shuffled) == keys(given_steps)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"agents"}))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_events_in_any_order_never_make_two_calls_of_one(name: str, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(steps(name)))

    assert len(calls_of(by_websocket(shuffled))) == 1


def record_at(name: str) -> int:
    """Which step is the PBX's record of the call; -1: it has none, or nothing before it."""
    return next((i for i, step in enumerate(steps(name)) if b"30012" in step.record), -1)


REPORTED = [name for name in NAMES if record_at(name) > 0]


@pytest.mark.parametrize("name", REPORTED)
@pytest.mark.parametrize("by", [1, 2])
def test_a_record_that_overtakes_the_last_states_loses_nothing(name: str, by: int) -> None:
    order = steps(name)
    order.insert(max(record_at(name) - by, 1), order.pop(record_at(name)))
    reader = a_reader()

    assert calls_of(by_websocket(order, reader=reader)) == calls_of(by_websocket(steps(name)))
    assert reader.live_calls == 0


@pytest.mark.parametrize("name", REPORTED)
def test_what_comes_again_after_the_record_of_a_call_changes_no_end(name: str) -> None:
    first = steps(name)
    end = max(step.at for step in first)
    late = [Step(end + timedelta(seconds=1), s.record) for s in first if b"30012" not in s.record]

    assert bodies(by_websocket([*first, *late]), CallEnded) == bodies(
        by_websocket(first), CallEnded
    )


def test_two_replicas_tell_what_they_both_see_under_the_same_keys() -> None:
    given_steps = steps("queue")
    whole = {sighting.key: sighting.body for sighting in by_websocket(given_steps)}
    later = {sighting.key: sighting.body for sighting in by_websocket(given_steps[2:])}

    assert set(later) - set(whole) == set()


def test_two_calls_at_once_stay_apart() -> None:
    found = read(
        members(inbound("ALERT"), extension("1005", "RING"), call_id="1.1"),
        members(inbound("ALERT", **{"from": "447700900124"}), call_id="1.2"),
        members(inbound("ANSWERED"), extension("1005", "ANSWER"), call_id="1.1"),
        members(
            inbound("ALERT", **{"from": "447700900124"}), extension("1006", "RING"), call_id="1.2"
        ),
    )
    rang = bodies(found, CallRinging)

    assert [(r.callee.extension, r.caller.number) for r in rang] == [
        ("1005", "447700900123"),
        ("1006", "447700900124"),
    ]
    assert rang[0].call_id != rang[1].call_id


# -- what is remembered ----------------------------------------------------------------------------


def test_a_call_whose_record_came_is_forgotten() -> None:
    reader = a_reader()
    for step in steps("answered"):
        reader.read(step.record, now=step.at)

    assert reader.live_calls == 0
    late = members(inbound("BYE"), call_id="1792418400.1")
    assert reader.read(late, now=BEGAN) == []
    assert reader.live_calls == 0


def test_the_calls_in_progress_are_bounded() -> None:
    reader = a_reader()
    for number in range(MOST_CALLS + 50):
        reader.read(members(inbound("ALERT"), call_id=f"1.{number}"), now=BEGAN)

    assert reader.live_calls == MOST_CALLS
    assert "1.0" not in reader.live


def test_a_call_of_which_nothing_was_heard_for_a_day_is_not_waited_for() -> None:
    reader = a_reader()
    reader.read(members(inbound("ALERT"), call_id="1.1"), now=BEGAN)
    reader.read(members(inbound("ALERT"), call_id="1.2"), now=BEGAN + timedelta(days=1))

    assert reader.live == ["1.2"]


def test_a_call_that_goes_on_after_all_hung_up_has_not_ended() -> None:
    reader = a_reader()
    read(
        members(inbound("ALERT"), extension("1005", "RING")),
        members(inbound("BYE"), extension("1005", "BYE")),
        members(inbound("ALERT"), extension("1006", "RING")),
        reader=reader,
    )

    assert reader.tick(BEGAN + timedelta(minutes=5)) == []


def test_who_came_when_a_call_was_under_way_says_so_of_its_end() -> None:
    reader = a_reader()
    read(
        members(inbound("ANSWERED"), extension("1005", "ANSWER")),
        members(inbound("BYE"), extension("1005", "BYE")),
        reader=reader,
    )
    (ended,) = bodies(reader.tick(BEGAN + timedelta(minutes=1)), CallEnded)

    assert (ended.known, ended.disposition) == (EndKnown.JOINED, None)


def test_calls_that_are_gone_after_a_gap_have_ended_when_they_were_last_heard() -> None:
    reader = a_reader()
    read(members(inbound("ALERT"), call_id="1.1"), members(inbound("ALERT"), call_id="1.2"))
    read(
        members(inbound("ALERT"), call_id="1.1"),
        members(inbound("ALERT"), call_id="1.2"),
        reader=reader,
    )
    heard = BEGAN + timedelta(seconds=30)
    asked = {
        "gone": ["1.1", "1.9", 7],
        "heard_until": heard.isoformat(),
        "events": [
            {"call_id": "1.2", "members": [inbound("ANSWERED"), extension("1005", "ANSWER")]},
            {"call_id": "1.3", "members": [inbound("ALERT"), extension("1006", "RING")]},
            {"members": "none"},
            "garbage",
        ],
    }
    found = reader.read(orjson.dumps({RESYNC: asked}), now=BEGAN + timedelta(minutes=5))

    assert [s.key for s in found] == [
        "berlin/1.1/ended/resync",
        "berlin/1.2/answered/1005/PJSIP/1005-01",
        "berlin/1.3/started",
        "berlin/1.3/ringing/1006/PJSIP/1006-01",
    ]
    assert found[0].at == heard
    assert reader.live == ["1.2", "1.3"]


# -- directions and own phones ---------------------------------------------------------------------


def test_a_phone_that_rings_twice_in_a_call_is_told_twice() -> None:
    found = read(
        members(inbound("ALERT"), extension("1005", "RING", channel_id="PJSIP/1005-01")),
        members(inbound("ALERT"), extension("1005", "BYE", channel_id="PJSIP/1005-01")),
        members(inbound("ALERT"), extension("1005", "RING", channel_id="PJSIP/1005-02")),
    )

    assert len(bodies(found, CallRinging)) == 2
    assert len({s.key for s in found}) == len(found)


def test_an_inbound_call_that_is_forwarded_outside_stays_inbound() -> None:
    found = read(
        members(inbound("ALERT"), extension("1005", "RING")),
        members(inbound("ALERT"), outbound("RING")),
    )
    (started,) = bodies(found, CallStarted)

    assert started.direction is Direction.INBOUND
    assert [r.own_phone for r in bodies(found, CallRinging)] == [False, False]


def test_click_to_call_inside_rings_the_own_phone_first() -> None:
    found = read(
        members(extension("1005", "RING")),
        members(extension("1005", "ANSWER"), extension("1006", "RING")),
    )
    (started,) = bodies(found, CallStarted)

    assert (started.direction, started.caller.extension, started.dialled) == (
        Direction.INTERNAL,
        "1005",
        "1006",
    )
    assert [(r.callee.extension, r.own_phone) for r in bodies(found, CallRinging)] == [
        ("1005", True),
        ("1006", False),
    ]


def test_who_may_not_call_outside_ends_the_call_as_failed() -> None:
    reason = {"call_id": "1.1", "reason": "NO Dial Permission", "members": []}
    (ended,) = bodies(read(event(30015, orjson.dumps(reason).decode())), CallEnded)

    assert ended.disposition is Disposition.FAILED


def test_an_agent_who_let_a_queue_ring_is_told() -> None:
    said = {"queue_number": "6402", "agent_number": "1005", "call_id": "1.1"}
    (ended,) = bodies(read(event(30026, said)), LegEnded)

    assert (ended.leg_id, ended.outcome) == ("1005", LegOutcome.NO_ANSWER)


def test_a_queue_outside_the_preset_range_is_named_by_the_site() -> None:
    named = YeastarReader(type(EVENTS)("acme", "berlin", EVENTS.zone, frozenset({"700"})))
    (rang,) = bodies(
        read(members(inbound("ALERT"), extension("1005", "RING", call_path="700")), reader=named),
        CallRinging,
    )
    (unnamed,) = bodies(
        read(members(inbound("ALERT"), extension("1005", "RING", call_path="700"))), CallRinging
    )

    assert (rang.queue, unnamed.queue) == ("700", None)


def test_only_agents_of_the_site_have_a_status() -> None:
    lunch = event(30009, {"extension": "1999", "status": "lunch"})
    reader = YeastarReader(EVENTS)

    assert read(lunch) == []
    (found,) = bodies(read(lunch, reader=reader), AgentStatusChanged)
    assert found.extension == "1999"


@pytest.mark.parametrize("status", ["Ringing", "Busy", "Idle"])
def test_a_call_changes_nothing_of_what_the_agent_is_doing(status: str) -> None:
    lunch = event(30009, {"extension": "1005", "status": "lunch"})
    phone = event(30008, {"extension": "1005", "status": status})
    hook = RawHook(body=phone, received_at=BEGAN)

    assert len(read(lunch, phone)) == 1
    assert read(phone) == []
    assert not YeastarHooks(EVENTS, None).read(hook, PHONES).sightings


# -- click-to-call that came to nothing ------------------------------------------------------------


def unanswered(**more: object) -> bytes:
    said = {"call_from": "1005", "call_to": "07700900777", "type": "Outbound"}
    said |= {"status": "NO ANSWER", "talk_duration": "0", "src_trunk_name": " "}
    return record(**{**said, **more})


def why(*records: bytes) -> DialStep:
    dial: DialStep = (DialState.REQUESTED, None)
    for found in read(*records):
        if isinstance(found.body, CallEvent):
            dial = next_step(*dial, found.body) or dial
    return dial


def test_an_agent_who_does_not_pick_up_has_called_nobody() -> None:
    ring, bye = members(extension("1005", "RING")), members(extension("1005", "BYE"))
    found = read(ring, bye, unanswered())

    assert [leg.own_phone for leg in bodies(found, LegEnded)] == [True]
    assert why(ring, bye, unanswered()) == (DialState.FAILED, DialReason.AGENT_NO_ANSWER)


def test_a_customer_who_does_not_answer_was_called() -> None:
    ring = members(extension("1005", "RING"))
    calls = members(extension("1005", "ANSWER"), outbound("RING"))
    bye = members(extension("1005", "BYE"), outbound("BYE"))
    no_answer = DialState.FAILED, DialReason.CUSTOMER_NO_ANSWER

    assert why(ring, calls, bye, unanswered()) == no_answer
    # Behind a gap: that the agent picked up was not seen.
    assert why(ring, members(outbound("RING")), unanswered()) == no_answer


def test_a_record_with_an_answer_is_believed() -> None:
    ring = members(extension("1005", "RING"))

    assert why(ring, unanswered(status="ANSWERED", talk_duration=9)) == (DialState.ENDED, None)


def test_a_phone_that_was_taken_for_the_own_one_was_called_all_the_same() -> None:
    """Without its `Call Status Monitor` a trunk is not listed: 1005 rings, and nobody calls."""
    ring, bye = members(extension("1005", "RING")), members(extension("1005", "BYE"))
    (ended,) = bodies(read(ring, bye, record(status="VOICEMAIL")), CallEnded)

    assert ended.disposition is Disposition.VOICEMAIL


# -- records of calls ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        *("2026-10-19 14:00:00", "2026/10/19 14:00:00", "19-10-2026 14:00:00"),
        *("10/19/2026 14:00:00", "2026-10-19 02:00:00 PM", "10/19/2026 02:00:00 PM"),
    ],
)
def test_times_are_read_in_every_display_format_of_the_pbx(written: str) -> None:
    found = a_reader().read(record(time_start=written), now=BEGAN + timedelta(seconds=31))

    assert found[0].at == BEGAN
    assert found[-1].at == BEGAN + timedelta(seconds=30)


@pytest.mark.parametrize("hour", [0, 1])
def test_an_hour_that_comes_twice_is_the_one_that_was(hour: int) -> None:
    """In Berlin the clock goes back from 3:00 to 2:00, at 1:00 UTC."""
    began = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
    written = "2026-10-25 02:30:00"
    found = a_reader().read(record(time_start=written), now=began + timedelta(seconds=31))

    assert (found[0].at, found[-1].at) == (began, began + timedelta(seconds=30))


@pytest.mark.parametrize(
    "written", ["", " ", "2019-01-01 00:00:00", "yesterday", 7, None, "9999-12-31 23:59:59"]
)
def test_a_time_that_cannot_be_is_counted_back_from_now(written: object) -> None:
    now = BEGAN + timedelta(hours=1)
    found = a_reader().read(record(time_start=written), now=now)

    assert (found[0].at, found[-1].at) == (now - timedelta(seconds=30), now)


@pytest.mark.parametrize("lasted", [-1, "x", None, 10**30, True, 1.5, "9" * 40])
def test_a_duration_that_is_none_is_left_out(lasted: object) -> None:
    found = a_reader().read(
        record(call_duration=lasted, talk_duration=lasted)
        if not (isinstance(lasted, int) and lasted > 2**63)
        else record(call_duration=str(lasted), talk_duration=str(lasted)),
        now=BEGAN,
    )
    (ended,) = bodies(found, CallEnded)

    assert ended.talk_time is None


def test_several_records_of_a_call_are_each_told() -> None:
    found = read(
        record(status="NO ANSWER", talk_duration=0, call_to="1005", uid="u1"),
        record(status="ANSWERED", call_to="1006", uid="u2"),
    )
    (call,) = calls_of(found)

    assert len(bodies(found, CallEnded)) == 2
    assert {leg.leg_id: leg.outcome for leg in call.legs} == {
        "1005": LegOutcome.NO_ANSWER,
        "1006": LegOutcome.ANSWERED,
    }
    assert call.disposition is Disposition.ANSWERED


@pytest.mark.parametrize(
    ("status", "due"),
    [
        ("ANSWERED", Disposition.ANSWERED),
        ("NO ANSWER", Disposition.MISSED),
        ("NO ANSWERED", Disposition.MISSED),
        ("NO_ANSWER", Disposition.MISSED),
        ("BUSY", Disposition.BUSY),
        ("VOICEMAIL", Disposition.VOICEMAIL),
        ("ABANDONED", Disposition.MISSED),
        ("FAILED", Disposition.FAILED),
        ("SOMETHING NEW", Disposition.MISSED),
    ],
)
def test_what_a_record_says_became_of_an_inbound_call(status: str, due: Disposition) -> None:
    (call,) = calls_of(read(record(status=status)))

    assert (call.disposition, call.end_known) == (due, EndKnown.REPORT)


@pytest.mark.parametrize(
    ("call_to", "phones", "is_phone"),
    [
        ("1005", PHONES, True),
        ("1999", PHONES, False),
        ("1999", Phones(), True),
        ("6400", Phones(), False),
        ("6300", Phones(), False),
        ("6200", Phones(), False),
    ],
)
def test_a_record_names_a_phone_only_where_it_is_one(
    call_to: str, phones: Phones, is_phone: bool
) -> None:
    reader = YeastarReader(EVENTS)
    reader.know(phones)
    (call,) = calls_of(read(record(call_to=call_to), reader=reader))

    assert [leg.callee.extension for leg in call.legs] == ([call_to] if is_phone else [])


def test_a_recording_with_a_control_character_is_none() -> None:
    found = read(record(recording="a\r\nb.wav"))

    assert bodies(found, RecordingReady) == []
