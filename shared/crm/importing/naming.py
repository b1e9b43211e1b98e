"""Names of other vendors in our spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LONGEST_TEMPLATE = 40
_LONGEST = 63
#: For the number behind a name that is there already.
_ROOM = 6


def name_of(wanted: Iterable[str | None], otherwise: str) -> str:
    """A template's name: the first of *wanted* that leaves some Latin letters or digits."""
    for text in wanted:
        plain = unicodedata.normalize("NFKD", text or "").encode("ascii", "ignore").decode()
        name = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:_LONGEST_TEMPLATE].strip("-")
        if name:
            return name
    return otherwise


class ParameterNames:
    """Each is given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def take(self, raw: str) -> str:
        """``apiKey`` → ``api_key``; with a number where that is taken."""
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", raw).lower()
        name = re.sub(r"[^a-z0-9]+", "_", name).strip("_")[:_LONGEST]
        if not name or not name[0].isalpha():
            name = f"p_{name}"[:_LONGEST]
        wanted = name
        while wanted in self._taken:
            self._counts[name] = self._counts.get(name, 1) + 1
            wanted = f"{name[: _LONGEST - _ROOM]}_{self._counts[name]}"
        self._taken.add(wanted)
        return wanted
