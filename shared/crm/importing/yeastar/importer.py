"""
Templates of Yeastar's P-series (XML, firmware 83.18 and 83.21) → ours.

What the file says and our form cannot is left out with a note; where the vendor's own engine would
mix up records, write a value unescaped or print ``<no value>``, ours does not.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Imported, Notes, checked, name_of, to_yaml
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
from shared.crm.importing.yeastar.xml import read_xml
from shared.errors import BadSetting
from shared.faults import faults_by_path

__all__ = ["export_yeastar", "import_yeastar", "to_yaml"]

#: A number as it came, as Yeastar sends it, then what CRMs store most.
PHONE_FORMATS = ["digits", "e164", "national_digits"]
_PROVIDERS = {"", "crm", "helpdesk"}
_SCENARIOS = {
    *("authmethod", "synccontactauto", "searchcontact", "userassociation", "createnewcontact"),
    *("createnewticket", "calljournal", "common"),
}
_ADDRESSES = {"url", "token_url", "authorize_url", "refresh_url", "page_url"}
_BEGINS = re.compile(r"\{\{-?\s*\.(\w+)\s*\}\}(?=/|\?|$)")
_LOGO = re.compile(r"data:image/(?:png|jpe?g);base64,[A-Za-z0-9+/=\s]+")
_LONGEST_LOGO = 700_000
_MOST_CONCURRENT = 100
#: What a template is one without, in this order: a fault in it costs no more than itself.
_OPTIONAL = ("journal", "users", "follow_ups", "headers", "outcome", "logo", "auth")


def import_yeastar(text: str | bytes, *, name: str | None = None) -> Imported:
    """
    *name*: of the template, else it is made of the file's. Raises: BadSetting with line and column
    for what is no XML, and for what is no template or has no contacts that can be searched.
    """
    document = read_xml(text)
    root = document.root
    if root.tag != "Information":
        hint = "; this is a template of 3CX" if root.tag == "Crm" else ""
        raise BadSetting(
            f"line {root.line}, column 1: a template of Yeastar begins with <Information>, not "
            f"<{root.tag[:40]}>{hint}"
        )
    notes = Notes()
    for line in document.repaired:
        notes.changed(f"line {line}", "a bare & was read as &amp;; write it so")
    file = File(document, notes, Names(notes), no_parts=follow.NO_PARTS)
    template = _template(file, name)
    _add_kinds(template)
    for _ in _OPTIONAL:
        if not _drop_faulty(template, notes):
            break
    checked(template)
    return Imported(template, notes.all)


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
    return {key: value for key, value in wanted.items() if value not in (None, "", [], {})}


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


def _add_kinds(template: dict[str, Any]) -> None:
    """A parameter that begins an address is one."""
    begins = {
        found[1] for text in _addresses(template) if (found := _BEGINS.match(text)) is not None
    }
    for parameter in template.get("parameters", ()):
        if parameter["name"] in begins and "options" not in parameter:
            parameter["kind"] = "url"


def _addresses(value: Any) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _ADDRESSES and isinstance(item, str):
                found.append(item)
            else:
                found += _addresses(item)
    elif isinstance(value, list):
        for item in value:
            found += _addresses(item)
    return found


def _drop_faulty(template: dict[str, Any], notes: Notes) -> bool:
    """Takes faulty parts out, as far as there is a template without them; whether it did."""
    try:
        Manifest.model_validate(template)
    except ValidationError as error:
        dropped = False
        for path, what in faults_by_path(error, Manifest):
            places = [str(part) for part in path] or what.partition(":")[0].split(".")
            within, key = template, places[0]
            if key == "contacts":
                within = template["contacts"]
                key = next((name for name in within if name in places), "")
            elif key not in _OPTIONAL:
                continue
            if key in within and (within is template or len(within) > 1):
                del within[key]
                notes.left(".".join(places[:2]), f"{what}; write it by hand")
                dropped = True
        return dropped
    return False
