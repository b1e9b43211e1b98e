"""
A template's text → its own words and the tokens between ``{{`` and ``}}``. The first ``}}``
outside of quotes closes, so ``{{.Seconds}}}}`` ends in two braces of the text's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from shared.errors import ContractError

_BLANK = " \t\r\n"
#: What may stand right behind a variable, a word, a number or a text.
_ENDS = _BLANK + "|()}"
_TRIMS = tuple(f"-{blank}" for blank in _BLANK)
_LONGEST_NUMBER = 40
_LONGEST_SHOWN = 30

_TOKEN = re.compile(
    r"""
      \.(?P<variable>[^\W\d]\w*)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<symbol>[()|])
    | (?P<quoted> "[^"\\]*(?:\\.[^"\\]*)*" | '[^'\\]*(?:\\.[^'\\]*)*' | `[^`]*` )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(f"[{_BLANK}]")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
_HINTS = {
    "$": "a template has no variables of its own ($x); name a given one: {{.Name}}",
    ".": "the dot alone is nothing here; name a variable: {{.Name}}",
    ":": "nothing can be assigned in a template",
    "=": "nothing can be assigned in a template; compare by eq: {{if eq .A .B}}",
    '"': "a text in quotes is never closed",
    "'": "a text in quotes is never closed",
    "`": "a text in quotes is never closed",
}


class Kind(Enum):
    VARIABLE = auto()
    CONSTANT = auto()
    WORD = auto()
    SYMBOL = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """*value*: the name, the constant itself, the word, or one of ``( ) |``."""

    kind: Kind
    value: Any
    at: int


@dataclass(frozen=True, slots=True)
class Words:
    """What the template itself says."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between ``{{`` and ``}}``; no tokens are a comment."""

    tokens: tuple[Token, ...]
    at: int


def fault(source: str, at: int, what: str) -> ContractError:
    """Where, from 1, and what is wrong there."""
    line = source.count("\n", 0, at) + 1
    column = at - source.rfind("\n", 0, at)
    return ContractError(f"line {line}, column {column}: {what}")


def read_parts(source: str) -> Iterator[Words | Action]:
    """Raises: ContractError with line and column."""
    at, trims = 0, False
    while (begin := source.find("{{", at)) >= 0:
        inside = begin + 2
        trims_left = source.startswith(_TRIMS, inside)
        words = _trimmed(source[at:begin], left=trims, right=trims_left)
        if words:
            yield Words(words)
        action = _ActionReader(source, begin, inside + 2 * trims_left)
        yield action.read()
        at, trims = action.at, action.trims_right
    words = _trimmed(source[at:], left=trims, right=False)
    if words:
        yield Words(words)


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip(_BLANK) if left else text
    return text.rstrip(_BLANK) if right else text


class _ActionReader:
    def __init__(self, source: str, begin: int, inside: int) -> None:
        self._source = source
        self._begin = begin
        self.at = inside
        self.trims_right = False

    def read(self) -> Action:
        tokens: list[Token] = []
        if self._comment():
            return Action((), self._begin)
        while not self._closes():
            tokens.append(self._token())
        if not tokens:
            raise fault(self._source, self._begin, "nothing stands between {{ and }}")
        return Action(tuple(tokens), self._begin)

    def _comment(self) -> bool:
        self._skip()
        if not self._source.startswith("/*", self.at):
            return False
        end = self._source.find("*/", self.at + 2)
        if end < 0:
            raise fault(self._source, self.at, "a comment is never closed: */")
        self.at = end + 2
        if not self._closes():
            raise fault(self._source, self.at, "a comment stands alone: {{/* ... */}}")
        return True

    def _closes(self) -> bool:
        self._skip()
        source = self._source
        if source.startswith("}}", self.at):
            self.at += 2
            return True
        if source.startswith("-}}", self.at) and source[self.at - 1] in _BLANK:
            self.at += 3
            self.trims_right = True
            return True
        if self.at >= len(source):
            raise fault(source, self._begin, "{{ is never closed")
        return False

    def _skip(self) -> None:
        while self.at < len(self._source) and self._source[self.at] in _BLANK:
            self.at += 1

    def _token(self) -> Token:
        source, at = self._source, self.at
        found = _TOKEN.match(source, at)
        if found is None or found.lastgroup is None:
            raise self._unreadable()
        self.at = found.end()
        text = found[found.lastgroup]
        if found.lastgroup == "symbol":
            return Token(Kind.SYMBOL, text, at)
        if found.lastgroup == "variable" and source.startswith(".", self.at):
            raise fault(source, at, f"a variable has no parts: .{text[:_LONGEST_SHOWN]} ends here")
        if source[self.at : self.at + 1] not in {*_ENDS, ""}:
            raise self._unreadable()
        if found.lastgroup == "variable":
            return Token(Kind.VARIABLE, text, at)
        if found.lastgroup == "word":
            return Token(Kind.WORD, text, at)
        if found.lastgroup == "number":
            return Token(Kind.CONSTANT, self._number(text, at), at)
        return Token(Kind.CONSTANT, self._unquoted(text, at), at)

    def _number(self, text: str, at: int) -> int | float:
        if len(text) > _LONGEST_NUMBER:
            raise fault(self._source, at, "a number has too many digits")
        return float(text) if "." in text else int(text)

    def _unquoted(self, text: str, at: int) -> str:
        inner = text[1:-1]
        if text[0] == "`" or "\\" not in inner:
            return inner

        def meant(found: re.Match[str]) -> str:
            if found[1] not in _ESCAPES:
                where = at + 1 + found.start()
                raise fault(
                    self._source,
                    where,
                    f"there is no {found[0]!r} in quotes; a backslash is \\\\, or use `...`",
                )
            return _ESCAPES[found[1]]

        return _ESCAPE.sub(meant, inner)

    def _unreadable(self) -> ContractError:
        source, at = self._source, self.at
        if source[at] not in "\"'`" and source.find("}}", at) < 0:
            return fault(source, self._begin, "{{ is never closed")
        hint = _HINTS.get(source[at])
        if hint is None:
            rest = source[at : at + _LONGEST_SHOWN].partition("}}")[0]
            hint = f"cannot read {_BLANKS.split(rest)[0]!r}"
        return fault(source, at, hint)
