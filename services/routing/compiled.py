"""
A rule's rows, made ready to be asked about every call. Pure.

Rows that stand together and are one test each over one subject are found by an index, so that a
hundred thousand of them cost a look-up and not as many comparisons; all others are tried in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import groupby
from typing import Protocol, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from services.routing.index import Index
from shared.site.rules.conditions import AllOf, AnyOf, Condition, Operator, Test, parts_of
from shared.site.rules.rule import RoutingRule, Row
from shared.site.rules.subjects import Ask, Subject
from shared.site.rules.values import Around, Comparison, Reading, kind_of
from shared.site.rules.wording import worded

#: Of fewer rows an index is no faster than trying them.
_LEAST_INDEXED = 8


class Unknown(Enum):
    """What could not be found out: it might be anything, or nothing."""

    UNKNOWN = "unknown"


class Values(Protocol):
    """What is known of a call."""

    @property
    def now(self) -> datetime: ...

    def of(self, subject: Subject) -> JsonValue | Unknown:
        """None where there is no value. What it raises, as when nobody was asked yet, passes through."""
        ...


class CompiledRule:
    """*zone* and *region* are the tenant's; a zone of the rule's own goes before."""

    def __init__(self, rule: RoutingRule, *, zone: str, region: str | None) -> None:
        self.rule = rule
        self.around = Around(ZoneInfo(rule.zone or zone), region)
        self._field = Subject(Ask.FIELD, rule.field or "")
        self._runs = tuple(self._in_runs())

    def matching(self, values: Values) -> Iterator[int]:
        """
        Numbers, from 1, of the rows that are true, in their order. Lazy: later rows are not looked
        at before the next one is asked for. Within a row what the CRM must be asked for comes last.
        """
        known = _Known(values, self.around)
        for run in self._runs:
            yield from run.matching(known)

    def holds(self, number: int, values: Values) -> bool | None:
        """The row tried alone, without the index. None: it cannot be known."""
        return self._compiled(self.rule.rows[number - 1]).holds(_Known(values, self.around))

    def describe(self, number: int) -> str:
        """Its condition in at most 200 characters."""
        return worded(self.rule.rows[number - 1], self.rule.field)

    def _in_runs(self) -> Iterator[_Run]:
        tried: list[tuple[int, _Condition]] = []
        numbered = enumerate(self.rule.rows, start=1)
        for subject, group in groupby(numbered, lambda row: self._subject(row[1])):
            rows = list(group)
            if subject is None or len(rows) < _LEAST_INDEXED:
                tried += ((number, self._compiled(row)) for number, row in rows)
                continue
            if tried:
                yield _Tried(tuple(tried))
                tried = []
            tests = ((number, *_tested(row)) for number, row in rows)
            yield _Indexed(subject, Index(tests, kind_of(subject), self.around))
        if tried:
            yield _Tried(tuple(tried))

    def _subject(self, row: Row) -> Subject | None:
        """None where it is not one test."""
        if row.when is None:
            return self._field if row.operator is not None else None
        return (row.when.of or self._field) if isinstance(row.when, Test) else None

    def _compiled(self, row: Row) -> _Condition:
        if row.when is not None:
            return self._condition(row.when)
        if row.operator is None:
            return _Always()
        return self._one(self._field, row.operator, row.values)

    def _one(self, subject: Subject, operator: Operator, wanted: tuple[str, ...]) -> _One:
        return _One(subject, Comparison(operator, wanted, kind_of(subject), self.around))

    def _condition(self, condition: Condition) -> _Condition:
        if isinstance(condition, Test):
            return self._one(condition.of or self._field, condition.operator, condition.values)
        # What need not be asked of the CRM may spare asking it.
        parts = sorted(map(self._condition, parts_of(condition)), key=_needs_crm)
        decisive = not isinstance(condition, AllOf)
        return _Several(tuple(parts), decisive, then=isinstance(condition, AnyOf))


class _Known:
    """Found out once for all rows, and read once."""

    def __init__(self, values: Values, around: Around) -> None:
        self.now = values.now
        self._values = values
        self._around = around
        self._read: dict[Subject, Reading | Unknown] = {}

    def of(self, subject: Subject) -> Reading | Unknown:
        found = self._read.get(subject)
        if found is None:
            value = self._values.of(subject)
            if isinstance(value, Unknown):
                found = value
            else:
                found = Reading(value, kind_of(subject), self._around)
            self._read[subject] = found
        return found


def _tested(row: Row) -> tuple[Operator, tuple[str, ...]]:
    """Of a row that is one test."""
    if isinstance(row.when, Test):
        return row.when.operator, row.when.values
    return row.operator or Operator.EQUAL, row.values


# -- conditions --------------------------------------------------------------------------------


class _Condition(Protocol):
    @property
    def needs_crm(self) -> bool: ...

    def holds(self, known: _Known) -> bool | None: ...


def _needs_crm(condition: _Condition) -> bool:
    return condition.needs_crm


@dataclass(frozen=True, slots=True)
class _Always:
    needs_crm: bool = False

    def holds(self, known: _Known) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _One:
    subject: Subject
    comparison: Comparison

    @property
    def needs_crm(self) -> bool:
        return self.subject.needs_crm

    def holds(self, known: _Known) -> bool | None:
        value = known.of(self.subject)
        if isinstance(value, Unknown):
            return None
        return self.comparison.fits(value, now=known.now)


@dataclass(frozen=True, slots=True)
class _Several:
    """One part that is *decisive* makes it *then*; Kleene's logic where some are not known."""

    parts: tuple[_Condition, ...]
    decisive: bool
    then: bool

    @property
    def needs_crm(self) -> bool:
        return any(part.needs_crm for part in self.parts)

    def holds(self, known: _Known) -> bool | None:
        sure = True
        for part in self.parts:
            held = part.holds(known)
            if held is self.decisive:
                return self.then
            sure = sure and held is not None
        return (not self.then) if sure else None


# -- rows that stand together ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tried:
    rows: tuple[tuple[int, _Condition], ...]

    def matching(self, known: _Known) -> Iterator[int]:
        return (number for number, condition in self.rows if condition.holds(known))


@dataclass(frozen=True, slots=True)
class _Indexed:
    subject: Subject
    index: Index

    def matching(self, known: _Known) -> Iterator[int]:
        value = known.of(self.subject)
        return iter(()) if isinstance(value, Unknown) else self.index.matching(value, known.now)


_Run: TypeAlias = _Tried | _Indexed
