"""Functions of texts: cutting, joining, and the forms that other systems want them in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from shared.crm.language.function import (
    Function,
    Scope,
    a_count,
    a_place,
    a_text,
    of_text,
    refuse_length,
    some_text,
)
from shared.crm.language.values import Encoded, json_text, plain_text
from shared.errors import ContractError

_NO_DIGIT = re.compile(r"[^0-9]+")
_MOST_ITEMS = 10_000


def _replace(value: Any, arguments: tuple[str, ...], _: Scope) -> str:
    text, (old, new) = plain_text(value), arguments
    refuse_length(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _before(value: Any, arguments: tuple[str, ...], _: Scope) -> str:
    """All of it where the argument is not in it."""
    return plain_text(value).partition(arguments[0])[0]


def _after(value: Any, arguments: tuple[str, ...], _: Scope) -> str:
    """Nothing where the argument is not in it: of ``Anna`` there is nothing after the blank."""
    return plain_text(value).partition(arguments[0])[2]


def _first(value: Any, arguments: tuple[int, ...], _: Scope) -> str:
    return plain_text(value)[: arguments[0]]


def _last(value: Any, arguments: tuple[int, ...], _: Scope) -> str:
    text = plain_text(value)
    return text[max(0, len(text) - arguments[0]) :]


def _substring(value: Any, arguments: tuple[int, ...], _: Scope) -> str:
    """Nothing where it begins behind the end."""
    start, *lengths = arguments
    text = plain_text(value)[start:]
    return text[: lengths[0]] if lengths else text


def _length(value: Any, _: tuple[Any, ...], __: Scope) -> int:
    """Items of a list, characters of anything else; of nothing 0."""
    return len(value) if isinstance(value, list | tuple) else len(plain_text(value))


def _item(value: Any, arguments: tuple[int, ...], _: Scope) -> Any:
    """None where there is none. What is no list is its own first and last item."""
    items = value if isinstance(value, list | tuple) else [value]
    at = arguments[0]
    return items[at] if -len(items) <= at < len(items) else None


def _split(value: Any, arguments: tuple[str, ...], _: Scope) -> list[str]:
    """An empty text has no items."""
    text = plain_text(value)
    if text.count(arguments[0]) >= _MOST_ITEMS:
        raise ContractError(f"a text has over {_MOST_ITEMS} items")
    return text.split(arguments[0]) if text else []


def _join(value: Any, arguments: tuple[str, ...], _: Scope) -> str:
    """What is no list is its own text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return plain_text(value)
    items = [plain_text(item) for item in value]
    refuse_length(sum(map(len, items)) + len(items) * len(arguments[0]))
    return arguments[0].join(items)


def _of_bytes(make: Callable[[bytes], str]) -> Function:
    """Of the text in UTF-8. Nothing is the empty text: a signature over no body is one."""
    return Function(lambda value, _, __: make(plain_text(value).encode()), sees_nothing=True)


def _of_key(algorithm: str, shown: Callable[[bytes], str]) -> Function:
    def run(value: Any, arguments: tuple[str, ...], _: Scope) -> str:
        text = plain_text(value).encode()
        return shown(hmac.new(arguments[0].encode(), text, algorithm).digest())

    return Function(run, (some_text,), sees_nothing=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


TEXT_FUNCTIONS: dict[str, Function] = {
    # The documented two.
    "Capitalize": of_text(lambda text: text[:1].upper() + text[1:]),
    "UrlEncode": Function(
        lambda value, _, __: Encoded(quote(plain_text(value), safe="")), keeps_marks=True
    ),
    "lower": of_text(str.lower),
    "upper": of_text(str.upper),
    "trim": of_text(str.strip),
    "digits": of_text(lambda text: _NO_DIGIT.sub("", text)),
    "replace": Function(_replace, (some_text, a_text)),
    "before": Function(_before, (some_text,)),
    "after": Function(_after, (some_text,)),
    "first": Function(_first, (a_count,)),
    "last": Function(_last, (a_count,)),
    "substring": Function(_substring, (a_count, a_count), needs=1),
    "length": Function(_length, sees_nothing=True),
    "item": Function(_item, (a_place,)),
    "split": Function(_split, (some_text,)),
    "join": Function(_join, (a_text,)),
    "html": of_text(html.escape),
    "html_lines": of_text(lambda text: "<br>".join(map(html.escape, text.splitlines()))),
    "json": Function(lambda value, _, __: json_text(value), sees_nothing=True),
    # Digests are hexadecimal, in lower case, where the name does not say otherwise.
    "base64": _of_bytes(_base64),
    "md5": _of_bytes(
        lambda content: hashlib.md5(content, usedforsecurity=False).hexdigest()
    ),  # what CRMs ask for in a login
    "sha1": _of_bytes(lambda content: hashlib.sha1(content, usedforsecurity=False).hexdigest()),
    "sha256": _of_bytes(lambda content: hashlib.sha256(content).hexdigest()),
    "hmac_sha256": _of_key("sha256", bytes.hex),
    "hmac_sha256_base64": _of_key("sha256", _base64),
    "hmac_sha1": _of_key("sha1", bytes.hex),
}
