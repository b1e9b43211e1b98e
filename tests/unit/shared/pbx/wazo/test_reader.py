"""Messages of a Wazo in, calls out; tests/data/pbx/wazo/calls.md says which."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallRinging,
    CallStarted,
    Direction,
    Party,
    PbxResynced,
    RecordingReady,
)
from shared.errors import ContractError
from shared.pbx.port import Phones, Sighting
from shared.pbx.wazo import reader as reader_module
from shared.pbx.wazo.reader import WazoReader
from tests.calltable import CallTable, calls_of
from tests.unit.shared.pbx.threecx.samples import records_in, replayed

SAMPLES = Path(__file__).parents[4] / "data" / "pbx" / "wazo"
TABLE = CallTable(SAMPLES / "calls.md")
NAMES = sorted(path.stem for path in SAMPLES.glob("*.tsv"))
NOON = datetime(2026, 8, 5, 10, tzinfo=UTC)
TENANT = "5f5f0000-0000-4000-8000-00000000acfe"
ANNA, BEN, CARL = (f"71710{n}-0000-4000-8000-000000000{n}" for n in (101, 102, 103))
PHONES = Phones(
    extensions=frozenset({"101", "102", "103"}), users={ANNA: "101", BEN: "102", CARL: "103"}
)


def a_reader(**changes: Any) -> WazoReader:
    known: dict[str, Any] = {"tenant": "acme", "pbx": "main", "base": "https://wazo.example"}
    reader = WazoReader(**(known | changes))
    reader.know(PHONES)
    return reader


def sample(name: str) -> list[tuple[datetime, bytes]]:
    pairs = (line.split(b"\t", 1) for line in records_in(SAMPLES / f"{name}.tsv"))
    return [(datetime.fromisoformat(at.decode()), message) for at, message in pairs]


def a_call(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "call_id": "1785924001.42",
        "conversation_id": "1785924000.41",
        "user_uuid": ANNA,
        "is_caller": False,
        "status": "Ringing",
        "direction": "inbound",
        "caller_id_name": "Anna Agent",
        "caller_id_number": "101",
        "peer_caller_id_name": "Jane Customer",
        "peer_caller_id_number": "447700900123",
        "dialed_extension": "442079460000",
        "talking_to": {},
        "sip_call_id": "sip-42",
        "creation_time": "2026-08-05T10:00:00.000+0000",
        "answer_time": None,
        "hangup_time": None,
        "reason_code": None,
    }
    return found | changes


def a_message(name: str, data: object, **changes: Any) -> bytes:
    envelope = {
        "name": name,
        "tenant_uuid": TENANT,
        "timestamp": "2026-08-05T12:00:00",
        "data": data,
    }
    return json.dumps({"op": "event", "code": 0, "data": envelope | changes}).encode()


def told(reader: WazoReader, name: str = "call_updated", **changes: Any) -> list[Sighting]:
    return reader.read(a_message(name, a_call(**changes)), now=NOON)


# -- samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_adds_up_to_its_rows(name: str) -> None:
    reader = a_reader()

    found = [TABLE.row(call, name) for call in calls_of(replayed(reader, sample(name)))]

    assert found == TABLE.rows_of(name)
    assert reader.live_calls == 0


def test_every_sample_is_in_the_table() -> None:
    assert TABLE.names == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_events_that_come_twice_change_nothing(name: str) -> None:
    doubled = [pair for pair in sample(name) for _ in range(2)]

    found = [TABLE.row(call, name) for call in calls_of(replayed(a_reader(), doubled))]

    assert found == TABLE.rows_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_replicas_tell_the_same_facts_by_the_same_keys(name: str) -> None:
    def keys(late: timedelta) -> list[str]:
        found = replayed(a_reader(), [(at + late, message) for at, message in sample(name)])
        return [one.key for one in found if not isinstance(one.body, PbxResynced)]

    assert keys(timedelta(0)) == keys(timedelta(milliseconds=40))


@given(st.randoms(use_true_random=False), st.sampled_from(NAMES))
def test_any_order_gives_no_call_that_is_not_there(chance: random.Random, name: str) -> None:
    shuffled = sample(name)
    chance.shuffle(shuffled)

    found = replayed(a_reader(), [(NOON, message) for _, message in shuffled], tick=False)

    conversations = {one.body.pbx_call_id for one in found if isinstance(one.body, CallStarted)}
    text = (SAMPLES / f"{name}.tsv").read_text()
    assert all(f'"conversation_id":"{one}"' in text for one in conversations)


# -- whose call ------------------------------------------------------------------------------------


def test_a_ringing_phone_pops_the_caller_with_number_and_name() -> None:
    started, ringing = told(a_reader())

    assert isinstance(started.body, CallStarted)
    assert started.body.direction is Direction.INBOUND
    assert started.body.caller == Party(number="447700900123", name="Jane Customer")
    assert started.body.dialled == "442079460000"
    assert isinstance(ringing.body, CallRinging)
    assert ringing.body.callee == Party(extension="101")
    assert ringing.key == "main/1785924000.41/ringing/1785924001.42"


@pytest.mark.parametrize("direction", ["unknown", "", None, 7])
def test_a_wazo_that_does_not_say_the_direction_is_asked_by_who_calls(direction: object) -> None:
    outside = told(a_reader(), direction=direction)
    inside = told(a_reader(), direction=direction, peer_caller_id_number="102")

    assert calls_of(outside)[0].direction is Direction.INBOUND
    assert calls_of(inside)[0].direction is Direction.INTERNAL


def test_the_line_outside_may_bear_the_user_for_whom_it_was_dialled() -> None:
    reader = a_reader()
    told(
        reader, is_caller=True, direction="outbound", status="Ring", dialed_extension="07700900777"
    )

    line = told(reader, call_id="1785924001.43", direction="outbound", status="Up")

    assert isinstance(line[-1].body, CallAnswered)
    assert line[-1].body.callee == Party(number="07700900777")


def test_an_event_after_the_end_opens_nothing() -> None:
    reader = a_reader()
    told(reader)
    told(reader, "call_ended", reason_code=19)
    reader.tick(NOON + timedelta(minutes=1))

    assert told(reader) == []
    assert reader.live_calls == 0


def test_an_end_that_overtook_the_beginning_is_an_end() -> None:
    reader = a_reader()

    told(reader, "call_ended", reason_code=16)

    assert told(reader, "call_created") == []
    assert reader.live_calls == 0


def test_an_event_that_comes_a_moment_after_the_end_keeps_no_call_alive() -> None:
    reader = a_reader()
    told(reader, status="Up")
    told(reader, "call_ended", reason_code=16)
    told(reader, status="Up")

    found = reader.tick(NOON + timedelta(minutes=1))

    assert [one.body.known for one in found if isinstance(one.body, CallEnded)] == ["seen"]
    assert reader.live_calls == 0


def test_the_phone_that_answers_after_hundreds_that_did_not_is_seen() -> None:
    reader = a_reader()
    for number in range(300):
        told(reader, call_id=f"1785924002.{number}")
        told(reader, "call_ended", call_id=f"1785924002.{number}", reason_code=19)
        reader.tick(NOON + timedelta(seconds=2))

    found = told(reader, call_id="1785924002.300", status="Up")

    assert [type(one.body) for one in found] == [CallAnswered]
    [call] = reader._calls.values()
    assert max(len(call.channels), len(call.legs)) <= 200


def test_a_full_house_still_hears_of_the_calls_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_module, "_MOST_CALLS", 1)
    reader = a_reader()
    told(reader)

    found = told(reader, call_id="1785924001.43", user_uuid=BEN, status="Up")

    assert [type(one.body) for one in found] == [CallAnswered]


def test_what_is_gone_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_MOST_REMEMBERED", 3)
    reader = a_reader()
    for number in range(9):
        told(reader, "call_ended", call_id=f"leg{number}")
    reader.tick(NOON)
    assert list(reader._gone) == ["leg6", "leg7", "leg8"]

    reader.tick(NOON + timedelta(hours=1))
    assert not reader._gone


def test_a_tenant_of_others_is_passed_over() -> None:
    only = a_reader(tenant_uuid=TENANT)

    foreign = only.read(a_message("call_updated", a_call(), tenant_uuid="another"), now=NOON)

    assert foreign == []
    assert len(told(only)) == 2


def test_a_clock_that_is_a_day_off_is_not_believed() -> None:
    started = told(a_reader(), creation_time="2001-01-01T00:00:00.000+0000")[0]

    assert started.at == NOON


# -- beside calls ----------------------------------------------------------------------------------


def test_holds_are_told_apart_by_the_moment_that_wazo_writes() -> None:
    reader = a_reader()
    told(reader, status="Up")
    data = {"call_id": "1785924001.42", "user_uuid": ANNA}

    first = reader.read(a_message("call_held", data), now=NOON)
    again = reader.read(a_message("call_held", data), now=NOON + timedelta(seconds=1))
    later = reader.read(a_message("call_held", data, timestamp="2026-08-05T12:00:09"), now=NOON)

    assert isinstance(first[0].body, CallHeld)
    assert first[0].key == again[0].key != later[0].key


def test_the_log_brings_the_recording_as_an_address() -> None:
    found = replayed(a_reader(), sample("inbound_answered"))

    base = "https://wazo.example/api/call-logd/1.0/cdr/501/recordings"
    recordings = [one.body.recording for one in found if isinstance(one.body, RecordingReady)]
    assert recordings == [f"{base}/abcd0000-0000-4000-8000-000000000001/media"]


def test_the_log_ends_a_call_at_once() -> None:
    reader = a_reader()
    told(reader)
    log = {"conversation_id": "1785924000.41", "call_direction": "inbound", "answered": False}

    found = reader.read(a_message("call_log_created", log), now=NOON)

    assert reader.live_calls == 0
    assert [one.body.known for one in found if isinstance(one.body, CallEnded)] == [
        "report",
        "seen",
    ]


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("agent_paused", {"paused": True, "paused_reason": "dinner"}, AgentStatus.DINNER),
        ("agent_paused", {"paused": True, "paused_reason": "smoking"}, AgentStatus.BREAK),
        ("agent_paused", {"paused": True, "paused_reason": "free"}, AgentStatus.BREAK),
        ("agent_unpaused", {"paused": False, "paused_reason": ""}, AgentStatus.FREE),
    ],
)
def test_a_pause_is_the_users_who_is_named_beside_it(
    name: str, data: dict[str, Any], status: AgentStatus
) -> None:
    data = {"agent_id": 4, "agent_number": "9001", "queue": "support", **data}

    found = a_reader().read(a_message(name, data, **{f"user_uuid:{BEN}": True}), now=NOON)

    assert [one.body for one in found] == [
        AgentStatusChanged(
            extension="102",
            status=status,
            source_name="main",
            own=data["paused_reason"] or None,
        )
    ]


def test_a_pause_of_nobody_we_know_is_passed_over() -> None:
    data = {"agent_id": 4, "agent_number": "9001", "paused": True}

    assert a_reader().read(a_message("agent_paused", data), now=NOON) == []


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"op": "event"}',
        b'{"op": "resync", "data": 1}',
        a_message("call_updated", None),
        a_message("call_updated", {}),
        a_message("call_updated", {"call_id": "1"}),
    ],
)
def test_what_cannot_be_read_is_said_and_not_echoed(record: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        a_reader().read(record, now=NOON)

    assert len(caught.value.message) < 100


@pytest.mark.parametrize("name", ["call_id", "conversation_id"])
def test_an_id_that_is_too_long_to_be_one_is_none(name: str) -> None:
    line = a_call(is_caller=True, status="Up", direction="outbound", **{name: "7" * 300})

    with pytest.raises(ContractError, match="without call_id or conversation_id"):
        a_reader().read(a_message("call_updated", line), now=NOON)


def test_a_log_of_a_call_whose_id_is_too_long_is_passed_over() -> None:
    log = {"conversation_id": "7" * 300, "answered": True, "destination_extension": "101"}

    assert a_reader().read(a_message("call_log_created", log), now=NOON) == []


@pytest.mark.parametrize("record", [b"{}", b'{"op": "pong"}', a_message("voicemail", {})])
def test_what_is_not_asked_for_is_passed_over(record: bytes) -> None:
    assert a_reader().read(record, now=NOON) == []


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["7" * 300, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_DATA = st.fixed_dictionaries({name: _JSON | st.just(v) for name, v in a_call().items()})


@given(
    st.lists(st.tuples(st.sampled_from(a_reader().wanted), _DATA), max_size=8),
    st.lists(_DATA, max_size=3),
)
def test_nothing_in_an_event_breaks_the_reader(
    events: list[tuple[str, dict[str, Any]]], items: list[dict[str, Any]]
) -> None:
    reader = a_reader()
    records = [a_message(name, data) for name, data in events]
    records.append(json.dumps({"op": "resync", "data": {"items": items}}).encode())
    for record in records:
        try:
            found = reader.read(record, now=NOON)
        except ContractError:
            continue
        for one in found:
            one.body.model_dump_json()
    reader.read(b'{"op": "resync", "data": {"items": []}}', now=NOON + timedelta(hours=2))
    reader.tick(NOON + timedelta(hours=3))

    assert reader.live_calls == 0


def test_calls_that_never_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_MOST_CALLS", 3)
    reader = a_reader()

    with capture_logs() as logs:
        for number in range(5):
            told(reader, call_id=f"leg{number}", conversation_id=f"call{number}")

    assert reader.live_calls == 3
    assert [line["event"] for line in logs] == ["pbx_too_many_calls"]


def test_calls_of_others_in_the_list_are_not_taken() -> None:
    """The list of calls has every tenant's, and channels that lead nowhere."""
    items = [
        a_call(call_id="1", conversation_id="1", user_uuid="of another tenant", status="Up"),
        a_call(call_id="2", conversation_id="2", sip_call_id=None, status="Up"),
    ]
    record = json.dumps({"op": "resync", "data": {"items": items}}).encode()
    reader = a_reader()

    found = reader.read(record, now=NOON)

    assert [type(one.body) for one in found] == [PbxResynced]
    assert reader.live_calls == 0


def test_a_list_without_conversations_ends_no_call() -> None:
    reader = a_reader()
    told(reader)
    item = {"call_id": "1785924001.42", "status": "Ringing"}

    reader.read(json.dumps({"op": "resync", "data": {"items": [item]}}).encode(), now=NOON)

    assert reader.live_calls == 1
