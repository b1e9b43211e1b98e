from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
    TransferKind,
)
from shared.contracts.hooks import HookBatch, HookEvent, HookEventKind
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.generic.parse import sighting
from shared.pbx.generic.reader import GenericHookReader
from shared.pbx.port import Phones, RawHook, Sighting
from shared.testing.builders import NOON

#: The least that each kind of event of a call needs beside event, call and at.
LEAST: dict[HookEventKind, dict[str, Any]] = {
    HookEventKind.STARTED: {"direction": "inbound", "caller": "447700900123"},
    HookEventKind.QUEUED: {"queue": "support"},
    HookEventKind.RINGING: {"extension": "101"},
    HookEventKind.ANSWERED: {"extension": "101"},
    HookEventKind.HELD: {"extension": "101"},
    HookEventKind.RESUMED: {"extension": "101"},
    HookEventKind.LEG_ENDED: {"extension": "101", "outcome": "no_answer"},
    HookEventKind.TRANSFERRED: {"kind": "blind", "by": "101", "to": "102"},
    HookEventKind.ENDED: {},
    HookEventKind.RECORDING: {"recording": "https://pbx.example/rec/1.wav"},
    HookEventKind.SUMMARY: {"summary": "asks for the price of a boat"},
}


def a_hook(kind: HookEventKind, **changes: Any) -> dict[str, Any]:
    known = {"event": kind.value, "call": "x1", "at": "2026-01-01T12:00:00Z", **LEAST[kind]}
    return {name: value for name, value in (known | changes).items() if value is not None}


def sightings_in(
    body: str, *, tenant: str = "acme", pbx: str = "cloud", received_at: datetime = NOON
) -> list[Sighting]:
    hook = RawHook(content_type="application/json", body=body.encode(), received_at=received_at)
    return list(GenericHookReader(tenant=tenant, pbx=pbx).read(hook, Phones()).sightings)


def read(*hooks: dict[str, Any], tenant: str = "acme", pbx: str = "cloud") -> list[Sighting]:
    return sightings_in(json.dumps({"events": hooks}), tenant=tenant, pbx=pbx)


def key_of(kind: HookEventKind, **changes: Any) -> str:
    (found,) = read(a_hook(kind, **changes))
    return found.key


# -- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (HookEventKind.STARTED, CallStarted),
        (HookEventKind.QUEUED, CallQueued),
        (HookEventKind.RINGING, CallRinging),
        (HookEventKind.ANSWERED, CallAnswered),
        (HookEventKind.HELD, CallHeld),
        (HookEventKind.RESUMED, CallResumed),
        (HookEventKind.LEG_ENDED, LegEnded),
        (HookEventKind.TRANSFERRED, CallTransferred),
        (HookEventKind.ENDED, CallEnded),
        (HookEventKind.RECORDING, RecordingReady),
        (HookEventKind.SUMMARY, CallSummarised),
    ],
)
def test_each_kind_of_hook_is_an_event_of_the_call(
    kind: HookEventKind, expected: type[Any]
) -> None:
    (found,) = read(a_hook(kind))

    assert isinstance(found.body, expected)
    assert (found.body.call_id, found.body.pbx) == (call_id("acme", "cloud", "x1"), "cloud")
    assert found.at == NOON


def test_what_was_said_is_told_as_it_is_and_each_part_may_come_by_itself() -> None:
    said = {"summary": "a boat", "transcription": "A: Hello.\nB: A boat?", "sentiment": "0.8"}
    (found,) = read(a_hook(HookEventKind.SUMMARY, **said))
    parts = [{"summary": None} | {name: text} for name, text in said.items()]

    assert isinstance(found.body, CallSummarised)
    assert found.body.model_dump(include=set(said)) == said
    assert len({key_of(HookEventKind.SUMMARY, **part) for part in parts}) == len(said)


def test_an_inbound_call_begins_with_the_caller() -> None:
    (found,) = read(a_hook(HookEventKind.STARTED, caller_name="Ada", dialled="442079460000"))

    assert isinstance(found.body, CallStarted)
    assert found.body.direction is Direction.INBOUND
    assert found.body.caller == Party(number="447700900123", name="Ada")
    assert (found.body.dialled, found.body.pbx_call_id) == ("442079460000", "x1")


def test_an_outbound_call_begins_with_the_agent_s_phone() -> None:
    (found,) = read(
        a_hook(
            HookEventKind.STARTED,
            direction="outbound",
            extension="101",
            caller="442079460000",
            dialled="+447700900777",
        )
    )

    assert isinstance(found.body, CallStarted)
    assert found.body.caller == Party(extension="101")
    assert found.body.dialled == "+447700900777"


def test_a_ring_says_who_calls_whom_and_from_which_queue() -> None:
    (found,) = read(
        a_hook(HookEventKind.RINGING, caller="447700900123", caller_name="Ada", queue="support")
    )

    assert isinstance(found.body, CallRinging)
    assert found.body.callee == Party(extension="101")
    assert found.body.caller == Party(number="447700900123", name="Ada")
    assert found.body.queue == "support"


def test_a_phone_that_is_not_the_pbx_s_is_a_number() -> None:
    (found,) = read(a_hook(HookEventKind.ANSWERED, extension=None, number="+447700900777"))

    assert isinstance(found.body, CallAnswered)
    assert found.body.callee == Party(number="+447700900777")


def test_the_end_keeps_what_the_pbx_knows() -> None:
    (found,) = read(
        a_hook(HookEventKind.ENDED, disposition="voicemail", talk_seconds=12.5, hangup_by="caller")
    )

    assert isinstance(found.body, CallEnded)
    assert found.body.disposition is Disposition.VOICEMAIL
    assert found.body.talk_time == timedelta(seconds=12.5)
    assert found.body.hangup_by == "caller"


def test_no_talk_time_is_not_a_talk_time_of_zero() -> None:
    without, zero = read(
        a_hook(HookEventKind.ENDED), a_hook(HookEventKind.ENDED, call="x2", talk_seconds=0)
    )

    assert isinstance(without.body, CallEnded)
    assert isinstance(zero.body, CallEnded)
    assert (without.body.talk_time, zero.body.talk_time) == (None, timedelta(0))


def test_a_leg_ends_with_its_outcome() -> None:
    (found,) = read(a_hook(HookEventKind.LEG_ENDED, outcome="busy"))

    assert isinstance(found.body, LegEnded)
    assert found.body.outcome is LegOutcome.BUSY


def test_the_agent_s_own_phone_is_marked_as_such() -> None:
    kinds = [HookEventKind.RINGING, HookEventKind.ANSWERED, HookEventKind.LEG_ENDED]

    found = [one.body for one in read(*(a_hook(kind, own_phone=True) for kind in kinds))]

    assert [getattr(body, "own_phone", None) for body in found] == [True, True, True]


def test_a_call_that_a_click_made_says_by_which_order() -> None:
    (found,) = read(a_hook(HookEventKind.STARTED, dial_id="order-7"))

    assert isinstance(found.body, CallStarted)
    assert found.body.dial_id == "order-7"


@pytest.mark.parametrize(
    ("to", "party"),
    [
        ("102", Party(extension="102")),
        ("12345", Party(extension="12345")),
        ("bob", Party(extension="bob")),
        ("447700900555", Party(number="447700900555")),
        ("+447700900555", Party(number="+447700900555")),
        ("sip:bob@pbx.example", Party(number="sip:bob@pbx.example")),
        ("Bob Miller", Party(number="Bob Miller")),
        ("anonymous", Party(extension="anonymous")),
        ("442079460101", Party(extension="442079460101")),  # the site lists it
    ],
)
def test_a_transfer_says_by_whom_and_to_whom(to: str, party: Party) -> None:
    body = json.dumps(a_hook(HookEventKind.TRANSFERRED, to=to))
    phones = Phones(extensions=frozenset({"101", "442079460101"}))
    hook = RawHook(body=body.encode(), received_at=NOON)

    (found,) = GenericHookReader(tenant="acme", pbx="cloud").read(hook, phones).sightings

    assert isinstance(found.body, CallTransferred)
    assert found.body.kind is TransferKind.BLIND
    assert (found.body.by, found.body.to) == (Party(extension="101"), party)


def test_who_listens_to_the_site_changes_no_identity() -> None:
    """Replicas may know the site at different times."""
    hook = RawHook(body=json.dumps(a_hook(HookEventKind.TRANSFERRED)).encode(), received_at=NOON)
    reader = GenericHookReader(tenant="acme", pbx="cloud")
    sites = [Phones(), Phones(extensions=frozenset({"101", "102"}))]

    assert len({one.key for site in sites for one in reader.read(hook, site).sightings}) == 1


def test_a_batch_is_read_in_its_order() -> None:
    kinds = [HookEventKind.STARTED, HookEventKind.RINGING, HookEventKind.ENDED]

    found = read(*(a_hook(kind) for kind in kinds))

    assert [type(one.body).__name__ for one in found] == ["CallStarted", "CallRinging", "CallEnded"]


# -- identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(LEAST))
def test_the_same_event_sent_twice_is_one_sighting(kind: HookEventKind) -> None:
    once, again = read(a_hook(kind), a_hook(kind))

    assert once == again


@pytest.mark.parametrize("kind", list(LEAST))
def test_one_moment_written_in_another_zone_is_the_same_event(kind: HookEventKind) -> None:
    assert key_of(kind) == key_of(kind, at="2026-01-01T13:00:00+01:00")


@pytest.mark.parametrize(
    "kind",
    [
        HookEventKind.RINGING,
        HookEventKind.ANSWERED,
        HookEventKind.HELD,
        HookEventKind.RESUMED,
        HookEventKind.LEG_ENDED,
    ],
)
def test_different_legs_are_different_sightings(kind: HookEventKind) -> None:
    legs: list[dict[str, Any]] = [
        {"extension": "101"},
        {"extension": "102"},
        {"extension": None, "number": "+447700900777"},
    ]

    assert len({key_of(kind, **leg) for leg in legs}) == len(legs)


@pytest.mark.parametrize(
    "kind",
    [
        HookEventKind.QUEUED,
        HookEventKind.RINGING,
        HookEventKind.HELD,
        HookEventKind.RESUMED,
        HookEventKind.LEG_ENDED,
        HookEventKind.TRANSFERRED,
        HookEventKind.RECORDING,
        HookEventKind.SUMMARY,
    ],
)
def test_what_may_happen_again_later_is_told_apart_by_its_time(kind: HookEventKind) -> None:
    assert key_of(kind) != key_of(kind, at="2026-01-01T12:00:01Z")


@pytest.mark.parametrize("kind", [HookEventKind.STARTED, HookEventKind.ENDED])
def test_a_call_begins_and_ends_once_whatever_the_clock_says(kind: HookEventKind) -> None:
    assert key_of(kind) == key_of(kind, at="2026-01-01T12:00:01Z")


def test_an_answer_after_a_transfer_back_is_another_answer() -> None:
    """101 passes the call to 102, who passes it back: whose call it is follows from the last."""
    assert key_of(HookEventKind.ANSWERED) != key_of(
        HookEventKind.ANSWERED, at="2026-01-01T12:05:00Z"
    )


@pytest.mark.parametrize("kind", list(LEAST))
def test_calls_and_kinds_are_told_apart(kind: HookEventKind) -> None:
    others = {key_of(other) for other in LEAST if other is not kind}

    assert key_of(kind) not in others
    assert key_of(kind) != key_of(kind, call="x2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"call": "x/ended"}, {"call": "x", "number": "ended/"}),
        ({"call": "x/answered/101"}, {"call": "x", "number": "101"}),
        ({"call": "x%2F"}, {"call": "x/"}),
    ],
)
def test_slashes_in_what_a_pbx_says_make_no_two_facts_one(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    kinds = (HookEventKind.ENDED, HookEventKind.ANSWERED)
    keys = [
        key_of(kind, extension=None, **{"number": "1"} | fields)
        for kind in kinds
        for fields in (one, other)
    ]

    assert len(set(keys)) == len(keys)


def test_who_a_start_or_an_end_names_beside_the_call_is_no_part_of_its_identity() -> None:
    for kind in (HookEventKind.STARTED, HookEventKind.ENDED, HookEventKind.RECORDING):
        assert key_of(kind, extension="101") == key_of(kind, number="102") == key_of(kind)


def test_another_tenant_or_pbx_has_other_calls() -> None:
    hook = a_hook(HookEventKind.STARTED)
    calls = {
        found.body.subject()
        for tenant, pbx in (("acme", "cloud"), ("other", "cloud"), ("acme", "second"))
        for found in read(hook, tenant=tenant, pbx=pbx)
    }

    assert len(calls) == 3


# -- what cannot be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"events": []}',
        '{"events": [{}]}',
        '{"events": [{"event": "sneezed", "call": "1", "at": "2026-01-01T12:00:00Z"}]}',
        '{"events": [{"event": "ended", "call": "1", "at": "2026-01-01T12:00:00"}]}',
        '{"events": [{"event": "ended", "call": "", "at": "2026-01-01T12:00:00Z"}]}',
        "[" * 5000,
    ],
    ids=[
        *("empty", "text", "a list", "no events", "zero events", "an empty event"),
        *("unknown kind", "time without a zone", "no call", "deep nesting"),
    ],
)
def test_a_hook_that_cannot_be_read_goes_to_the_dead_letters(body: str) -> None:
    with pytest.raises(ContractError):
        sightings_in(body)


def test_a_fault_names_the_place_and_never_the_value() -> None:
    hook = a_hook(HookEventKind.RINGING, extension="a secret, with blanks")
    with pytest.raises(ContractError) as fault:
        read(hook)

    assert "events.0.extension" in str(fault.value)
    assert "secret" not in str(fault.value)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [(kind, name) for kind, least in LEAST.items() for name in least],
)
def test_what_its_kind_needs_is_asked_for(kind: HookEventKind, missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        HookEvent.model_validate({**a_hook(kind), missing: None})


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(body: str) -> None:
    try:
        sightings_in(body)
    except ContractError:
        return


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


@settings(deadline=None)
@given(
    kind=st.sampled_from(list(LEAST)),
    call=TEXTS,
    name=TEXTS,
    number=TEXTS,
    at=st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001  the zone is drawn beside it
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001  as above
        timezones=st.timezones(),
    ),
)
def test_any_hook_that_the_door_lets_in_can_be_read(
    kind: HookEventKind, call: str, name: str, number: str, at: Any
) -> None:
    changes: dict[str, Any] = {"call": call, "caller_name": name, "at": at, "number": number}
    try:
        event = HookEvent.model_validate(a_hook(kind, **changes))
    except ValidationError:
        return  # the gateway says 422
    found = sighting(event, tenant="acme", pbx="cloud")
    batch = HookBatch(events=(event,)).model_dump_json(exclude_none=True)

    assert sightings_in(batch, received_at=event.at) == [found]
    assert found.body.model_validate_json(found.body.model_dump_json()) == found.body


@pytest.mark.parametrize(
    "at",
    [
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00Z",
        "0999-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_a_time_at_the_edge_of_the_calendar_is_refused_or_reads_back(at: str) -> None:
    hook = a_hook(HookEventKind.ENDED, at=at)
    try:
        event = HookEvent.model_validate(hook)
    except ValidationError:
        return  # the gateway says 422

    assert HookEvent.model_validate_json(event.model_dump_json()) == event
