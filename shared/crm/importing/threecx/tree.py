"""What the expressions of 3CX are read into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Variable:
    """``[Name]``, and ``[[Name]]``: a setting whose text has variables of its own."""

    name: str


@dataclass(frozen=True, slots=True)
class Join:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choose:
    """``IIf``."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Compare:
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic:
    """*operator*: ``and``, ``or``, or ``not`` of one part."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """*arguments*: None for a property, ``[X].Length``."""

    target: Node
    name: str
    arguments: tuple[Node, ...] | None


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    arguments: tuple[Node, ...]


Node: TypeAlias = "Literal | Variable | Join | Choose | Compare | Logic | Method | Function"


def variables_in(node: Node) -> Iterator[str]:
    """Names of the variables that it reads."""
    if isinstance(node, Variable):
        yield node.name
    for part in parts_of(node):
        yield from variables_in(part)


def parts_of(node: Node) -> tuple[Node, ...]:
    match node:
        case Join(parts) | Logic(_, parts):
            return parts
        case Choose(condition, yes, no):
            return condition, yes, no
        case Compare(_, left, right):
            return left, right
        case Method(target, _, arguments):
            return target, *(arguments or ())
        case Function(_, arguments):
            return arguments
    return ()


def constant(node: Node) -> str | None:
    """Its text, where no variable is in it."""
    if isinstance(node, Literal):
        return node.text
    if isinstance(node, Join):
        texts = [constant(part) for part in node.parts]
        known = [text for text in texts if text is not None]
        return "".join(known) if len(known) == len(texts) else None
    return None
