"""
The expressions of 3CX templates: ``Call of [Name]``, ``[[CallStartTimeUTC].ToString("HH:mm")]``,
``[IIf([A]=="",[B],[A])]``, ``[ReportCallEnabled]!=True||[EntityId]==""``. Only what they say; what
it means in a template of ours is the business of ``threecx_words``.
"""

from __future__ import annotations

import re

from shared.crm.importing.threecx.tree import (
    Choose,
    Compare,
    Function,
    Join,
    Literal,
    Logic,
    Method,
    Node,
    Variable,
    parts_of,
)
from shared.errors import BadSetting

#: Characters of one text.
LONGEST = 10_000
#: Brackets in brackets.
DEEPEST = 20
#: Of what an expression consists of, inside each other.
_DEEPEST_MADE = 25
#: Methods in a row, ``[X].Trim().ToLower()``.
_MOST_METHODS = 8
#: An argument that is no expression is read again as a text; this bounds how often.
_MOST_READ = 5_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: ``.Trim``, and behind a method ``[0]``.
_METHOD = re.compile(r"\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\[\s*(?P<place>[0-9]{1,5})\s*\]")
_VARIABLE = re.compile(r"\[\s*([A-Za-z_][A-Za-z0-9_-]*)\s*\]")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_BLANKS = re.compile(r"\s*")
_ESCAPES = {"{{": "[", "}}": "]", "^^": '"'}
_WORDS = re.compile(r"\{\{|\}\}|\^\^|\[")
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_SHOWN = 30


def read_text(text: str) -> Node:
    """A text with expressions in brackets. Raises: BadSetting with the column."""
    return _not_too_deep(_Reader(text).text(0, len(text), 0))


def read_condition(text: str) -> Node:
    """All of it is an expression, as in ``SkipIf`` and ``If``. Raises: BadSetting."""
    return _not_too_deep(_Reader(text).whole())


def _not_too_deep(node: Node) -> Node:
    level, depth = [node], 0
    while level:
        depth += 1
        if depth > _DEEPEST_MADE:
            raise BadSetting("column 1: the expression is nested too deep")
        level = [part for one in level for part in parts_of(one)]
    return node


class _Reader:
    def __init__(self, source: str) -> None:
        if len(source) > LONGEST:
            raise BadSetting(f"an expression has at most {LONGEST} characters")
        self._source = source
        self._at = 0
        self._end = len(source)
        self._read = 0

    # -- texts -------------------------------------------------------------------------------

    def text(self, begin: int, end: int, depth: int) -> Node:
        source, self._at, parts = self._source, begin, list[Node]()
        words = ""
        while self._at < end:
            found = _WORDS.search(source, self._at, end)
            words += source[self._at : found.start() if found else end]
            if found is None:
                break
            self._at = found.end()
            if found[0] in _ESCAPES:
                words += _ESCAPES[found[0]]
                continue
            self._at = found.start()
            if words:
                parts.append(Literal(words))
                words = ""
            parts.append(self._bracket(depth))
        if words:
            parts.append(Literal(words))
        if self._at > end:
            raise self._fault(begin, "a bracket is never closed")
        self._at = end
        return parts[0] if len(parts) == 1 else Join(tuple(parts))

    # -- expressions, the loosest binding first ----------------------------------------------

    def whole(self) -> Node:
        node = self._either(0)
        if self._skip() < self._end:
            raise self._fault(self._at, f"cannot read {self._shown()}")
        return node

    def _either(self, depth: int) -> Node:
        return self._row(depth, "||", "or")

    def _row(self, depth: int, sign: str, operator: str) -> Node:
        inner = self._both if operator == "or" else self._compared
        parts = [inner(depth)]
        while self._takes(sign):
            parts.append(inner(depth))
        return parts[0] if len(parts) == 1 else Logic(operator, tuple(parts))

    def _both(self, depth: int) -> Node:
        return self._row(depth, "&&", "and")

    def _compared(self, depth: int) -> Node:
        left = self._sum(depth)
        for operator in _COMPARISONS:
            if self._takes(operator):
                return Compare(operator, left, self._sum(depth))
        return left

    def _sum(self, depth: int) -> Node:
        parts = [self._one(depth)]
        while self._takes("+"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Join(tuple(parts))

    def _one(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise self._fault(self._at, f"over {DEEPEST} brackets are nested")
        self._read += 1
        if self._read > _MOST_READ:
            raise self._fault(self._at, "the expression is too large")
        self._skip()
        if self._source.startswith("!", self._at) and not self._source.startswith("!=", self._at):
            self._at += 1
            return Logic("not", (self._one(depth + 1),))
        return self._methods(self._primary(depth), depth)

    def _methods(self, node: Node, depth: int) -> Node:
        count = 0
        while self._at < self._end:
            found = _METHOD.match(self._source, self._at, self._end)
            if found is None or (found["place"] and not isinstance(node, Method)):
                break
            count += 1
            if count > _MOST_METHODS:
                raise self._fault(self._at, f"over {_MOST_METHODS} methods in a row")
            self._at = found.end()
            if found["place"]:
                node = Method(node, "item", (Literal(found["place"]),))
                continue
            arguments = self._arguments(depth) if self._takes("(") else None
            node = Method(node, found["name"], arguments)
        return node

    def _primary(self, depth: int) -> Node:
        source, at = self._source, self._skip()
        if at >= self._end:
            raise self._fault(at, "something is missing here")
        if source[at] == "[":
            return self._bracket(depth)
        if source[at] in "\"'":
            return self._quoted(source[at])
        if source[at] == "(":
            self._at += 1
            inner = self._either(depth + 1)
            self._needs(")", at)
            return inner
        if (found := _NUMBER.match(source, at)) is not None:
            self._at = found.end()
            return Literal(found[0])
        found = _NAME.match(source, at)
        if found is None:
            raise self._fault(at, f"cannot read {self._shown()}")
        self._at = found.end()
        if not self._takes("("):
            return Literal(found[0])
        arguments = self._arguments(depth)
        if found[0].lower() == "iif":
            if len(arguments) != 3:  # noqa: PLR2004  condition, yes, no
                raise self._fault(at, "IIf takes a condition and two values")
            return Choose(*arguments)
        return Function(found[0], arguments)

    def _bracket(self, depth: int) -> Node:
        at = self._at
        if (found := _VARIABLE.match(self._source, at, self._end)) is not None:
            self._at = found.end()
            return Variable(found[1])
        self._at += 1
        inner = self._either(depth + 1)
        self._needs("]", at)
        return inner

    def _quoted(self, quote: str) -> Literal:
        begin = self._at + 1
        end = self._source.find(quote, begin, self._end)
        if end < 0:
            raise self._fault(self._at, "a text in quotes is never closed")
        self._at = end + 1
        return Literal(self._source[begin:end])

    # -- arguments ---------------------------------------------------------------------------

    def _arguments(self, depth: int) -> tuple[Node, ...]:
        """Behind the opening bracket; up to the closing one."""
        begin, found = self._at, list[Node]()
        if self._takes(")"):
            return ()
        while True:
            found.append(self._argument(depth + 1))
            if self._takes(")"):
                return tuple(found)
            self._needs(",", begin)

    def _argument(self, depth: int) -> Node:
        """An expression, or a text without quotes: ``Replace(-,)``, ``IIf([A],no name,[A])``."""
        begin = self._at
        try:
            node = self._either(depth)
            if self._skip() < self._end and self._source[self._at] in ",)":
                return node
        except BadSetting:
            if depth > DEEPEST or self._read > _MOST_READ:
                raise
        end = self._plain_end(begin)
        node = self.text(begin, end, depth)
        return Literal(node.text.strip()) if isinstance(node, Literal) else node

    def _plain_end(self, begin: int) -> int:
        """Of a text without quotes: the comma or bracket that ends it."""
        open_brackets = 0
        for at in range(begin, self._end):
            character = self._source[at]
            if character == "[":
                open_brackets += 1
            elif character == "]":
                open_brackets -= 1
            if open_brackets < 0:
                break
            if not open_brackets and character in ",)":
                return at
        raise self._fault(begin, "an argument is never closed")

    # -- characters --------------------------------------------------------------------------

    def _skip(self) -> int:
        found = _BLANKS.match(self._source, self._at)
        self._at = found.end() if found is not None else self._at
        return self._at

    def _takes(self, sign: str) -> bool:
        self._skip()
        if self._source.startswith(sign, self._at):
            self._at += len(sign)
            return True
        return False

    def _needs(self, sign: str, begin: int) -> None:
        if not self._takes(sign):
            raise self._fault(begin, f"{sign} is missing behind what begins here")

    def _shown(self) -> str:
        return repr(self._source[self._at : self._at + _SHOWN])

    def _fault(self, at: int, what: str) -> BadSetting:
        return BadSetting(f"column {at + 1}: {what}")
