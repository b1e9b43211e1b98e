"""
JSON bodies with placeholders: as a structure (``fill``), whose values keep their types, and as
text (``fill_json_text``), as templates of PBX vendors have them. Whatever a value holds, it stays
one value: it cannot end its string or begin another key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from shared.crm.language.contexts import json_string
from shared.crm.language.function import refuse_length
from shared.crm.language.text import Piece, compile_text
from shared.crm.language.values import json_text, json_value, plain_text
from shared.errors import ContractError

_ABSENT = object()
#: Objects and lists inside each other; a serialiser gives up at 254.
_DEEPEST = 100
#: A string (an open one, too, goes to the end), or a comma that nothing follows.
_TRAILING = re.compile(r'"(?:[^"\\]|\\.)*+"?|(?P<comma>,)(?=[ \t\r\n]*+[}\]])', re.DOTALL)
_PART_OF_STRING = re.compile(r'(?:[^"\\]|\\.)*+', re.DOTALL)


# -- structures ---------------------------------------------------------------------------------


def fill(shape: Any, variables: Mapping[str, Any], maps: Mapping[str, Any]) -> Any:
    """
    JSON as a structure, so that types are kept; keys are templates too. A key whose value is one
    placeholder without a value is left out, and so are a key that comes out empty and an object
    that has nothing left.

    Raises ContractError for a wrong value, a key that is there twice, and too much depth.
    """
    filled = _fill(shape, variables, maps, _DEEPEST)
    return None if filled is _ABSENT else filled


def _fill(shape: Any, variables: Mapping[str, Any], maps: Mapping[str, Any], deeper: int) -> Any:
    if isinstance(shape, str):
        value = compile_text(shape).value(variables, maps)
        return _ABSENT if value is None else json_value(value)
    if not isinstance(shape, Mapping | list | tuple):
        return shape
    if not deeper:
        raise ContractError("a body is nested too deep")
    if isinstance(shape, Mapping):
        return _fill_object(shape, variables, maps, deeper - 1)
    items = (_fill(item, variables, maps, deeper - 1) for item in shape)
    return [item for item in items if item is not _ABSENT]


def _fill_object(
    shape: Mapping[str, Any], variables: Mapping[str, Any], maps: Mapping[str, Any], deeper: int
) -> Any:
    kept: dict[str, Any] = {}
    for key, inner in shape.items():
        name = compile_text(key).text(variables, maps=maps)
        value = _fill(inner, variables, maps, deeper)
        if value is _ABSENT or (key and not name):
            continue
        if name in kept:
            raise ContractError("a body has one key twice: a placeholder made it so")
        kept[name] = value
    return kept if kept or not shape else _ABSENT


# -- text ---------------------------------------------------------------------------------------


def fill_json_text(source: str, variables: Mapping[str, Any], *, maps: Mapping[str, Any]) -> Any:
    """
    The value of a JSON text. In a string literal a placeholder's value is escaped, outside it is
    written as JSON itself; a comma before ``}`` or ``]``, as an ``if`` leaves it, does not matter.
    None where the text comes out blank.

    Raises ContractError with line and column of the rendered text, never with what it says.
    """
    writer = _JsonWriter()
    for piece in compile_text(source).pieces(variables, maps=maps):
        writer.add(piece)
    text = writer.whole()
    return _parsed(text) if text.strip() else None


class _JsonWriter:
    def __init__(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self._in_string = False
        #: The template's own words ended in a backslash, which would swallow what comes next.
        self._is_escaping = False

    def add(self, piece: Piece) -> None:
        if piece.own:
            self._write(piece.value)
            self._follow(piece.value)
        elif not self._in_string:
            self._write(json_text(piece.value))
        elif self._is_escaping:
            raise ContractError("a backslash stands right before a placeholder in a JSON string")
        else:
            self._write(json_string(plain_text(piece.value)))

    def whole(self) -> str:
        return "".join(self._texts)

    def _write(self, text: str) -> None:
        self._length += len(text)
        refuse_length(self._length)
        self._texts.append(text)

    def _follow(self, text: str) -> None:
        """Whether a string is open behind the template's own words."""
        at = 1 if self._is_escaping else 0
        self._is_escaping = False
        while at < len(text):
            if not self._in_string:
                at = text.find('"', at) + 1
                if not at:
                    return
                self._in_string = True
            elif (found := _PART_OF_STRING.match(text, at)) is not None:
                at = found.end()
                self._is_escaping = text.startswith("\\", at)
                self._in_string = not text.startswith('"', at)
                at += 1


def _parsed(text: str) -> Any:
    plain = _TRAILING.sub(lambda found: " " if found["comma"] else found[0], text)
    _refuse_depth(plain)
    try:
        parsed = json.loads(
            plain,
            strict=False,
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise ContractError(
            f"the body is no JSON: line {error.lineno}, column {error.colno} of the rendered "
            f"text: {error.msg}"
        ) from None
    except (ValueError, RecursionError):
        raise ContractError("the body is no JSON: a number has too many digits") from None
    # Half characters, which "\\ud800" makes, are mended.
    return json_value(parsed)


def _refuse_depth(text: str) -> None:
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', text, re.DOTALL):
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
        if depth > _DEEPEST:
            raise ContractError("the body is nested too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A value must not write over what another key says."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ContractError("the body has one key twice")
    return found


def _no_number(_: str) -> Any:
    raise ContractError("the body is no JSON: NaN and Infinity are no numbers there")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ContractError("the body is no JSON: a number is too large")
    return number
