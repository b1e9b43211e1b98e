"""The tokens of one action → an expression, with its functions and constants checked."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from shared.crm.language.function import Function
from shared.crm.language.functions import FUNCTIONS
from shared.crm.language.lexer import Kind, Token, fault
from shared.crm.language.tree import Constant, Expression, Pipe, Step, Variable
from shared.errors import ContractError

#: Of brackets in brackets, and of ifs in ifs.
MOST_NESTED = 20

_MANY = 1_000
#: How many operands beside the first, at least and at most.
OPERATORS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "eq": (1, _MANY),
        "ne": (1, 1),
        "lt": (1, 1),
        "le": (1, 1),
        "gt": (1, 1),
        "ge": (1, 1),
        "and": (0, _MANY),
        "or": (0, _MANY),
        "not": (0, 0),
    }
)
_CONSTANTS = {"true": True, "false": False, "nil": None, "nothing": None}
#: Go's words that are not there, and what is.
_INSTEAD = {
    "range": "join makes a text of a list",
    "with": "use if",
    "define": "write it where it is used",
    "template": "write it where it is used",
    "block": "write it where it is used",
    "break": "there are no loops",
    "continue": "there are no loops",
    "print": "write {{.A}}{{.B}}",
    "printf": "write the text with placeholders in it",
    "println": "write {{.A}}{{.B}}",
    "index": "use item",
    "slice": "use substring, first, last, before or after",
    "len": "use length",
    "urlquery": "use UrlEncode",
    "js": "use json",
    "call": "functions are called by their names",
    "if": "if stands first: {{if .Name}}",
    "else": "else stands first: {{else}}",
    "end": "end stands first: {{end}}",
}
_FOLLOWS = "a variable is followed by | and a function, or by }}"
_LONGEST_NAME = 40


class ExpressionReader:
    """*names*, *maps* and *nodes* are what it met: variables with their places, maps, and how many."""

    def __init__(self, source: str, tokens: tuple[Token, ...], at: int) -> None:
        self.names: dict[str, int] = {}
        self.maps: set[str] = set()
        self.nodes = 0
        self._source = source
        self._tokens = tokens
        self._next = 0
        self._at = at

    def read(self) -> Expression:
        """Raises: ContractError with line and column."""
        expression = self._pipeline(0)
        if (token := self._peek()) is not None:
            raise self._fault(token.at, _FOLLOWS)
        return expression

    def _pipeline(self, depth: int) -> Expression:
        """Up to the end, or to the bracket that closes it."""
        if depth > MOST_NESTED:
            raise self._fault(self._at, f"over {MOST_NESTED} brackets are nested")
        first, steps = self._command(depth)
        while (pipe := self._peek()) is not None and _is_symbol(pipe, "|"):
            self._next += 1
            name = self._peek()
            if name is None or name.kind is not Kind.WORD:
                raise self._fault(pipe.at, _FOLLOWS)
            self._next += 1
            steps.append(self._step(name, self._operands(depth)))
        return Pipe(first, tuple(steps)) if steps else first

    def _command(self, depth: int) -> tuple[Expression, list[Step]]:
        name = self._peek()
        if name is None:
            raise self._fault(self._at, "nothing stands in the brackets")
        if name.kind is not Kind.WORD or self._is_constant(name):
            first = self._operand(depth)
            if (token := self._peek()) is not None and token.kind is not Kind.SYMBOL:
                raise self._fault(token.at, _FOLLOWS)
            return first, []
        self._next += 1
        operands = self._operands(depth)
        if not operands:
            self._checked(name)
            word = name.value
            raise self._fault(name.at, f"{word} needs a value: ({word} .Name), or .Name | {word}")
        return operands[0][0], [self._step(name, operands[1:])]

    def _is_constant(self, word: Token) -> bool:
        """``nothing`` is one where nothing follows that it could be applied to."""
        if word.value not in _CONSTANTS:
            return False
        after = self._tokens[self._next + 1 : self._next + 2]
        ends = not after or _is_symbol(after[0], "|") or _is_symbol(after[0], ")")
        return ends or word.value not in FUNCTIONS

    def _operands(self, depth: int) -> list[tuple[Expression, int]]:
        found = []
        while (token := self._peek()) is not None:
            if _is_symbol(token, "|") or _is_symbol(token, ")"):
                break
            found.append((self._operand(depth), token.at))
        return found

    def _operand(self, depth: int) -> Expression:
        token = self._tokens[self._next]
        self._next += 1
        self.nodes += 1
        if token.kind is Kind.VARIABLE:
            self.names.setdefault(token.value, token.at)
            return Variable(token.value)
        if token.kind is Kind.CONSTANT:
            return Constant(token.value)
        if _is_symbol(token, "("):
            self._at = token.at
            inner = self._pipeline(depth + 1)
            if self._peek() is None:
                raise self._fault(token.at, "a bracket is never closed")
            self._next += 1
            return inner
        if token.kind is Kind.WORD:
            if token.value in _CONSTANTS:
                return Constant(_CONSTANTS[token.value])
            self._checked(token)
            raise self._fault(
                token.at, f"a function among arguments needs brackets: ({token.value} .Name)"
            )
        raise self._fault(token.at, "a placeholder begins with a variable: {{.Name}}")

    # -- functions ---------------------------------------------------------------------------

    def _step(self, name: Token, operands: list[tuple[Expression, int]]) -> Step:
        self.nodes += 1
        function = self._checked(name)
        fewest, most = (function.fewest, function.most) if function else OPERATORS[str(name.value)]
        if not fewest <= len(operands) <= most:
            takes = str(fewest) if fewest == most else f"{fewest} to {most}"
            if most == _MANY:
                takes = f"at least {fewest}"
            raise self._fault(
                name.at,
                f"{name.value} takes {takes} argument(s) beside its value, not {len(operands)}",
            )
        if function is not None:
            self._check_constants(name, function, operands)
        return Step(name.value, function, tuple(operand for operand, _ in operands))

    def _checked(self, name: Token) -> Function | None:
        """None for an operator."""
        word = str(name.value)
        if word in OPERATORS:
            return None
        if word in FUNCTIONS:
            return FUNCTIONS[word]
        shown = word[:_LONGEST_NAME]
        if word in _INSTEAD:
            raise self._fault(name.at, f"there is no {shown} here: {_INSTEAD[word]}")
        near = get_close_matches(shown, [*FUNCTIONS, *OPERATORS], n=1)
        hint = f"; is it {near[0]}?" if near else f"; there are: {', '.join(FUNCTIONS)}"
        raise self._fault(name.at, f"there is no function {shown}{hint}")

    def _check_constants(
        self, name: Token, function: Function, operands: list[tuple[Expression, int]]
    ) -> None:
        for take, (operand, at) in zip(function.takes, operands, strict=False):
            if isinstance(operand, Constant):
                try:
                    take(operand.value)
                except ContractError as error:
                    raise self._fault(at, f"{name.value}: {error.message}") from None
        if name.value == "map":
            operand, at = operands[0]
            if not isinstance(operand, Constant):
                raise self._fault(at, 'map takes the name of a map in quotes: map "name"')
            self.maps.add(str(operand.value))

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _fault(self, at: int, what: str) -> ContractError:
        return fault(self._source, at, what)


def _is_symbol(token: Token, symbol: str) -> bool:
    return token.kind is Kind.SYMBOL and token.value == symbol
