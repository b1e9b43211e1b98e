"""
JSON as text: numbers keep what was written, ids of any length stay exact, and nothing that a CRM
answers can hang or exhaust the reader.

Of a key that is there twice the last one counts (GJSON over raw text would take the first).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Self

from shared.errors import ContractError

#: Lists and objects inside each other. CRMs answer with about ten; deeper is an attack.
MAX_DEPTH = 200
#: Python's own reading of an integer takes quadratic time and stops at 4,300.
MAX_DIGITS = 1000

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
_PAIR = 12
_STRING = r'"(?:[^"\\]|\\.)*+"'
_BRACKETS = re.compile(_STRING + r"|([\[{])|([\]}])", re.DOTALL)
_REFUSED = re.compile(_STRING + r"|(-?Infinity|NaN|[-+.0-9eE]{1001,})", re.DOTALL)


class SourceFloat(float):
    """A number with a fraction or an exponent, and how it was written: ``1.50``, ``1e3``."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, source: str) -> Self:
        made = super().__new__(cls, source)
        made.source = str(source)
        return made


class _Refused(Exception):
    """The scanner met what JSON does not have; where, it does not say."""


def read_json(text: bytes | str) -> Any:
    """
    dict, list, str, bool, None, int (exact) and SourceFloat. Half a surrogate pair is U+FFFD.

    Raises ContractError with line and column: no JSON, not UTF-8, NaN or Infinity, a number of more
    than MAX_DIGITS characters, nested deeper than MAX_DEPTH.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPED.sub(_whole_pair, text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _fault(text, error.pos, f"no JSON: {error.msg}") from None
    except _Refused as error:
        at = next((m.start(1) for m in _REFUSED.finditer(text) if m[1]), 0)
        raise _fault(text, at, str(error)) from None
    except RecursionError:
        raise _too_deep(text) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(value):
        raise _too_deep(text)
    return value


def write_json(value: Any) -> str:
    """
    Compact; a SourceFloat as it was written, letters outside ASCII as they are.

    Raises ContractError for NaN, Infinity, what JSON has no form for, and what is too deep.
    """
    parts: list[str] = []
    _write(value, parts, MAX_DEPTH)
    return "".join(parts)


def plain_numbers(value: Any) -> Any:
    """The same with SourceFloats as floats, for writers that know only the built-in types."""
    if isinstance(value, SourceFloat):
        return float(value)
    if isinstance(value, dict):
        return {key: plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_numbers(inner) for inner in value]
    return value


def _decoded(text: bytes) -> str:
    text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8", "replace")
        raise _fault(before, len(before), "not UTF-8") from None


def _whole_pair(found: re.Match[str]) -> str:
    is_half = found[0][:3].lower() == "\\ud" and found[0][3:4] in set("89abcdefABCDEF")
    return "\\ufffd" if is_half and len(found[0]) < _PAIR else found[0]


def _integer(text: str) -> int | float:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a number has more than {MAX_DIGITS} digits")
    # An integer has no minus zero.
    return SourceFloat(text) if text == "-0" else int(text)


def _float(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a number has more than {MAX_DIGITS} digits")
    return SourceFloat(text)


def _constant(text: str) -> Any:
    raise _Refused(f"JSON has no {text}")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _is_too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def _too_deep(text: str) -> ContractError:
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += 1 if found[1] else -1 if found[2] else 0
        if depth > MAX_DEPTH:
            return _fault(text, found.start(), f"nested deeper than {MAX_DEPTH}")
    return ContractError(f"nested deeper than {MAX_DEPTH}")


def _fault(text: str, at: int, what: str) -> ContractError:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return ContractError(f"line {line}, column {column}: {what}")


def _write(value: Any, parts: list[str], depth: int) -> None:
    if isinstance(value, str):
        parts.append(_text(value))
    elif value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, (int, float)):
        parts.append(_number(value))
    elif depth <= 0:
        raise ContractError(f"nested deeper than {MAX_DEPTH}")
    elif isinstance(value, Mapping):
        _write_object(value, parts, depth)
    elif isinstance(value, (list, tuple)):
        between = "["
        for inner in value:
            parts.append(between)
            _write(inner, parts, depth - 1)
            between = ","
        parts.append("]" if value else "[]")
    else:
        raise ContractError(f"JSON has no form for {type(value).__name__}")


def _write_object(value: Mapping[Any, Any], parts: list[str], depth: int) -> None:
    between = "{"
    for key, inner in value.items():
        if not isinstance(key, str):
            raise ContractError(f"a JSON key is a text, not {type(key).__name__}")
        parts.append(f"{between}{_text(key)}:")
        _write(inner, parts, depth - 1)
        between = ","
    parts.append("}" if value else "{}")


def _text(value: str) -> str:
    # Half a pair has no UTF-8 form: whoever encodes this text would fail.
    if value.isascii() or not _SURROGATE.search(value):
        return encode_basestring(value)
    return encode_basestring_ascii(value)


def _number(value: float) -> str:
    if isinstance(value, SourceFloat):
        return value.source
    if isinstance(value, int):
        # ln 2 / ln 10 digits a bit.
        if value.bit_length() * 0.30103 > MAX_DIGITS + 1:
            raise ContractError(f"a number has more than {MAX_DIGITS} digits")
        return int.__repr__(value)
    if not math.isfinite(value):
        raise ContractError(f"JSON has no {value}")
    return float.__repr__(value)
