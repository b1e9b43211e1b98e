"""A filter as somebody wrote it, in terms of the store. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.journal.rows import written_as
from shared.contracts.columns import Column, Kind, Operator
from shared.contracts.history import COLUMNS, CallFilter, WhichCalls
from shared.storage.port import AllOf, AnyOf, Condition, Is, Op

START = "started_at"
_TICK = timedelta(milliseconds=1)
_OPS: Mapping[Operator, Op] = {
    Operator.EQ: Op.EQ,
    Operator.NE: Op.NE,
    Operator.LT: Op.LT,
    Operator.LE: Op.LE,
    Operator.GT: Op.GT,
    Operator.GE: Op.GE,
    Operator.IN: Op.IN,
    Operator.NOT_IN: Op.NOT_IN,
    Operator.LIKE: Op.CONTAINS,
    Operator.STARTS_WITH: Op.BEGINS,
    Operator.HAS: Op.HAS,
    Operator.IS_NULL: Op.IS_NULL,
}
_SINCE = frozenset({Operator.GE, Operator.GT})
_UNTIL = frozenset({Operator.LT, Operator.LE})
#: Fields that an index leads to.
_INDEXED = frozenset({"key", "row.number"})


@dataclass(frozen=True, slots=True)
class Question:
    """Calls that began from *since* to before *until*, and pass each of *tests*."""

    since: datetime | None
    until: datetime | None
    tests: tuple[Condition, ...]

    @property
    def where(self) -> Condition:
        return AllOf(self.tests)

    @property
    def is_quick(self) -> bool:
        """Whether an index leads to the calls, few or many, so that no other is read."""
        return not self.tests or any(
            isinstance(test, Is) and test.op in {Op.EQ, Op.IN} and test.field in _INDEXED
            for test in self.tests
        )


def question_of(which: WhichCalls, region: str | None) -> Question:
    """*region*: that of the tenant, in which national numbers are read."""
    since: list[datetime] = []
    until: list[datetime] = []
    tests: list[Condition] = []
    for part in _together(which.filter):
        moment = (
            COLUMNS.named(START).value(part.operator, part.value) if part.field == START else None
        )
        if part.operator in _SINCE and moment is not None:
            since.append(moment + _TICK if part.operator is Operator.GT else moment)
        elif part.operator in _UNTIL and moment is not None:
            until.append(moment + _TICK if part.operator is Operator.LE else moment)
        else:
            tests.append(_condition(part, region))
    if which.call_ids is not None:
        tests.append(Is("key", Op.IN, which.call_ids))
    if which.extension is not None:
        tests.append(Is(path("extensions"), Op.HAS, (which.extension,)))
    if which.pbx is not None:
        tests.append(Is(path("pbx"), Op.EQ, which.pbx))
    return Question(max(since, default=None), min(until, default=None), tuple(tests))


def path(name: str) -> str:
    """Where a call's document has a field of its row."""
    return {"call_id": "key", START: START}.get(name, f"row.{name}")


def _together(asked: CallFilter | None) -> Iterator[CallFilter]:
    """Parts that must hold all."""
    if asked is None:
        return
    if asked.filters is None or asked.condition == "or":
        yield asked
        return
    for part in asked.filters:
        yield from _together(part)


def _condition(asked: CallFilter, region: str | None) -> Condition:
    if asked.filters is not None:
        parts = [_condition(part, region) for part in asked.filters]
        return AllOf(parts) if asked.condition == "and" else AnyOf(parts)
    column = COLUMNS.named(asked.field or "")
    value = column.value(asked.operator, asked.value)
    if column.kind is Kind.PHONE and asked.operator is not Operator.IS_NULL:
        return _about_a_number(column, asked.operator, value, region)
    return Is(path(column.name), _OPS[asked.operator], value)


def _about_a_number(
    column: Column, operator: Operator, value: Any, region: str | None
) -> Condition:
    field = path(column.name)
    if operator in {Operator.LIKE, Operator.STARTS_WITH}:
        digits = "".join(filter(str.isdigit, value)) or value
        if operator is Operator.LIKE:
            return Is(field, Op.CONTAINS, digits)
        # +44, 0044 and 44 are the same to who asks; a trunk zero is another beginning.
        digits = digits.removeprefix("00")
        return AnyOf([Is(field, Op.BEGINS, f"{sign}{digits}") for sign in ("", "+", "00")])
    numbers = value if isinstance(value, list) else [value]
    written = [text for number in numbers for text in written_as(number, region)]
    is_not = operator in {Operator.NE, Operator.NOT_IN}
    return Is(field, Op.NOT_IN if is_not else Op.IN, written)
