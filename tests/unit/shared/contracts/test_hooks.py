from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.agents import AgentStatus
from shared.contracts.calls import Direction, LegOutcome, TransferKind
from shared.contracts.hooks import HookBatch, HookEvent, HookEventKind, HookKind, HookReceived

AT = "2026-11-21T06:54:35.958Z"


def an_event(event: str, /, **fields: Any) -> dict[str, Any]:
    return {"event": event, "call": "1795244075.0", "at": AT, **fields}


#: Of each kind the least that is enough.
LEAST: dict[str, dict[str, Any]] = {
    "started": {"direction": "inbound", "caller": "447700900123"},
    "queued": {"queue": "support"},
    "ringing": {"extension": "101"},
    "answered": {"extension": "101"},
    "held": {"extension": "101"},
    "resumed": {"extension": "101"},
    "leg_ended": {"extension": "101", "outcome": "answered"},
    "ended": {},
    "transferred": {"kind": "blind", "by": "101", "to": "102"},
    "recording": {"recording": "/var/spool/asterisk/monitor/1.wav"},
    "cdr": {"started_at": AT, "direction": "inbound", "caller": "447700900123"},
    "summary": {"summary": "asks for the price of a boat"},
    "agent_status": {"extension": "101", "status": "break"},
}


def refused(document: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        HookBatch.model_validate({"events": [document]})
    return str(caught.value)


# -- good ones ----------------------------------------------------------------------------------


def test_every_kind_is_in_the_table_of_this_test() -> None:
    assert set(LEAST) == set(HookEventKind)


@pytest.mark.parametrize("kind", LEAST)
def test_an_event_with_the_least_that_its_kind_needs_is_taken(kind: str) -> None:
    event = HookEvent.model_validate(an_event(kind, **LEAST[kind]))

    assert event.event == kind


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(
            "started",
            {
                "direction": "inbound",
                "caller": "447700900123",
                "caller_name": "Jane Doe",
                "dialled": "442079460000",
            },
            id="an inbound call",
        ),
        pytest.param(
            "started",
            {
                "direction": "outbound",
                "caller": "101",
                "extension": "101",
                "dialled": "+447700900123",
            },
            id="an outbound call",
        ),
        pytest.param("started", {"direction": "inbound", "caller": ""}, id="a withheld caller"),
        pytest.param(
            "ringing",
            {"extension": "101", "queue": "support", "caller": "447700900123"},
            id="a phone rings for a queue",
        ),
        pytest.param("ringing", {"number": "447700900999"}, id="a mobile rings"),
        pytest.param("answered", {"number": "447700900999"}, id="a mobile answers"),
        pytest.param(
            "leg_ended", {"extension": "102", "outcome": "elsewhere"}, id="another was faster"
        ),
        pytest.param(
            "ended",
            {"disposition": "answered", "talk_seconds": 72.25, "hangup_by": "caller"},
            id="the PBX knows how it ended",
        ),
        pytest.param("ended", {"talk_seconds": 0}, id="nobody talked"),
        pytest.param("recording", {"recording": "https://pbx/1.wav"}, id="a recording by its URL"),
    ],
)
def test_an_event_with_more_than_the_least_is_taken(kind: str, fields: dict[str, Any]) -> None:
    event = HookEvent.model_validate(an_event(kind, **fields))

    assert {name: getattr(event, name) for name in fields} == fields


def test_words_and_times_become_what_they_mean() -> None:
    event = HookEvent.model_validate(
        an_event("leg_ended", extension="101", outcome="no_answer", direction="internal")
        | {"at": "2026-11-21T07:54:35.958+01:00"}
    )

    assert event.at == datetime(2026, 11, 21, 6, 54, 35, 958000, UTC)
    assert event.outcome is LegOutcome.NO_ANSWER
    assert event.direction is Direction.INTERNAL


# -- bad ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["event", "at"])
@pytest.mark.parametrize("kind", LEAST)
def test_what_every_event_needs_is_asked_for(kind: str, field: str) -> None:
    document = an_event(kind, **LEAST[kind])
    del document[field]

    assert f"events.0.{field}\n  Field required" in refused(document)


@pytest.mark.parametrize("kind", sorted(set(LEAST) - {"agent_status"}))
@pytest.mark.parametrize("without", ["left out", "null"])
def test_what_happens_to_a_call_says_to_which(kind: str, without: str) -> None:
    document = an_event(kind, **LEAST[kind])
    if without == "null":
        document["call"] = None
    else:
        del document["call"]

    assert f"event {kind}: call is missing" in refused(document)


def test_what_an_agent_does_needs_no_call() -> None:
    event = HookEvent.model_validate(
        {"event": "agent_status", "at": AT, "extension": "101", "status": "free"}
    )

    assert (event.call, event.status) == (None, AgentStatus.FREE)


@pytest.mark.parametrize(
    ("kind", "without", "said"),
    [
        ("started", ["direction"], "event started: direction is missing"),
        ("started", ["caller"], "event started: caller is missing"),
        ("started", ["direction", "caller"], "event started: direction, caller is missing"),
        ("queued", ["queue"], "event queued: queue is missing"),
        ("ringing", ["extension"], "event ringing: extension or number is missing"),
        ("answered", ["extension"], "event answered: extension or number is missing"),
        ("held", ["extension"], "event held: extension or number is missing"),
        ("resumed", ["extension"], "event resumed: extension or number is missing"),
        ("leg_ended", ["outcome"], "event leg_ended: outcome is missing"),
        ("leg_ended", ["extension"], "event leg_ended: extension or number is missing"),
        ("transferred", ["kind"], "event transferred: kind is missing"),
        ("transferred", ["by", "to"], "event transferred: by, to is missing"),
        ("recording", ["recording"], "event recording: recording is missing"),
        (
            "summary",
            ["summary"],
            "event summary: summary, transcription or sentiment is missing",
        ),
        ("cdr", ["started_at"], "event cdr: started_at is missing"),
        ("cdr", ["direction", "caller"], "event cdr: direction, caller is missing"),
        ("agent_status", ["extension"], "event agent_status: extension is missing"),
        ("agent_status", ["status"], "event agent_status: status is missing"),
    ],
)
def test_an_event_without_what_its_kind_needs_is_refused_by_name(
    kind: str, without: list[str], said: str
) -> None:
    fields = {name: value for name, value in LEAST[kind].items() if name not in without}

    assert said in refused(an_event(kind, **fields))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        pytest.param({"at": "2026-11-21T06:54:35"}, "at", id="a time without a zone"),
        pytest.param({"at": "noon"}, "at", id="no time"),
        pytest.param({"event": "exploded"}, "event", id="an unknown kind"),
        pytest.param({"event": "STARTED"}, "event", id="a kind in capitals"),
        pytest.param({"call": ""}, "call", id="a call without an id"),
        pytest.param({"call": "x" * 129}, "call", id="a call with a long id"),
        pytest.param({"call": 7}, "call", id="a call that is no text"),
        pytest.param({"kind": "kind"}, "kind", id="an unknown kind of transfer"),
        pytest.param({"by": ""}, "by", id="passed on by nobody"),
        pytest.param({"to": ""}, "to", id="passed on to nobody"),
        pytest.param({"status": "asleep"}, "status", id="an unknown status"),
        pytest.param({"dial_id": "x" * 129}, "dial_id", id="an order with a long id"),
        pytest.param({"own_phone": "perhaps"}, "own_phone", id="neither yes nor no"),
        pytest.param({"started_at": "2026-11-21T06:54:35"}, "started_at", id="a start, no zone"),
        pytest.param({"rang": "101"}, "rang", id="phones that are no list"),
        pytest.param({"rang": ["1"] * 101}, "rang", id="more phones than ring"),
        pytest.param({"direction": "sideways"}, "direction", id="an unknown direction"),
        pytest.param({"outcome": "bored"}, "outcome", id="an unknown outcome"),
        pytest.param({"disposition": "ANSWERED"}, "disposition", id="an unknown disposition"),
        pytest.param({"hangup_by": "god"}, "hangup_by", id="an unknown end"),
        pytest.param({"talk_seconds": -1}, "talk_seconds", id="less than no talk"),
        pytest.param({"talk_seconds": 7 * 86400 + 1}, "talk_seconds", id="a week of talk"),
        pytest.param({"talk_seconds": "nan"}, "talk_seconds", id="no number"),
        pytest.param({"extension": "1 0 1"}, "extension", id="blanks in an extension"),
        pytest.param({"extension": ""}, "extension", id="an empty extension"),
        pytest.param({"caller": "1" * 257}, "caller", id="a long number"),
        pytest.param({"recording": "x" * 2049}, "recording", id="a long recording"),
        pytest.param({"summary": "x" * 10_001}, "summary", id="a long summary"),
        pytest.param({"summary": ""}, "summary", id="a summary of nothing"),
        pytest.param({"transcription": "x" * 100_001}, "transcription", id="a long talk"),
        pytest.param({"sentiment": "x" * 257}, "sentiment", id="a long feeling"),
        pytest.param({"colour": "red"}, "colour", id="an unknown field"),
    ],
)
def test_a_bad_value_is_refused_at_its_field(fields: dict[str, Any], where: str) -> None:
    assert f"events.0.{where}\n" in refused(an_event("ended") | fields)


# -- whole calls --------------------------------------------------------------------------------

EDGES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", AT]


@pytest.mark.parametrize("at", EDGES)
@pytest.mark.parametrize("began", EDGES)
@pytest.mark.parametrize("answered", EDGES)
def test_times_at_the_edges_of_the_calendar_are_taken_or_refused_in_words(
    at: str, began: str, answered: str
) -> None:
    document = an_event("cdr", **LEAST["cdr"]) | {
        "at": at,
        "started_at": began,
        "answered_at": answered,
    }
    if at == began == answered:
        assert HookEvent.model_validate(document).was_answered
    else:
        assert "event cdr: " in refused(document)


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ({}, False),
        ({"answered_at": AT}, True),
        ({"answered_by": "101", "talk_seconds": 0}, True),
        ({"disposition": "answered", "talk_seconds": 0}, True),
        ({"disposition": "voicemail", "answered_at": AT}, False),
        ({"disposition": "missed", "answered_at": AT}, False),
    ],
)
def test_whether_somebody_picked_up_is_the_record_s_word(
    fields: dict[str, Any], answered: bool
) -> None:
    event = HookEvent.model_validate(an_event("cdr", **LEAST["cdr"]) | fields)

    assert event.was_answered is answered


# -- as it travels ------------------------------------------------------------------------------


def test_a_hook_of_before_there_were_vendors_is_still_read() -> None:
    hook = HookReceived.model_validate({"pbx": "door", "kind": "generic", "body": "{}"})

    assert (hook.method, hook.content_type, hook.query) == ("POST", "", {})


@pytest.mark.parametrize("kind", HookKind)
def test_a_hook_comes_through_as_it_was(kind: HookKind) -> None:
    hook = HookReceived(
        pbx="door", kind=kind, body="a=1", content_type="text/plain", query={"a": ""}, method="GET"
    )

    assert HookReceived.model_validate_json(hook.model_dump_json()) == hook


# -- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_batch_has_one_event_to_five_hundred(count: int) -> None:
    batch = HookBatch.model_validate({"events": [an_event("ended")] * count})

    assert len(batch.events) == count


@pytest.mark.parametrize("count", [0, 501])
def test_a_batch_of_none_or_of_too_many_is_refused(count: int) -> None:
    with pytest.raises(ValidationError):
        HookBatch.model_validate({"events": [an_event("ended")] * count})


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"events": None}, id="null"),
        pytest.param({"events": an_event("ended")}, id="an event alone"),
        pytest.param([an_event("ended")], id="a list alone"),
        pytest.param({"events": [an_event("ended")], "more": 1}, id="an unknown field"),
        pytest.param({"events": [an_event("ended"), "x"]}, id="one that is none"),
    ],
)
def test_what_is_no_batch_is_refused(document: Any) -> None:
    with pytest.raises(ValidationError):
        HookBatch.model_validate(document)


def test_one_bad_event_is_named_by_its_place() -> None:
    events = [an_event("ended"), an_event("queued"), an_event("ended")]

    with pytest.raises(ValidationError) as caught:
        HookBatch.model_validate({"events": events})

    assert [error["loc"] for error in caught.value.errors()] == [("events", 1)]


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(sorted(LEAST)), "call": st.text(min_size=1, max_size=128)},
        optional={
            "extension": st.sampled_from(["101", "102"]),
            "number": st.text(max_size=20),
            "queue": st.text(max_size=20),
            "caller": st.text(max_size=20),
            "direction": st.sampled_from(list(Direction)),
            "outcome": st.sampled_from(list(LegOutcome)),
            "recording": st.text(max_size=20),
            "summary": st.text(min_size=1, max_size=20),
            "own_phone": st.booleans(),
            "status": st.sampled_from(list(AgentStatus)),
            "rang": st.lists(st.text(min_size=1, max_size=20), max_size=3),
            "kind": st.sampled_from(list(TransferKind)),
        },
    )
)
@settings(deadline=None)
def test_more_fields_than_needed_never_make_an_event_bad(fields: dict[str, Any]) -> None:
    event = HookEvent.model_validate(an_event(fields["event"], **LEAST[fields["event"]]) | fields)

    assert event.call == fields["call"]
