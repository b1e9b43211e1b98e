"""What a Custom CRM answered → the value of a field. Pure; whoever answers is a stranger."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import JsonValue

from shared.errors import ContractError
from shared.net.client import Answer

#: A text that a rule compares; it is kept with the decision.
_LONGEST_TEXT = 4096
_MOST_ITEMS = 200
#: What every store can hold.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
#: Names in an object, tried after the field's own.
_OTHER_NAMES = ("value", "result")
_JSON = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json")
#: A sender that says nothing of its answer, or as little as this, means a text.
_UNTOLD = frozenset({"", "application/octet-stream"})
#: The beginning of a page, whatever it is called: an error page, a login.
_PAGE = re.compile(r"<(!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_TOLD_CHARSET = re.compile(r';\s*charset="?([a-z0-9_.:-]{1,40})')
#: As codecs names them. Some of its codecs are no character sets, or cost more than they hold.
_CHARSET = re.compile(r"(utf-8-sig|utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp125\d|koi8-[ru])")


def value_in(answer: Answer, field: str, *, host: str) -> JsonValue:
    """
    JSON by its content type, or a text that is a JSON object, list or quoted string by its look:
    of an object what it holds under *field* (else that name in other letter case, else ``value``,
    else ``result``). Any other text is the value itself. None where that is empty or null.

    Raises: ContractError, which says what came, never its content.
    """
    told = answer.headers.get("content-type", "").lower()
    kind, charset = told.partition(";")[0].strip(), _TOLD_CHARSET.search(told)
    if not answer.body.strip():
        return None
    is_json = _JSON.fullmatch(kind) is not None
    if not is_json and kind not in _UNTOLD and not kind.startswith("text/"):
        raise ContractError(f"{host} answered with {_shown(kind)}, where a value was due")
    text = _text(answer.body, charset[1] if charset else None, host).strip()
    if _PAGE.match(text) or (kind in {"text/html", "text/xml"} and text.startswith("<")):
        raise ContractError(f"{host} answered with a page, where a value was due")
    found: Any = text
    # PHP calls everything text/html: what is meant has to be seen.
    if is_json or text == "null" or text[:1] in {"{", "[", '"'}:
        try:
            found = json.loads(
                text, parse_int=_integer, parse_float=_number, parse_constant=_no_number
            )
        except (ValueError, RecursionError):
            if is_json:
                raise ContractError(f"{host} answered what is no JSON") from None
    if isinstance(found, dict):
        found = _of_object(found, field)
    return _plain(found, host)


def _of_object(found: Mapping[str, Any], field: str) -> Any:
    if field in found:
        return found[field]
    folded = field.casefold()
    for name, value in found.items():
        if name.casefold() == folded:
            return value
    return next((found[name] for name in _OTHER_NAMES if name in found), None)


def _plain(found: Any, host: str) -> JsonValue:
    """Raises: ContractError for objects, and lists in lists."""
    if not isinstance(found, list):
        return _scalar(found, host)
    if len(found) > _MOST_ITEMS:
        raise ContractError(f"{host} answered a list of more than {_MOST_ITEMS} values")
    items = [_scalar(item, host) for item in found]
    return [item for item in items if item is not None] or None


def _scalar(found: Any, host: str) -> str | int | float | bool | None:
    if isinstance(found, dict | list):
        what = "an object" if isinstance(found, dict) else "a list in a list"
        raise ContractError(f"{host} answered {what}, where a value was due")
    if not isinstance(found, str):
        return found  # type: ignore[no-any-return]  # what is left of JSON: numbers, yes, no, null
    if len(found) > _LONGEST_TEXT:
        raise ContractError(f"{host} answered a text of more than {_LONGEST_TEXT} characters")
    # Half a character, which JSON can say and nobody can keep: it becomes a question mark.
    return found.encode(errors="replace").decode().strip() or None


def _integer(digits: str) -> int | str:
    """One that is too long to be kept compares as well as a text of digits."""
    if len(digits) > len(str(_SMALLEST)):
        return digits
    number = int(digits)
    return number if _SMALLEST <= number <= _LARGEST else digits


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(_: str) -> NoReturn:
    raise ValueError("not a finite number")


def _text(body: bytes, told: str | None, host: str) -> str:
    charset = _charset(told or "utf-8")
    try:
        if charset is not None:
            return body.decode(charset)
    except UnicodeDecodeError:
        pass  # said below, as of a character set that nobody reads
    raise ContractError(
        f"{host} answered what is no text in its character set: answer in UTF-8, and say so"
    )


def _charset(told: str) -> str | None:
    try:
        name = codecs.lookup(told).name
    except LookupError:
        return None
    # Some editors put a mark in front.
    return "utf-8-sig" if name == "utf-8" else name if _CHARSET.fullmatch(name) else None


def _shown(kind: str) -> str:
    """A stranger's word on one line."""
    return "".join(sign for sign in kind if sign.isprintable())[:60]
