"""
Escaping by the place where a value lands. The engine picks the function by the place, so a
template cannot forget it; a number or a name from outside is never trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from shared.errors import ContractError

#: RFC 3986 lets these stand in a query as they are; the logs of seed 000 show them so.
_QUERY_SAFE = "():,/!~*'-._"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def path_segment(text: str) -> str:
    """One segment: a slash in it is data, and dots alone would walk up the path."""
    if text in {".", ".."}:
        raise ContractError(f"{text!r} is no segment of a path")
    return quote(text, safe="")


def query_value(text: str) -> str:
    """``+`` becomes ``%2B``: servers read a bare one as a space."""
    return quote(text, safe=_QUERY_SAFE)


def header_value(text: str) -> str:
    """Raises ContractError: a line break would begin another header."""
    if _CONTROL.search(text):
        raise ContractError("a header value holds a control character")
    return text


def zoho_criteria(text: str) -> str:
    """Parentheses, commas and backslashes mean something in Zoho's criteria."""
    return re.sub(r"([\\(),])", r"\\\1", text)


#: By the name that a template gives to its search language.
SEARCH_ESCAPES: dict[str, Callable[[str], str]] = {"none": str, "zoho_criteria": zoho_criteria}
