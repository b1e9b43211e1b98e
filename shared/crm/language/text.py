"""
Text with placeholders: ``{{.Phone}}``, ``{{ .StartedAt | iso8601 }}``, ``{{.Kind | map "types"}}``.

A text that is exactly one placeholder keeps the value's type; anything else is text. Nothing is
guessed and nothing is run: names and functions are checked when the template is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from shared.crm.language.functions import FUNCTIONS, plain_text
from shared.errors import ContractError

_TOKEN = re.compile(
    r"""\s*(?:
      \.(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<pipe>\|)
    | (?P<function>[A-Za-z_][A-Za-z0-9_]*)
    | "(?P<double>[^"]*)" | '(?P<single>[^']*)' | `(?P<back>[^`]*)`
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Call:
    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Placeholder:
    name: str
    calls: tuple[_Call, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A text, read once."""

    source: str
    _parts: tuple[str | _Placeholder, ...]

    @property
    def names(self) -> frozenset[str]:
        """The variables it uses."""
        return frozenset(part.name for part in self._parts if isinstance(part, _Placeholder))

    def value(self, variables: Mapping[str, Any], maps: Mapping[str, Any] | None = None) -> Any:
        """The value itself where the template is one placeholder, else text."""
        if len(self._parts) == 1 and isinstance(self._parts[0], _Placeholder):
            return _evaluate(self._parts[0], variables, maps or {})
        return self.text(variables, maps=maps)

    def text(
        self,
        variables: Mapping[str, Any],
        *,
        escape: Callable[[str], str] = str,
        maps: Mapping[str, Any] | None = None,
    ) -> str:
        """*escape* is applied to every value, never to what the template itself says."""
        return "".join(
            part
            if isinstance(part, str)
            else escape(plain_text(_evaluate(part, variables, maps or {})))
            for part in self._parts
        )


def compile_text(source: str, *, known: Collection[str] | None = None) -> Template:
    """
    Raises ContractError with line and column: not closed, no such function, no such variable
    (when *known* is given).
    """
    parts: list[str | _Placeholder] = []
    at = 0
    while (begin := source.find("{{", at)) >= 0:
        end = source.find("}}", begin)
        if end < 0:
            raise _fault(source, begin, "{{ is never closed")
        if begin > at:
            parts.append(source[at:begin])
        placeholder = _read(source, begin + 2, end)
        if known is not None and placeholder.name not in known:
            raise _fault(source, begin, f"there is no variable .{placeholder.name}")
        parts.append(placeholder)
        at = end + 2
    if at < len(source):
        parts.append(source[at:])
    return Template(source, tuple(parts))


def _read(source: str, at: int, end: int) -> _Placeholder:
    tokens: list[tuple[str, str, int, int]] = []
    while source[at:end].strip():
        at += len(source[at:end]) - len(source[at:end].lstrip())
        found = _TOKEN.match(source, at, end)
        if not found or not found.lastgroup:
            raise _fault(source, at, f"cannot read {source[at:end].strip()!r}")
        tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup), at))
        at = found.end()
    if not tokens or tokens[0][0] != "name":
        where = tokens[0][3] if tokens else at
        raise _fault(source, where, "a placeholder begins with a variable: {{.Name}}")
    calls: list[_Call] = []
    rest = tokens[1:]
    while rest:
        if rest[0][0] != "pipe" or len(rest) == 1 or rest[1][0] != "function":
            raise _fault(source, rest[0][2], "a variable is followed by | and a function, or by }}")
        (_, name, where, _), rest = rest[1], rest[2:]
        if name not in FUNCTIONS:
            raise _fault(source, where, f"there is no function {name}")
        arguments = []
        while rest and rest[0][0] in {"double", "single", "back"}:
            arguments.append(rest[0][1])
            rest = rest[1:]
        if len(arguments) != FUNCTIONS[name].arguments:
            raise _fault(source, where, f"{name} takes {FUNCTIONS[name].arguments} argument(s)")
        calls.append(_Call(name, tuple(arguments)))
    return _Placeholder(tokens[0][1], tuple(calls))


def _evaluate(part: _Placeholder, variables: Mapping[str, Any], maps: Mapping[str, Any]) -> Any:
    value = variables.get(part.name)
    for call in part.calls:
        value = FUNCTIONS[call.function].run(value, call.arguments, maps)
    return value


def _fault(source: str, at: int, what: str) -> ContractError:
    line = source.count("\n", 0, at) + 1
    column = at - source.rfind("\n", 0, at)
    return ContractError(f"line {line}, column {column}: {what}")
