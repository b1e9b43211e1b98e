"""``ReportCall`` → the journal: the entry, its texts, the requests before and after it."""

from __future__ import annotations

from typing import Any

from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.meanings import Kind, Known
from shared.crm.importing.threecx.paths import Paths
from shared.crm.importing.threecx.records import record_of
from shared.crm.importing.threecx.requests import request_of, skipped
from shared.crm.importing.threecx.scenarios import Scenario
from shared.crm.importing.threecx.steps import Steps, maker
from shared.crm.importing.threecx.tree import Node, Variable, variables_in
from shared.crm.importing.threecx.words import Words
from shared.crm.language.text import compile_text

#: Names of a field that holds one line.
_SUBJECTS = frozenset({"subject", "title", "name", "summary", "topic", "headline"})
#: Where an answer says the id of what was made, in many APIs.
_ENTRY_ID = "id,data.id,result.id,result"
_ORDER = (
    "subject",
    "description",
    "contact",
    "before",
    "create",
    "entry_id",
    "after",
    "idempotent",
)
_NO_CONTACT = '(ne .ContactId "")'
_LONGEST = 60_000


def journal_of(chain: list[Scenario], known: Known, paths: Paths, notes: Notes) -> dict[str, Any]:
    """The journal, and the maps that it may use."""
    steps, place = Steps(known, paths, notes), maker(chain)
    before = [steps.add(one, chain[at + 1 :]) for at, one in enumerate(chain[:place])]
    texts = _Texts(steps.known)
    entry = chain[place]
    words = Words(steps.known, notes, entry.place)
    create = request_of(entry, words, texts=texts.replace, when=steps.gates)
    gate = skipped(entry, words)
    made: dict[str, Any] = {**texts.journal(notes, entry), "create": create}
    if before:
        made["before"] = before
    _needs_contact(made, create, notes, entry)
    variable = entry.variables[0] if entry.variables else None
    record_id = _entry_id(steps, entry) if variable is not None else None
    made["entry_id"] = record_id or _ENTRY_ID
    if record_id is None:
        notes.changed(
            entry.place,
            "a journal in 3CX does not read the answer: look where the entry's id is (`entry_id`)",
        )
    rest = chain[place + 1 :]
    if rest:
        after = Steps(steps.known, paths, notes, (*steps.gates, *([gate] if gate else [])))
        made["after"] = [after.add(one, rest[at + 1 :]) for at, one in enumerate(rest)]
    made["idempotent"] = True
    made = {name: made[name] for name in _ORDER if name in made}
    notes.changed(
        entry.place,
        "an entry whose answer was lost is sent again, and is there twice unless the CRM refuses "
        "repeats: write `find`, which asks for the Reference, and take `idempotent` out",
    )
    return made


def _entry_id(steps: Steps, entry: Scenario) -> str | None:
    return steps.path(record_of(entry, steps.paths, steps.notes), entry.variables[0])


def _needs_contact(
    made: dict[str, Any], create: dict[str, Any], notes: Notes, entry: Scenario
) -> None:
    """``[EntityId]==""`` in a SkipIf: entries of known contacts only."""
    if _NO_CONTACT.strip("()") in create.get("when", ""):
        made["contact"] = "yes"
        notes.taken(entry.at("Request@SkipIf"), "entries of known contacts only: `contact: yes`")


class _Texts:
    """
    The subject and the text of an entry. They stand apart from the request, so that a connection
    may have its own; the request names them.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self._subject = ""
        self._description = ""
        self._of_steps = {
            meaning.operand.removeprefix(".")
            for layer in known.layers
            for meaning in layer.values()
            if meaning.kind is Kind.TAKEN
        }

    def replace(self, key: str, nodes: list[Node], made: str) -> str:
        """The text itself, or the variable that stands for it."""
        if not self._speaks_of_call(nodes) or compile_text(made).names & self._of_steps:
            return made
        is_line = key.lower() in _SUBJECTS or any(_is_subject(node) for node in nodes)
        if is_line and self._subject in {"", made}:
            self._subject = made
            return "{{.Subject}}"
        if not is_line and self._description in {"", made}:
            self._description = made
            return "{{.Description}}"
        return made

    def _speaks_of_call(self, nodes: list[Node]) -> bool:
        for node in nodes:
            if _is_subject(node):
                return True
            for name in variables_in(node):
                meaning = self.known.find(name)
                if meaning is not None and meaning.kind is Kind.INLINE and name != "LineBreak":
                    return True
        return False

    def journal(self, notes: Notes, entry: Scenario) -> dict[str, str]:
        subject, description = self._subject, self._description
        if not subject:
            subject = "Call {{.Number}}"
            if not description:
                notes.left(entry.place, "no text of the entry was found: write the Reference in it")
        if description:
            description = f"{description[:_LONGEST]} ({{{{.Reference}}}})"
        elif self._subject:
            subject = f"{subject[:_LONGEST]} {{{{.Reference}}}}"
        if self._subject or self._description:
            notes.changed(
                entry.place,
                "the Reference of the call stands behind its text, so that the entry can be found",
            )
        return {"subject": subject, **({"description": description} if description else {})}


def _is_subject(node: Node) -> bool:
    return isinstance(node, Variable) and node.name.lower() == "subject"
