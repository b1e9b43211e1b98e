"""Exchanges as people may see them: every secret of the connection is masked. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from shared.crm.language.contexts import query_value

_SHOWN = "•••"
#: Shorter ones would mask half the text; they are masked by the names of what holds them.
_SHORTEST = 4
#: Header names and keys of bodies whose values are secrets whatever they are.
_SECRET_NAMES = re.compile(
    r"authorization|cookie|token|secret|password|passwd|api[-_]?key|access[-_]?key|session|"
    r"^(?:code|state|sig|signature|auth)$",
    re.IGNORECASE,
)
#: A name begins where none goes on: else a long word would be looked at from each of its letters.
_PAIR = re.compile(r"(?<![A-Za-z0-9_.\-\[\]%])(?P<name>[A-Za-z0-9_.\-\[\]%]++)=(?P<value>[^&\s]*)")
#: What a terminal would act upon; line breaks and tabs are none of it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Mask:
    """Knows the secrets in every form in which they travel."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                forms |= {
                    secret,
                    quote(secret, safe=""),
                    query_value(secret),
                    quote_plus(secret),
                    json.dumps(secret)[1:-1],
                    json.dumps(secret, ensure_ascii=False)[1:-1],
                }
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """*text* with each secret masked."""
        for form in self._forms:
            text = text.replace(form, _SHOWN)
        return text

    def header(self, name: str, value: str) -> str:
        if _SECRET_NAMES.search(name):
            scheme, _, rest = value.partition(" ")
            return f"{scheme} {_SHOWN}" if rest else _SHOWN
        return self.text(value)

    def address(self, url: str) -> str:
        """Query parameters with names of secrets are masked, too."""
        return _PAIR.sub(_masked_pair, self.text(url))

    def body(self, body: bytes, *, longest: int = 4000) -> str:
        """JSON or a form with the values of secret names masked; cut after *longest* characters."""
        text = body.decode("utf-8", "replace")
        try:
            text = json.dumps(_masked(json.loads(text)), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            text = _PAIR.sub(_masked_pair, text)
        text = printable(self.text(text))
        if len(text) > longest:
            return f"{text[:longest]}… ({len(text) - longest} more characters)"
        return text


def printable(text: str) -> str:
    """*text* without what a terminal would act upon, in one or more lines."""
    return _CONTROL.sub("\ufffd", text)


def basic_forms(pairs: Iterable[str]) -> list[str]:
    """``user:password`` as it stands in a header."""
    return [base64.b64encode(pair.encode()).decode() for pair in pairs]


def _masked_pair(found: re.Match[str]) -> str:
    secret = _SECRET_NAMES.search(found["name"]) and found["value"]
    return f"{found['name']}={_SHOWN if secret else found['value']}"


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: _SHOWN
            if isinstance(item, str) and item and _SECRET_NAMES.search(name)
            else _masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value
