"""Ours → Yeastar's XML (firmware 83.21): what it can say, and notes of the rest."""

from __future__ import annotations

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Note, Notes
from shared.crm.importing.yeastar.export_auth import add_auth, auth_kind
from shared.crm.importing.yeastar.export_calls import CallsWriter
from shared.crm.importing.yeastar.export_contacts import ContactsWriter
from shared.crm.importing.yeastar.says import Speaker, Xml

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def export_yeastar(manifest: Manifest) -> tuple[str, tuple[Note, ...]]:
    """The file, and what of the template is not in it."""
    notes = Notes()
    # What steps that sign in make is not there.
    unsaid = manifest.auth.session_variables - {"AccessToken"}
    speaker = Speaker(notes, set(manifest.own_variables - unsaid - {"Zone"}))
    root = Xml("Information", **_attributes(manifest))
    scenarios = root.add("Scenarios")
    add_auth(manifest, scenarios, speaker)
    contacts, calls = ContactsWriter(manifest, speaker), CallsWriter(manifest, speaker)
    contacts.add_contacts(scenarios)
    if manifest.users is not None:
        calls.add_users(scenarios, manifest.users)
    contacts.add_creates(scenarios)
    if manifest.journal is not None:
        calls.add_journal(scenarios, manifest.journal)
    calls.add_follow_ups(scenarios)
    _leave(manifest, notes)
    return _DECLARATION + root.text(), notes.all


def _attributes(manifest: Manifest) -> dict[str, str | None]:
    creates = any(contact.create for contact in manifest.contacts.values())
    told = "concurrent" in manifest.limits.model_fields_set
    return {
        "Provider": "crm",
        "Name": manifest.title,
        "Key": manifest.name,
        "Logo": manifest.logo or "",
        "Remark": manifest.description,
        "Version": "1.0.0",
        "AuthType": auth_kind(manifest),
        "MaxConcurrentRequest": str(manifest.limits.concurrent) if told else None,
        "UserAssociation": str(int(manifest.users is not None)),
        "CallJournal": str(int(manifest.journal is not None)),
        "CreateNewContact": str(int(creates)),
        "CreateNewTicket": "0",
    }


def _leave(manifest: Manifest, notes: Notes) -> None:
    notes.left("phone_formats", "Yeastar sends a number as the call had it")
    notes.left("check", "Yeastar has no request that proves the credentials")
    if manifest.changes is not None:
        notes.left("changes", "Yeastar does not hear of changed contacts")
    if manifest.limits.rates or manifest.limits.waits:
        notes.left("limits", "but for `concurrent`")
    if manifest.maps:
        notes.left("maps", "Yeastar has no maps")
