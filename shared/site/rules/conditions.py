"""Conditions of a row: tests, and how they hang together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag
from typing_extensions import TypeAliasType

from shared.site.parts import Part
from shared.site.rules.subjects import Ask, Subject, SubjectText

MOST_VALUES = 1000
#: Nobody writes deeper; conditions that nest for ever are an attack.
DEEPEST = 8
#: Tests and groups of one condition; before anything is made of them.
_MOST_PARTS = 1000


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    GREATER = ">"
    LESS_OR_EQUAL = "<="
    GREATER_OR_EQUAL = ">="
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    IN = "in"
    MATCHES = "matches"
    BETWEEN = "between"
    EXISTS = "exists"
    OLDER_THAN = "older_than"
    NEWER_THAN = "newer_than"


def _as_text(value: Any) -> Any:
    """What JSON and YAML make of a bare value, as the text that was meant."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case _:
            return value


Wanted = Annotated[str, StringConstraints(min_length=1, max_length=500), BeforeValidator(_as_text)]
Values = Annotated[tuple[Wanted, ...], Field(min_length=1, max_length=MOST_VALUES)]


class Test(Part):
    """``of operator value``; `value` as the operator wants it."""

    #: pytest looks for classes of this name.
    __test__ = False

    of: SubjectText | None = Field(
        default=None, description="What is asked about; without it the rule's `field`."
    )
    operator: Operator = Operator.EQUAL
    value: Wanted | Values | None = Field(
        default=None,
        description="A list for `in`, two for `between`, nothing for `exists`, an age (`30d`) for "
        "`older_than` and `newer_than`, else one value.",
    )

    @property
    def values(self) -> tuple[str, ...]:
        if self.value is None:
            return ()
        return (self.value,) if isinstance(self.value, str) else self.value


class AllOf(Part):
    """Every one of them."""

    all: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=50)]


class AnyOf(Part):
    """One of them is enough."""

    any: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=50)]


class NoneOf(Part):
    """Not one of them."""

    none: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=50)]


def _form(value: Any) -> str:
    for form, model in (("all", AllOf), ("any", AnyOf), ("none", NoneOf)):
        if isinstance(value, model) or (isinstance(value, dict) and form in value):
            return form
    return "test"


def _bounded(value: Any) -> Any:
    """
    The value as it is, once it is known to end. Walked without recursion: it may be deeper than
    Python goes, hold itself, or unfold without end. Raises: ValueError.
    """
    if not _parts(value):  # a test, as nearly all are
        return value
    count, level = 0, [value]
    for _ in range(DEEPEST):
        count += len(level)
        if count > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} tests and groups in one condition")
        parts = (part for item in level for part in _parts(item))
        level = list(islice(parts, _MOST_PARTS + 1))
        if not level:
            return value
    raise ValueError(f"conditions in conditions, more than {DEEPEST} deep")


def _parts(value: Any) -> Sequence[Any]:
    """What a condition that is not read yet holds."""
    if isinstance(value, dict):
        held = value.get("all") or value.get("any") or value.get("none")
        return held if isinstance(held, list | tuple) else ()
    return parts_of(value)


Condition = TypeAliasType(
    "Condition",
    Annotated[
        Annotated[AllOf, Tag("all")]
        | Annotated[AnyOf, Tag("any")]
        | Annotated[NoneOf, Tag("none")]
        | Annotated[Test, Tag("test")],
        Discriminator(_form),
        BeforeValidator(_bounded),
    ],
)

for _model in (AllOf, AnyOf, NoneOf):
    _model.model_rebuild()


def parts_of(condition: Condition) -> tuple[Condition, ...]:
    """None of a test."""
    match condition:
        case AllOf():
            return condition.all
        case AnyOf():
            return condition.any
        case NoneOf():
            return condition.none
        case _:
            return ()


def tests_in(condition: Condition) -> Iterator[Test]:
    if isinstance(condition, Test):
        yield condition
    for part in parts_of(condition):
        yield from tests_in(part)


def depth_of(condition: Condition) -> int:
    return 1 + max(map(depth_of, parts_of(condition)), default=0)


def subject_of(test: Test, field: str | None) -> Subject | None:
    """None: the rule names no field that it could mean."""
    if test.of is not None:
        return test.of
    return Subject(Ask.FIELD, field) if field else None
