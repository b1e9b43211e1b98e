"""Which events a subscriber is told of: by type, and by any field. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from services.gateway.subscribers.public import TYPES, is_known, paths_of, value_at
from shared.contracts.columns import MAX_TEXT, MAX_VALUES, Operator

#: What an administrator writes by hand has five tests.
MOST_TESTS = 50
_DEEPEST = 5
#: ``calls.ended``, ``calls.*``, ``*``.
EventPattern = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z_]{1,40}\.(\*|[a-z_]{1,40}))$")]
FieldPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$")]

_ORDERED: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.LT: lambda a, b: a < b,
    Operator.LE: lambda a, b: a <= b,
    Operator.GT: lambda a, b: a > b,
    Operator.GE: lambda a, b: a >= b,
}
_OF_TEXT = frozenset({Operator.LIKE, Operator.STARTS_WITH})
_OF_MANY = frozenset({Operator.IN, Operator.NOT_IN})


class EventFilter(BaseModel):
    """
    A test of one field (``field``, ``operator``, ``value``), or several under ``filters``, of which
    all (``condition`` and) or one (or) must hold. A field that an event lacks passes ``!=``,
    ``not_in`` and ``is_null`` alone. Times are compared as the texts that they are, in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: FieldPath | None = Field(
        default=None, description="`type`, `data.direction`, `data.caller.number`."
    )
    operator: Operator = Operator.EQ
    value: JsonValue = None
    condition: Literal["and", "or"] = "and"
    filters: Annotated[tuple[EventFilter, ...], Field(max_length=MOST_TESTS)] = ()

    @model_validator(mode="after")
    def is_one_or_several(self) -> Self:
        if (self.field is None) == (not self.filters):
            raise ValueError("say `field`, `operator` and `value`, or `filters`")
        if self.field is not None:
            _check_value(self.field, self.operator, self.value)
        return self

    @property
    def depth(self) -> int:
        return 1 + max((inner.depth for inner in self.filters), default=0)

    def tests(self) -> Iterator[EventFilter]:
        if self.field is not None:
            yield self
        for inner in self.filters:
            yield from inner.tests()

    def holds(self, event: Mapping[str, Any]) -> bool:
        if self.field is not None:
            return _holds(value_at(event, self.field), self.operator, self.value)
        held = (inner.holds(event) for inner in self.filters)
        return all(held) if self.condition == "and" else any(held)


def types_of(patterns: Iterable[str]) -> frozenset[str]:
    """Of this version: a pattern of a newer one may fit none."""
    return frozenset(found for pattern in patterns for found in _fitting(pattern))


def check_patterns(patterns: Iterable[str]) -> None:
    """Raises: ValueError for a pattern that no type fits."""
    for pattern in patterns:
        if not _fitting(pattern):
            near = difflib.get_close_matches(pattern, TYPES, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"no event is `{pattern}`{meant} There are: {', '.join(TYPES)}")


def _fitting(pattern: str) -> frozenset[str]:
    group = pattern.removesuffix("*")
    return frozenset(t for t in TYPES if t == pattern or (group != pattern and t.startswith(group)))


def check_filter(chosen: EventFilter, types: frozenset[str]) -> None:
    """Raises: ValueError for a field that no event of *types* has, and for too much."""
    tests = list(chosen.tests())
    if len(tests) > MOST_TESTS or chosen.depth > _DEEPEST:
        raise ValueError(f"filter: at most {MOST_TESTS} tests, {_DEEPEST} deep")
    for test in tests:
        path = test.field or ""
        if not is_known(path, types):
            near = difflib.get_close_matches(path, paths_of(types), n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"filter: no event that is subscribed to has `{path}`{meant}")


def _check_value(field: str, operator: Operator, value: JsonValue) -> None:
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_VALUES or any(
        isinstance(one, str) and len(one) > MAX_TEXT for one in values
    ):
        raise ValueError(f"`{field}`: at most {MAX_VALUES} values of {MAX_TEXT} characters")
    if any(isinstance(one, list | dict) or one is None for one in values):
        raise ValueError(f"`{field}`: a value is a text, a number, true or false; or see `is_null`")
    if any(isinstance(one, int | float) and not is_number(one) for one in values):
        raise ValueError(f"`{field}`: a number is too large")
    if operator is Operator.IS_NULL and not isinstance(value, bool):
        raise ValueError(f"`{field}`: `is_null` takes true or false")
    if operator in _OF_MANY and not isinstance(value, list):
        raise ValueError(f"`{field}`: `{operator}` takes a list")
    if operator is not Operator.HAS and operator not in _OF_MANY and isinstance(value, list):
        raise ValueError(f"`{field}`: `{operator}` takes one value")
    if operator in _OF_TEXT and not isinstance(value, str):
        raise ValueError(f"`{field}`: `{operator}` takes a text")


def is_number(value: float) -> bool:
    """Of those that every database and every reader of JSON takes."""
    # It may be an integer, which may be larger than any float.
    return -(2**63) <= value < 2**63


def _holds(found: Any, operator: Operator, value: Any) -> bool:
    match operator:
        case Operator.IS_NULL:
            return (found is None) is value
        case Operator.EQ:
            return _same(found, value)
        case Operator.NE:
            return not _same(found, value)
        case Operator.IN:
            return any(_same(found, one) for one in value)
        case Operator.NOT_IN:
            return not any(_same(found, one) for one in value)
        case Operator.HAS:
            wanted = value if isinstance(value, list) else [value]
            return isinstance(found, list) and any(_same(f, w) for f in found for w in wanted)
        case Operator.LIKE:
            return isinstance(found, str) and value.casefold() in found.casefold()
        case Operator.STARTS_WITH:
            return isinstance(found, str) and found.startswith(value)
    return _kind(found) == _kind(value) and bool(_ORDERED[operator](found, value))


def _same(found: Any, value: Any) -> bool:
    """True is no 1."""
    return _kind(found) == _kind(value) and bool(found == value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other"
