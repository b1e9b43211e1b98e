"""What an entry says of its call: values by all their names, lines, lengths, clocks gone wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.calls import Direction, Disposition
from shared.crm.engine.entries import entry_variables
from shared.crm.form.call_words import CALL_WORDS, OURS, THREECX, YEASTAR
from shared.crm.form.journal import Journal
from shared.crm.port import JournalEntry
from shared.crm.rendering import Scope
from shared.errors import ContractError

STARTED = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
SCOPE = Scope(
    own={"Zone": "Europe/Berlin", "data_centre": "eu", "api_key": "k-123", "AccessToken": "t-456"},
    variables={"Followed": "f-789"},
    maps={},
)
#: As of a template that has the parameter and the value of its contacts.
WORDS = CALL_WORDS | {"data_centre", "Tier"}
CONTACT = {"ContactId": "77", "ContactName": "Ann Lee", "Company": "ACME", "Module": "Leads"}
#: By 3CX's and Yeastar's names, of the call below.
VALUES = {
    "Time": "2026-11-22 00:30:00",
    "Call_Log_Status": "answered",
    "Call_Status": "answered",
    "Call_From": "+12025550143",
    "Call_To": "12025550100",
    "CallerNumber": "+12025550143",
    "CalleeNumber": "12025550100",
    "CallerDisplayName": "Ann Lee",
    "Communication_Type": "inbound",
    "StartTimeUnix": "1795303800",
    "Talk_Duration": "62:05",
    "Talk_Duration_Sec": "3725",
    "RecordPath": "https://pbx.example/1.wav",
    "Phone": "+12025550143",
    "ContactsId": "77",
    "ContactSyncType": "Leads",
    "WhoModule": "Leads",
    "CallType": "Inbound",
    "CallDirection": "Inbound",
    "Name": "Ann Lee",
    "EntityId": "77",
    "EntityType": "Leads",
    "AgentFirstName": "Anna",
    "AgentLastName": "van Agent",
    "QueueExtension": "support",
    "DateTime": "2026-11-22 00:30:00",
    "DurationTimespan": "01:02:05",
    "RecordingUrl": "https://pbx.example/1.wav",
    "RecordingHyperLink": "https://pbx.example/1.wav",
    "CallStartTimeLocal": "2026-11-22 00:30:00",
    "CallStartTimeUTC": "2026-11-21 23:30:00",
    "CallStartTimeUTCMillis": "1795303800000",
    "CallStartTimeLocalMillis": "1795303800000",
    "CallEstablishedTimeLocal": "2026-11-22 00:30:07",
    "CallEstablishedTimeUTC": "2026-11-21 23:30:07",
    "CallEstablishedTimeUTCMillis": "1795303807000",
    "CallEstablishedTimeLocalMillis": "1795303807000",
    "CallEndTimeLocal": "2026-11-22 01:32:12",
    "CallEndTimeUTC": "2026-11-22 00:32:12",
    "CallEndTimeUTCMillis": "1795307532000",
    "CallEndTimeLocalMillis": "1795307532000",
}


def a_journal(subject: str = "Call {{.Number}}", description: str = "") -> Journal:
    return Journal.model_validate(
        {
            "subject": subject,
            "description": description,
            "create": {"method": "POST", "url": "https://crm.example/calls"},
            "entry_id": "id",
            "idempotent": True,
        }
    )


def said(journal: Journal | None = None, contact: Any = CONTACT, **parts: Any) -> dict[str, Any]:
    call: dict[str, Any] = {
        "reference": "0123456789",
        "direction": Direction.INBOUND,
        "disposition": Disposition.ANSWERED,
        "started_at": STARTED,
        "ended_at": STARTED + timedelta(hours=1, minutes=2, seconds=12),
        "talk_time": timedelta(hours=1, minutes=2, seconds=5),
        "wait_time": timedelta(seconds=7),
        "number": "+12025550143",
        "dialled": "12025550100",
        "extension": "101",
        "agent_name": "Anna van Agent",
        "agent_email": "anna@acme.example",
        "owner_id": "21",
        "contact": None,
        "recording": "https://pbx.example/1.wav",
        "queue": "support",
        "summary": "asks for a boat",
        "transcription": "A: Hello.\nB: A boat?",
        "sentiment": "0.8",
    }
    return entry_variables(
        JournalEntry(**{**call, **parts}), journal or a_journal(), SCOPE, contact, words=WORDS
    )


def test_the_texts_of_an_entry_share_what_they_may_cost() -> None:
    works = '{{.Transcription | replace "t" "tt" | html | upper | first 9}}'
    long = "t" * 100_000
    assert said(description=works, transcription=long)["Description"] == "T" * 9
    with pytest.raises(ContractError, match="too much work"):
        said(subject=works * 2, description=works * 2, transcription=long)


# -- names --------------------------------------------------------------------------------------


def test_every_name_of_either_vendor_is_one_of_ours_or_in_this_test() -> None:
    theirs = {*VALUES, "LineBreak"}
    assert not YEASTAR.keys() & THREECX.keys() - OURS.keys()
    assert {*YEASTAR, *THREECX} - OURS.keys() == theirs == CALL_WORDS - OURS.keys()


def test_every_variable_of_ours_has_its_value() -> None:
    assert OURS.keys() - said().keys() == {"Zone"}


def test_where_there_is_no_long_reference_it_is_the_one_there_is() -> None:
    assert said()["LongReference"] == "0123456789"
    long = said(long_reference="6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11")
    assert (long["Reference"], long["CallId"]) == ("0123456789", "0123456789")
    assert long["LongReference"] == "6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11"


@pytest.mark.parametrize("name", VALUES)
def test_a_vendors_name_is_the_same_value(name: str) -> None:
    assert said(description=f"<{{{{.{name}}}}}>")["Description"] == f"<{VALUES[name]}>"


@pytest.mark.parametrize("name", sorted(THREECX.keys() - {"LineBreak"}))
def test_3cx_may_be_written_as_3cx_writes_it(name: str) -> None:
    shown = {**said(), **VALUES, "Duration": "01:02:05"}[name]
    assert said(description=f"a [{name}] b")["Description"] == f"a {shown} b"


def test_the_texts_of_the_vendors_documents_say_what_they_say_there() -> None:
    yeastar = "Call: {{.Time}} {{.Call_Log_Status}} from {{.Call_From}} to {{.Call_To}} {{.Talk_Duration}}"
    threecx = "[DateTime]: [CallType] call from [Number] [Name] to [Agent] ([Duration])"

    assert said(description=yeastar)["Description"] == (
        "Call: 2026-11-22 00:30:00 answered from +12025550143 to 12025550100 62:05"
    )
    assert said(description=threecx)["Description"] == (
        "2026-11-22 00:30:00: Inbound call from +12025550143 Ann Lee to 101 (01:02:05)"
    )


@pytest.mark.parametrize(
    "text", ["[Sales] call", "{{.Number}} [Agent]", "[not a name]", "Call [of] []"]
)
def test_other_brackets_are_brackets(text: str) -> None:
    assert said(description=text)["Description"] == text.replace("{{.Number}}", "+12025550143")


@pytest.mark.parametrize(
    ("direction", "disposition", "kind", "way"),
    [
        (Direction.INBOUND, Disposition.ANSWERED, "Inbound", "Inbound"),
        (Direction.INBOUND, Disposition.MISSED, "Missed", "Inbound"),
        (Direction.INBOUND, Disposition.VOICEMAIL, "Missed", "Inbound"),
        (Direction.OUTBOUND, Disposition.ANSWERED, "Outbound", "Outbound"),
        (Direction.OUTBOUND, Disposition.BUSY, "Notanswered", "Outbound"),
        (Direction.INTERNAL, Disposition.ANSWERED, "Inbound", "Inbound"),
    ],
)
def test_3cxs_kinds_of_calls(
    direction: Direction, disposition: Disposition, kind: str, way: str
) -> None:
    text = "{{.CallType}} {{.CallDirection}}"
    found = said(description=text, direction=direction, disposition=disposition)
    assert found["Description"] == f"{kind} {way}"


def test_a_name_of_ours_is_ours_though_3cx_has_it() -> None:
    """Ours is from the start to the end, 3CX's the talk."""
    assert said(description="{{.Duration | mmss}}")["Description"] == "62:12"


def test_a_text_of_the_connection_may_use_what_its_template_adds() -> None:
    found = said(description="{{.data_centre}} {{.Tier}}", contact={**CONTACT, "Tier": "GOLD"})
    assert found["Description"] == "eu GOLD"


@pytest.mark.parametrize("name", ["api_key", "AccessToken", "Followed"])
def test_a_secret_of_the_connection_is_in_no_text_of_a_site_of_before(name: str) -> None:
    """A text that was applied before such names were refused; the template's own may say them."""
    text = f"<{{{{.{name}}}}}{{{{if .{name}}}}}!{{{{end}}}}{{{{.{name} | base64}}}}>"
    found = said(subject=text, description=text)
    assert (found["Subject"], found["Description"]) == ("<> 0123456789", "<>")
    assert said(a_journal("{{.api_key}}"), description="{{.Subject}}")["Description"] == "k-123"


def test_a_sign_that_no_text_has_is_a_blank() -> None:
    """PostgreSQL refuses NUL with an error of the server, and the entry would be tried for days."""
    found = said(
        subject="a\x00b\x1b[2J", description="{{.Summary}}", summary="A\x00\x07:\tB\nC\x7f"
    )
    assert found["Subject"] == "a b [2J 0123456789"
    assert found["Description"] == "A : B\nC"


def test_the_text_may_hold_the_subject() -> None:
    found = said(a_journal("Call of {{.ContactName}}", "{{.Subject}}: {{.Summary}}"))
    assert found["Description"] == "Call of Ann Lee: asks for a boat"


def test_what_nobody_knows_is_empty_by_every_name() -> None:
    nobody: dict[str, Any] = dict.fromkeys(
        ("dialled", "extension", "agent_name", "agent_email", "owner_id", "recording", "queue")
    )
    said_nothing: dict[str, Any] = dict.fromkeys(("summary", "transcription", "sentiment"))
    text = "".join(
        f"{{{{.{name}}}}}" for name in ("AgentFirstName", "QueueExtension", "RecordPath")
    )
    silent: dict[str, Any] = {"talk_time": timedelta(0), "disposition": Disposition.MISSED}
    found = said(
        description=f"<{text}{{{{.CallEstablishedTimeUTC}}}}{{{{.Summary}}}}{{{{.Name}}}}>",
        contact={},
        **nobody,
        **said_nothing,
        **silent,
    )
    assert found["Description"] == "<>"


# -- lines and lengths --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo", "one\ntwo"),
        ("  one   two  \n\n\n\n three ", "one two\n\nthree"),
        ("\n\none\r\ntwo\n\n", "one\ntwo"),
        ("one[LineBreak][Number]", "one\n+12025550143"),
        ("one{{.LineBreak}}{{.LineBreak}}two", "one\n\ntwo"),
        ("{{.Transcription}}", "A: Hello.\nB: A boat?"),
        ("{{if .Nothing}}x{{end}}  ", ""),
    ],
)
def test_a_description_keeps_its_lines_and_a_subject_is_one(text: str, shown: str) -> None:
    found = said(description=text, subject=text)
    assert found["Description"] == shown
    assert found["Subject"] == " ".join([*shown.split(), "0123456789"])


def test_what_is_too_long_is_cut_and_the_reference_stays() -> None:
    journal = a_journal("{{.Reference}} {{.Summary}}", "{{.Transcription}} {{.Reference}}")
    found = said(journal, summary="s" * 10_000, transcription="ab " * 30_000)

    assert len(found["Subject"]) <= 250
    assert len(found["Description"]) <= 32_000
    assert found["Subject"].startswith("0123456789 sss")
    assert found["Description"].endswith("ab 0123456789")


def test_a_template_that_finds_by_its_description_finds_that_of_the_connection() -> None:
    journal = a_journal("Call", "Call {{.Number}} {{.Reference}}")

    assert said(journal, description="Boats")["Description"] == "Boats 0123456789"
    assert said(journal, description="")["Description"] == "0123456789"
    assert said(description="Boats")["Description"] == "Boats"


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_stands_in_a_record_the_subject_is_one_short_line_with_the_reference(
    name: str, summary: str
) -> None:
    found = said(
        a_journal("{{.ContactName}} {{.Reference}}", "{{.Summary}}"),
        subject="{{.Summary}} {{.ContactName}}",
        summary=summary,
        contact={"ContactName": name},
    )
    assert "0123456789" in found["Subject"]
    assert len(found["Subject"]) <= 250
    assert found["Subject"].splitlines() == [found["Subject"]]


# -- clocks -------------------------------------------------------------------------------------


def test_a_call_that_ended_before_it_started_has_no_length() -> None:
    """The PBX's clock was set back."""
    found = said(ended_at=STARTED - timedelta(hours=1), talk_time=timedelta(seconds=5))

    assert (found["EndedAt"], found["Duration"]) == (STARTED, timedelta(0))
    assert found["AnsweredAt"] == STARTED


@pytest.mark.parametrize(
    ("started", "zone"),
    [
        (datetime(2026, 3, 29, 0, 55, tzinfo=UTC), "Europe/Berlin"),
        (datetime(2026, 10, 25, 0, 55, tzinfo=UTC), "Europe/Berlin"),
        (datetime(2026, 11, 1, 5, 55, tzinfo=UTC), "America/New_York"),
        (datetime(2026, 4, 4, 14, 55, tzinfo=UTC), "Australia/Lord_Howe"),
    ],
)
def test_a_call_over_a_change_of_the_clocks_is_as_long_as_it_was(
    started: datetime, zone: str
) -> None:
    """Also where a PBX told its moments in its own zone."""
    times = [
        (started + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone)) for minutes in (0, 10)
    ]
    found = said(
        started_at=times[0],
        ended_at=times[1],
        talk_time=timedelta(minutes=9),
        wait_time=timedelta(minutes=1),
    )
    assert found["Duration"] == timedelta(minutes=10)
    assert found["AnsweredAt"] == started + timedelta(minutes=1)


def test_the_answer_is_where_it_is_known_to_be() -> None:
    """A hold is no talk: the end less the talk would be later."""
    answered_at = STARTED + timedelta(seconds=3)

    assert said(answered_at=answered_at)["AnsweredAt"] == answered_at
    assert said(answered_at=answered_at, talk_time=timedelta(0))["AnsweredAt"] is None
