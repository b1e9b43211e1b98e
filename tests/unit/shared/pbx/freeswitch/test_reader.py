"""What the reader does where a stream alone does not show it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
    PbxResynced,
)
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.freeswitch.reader import channels_record
from shared.pbx.port import Phones, Sighting
from tests.calltable import calls_of
from tests.unit.shared.pbx.freeswitch.event_streams import (
    NAMES,
    NOON,
    PHONES,
    a_reader,
    bodies,
    replayed,
    stamp,
    stream,
)

CUSTOMER, DID = "447700900123", "442079460000"


def an_event(name: str, leg: str, second: float = 0, /, **headers: str) -> bytes:
    at = NOON + timedelta(seconds=second)
    told = {"Event-Name": name, "Unique-ID": leg, "Event-Date-Timestamp": micros(at)}
    told |= {k if k.startswith("variable_") else k.replace("_", "-"): v for k, v in headers.items()}
    return orjson.dumps(told)


def micros(at: datetime) -> str:
    return str(round(at.timestamp() * 1_000_000))


def caller_comes(second: float = 0, leg: str = "a", /, **headers: str) -> bytes:
    known = {
        "Call_Direction": "inbound",
        "Channel_Name": f"sofia/external/{CUSTOMER}@198.51.100.7",
        "Caller_Caller_ID_Number": CUSTOMER,
        "Caller_Destination_Number": DID,
        "Caller_Network_Addr": "198.51.100.7",
    }
    return an_event("CHANNEL_CREATE", leg, second, **(known | headers))


def phone_is_called(
    second: float = 0.1, /, leg: str = "b", parent: str = "a", **more: str
) -> bytes:
    known = {
        "Call_Direction": "outbound",
        "Channel_Name": "sofia/internal/101@192.0.2.1",
        "Other_Type": "originator",
        "Other_Leg_Unique_ID": parent,
        "Caller_Caller_ID_Number": CUSTOMER,
        "Caller_Destination_Number": "101",
        "variable_dialed_user": "101",
    }
    return an_event("CHANNEL_CREATE", leg, second, **(known | more))


def over(second: float, *legs: str, cause: str = "NORMAL_CLEARING") -> list[bytes]:
    return [an_event("CHANNEL_HANGUP_COMPLETE", leg, second, Hangup_Cause=cause) for leg in legs]


def talking() -> list[bytes]:
    return [
        caller_comes(),
        phone_is_called(),
        an_event("CHANNEL_PROGRESS", "b", 0.5),
        an_event("CHANNEL_ANSWER", "b", 1),
        an_event("CHANNEL_ANSWER", "a", 1),
        an_event("CHANNEL_BRIDGE", "a", 1, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="b"),
    ]


def a_row(leg: str, **columns: str) -> dict[str, str]:
    known = {
        "uuid": leg,
        "direction": "inbound",
        "created_epoch": str(int(NOON.timestamp())),
        "name": f"sofia/external/{CUSTOMER}@198.51.100.7",
        "callstate": "ACTIVE",
        "initial_cid_num": CUSTOMER,
        "initial_dest": DID,
        "call_uuid": leg,
    }
    return known | columns


def phone_row(leg: str = "b", **columns: str) -> dict[str, str]:
    known = {
        "direction": "outbound",
        "name": "sofia/internal/101@192.0.2.1",
        "presence_id": "101@pbx.example",
        "initial_dest": "101",
        "call_uuid": "a",
    }
    return a_row(leg, **(known | columns))


def the_list(*rows: dict[str, str], heard: datetime = NOON, since: datetime | None = None) -> bytes:
    listed = orjson.dumps({"row_count": len(rows), "rows": rows}).decode()
    return channels_record(listed, heard=heard, since=since or NOON + timedelta(days=999))


# -- whose channel it is --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trunk", "headers"),
    [
        ("external", {}),
        ("198.51.100.7", {}),
        ("carrier", {"variable_sip_gateway": "carrier"}),
        ("carrier", {"variable_sofia_profile_name": "carrier"}),
        ("freetdm", {"Channel_Name": "freetdm/1:1/442079460000"}),
    ],
)
def test_what_the_site_names_as_a_trunk_leads_outside(trunk: str, headers: dict[str, str]) -> None:
    reader = a_reader(Phones(trunks=frozenset({trunk})))
    (started,) = bodies(reader.read(caller_comes(0, **headers), now=NOON), CallStarted)

    assert (started.direction, started.caller.number) == (Direction.INBOUND, CUSTOMER)
    assert (started.dialled, started.pbx_call_id) == (DID, "a")


def test_a_number_is_no_reason_to_take_a_phone_for_a_trunk() -> None:
    found = replayed([caller_comes(Channel_Name="sofia/internal/447700900123@x"), *over(1, "a")])

    assert bodies(found, CallStarted)[0].direction is Direction.INTERNAL


def test_a_user_is_a_phone_also_on_the_profile_of_a_trunk() -> None:
    called = phone_is_called(Channel_Name="sofia/external/sip:101@198.51.100.9")
    found = replayed([caller_comes(), called, an_event("CHANNEL_PROGRESS", "b", 0.5)])

    assert bodies(found, CallRinging)[0].callee.extension == "101"


def test_a_user_of_the_pbxs_own_name_is_his_extension() -> None:
    phones = Phones(trunks=PHONES.trunks, extensions=frozenset({"101"}), users={"anna": "101"})
    called = phone_is_called(variable_dialed_user="anna", Caller_Destination_Number="anna")
    found = replayed(
        [caller_comes(), called, an_event("CHANNEL_PROGRESS", "b", 0.5)], a_reader(phones)
    )

    assert bodies(found, CallRinging)[0].callee.extension == "101"


def test_the_call_is_that_of_the_channel_that_called_whatever_channel_call_uuid_says() -> None:
    found = replayed([*talking()[:1], phone_is_called(Channel_Call_UUID="b"), *talking()[2:]])

    assert {s.body.call_id for s in found if isinstance(s.body, CallAnswered)} == {
        call_id("acme", "main", "a")
    }


def test_a_channel_that_somebody_unknown_made_tells_nothing() -> None:
    reader = a_reader()
    found = replayed([phone_is_called(parent="unseen"), *talking()[2:], *over(5, "b")], reader)

    assert found == []
    assert reader.live_calls == 0


# -- order and time -------------------------------------------------------------------------


def test_what_comes_before_the_beginning_of_its_channel_waits_for_it_a_second() -> None:
    reader = a_reader()
    early = [phone_is_called(), an_event("CHANNEL_PROGRESS", "b", 0.5)]
    for record in early:
        assert reader.read(record, now=NOON) == []
    found = reader.read(caller_comes(), now=NOON + timedelta(seconds=0.9))
    assert [type(sighting.body) for sighting in found] == [CallStarted, CallRinging]

    late = a_reader()
    for record in early:
        late.read(record, now=NOON)
    late.tick(NOON + timedelta(seconds=1))
    found = late.read(caller_comes(), now=NOON + timedelta(seconds=1))
    assert [type(sighting.body) for sighting in found] == [CallStarted]


def test_a_flood_of_unknown_channels_is_not_kept() -> None:
    reader = a_reader()
    for number in range(5_000):
        reader.read(an_event("CHANNEL_ANSWER", f"unknown-{number}"), now=NOON)

    assert len(reader._held) <= 2_000
    assert len(replayed(talking(), reader)) > 0


def test_a_late_event_of_a_call_that_ended_begins_no_other() -> None:
    reader = a_reader()
    replayed([*talking(), *over(5, "a", "b")], reader)

    assert replayed([caller_comes(60), *talking()[1:]], reader) == []
    assert reader.live_calls == 0


def test_a_call_ends_when_nothing_followed_its_last_leg_for_a_moment() -> None:
    reader, gone = a_reader(), NOON + timedelta(seconds=5)
    for record in [*talking(), *over(5, "a", "b")]:
        reader.read(record, now=gone)

    assert reader.tick(gone + timedelta(milliseconds=100)) == []
    (ended,) = reader.tick(gone + timedelta(milliseconds=200))
    assert isinstance(ended.body, CallEnded)
    assert ended.at == gone
    assert ended.body.talk_time == timedelta(seconds=4)


@pytest.mark.parametrize("stamped", ["", "x", "0", "-1", "²", "9" * 17, "9" * 400])
def test_without_a_plausible_time_ours_is_taken(stamped: str) -> None:
    reader = a_reader()
    (started,) = reader.read(caller_comes(Event_Date_Timestamp=stamped), now=NOON)

    assert started.at == NOON


# -- click-to-call --------------------------------------------------------------------------


def a_click(leg: str, second: float = 0, **headers: str) -> bytes:
    known = {
        "Call_Direction": "outbound",
        "Channel_Name": f"sofia/internal/101@192.0.2.{second}",
        "Caller_Caller_ID_Number": "+447700900777",
        "variable_dialed_user": "101",
        "variable_crm_click_id": "click-0001",
        "variable_crm_number": "+447700900777",
    }
    return an_event("CHANNEL_CREATE", leg, second, **(known | headers))


def customer_is_called(second: float, parent: str) -> list[bytes]:
    made = phone_is_called(
        second,
        leg="c",
        parent=parent,
        Channel_Name="sofia/external/+447700900777",
        Caller_Destination_Number="+447700900777",
        variable_dialed_user="",
    )
    return [made, an_event("CHANNEL_ANSWER", "c", second + 1)]


@pytest.mark.parametrize("taken", ["a", "b"])
def test_an_agent_with_two_devices_has_one_call_whichever_he_takes(taken: str) -> None:
    left = {"a": "b", "b": "a"}[taken]
    records = [
        *(a_click("a"), a_click("b", 0.01)),
        *(an_event("CHANNEL_PROGRESS", leg, 0.5) for leg in "ab"),
        an_event("CHANNEL_ANSWER", taken, 2),
        *over(2.1, left, cause="LOSE_RACE"),
        *customer_is_called(3, taken),
        an_event("CHANNEL_BRIDGE", taken, 4, Bridge_A_Unique_ID=taken, Bridge_B_Unique_ID="c"),
        *over(9, taken, "c"),
    ]
    found = replayed(records)
    (call,) = calls_of(found)

    assert (call.dial_id, call.disposition) == ("click-0001", Disposition.ANSWERED)
    assert call.talk_time == timedelta(seconds=5)
    assert [leg.leg_id for leg in call.legs if leg.own_phone and leg.answered_at] == [taken]
    assert [leg.callee.number for leg in call.legs if not leg.own_phone] == ["+447700900777"]


def test_an_agent_who_takes_none_of_his_devices_has_one_call_that_failed() -> None:
    records = [a_click("a"), a_click("b", 0.01), *over(15, "a", "b", cause="NO_ANSWER")]
    (call,) = calls_of(replayed(records))

    assert (call.disposition, len(call.legs)) == (Disposition.FAILED, 1)


# -- transfers -------------------------------------------------------------------------------


def two_calls(endpoint: str) -> list[bytes]:
    """101 speaks with *a*, *endpoint* with *x*; then somebody bridges *a* and *x*."""
    return [
        *talking(),
        caller_comes(2, "x"),
        phone_is_called(2.1, leg="y", parent="x", variable_dialed_user=endpoint),
        an_event("CHANNEL_ANSWER", "y", 3),
        an_event("CHANNEL_ANSWER", "x", 3),
        an_event("CHANNEL_BRIDGE", "x", 3, Bridge_A_Unique_ID="x", Bridge_B_Unique_ID="y"),
        an_event("CHANNEL_BRIDGE", "a", 5, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="x"),
    ]


def test_two_callers_of_the_same_phone_who_are_bridged_were_put_together_by_it() -> None:
    (transferred,) = bodies(replayed(two_calls("101")), CallTransferred)

    assert (transferred.by.extension, transferred.to.number) == ("101", CUSTOMER)


def test_two_callers_of_different_phones_who_are_bridged_are_no_transfer() -> None:
    assert bodies(replayed(two_calls("102")), CallTransferred) == []


@pytest.mark.parametrize("cause", ["NORMAL_CLEARING", "ATTENDED_TRANSFER"])
def test_a_caller_who_goes_on_in_the_dialplan_was_sent_on_by_nobody(cause: str) -> None:
    """After a talk, to a survey: the phone hung up and transferred nobody."""
    records = [
        *talking(),
        *over(3, "b", cause=cause),
        phone_is_called(3.1, leg="c", Other_Leg_Destination_Number="survey"),
    ]

    assert bodies(replayed(records), CallTransferred) == []


def test_who_picks_up_a_colleagues_call_is_told_who_is_there() -> None:
    answers = bodies(replayed(stream("pickup")), CallAnswered)

    assert [(answer.callee.label, answer.caller) for answer in answers] == [
        ("102", Party(number=CUSTOMER))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_only_a_phone_that_did_not_ring_for_the_call_is_told_who_is_there(name: str) -> None:
    found = replayed(stream(name))

    rang = {(ring.call_id, ring.leg_id) for ring in bodies(found, CallRinging)}
    for answer in bodies(found, CallAnswered):
        told = answer.caller is not None
        inside = answer.callee.extension is not None and not answer.own_phone
        assert told == (inside and (answer.call_id, answer.leg_id) not in rang)


# -- after a gap ----------------------------------------------------------------------------


def gap(before: list[bytes], *rows: dict[str, str]) -> tuple[list[Sighting], list[Sighting]]:
    """What is told of the list, and what after the calls are over."""
    reader, now = a_reader(), NOON + timedelta(seconds=10)
    for record in before:
        reader.read(record, now=stamp(record))
    told = reader.read(the_list(*rows), now=now)
    after = [*over(20, "a", "b")]
    return told, told + [s for r in after for s in reader.read(r, now=now)] + reader.tick(
        now + timedelta(seconds=2)
    )


def test_a_call_that_is_gone_after_a_gap_ended_and_nobody_knows_how() -> None:
    told, _ = gap(talking())
    (ended,) = bodies(told, CallEnded)

    assert ended.known is EndKnown.RESYNC
    assert (ended.disposition, ended.hangup_by, ended.talk_time) == (None, None, None)


def test_a_phone_that_was_answered_in_the_gap_is_answered_now_and_the_call_goes_on() -> None:
    told, after = gap(talking()[:3], a_row("a"), phone_row())
    (answered,) = bodies(told, CallAnswered)
    (ended,) = bodies(after, CallEnded)

    assert answered.callee.extension == "101"
    assert (ended.disposition, ended.known) == (Disposition.ANSWERED, EndKnown.SEEN)
    assert ended.talk_time == timedelta(seconds=10)


def test_who_was_slower_in_the_gap_was_answered_elsewhere() -> None:
    both = [*talking()[:3], phone_is_called(leg="c", variable_dialed_user="102")]
    told, _ = gap(both, a_row("a"), phone_row())

    assert [(e.callee.extension, e.outcome) for e in bodies(told, LegEnded)] == [
        ("102", LegOutcome.ELSEWHERE)
    ]


def test_a_call_that_began_in_the_gap_is_joined() -> None:
    told, after = gap([], phone_row(), a_row("a"))
    (started,) = bodies(told, CallStarted)
    (ended,) = bodies(after, CallEnded)

    assert (started.direction, started.pbx_call_id) == (Direction.INBOUND, "a")
    assert started.dialled == DID
    assert [a.callee.extension for a in bodies(told, CallAnswered)] == ["101"]
    assert ended.known is EndKnown.JOINED


def test_a_phone_that_rings_when_we_come_is_told_to_ring() -> None:
    told, _ = gap([], a_row("a", callstate="RINGING"), phone_row(callstate="RINGING"))

    assert [r.callee.extension for r in bodies(told, CallRinging)] == ["101"]


def test_a_channel_of_ours_that_nobody_made_is_not_taken_for_a_call() -> None:
    """An agent's phone that a queue rings: the list does not say for whom."""
    told, after = gap([], phone_row(call_uuid="b", callstate="RINGING"))

    (resynced,) = told
    assert isinstance(resynced.body, PbxResynced)
    assert after == told


def test_what_goes_on_is_told_so_that_calls_of_a_reader_before_us_end() -> None:
    told, _ = gap(talking(), a_row("a"), phone_row(), a_row("x"))
    (resynced,) = bodies(told, PbxResynced)

    assert set(resynced.live) == {"a", "b", "x"}
    assert (resynced.pbx, resynced.heard_until) == ("main", NOON)


def test_a_call_that_began_after_the_pbx_was_asked_is_not_in_the_list_and_goes_on() -> None:
    """FreeSWITCH writes its list a moment after it tells the event, which may overtake it."""
    reader, now = a_reader(), NOON + timedelta(seconds=10)
    reader.read(caller_comes(9.99), now=now)
    told = reader.read(the_list(since=now - timedelta(seconds=1)), now=now)

    assert bodies(told, CallEnded) == []
    assert bodies(told, PbxResynced)[0].live == ("a",)
    assert reader.live_calls == 1


def test_the_keys_of_a_joined_call_are_those_that_a_reader_from_its_beginning_tells() -> None:
    told, _ = gap([], a_row("a"), phone_row())

    of_calls = {s.key for s in told if not isinstance(s.body, PbxResynced)}
    assert of_calls <= {s.key for s in replayed(talking())}


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=20)
@given(share=st.floats(0, 1))
def test_joining_in_the_middle_of_a_stream_makes_nothing_up(name: str, share: float) -> None:
    records, reader = stream(name), a_reader()
    found = replayed(records[round(share * len(records)) :], reader)

    whole = {call.call_id for call in calls_of(replayed(records))}
    # A phone's second call is one of its own when its first was not seen.
    assert len(calls_of(found)) <= max(len(whole), 1)
    assert reader.live_calls == 0


# -- garbage --------------------------------------------------------------------------------

ODD = st.one_of(
    st.sampled_from(["", " ", "a", "b", "0", "-1", "²", "\x00", "\r\n", "/", "@", "x" * 5_000]),
    st.sampled_from(["loopback/x-a", "sofia/external/1", "inbound", "outbound", "originator"]),
    st.text(max_size=30),
)
HEADERS = st.sampled_from(
    [
        *("Unique-ID", "Call-Direction", "Channel-Name", "Other-Type", "Other-Leg-Unique-ID"),
        *("Bridge-A-Unique-ID", "Bridge-B-Unique-ID", "Hangup-Cause", "Record-File-Path"),
        *("Caller-Caller-ID-Number", "Caller-Destination-Number", "Event-Date-Timestamp"),
        *("CC-Action", "CC-Queue", "CC-Agent", "CC-Agent-Status", "CC-Member-Session-UUID"),
        *("variable_cc_side", "variable_crm_number", "variable_transfer_source", "Event-Subclass"),
        *("variable_dialed_user", "variable_other_loopback_leg_uuid", "Channel-Call-UUID"),
    ]
)


@settings(deadline=None)
@given(
    name=st.sampled_from(NAMES),
    odd=st.lists(st.tuples(st.integers(0, 40), HEADERS, ODD), max_size=8),
)
def test_odd_values_crash_nothing_and_leave_nothing_behind(
    name: str, odd: list[tuple[int, str, str]]
) -> None:
    records: list[dict[str, Any]] = [headers_of(record) for record in stream(name)]
    for place, header, value in odd:
        records[place % len(records)][header] = value
    reader, now = a_reader(), datetime.fromtimestamp(1_795_000_000, UTC)
    found = []
    for record in records:
        found += reader.read(orjson.dumps(record), now=now)
    found += reader.read(the_list(), now=now)
    found += reader.tick(now + timedelta(seconds=2))

    assert reader.live_calls == 0
    for sighting in found:
        assert sighting.body.model_dump_json()


def headers_of(record: bytes) -> dict[str, Any]:
    lines = (line.partition(": ") for line in record.decode().split("\n"))
    return {name: value for name, _, value in lines}


ROWS = st.dictionaries(
    st.sampled_from(["uuid", "direction", "name", "callstate", "call_uuid", "created_epoch"]),
    ODD | st.none() | st.integers(-9, 2**40) | st.lists(st.text(max_size=3), max_size=2),
)


@settings(deadline=None)
@given(rows=st.lists(ROWS | st.text(max_size=5) | st.none(), max_size=6))
def test_an_odd_list_of_channels_crashes_nothing(rows: list[object]) -> None:
    reader = a_reader()
    replayed(talking(), reader)
    record = orjson.dumps({"callmesh": "channels", "rows": rows})
    reader.read(record, now=NOON)

    reader.read(the_list(), now=NOON)
    assert reader.live_calls == 0


@pytest.mark.parametrize(
    "record", [b"", b"{", b"x: y", b'{"callmesh":', b'{"callmesh":1}', b'{"callmesh":"","rows":{}}']
)
def test_what_is_no_record_is_refused(record: bytes) -> None:
    with pytest.raises(ContractError):
        a_reader().read(record, now=NOON)


def test_an_event_that_is_not_read_is_none() -> None:
    assert a_reader().read(an_event("HEARTBEAT", "a"), now=NOON) == []
