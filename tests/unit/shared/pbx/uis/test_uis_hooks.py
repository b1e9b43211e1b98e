"""One notification at a time: its forms, its clock, and what cannot be read."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    LegEnded,
    RecordingReady,
)
from shared.errors import ContractError
from shared.pbx.port import HookReading, Phones, RawHook
from shared.pbx.uis.notifications import UisHooks

PAGE = Path(__file__).parents[5] / "docs" / "how-to" / "pbx" / "uis.md"
HOOKS = UisHooks("acme", "uis", ZoneInfo("Europe/Moscow"))
PHONES = Phones(extensions=frozenset({"101", "102"}), users={"25": "101"})
NOW = datetime(2026, 3, 4, 7, 15, 5, tzinfo=UTC)

RINGING: dict[str, Any] = {
    "event": "ringing",
    "call_session_id": 31451224,
    "notification_time": "2026-03-04 10:15:04",
    "notification_timestamp": 1772608504,
    "start_time": "2026-03-04 10:15:00",
    "direction": "in",
    "virtual_phone_number": "74993720692",
    "contact_phone_number": "79260000000",
    "contact_full_name": "Jane Doe",
    "employee_id": 25,
}


def read(body: bytes | dict[str, Any] = b"", **more: Any) -> HookReading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HOOKS.read(RawHook(body=raw, received_at=NOW, **more), PHONES)


def kinds(reading: HookReading) -> list[type]:
    return [type(sighting.body) for sighting in reading.sightings]


# -- forms ---------------------------------------------------------------------------------------

AS_TEXT = {name: str(value) for name, value in RINGING.items()}


@pytest.mark.parametrize(
    "hook",
    [
        RawHook(method="GET", query=AS_TEXT, received_at=NOW),
        RawHook(
            content_type="application/x-www-form-urlencoded",
            body=urlencode(AS_TEXT).encode(),
            received_at=NOW,
        ),
        RawHook(content_type="text/plain", body=json.dumps(AS_TEXT).encode(), received_at=NOW),
        RawHook(body=b"\xef\xbb\xbf " + json.dumps(RINGING, indent=2).encode(), received_at=NOW),
        RawHook(
            query={"event": "ended", "direction": "in"},
            body=json.dumps(RINGING).encode(),
            received_at=NOW,
        ),
    ],
    ids=["query", "form", "texts", "mark", "body before query"],
)
def test_the_same_in_every_form(hook: RawHook) -> None:
    assert HOOKS.read(hook, PHONES) == read(RINGING)


def test_quotes_around_placeholders_come_out_doubled_and_are_read() -> None:
    body = json.dumps(RINGING)
    for text in re.findall(r': ("[^"]*")', body):
        if text != '"ringing"':
            body = body.replace(f": {text}", f': "{text}"')
    body = body.replace("31451224", '"31451224"').replace('"Jane Doe"', r'"Jane \"J\" Doe"')
    assert '""79260000000""' in body

    found = read(body.encode()).sightings

    assert [sighting.key for sighting in found] == [
        sighting.key for sighting in read(RINGING).sightings
    ]
    assert isinstance(found[0].body, CallStarted)
    assert found[0].body.caller.name == 'Jane "J" Doe'


def rendered(template: str) -> bytes:
    """As the account does it: a value of ours for each placeholder that we know."""
    known = RINGING | {
        "is_internal": False,
        "is_lost": False,
        "call_source": "va",
        "external_id": None,
        "calling_phone_number": "79260000000",
        "called_phone_number": "74993720692",
        "employee_full_name": 'Anna "A" Agent',
        "talk_time_duration": 30,
        "file_link": "https://app.uiscom.ru/system/media/talk/31451224/ab12/",
        "employee_status": "break",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: json.dumps(known[found[1]]), template).encode()


def test_the_bodies_of_the_page_are_read() -> None:
    templates = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = {
        re.findall(r'"event": "(\w+)"', template)[0]: kinds(read(rendered(template)))
        for template in templates
    }
    assert found == {
        "incoming": [CallStarted],
        "ringing": [CallStarted, CallRinging],
        "ended": [CallStarted, CallEnded],
        "recording": [RecordingReady],
        "status": [AgentStatusChanged],
    }
    ringing = next(template for template in templates if '"ringing"' in template)
    for event, kind in (("answered", CallAnswered), ("talk_ended", LegEnded)):
        body = rendered(ringing.replace('"ringing"', f'"{event}"'))
        assert kinds(read(body)) == [CallStarted, kind]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"notification_mnemonic": "Waiting for the answer"}, CallRinging),
        ({"notification_mnemonic": "xyz", "notification_name": "Talk started"}, CallAnswered),
        ({"notification_name": "call_ending"}, CallEnded),
        ({"event": "Call finished"}, CallEnded),
    ],
)
def test_the_vendors_names_will_do(said: dict[str, str], kind: type) -> None:
    body = {name: value for name, value in RINGING.items() if name != "event"} | said
    assert kind in kinds(read(body))


# -- what it means -------------------------------------------------------------------------------


def test_who_rings_is_the_employees_agent() -> None:
    started, ringing = (sighting.body for sighting in read(RINGING).sightings)
    assert isinstance(started, CallStarted)
    assert isinstance(ringing, CallRinging)
    assert (started.direction, started.dialled) == (Direction.INBOUND, "74993720692")
    assert (ringing.callee.extension, ringing.caller.number) == ("101", "79260000000")
    assert ringing.leg_id == "employee-25"


@pytest.mark.parametrize(
    ("more", "extension", "leg_id"),
    [
        ({"employee_id": 77, "extension": "102"}, "102", "employee-77"),
        ({"employee_id": None, "extension": "101"}, "101", "employee-25"),
        ({"employee_id": None, "employee_phone_number": "102"}, "102", "102"),
        ({"employee_id": 77, "employee_phone_number": "0160025"}, None, "employee-77"),
        ({"employee_id": 77, "extension": "a b,c"}, None, "employee-77"),
    ],
)
def test_an_employee_is_known_by_what_there_is(
    more: dict[str, Any], extension: str | None, leg_id: str
) -> None:
    ringing = read(RINGING | more).sightings[-1].body
    assert isinstance(ringing, CallRinging)
    assert (ringing.callee.extension, ringing.leg_id) == (extension, leg_id)


def test_half_a_character_breaks_no_event() -> None:
    started = read(RINGING | {"contact_full_name": "Jane \ud83d"}).sightings[0].body

    assert isinstance(started, CallStarted)
    assert started.caller.name == "Jane ?"


def test_nobody_rings_where_no_employee_is_told() -> None:
    assert kinds(read(RINGING | {"employee_id": None})) == [CallStarted]


@pytest.mark.parametrize(
    ("direction", "lost", "talked", "wanted"),
    [
        ("in", True, 0, Disposition.MISSED),
        ("in", "true", None, Disposition.MISSED),
        ("in", False, 12, Disposition.ANSWERED),
        ("in", False, None, Disposition.ANSWERED),
        ("in", None, 0, Disposition.MISSED),
        ("in", None, None, None),
        ("out", True, 0, None),
        ("out", False, 0, None),
        ("out", False, 12, Disposition.ANSWERED),
        ("out", False, None, Disposition.ANSWERED),
    ],
)
def test_what_became_of_a_call(
    direction: str, lost: object, talked: int | None, wanted: Disposition | None
) -> None:
    more = {
        "event": "ended",
        "direction": direction,
        "is_lost": lost,
        "talk_time_duration": talked,
    }
    ended = read(RINGING | more).sightings[-1].body
    assert isinstance(ended, CallEnded)
    assert ended.disposition is wanted
    assert ended.talk_time == (None if talked is None else timedelta(seconds=talked))


@pytest.mark.parametrize(
    ("direction", "external_id", "dial_id"),
    [
        ("out", "6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11", "6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11"),
        ("out", "an order of somebody else's", None),
        ("out", "{{external_id}}", None),
        ("in", "click-0001", None),
    ],
)
def test_the_reference_of_a_click_comes_back(
    direction: str, external_id: str, dial_id: str | None
) -> None:
    started = read(RINGING | {"direction": direction, "external_id": external_id}).sightings[0].body
    assert isinstance(started, CallStarted)
    assert started.dial_id == dial_id


def test_a_click_rings_the_agents_own_phone_and_a_call_by_hand_the_contact() -> None:
    click = read(RINGING | {"direction": "out", "call_source": "callapi"}).sightings[-1].body
    by_hand = read(RINGING | {"direction": "out", "call_source": "sip"}).sightings[-1].body
    assert isinstance(click, CallRinging)
    assert isinstance(by_hand, CallRinging)
    assert (click.callee.extension, click.own_phone) == ("101", True)
    assert (by_hand.callee.number, by_hand.own_phone) == ("79260000000", False)
    assert by_hand.caller.extension == "101"


@pytest.mark.parametrize(
    "link",
    [
        "https://app.uiscom.ru/system/media/talk/31451224/ab12/",
        "http://app.uiscom.ru/system/media/talk/31451224/ab12",
        "https://media.uiscom.ru/31451224/ab12?x=1",
    ],
)
def test_a_recording_is_one_by_whatever_address(link: str) -> None:
    reading = read({"event": "recording", "call_session_id": 31451224, "file_link": link})
    assert [sighting.key for sighting in reading.sightings] == ["uis/31451224/recording/ab12"]
    assert reading.reports == ()


@pytest.mark.parametrize(
    "link", [None, "", "ftp://x/y", "javascript:alert(1)", "https://a b/c", "https://x/"]
)
def test_a_recording_without_an_address_is_asked_for(link: str | None) -> None:
    reading = read({"event": "recording", "call_session_id": 31451224, "file_link": link})
    assert (reading.sightings, reading.reports) == ([], ("31451224",))


# -- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({}, "07:15:04"),
        ({"notification_timestamp": 1772608504000}, "07:15:04"),
        ({"notification_timestamp": None}, "07:15:04"),
        ({"notification_timestamp": "soon", "notification_time": "10:15"}, "07:15:05"),
        ({"notification_timestamp": 1, "notification_time": None}, "07:15:05"),
        ({"notification_timestamp": 1e300, "notification_time": "9999-12-31"}, "07:15:05"),
    ],
)
def test_a_moment_is_by_the_accounts_clock_where_that_can_be(more: dict[str, Any], at: str) -> None:
    assert f"{read(RINGING | more).sightings[-1].at:%H:%M:%S}" == at


@pytest.mark.parametrize(
    ("more", "started"),
    [
        ({}, "07:15:00"),
        # The account's zone is not that of the settings: its notification tells.
        (
            {"notification_time": "2026-03-04 11:15:04", "start_time": "2026-03-04 11:15:00"},
            "07:15:00",
        ),
        ({"start_time": "2026-03-04 10:20:00"}, "07:15:04"),
        ({"start_time": "2026-03-02 10:15:00"}, "07:15:04"),
        ({"start_time": "yesterday"}, "07:15:04"),
        ({"start_time": None}, "07:15:04"),
    ],
)
def test_a_call_began_when_the_account_says_unless_that_cannot_be(
    more: dict[str, Any], started: str
) -> None:
    assert f"{read(RINGING | more).sightings[0].at:%H:%M:%S}" == started


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "does not say what happened"),
        (b"[]", "no object"),
        (b'{"event": "ringing"', "write each placeholder without quotes"),
        (b"[" * 50_000, "no JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 70_000, "more than 65536 bytes"),
        (b"&".join(b"a%d=1" % number for number in range(300)), "at most 200 fields"),
        (b'{"event": "ringing"}', "call_session_id is missing"),
        (b'{"event": "ringing", "call_session_id": "a/b"}', "call_session_id is missing"),
        (b'{"event": "ringing", "call_session_id": true}', "call_session_id is missing"),
        (
            b'{"event": "ringing", "call_session_id": "{{call_session_id}}"}',
            "call_session_id is missing",
        ),
        (b'{"notification_name": "Balance is low", "call_session_id": 1}', "'Balance is low'"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=re.escape(words)):
        read(body)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.sampled_from(["7" * 300, "\ud800"])
    | st.lists(st.text(max_size=5), max_size=3)
    | st.dictionaries(st.sampled_from(sorted(RINGING)), st.integers() | st.text(max_size=5))
)
EVENTS = ("incoming", "outgoing", "ringing", "answered", "talk_ended", "ended", "lost", "recording")
NAMES = (*RINGING, "external_id", "is_lost", "is_internal", "talk_time_duration", "file_link")


@given(event=st.sampled_from(EVENTS), more=st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_value_of_any_parameter_is_read_or_refused(event: str, more: dict[str, Any]) -> None:
    try:
        reading = read(RINGING | more | {"event": event})
    except ContractError:
        return
    for sighting in reading.sightings:
        text = sighting.body.model_dump_json()
        assert "\\n" not in text
        assert "\\r" not in text
        assert abs(sighting.at - NOW) <= timedelta(days=2)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing but our own refusal comes out."""
    with suppress(ContractError):
        read(body)
