"""Conditions as SQL over documents in JSON. Values are bound; names are checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from shared.moments import to_text
from shared.storage.port import AllOf, AnyOf, Condition, Is, Op, comparable, values_of

#: A condition and what is bound in it, in its order.
Sql = tuple[str, tuple[Any, ...]]

_FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")
_NEVER: Sql = ("0", ())
_SIGNS: Mapping[Op, str] = {Op.LT: "<", Op.LE: "<=", Op.GT: ">", Op.GE: ">="}
#: What ``json_type`` says of a value's type. A moment is a text to SQLite.
_TYPES: Mapping[type, str] = {
    bool: "IN ('true', 'false')",
    int: "IN ('integer', 'real')",
    float: "IN ('integer', 'real')",
    str: "= 'text'",
    datetime: "= 'text'",
}


def column(name: str) -> str:
    """Raises ValueError: a field is named by the program, never by input."""
    if name == "key":
        return "key"
    if not _FIELD.match(name):
        raise ValueError(f"not a field: {name}")
    return f"json_extract(body, '$.{name}')"


def bound(value: Any) -> Any:
    found = comparable(value)
    return to_text(found) if isinstance(found, datetime) else found


def sql_of(condition: Condition, model: type[BaseModel]) -> Sql:
    """True where it holds, else false or NULL. Raises: ValueError."""
    if isinstance(condition, Is):
        return _test(condition, model)
    parts = [sql_of(part, model) for part in condition.parts]
    if not parts:
        return ("1", ()) if isinstance(condition, AllOf) else _NEVER
    between = " OR " if isinstance(condition, AnyOf) else " AND "
    text = between.join(part for part, _ in parts)
    return f"({text})", tuple(value for _, params in parts for value in params)


def _test(test: Is, model: type[BaseModel]) -> Sql:
    values = values_of(test)
    field = column(test.field)
    match test.op:
        case Op.IS_NULL:
            return f"{field} IS {'' if values[0] else 'NOT '}NULL", ()
        case Op.EQ | Op.IN:
            return _one_of(test.field, values, model)
        case Op.NE | Op.NOT_IN:
            text, params = _one_of(test.field, values, model)
            return f"({text}) IS NOT 1", params
        case Op.HAS:
            return _has(test.field, values)
    (value,) = values
    if not _may_hold(value, test.field, model):
        return _NEVER
    typed = _typed(test.field, type(value))
    match test.op:
        case Op.BEGINS:
            return f"({typed} AND instr({field}, ?) = 1)", (value,)
        case Op.CONTAINS:
            # SQLite's lower() knows ASCII alone.
            return f"({typed} AND instr(lower({field}), lower(?)) > 0)", (value,)
    return f"({field} {_SIGNS[test.op]} ? AND {typed})", (bound(value),)


def _one_of(name: str, values: Sequence[Any], model: type[BaseModel]) -> Sql:
    by_type: dict[str, list[Any]] = {}
    for value in values:
        if _may_hold(value, name, model):
            by_type.setdefault(_typed(name, type(value)), []).append(bound(value))
    if not by_type:
        return _NEVER
    parts = [
        f"({column(name)} {_equal_to_one_of(len(same))} AND {typed})"
        for typed, same in by_type.items()
    ]
    params = tuple(value for same in by_type.values() for value in same)
    return f"({' OR '.join(parts)})", params


def _equal_to_one_of(count: int) -> str:
    # Not IN for one: an index in which the order comes next then gives it, too.
    return "= ?" if count == 1 else f"IN ({', '.join('?' * count)})"


def _has(name: str, values: Sequence[str]) -> Sql:
    if name == "key" or not values:
        return _NEVER
    marks = ", ".join("?" * len(values))
    one = f"EXISTS (SELECT 1 FROM json_each(body, '$.{name}') AS one WHERE one.value IN ({marks}))"  # noqa: S608  a checked name
    return f"(json_type(body, '$.{name}') = 'array' AND {one})", tuple(values)


def _typed(name: str, kind: type) -> str:
    return "1" if name == "key" else f"json_type(body, '$.{name}') {_TYPES[kind]}"


def _may_hold(value: Any, name: str, model: type[BaseModel]) -> bool:
    """Whether the field can be of the value's type, where JSON does not tell them apart."""
    if name == "key":
        return isinstance(value, str)
    if isinstance(value, str | datetime):
        return isinstance(value, datetime) == _holds_moments(model, name.split("."))
    return True


def _holds_moments(kind: Any, path: Sequence[str]) -> bool:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(path[0]) if path else None
        return field is not None and _holds_moments(field.annotation, path[1:])
    if get_origin(kind) is Annotated:
        return _holds_moments(get_args(kind)[0], path)
    if not path and kind in {datetime, AwareDatetime}:
        return True
    return any(_holds_moments(one, path) for one in _members(kind))


def _members(kind: Any) -> tuple[Any, ...]:
    """Of a union; a list's or a mapping's are no field's own type."""
    return get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else ()
