"""Conditions in words, for traces and faults. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.site.rules.conditions import (
    AllOf,
    AnyOf,
    Condition,
    NoneOf,
    Operator,
    Test,
    parts_of,
    subject_of,
)
from shared.site.rules.rule import Row

LONGEST_WORDS = 200


def worded(row: Row, field: str | None) -> str:
    """
    ``= 'GOLD'``, ``caller.country = 'DE'``, ``all of (field.Tier = 'GOLD', hours.office = 'open')``
    or ``always``; *field* is that of the rule. Of 200 characters at most.
    """
    if row.when is None:
        if row.operator is None:
            return "always"
        return _cut(_compared(row.operator, row.values))
    if isinstance(row.when, Test) and row.when.of is None:
        return _cut(_compared(row.when.operator, row.when.values))
    return _cut(_said(row.when, field))


def _said(condition: Condition, field: str | None) -> Iterator[str]:
    if isinstance(condition, Test):
        yield f"{subject_of(condition, field)} "
        yield from _compared(condition.operator, condition.values)
        return
    match condition:
        case AllOf():
            yield "all of ("
        case AnyOf():
            yield "any of ("
        case NoneOf():
            yield "none of ("
    for place, part in enumerate(parts_of(condition)):
        if place:
            yield ", "
        yield from _said(part, field)
    yield ")"


def _compared(operator: Operator, values: tuple[str, ...]) -> Iterator[str]:
    yield operator.value
    match operator, values:
        case Operator.EXISTS, _:
            return
        case Operator.IN, _:
            yield " ["
            for place, value in enumerate(values):
                yield ", " if place else ""
                yield repr(value)
            yield "]"
        case Operator.BETWEEN, (low, high):
            yield f" {low!r} and {high!r}"
        case _:
            yield f" {values[0]!r}"


def _cut(pieces: Iterable[str]) -> str:
    """A condition can be of two hundred tests, each of a thousand values."""
    text = ""
    for piece in pieces:
        text += piece
        if len(text) > LONGEST_WORDS:
            return f"{text[: LONGEST_WORDS - 1]}…"
    return text
