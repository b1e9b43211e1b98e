"""
After a lost answer: what each template's ``create`` wrote is what its ``find`` finds, whatever the
connection's own texts are, and nothing that another call wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.contracts.contacts import ContactCard
from shared.crm.form.journal import NeedsContact
from shared.crm.language.paths import at_path
from shared.crm.port import JournalEntry
from shared.crm.registry import shipped, shipped_names
from tests.contract.template_kit import REFERENCE, body_of, contact_of, entry, sent, words_of

NAMES = [
    name
    for name in shipped_names()
    if (journal := shipped(name).journal) and not journal.idempotent
]
OTHER = "9876543210"
#: Where the reference is in what is written, and how the CRM's search shows that record.
HELD: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "bitrix24": (
        "before.EXTERNAL_CALL_ID",
        lambda held: {"result": [{"CALL_ID": "55", "EXTERNAL_CALL_ID": held}]},
    ),
    "bullhorn": ("externalID", lambda held: {"data": [{"id": 55, "externalID": held}]}),
    "close": ("note_html", lambda held: {"data": [{"id": "55", "note_html": held}]}),
    "copper": ("details", lambda held: [{"id": 55, "details": held}]),
    "espocrm": ("name", lambda held: {"list": [{"id": "55", "name": held}]}),
    "freshdesk": ("subject", lambda held: [{"id": 55, "subject": held}]),
    "freshsales": (
        "sales_activity.title",
        lambda held: {"contact": {}, "sales_activities": [{"id": 55, "title": held}]},
    ),
    "hubspot": (
        "properties.hs_call_title",
        lambda held: {"results": [{"id": "55", "properties": {"hs_call_title": held}}]},
    ),
    "insightly": ("TITLE", lambda held: [{"EVENT_ID": 55, "TITLE": held}]),
    "kommo": (
        "0.params.uniq",
        lambda held: {"_embedded": {"notes": [{"id": 55, "params": {"uniq": held}}]}},
    ),
    "monday": (
        "variables.body",
        lambda held: {"data": {"items": [{"updates": [{"id": "55", "text_body": held}]}]}},
    ),
    "odoo": ("body", lambda held: [{"id": 55, "body": held}]),
    "odoo_jsonrpc": ("params.args.6.body", lambda held: {"result": [{"id": 55, "body": held}]}),
    "pipedrive": ("subject", lambda held: {"data": [{"id": 55, "subject": held}]}),
    "proprietary": ("call_id", lambda held: {"data": [{"id": "55", "call_id": held}]}),
    "proprietary_1": ("call_id", lambda held: {"data": [{"id": "55", "call_id": held}]}),
    "sugarcrm": ("name", lambda held: {"records": [{"id": "55", "name": held}]}),
    "suitecrm": (
        "data.attributes.name",
        lambda held: {"data": [{"id": "55", "attributes": {"name": held}}]},
    ),
    "suitecrm_v4_1": (
        "rest_data.name_value_list.name",
        lambda held: {"entry_list": [{"id": "55", "name_value_list": {"name": {"value": held}}}]},
    ),
    "tryton": ("params.0.0.message", lambda held: {"result": [{"id": 55, "message": held}]}),
    "zendesk": ("ticket.external_id", lambda held: {"tickets": [{"id": 55, "external_id": held}]}),
    "zoho": ("data.0.Subject", lambda held: {"data": [{"id": "55", "Subject": held}]}),
}
#: Where the search itself asks for the field, and the first that it finds is the one.
ASKED: dict[str, tuple[str, str]] = {
    "dynamics": ("subject", "contains(subject,'{}')"),
    "dynamics_2015": ("Subject", "substringof('{}',Subject)"),
    "salesforce": ("CallObject", "WHERE CallObject = '{}'"),
    "vtiger": ("element.sourceuuid", "WHERE sourceuuid='{}'"),
}
#: Characters of that field.
LONGEST = {
    "dynamics": 200,
    "dynamics_2015": 200,
    "sugarcrm": 50,
    "suitecrm": 50,
    "suitecrm_v4_1": 50,
}
TEXTS = [
    (None, None),
    ("Call", "Nothing of it."),
    ("Long " * 100, "Long " * 10_000),
    ("{{.Reference}} of {{.ContactName}}", "{{.Reference}}"),
]


def contacts_of(name: str) -> list[ContactCard | None]:
    manifest = shipped(name)
    known = [contact_of(module) for module in manifest.contacts]
    assert manifest.journal is not None
    return [*known] if manifest.journal.contact is NeedsContact.YES else [None, *known]


def test_every_template_is_here() -> None:
    assert sorted(HELD.keys() | ASKED.keys()) == sorted(NAMES)


@pytest.mark.parametrize(("subject", "description"), TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_found_and_nothing_else(
    name: str, subject: str | None, description: str | None
) -> None:
    place = (HELD.get(name) or ASKED[name])[0]
    for contact in contacts_of(name):
        call = entry(contact=contact, subject=subject, description=description)
        held = _written(name, call, place)
        others = _written(name, replace(call, reference=OTHER), place)
        assert REFERENCE in held
        assert REFERENCE not in others
        assert len(held) <= LONGEST.get(name, len(held))

        made = sent(name, call)
        assert made.find is not None
        if name in ASKED:
            assert ASKED[name][1].format(REFERENCE) in words_of(made.find)
        else:
            shown = HELD[name][1]
            assert str(at_path(shown(held), made.found_at)) == "55"
            assert not at_path(shown(others), made.found_at)


def _written(name: str, call: JournalEntry, place: str) -> str:
    made = sent(name, call)
    request = made.before[-1] if place.startswith("before.") else made.create
    return str(at_path(body_of(request), place.removeprefix("before.")))
