"""A Yeastar file as its importers see it: scenarios, parameters, and requests in our form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.crm.form.requests import Method
from shared.crm.importing.naming import HEADER_NAME
from shared.crm.importing.report import Notes
from shared.crm.importing.xml import Element
from shared.crm.importing.yeastar.bodies import folded, form_of, is_json, json_of
from shared.crm.importing.yeastar.words import NOTHING, Names, Renames

_METHODS = frozenset(Method)
#: Requests one after the other; the form's own limit.
MOST_STEPS = 10
_FORM = re.compile(r"urlencoded|form", re.IGNORECASE)


@dataclass(slots=True)
class Parameters:
    """Of a scenario, by folded names; the last of a name counts. *groups*: by their ``Father``."""

    plain: dict[str, Element] = field(default_factory=dict)
    groups: dict[str, dict[str, Element]] = field(default_factory=dict)

    def get(self, *names: str) -> str | None:
        """The value under the first of *names* that is there, stripped; None where none is."""
        for name in names:
            if (found := self.plain.get(folded(name))) is not None:
                return found.get("Value")
        return None

    def group(self, name: str) -> Iterator[Element]:
        return iter(self.groups.get(folded(name), {}).values())


@dataclass(slots=True)
class File:
    """One file on its way into our form."""

    information: Element
    notes: Notes
    names: Names
    #: What bodies are where a request does not say it: a Content-Type among the headers.
    bodies_are_forms: bool = False
    #: Folded names of a request's parameters that are no part of what is sent.
    no_parts: frozenset[str] = frozenset()

    def scenario(self, name: str) -> Element | None:
        for element in self.information.all("Scenarios", "Scenario"):
            if folded(element.get("Id")) == folded(name):
                return element
        return None

    def requests(self, name: str) -> list[Element]:
        """In the order of their ``Weight``."""
        scenario = self.scenario(name)
        found = list(scenario.all("Requests", "Request")) if scenario is not None else []
        return sorted(found, key=lambda request: _weight(request.get("Weight")))

    def parameters(self, name: str) -> Parameters:
        found = Parameters()
        scenario = self.scenario(name)
        for element in scenario.all("Parameters", "Parameter") if scenario is not None else ():
            father = folded(element.get("Father"))
            group = found.groups.setdefault(father, {}) if father else found.plain
            # Headers and fields keep their spelling: they are names of the CRM's and the author's.
            key = element.get("Name") if father else folded(element.get("Name"))
            if key in group:
                self.notes.changed(
                    at(element, name), f"{element.get('Name')} is there twice; the last one counts"
                )
            group[key] = element
        return found

    def is_on(self, switch: str, scenario: str) -> bool:
        """Whether the file has such requests and its switch is not off."""
        if not self.requests(scenario):
            return False
        if self.information.get(switch) == "0":
            self.notes.left(
                f"Information, {switch}",
                f"it is switched off (0), so scenario {scenario} is not taken",
            )
            return False
        return True

    def following(self, request: Element, place: str) -> Iterator[tuple[Element, str]]:
        """Those of ``Common`` that ``Next`` leads to, each with its place."""
        common = {element.get("Name"): element for element in self.requests("Common")}
        seen: set[str] = set()
        while name := next_of(request):
            at_next = f"{place}, Next {name[:40]}"
            if name in seen or name not in common or len(seen) >= MOST_STEPS:
                what = "it leads back to itself" if name in seen else "no such request in Common"
                self.notes.left(at_next, what if len(seen) < MOST_STEPS else "too many in a row")
                return
            seen.add(name)
            request = common[name]
            yield request, at_next

    # -- requests ------------------------------------------------------------------------------

    def request(
        self, element: Element, place: str, renames: Renames, *, also: Renames = NOTHING
    ) -> dict[str, Any] | None:
        """In our form. None, with a note, for one that cannot be made."""
        method = (element.get("Method") or "GET").upper()
        if method not in _METHODS:
            self.notes.left(place, f"there is no method {method[:20]}; use {', '.join(Method)}")
            return None
        url = self.url(element.get("URLFormat") or element.get("URL"), place, renames, also=also)
        if not url:
            self.notes.left(place, "a request without an address (URLFormat)")
            return None
        request: dict[str, Any] = {"method": method, "url": url}
        for parameter in element.all("Parameters", "Parameter"):
            if folded(parameter.get("Name")) in self.no_parts:
                continue
            self._add(request, element, parameter, place, {**renames, **also})
        if method == Method.GET:
            del request["method"]
        return request

    def url(
        self, source: str, place: str, renames: Renames, *, also: Renames = NOTHING
    ) -> str | None:
        source = self.names.scrubbed(source.strip(), place)
        return self.names.text(source, place, renames, also=also)

    def _add(
        self,
        request: dict[str, Any],
        element: Element,
        parameter: Element,
        place: str,
        renames: Renames,
    ) -> None:
        name, kind = parameter.get("Name"), folded(parameter.get("Type"))
        value = self.names.scrubbed(parameter.attributes.get("Value", ""), place)
        if kind == "body" or (not kind and folded(name) in {"data", "body"}):
            self._add_body(request, element.get("RequestEncoding"), value, place, renames)
        elif kind == "header" and folded(name) == "headers":
            self._add_headers(request, value, place, renames)
        elif kind == "header":
            self.header(request.setdefault("headers", {}), name, value, place, renames)
        elif kind in {"query", "urlquery", "querystring"}:
            if (text := self.names.text(value, place, renames)) is not None:
                request.setdefault("query", {})[name] = text
        else:
            self.notes.left(place, f"a parameter {name} of type {parameter.get('Type') or 'none'}")

    def _add_body(
        self, request: dict[str, Any], encoding: str, value: str, place: str, renames: Renames
    ) -> None:
        text = self.names.text(value, place, renames)
        if text is None or not text.strip():
            return
        if request["method"] == Method.GET:
            self.notes.changed(place, "a GET with a body: many servers do not read it")
        is_form = _FORM.search(encoding) if encoding else self.bodies_are_forms
        if is_form and (fields := form_of(text)):
            request["form"] = fields
        elif is_form:
            request |= {"body": text, "content_type": "application/x-www-form-urlencoded"}
        elif is_json(text):
            request["json_text"] = text
        else:
            self.notes.changed(place, "the body is no JSON; it is sent as it stands, unescaped")
            request |= {"body": text, "content_type": encoding or "application/json"}

    def _add_headers(
        self, request: dict[str, Any], value: str, place: str, renames: Renames
    ) -> None:
        """Headers as a JSON object, as follow-up requests have them."""
        found = json_of(value) if value.strip() else {}
        if not isinstance(found, dict):
            self.notes.left(place, "headers that are no JSON object")
            return
        for name, text in found.items():
            headers = request.setdefault("headers", {})
            self.header(headers, name, str(text), place, renames)

    def header(
        self, headers: dict[str, str], name: str, value: str, place: str, renames: Renames
    ) -> None:
        """A Content-Type and an Accept for JSON are sent anyway."""
        if not HEADER_NAME.fullmatch(name):
            self.notes.left(place, f"{name[:40]!r} is no name of a header")
            return
        wanted = folded(name) in {"contenttype", "accept"} and "json" in value.lower()
        if wanted or not value.strip():
            return
        if (text := self.names.text(value.strip(), place, renames)) is not None:
            headers[name] = text


def next_of(element: Element) -> str:
    return next((found for outputs in element.all("Outputs") if (found := outputs.get("Next"))), "")


def at(element: Element, *names: str) -> str:
    """``line 12: SearchContact, Request contacts``."""
    own = element.get("Name") or element.get("Id")
    what = f"{element.tag} {own}".strip()
    return f"line {element.line}: {', '.join([*filter(None, names), what])}"


def outputs_of(element: Element) -> dict[str, str]:
    """Name → path; those without a path are not mapped."""
    return {
        name: path
        for output in element.all("Outputs", "Output")
        if (name := output.get("Name")) and (path := output.get("Path"))
    }


def _weight(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,6}", text) else 0
