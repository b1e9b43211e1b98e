"""Conditions as a filter of MongoDB. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.storage.port import AllOf, AnyOf, Condition, Is, Op, values_of

Filter = dict[str, Any]

#: MongoDB asks each item of a list, too; a list is of no type that is compared.
_NO_LIST = {"$not": {"$type": "array"}}
_NEVER: Filter = {"_id": {"$in": []}}
_SIGNS: Mapping[Op, str] = {Op.LT: "$lt", Op.LE: "$lte", Op.GT: "$gt", Op.GE: "$gte"}
_LETTER = re.compile(r"[A-Za-z]")


def field(name: str) -> str:
    return "_id" if name == "key" else name


def filter_of(condition: Condition) -> Filter:
    """Raises: ValueError."""
    if isinstance(condition, Is):
        return _test(condition)
    parts = [filter_of(part) for part in condition.parts]
    if not parts:
        return {} if isinstance(condition, AllOf) else _NEVER
    return {"$or" if isinstance(condition, AnyOf) else "$and": parts}


def _test(test: Is) -> Filter:
    values = values_of(test)
    if test.op is Op.HAS:
        return {field(test.field): {"$elemMatch": {"$in": list(values)}}}
    if test.op in {Op.IN, Op.NOT_IN}:
        found = _that({"$in": list(values)}, test)
        return found if test.op is Op.IN else {"$nor": [found]}
    (value,) = values
    match test.op:
        case Op.EQ:
            return _that({"$eq": value}, test)
        case Op.NE:
            return {"$nor": [_that({"$eq": value}, test)]}
        case Op.IS_NULL:
            found = _that({"$eq": None}, test)
            return found if value else {"$nor": [found]}
        case Op.BEGINS:
            return _that({"$regex": f"^{_escaped(value)}"}, test)
        case Op.CONTAINS:
            return _that({"$regex": _in_any_case(value)}, test)
    return _that({_SIGNS[test.op]: value}, test)


def _that(holds: dict[str, Any], test: Is) -> Filter:
    return {field(test.field): {**holds, **_NO_LIST}}


def _in_any_case(text: str) -> str:
    """Letter by letter: the option ``i`` is about more than ASCII (the Kelvin sign is a k to it)."""
    return "".join(
        f"[{one.lower()}{one.upper()}]" if _LETTER.fullmatch(one) else _escaped(one) for one in text
    )


def _escaped(text: str) -> str:
    # BSON ends a pattern at its first NUL.
    return re.escape(text).replace("\x00", r"\x00")
