"""Lookups of a 3CX template → contact types with their searches; new contacts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.expressions import read_text
from shared.crm.importing.threecx.fallbacks import is_empty, is_full, says_false
from shared.crm.importing.threecx.meanings import Known, Meaning, own_name, taken, text
from shared.crm.importing.threecx.paths import Condition, Paths
from shared.crm.importing.threecx.records import Record, first_id, record_of
from shared.crm.importing.threecx.requests import request_of
from shared.crm.importing.threecx.scenarios import Scenario, tests_in
from shared.crm.importing.threecx.tree import (
    Choose,
    Join,
    Method,
    Node,
    Variable,
    constant,
    variables_in,
)
from shared.crm.importing.threecx.words import Words
from shared.errors import BadSetting, ContractError

_PHONES = (
    "phonebusiness",
    "phonebusiness2",
    "phonemobile",
    "phonemobile2",
    "phonehome",
    "phonehome2",
    "phoneother",
    "phoneassistant",
    "faxbusiness",
    "faxhome",
)
_FIELDS = {
    "firstname": "first_name",
    "lastname": "last_name",
    "companyname": "company",
    "email": "email",
}
_ORDER = ("map", "page_url", "search")
#: Names that files use for the id without saying where it is.
_ID_NAMES = frozenset({"id", "contactid", "entityid"})
_IDS = ("entityid", "contactid")
_KNOWN = frozenset({*_PHONES, *_FIELDS, *_IDS, "contacturl", "entitytype"})


@dataclass(slots=True)
class Lookup:
    """A chain of scenarios that ends in contacts, and what becomes of it."""

    chain: list[Scenario]
    known: Known
    paths: Paths
    notes: Notes
    contact: dict[str, Any] = field(default_factory=dict)
    module: str = "Contacts"
    false_is_empty: bool = False
    _records: list[Record] = field(default_factory=list, init=False)
    _then: list[dict[str, Any]] = field(default_factory=list, init=False)

    def read(self) -> None:
        """Fills *contact* and *module*."""
        self._records = [record_of(scenario, self.paths, self.notes) for scenario in self.chain]
        self._then = self._search(self._records)
        self._map()
        self.contact = {name: self.contact[name] for name in _ORDER if name in self.contact}

    # -- the requests ------------------------------------------------------------------------

    def _search(self, records: list[Record]) -> list[dict[str, Any]]:
        """The further requests, so that one can be told to keep the record before."""
        first = self.chain[0]
        search: dict[str, Any] = {
            "request": request_of(first, Words(self.known, self.notes, first.place)),
            "records": self.paths.records(records[0].home),
        }
        known, then = self.known, list[dict[str, Any]]()
        for place, scenario in enumerate(self.chain[1:], start=1):
            known = known.having(self._taken(records[place - 1]))
            known.used.clear()
            words = Words(known, self.notes, scenario.place)
            step: dict[str, Any] = {"request": request_of(scenario, words)}
            takes = self._takes(records[:place], then, known)
            if takes:
                step = {"take": takes, **step}
            step["records"] = self.paths.records(records[place].home)
            then.append(step)
        if then:
            search["then"] = then
        if not search["records"]:
            del search["records"]
        self.contact["search"] = [search]
        return then

    def _taken(self, record: Record) -> dict[str, Meaning]:
        made = {variable.name: taken(variable.name) for variable in record.scenario.variables}
        ids = first_id(record.scenario)
        if ids is not None and "id" not in {name.lower() for name in made}:
            what = f"there is no variable Id: taken for {ids.name}"
            made["Id"] = replace(taken(ids.name), changed=what)
        return made

    def _takes(
        self, records: list[Record], then: list[dict[str, Any]], known: Known
    ) -> dict[str, str]:
        """What this request uses of the record right before it; of those before, that one took."""
        found: dict[str, str] = {}
        for place, record in reversed(list(enumerate(records))):
            for name in sorted(known.used):
                variable = record.scenario.variable(name)
                if variable is None and name == "Id":
                    variable = first_id(record.scenario)
                if variable is None or own_name(variable.name) in found:
                    continue
                path = record.noted_path(variable)
                if path is None:
                    continue
                if place == len(records) - 1:
                    found[own_name(variable.name)] = path
                else:
                    then[place].setdefault("take", {})[own_name(variable.name)] = path
        return found

    # -- the outputs -------------------------------------------------------------------------

    def _map(self) -> None:
        last, outputs = self._records[-1], self.chain[-1].outputs
        mapping: dict[str, Any] = {"id": self._id(outputs)}
        mapping["id"] = self._accepted(last, mapping["id"])
        for kind, name in _FIELDS.items():
            if kind in outputs and (path := self._output(kind, outputs[kind])):
                mapping[name] = path
        phones = [
            path
            for kind in _PHONES
            if kind in outputs
            for path in [self._output(kind, outputs[kind], every=True)]
            if path
        ]
        phones += self._number_rules(last)
        if phones:
            mapping["phones"] = list(dict.fromkeys(phones))
        else:
            self.notes.left(self.chain[-1].place, "no output of a number: write `map.phones`")
        custom = self._page(outputs.get("contacturl", ""), mapping) | self._type(outputs)
        if custom:
            mapping["custom"] = custom
        self.contact["map"] = mapping
        for kind in sorted(set(outputs) - _KNOWN):
            self.notes.left(self.chain[-1].at(f"Output {kind}"), "a card has no such part")

    def _id(self, outputs: Any) -> str:
        for kind in _IDS:
            if kind in outputs and (path := self._output(kind, outputs[kind])):
                return path
        last = self._records[-1]
        variable = first_id(last.scenario)
        path = last.noted_path(variable) if variable is not None else None
        self.notes.changed(
            self.chain[-1].place,
            f"no output EntityId or ContactID: `map.id` is {path or 'id'}; look whether it is right",
        )
        return path or "id"

    def _accepted(self, record: Record, path: str) -> str:
        """*path* under the conditions of the rules."""
        tests: list[Condition] = []
        scenario = record.scenario
        for rule, test in tests_in(scenario.rules, record.home, scenario.at("Rules"), self.notes):
            if rule.kind == "number":
                continue
            if test.equals is None and self.paths.value(test.names) == path:
                continue
            tests.append(test)
        for before in self._records[:-1]:
            if any(rule.kind == "equals" for rule in before.scenario.rules):
                self.notes.changed(
                    before.scenario.at("Rules"), "not checked before the next request is sent"
                )
        return self.paths.of_record(path, tests)

    def _number_rules(self, record: Record) -> list[str]:
        rules = tuple(rule for rule in record.scenario.rules if rule.kind == "number")
        return [
            self.paths.value(test.names, every=True)
            for _, test in tests_in(rules, record.home, record.scenario.at("Rules"), self.notes)
        ]

    def _output(self, kind: str, source: str, *, every: bool = False) -> str | None:
        place = self.chain[-1].at(f"Output {kind}")
        try:
            node = read_text(source)
            if constant(node) is not None:
                if source.strip():
                    self.notes.left(place, "always the same text: a card shows what a record says")
                return None
            return ",".join(dict.fromkeys(self._paths_of(node, every=every)))
        except (BadSetting, ContractError) as error:
            self.notes.left(place, f"{error.message}; write its path by hand")
            return None

    def _paths_of(self, node: Node, *, every: bool) -> list[str]:
        """Alternatives: ``IIf([A]=="",[B],[A])`` is ``A`` and, where it is empty, ``B``."""
        match node:
            case Variable(name):
                return [self._path_of(name, every=every)]
            case Join((only,)):
                return self._paths_of(only, every=every)
            case Method(target, name, _) if name.lower() in {"tostring", "trim"}:
                return self._paths_of(target, every=every)
            case Choose(condition, other, first) if is_empty(condition, first):
                return self._both(first, other, every=every, has_false=says_false(condition))
            case Choose(condition, first, other) if is_full(condition, first):
                return self._both(first, other, every=every, has_false=says_false(condition))
            case Join(parts):
                named = [part for part in parts if constant(part) is None]
                if len(named) == 1:
                    self.notes.changed(self.chain[-1].place, "the text around a value is left out")
                    return self._paths_of(named[0], every=every)
        raise ContractError("a card shows what one path finds, not a text that is put together")

    def _both(self, first: Node, other: Node, *, every: bool, has_false: bool) -> list[str]:
        found = self._paths_of(first, every=every)
        if has_false:
            self.false_is_empty = True
            found = [f"#({path}!=false).{path}" if path.isidentifier() else path for path in found]
        if constant(other) is None:
            found += self._paths_of(other, every=every)
        return found

    def _path_of(self, name: str, *, every: bool = False) -> str:
        """Raises: ContractError."""
        found = [(r, r.scenario.variable(name)) for r in reversed(self._records)]
        if name.lower() in _ID_NAMES:
            found += [(r, first_id(r.scenario)) for r in reversed(self._records)]
        for record, variable in found:
            if variable is None:
                continue
            if record is not self._records[-1]:
                self._keep_from(record)
            return record.path(variable, every=every)
        raise ContractError(f"[{name}] is no variable of these scenarios")

    def _keep_from(self, record: Record) -> None:
        """The fields of a record before are needed in the last one."""
        place = self._records.index(record)
        for step in self._then[place:]:
            step["merge"] = True
        self.notes.changed(
            record.scenario.place,
            "its fields are kept under those of the next answer: one of the same name is the later",
        )

    # -- pages and types ---------------------------------------------------------------------

    def _page(self, source: str, mapping: dict[str, Any]) -> dict[str, str]:
        """The page's address, and the custom values that it is made of."""
        place = self.chain[-1].at("Output ContactUrl")
        if not source.strip():
            return {}
        words = Words(self.known, self.notes, place)
        node = words.read(source)
        if node is None:
            return {}
        if isinstance(node, Variable) and self._is_ours(node.name):
            path = self._output("ContactUrl", source)
            if path:
                mapping["page"] = path
            return {}
        custom: dict[str, str] = {}
        meanings: dict[str, Meaning] = {}
        for name in dict.fromkeys(variables_in(node)):
            if not self._is_ours(name):
                continue
            path = self._path_of(name)
            if path == mapping["id"] or mapping["id"].endswith(f").{path}"):
                meanings[name] = text(".ContactId")
            else:
                custom[own_name(name)] = path
                meanings[name] = text(f".{own_name(name)}")
        page = Words(self.known.having(meanings), self.notes, place).of_node(node)
        if page:
            self.contact["page_url"] = page
        return custom

    def _is_ours(self, name: str) -> bool:
        try:
            self._path_of(name)
        except ContractError:
            return False
        return True

    def _type(self, outputs: Any) -> dict[str, str]:
        source = outputs.get("entitytype", "")
        entity = self.chain[0].element.get("EntityId") or self.chain[-1].element.get("EntityId")
        try:
            fixed = constant(read_text(source)) if source else ""
        except BadSetting:
            fixed = ""
        self.module = (fixed or entity or "Contacts").strip()[:60] or "Contacts"
        if source and fixed is None and (path := self._output("EntityType", source)):
            return {"EntityType": path}
        return {}
