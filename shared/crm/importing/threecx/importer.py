"""
The server-side CRM template of 3CX (``<Crm>``) → a template of ours, with a report of what was
taken, what is not the same, and what has to be written by hand.
"""

from __future__ import annotations

from typing import Any

from shared.crm.form.call_words import CALL_MAPS
from shared.crm.importing.finish import finished
from shared.crm.importing.naming import name_of
from shared.crm.importing.report import Imported, Notes
from shared.crm.importing.threecx.access import Access
from shared.crm.importing.threecx.contacts import Lookup
from shared.crm.importing.threecx.journal import journal_of
from shared.crm.importing.threecx.meanings import (
    Known,
    check_variables,
    create_variables,
    journal_variables,
    lookup_variables,
)
from shared.crm.importing.threecx.meanings import (
    text as text_of,
)
from shared.crm.importing.threecx.parameters import (
    Numbers,
    limits,
    read_settings,
)
from shared.crm.importing.threecx.paths import Paths
from shared.crm.importing.threecx.records import record_of
from shared.crm.importing.threecx.requests import request_of
from shared.crm.importing.threecx.scenarios import Scenario, chain_from, read_scenarios
from shared.crm.importing.threecx.steps import Steps, maker
from shared.crm.importing.threecx.words import Words
from shared.crm.importing.xml import Element, read_template
from shared.errors import BadSetting, ContractError

_MOST_CONTACTS = 20
_CREATE = ("createcontactrecord", "createcontactrecordfromclient")
_LEFT = (
    ("lookupbyemail", "callmesh finds contacts by number; there is no search by e-mail"),
    ("searchcontacts", "callmesh has no free search of contacts"),
    ("reportchat", "callmesh has no chats"),
    ("lookupfromcfd_", "routing rules of callmesh read a contact's fields by name, without it"),
    ("createcontactrecord", "another scenario makes new contacts already"),
)


def import_threecx(text: str | bytes, *, name: str | None = None) -> Imported:
    """
    *name*: of the template, else that of the file's ``Crm@Name``. Raises: BadSetting with line and
    column for what is no XML or no 3CX template, and for one without a lookup by number.
    """
    notes = Notes()
    root = read_template(text, "Crm", notes)
    try:
        return _Importer(root, notes).imported(name)
    except ContractError as error:
        raise BadSetting(f"the template cannot be imported: {error.message}") from None


class _Importer:
    def __init__(self, root: Element, notes: Notes) -> None:
        self._root = root
        self._notes = notes
        self._scenarios = read_scenarios(root, self._notes)
        self._done: list[Scenario] = []
        kinds = {s.request.get("ResponseType").lower() for s in self._scenarios}
        self._is_xml = "xml" in kinds and "json" not in kinds
        if "xml" in kinds and "json" in kinds:
            self._notes.left("Request@ResponseType", "a template reads JSON or XML, not both: JSON")
        self._paths = Paths(xml=self._is_xml)
        self._settings = read_settings(root, self._notes)
        self._numbers = Numbers.of(root)
        self._access = Access(self._settings, self._scenarios, self._paths, self._notes)

    def imported(self, name: str | None) -> Imported:
        title = self._root.get("Name")[:100] or "3CX template"
        self._access.read(self._root.first("Authentication"))
        self._done += self._access.used
        contacts, false_is_empty = self._contacts()
        journal = self._journal()
        made: dict[str, Any] = {
            "schema": 2,
            "name": name or name_of([title], "imported"),
            "title": title,
            "quality": "declared",
            "sources": [f"imported from 3CX XML {title}"],
            "parameters": self._settings.parameters,
            "credentials": self._settings.credentials,
            "auth": self._access.auth,
            "limits": limits(self._root, self._notes),
            "answer": "xml" if self._is_xml else None,
            "values": {"false_is_empty": True} if false_is_empty else {},
            "phone_formats": self._numbers.phone_formats(self._notes),
            "contacts": contacts,
            "check": self._check(),
            "journal": journal,
        }
        words = repr(made)
        made["maps"] = {n: dict(lines) for n, lines in CALL_MAPS.items() if f'"{n}"' in words}
        self._leave_rest()
        return finished(made, self._notes)

    # -- contacts ----------------------------------------------------------------------------

    def _contacts(self) -> tuple[dict[str, Any], bool]:
        firsts = [scenario for scenario in self._scenarios if not scenario.id]
        if not firsts:
            raise BadSetting(
                f"line {self._root.line}, column 1: the template has no scenario with an empty Id, "
                "which looks up a contact by its number over HTTP"
            )
        found: dict[str, Any] = {}
        false_is_empty = False
        known = self._access.known.having(lookup_variables())
        for first in sorted(firsts, key=self._order)[:_MOST_CONTACTS]:
            chain = chain_from(first, self._scenarios, self._notes)
            lookup = Lookup(chain, known, self._paths, self._notes)
            lookup.read()
            module, count = lookup.module, 1
            while module in found:
                count += 1
                module = f"{lookup.module}{count}"
            found[module] = lookup.contact
            false_is_empty = false_is_empty or lookup.false_is_empty
            self._done += chain
            self._notes.taken(first.place, f"contacts.{module}")
        self._first = min(firsts, key=self._order)
        if (create := self._create()) is not None:
            next(iter(found.values()))["create"] = create
        return found, false_is_empty

    def _order(self, scenario: Scenario) -> tuple[int, int]:
        order = scenario.element.get("EntityOrder")
        if order and not order.isascii():
            order = ""
        number = int(order[:6]) if order.isdigit() else 10**6
        return number, scenario.element.line

    def _create(self) -> dict[str, Any] | None:
        by_id = {scenario.id.lower(): scenario for scenario in reversed(self._scenarios)}
        first = next((by_id[name] for name in _CREATE if name in by_id), None)
        if first is None:
            return None
        chain = chain_from(first, self._scenarios, self._notes)
        self._done += chain
        known = self._access.known.having(create_variables(self._numbers.operand(".Phone")))
        known.in_texts = {"Number": text_of(".Phone")}
        steps, place = Steps(known, self._paths, self._notes), maker(chain)
        before = [steps.add(one, chain[at + 1 :]) for at, one in enumerate(chain[:place])]
        entry = chain[place]
        words = Words(steps.known, self._notes, entry.place)
        request = request_of(entry, words, when=steps.gates)
        contact_id = self._contact_id(steps, entry)
        for later in chain[place + 1 :]:
            self._notes.changed(later.place, "a new contact is not read again: left out")
        self._notes.taken(first.place, "contacts.*.create")
        return {
            **({"before": before} if before else {}),
            "request": request,
            "contact_id": contact_id,
        }

    def _contact_id(self, steps: Steps, entry: Scenario) -> str:
        named = [
            variable
            for kind in ("entityid", "contactid")
            if (variable := entry.variable(entry.outputs.get(kind, "").strip("[] "))) is not None
        ]
        wanted = [*named, *(v for v in entry.variables if v.path.lower().endswith("id"))]
        record = record_of(entry, self._paths, self._notes)
        for variable in [*wanted, *entry.variables]:
            if (path := steps.path(record, variable)) is not None:
                return path
        self._notes.changed(entry.place, "look where the new contact's id is: `contact_id` is id")
        return "id,data.id,result.id,result"

    # -- the rest ----------------------------------------------------------------------------

    def _journal(self) -> dict[str, Any] | None:
        first = next((s for s in self._scenarios if s.id.lower() == "reportcall"), None)
        if first is None:
            return None
        chain = chain_from(first, self._scenarios, self._notes)
        self._done += chain
        variables = journal_variables(self._numbers.operand(".Number"))
        known = self._access.known.having(variables)
        known.in_texts = {"Number": text_of(".Number")}
        made = journal_of(chain, known, self._paths, self._notes)
        self._notes.taken(first.place, "journal")
        return made

    def _check(self) -> dict[str, Any]:
        first = self._first
        known: Known = self._access.known.having(check_variables())
        made = request_of(first, Words(known, Notes(), first.place))
        made.pop("when", None)
        self._notes.changed(
            first.place,
            "`check` looks up a number that nobody has: name the cheapest request of the API",
        )
        return made

    def _leave_rest(self) -> None:
        for scenario in self._scenarios:
            if any(scenario is one for one in self._done):
                continue
            near = (what for begin, what in _LEFT if scenario.id.lower().startswith(begin))
            self._notes.left(scenario.place, next(near, "nothing leads to it; left out"))
