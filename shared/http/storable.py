"""What could be read of a request and no database takes, with its place. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from shared.faults import Path

Fault = tuple[Path, str]

#: Of objects and lists in each other. Settings have some ten.
_DEEPEST = 64
#: What may be hidden in a body: NUL, half of a character, a number beyond 64 bits; in a form `%00`.
#: Where this is not to be found, there is none.
_SUSPECT = re.compile(rb"\\u(0000|[dD][89a-fA-F])|[0-9]{19}|[eE][+]?[0-9]{3}|%00")
_NO_TEXT = "has a character that no text has: NUL, or half of one"
#: A name that may be repeated; others are somebody's, for which no answer is a place.
_WORD = re.compile(r"[A-Za-z0-9_ -]{1,64}")


def fault_in_head(texts: Mapping[Path, str]) -> Fault | None:
    """*texts*: of the path, the query, the headers; by place."""
    return next(((path, _NO_TEXT) for path, text in texts.items() if not _is_plain(text)), None)


def fault_in_body(found: Any, body: bytes) -> Fault | None:
    """The first in *found*, as it was read from *body*."""
    if _SUSPECT.search(body) or body.count(b"[") + body.count(b"{") > _DEEPEST:
        return next(_faults(found), None)
    return None


def _faults(found: Any) -> Iterator[Fault]:
    below: list[tuple[Path, Any]] = [(("body",), found)]
    while below:
        path, value = below.pop()
        match value:
            case str() if not _is_plain(value):
                yield path, _NO_TEXT
            case int() if not -(2**63) <= value < 2**63:
                yield path, "no database takes a number of more than 64 bits"
            case float() if not isfinite(value):
                yield path, "no database takes a number that is larger than any"
            case dict() | list() if len(path) > _DEEPEST:
                yield path[:5], f"is nested deeper than {_DEEPEST} levels"
            case dict():
                below += (((*path, "?"), name) for name in value if not _is_plain(name))
                below += (((*path, _shown(name)), item) for name, item in value.items())
            case list():
                below += (((*path, place), item) for place, item in enumerate(value))


def _shown(name: str) -> str:
    return name if _WORD.fullmatch(name) else "?"


def _is_plain(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False
