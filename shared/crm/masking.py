"""Exchanges as people may see them: every secret of the connection is masked. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from html.entities import codepoint2name
from typing import Any
from urllib.parse import parse_qsl

_SHOWN = "•••"
#: Shorter ones would mask half the text; they are masked by the names of what holds them.
_SHORTEST = 4
_NAMES = (
    r"authorization|cookie|token|secret|password|passwd|api[-_]?key|access[-_]?key|session|"
    r"^(?:sig|signature|auth)$"
)
#: Header names and keys of bodies whose values are secrets whatever they are.
_SECRET_NAMES = re.compile(_NAMES, re.IGNORECASE)
#: In a sign-in these are secrets, too; elsewhere they are an error's code, an extension.
_NAMES_OF_SIGN_IN = re.compile(rf"{_NAMES}|^(?:code|state)$", re.IGNORECASE)
#: Of a header that holds a secret, the word before it: ``Bearer``, ``Zoho-oauthtoken``.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z-]{0,30}")
#: Signs that every way of writing leaves as they are.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_RUNS = re.compile(rf"{_PLAIN.pattern}|\\+|.", re.DOTALL)
_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
#: A name begins where none goes on: else a long word would be looked at from each of its letters.
_PAIR = re.compile(r"(?<![A-Za-z0-9_.\-\[\]%])(?P<name>[A-Za-z0-9_.\-\[\]%]++)=(?P<value>[^&\s]*)")
#: What a terminal would act upon; line breaks and tabs are none of it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Mask:
    """Knows the secrets in every form in which they travel."""

    def __init__(
        self, secrets: Iterable[str], *, names: Iterable[str] = (), sign_in: bool = True
    ) -> None:
        """
        *names*: of further headers and keys whose values are secrets; *sign_in*: the exchanges may
        be of one, so that values of ``code`` are.
        """
        known = {one for one in secrets if len(one) >= _SHORTEST}
        # A secret that is part of another must not take its middle out of that.
        self._secrets = [_spelt(one) for one in sorted(known, key=len, reverse=True)]
        self._pattern = _NAMES_OF_SIGN_IN if sign_in else _SECRET_NAMES
        self._names = {name.lower() for name in names}

    def text(self, text: str) -> str:
        """*text* with each secret masked, however it is written there."""
        for secret in self._secrets:
            text = secret.sub(_SHOWN, text)
        return text

    def header(self, name: str, value: str) -> str:
        shown = self.text(value)
        if not self.hides(name):
            return shown
        scheme, _, rest = value.partition(" ")
        # Not the first word of a secret.
        has_scheme = rest and _SCHEME.fullmatch(scheme) and shown.startswith(f"{scheme} ")
        return f"{scheme} {_SHOWN}" if has_scheme else _SHOWN

    def address(self, url: str) -> str:
        """Query parameters with names of secrets are masked, too."""
        return _PAIR.sub(self._pair, self.text(url))

    def body(self, body: bytes, *, longest: int = 4000) -> str:
        """JSON or a form with the values of secret names masked; cut after *longest* characters."""
        return self._cut(self._structure(body.decode("utf-8", "replace")), longest)

    def form(self, body: bytes, *, longest: int = 4000) -> str:
        """A form, decoded, a field a line; masked and cut as :meth:`body`."""
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        return self._cut(
            "\n".join(
                f"{name}={_SHOWN if value and self.hides(name) else self._structure(value)}"
                for name, value in fields
            ),
            longest,
        )

    def hides(self, name: str) -> bool:
        """Whether what has this name is a secret, whatever it is."""
        return name.lower() in self._names or self._pattern.search(name) is not None

    def _structure(self, text: str) -> str:
        try:
            return json.dumps(self._masked(json.loads(text)), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            return _PAIR.sub(self._pair, text)

    def _cut(self, text: str, longest: int) -> str:
        text = printable(self.text(text))
        if len(text) > longest:
            return f"{text[:longest]}… ({len(text) - longest} more characters)"
        return text

    def _pair(self, found: re.Match[str]) -> str:
        secret = self.hides(found["name"]) and found["value"]
        return f"{found['name']}={_SHOWN if secret else found['value']}"

    def _masked(self, value: Any, *, hidden: bool = False) -> Any:
        """*hidden*: what holds it has the name of a secret."""
        if isinstance(value, dict):
            return {
                name: self._masked(item, hidden=hidden or self.hides(name))
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._masked(item, hidden=hidden) for item in value]
        tells = value not in ("", None) and not isinstance(value, bool)
        return _SHOWN if hidden and tells else value


def _spelt(secret: str) -> re.Pattern[str]:
    """
    *secret* as it is sent, and as servers repeat it: in JSON, in a URL, in a page, and in one of
    these within another. Each sign may be written in its own way, for what has to be escaped
    differs from language to language.
    """
    return re.compile("".join(_ways(signs) for signs in _RUNS.findall(secret)))


def _ways(signs: str) -> str:
    """Of plain signs, of backslashes in a row, or of one other sign."""
    if _PLAIN.fullmatch(signs):
        return re.escape(signs)
    if signs[0] == "\\":
        return f"(?i:{_BACKSLASH}{{{len(signs)},{8 * len(signs)}}})"
    return _ways_of_one(signs)


def _ways_of_one(sign: str) -> str:
    code = ord(sign)
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    escapes = [
        "".join(f"{_BACKSLASHES}u{units[i : i + 4]}" for i in range(0, len(units), 4)),
        f"{_BACKSLASHES}x{code:02x}",
        f"{_AND}{_HASH}(?:0*{code}|x0*{code:x}){_END}",
    ]
    if sign in _LETTERS:
        escapes.append(f"{_BACKSLASHES}{_LETTERS[sign]}")
    if name := "apos" if sign == "'" else codepoint2name.get(code):
        escapes.append(f"{_AND}{name}{_END}")
    if sign == " ":
        escapes.append(_percent("+"))
    return f"(?i:{'|'.join(escapes)}|(?:{_BACKSLASHES})?{_percent(sign)})"


def _percent(sign: str) -> str:
    """As it is, or as UTF-8 behind percents, which may be escaped in turn."""
    encoded = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in sign.encode("utf-8", "surrogatepass"))
    return f"(?:{re.escape(sign)}|{encoded})"


#: An escape may be escaped itself: ``\\u002b``, ``%5Cu002b``, ``&amp;quot;``.
_BACKSLASH = _percent("\\")
_BACKSLASHES = f"{_BACKSLASH}{{1,8}}"
_HASH, _END = _percent("#"), _percent(";")
_AND = f"{_percent('&')}(?:amp{_END}){{0,4}}"


def printable(text: str) -> str:
    """*text* without what a terminal would act upon, in one or more lines."""
    return _CONTROL.sub("\ufffd", text)


def basic_forms(pairs: Iterable[str]) -> list[str]:
    """``user:password`` as it stands in a header."""
    return [base64.b64encode(pair.encode()).decode() for pair in pairs]
