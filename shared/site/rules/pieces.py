"""
Conditions cut into what an item of a value can meet alone, so that one is found in another. Pure.

One of a condition's pieces is enough. Pieces are equal when they mean the same, however a rule has
them: ``= 1.50`` and ``in [1.5]``, ``of: field.Tier`` and the rule's own field.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from shared.moments import to_duration
from shared.site.rules.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Operator,
    Test,
    parts_of,
)
from shared.site.rules.rule import Row
from shared.site.rules.spans import Bound, spans_of
from shared.site.rules.subjects import Subject
from shared.site.rules.values import Around, Key, Kind, head_of, key_of, kind_of

#: Among the types of keys.
_AGE = "age"


@dataclass(frozen=True, slots=True)
class Is:
    """An item that has the key."""

    subject: Subject
    key: Key


@dataclass(frozen=True, slots=True)
class IsNot:
    """No item has the key."""

    subject: Subject
    key: Key


@dataclass(frozen=True, slots=True)
class Within:
    """An item with a key of that type, or of an age."""

    subject: Subject
    type: str
    low: Bound
    high: Bound


@dataclass(frozen=True, slots=True)
class Begins:
    subject: Subject
    head: str


@dataclass(frozen=True, slots=True)
class There:
    """Any value."""

    subject: Subject


@dataclass(frozen=True, slots=True)
class Asked:
    """Nothing takes it but the same again."""

    subject: Subject
    what: Hashable


@dataclass(frozen=True, slots=True)
class AllOfThem:
    parts: frozenset[Pieces]


@dataclass(frozen=True, slots=True)
class NoneOfThem:
    pieces: Pieces


Piece: TypeAlias = Is | IsNot | Within | Begins | There | Asked
#: Those of no length never hold.
Pieces: TypeAlias = frozenset[Piece | AllOfThem | NoneOfThem]


@dataclass(frozen=True, slots=True)
class Cutter:
    #: What a test without a subject is about.
    field: Subject
    around: Around

    def row(self, row: Row) -> Pieces:
        """Of one that does not always match."""
        if row.when is not None:
            return self._condition(row.when)
        return frozenset(self._test(self.field, row.operator or Operator.EQUAL, row.values))

    def _condition(self, condition: Condition) -> Pieces:
        if isinstance(condition, Test):
            subject = condition.of or self.field
            return frozenset(self._test(subject, condition.operator, condition.values))
        parts = frozenset(map(self._condition, parts_of(condition)))
        if isinstance(condition, AllOf):
            return next(iter(parts)) if len(parts) == 1 else frozenset({AllOfThem(parts)})
        pieces: Pieces = frozenset().union(*parts)
        return pieces if isinstance(condition, AnyOf) else frozenset({NoneOfThem(pieces)})

    def _test(
        self, subject: Subject, operator: Operator, values: tuple[str, ...]
    ) -> Iterator[Piece]:
        kind, around = kind_of(subject), self.around
        match operator:
            case Operator.EQUAL | Operator.IN:
                yield from (Is(subject, key_of(text, kind, around)) for text in values)
            case Operator.NOT_EQUAL:
                yield IsNot(subject, key_of(values[0], kind, around))
            case Operator.EXISTS:
                yield There(subject)
            case Operator.STARTS_WITH:
                # With blanks nothing starts.
                if head := head_of(values[0], kind, around):
                    yield Begins(subject, head)
            case Operator.CONTAINS | Operator.MATCHES:
                yield Asked(subject, (operator, values))
            case Operator.OLDER_THAN | Operator.NEWER_THAN:
                yield from self._aged(subject, operator, values[0])
            case _ if kind is not Kind.PHONE:  # those have no order
                yield from self._ordered(subject, operator, values)

    def _ordered(
        self, subject: Subject, operator: Operator, values: tuple[str, ...]
    ) -> Iterator[Within]:
        kind = kind_of(subject)
        keys = [key_of(text, kind, self.around) for text in values]
        if len({key[0] for key in keys}) == 1:
            ends, over = [key[1] for key in keys], kind is Kind.TIME
            for low, high in spans_of(operator, ends, over_midnight=over):
                yield Within(subject, keys[0][0], low, high)

    @staticmethod
    def _aged(subject: Subject, operator: Operator, value: str) -> Iterator[Within]:
        age = to_duration(value)
        if isinstance(age, timedelta):
            than = Operator.GREATER if operator is Operator.OLDER_THAN else Operator.LESS_OR_EQUAL
            for low, high in spans_of(than, [age], over_midnight=False):
                yield Within(subject, _AGE, low, high)
