"""What an importer made → a template; parts that are none are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Imported, Notes
from shared.errors import BadSetting
from shared.faults import Path, faults_by_path

_ADDRESSES = {"url", "token_url", "authorize_url", "refresh_url", "page_url"}
#: A parameter with which an address begins, unless more of its host follows.
_BEGINS = re.compile(r"\{\{-?\s*\.(\w+)\s*\}\}(?=[/?]|\{\{|$)")
#: What a template may be without: a fault in it costs no more than itself.
_OPTIONAL = {"journal", "users", "follow_ups", "headers", "outcome", "logo", "auth", "limits"}
_OF_CONTACT = ("create", "page_url", "journal")
_LONGEST_FAULT = 1000


def finished(made: dict[str, Any], notes: Notes) -> Imported:
    """Without what is empty. Raises: BadSetting where it cannot do without a part that is none."""
    template = {key: value for key, value in made.items() if value not in (None, "", [], {})}
    _mark_addresses(template, notes)
    while faults := _faults(template):
        taken_out = [_take_out(template, path, what, notes) for path, what in faults]
        if not any(taken_out):
            shown = "\n".join(f"{'.'.join(path)}: {what}" for path, what in faults)
            raise BadSetting(f"what was imported is no template:\n{shown[:_LONGEST_FAULT]}")
    return Imported(template, notes.all)


def _faults(template: dict[str, Any]) -> list[tuple[list[str], str]]:
    try:
        Manifest.model_validate(template)
    except ValidationError as error:
        return [
            fault for path, what in faults_by_path(error, Manifest) for fault in _placed(path, what)
        ]
    return []


def _placed(path: Path, what: str) -> Iterator[tuple[list[str], str]]:
    """What is wrong with the whole template says where in its words."""
    if path:
        yield [str(part) for part in path], what
        return
    for fault in what.split("; "):
        place, _, words = fault.partition(": ")
        yield place.removeprefix("Value error, ").split("."), words or place


def _take_out(template: dict[str, Any], path: list[str], what: str, notes: Notes) -> bool:
    """Whether there was such a part, and is a template without it."""
    key, rest = path[0], path[1:]
    if key in _OPTIONAL:
        within, place = template, key
    elif key == "contacts":
        contacts: dict[str, Any] = template["contacts"]
        where = f"{'.'.join(rest)}."
        name = next((one for one in contacts if where.startswith(f"{one}.")), None)
        if name is None:
            return False
        part = next((one for one in _OF_CONTACT if one in rest and one in contacts[name]), "")
        within, key = (contacts[name], part) if part else (contacts, name)
        place = f"contacts.{name}.{part}".rstrip(".")
    else:
        return False
    if key not in within or (within is template.get("contacts") and len(within) == 1):
        return False
    del within[key]
    notes.left(place, f"{what[:_LONGEST_FAULT]}; write it by hand")
    return True


def _mark_addresses(template: dict[str, Any], notes: Notes) -> None:
    """A parameter with which an address begins is one."""
    begins = {found[1] for text in _addresses(template) if (found := _BEGINS.match(text))}
    for parameter in template.get("parameters", ()):
        is_text = parameter.keys() <= {"name", "title", "help", "default"}
        if parameter["name"] not in begins or not is_text:
            continue
        if parameter.get("default", "https://").startswith("https://"):
            parameter["kind"] = "url"
        else:
            place = f"Parameter {parameter['name']}"
            notes.changed(place, "an address begins with https://: look at its default")


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _ADDRESSES and isinstance(item, str):
                yield item
            else:
                yield from _addresses(item)
    elif isinstance(value, list):
        for item in value:
            yield from _addresses(item)
