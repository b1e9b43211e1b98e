"""What the variables of 3CX are in ours: those of a lookup, of a new contact, of a journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from shared.crm.form.access import SIGNED_VARIABLES
from shared.crm.form.call_words import THREECX, Form, Word
from shared.crm.form.contacts import SEARCH_VARIABLES
from shared.crm.form.journal import JOURNAL_VARIABLES
from shared.crm.form.manifest import CONTACT_VARIABLES, CREATE_VARIABLES
from shared.crm.form.requests import PAGE_VARIABLES
from shared.crm.importing.threecx.tree import Literal, Node
from shared.errors import ContractError

_MOST_WORK = 50_000
_RESERVED = (
    SEARCH_VARIABLES
    | JOURNAL_VARIABLES
    | CONTACT_VARIABLES
    | CREATE_VARIABLES
    | SIGNED_VARIABLES
    | PAGE_VARIABLES
    | {"EntryId", "AccessToken", "Since"}
)


class Kind(Enum):
    TEXT = auto()
    #: Out of an answer: may be a number or a boolean, which 3CX writes as ``False``.
    TAKEN = auto()
    SWITCH = auto()
    MOMENT = auto()
    DURATION = auto()
    #: A text of the template's own, with variables: it stands where it is used.
    INLINE = auto()


_KINDS = {
    Form.PLAIN: (Kind.TEXT, False),
    Form.MOMENT: (Kind.MOMENT, False),
    Form.MOMENT_UTC: (Kind.MOMENT, True),
    Form.DURATION: (Kind.DURATION, False),
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """*operand* as it stands in our expressions; *changed*: what is not the same."""

    kind: Kind
    operand: str = ""
    utc: bool = False
    inline: Node | None = None
    changed: str = ""


def text(operand: str, changed: str = "") -> Meaning:
    return Meaning(Kind.TEXT, operand, changed=changed)


def taken(name: str) -> Meaning:
    return Meaning(Kind.TAKEN, f".{own_name(name)}")


def inline(node: Node, changed: str = "") -> Meaning:
    return Meaning(Kind.INLINE, inline=node, changed=changed)


def own_name(name: str) -> str:
    """A variable's name in ours: not one that means something here already."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    if not plain or plain[0].isdigit() or plain in _RESERVED:
        plain = f"Crm{plain}"
    return plain[:64]


class TooMuch(ContractError):
    """Settings that name settings that name settings: a small file that makes huge texts."""


@dataclass(slots=True)
class Work:
    """Parts of texts that one import has looked at; real files have some hundreds."""

    done: int = 0

    def spend(self) -> None:
        """Raises: TooMuch."""
        self.done += 1
        if self.done > _MOST_WORK:
            raise TooMuch("the texts of this file are too large")


@dataclass(slots=True)
class Known:
    """
    Variables by name, the first of *layers* that has it. *used* is what was asked for; *in_texts*
    mean something else in the texts of settings.
    """

    layers: tuple[Mapping[str, Meaning], ...]
    used: set[str] = field(default_factory=set)
    in_texts: Mapping[str, Meaning] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def find(self, name: str) -> Meaning | None:
        """Capitals matter only where two names differ by nothing else."""
        for layer in self.layers:
            if name in layer:
                self.used.add(name)
                return layer[name]
        for layer in self.layers:
            near = [other for other in layer if other.lower() == name.lower()]
            if len(near) == 1:
                self.used.add(near[0])
                return layer[near[0]]
        return None

    def having(self, more: Mapping[str, Meaning]) -> Known:
        return Known((more, *self.layers), self.used, self.in_texts, self.work)

    def of_texts(self) -> Known:
        return Known((self.in_texts, *self.layers), self.used, work=self.work)


def lookup_variables() -> dict[str, Meaning]:
    return {"Number": text(".Phone"), "CallerNumber": text(".Phone")}


def check_variables() -> dict[str, Meaning]:
    """A number that nobody has."""
    return {name: inline(Literal("0000000")) for name in ("Number", "CallerNumber")}


def create_variables(number: str) -> dict[str, Meaning]:
    """*number*: the operand that writes a number as the CRM wants it."""
    by_us = "callmesh's own rules say which callers are added"
    return {
        "Number": text(number),
        "FirstName": text(".FirstName"),
        "LastName": text(".LastName"),
        "Name": text(".DisplayName"),
        "Email": text(".Email"),
        "CompanyName": text(".Company"),
        "CallDirection": inline(Literal("Inbound"), by_us),
        "CallType": inline(Literal("Inbound"), by_us),
    }


def journal_variables(number: str) -> dict[str, Meaning]:
    """*number*: as of :func:`create_variables`."""
    return {
        **{name: _of_word(word) for name, word in THREECX.items()},
        "Number": text(number),
        "LineBreak": inline(Literal("\n")),
    }


def _of_word(word: Word) -> Meaning:
    kind, utc = _KINDS[word.form]
    return Meaning(kind, word.operand, utc=utc, changed=word.changed)
