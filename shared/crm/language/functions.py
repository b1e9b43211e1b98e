"""
What a value may be piped through. Allow-listed, total: a wrong type is a ContractError and no
other exception. Nothing in is nothing out, so that a key of a JSON body is left out, but for
``default``, ``map``, ``text``, ``json`` and the digests.
"""

from __future__ import annotations

import math
import re
from fnmatch import fnmatchcase
from typing import Any

from shared.crm.language.function import Function, Scope, any_value, some_text
from shared.crm.language.functions_text import TEXT_FUNCTIONS
from shared.crm.language.functions_time import TIME_FUNCTIONS
from shared.crm.language.values import bare, kind_of, plain_text
from shared.errors import ContractError

__all__ = ["FUNCTIONS", "Function", "Scope", "plain_text"]

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(?P<fraction>(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?)")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})
_SHOWN = 40


def _map(value: Any, arguments: tuple[str, ...], scope: Scope) -> Any:
    """
    The first line of the template's map whose pattern (``inbound *``) fits; its meaning as it
    stands there, a number stays one.
    """
    lines = scope.maps.get(arguments[0])
    if lines is None:
        raise ContractError(f"there is no map {arguments[0]}")
    text = plain_text(bare(value))
    for pattern, meaning in lines.items():
        if fnmatchcase(text, pattern):
            return meaning
    raise ContractError(f"map {arguments[0]} has no line for {text[:_SHOWN]!r}")


def _default(value: Any, arguments: tuple[Any, ...], _: Scope) -> Any:
    """Of what is not there or is empty; 0 and false are values."""
    return arguments[0] if _is_empty(value) else value


def _nothing(value: Any, _: tuple[Any, ...], __: Scope) -> Any:
    """None for what is empty, so that a key of a JSON body is left out; 0 and false stay."""
    return None if _is_empty(value) else value


def _number(value: Any, _: tuple[Any, ...], __: Scope) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    found = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ContractError(f"a number is needed, not {kind_of(value)}")
    number = float(found[0]) if found["fraction"] else int(found[0])
    if not math.isfinite(number):
        raise ContractError("a number is too large")
    return number


def _boolean(value: Any, _: tuple[Any, ...], __: Scope) -> bool:
    word = plain_text(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ContractError(f"true or false is needed, not {kind_of(value)}")
    return word in _TRUE


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


FUNCTIONS: dict[str, Function] = {
    **TIME_FUNCTIONS,
    **TEXT_FUNCTIONS,
    "number": Function(_number),
    "text": Function(lambda value, _, __: plain_text(value), sees_nothing=True),
    "boolean": Function(_boolean),
    "default": Function(_default, (any_value,), sees_nothing=True, keeps_marks=True),
    "nothing": Function(_nothing, sees_nothing=True, keeps_marks=True),
    "map": Function(_map, (some_text,), sees_nothing=True, keeps_marks=True),
}
