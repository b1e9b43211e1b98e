"""The settings of a 3CX template → parameters and credentials; texts for the journal stay texts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Self

from shared.crm.form.patterns import check_pattern, fits
from shared.crm.importing.naming import ParameterNames
from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.expressions import read_text
from shared.crm.importing.threecx.meanings import Kind, Meaning, inline, text
from shared.crm.importing.threecx.tree import Join, Node, constant, variables_in
from shared.crm.importing.threecx.writing import own_words
from shared.crm.importing.xml import Element
from shared.errors import BadSetting

_MOST_PARAMETERS = 30
_MOST_CREDENTIALS = 20
_LONGEST_PATTERN = 200
#: Of what a pattern is tried on; so many characters a connection's parameter may have.
_LONGEST_DEFAULT = 500
_SECRET = re.compile(r"api.?key|access.?key|token|secret|passw|^pass$|^pwd$", re.IGNORECASE)
_ADDRESS = re.compile(r"ur[il]|address|endpoint|enabled", re.IGNORECASE)
#: Of a pattern that says the same in .NET and in RE2: no groups, no alternatives.
_SIMPLE_PATTERN = re.compile(
    r"(?:\\[dwsDWS.\-/+*?@]|\[\^?[^\[\]\\]*\]|[A-Za-z0-9_@/:, .-]|[*+?]|\{[0-9,]{1,7}\})*"
)
_DIGITS = re.compile("[0-9]{1,4}")
_ON = {"true": "yes", "false": "no", "1": "yes", "0": "no"}


@dataclass(slots=True)
class Settings:
    """*meanings*: by 3CX's names; *oauth*: the setting that connects, with what its element says."""

    parameters: list[dict[str, Any]] = field(default_factory=list)
    credentials: list[dict[str, Any]] = field(default_factory=list)
    meanings: dict[str, Meaning] = field(default_factory=dict)
    oauth: Element | None = None


def read_settings(root: Element, notes: Notes) -> Settings:
    return _Reader(notes).read(list(root.all("Parameters", "Parameter")))


class _Reader:
    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._made = Settings()
        self._names = ParameterNames()
        self._titles: dict[str, str] = {}
        self._all: set[str] = set()

    def read(self, elements: list[Element]) -> Settings:
        # Of one that is there twice the last one counts.
        last = {element.get("Name"): element for element in elements if element.get("Name")}
        self._all = {name.lower() for name in last}
        self._titles = {
            name: element.get("Title").rstrip(": ") or name for name, element in last.items()
        }
        for name, element in last.items():
            self._one(name, element)
        return self._made

    def _one(self, name: str, element: Element) -> None:
        place = f"Parameter {name}, line {element.line}"
        kind = element.get("Type").lower() or "string"
        if kind == "oauth":
            self._made.oauth = element
            return
        default = self._default(name, element, place) if kind == "string" else None
        if default is not None and any(
            variable.lower() not in self._all for variable in variables_in(default)
        ):
            self._made.meanings[name] = inline(default)
            self._notes.changed(
                place,
                "its text speaks of the call, so it stands in the template where it was used, and "
                "is no setting any more; a connection can have texts of its own for the journal",
            )
            return
        own = self._names.take(name)
        if kind == "password" or (kind == "string" and self._is_secret(name, element)):
            self._credential(name, own, element, place)
            return
        if len(self._made.parameters) >= _MOST_PARAMETERS:
            self._notes.left(place, f"a template has {_MOST_PARAMETERS} parameters at most")
            return
        self._parameter(name, own, kind, element, default)

    def _is_secret(self, name: str, element: Element) -> bool:
        if _ADDRESS.search(name) or element.get("ListValues"):
            return False
        return bool(_SECRET.search(name) or _SECRET.search(element.get("Title")))

    def _default(self, name: str, element: Element, place: str) -> Node | None:
        try:
            return read_text(element.get("Default"))
        except BadSetting as error:
            self._notes.left(place, f"its default cannot be read: {error.message}")
            return None

    # -- what it becomes ---------------------------------------------------------------------

    def _credential(self, name: str, own: str, element: Element, place: str) -> None:
        if len(self._made.credentials) >= _MOST_CREDENTIALS:
            self._notes.left(place, f"a template has {_MOST_CREDENTIALS} credentials at most")
            return
        self._made.credentials.append(
            {"name": own, "title": self._titles[name], **self._help(element)}
        )
        self._made.meanings[name] = text(f".{own}")
        if element.get("Type").lower() == "password":
            self._notes.taken(place, f"the credential {own}")
        else:
            self._notes.changed(place, f"looks like a secret, so it is the credential {own}")
        if element.get("Default"):
            self._notes.left(place, "a secret in a file is not taken; enter it at the connection")

    def _parameter(
        self, name: str, own: str, kind: str, element: Element, default: Node | None
    ) -> None:
        place = f"Parameter {name}, line {element.line}"
        made: dict[str, Any] = {"name": own, "title": self._titles[name], **self._help(element)}
        meaning = text(f".{own}")
        plain = element.get("Default")
        if kind == "boolean":
            made |= {"kind": "switch", "default": _ON.get(plain.lower(), "no")}
            meaning = Meaning(Kind.SWITCH, f".{own}")
        elif kind == "list":
            made |= self._options(element, place)
        else:
            made |= self._typed(kind, plain, default, place)
            made |= self._pattern(element, made.get("default"), place)
        if "default" not in made and element.get("Parent").lower() in self._all:
            # Of a part that may be switched off nothing can be needed.
            made["default"] = ""
            if made.get("kind") == "number":
                made["default"] = "0"
        self._made.parameters.append(made)
        self._made.meanings[name] = meaning
        self._notes.taken(place, f"the parameter {own}")

    def _help(self, element: Element) -> dict[str, str]:
        parent = element.get("Parent")
        return {"help": f"For: {self._titles[parent]}."} if parent in self._titles else {}

    def _options(self, element: Element, place: str) -> dict[str, Any]:
        values = re.split(r"[,;|]", element.get("ListValues"))
        options = list(dict.fromkeys(value.strip() for value in values if value.strip()))
        if not options:
            self._notes.left(place, "a list without values: write `options`")
            return {}
        default = element.get("Default")
        return {
            "options": options,
            **({"default": own_words(default)} if default in options else {}),
        }

    def _typed(self, kind: str, plain: str, default: Node | None, place: str) -> dict[str, Any]:
        if kind == "integer":
            is_whole = re.fullmatch(r"-?[0-9]{1,15}", plain) is not None
            return {"kind": "number", **({"default": plain} if is_whole else {})}
        if kind == "double":
            return {"pattern": "-?[0-9]{1,15}([.][0-9]{1,9})?", **_given(own_words(plain))}
        if kind not in {"string", "datetime"}:
            self._notes.changed(place, f"type {kind}: taken for a text")
        return _given(own_words(plain) if default is None else self._words(default, place))

    def _words(self, default: Node, place: str) -> str:
        """Of a text that names other settings at most: those before it may be used."""
        parts = default.parts if isinstance(default, Join) else (default,)
        return "".join(self._word(part, place) for part in parts)

    def _word(self, part: Node, place: str) -> str:
        fixed = constant(part)
        if fixed is not None:
            return own_words(fixed)
        names = list(variables_in(part))
        meaning = self._made.meanings.get(names[0]) if len(names) == 1 else None
        is_parameter = any(
            meaning and f".{p['name']}" == meaning.operand for p in self._made.parameters
        )
        if meaning is None or not is_parameter:
            self._notes.left(place, "a default may use the parameters before it, by their names")
            return ""
        return f"{{{{{meaning.operand}}}}}"

    def _pattern(self, element: Element, default: str | None, place: str) -> dict[str, str]:
        wanted = element.get("Validation")
        if not wanted:
            return {}
        pattern = wanted.removeprefix("^").removesuffix("$")
        if not _is_simple(pattern):
            self._notes.left(place, f"its Validation {wanted[:60]!r} is no simple pattern")
            return {}
        if default and len(default) > _LONGEST_DEFAULT:
            self._notes.left(place, "its default is too long to be tried with its Validation")
            return {}
        if default and "{{" not in default and not fits(pattern, default):
            self._notes.left(place, "its default does not satisfy its own Validation")
            return {}
        return {"pattern": pattern}


def _given(default: str) -> dict[str, str]:
    """An empty default in 3CX is none: the setting is needed."""
    return {"default": default} if default else {}


def _is_simple(pattern: str) -> bool:
    if not pattern or len(pattern) > _LONGEST_PATTERN or not _SIMPLE_PATTERN.fullmatch(pattern):
        return False
    try:
        check_pattern(pattern)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Numbers:
    """``<Number>``: how the CRM has numbers. *length* is empty, or of which digits the last."""

    place: str = "Number"
    prefix: str = ""
    length: str = ""

    @classmethod
    def of(cls, root: Element) -> Self:
        element = root.first("Number")
        if element is None:
            return cls()
        place = f"Number, line {element.line}"
        return cls(place, element.get("Prefix").lower(), element.get("MaxLength"))

    def phone_formats(self, notes: Notes) -> list[str]:
        """How a number is asked for."""
        named = {"off": ["e164_digits"], "plus": ["e164"], "zeros": ["zeros"]}
        formats = named.get(self.prefix, ["e164", "digits"])
        place = self.place
        if not self.length:
            notes.taken(place, f"phone_formats: {', '.join(formats)}")
            return formats
        if not _DIGITS.fullmatch(self.length):
            notes.changed(
                place,
                f"MaxLength {self.length[:40]} is a setting of the PBX; callmesh asks for whole "
                "numbers: write `phone_formats`, such as last:7, where the CRM has parts of numbers",
            )
            return formats
        digits = int(self.length)
        if not 4 <= digits <= 15:  # noqa: PLR2004  what `last:` takes
            notes.left(place, f"MaxLength {digits}: there is last:4 to last:15")
            return formats
        notes.changed(
            place,
            f"MaxLength {digits}: last:{digits} counts without the country code; numbers that have "
            "fewer digits are asked for whole",
        )
        whole = ["e164_digits"] if digits > 10 else []  # noqa: PLR2004  longer ones are cut with their country code
        return list(dict.fromkeys([f"last:{digits}", *whole, *formats]))

    def operand(self, variable: str) -> str:
        """How a number is written outside of a search, where we have it as E.164."""
        operand = {
            "off": f'(replace {variable} "+" "")',
            "zeros": f'(replace {variable} "+" "00")',
        }.get(self.prefix, variable)
        is_cut = _DIGITS.fullmatch(self.length) and int(self.length)
        return f"(last {operand} {int(self.length)})" if is_cut else operand


def limits(root: Element, notes: Notes) -> dict[str, int]:
    element = root.first("Connection")
    wanted = element.get("MaxConcurrentRequests") if element is not None else ""
    if not _DIGITS.fullmatch(wanted):
        return {}
    notes.taken("Connection@MaxConcurrentRequests", "limits.concurrent")
    return {"concurrent": max(1, min(100, int(wanted)))}
