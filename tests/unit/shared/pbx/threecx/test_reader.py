"""Records of a 3CX in, calls out; tests/data/pbx/threecx/calls.md says which."""

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

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallQueued,
    CallRinging,
    CallStarted,
    Direction,
    EndKnown,
    Party,
    PbxResynced,
)
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.port import Phones, Sighting
from shared.pbx.threecx import reader as reader_module
from shared.pbx.threecx.participants import call_name
from shared.pbx.threecx.reader import ThreeCxReader
from tests.calltable import CallTable, calls_of
from tests.unit.shared.pbx.threecx.samples import records_in, replayed

SAMPLES = Path(__file__).parents[4] / "data" / "pbx" / "threecx"
TABLE = CallTable(SAMPLES / "calls.md")
NAMES = sorted(path.stem for path in SAMPLES.glob("*.jsonl"))
NOON = datetime(2026, 8, 5, 12, tzinfo=UTC)


def a_reader() -> ThreeCxReader:
    return ThreeCxReader(tenant="acme", pbx="main")


def sample(name: str) -> list[tuple[datetime, bytes]]:
    records = records_in(SAMPLES / f"{name}.jsonl")
    return [(datetime.fromisoformat(json.loads(record)["at"]), record) for record in records]


def a_participant(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": 22,
        "status": "Ringing",
        "dn": "101",
        "party_caller_name": "Jane Customer",
        "party_dn": "10000",
        "party_caller_id": "447700900123",
        "party_did": "",
        "party_dn_type": "Wexternalline",
        "callid": 15,
        "legid": 2,
    }
    return found | changes


def an_upsert(participant: object, *, at: datetime = NOON, dn: str = "101", id_: int = 22) -> bytes:
    event = {"event_type": 0, "entity": f"/callcontrol/{dn}/participants/{id_}"}
    record = {"event": event, "participant": participant, "at": at.isoformat()}
    return json.dumps(record).encode()


def told(reader: ThreeCxReader, participant: dict[str, Any]) -> list[Sighting]:
    return reader.read(
        an_upsert(participant, dn=participant["dn"], id_=participant["id"]), now=NOON
    )


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
    def late(pairs: list[tuple[datetime, bytes]]) -> list[tuple[datetime, bytes]]:
        by = timedelta(milliseconds=40)
        return [
            (at + by, json.dumps(json.loads(record) | {"at": (at + by).isoformat()}).encode())
            for at, record in pairs
        ]

    def keys(pairs: list[tuple[datetime, bytes]]) -> list[str]:
        found = replayed(a_reader(), pairs)
        return [one.key for one in found if not isinstance(one.body, PbxResynced)]

    assert keys(sample(name)) == keys(late(sample(name)))


@given(st.randoms(use_true_random=False), st.sampled_from(NAMES))
def test_any_order_gives_no_call_that_is_not_there(chance: random.Random, name: str) -> None:
    """Each event says what its participant is now, so order tells less, never something else."""
    shuffled = sample(name)
    chance.shuffle(shuffled)
    reader = a_reader()

    found = replayed(reader, [(NOON, record) for _, record in shuffled], tick=False)

    assert _started(found) <= _started(replayed(a_reader(), sample(name)))


def _started(sightings: list[Sighting]) -> set[str]:
    return {one.body.pbx_call_id for one in sightings if isinstance(one.body, CallStarted)}


# -- whose call ------------------------------------------------------------------------------------


def test_a_ringing_phone_pops_the_caller_with_number_and_name() -> None:
    started, ringing = told(a_reader(), a_participant())

    assert started.body == CallStarted(
        call_id=call_id("acme", "main", "20260805-15-0123"),
        pbx="main",
        pbx_call_id="20260805-15-0123",
        direction=Direction.INBOUND,
        caller=Party(number="447700900123", name="Jane Customer"),
    )
    assert isinstance(ringing.body, CallRinging)
    assert ringing.body.callee == Party(extension="101")
    assert ringing.key == "main/20260805-15-0123/ringing/101/22"


def test_the_number_in_place_of_a_name_is_no_name() -> None:
    seen = a_participant(party_caller_name="+44 7700 900123")

    assert calls_of(told(a_reader(), seen))[0].caller == Party(number="447700900123")


def test_a_first_leg_is_who_placed_the_call() -> None:
    found = calls_of(told(a_reader(), a_participant(legid=1, status="Connected")))

    assert found[0].direction is Direction.OUTBOUND


def test_a_did_proves_an_inbound_call() -> None:
    seen = a_participant(legid=1, party_did="442079460000")

    assert calls_of(told(a_reader(), seen))[0].direction is Direction.INBOUND


def test_nothing_is_told_before_it_is_known_who_is_called() -> None:
    seen = a_participant(status="Dialing", legid=1, party_dn="", party_dn_type="None")

    assert told(a_reader(), seen) == []


def test_a_trunk_of_the_site_is_nobodys_phone() -> None:
    reader = a_reader()
    reader.know(Phones(trunks=frozenset({"10000"})))

    found = told(reader, a_participant(dn="10000"))

    assert [type(one.body) for one in found] == [CallStarted]


def test_a_queue_that_is_listed_tells_who_waits_in_it() -> None:
    state = [{"dn": "800", "type": "Wqueue", "participants": []}]
    reader = a_reader()
    reader.read(json.dumps({"state": state, "at": NOON.isoformat()}).encode(), now=NOON)

    waits = a_participant(dn="800", status="Connected")
    first, second = told(reader, waits), told(reader, waits)

    assert [type(one.body) for one in first] == [CallStarted, CallQueued]
    assert second == []


def test_3cx_numbers_calls_anew_after_a_restart_and_they_stay_two() -> None:
    before = calls_of(told(a_reader(), a_participant()))
    after = calls_of(told(a_reader(), a_participant(party_caller_id="447700900999")))

    assert before[0].call_id != after[0].call_id


def test_an_order_knows_its_call_by_what_makecall_answers() -> None:
    dialled = a_participant(status="Dialing", legid=1, callid=26, party_caller_id="07700900777")

    started = told(a_reader(), dialled)[0].body

    assert isinstance(started, CallStarted)
    assert started.pbx_call_id == call_name(26, "+447700900777", NOON)


def test_who_was_seen_dialling_placed_the_call_whatever_its_leg_is_called_later() -> None:
    reader = a_reader()
    dials = a_participant(status="Dialing", legid=2, party_caller_id="07700900777")

    found = told(reader, dials) + told(reader, dials | {"status": "Connected"})

    assert calls_of(found)[0].direction is Direction.OUTBOUND
    assert [one.body.callee for one in found if isinstance(one.body, CallAnswered)] == [
        Party(number="07700900777", name="Jane Customer")
    ]


# -- after a gap -----------------------------------------------------------------------------------


def test_a_state_says_which_calls_go_on() -> None:
    reader = a_reader()
    told(reader, a_participant())
    heard = NOON + timedelta(seconds=5)
    state = [{"dn": "101", "type": "Wextension", "participants": [a_participant()]}]
    at = NOON + timedelta(minutes=1)
    record = {"state": state, "at": at.isoformat(), "heard": heard.isoformat()}

    found = reader.read(json.dumps(record).encode(), now=at)

    assert [one.body for one in found] == [
        PbxResynced(pbx="main", live=("20260805-15-0123",), heard_until=heard)
    ]


def a_state(*participants: dict[str, Any], at: datetime) -> bytes:
    state = [{"dn": one["dn"], "type": "Wextension", "participants": [one]} for one in participants]
    return json.dumps({"state": state, "at": at.isoformat()}).encode()


def a_removal(*, dn: str, id_: int, at: datetime) -> bytes:
    event = {"event_type": 1, "entity": f"/callcontrol/{dn}/participants/{id_}"}
    return json.dumps({"event": event, "participant": None, "at": at.isoformat()}).encode()


def ends(sightings: list[Sighting]) -> list[CallEnded]:
    return [one.body for one in sightings if isinstance(one.body, CallEnded)]


def test_a_call_of_which_one_phone_stopped_in_the_gap_is_seen_to_its_end() -> None:
    reader = a_reader()
    answers = a_participant(dn="102", id=23, status="Connected")
    told(reader, a_participant())
    told(reader, answers | {"status": "Ringing"})
    back, later = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)

    reader.read(a_state(answers, at=back), now=back)
    reader.read(a_removal(dn="102", id_=23, at=later), now=later)
    found = ends(reader.tick(later + timedelta(minutes=1)))

    assert [one.known for one in found] == [EndKnown.SEEN]


@pytest.mark.parametrize("turned", [False, True])
def test_a_call_that_is_joined_while_somebody_talks_is_joined_whoever_is_listed_first(
    turned: bool,
) -> None:
    rings, talks = a_participant(), a_participant(dn="102", id=23, status="Connected")
    reader = a_reader()
    reader.read(a_state(*((talks, rings) if turned else (rings, talks)), at=NOON), now=NOON)
    for one in (rings, talks):
        reader.read(a_removal(dn=one["dn"], id_=one["id"], at=NOON), now=NOON)

    found = ends(reader.tick(NOON + timedelta(minutes=1)))

    assert [one.known for one in found] == [EndKnown.JOINED]


def test_a_caller_who_waits_for_hours_is_given_up_again_and_again_and_not_lost() -> None:
    reader, found = a_reader(), list[Sighting]()
    for minute in range(0, 6, 2):
        at = NOON + timedelta(minutes=minute)
        rings = a_participant(id=minute)
        found += reader.read(an_upsert(rings, at=at, id_=minute), now=at)
        found += reader.read(a_removal(dn="101", id_=minute, at=at), now=at)
        found += reader.tick(at + timedelta(minutes=1))

    silent = [one for one in found if isinstance(one.body, CallEnded)]
    assert {one.body.known for one in silent if isinstance(one.body, CallEnded)} == {
        EndKnown.SILENCE
    }
    assert len({one.key for one in silent}) == 3
    assert calls_of(found)[0].ended_at == NOON + timedelta(minutes=4)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"event": 1}',
        b"{}",
        b'{"state": {}}',
        an_upsert("text"),
        an_upsert({}),
        an_upsert(a_participant(callid="x")),
        an_upsert(a_participant(status="")),
        b'\xff{"state": []}',
    ],
)
def test_what_cannot_be_read_is_said_and_not_echoed(record: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        a_reader().read(record, now=NOON)

    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    "entity",
    ["", "/callcontrol/101", "/callcontrol/../participants/1", "/callcontrol/1/participants/x", 7],
)
def test_what_is_no_participant_is_passed_over(entity: object) -> None:
    record = {"event": {"event_type": 0, "entity": entity}, "participant": a_participant()}

    assert a_reader().read(json.dumps(record).encode(), now=NOON) == []


def test_texts_from_outside_are_bounded_and_on_one_line() -> None:
    seen = a_participant(party_caller_name="A\r\nB\x00" + "x" * 5000 + "\ud800")

    name = calls_of(told(a_reader(), seen))[0].caller

    assert name is not None
    assert name.name is not None
    assert name.name.startswith("A B ")
    assert len(name.name) == 256


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["7" * 300, "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(a_participant())), inner)
    ),
    max_leaves=10,
)


@given(
    st.lists(
        st.fixed_dictionaries({name: _JSON | st.just(v) for name, v in a_participant().items()}),
        max_size=5,
    )
)
def test_nothing_in_a_participant_breaks_the_reader(seen: list[dict[str, Any]]) -> None:
    reader = a_reader()
    for participant in seen:
        try:
            found = reader.read(an_upsert(participant), now=NOON)
        except ContractError:
            continue
        for one in found:
            one.body.model_dump_json()
    reader.read(json.dumps({"state": [{"dn": "101", "participants": seen}]}).encode(), now=NOON)
    reader.tick(NOON + timedelta(hours=1))
    reader.read(json.dumps({"state": []}).encode(), now=NOON + timedelta(hours=2))
    reader.tick(NOON + timedelta(hours=3))

    assert reader.live_calls == 0


def test_calls_that_never_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_MOST_CALLS", 3)
    reader = a_reader()

    with capture_logs() as logs:
        for number in range(5):
            told(reader, a_participant(id=number, callid=number))

    assert reader.live_calls == 3
    assert [line["event"] for line in logs] == ["pbx_too_many_calls"]


def test_an_answer_and_an_end_are_dated_when_they_were() -> None:
    found = replayed(a_reader(), sample("inbound_answered"))

    at = {type(one.body): one.at.isoformat() for one in found}
    assert at[CallAnswered] == "2026-08-05T10:00:05+00:00"
    assert at[CallEnded] == "2026-08-05T10:00:35+00:00"
