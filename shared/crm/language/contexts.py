"""
Escaping by the place where a value lands. The engine picks the function by the place, so a
template cannot forget it; a number or a name from outside is never trusted. What its template
encoded (``UrlEncode``) is not encoded twice.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus, urlsplit

from shared.crm.language.searches import SEARCH_ESCAPES, zoho_criteria
from shared.crm.language.values import Encoded, plain_text
from shared.errors import ContractError

__all__ = [
    "SEARCH_ESCAPES",
    "form_value",
    "header_value",
    "json_string",
    "path_segment",
    "query_value",
    "url_only_http",
    "zoho_criteria",
]

#: RFC 3986 lets these stand in a query as they are; the logs of seed 000 show them so.
_QUERY_SAFE = "():,/!~*'-._"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: A browser reads a backslash as a slash, leaves out a line break, and shows what stands behind a
#: mark of direction in another order.
_NO_URL = re.compile(
    "[\x00-\x20\x7f-\xa0\\\\\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def path_segment(text: str) -> str:
    """One segment: a slash in it is data, and dots alone would walk up the path."""
    if text in {".", ".."}:
        raise ContractError(f"{text!r} is no segment of a path")
    return text if isinstance(text, Encoded) else quote(plain_text(text), safe="")


def query_value(text: str) -> str:
    """``+`` becomes ``%2B``: servers read a bare one as a space."""
    return text if isinstance(text, Encoded) else quote(plain_text(text), safe=_QUERY_SAFE)


def form_value(text: str) -> str:
    """As in ``application/x-www-form-urlencoded``: a space is ``+``."""
    return text if isinstance(text, Encoded) else quote_plus(plain_text(text))


def header_name(text: str) -> str:
    """Raises ContractError: RFC 9110 has a short list of what a name may hold."""
    if not _TOKEN.fullmatch(text):
        raise ContractError("a header's name holds what none may hold")
    return text


def header_value(text: str) -> str:
    """Raises ContractError: a line break would begin another header."""
    if _CONTROL.search(text):
        raise ContractError("a header value holds a control character")
    return plain_text(text)


def json_string(text: str) -> str:
    """The content of a JSON string literal, without its quotes."""
    return json.dumps(plain_text(text), ensure_ascii=False)[1:-1]


def url_only_http(text: str) -> str:
    """
    An address that a browser may open. Raises ContractError for any other scheme than http and
    https, for one without a host, with a name or password in it, or with control characters,
    spaces or backslashes.
    """
    if _NO_URL.search(text):
        raise ContractError(
            "the address holds a space, a backslash, a control character or one that is not seen"
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ContractError("the address cannot be read") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ContractError("the address needs http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ContractError("the address holds a user name")
    return text
