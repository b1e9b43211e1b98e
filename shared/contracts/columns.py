"""
The fields of a flat model as what is asked of them: their kinds, the operators that each kind takes,
and what is wrong with a value, in words for who wrote it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, JsonValue, TypeAdapter, ValidationError

from shared.moments import Instant

MAX_TEXT = 256
MAX_VALUES = 500


class Operator(StrEnum):
    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    NOT_IN = "not_in"
    LIKE = "like"  # the text is in it, in capitals or not
    STARTS_WITH = "starts_with"  # as it is written
    HAS = "has"  # a list has the text, or one of the texts
    IS_NULL = "is_null"  # true or false


class Kind(StrEnum):
    """What a field holds, as people are told."""

    TEXT = "text"
    WORD = "one of some words"
    PHONE = "a telephone number"  # in whatever spelling it is asked for
    NUMBER = "a number"
    FLAG = "true or false"
    MOMENT = "a time"
    LIST = "a list of texts"


_EQUALITY = (Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN)
_ORDER = (Operator.LT, Operator.LE, Operator.GT, Operator.GE)
_PARTS = (Operator.LIKE, Operator.STARTS_WITH)
OPERATORS: Mapping[Kind, tuple[Operator, ...]] = {
    Kind.TEXT: (*_EQUALITY, *_ORDER, *_PARTS, Operator.IS_NULL),
    Kind.WORD: (*_EQUALITY, Operator.IS_NULL),
    Kind.PHONE: (*_EQUALITY, *_PARTS, Operator.IS_NULL),
    Kind.NUMBER: (*_EQUALITY, *_ORDER, Operator.IS_NULL),
    Kind.FLAG: (Operator.EQ, Operator.NE, Operator.IS_NULL),
    Kind.MOMENT: (Operator.EQ, Operator.NE, *_ORDER, Operator.IS_NULL),
    Kind.LIST: (Operator.HAS,),
}
_MANY = frozenset({Operator.IN, Operator.NOT_IN})
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Instant)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    meaning: str
    #: Of a WORD.
    words: tuple[str, ...] = ()

    def value(self, operator: Operator, value: JsonValue) -> Any:
        """
        As it is compared: moments as such, a list for ``in``, ``not_in`` and ``has``.

        Raises: ValueError, in words for who asked.
        """
        if operator not in OPERATORS[self.kind]:
            known = ", ".join(OPERATORS[self.kind])
            raise ValueError(f"`{self.name}` is {self.kind}: it takes no `{operator}`, but {known}")
        if operator is Operator.IS_NULL:
            if not isinstance(value, bool):
                raise ValueError(f"`{self.name}`: `is_null` takes true or false")
            return value
        if operator is Operator.HAS and isinstance(value, str):
            value = [value]
        if operator is Operator.HAS or operator in _MANY:
            if not isinstance(value, list):
                raise ValueError(f"`{self.name}`: `{operator}` takes a list")
            if len(value) > MAX_VALUES:
                raise ValueError(f"`{self.name}`: {len(value)} values; at most {MAX_VALUES}")
            return [self._single(one) for one in value]
        return self._single(value)

    def _single(self, value: JsonValue) -> Any:
        if value is None:
            raise ValueError(f"`{self.name}`: to ask for no value, say `is_null`: true")
        match self.kind:
            case Kind.NUMBER:
                return self._number(value)
            case Kind.FLAG:
                if isinstance(value, bool):
                    return value
                raise ValueError(f"`{self.name}` is true or false")
            case Kind.MOMENT:
                return self._moment(value)
            case Kind.LIST:
                what = "a text, or a list of texts"
            case _:
                what = self.kind.value
        if not isinstance(value, str):
            raise ValueError(f"`{self.name}`: the value is to be {what}, in quotes")  # noqa: TRY004  pydantic tells ValueErrors alone
        if not 0 < len(value) <= MAX_TEXT:
            raise ValueError(f"`{self.name}`: a text of 1 to {MAX_TEXT} characters")
        if self.kind is Kind.WORD and value not in self.words:
            raise ValueError(
                f"`{self.name}` is never that{nearest(value, self.words)}; "
                f"it is one of: {', '.join(self.words)}"
            )
        return value

    def _number(self, value: JsonValue) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"`{self.name}` is a number")  # noqa: TRY004  the same
        if not math.isfinite(value) or not -(2**63) <= value < 2**63:
            raise ValueError(f"`{self.name}`: no database takes this number")
        return value

    def _moment(self, value: JsonValue) -> datetime:
        try:
            return _MOMENT.validate_python(value if isinstance(value, str) else "")
        except ValidationError:
            raise ValueError(
                f"`{self.name}` is a time with a zone: 2026-11-21T09:00:00Z, 2026-11-21T10:00:00+01:00"
            ) from None


@dataclass(frozen=True, slots=True)
class Columns:
    by_name: Mapping[str, Column]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Self:
        """Raises TypeError for a field of a kind that nothing here is said about."""
        return cls(
            {
                name: Column(
                    name,
                    next((m for m in field.metadata if isinstance(m, Kind)), None)
                    or _kind(field.annotation),
                    field.description or "",
                    _words(field.annotation),
                )
                for name, field in model.model_fields.items()
            }
        )

    def named(self, name: str) -> Column:
        """Raises: ValueError."""
        column = self.by_name.get(name)
        if column is None:
            raise ValueError(
                f"there is no field `{name}`{nearest(name, self.by_name)}; "
                f"there are: {', '.join(self.by_name)}"
            )
        return column

    def having(self, kind: Kind) -> list[str]:
        return [name for name, column in self.by_name.items() if column.kind is kind]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint in brackets, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""


def _kind(annotation: Any) -> Kind:
    kinds = {_plain_kind(one) for one in _members(annotation)}
    if len(kinds) != 1:
        raise TypeError(f"{annotation}: not one kind")
    return kinds.pop()


def _plain_kind(found: Any) -> Kind:
    if get_origin(found) is Literal or (isinstance(found, type) and issubclass(found, StrEnum)):
        return Kind.WORD
    if get_origin(found) is tuple:
        return Kind.LIST
    kinds: Mapping[Any, Kind] = {
        str: Kind.TEXT,
        bool: Kind.FLAG,
        int: Kind.NUMBER,
        float: Kind.NUMBER,
        datetime: Kind.MOMENT,
        AwareDatetime: Kind.MOMENT,
    }
    if found not in kinds:
        raise TypeError(f"{found}: no kind")
    return kinds[found]


def _words(annotation: Any) -> tuple[str, ...]:
    found: list[str] = []
    for one in _members(annotation):
        if get_origin(one) is Literal:
            found += get_args(one)
        elif isinstance(one, type) and issubclass(one, StrEnum):
            found += [member.value for member in one]
    return tuple(found)


def _members(annotation: Any) -> tuple[Any, ...]:
    """What it may be beside None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return tuple(m for one in get_args(annotation) for m in _members(one))
    return () if annotation is NoneType else (annotation,)
