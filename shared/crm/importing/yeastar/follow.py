"""
Requests that follow others (firmware 83.21). No file with them was seen: these are the names of
the form's fields, as attributes or as parameters of a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.crm.form.manifest import MOST_FOLLOW_UPS
from shared.crm.importing.naming import VARIABLE_NAME
from shared.crm.importing.xml import Element
from shared.crm.importing.yeastar.bodies import folded
from shared.crm.importing.yeastar.columns import parts_of
from shared.crm.importing.yeastar.requests import File, at, outputs_of
from shared.crm.importing.yeastar.words import CREATE, JOURNAL, NOTHING, SEARCH

_EVENTS = ("TriggeredEvent", "TriggerEvent", "Event", "Trigger")
_PATHS = ("ResponseFieldPath", "ResponsePath")
_TARGETS = ("TargetVariableName", "TargetVariable")
#: The first word that is in the event's name decides.
_WORDS = (
    ("journal", "journal"),
    ("calllog", "journal"),
    ("create", "create"),
    ("newcontact", "create"),
    ("user", "users"),
    ("auth", "auth"),
    ("token", "auth"),
    ("login", "auth"),
    ("contact", "search"),
    ("search", "search"),
)
_RENAMES = {
    "auth": NOTHING,
    "users": NOTHING,
    "search": {**SEARCH, "ContactId": ".ContactId", "ContactsId": ".ContactId"},
    "create": {**CREATE, "ContactId": ".ContactId"},
    "journal": JOURNAL,
}


def follow_ups_of(file: File) -> list[dict[str, Any]]:
    """What they take is a variable everywhere, so they are read before the texts of all else."""
    begun = [(element, place, _taken(file, element, place)) for element, place in _elements(file)]
    for _, __, take in begun:
        file.names.own |= {name: name for name in take}
    made: list[dict[str, Any]] = []
    for element, place, take in begun:
        after = _event(_given(element, _EVENTS))
        request = None
        if after is None:
            file.notes.left(place, "the event that it follows is none of ours")
        elif len(made) >= MOST_FOLLOW_UPS:
            file.notes.left(place, f"there are at most {MOST_FOLLOW_UPS}")
        else:
            request = file.request(element, place, _RENAMES[after])
        if request is None:
            # Texts that use them say so.
            for name in take:
                file.names.own.pop(name, None)
            continue
        made.append({"after": after, "request": request} | ({"take": take} if take else {}))
    return made


def _taken(file: File, element: Element, place: str) -> dict[str, str]:
    """Paths and names, paired by their order."""
    paths = parts_of(_given(element, _PATHS))
    targets = _given(element, _TARGETS).split(",")
    pairs = {n.strip(): path.strip() for n, path in zip(targets, paths, strict=False)}
    take = {name: path for name, path in {**outputs_of(element), **pairs}.items() if name and path}
    for name in [name for name in take if not VARIABLE_NAME.fullmatch(name)]:
        file.notes.left(place, f"{name[:40]} is no name of a variable")
        del take[name]
    return take


def _elements(file: File) -> Iterator[tuple[Element, str]]:
    for scenario in file.information.all("Scenarios", "Scenario"):
        name = scenario.get("Id")
        if "followup" in folded(name):
            for element in scenario.all("Requests", "Request"):
                yield element, at(element, name)


def _given(element: Element, names: tuple[str, ...]) -> str:
    """An attribute of the request or the value of one of its parameters."""
    wanted = {folded(name) for name in names}
    for name, value in element.attributes.items():
        if folded(name) in wanted:
            return value.strip()
    for parameter in element.all("Parameters", "Parameter"):
        if folded(parameter.get("Name")) in wanted:
            return parameter.get("Value")
    return ""


def _event(text: str) -> str | None:
    name = folded(text)
    return next((event for word, event in _WORDS if word in name), None)


#: Parameters of a follow-up that are no part of its request.
NO_PARTS = frozenset(folded(name) for name in (*_EVENTS, *_PATHS, *_TARGETS))
