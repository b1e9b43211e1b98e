"""The condition in ``#(…)``: what stands right of the operator, and whether a value satisfies it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.crm.language.gjson_values import (
    MISSING,
    Budget,
    Letter,
    Wild,
    is_array,
    is_object,
    wild_of,
)
from shared.crm.language.values import Fragment

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Written by its number a letter is never a wildcard.
_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\u005c", "*": "\\u002a", "?": "\\u003f"})
#: Halves of a pair, in UTF-16.
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})
_TILDES = frozenset({"~true", "~false", "~null", "~*"})


@dataclass(frozen=True, slots=True)
class Condition:
    """
    The type of the value decides how it is compared. Stricter than GJSON where a wrong person
    would be found: integers are exact at any length (there 2**53 ends it), a text that is no
    number equals no number (there it is 0), a quoted ``"~true"`` is a text.
    """

    operator: str
    right: str
    tilde: str
    number: int | float | None
    wild: Wild | None

    def holds(self, value: Any, budget: Budget) -> bool:
        """Raises: Spent."""
        if self.tilde:
            return self.tilde in _TILDES and _ordered(
                self.operator, _is_kind(self.tilde, value), True
            )
        if value is MISSING:
            return False
        if not self.operator:
            return True
        if isinstance(value, str):
            if self.wild is not None:
                return self.wild.matches(value, budget) is (self.operator == "%")
            return _ordered(self.operator, value, self.right)
        if isinstance(value, bool):
            if self.right in {"true", "false"}:
                return _ordered(self.operator, value, self.right == "true")
            # Beyond both of them, as GJSON has it.
            return self.operator == "!=" or self.operator == ("<=", ">=")[value]
        if isinstance(value, int | float):
            if self.number is None:
                return self.operator == "!="
            return _ordered(self.operator, value, self.number)
        return False


def condition_of(operator: str, right: str) -> Condition:
    """*right* as it stands in the path: quoted, a bare word, a tilde or nothing."""
    is_quoted = len(right) > 1 and right[0] == right[-1] == '"'
    letters = list(_unquoted(right[1:-1]) if is_quoted else _bare(right))
    text = "".join(letter for letter, _ in letters)
    tilde = ""
    if text.startswith("~") and not is_quoted:
        tilde = text if text in _TILDES else "~"
    return Condition(
        operator=operator,
        right=text,
        tilde=tilde,
        number=_number(text),
        wild=wild_of(letters) if operator in {"%", "!%"} else None,
    )


def escape_literal(text: str) -> Fragment:
    """
    For the inside of quotes right of an operator, ``#(Phone=="…")``: it stands for itself with
    every operator, ``%`` too, and cannot end the quotes. Control characters are dropped.
    """
    return Fragment(_CONTROL.sub("", text).translate(_ESCAPES), text, escape_literal)


def _ordered(operator: str, left: Any, right: Any) -> bool:
    if operator == "=":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    if operator == ">":
        return bool(left > right)
    return operator == ">=" and bool(left >= right)


def _is_kind(tilde: str, value: Any) -> bool:
    if tilde == "~*":
        return value is not MISSING
    if tilde == "~null":
        return value is None or value is MISSING
    if is_object(value) or is_array(value):
        return False
    if isinstance(value, str):
        return value.lower() in (_TRUE if tilde == "~true" else _FALSE)
    is_true = value is not MISSING and bool(value)
    return is_true is (tilde == "~true")


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else None


def _bare(text: str) -> Iterator[Letter]:
    return ((letter, False) for letter in text)


def _unquoted(text: str) -> Iterator[Letter]:
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter != "\\" or at == len(text):
            yield letter, False
            continue
        letter = text[at]
        at += 1
        digits = _HEX4.match(text, at) if letter == "u" else None
        if digits is None:
            yield _SHORT.get(letter, letter), False
            continue
        at = digits.end()
        code = int(digits[0], 16)
        low = _HEX4.match(text, at + 2) if text.startswith("\\u", at) else None
        if low and code in _HIGH and int(low[0], 16) in _LOW:
            code = 0x10000 + (code - _HIGH.start << 10) + int(low[0], 16) - _LOW.start
            at = low.end()
        yield chr(code), True
