"""Bodies of the hook: what is read, what is refused and how it is told, and wrong clocks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import CallEnded, CallStarted, EndKnown, Party
from shared.contracts.hooks import HookEventKind
from shared.errors import ContractError
from shared.pbx.generic.reader import GenericHookReader
from shared.pbx.port import Phones, RawHook, Sighting

CAME = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
ENDED = {"event": "ended", "call": "1", "at": "2026-11-21T10:00:00Z"}
CDR = {
    "event": "cdr",
    "call": "1",
    "at": "2026-11-21T10:00:00Z",
    "started_at": "2026-11-21T09:59:00Z",
    "direction": "inbound",
    "caller": "+447700900123",
}


def read(document: Any, *, came: datetime = CAME) -> list[Sighting]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    hook = RawHook(body=body, received_at=came)
    return list(GenericHookReader(tenant="acme", pbx="door").read(hook, Phones()).sightings)


def refusal(document: Any) -> str:
    with pytest.raises(ContractError) as caught:
        read(document)
    return caught.value.message


# -- one, or a batch --------------------------------------------------------------------------------


def test_an_event_alone_and_in_a_batch_are_the_same() -> None:
    assert read(ENDED) == read({"events": [ENDED]})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b'{"event": "\xe9"}', "not JSON in UTF-8"),
        (b'{"talk_seconds": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        ([ENDED], "an event is a JSON object"),
        ("ended", "an event is a JSON object"),
        (None, "an event is a JSON object"),
        ({"events": []}, "a list of 1 to 500 events"),
        ({"events": ENDED}, "a list of 1 to 500 events"),
        ({"events": [ENDED] * 501}, "a list of 1 to 500 events"),
        ({"events": [ENDED], "tenant": "globex"}, "beside `events`"),
        ({"events": ["x"]}, "events.0: Input should be"),
        ({}, "event: Field required; at: Field required"),
        (ENDED | {"callr": "1"}, "callr: unknown key; did you mean `caller`?"),
        ({"events": [ENDED, ENDED | {"at": "noon"}]}, "events.1.at: "),
        ({"event": "ended", "at": ENDED["at"]}, "event: event ended: call is missing"),
        ({"event": "agent_status", "at": ENDED["at"]}, "extension, status is missing"),
        ({f"k{n}": 1 for n in range(101)}, "more than 100 fields"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(document: Any, said: str) -> None:
    assert said in refusal(document)


def test_a_fault_repeats_nothing_of_the_body_and_is_short() -> None:
    faulty = {"event": "sesame-7", "call": "", "at": "sesame-7", "caller": 7, "x" * 5000: 1}

    message = refusal({"events": [faulty] * 500})

    assert "sesame" not in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    "worst",
    [
        {"events": [{f"k{n}": 1 for n in range(100)} for _ in range(500)]},
        {"events": [{f"k{n}": 1 for n in range(40_000)}]},
        {f"k{n}": 1 for n in range(40_000)},
    ],
    ids=["many", "one of a batch", "one"],
)
def test_only_the_first_of_thousands_of_faults_are_looked_for(worst: Any) -> None:
    """Each is compared with each other: all of them would take minutes."""
    assert len(refusal(worst).split("; ")) <= 10


# -- whole calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"started_at": None}, "event cdr: started_at is missing"),
        ({"direction": None, "caller": None}, "event cdr: direction, caller is missing"),
        ({"started_at": "2026-11-21T10:00:02Z"}, "started_at is after at"),
        ({"started_at": "2026-11-14T09:59:59Z"}, "more than 7 days before at"),
        ({"answered_at": "2026-11-21T09:58:58Z"}, "answered_at is not between"),
        ({"rang_at": "2026-11-21T10:00:02Z"}, "rang_at is not between"),
        ({"disposition": "answered"}, "answered_at or talk_seconds is missing"),
        ({"answered_by": "101"}, "answered_at or talk_seconds is missing"),
        ({"rang": [""]}, "rang.0: "),
        ({"rang": ["1"] * 101}, "rang: "),
        ({"rang": "101"}, "rang: "),
        ({"talk_seconds": -1}, "talk_seconds: "),
    ],
)
def test_a_record_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(CDR | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"started_at": "2026-11-21T10:00:01Z"},
        {"answered_at": "2026-11-21T09:58:59Z", "extension": "101"},
        {"talk_seconds": 600, "answered_by": "101"},
    ],
    ids=["start", "answer", "length"],
)
def test_times_that_were_rounded_each_by_itself_are_borne(fields: dict[str, Any]) -> None:
    began = CAME if "started_at" in fields else CAME - timedelta(minutes=1)
    moments = [one.at for one in read(CDR | fields)]

    assert min(moments) >= began - timedelta(seconds=1)
    assert max(moments) <= CAME + timedelta(seconds=1)


def test_the_end_of_a_record_is_reported_and_comes_first() -> None:
    """So that no screen opens a card for a call that is over."""
    first, *others = read(CDR)

    assert isinstance(first.body, CallEnded)
    assert first.body.known is EndKnown.REPORT
    assert not any(isinstance(one.body, CallEnded) for one in others)


def test_the_end_of_a_record_is_another_message_than_the_seen_one() -> None:
    (seen,), reported = read(ENDED), read(CDR)[0]

    assert seen.key != reported.key


@pytest.mark.parametrize(
    "caller",
    ["", "anonymous", "Unknown", "sip:alice@host", "<script>", "\u0000", "a\r\nAction: x", "٣٤٥"],
)
def test_numbers_that_are_none_are_kept_as_they_are(caller: str) -> None:
    (started,) = [
        one.body
        for one in read(CDR | {"caller": caller, "dialled": caller, "rang": [caller or "x"]})
        if isinstance(one.body, CallStarted)
    ]

    assert started.caller == Party(number=caller)
    assert started.dialled == caller


# -- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [timedelta(days=7), timedelta(0), timedelta(days=-1)])
def test_an_event_that_may_have_been_late_keeps_its_time(late: timedelta) -> None:
    (found,) = read(ENDED, came=CAME + late)

    assert found.at == CAME


@pytest.mark.parametrize("off", [timedelta(days=7, seconds=1), timedelta(days=-1, seconds=-1)])
def test_a_clock_that_cannot_be_right_is_set_right(off: timedelta) -> None:
    came = CAME + off
    found = read(CDR, came=came)

    assert max(one.at for one in found) == came
    assert max(one.at for one in found) - min(one.at for one in found) == timedelta(minutes=1)
    assert [one.key for one in found] == [one.key for one in read(CDR)]


def test_a_right_clock_beside_a_wrong_one_is_left_alone() -> None:
    wrong = ENDED | {"call": "2", "at": "0001-01-01T00:00:00Z"}
    wronger = ENDED | {"call": "3", "at": "9999-12-31T23:59:59Z"}

    assert [one.at for one in read({"events": [ENDED, wrong, wronger]})] == [CAME] * 3


# -- whatever comes ---------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([kind.value for kind in HookEventKind])
    | st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", ENDED["at"]])
    | st.sampled_from(["inbound", "outbound", "internal", "answered", "blind", "free"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_NAMES = [
    *("event", "call", "at", "direction", "caller", "dialled", "dial_id", "extension", "number"),
    *("own_phone", "queue", "kind", "by", "to", "outcome", "disposition", "talk_seconds"),
    *("hangup_by", "recording", "started_at", "rang_at", "answered_at", "rang", "answered_by"),
    *("summary", "transcription", "sentiment", "status", "events"),
]


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES))
def test_any_document_is_read_or_refused(fields: dict[str, Any]) -> None:
    for document in (fields, CDR | fields, {"events": [ENDED | fields, CDR]}):
        body = json.dumps(document).encode()
        try:
            found = read(body)
        except ContractError:
            continue
        assert found == read(body)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read(body)
    except ContractError:
        return
