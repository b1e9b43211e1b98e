"""
Text with placeholders: ``{{.Phone}}``, ``{{.StartedAt | iso8601}}``, ``{{Capitalize .Module}}``,
``{{if eq .Kind "missed"}}...{{else}}...{{end}}``: the part of Go's text/template that PBX vendors
use, with functions of ours.

A text that is exactly one placeholder keeps the value's type; anything else is text. Nothing is
guessed and nothing is run: names, functions and constants are checked when the template is
loaded, and its size, its depth and the work of a rendering are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shared.crm.language.evaluate import Evaluator, is_true
from shared.crm.language.function import Scope, refuse_length
from shared.crm.language.lexer import fault
from shared.crm.language.reader import read_template
from shared.crm.language.tree import Body, Emit
from shared.crm.language.values import Encoded, Fragment, plain_text

__all__ = ["Encoded", "Fragment", "Piece", "Template", "compile_text"]

#: Sources up to this many characters are kept by the thousand, longer ones by the dozen.
_SHORT = 2_000


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Of a rendered text: the template's *own* words, or a *value* with the *names* of the variables
    that it was made of.
    """

    own: bool
    value: Any
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Template:
    """
    A text, read once. *names*: every variable that it reads (``Zone``, which ``TimeFormat`` looks
    up by itself, is not among them); *maps_used*: the names that it pipes to ``map``.
    """

    source: str
    names: frozenset[str]
    maps_used: frozenset[str]
    _body: Body

    @property
    def is_static(self) -> bool:
        """Whether it has no placeholders: it says the same whatever the variables are."""
        return all(isinstance(node, str) for node in self._body)

    def value(self, variables: Mapping[str, Any], maps: Mapping[str, Any] | None = None) -> Any:
        """The value itself where the template is one placeholder, else text. Raises as text."""
        if len(self._body) == 1 and isinstance(self._body[0], Emit):
            return Evaluator(Scope(variables, maps or {})).value(self._body[0].expression)
        return self.text(variables, maps=maps)

    def text(
        self,
        variables: Mapping[str, Any],
        *,
        escape: Callable[[str], str] = str,
        maps: Mapping[str, Any] | None = None,
    ) -> str:
        """
        *escape* is applied to every value, never to what the template itself says. Raises:
        ContractError for a value of a wrong type, and for over a million characters.
        """
        length, texts = 0, []
        for piece in self.pieces(variables, maps=maps):
            text = piece.value if piece.own else escape(plain_text(piece.value))
            length += len(text)
            refuse_length(length)
            texts.append(text)
        return "".join(texts)

    def pieces(
        self, variables: Mapping[str, Any], *, maps: Mapping[str, Any] | None = None
    ) -> Iterator[Piece]:
        """For who decides about each value by what stands before it. Raises: ContractError."""
        return _pieces(self._body, Evaluator(Scope(variables, maps or {})))


def compile_text(source: str, *, known: Collection[str] | None = None) -> Template:
    """
    Raises ContractError with line and column: not closed, no such function, a wrong argument, no
    such variable (when *known* is given). What was read is kept for the next time.
    """
    template, names = (_compiled_short if len(source) <= _SHORT else _compiled_long)(source)
    if known is not None:
        for name, at in names:
            if name not in known:
                raise fault(source, at, f"there is no variable .{name}")
    return template


def _pieces(body: Body, evaluator: Evaluator) -> Iterator[Piece]:
    for node in body:
        if isinstance(node, str):
            yield Piece(own=True, value=node)
        elif isinstance(node, Emit):
            yield Piece(own=False, value=evaluator.value(node.expression), names=node.names)
        else:
            for condition, branch in node.branches:
                if is_true(evaluator.value(condition)):
                    yield from _pieces(branch, evaluator)
                    break
            else:
                yield from _pieces(node.otherwise, evaluator)


def _compiled(source: str) -> tuple[Template, tuple[tuple[str, int], ...]]:
    read = read_template(source)
    template = Template(source, frozenset(read.names), read.maps_used, read.body)
    return template, tuple(read.names.items())


_compiled_short = lru_cache(maxsize=4096)(_compiled)
_compiled_long = lru_cache(maxsize=32)(_compiled)
