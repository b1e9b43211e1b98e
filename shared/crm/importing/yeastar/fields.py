"""The fields that Yeastar asks an administrator for → parameters and credentials."""

from __future__ import annotations

from typing import Any

from shared.crm.importing.xml import Element
from shared.crm.importing.yeastar.bodies import folded
from shared.crm.importing.yeastar.requests import File, Parameters, at
from shared.crm.importing.yeastar.words import SECRET, Names

AUTH = "AuthMethod"
_TEXT_EDITORS = frozenset({"", "string", "text", "input", "textinput", "password", "passwordinput"})


class Fields:
    """The set-up form: each name once, in the file's order."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.parameters: dict[str, dict[str, Any]] = {}
        self.credentials: dict[str, dict[str, Any]] = {}

    def read(self, file: File, given: Parameters) -> None:
        for element in given.group("CustomFieldList"):
            self._add(file, element)
        for scenario in ("CreateNewTicket", "CallJournal", "CreateNewContact"):
            for element in file.parameters(scenario).group("CustomScenarioParameter"):
                name = self._names.field(element.get("Name"))
                title = element.get("Title") or element.get("Name")
                text = {"name": name, "title": title, "default": element.get("Value")}
                self.parameters.setdefault(name, text)

    def _add(self, file: File, element: Element) -> None:
        raw = element.get("Name") or element.get("Key")
        if not raw:
            file.notes.left(at(element, AUTH), "a field without a name")
            return
        name = self._names.field(raw)
        place = at(element, AUTH)
        if name != raw:
            file.notes.changed(place, f"the field is called {name} here")
        made: dict[str, Any] = {"name": name, "title": element.get("Title") or raw}
        if element.get("Description"):
            made["help"] = element.get("Description")
        kind, value = folded(element.get("Editor")), element.get("Value")
        if "password" in kind or SECRET.search(raw) or raw == "client_id":
            if value:
                self._names.secret(raw, place)
            self.credentials[name] = made
            return
        listed = element.get("Options") or element.get("ListValues")
        if kind not in _TEXT_EDITORS:
            listed, value = (listed, value) if listed else (value, "")
        options = [option.strip() for option in listed.split(",") if option.strip()]
        if options:
            made["options"] = options
        if "{{" in value:
            file.notes.left(place, "a value with placeholders; it has to be typed in")
        elif value or (kind in _TEXT_EDITORS and "Value" in element.attributes):
            made["default"] = value
        self.parameters[name] = made

    def complete(self) -> None:
        """What texts name and no field gives, and what stood in the file as a secret."""
        known = self.parameters.keys() | self.credentials.keys()
        for name in self._names.secrets.values():
            if name not in known:
                self.need(name)
        for raw, name in self._names.missing.items():
            if name in known:
                continue
            self._names.notes.changed(
                "variables", f".{raw} is given nowhere in the file; it is a parameter now"
            )
            self.parameters[name] = {"name": name, "title": raw}

    def leave_unused(self) -> None:
        """What no text names would be asked for in vain."""
        for fields in (self.parameters, self.credentials):
            for name in [name for name in fields if name not in self._names.used]:
                self._names.notes.left("CustomFieldList", f"{name}: no text names it")
                del fields[name]

    def need(self, name: str) -> None:
        """A credential, where there is no field of the name; it is used where no text names it."""
        self._names.used.add(name)
        if name not in self.parameters and name not in self.credentials:
            title = name.replace("_", " ").capitalize()
            self.credentials[name] = {"name": name, "title": title}
