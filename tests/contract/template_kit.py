"""A shipped template's requests for one call, made as the engine makes them, without a CRM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from shared.contracts.calls import Direction, Disposition
from shared.contracts.contacts import ContactCard
from shared.crm.engine.cards import card_variables
from shared.crm.engine.entries import entry_variables
from shared.crm.form.access import ParameterKind
from shared.crm.form.manifest import Manifest
from shared.crm.form.requests import Step
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry
from shared.crm.registry import parameters_of, shipped
from shared.crm.rendering import Rendered, Scope, render

ZONE = "Asia/Kolkata"
REFERENCE = "0123456789"
STARTED = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
TALKED = timedelta(hours=1, minutes=2, seconds=5)
WAITED = timedelta(seconds=7)

#: What a template's own pattern wants of a parameter that has no default.
_GIVEN = {
    "account": "12",
    "board": "77",
    "default_user": "1",
    "phone_column": "phone",
    "portal": "acme.example",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes out for an entry; *find* is None where nobody is asked."""

    before: tuple[Rendered, ...]
    create: Rendered
    after: tuple[Rendered, ...]
    find: Rendered | None
    #: Where the found entry's id is, placeholders filled.
    found_at: str

    @property
    def all(self) -> tuple[Rendered, ...]:
        return (*self.before, self.create, *self.after)


def scope_of(manifest: Manifest) -> Scope:
    """Of a connection that gives what must be given; a session's values are ``42``."""
    given = {}
    for parameter in manifest.parameters:
        if parameter.kind is ParameterKind.URL and not parameter.default:
            given[parameter.name] = f"https://crm.example/{parameter.name}"
        elif parameter.default is None:
            options = parameter.options or (_GIVEN.get(parameter.name, "acme"),)
            given[parameter.name] = options[0]
    made = {
        name: "https://api.example" if "url" in name.lower() else "42"
        for name in manifest.auth.session_variables
    }
    secrets = {credential.name: "k" for credential in manifest.credentials}
    own = {**secrets, **parameters_of(manifest, given), **made, "Zone": ZONE}
    return Scope(own=own, maps=manifest.maps)


def entry(
    direction: Direction = Direction.INBOUND,
    disposition: Disposition = Disposition.ANSWERED,
    **other: Any,
) -> JournalEntry:
    talked = TALKED if disposition is Disposition.ANSWERED else timedelta(0)
    said: dict[str, Any] = {
        "reference": REFERENCE,
        "started_at": STARTED,
        "ended_at": STARTED + WAITED + talked,
        "talk_time": talked,
        "wait_time": WAITED,
        "number": "+12025550143",
        "dialled": "12025550100",
        "extension": "101",
        "agent_name": "Anna Agent",
        "owner_id": "21",
        "contact": None,
        "recording": None,
    }
    return JournalEntry(direction=direction, disposition=disposition, **{**said, **other})


def contact_of(module: str) -> ContactCard:
    return ContactCard(connection="crm", module=module, contact_id="77", display_name="Ann Lee")


def sent(name: str, call: JournalEntry) -> Sent:
    """As TemplateConnector.write_entry and find_entry; what an answer gives is ``9``."""
    manifest = shipped(name)
    journal = manifest.journal
    assert journal is not None
    scope = scope_of(manifest)
    contact = manifest.contacts[call.contact.module] if call.contact else None
    known = entry_variables(call, journal, scope, card_variables(call.contact, contact))
    before = list(_run(journal.before, known, scope))
    link = (journal.record, contact.journal) if contact and contact.journal else None
    create = render(journal.create, scope.having(known), merge=link)
    assert create is not None
    known |= {**dict.fromkeys(journal.take, "9"), "EntryId": "55"}
    after = list(_run(journal.after, known, scope))
    find = render(journal.find.request, scope.having(known)) if journal.find else None
    found_at = journal.find.entry_id if journal.find else ""
    shown = compile_text(found_at).text({**scope.own, **known}) if "{{" in found_at else found_at
    return Sent(tuple(before), create, tuple(after), find, shown)


def changed(name: str, call: JournalEntry) -> tuple[Rendered, ...]:
    """As TemplateConnector.update_entry of the entry 55; nothing where the template has no such."""
    manifest = shipped(name)
    journal = manifest.journal
    assert journal is not None
    if journal.update is None:
        return ()
    scope = scope_of(manifest)
    contact = manifest.contacts[call.contact.module] if call.contact else None
    known = entry_variables(call, journal, scope, card_variables(call.contact, contact))
    known["EntryId"] = "55"
    before = list(_run(journal.before, known, scope))
    link = contact.journal if contact else None
    record = journal.update.record
    merge = (record, link) if record is not None and link else None
    update = render(journal.update, scope.having(known), merge=merge)
    if update is None:
        return tuple(before)
    return (*before, update, *_run(journal.update.after, known, scope))


def _run(steps: tuple[Step, ...], known: dict[str, Any], scope: Scope) -> Iterator[Rendered]:
    """*known* gets what the steps make."""
    for step in steps:
        for name, text in step.compute.items():
            filled = scope.having(known)
            known[name] = compile_text(text).value(filled.all, maps=filled.maps)
        ready = render(step.request, scope.having(known)) if step.request else None
        if ready is not None:
            yield ready
        known |= dict.fromkeys(step.take, "9" if ready is not None else None)


def body_of(request: Rendered) -> Any:
    """JSON as it is, a form as a mapping whose fields may be JSON, nothing as None."""
    if not request.body:
        return None
    if request.headers["Content-Type"].endswith("json"):
        return json.loads(request.body)
    fields = parse_qsl(request.body.decode(), keep_blank_values=True)
    return {name: json.loads(text) if text[:1] in "[{" else text for name, text in fields}


def words_of(request: Rendered) -> str:
    """Address and body, decoded."""
    return unquote_plus(f"{request.url} {(request.body or b'').decode()}".replace("%2B", "+"))
