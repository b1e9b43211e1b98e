"""
Start, end and length of a call as each CRM is told them, by the expressions that stand in the
templates that ship. What forms the CRMs want is in docs/reference/template-language.md.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.crm.engine.entries import entry_variables
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry
from shared.crm.registry import shipped, shipped_names
from shared.crm.rendering import Scope
from tests.contract.template_kit import entry

TIMES = {"StartedAt", "AnsweredAt", "EndedAt", "TalkTime", "WaitTime", "Duration"}
_PLACED = re.compile(r'(?:"(\w+)":\s*"?)?(\{\{[^{}]*\}\})')
_OWN = {"Zone": "Europe/Berlin", "timezone": "America/New_York"}


def a_call(started_at: datetime, *, wait: float, talk: float) -> JournalEntry:
    waited, talked = timedelta(seconds=wait), timedelta(seconds=talk)
    return entry(
        started_at=started_at,
        ended_at=started_at + waited + talked,
        wait_time=waited,
        talk_time=talked,
    )


CALLS = (
    # From the first to the second half past two of a night in Berlin.
    a_call(datetime(2026, 10, 25, 0, 30, tzinfo=UTC), wait=7, talk=3593),
    # In Berlin it is the next year; a fraction of a second.
    a_call(datetime(2026, 12, 31, 23, 30, 0, 600_000, tzinfo=UTC), wait=0.4, talk=5.2),
    # For over a hundred hours, from before Germany's clocks go forward.
    a_call(datetime(2026, 3, 29, 0, 30, tzinfo=UTC), wait=6000, talk=400_000),
)
#: By the expression, what it is of each of the calls.
FORMS: dict[str, tuple[Any, Any, Any]] = {
    "{{.StartedAt | iso8601}}": (
        "2026-10-25T00:30:00+00:00",
        "2026-12-31T23:30:00+00:00",
        "2026-03-29T00:30:00+00:00",
    ),
    "{{.StartedAt | in_zone 'UTC' | iso8601}}": (
        "2026-10-25T00:30:00+00:00",
        "2026-12-31T23:30:00+00:00",
        "2026-03-29T00:30:00+00:00",
    ),
    "{{.EndedAt | iso8601}}": (
        "2026-10-25T01:30:00+00:00",
        "2026-12-31T23:30:06+00:00",
        "2026-04-02T17:16:40+00:00",
    ),
    "{{.StartedAt | iso_utc}}": (
        "2026-10-25T00:30:00Z",
        "2026-12-31T23:30:00Z",
        "2026-03-29T00:30:00Z",
    ),
    "{{.EndedAt | iso_utc}}": (
        "2026-10-25T01:30:00Z",
        "2026-12-31T23:30:06Z",
        "2026-04-02T17:16:40Z",
    ),
    # To look for an entry from there on.
    "{{.EndedAt | earlier 3600 | iso_utc}}": (
        "2026-10-25T00:30:00Z",
        "2026-12-31T22:30:06Z",
        "2026-04-02T16:16:40Z",
    ),
    "{{.StartedAt | utc}}": ("2026-10-25 00:30:00", "2026-12-31 23:30:00", "2026-03-29 00:30:00"),
    "{{.EndedAt | utc}}": ("2026-10-25 01:30:00", "2026-12-31 23:30:06", "2026-04-02 17:16:40"),
    "{{.StartedAt | local .Zone}}": (
        "2026-10-25 02:30:00",
        "2027-01-01 00:30:00",
        "2026-03-29 01:30:00",
    ),
    "{{.StartedAt | local .timezone}}": (
        "2026-10-24 20:30:00",
        "2026-12-31 18:30:00",
        "2026-03-28 20:30:00",
    ),
    "{{.EndedAt | local .timezone}}": (
        "2026-10-24 21:30:00",
        "2026-12-31 18:30:06",
        "2026-04-02 13:16:40",
    ),
    '{{.StartedAt | TimeFormat "yyyy-MM-dd"}}': ("2026-10-25", "2027-01-01", "2026-03-29"),
    "{{.StartedAt | unix}}": (1792888200, 1798759800, 1774744200),
    "{{.StartedAt | unix_ms}}": (1792888200000, 1798759800600, 1774744200000),
    "{{.StartedAt | unix_ms | text}}": ("1792888200000", "1798759800600", "1774744200000"),
    "{{.StartedAt | aspnet_date}}": (
        "/Date(1792888200000)/",
        "/Date(1798759800600)/",
        "/Date(1774744200000)/",
    ),
    "{{.EndedAt | aspnet_date}}": (
        "/Date(1792891800000)/",
        "/Date(1798759806200)/",
        "/Date(1775150200000)/",
    ),
    "{{.TalkTime | seconds}}": (3593, 5, 400_000),
    "{{.TalkTime | seconds | text}}": ("3593", "5", "400000"),
    "{{.TalkTime | ms | text}}": ("3593000", "5200", "400000000"),
    "{{.TalkTime | minutes}}": (60, 1, 6667),
    "{{.TalkTime | hours_part}}": (0, 0, 111),
    "{{.TalkTime | minutes_part}}": (59, 0, 6),
    "{{.TalkTime | mmss}}": ("59:53", "00:05", "6666:40"),
    "{{.TalkTime | hh_mm}}": ("00:59", "00:00", "111:06"),
    "{{.TalkTime | hh_mm_ss}}": ("00:59:53", "00:00:05", "111:06:40"),
    "{{.WaitTime | seconds}}": (7, 0, 6000),
    "{{.WaitTime | mmss}}": ("00:07", "00:00", "100:00"),
    "{{.Duration | seconds | text}}": ("3600", "6", "406000"),
}
_S, _E, _T = "{{.StartedAt | %s}}", "{{.EndedAt | %s}}", "{{.TalkTime | %s}}"
#: Of each CRM the fields that have a time of their own, and what fills them.
FIELDS: dict[str, dict[str, str]] = {
    "bitrix24": {"CALL_START_DATE": _S % "iso8601", "DURATION": _T % "seconds"},
    "bullhorn": {"dateAdded": _S % "unix_ms", "minutesSpent": _T % "minutes"},
    "close": {"activity_at": _S % "iso8601", "duration": _T % "seconds"},
    "copper": {"activity_date": _S % "unix", "minimum_activity_date": _S % "unix"},
    "dynamics": {
        "actualdurationminutes": _T % "minutes",
        "actualstart": _S % "iso_utc",
        "actualend": _E % "iso_utc",
    },
    "dynamics_2015": {
        "ActualDurationMinutes": _T % "minutes",
        "ActualStart": _S % "aspnet_date",
        "ActualEnd": _E % "aspnet_date",
    },
    "espocrm": {"dateStart": _S % "utc", "dateEnd": _E % "utc"},
    "freshdesk": {"updated_since": _E % "earlier 3600 | iso_utc"},
    "freshsales": {"start_date": _S % "iso_utc", "end_date": _E % "iso_utc"},
    "hubspot": {"hs_timestamp": _S % "unix_ms | text", "hs_call_duration": _T % "ms | text"},
    "insightly": {
        "START_DATE_UTC": _S % "iso_utc",
        "END_DATE_UTC": _E % "iso_utc",
        "updated_after_utc": _E % "earlier 3600 | iso_utc",
    },
    "kommo": {"created_at": _S % "unix", "duration": _T % "seconds"},
    "monday": {},
    "odoo": {},
    "odoo_jsonrpc": {},
    "pipedrive": {
        "create.duration": _T % "seconds | text",
        "start_time": _S % "utc",
        "end_time": _E % "utc",
        # Of the activity that a call log is.
        "update.duration": _T % "hh_mm",
        "updated_since": _E % "earlier 3600 | iso_utc",
    },
    "proprietary": {
        "started_at": _S % "iso_utc",
        "ended_at": _E % "iso_utc",
        "duration": _T % "seconds",
        "wait": "{{.WaitTime | seconds}}",
    },
    "proprietary_1": {
        "started_at": _S % "iso_utc",
        "ended_at": _E % "iso_utc",
        "duration": _T % "seconds",
        "wait": "{{.WaitTime | seconds}}",
    },
    "retailcrm": {
        "date": _S % "local .Zone",
        "duration": _T % "seconds",
        "durationWaiting": "{{.WaitTime | seconds}}",
    },
    "salesforce": {
        "CallDurationInSeconds": _T % "seconds",
        "ActivityDate": _S % 'TimeFormat "yyyy-MM-dd"',
    },
    "sugarcrm": {
        "date_start": _S % "iso8601",
        "date_end": _E % "iso8601",
        "duration_hours": _T % "hours_part",
        "duration_minutes": _T % "minutes_part",
    },
    "suitecrm": {
        "date_start": _S % "in_zone 'UTC' | iso8601",
        "duration_hours": _T % "hours_part",
        "duration_minutes": _T % "minutes_part",
    },
    "suitecrm_v4_1": {
        "date_start": _S % "utc",
        "duration_hours": _T % "hours_part",
        "duration_minutes": _T % "minutes_part",
    },
    "tryton": {},
    "vtiger": {
        "starttime": _S % "local .timezone",
        "endtime": _E % "local .timezone",
        "totalduration": "{{.Duration | seconds | text}}",
        "billduration": _T % "seconds | text",
    },
    "zendesk": {"started_at": _S % "iso_utc", "call_duration": _T % "seconds"},
    "zoho": {"Call_Start_Time": _S % "iso8601", "Call_Duration": _T % "mmss"},
}
NAMES = [name for name in shipped_names() if shipped(name).journal is not None]


def timed(name: str) -> list[tuple[str, str]]:
    """Fields of the template's journal and the expressions of time in them, as they stand there."""
    found = []
    for place, _, text in shipped(name).texts():
        if place.startswith("journal."):
            _, request, *rest = place.split(".")
            last = rest[-1] if rest else ""
            for key, made in _PLACED.findall(text):
                # Of conditions nothing is said.
                if made[2:4] not in {"if", "el", "en"} and compile_text(made).names & TIMES:
                    found.append((f"{request}.{key or last}", made))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_field_of_a_time_is_filled_as_its_crm_wants_it(name: str) -> None:
    """One field is filled by one expression, in a change as in the entry, unless it is said here."""
    fields = FIELDS[name]
    found = {
        (place if place in fields else place.partition(".")[2], made)
        for place, made in timed(name)
        if place != "description."
    }
    assert found == set(fields.items())


def test_every_expression_of_a_template_is_in_the_table_and_no_other() -> None:
    assert {made for name in NAMES for _, made in timed(name)} == set(FORMS)


@pytest.mark.parametrize("made", FORMS)
def test_an_expression_says_each_call_in_its_form(made: str) -> None:
    journal = shipped("zoho").journal
    assert journal is not None
    scope = Scope(own=_OWN, maps=shipped("zoho").maps)
    known = [{**_OWN, **entry_variables(call, journal, scope, {})} for call in CALLS]

    assert tuple(compile_text(made).value(variables) for variables in known) == FORMS[made]
