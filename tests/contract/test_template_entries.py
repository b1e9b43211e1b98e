"""Every template writes an entry that its CRM can take, for every call there is."""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from shared.contracts.calls import Direction, Disposition
from shared.contracts.contacts import ContactCard
from shared.crm.form.journal import NeedsContact
from shared.crm.language.paths import at_path
from shared.crm.registry import shipped, shipped_names
from tests.contract.template_kit import (
    REFERENCE,
    body_of,
    changed,
    contact_of,
    entry,
    sent,
    words_of,
)

NAMES = [name for name in shipped_names() if shipped(name).journal is not None]
CHANGING = [
    name for name in NAMES if (journal := shipped(name).journal) and journal.update is not None
]
KINDS = list(product(Direction, Disposition))
HELD = {"Held", "Not Held"}
WAYS = {"Inbound", "Outbound"}
#: Of fields with a list of values: where they are, and the list, as the CRM's documents have it.
ENUMERATIONS: dict[str, dict[str, set[Any]]] = {
    "bitrix24": {
        "before.TYPE": {1, 2, 3, 4},
        "STATUS_CODE": {"200", "304", "480", "486", "603", "OTHER"},
    },
    "close": {"direction": {"inbound", "outbound"}, "status": {"completed"}},
    "dynamics": {"directioncode": {True, False}, "after.statuscode": {2, 4}},
    "dynamics_2015": {"DirectionCode": {True, False}},
    "espocrm": {"direction": WAYS, "status": HELD},
    "freshdesk": {"status": {2, 3, 4, 5}, "source": {3}, "priority": {1, 2, 3, 4}},
    "hubspot": {
        "properties.hs_call_direction": {"INBOUND", "OUTBOUND"},
        "properties.hs_call_status": {"BUSY", "CANCELED", "COMPLETED", "FAILED", "NO_ANSWER"},
    },
    "kommo": {"0.note_type": {"call_in", "call_out"}, "0.params.call_status": set(range(1, 9))},
    "pipedrive": {
        "outcome": {
            "connected",
            "no_answer",
            "left_message",
            "left_voicemail",
            "wrong_number",
            "busy",
        }
    },
    "proprietary": {"direction": set(Direction), "result": set(Disposition)},
    "proprietary_1": {"direction": set(Direction), "result": set(Disposition)},
    "retailcrm": {
        "calls.0.type": {"in", "out"},
        "calls.0.result": {
            "answered",
            "busy",
            "failed",
            "no answer",
            "not allowed",
            "unknown",
        },
    },
    "salesforce": {"CallType": {"Inbound", "Outbound", "Internal"}, "Status": {"Completed"}},
    "sugarcrm": {"direction": WAYS, "status": HELD},
    "suitecrm": {"data.attributes.direction": WAYS, "data.attributes.status": HELD},
    "suitecrm_v4_1": {
        "rest_data.name_value_list.direction": WAYS,
        "rest_data.name_value_list.status": HELD,
    },
    "vtiger": {
        "element.direction": {"inbound", "outbound"},
        "element.callstatus": {"completed", "busy", "no-answer"},
    },
    "zendesk": {"ticket.via_id": {44, 45, 46}},
    "zoho": {"data.0.Call_Type": {"Inbound", "Outbound", "Missed"}},
}
#: Those without one: their entry is a text, or an activity of a type that the account chose.
TEXTS = {
    "bullhorn",
    "copper",
    "freshsales",
    "insightly",
    "monday",
    "odoo",
    "odoo_jsonrpc",
    "tryton",
}
#: A call of 1 h 2 min 5 s (and 7 s of waiting) from 23:30 UTC, of a tenant in Asia/Kolkata, where
#: it is 05:00 of the next day: length and start as each CRM counts them.
TIMES: dict[str, dict[str, Any]] = {
    "bitrix24": {"DURATION": 3725, "before.CALL_START_DATE": "2026-11-21T23:30:00+00:00"},
    "bullhorn": {"minutesSpent": 63, "dateAdded": 1795303800000},
    "close": {"duration": 3725, "activity_at": "2026-11-21T23:30:00+00:00"},
    "copper": {"activity_date": 1795303800},
    "dynamics": {
        "actualdurationminutes": 63,
        "actualstart": "2026-11-21T23:30:00Z",
        "actualend": "2026-11-22T00:32:12Z",
    },
    "dynamics_2015": {
        "ActualDurationMinutes": 63,
        "ActualStart": "/Date(1795303800000)/",
        "ActualEnd": "/Date(1795307532000)/",
    },
    "espocrm": {"dateStart": "2026-11-21 23:30:00", "dateEnd": "2026-11-22 00:32:12"},
    "freshsales": {
        "sales_activity.start_date": "2026-11-21T23:30:00Z",
        "sales_activity.end_date": "2026-11-22T00:32:12Z",
    },
    "hubspot": {
        "properties.hs_call_duration": "3725000",
        "properties.hs_timestamp": "1795303800000",
    },
    "insightly": {
        "START_DATE_UTC": "2026-11-21T23:30:00Z",
        "END_DATE_UTC": "2026-11-22T00:32:12Z",
    },
    "kommo": {"0.params.duration": 3725, "0.created_at": 1795303800},
    "pipedrive": {
        "duration": "3725",
        "start_time": "2026-11-21 23:30:00",
        "end_time": "2026-11-22 00:32:12",
    },
    "proprietary": {"duration": 3725, "wait": 7, "started_at": "2026-11-21T23:30:00Z"},
    "proprietary_1": {"duration": 3725, "wait": 7, "started_at": "2026-11-21T23:30:00Z"},
    # The account's own time, without a zone.
    "retailcrm": {
        "calls.0.duration": 3725,
        "calls.0.durationWaiting": 7,
        "calls.0.date": "2026-11-22 05:00:00",
    },
    # A day alone: that of the tenant.
    "salesforce": {"CallDurationInSeconds": 3725, "ActivityDate": "2026-11-22"},
    "sugarcrm": {
        "duration_hours": 1,
        "duration_minutes": 2,
        "date_start": "2026-11-21T23:30:00+00:00",
    },
    "suitecrm": {
        "data.attributes.duration_hours": 1,
        "data.attributes.duration_minutes": 2,
        "data.attributes.date_start": "2026-11-21T23:30:00+00:00",
    },
    "suitecrm_v4_1": {
        "rest_data.name_value_list.duration_hours": 1,
        "rest_data.name_value_list.duration_minutes": 2,
        "rest_data.name_value_list.date_start": "2026-11-21 23:30:00",
    },
    # That of the user in Vtiger, which is a parameter: UTC here.
    "vtiger": {
        "element.totalduration": "3732",
        "element.billduration": "3725",
        "element.starttime": "2026-11-21 23:30:00",
    },
    "zendesk": {
        "ticket.voice_comment.call_duration": 3725,
        "ticket.voice_comment.started_at": "2026-11-21T23:30:00Z",
    },
    "zoho": {
        "data.0.Call_Duration": "62:05",
        "data.0.Call_Start_Time": "2026-11-21T23:30:00+00:00",
    },
}
#: Those that say it in words alone.
WORDS = {
    "freshdesk": ("62:05", "2026-11-21T23:30:00Z"),
    "monday": ("62:05", "2026-11-21T23:30:00Z"),
    "odoo": ("62:05", "2026-11-21 23:30:00 UTC"),
    "odoo_jsonrpc": ("62:05", "2026-11-21 23:30:00 UTC"),
    "tryton": ("62:05", "2026-11-21 23:30:00 UTC"),
}
#: What a change alone says: the method's name, hours and minutes of Pipedrive's activity, and
#: Odoo's text, which is HTML there.
_ODOO = (
    "<p>Inbound call +12025550143 0123456789 - Agent 101 Anna Agent - dialled 12025550100 "
    "- 2026-11-21 23:30:00 UTC, talked 62:05</p>"
)
OF_CHANGES: dict[str, tuple[str, ...]] = {
    "odoo": (_ODOO,),
    "odoo_jsonrpc": ("mail.message", "write", _ODOO),
    "pipedrive": ("01:02",),
    "proprietary_1": ("update",),
    "vtiger": ("revise",),
}
#: What says by being empty that there is nobody, or nothing to say (of Tryton, the context).
MAY_BE_EMPTY = {"phonecall_activity_parties", "name_value_list", "params.1"}


def contacts_of(name: str) -> list[ContactCard | None]:
    """One of each type, and nobody where the CRM takes entries of nobody."""
    manifest = shipped(name)
    known: list[ContactCard | None] = [contact_of(module) for module in manifest.contacts]
    assert manifest.journal is not None
    return known if manifest.journal.contact is NeedsContact.YES else [*known, None]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_call_has_a_value_that_the_crm_knows(name: str) -> None:
    assert (name in ENUMERATIONS) != (name in TEXTS)
    for direction, disposition in KINDS:
        made = sent(name, entry(direction, disposition, contact=contacts_of(name)[0]))
        for path, values in ENUMERATIONS.get(name, {}).items():
            found = _at(made, path)
            assert found in values, f"{direction} {disposition}: {path} is {found!r}"


@pytest.mark.parametrize("name", NAMES)
def test_length_and_start_are_in_the_units_of_the_crm(name: str) -> None:
    made = sent(
        name, entry(contact=contacts_of(name)[0], recording="https://pbx.example/rec/1.wav")
    )
    assert (name in TIMES) != (name in WORDS)
    for path, value in TIMES.get(name, {}).items():
        assert _at(made, path) == value, path
    for word in WORDS.get(name, ()):
        assert word in words_of(made.create)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_known_is_not_sent(name: str) -> None:
    """Neither null nor an empty text, list or object: a CRM takes them for a wrong value."""
    nobody: dict[str, Any] = {"dialled": None, "extension": None, "agent_name": None}
    for contact, owner, recording, by in product(
        contacts_of(name), ("21", None), ("https://pbx.example/rec/1.wav", None), ({}, nobody)
    ):
        call = entry(contact=contact, owner_id=owner, recording=recording, **by)
        for request in (*sent(name, call).all, *changed(name, call)):
            empty = list(_empty(body_of(request), ""))
            assert not empty, f"{call}: {empty}"
            assert "//" not in request.url.path, request.url


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", ["", "anonymous"])
def test_a_caller_who_hides_is_no_fault_of_the_template(name: str, number: str) -> None:
    for direction, disposition in KINDS:
        call = entry(direction, disposition, number=number, contact=contacts_of(name)[0])
        sent(name, call)
        changed(name, call)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("subject", ["Call of {{.ContactName}}", "Long " * 60])
def test_a_subject_of_the_sites_own_leaves_the_reference_where_find_looks(
    name: str, subject: str
) -> None:
    made = sent(name, entry(contact=contacts_of(name)[0], subject=subject))
    written = " ".join(words_of(request) for request in (*made.before, made.create))
    assert REFERENCE in written
    journal = shipped(name).journal
    assert journal is not None
    if journal.idempotent:
        assert journal.find is None
        return
    assert made.find is not None
    assert REFERENCE in f"{words_of(made.find)} {made.found_at}"


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_found_again_when_its_subject_would_be_another_now(name: str) -> None:
    """An entry that was refused is sent without its contact; its answer may be lost, too."""
    made = sent(name, entry(contact=contacts_of(name)[0], subject="Call of {{.ContactName}}"))
    if made.find is not None:
        asked = words_of(made.find).replace(f"Call of Ann Lee {REFERENCE}", "")
        assert REFERENCE in f"{asked} {made.found_at}"


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_names_its_entry_and_says_what_is_known_now(name: str) -> None:
    recording = "https://pbx.example/rec/1.wav"
    requests = changed(name, entry(contact=contacts_of(name)[0], recording=recording))
    assert "55" in words_of(requests[0])
    assert recording in html.unescape(" ".join(words_of(request) for request in requests))


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_sends_what_the_entry_was_made_of(name: str) -> None:
    """A value that is written otherwise in a change would be a second truth."""
    call = entry(contact=contacts_of(name)[0])
    made = list(_values(body_of(sent(name, call).create)))
    changes = changed(name, call)
    assert not [
        value
        for value in _values(body_of(changes[0]))
        if value not in (*made, *OF_CHANGES.get(name, ()), "55", 55)
    ]


@pytest.mark.parametrize("name", ["espocrm", "pipedrive", "sugarcrm", "suitecrm", "suitecrm_v4_1"])
def test_the_reference_stands_in_a_name_once(name: str) -> None:
    made = sent(name, entry(contact=contacts_of(name)[0], subject="Call of {{.ContactName}}"))
    assert words_of(made.create).count(f"Call of Ann Lee {REFERENCE}") == 1
    assert words_of(made.create).count(REFERENCE) == 1


def _values(body: Any) -> Iterator[Any]:
    """Texts and numbers, however deep."""
    if isinstance(body, dict | list):
        for inner in body.values() if isinstance(body, dict) else body:
            yield from _values(inner)
    elif isinstance(body, str | int | float):
        yield body


def _at(made: Any, path: str) -> Any:
    """``before.`` and ``after.`` are the first request of these; else the entry itself."""
    first, _, rest = path.partition(".")
    if first in {"before", "after"}:
        return at_path(body_of(getattr(made, first)[0]), rest)
    return at_path(body_of(made.create), path)


def _empty(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _empty(inner, f"{at}.{name}")
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _empty(inner, f"{at}.{place}")
    elif value is None and not at:
        return
    elif value in (None, "", [], {}) and not at.endswith(tuple(MAY_BE_EMPTY)):
        yield at
