"""What a template is read into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from shared.crm.language.function import Function


@dataclass(frozen=True, slots=True)
class Constant:
    value: Any


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """Applied to the value before it. Without a *function* it is an operator (``eq`` ...)."""

    name: str
    function: Function | None
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """``{{Fn .A "x"}}`` and ``{{.A | Fn "x"}}`` are the same."""

    first: Expression
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Emit:
    """A placeholder. *names*: the variables that it reads."""

    expression: Expression
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class If:
    """The first branch whose condition is true, else *otherwise*."""

    branches: tuple[tuple[Expression, Body], ...]
    otherwise: Body


Expression: TypeAlias = "Constant | Variable | Pipe"
Node: TypeAlias = "str | Emit | If"
Body: TypeAlias = "tuple[Node, ...]"
