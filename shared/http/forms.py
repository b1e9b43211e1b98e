"""In which form a body comes, and in which its answer goes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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


def read_json(body: bytes) -> Any:
    """Raises: ContractError."""
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ContractError("The body is not JSON in UTF-8.") from None


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
