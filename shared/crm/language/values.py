"""How a value stands in a text and in JSON, and the marks that a text may carry."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any, Self

from shared.errors import ContractError

#: Nobody nests deeper; what does is an attack.
_DEEPEST = 100
#: Python refuses to write more than 4300 digits; an answer is read with up to 1000.
_WIDEST_BITS = 3400
#: Above it a float is no exact whole number any more, and is written with its exponent.
_LARGEST_WHOLE = 1e15
#: Without leading zeros: ``0101`` and ``101`` are two extensions.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?")
_HALF = re.compile("[\ud800-\udfff]")


#: Into a search language, or for a place.
Escape = Callable[[str], str]


class Encoded(str):
    """Percent-encoded by its template (``UrlEncode``): no place encodes it again."""

    __slots__ = ()


class Fragment(str):
    """
    Escaped for the search language already, which leaves it; the place where it lands still
    escapes it. Where *raw* is known, functions see that, and what they make of it is escaped by
    *escape* again: half of an escaped text may be half of an escape.
    """

    __slots__ = ("escape", "raw")
    raw: str | None
    escape: Escape | None

    def __new__(cls, text: str, raw: str | None = None, escape: Escape | None = None) -> Self:
        self = super().__new__(cls, text)
        if isinstance(text, Fragment) and raw is None:
            raw, escape = text.raw, text.escape
        self.raw, self.escape = raw, escape
        return self


def escape_of(values: Iterable[Any]) -> Escape | None:
    """How the first of *values* that was escaped, or has an item that was, was escaped."""
    for value in values:
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Fragment) and item.escape is not None:
                return item.escape
    return None


def bare(value: Any) -> Any:
    """As it was before it was escaped; a list, item by item."""
    if isinstance(value, list | tuple):
        return [_bare(item) for item in value]
    return _bare(value)


def escaped(value: Any, escape: Escape) -> Any:
    """A text, or the texts of a list; anything else stays."""
    if isinstance(value, list | tuple):
        return [_escaped(item, escape) for item in value]
    return _escaped(value, escape)


def _bare(value: Any) -> Any:
    return value.raw if isinstance(value, Fragment) and value.raw is not None else value


def _escaped(value: Any, escape: Escape) -> Any:
    return escape(value) if isinstance(value, str) and not isinstance(value, Encoded) else value


def plain_text(value: Any) -> str:
    """
    Nothing for None, ``true``, seconds of a duration, items with commas between, JSON for an
    object. Marks stay; half a character (a lone surrogate) becomes U+FFFD, so that every text can
    be sent. Raises ContractError for what is nested too deep or has too many digits.
    """
    return _plain(value, _DEEPEST)


def _plain(value: Any, deeper: int) -> str:
    if isinstance(value, str):
        return _whole(value)
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return _number(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, timedelta):
        return str(round(value.total_seconds()))
    if isinstance(value, Mapping):
        return json_text(value)
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if isinstance(value, Sequence | AbstractSet):
        _refuse_depth(deeper)
        return ",".join(_plain(item, deeper - 1) for item in value)
    return _whole(str(value))


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(_bounded(value))
    is_whole = value.is_integer() and abs(value) < _LARGEST_WHOLE
    return str(int(value)) if is_whole else float.__repr__(value)


def json_value(value: Any) -> Any:
    """
    The value in JSON's own types: a moment is ISO 8601, a duration whole seconds. Raises
    ContractError for what JSON cannot say (NaN) and for what is nested too deep.
    """
    return _json(value, _DEEPEST)


def _json(value: Any, deeper: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(_whole(value))
    if isinstance(value, int):
        return _bounded(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ContractError("JSON has no such number")
        return value
    if isinstance(value, timedelta):
        return round(value.total_seconds())
    if isinstance(value, Mapping):
        _refuse_depth(deeper)
        return {_plain(name, deeper - 1): _json(item, deeper - 1) for name, item in value.items()}
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, bytes | bytearray):
        _refuse_depth(deeper)
        return [_json(item, deeper - 1) for item in value]
    return plain_text(value)


def json_text(value: Any) -> str:
    """Compact. Raises ContractError as ``json_value`` does."""
    return json.dumps(json_value(value), ensure_ascii=False, separators=(",", ":"))


def number_in(value: Any) -> int | float | None:
    """A number, or a text that looks like one (and a duration, in seconds); else None."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return None


def kind_of(value: Any) -> str:
    """What an error calls it: its kind and never the value, which may be a secret."""
    if isinstance(value, str):
        return "text"
    return "nothing" if value is None else type(value).__name__


def _whole(text: str) -> str:
    marked = isinstance(text, Encoded | Fragment)
    plain = text if marked or type(text) is str else str.__str__(text)
    if plain.isascii() or not _HALF.search(plain):
        return plain
    mended = _HALF.sub("\ufffd", plain)
    return Fragment(mended, text.raw, text.escape) if isinstance(text, Fragment) else mended


def _bounded(value: int) -> int:
    if value.bit_length() > _WIDEST_BITS:
        raise ContractError("a number has too many digits")
    return value


def _refuse_depth(deeper: int) -> None:
    if not deeper:
        raise ContractError("a value is nested too deep")
