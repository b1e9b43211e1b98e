"""The parts of a template's text → its tree. Everything that can be wrong is said at load time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.crm.language.expressions import MOST_NESTED, ExpressionReader
from shared.crm.language.lexer import Action, Kind, Token, Words, fault, read_parts
from shared.crm.language.tree import Body, Emit, Expression, If, Node
from shared.errors import ContractError

#: Characters of a source, and everything that is counted in one.
MOST_SOURCE = 65_536
MOST_NODES = 5_000


@dataclass(frozen=True, slots=True)
class Read:
    """*names*: every variable with the place of its first use."""

    body: Body
    names: Mapping[str, int]
    maps_used: frozenset[str]


def read_template(source: str) -> Read:
    """Raises: ContractError with line and column, and nothing else for any text."""
    if len(source) > MOST_SOURCE:
        raise ContractError(f"line 1, column 1: a template has at most {MOST_SOURCE} characters")
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise fault(source, error.start, "half a character (a lone surrogate)") from None
    return _Reader(source).read()


@dataclass(slots=True)
class _Open:
    """An if that waits for its end."""

    at: int
    outside: list[Node]
    condition: Expression
    branches: list[tuple[Expression, Body]] = field(default_factory=list)
    in_else: bool = False


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._nodes = 0
        self._names: dict[str, int] = {}
        self._maps: set[str] = set()
        self._body: list[Node] = []
        self._open: list[_Open] = []

    def read(self) -> Read:
        for part in read_parts(self._source):
            if isinstance(part, Words):
                self._body.append(part.text)
            elif part.tokens:
                self._count(1, part.at)
                self._action(part)
        if self._open:
            raise self._fault(self._open[-1].at, "if is never ended: {{end}}")
        return Read(tuple(self._body), self._names, frozenset(self._maps))

    def _action(self, action: Action) -> None:
        first, rest = action.tokens[0], action.tokens[1:]
        blocks = {"if": self._if, "else": self._else, "end": self._end}
        if first.kind is Kind.WORD and first.value in blocks:
            blocks[first.value](first, rest)
            return
        expression, names = self._expression(action.tokens, first.at)
        self._body.append(Emit(expression, names))

    def _expression(self, tokens: tuple[Token, ...], at: int) -> tuple[Expression, frozenset[str]]:
        reader = ExpressionReader(self._source, tokens, at)
        expression = reader.read()
        self._count(reader.nodes, at)
        for name, place in reader.names.items():
            self._names.setdefault(name, place)
        self._maps |= reader.maps
        return expression, frozenset(reader.names)

    # -- if, else, end -----------------------------------------------------------------------

    def _if(self, word: Token, rest: tuple[Token, ...]) -> None:
        if len(self._open) >= MOST_NESTED:
            raise self._fault(word.at, f"over {MOST_NESTED} ifs are nested")
        self._open.append(_Open(word.at, self._body, self._condition(word, rest)))
        self._body = []

    def _else(self, word: Token, rest: tuple[Token, ...]) -> None:
        if not self._open or self._open[-1].in_else:
            raise self._fault(word.at, "else without an if before it")
        opened = self._open[-1]
        opened.branches.append((opened.condition, tuple(self._body)))
        self._body = []
        if not rest:
            opened.in_else = True
        elif rest[0].kind is Kind.WORD and rest[0].value == "if":
            opened.condition = self._condition(rest[0], rest[1:])
        else:
            raise self._fault(rest[0].at, "else stands alone, or is followed by if")

    def _end(self, word: Token, rest: tuple[Token, ...]) -> None:
        if rest:
            raise self._fault(rest[0].at, "end stands alone")
        if not self._open:
            raise self._fault(word.at, "end without an if before it")
        opened = self._open.pop()
        body = tuple(self._body)
        branches, otherwise = tuple(opened.branches), body
        if not opened.in_else:
            branches, otherwise = (*branches, (opened.condition, body)), ()
        self._body = opened.outside
        self._body.append(If(branches, otherwise))

    def _condition(self, word: Token, rest: tuple[Token, ...]) -> Expression:
        if not rest:
            raise self._fault(word.at, "if needs a condition: {{if .Name}}")
        return self._expression(rest, word.at)[0]

    def _count(self, nodes: int, at: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._fault(at, f"a template has at most {MOST_NODES} parts")

    def _fault(self, at: int, what: str) -> ContractError:
        return fault(self._source, at, what)
