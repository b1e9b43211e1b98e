"""
Templates of Yeastar's P-series (XML, firmware 83.18 and 83.21) → ours.

What the file says and our form cannot is left out with a note; where the vendor's own engine would
mix up records, write a value unescaped or print ``<no value>``, ours does not.
"""

from __future__ import annotations

import re
from typing import Any

from shared.crm.importing.finish import finished
from shared.crm.importing.naming import name_of
from shared.crm.importing.report import Imported, Notes, to_yaml
from shared.crm.importing.xml import read_template
from shared.crm.importing.yeastar import follow
from shared.crm.importing.yeastar.auth import auth_of, headers_of, outcome_of
from shared.crm.importing.yeastar.bodies import folded
from shared.crm.importing.yeastar.contacts import SYNC, contacts_of
from shared.crm.importing.yeastar.export import export_yeastar
from shared.crm.importing.yeastar.fields import AUTH, Fields
from shared.crm.importing.yeastar.follow import follow_ups_of
from shared.crm.importing.yeastar.journal import journal_of
from shared.crm.importing.yeastar.requests import File
from shared.crm.importing.yeastar.users import users_of
from shared.crm.importing.yeastar.words import Names, rewritten
from shared.errors import BadSetting

__all__ = ["export_yeastar", "import_yeastar", "to_yaml"]

#: A number as it came, as Yeastar sends it, then what CRMs store most.
PHONE_FORMATS = ["digits", "e164", "national_digits"]
_PROVIDERS = {"", "crm", "helpdesk"}
_SCENARIOS = {
    *("authmethod", "synccontactauto", "searchcontact", "userassociation", "createnewcontact"),
    *("createnewticket", "calljournal", "common"),
}
_LOGO = re.compile(r"data:image/(?:png|jpe?g);base64,[A-Za-z0-9+/=\s]+")
_LONGEST_LOGO = 700_000
_MOST_CONCURRENT = 100


def import_yeastar(text: str | bytes, *, name: str | None = None) -> Imported:
    """
    *name*: of the template, else it is made of the file's. Raises: BadSetting with line and column
    for what is no XML, and for what is no template or has no contacts that can be searched.
    """
    notes = Notes()
    root = read_template(text, "Information", notes)
    file = File(root, notes, Names(notes), no_parts=follow.NO_PARTS)
    return finished(_template(file, name), notes)


def _template(file: File, name: str | None) -> dict[str, Any]:
    fields = Fields(file.names)
    given = file.parameters(AUTH)
    fields.read(file, given)
    # What these give is a variable of all the others.
    auth = auth_of(file, given, fields)
    follow_ups = follow_ups_of(file)
    headers = headers_of(file, given)
    contacts = contacts_of(file)
    if not contacts:
        raise BadSetting(
            f"line {file.information.line}, column 1: scenario {SYNC} has no request whose records "
            "have a ContactsId: without contacts there is no template"
        )
    users = users_of(file)
    custom = {n for contact in contacts.values() for n in contact["map"].get("custom", {})}
    journal = journal_of(file, custom)
    fields.complete()
    fields.leave_unused()
    wanted: dict[str, Any] = {
        **_about(file, name),
        "parameters": list(fields.parameters.values()),
        "credentials": list(fields.credentials.values()),
        "auth": auth,
        "headers": headers,
        "limits": _limits(file),
        "outcome": outcome_of(file, given),
        "answer": _answer(file),
        "phone_formats": list(PHONE_FORMATS),
        "contacts": contacts,
        "check": _check(file, contacts, users),
        "users": users,
        "journal": journal,
        "follow_ups": follow_ups,
    }
    file.notes.changed(
        "phone_formats",
        "the file does not say how the CRM stores numbers; put those forms first that it has",
    )
    file.notes.changed(
        "contacts",
        "a record that shows numbers must show the one of the call; `number_check: false` takes "
        "whatever the CRM finds",
    )
    return wanted


def _about(file: File, name: str | None) -> dict[str, Any]:
    information = file.information
    title = information.get("Name") or information.get("Key") or name or "Yeastar"
    if folded(information.get("Provider")) not in _PROVIDERS:
        file.notes.changed("Information, Provider", "neither crm nor helpdesk")
    if version := information.get("Version"):
        file.notes.left("Information, Version", f"{version[:40]}: a template has none; git has")
    logo = information.get("Logo")
    if logo and (not _LOGO.fullmatch(logo) or len(logo) > _LONGEST_LOGO):
        file.notes.left("Information, Logo", "a picture is taken as a data: URL, PNG or JPEG")
        logo = ""
    for scenario in information.all("Scenarios", "Scenario"):
        kind = folded(scenario.get("Id"))
        for tag in ("Presets", "Responses"):
            if any(element.children for element in scenario.all(tag)):
                file.notes.left(f"line {scenario.line}: {tag}", "nothing is known of what is in it")
        if kind in _SCENARIOS:
            file.notes.taken(f"line {scenario.line}: Scenario {scenario.get('Id')}", "read")
        elif "followup" not in kind:
            file.notes.left(
                f"line {scenario.line}: Scenario {scenario.get('Id')[:40]}", "none that is known"
            )
    return {
        "schema": 2,
        "name": name or name_of((information.get("Key"), title), "yeastar-import"),
        "title": title,
        "description": information.get("Remark"),
        "logo": logo,
        "quality": "declared",
        "sources": [f"imported from Yeastar XML {title}"],
    }


def _limits(file: File) -> dict[str, Any]:
    told = file.information.get("MaxConcurrentRequest")
    if not re.fullmatch(r"[0-9]{1,6}", told) or not int(told):
        return {}
    if int(told) > _MOST_CONCURRENT:
        file.notes.changed(
            "Information, MaxConcurrentRequest", f"{_MOST_CONCURRENT} at the same time at most"
        )
    return {"concurrent": min(int(told), _MOST_CONCURRENT)}


def _answer(file: File) -> str | None:
    kinds = {
        "xml" in request.get("ResponseType").lower()
        for request in file.information.all("Scenarios", "Scenario", "Requests", "Request")
        if request.get("ResponseType")
    }
    if kinds == {True, False}:
        file.notes.left("ResponseType", "answers of two kinds: JSON is read")
    return "xml" if kinds == {True} else None


def _check(
    file: File, contacts: dict[str, dict[str, Any]], users: dict[str, Any] | None
) -> dict[str, Any]:
    """The file has none: the users, or the search of a number that nobody has."""
    if users is not None:
        request = dict(users["request"])
        query = {n: text for n, text in request.get("query", {}).items() if not _is_page(text)}
        request["query"] = query
        if not query:
            del request["query"]
        file.notes.changed("check", "the file has none; the credentials are proved by the users")
        return request
    name, contact = next(iter(contacts.items()))
    file.notes.changed(
        "check",
        "the file has none; the credentials are proved by a search of the number 0. Where the CRM "
        "answers that with 404, write a better one",
    )
    found = _searched(contact["search"][0]["request"], name)
    return found if isinstance(found, dict) else {}


def _is_page(text: Any) -> bool:
    return isinstance(text, str) and text in {"{{.Page}}", "{{.Offset}}", "{{.Limit}}"}


def _searched(value: Any, module: str) -> Any:
    if isinstance(value, dict):
        return {key: _searched(item, module) for key, item in value.items()}
    if isinstance(value, str) and "{{" in value:
        said = {"Phone": '"0"', "Module": f"`{module.replace('`', '')}`"}
        return rewritten(value, lambda name, _, __: said.get(name, f".{name}"))
    return value
