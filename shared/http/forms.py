"""In which form a body comes, and in which its answer goes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isfinite
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl

from shared.errors import ContractError
from shared.http.patching import MERGE_PATCH
from shared.http.routes import Form, InForms, Operation

JSON_BODY = "application/json"
FORM_BODY = "application/x-www-form-urlencoded"
#: Of a form; an operation's model has a dozen.
_MOST_FIELDS = 100
#: Of objects and lists in each other. Settings have some ten.
_DEEPEST = 64
#: What may be hidden in JSON that no database or service takes: NUL, half of a character, a number
#: beyond 64 bits; in a form `%00`. Where this is not to be found, there is none.
_SUSPECT = re.compile(rb"\\u(0000|[dD][89a-fA-F])|[0-9]{19}|[eE][+]?[0-9]{3}|%00")
_FORMS = {
    "text/plain": Form.TEXT,
    "application/json": Form.JSON,
    "application/xml": Form.XML,
    "text/xml": Form.XML,
}
#: RFC 9110, 12.4.2.
_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?")


def form_wanted(answer: Any, accept: str) -> Form:
    """
    Of an answer that is text: as it says itself, else what the client likes best by its header
    *accept*, the first of equals, else text.
    """
    in_forms = isinstance(answer, InForms)
    if in_forms and answer.form is not None:
        return Form(answer.form)
    wanted = [
        (quality, form)
        for kind, quality in _liked(accept)
        if quality > 0 and (form := _FORMS.get(kind)) and (in_forms or form is not Form.XML)
    ]
    return max(wanted, key=itemgetter(0), default=(0.0, Form.TEXT))[1]


def _liked(accept: str) -> Iterator[tuple[str, float]]:
    """Media types and how much each is liked: from 0, refused, to 1."""
    for part in accept.split(","):
        kind, *more = (word.strip().lower() for word in part.split(";"))
        quality = next((word[2:] for word in more if word.startswith("q=")), "1")
        yield kind, float(quality) if _QUALITY.fullmatch(quality) else 1.0


def kinds_taken(operation: Operation[Any]) -> tuple[str, ...]:
    """Content types of its body, the first one preferred."""
    if operation.method == "PATCH":
        return (MERGE_PATCH, JSON_BODY)
    return (JSON_BODY, FORM_BODY) if operation.form_body else (JSON_BODY,)


def read_body(body: bytes, kind: str) -> Any:
    """Raises: ContractError."""
    return read_form(body) if kind == FORM_BODY else read_json(body)


def check_body(found: Any, body: bytes) -> None:
    """That *found*, as it was read from *body*, can be kept. Raises: ContractError."""
    if _SUSPECT.search(body) or body.count(b"[") + body.count(b"{") > _DEEPEST:
        _check(found)


def read_json(body: bytes) -> Any:
    """Raises: ContractError."""
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ContractError("The body is not JSON in UTF-8.") from None


def plain_text(text: str, where: str) -> str:
    """*text*, as it came in a head. Raises: ContractError for what is none."""
    if not _is_plain(text):
        raise ContractError(f"{where}: has a character that no text has: NUL, or half of one")
    return text


def _is_plain(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def _check(found: Any) -> None:
    below = [(found, 0)]
    while below:
        value, depth = below.pop()
        if isinstance(value, str) and not _is_plain(value):
            raise ContractError("body: has a character that no text has: NUL, or half of one")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ContractError("body: has a number that is larger than 64 bits")
        if isinstance(value, float) and not isfinite(value):
            raise ContractError("body: has a number that is larger than any")
        if isinstance(value, dict | list):
            if depth == _DEEPEST:
                raise ContractError(f"body: is nested deeper than {_DEEPEST} levels")
            if isinstance(value, dict):
                below += ((name, depth) for name in value)
                value = value.values()
            below += ((item, depth + 1) for item in value)


def read_form(body: bytes) -> dict[str, str]:
    """Of fields with one name, the last. Raises: ContractError."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise ContractError(
            f"The body is no form in UTF-8 of at most {_MOST_FIELDS} fields."
        ) from None
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
