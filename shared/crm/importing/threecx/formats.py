"""Formats of .NET for moments and durations → those of ``TimeFormat`` and our own functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import ContractError

#: One letter is a format of its own. Those of a culture are written as ISO 8601 has it.
_STANDARD = {
    "s": "yyyy-MM-dd'T'HH:mm:ss",
    "u": "yyyy-MM-dd HH:mm:ss'Z'",
    "o": "yyyy-MM-dd'T'HH:mm:ss.fff'0000'K",
    "O": "yyyy-MM-dd'T'HH:mm:ss.fff'0000'K",
    "R": None,
    "r": None,
    "d": "yyyy-MM-dd",
    "D": "yyyy-MM-dd",
    "t": "HH:mm",
    "T": "HH:mm:ss",
    "f": "yyyy-MM-dd HH:mm",
    "F": "yyyy-MM-dd HH:mm:ss",
    "g": "yyyy-MM-dd HH:mm",
    "G": "yyyy-MM-dd HH:mm:ss",
}
_OF_A_CULTURE = frozenset("dDtTfFgG")
#: What a moment looks like without a format.
PLAIN = "yyyy-MM-dd HH:mm:ss"
_TOKEN = re.compile(r"'([^']*)'|\"([^\"]*)\"|\\(.)|%|(([A-Za-z])\5*)|([^A-Za-z'\"\\%]+)", re.DOTALL)
_SAME = frozenset({"yyyy", "yy", "MM", "dd", "HH", "hh", "mm", "ss"})
_OTHERS = {"fff": "SSS", "FFF": "SSS", "tt": "a"}
_PADDED = {"M": "MM", "d": "dd", "H": "HH", "h": "hh", "m": "mm", "s": "ss"}
#: Letters that ``TimeFormat`` may take for a token; in a text of the format's own they are not one.
_RISKY = re.compile(r"[yMdHhmsSaz]")

_DURATIONS = {
    "c": "hh_mm_ss",
    "g": "hh_mm_ss",
    "G": "hh_mm_ss",
    "t": "hh_mm_ss",
    "T": "hh_mm_ss",
    "hh:mm:ss": "hh_mm_ss",
    "h:mm:ss": "hh_mm_ss",
    "mm:ss": "mmss",
    "m:ss": "mmss",
    "hh:mm": "hh_mm",
}


@dataclass(frozen=True, slots=True)
class Format:
    """
    *pieces*: formats of ours (True) and texts between them that ours would misread (False).
    *changed*: what does not look the same; empty for nothing.
    """

    pieces: tuple[tuple[bool, str], ...]
    changed: str


def moment_format(text: str, *, utc: bool) -> Format:
    """Raises: ContractError for names of days and months, offsets, and what else we cannot say."""
    changed, whole = "", text
    if len(text) == 1:
        standard = _STANDARD.get(text)
        if standard is None:
            raise ContractError(f"there is no format {text!r} here; write one of yyyy MM dd HH mm")
        if text in _OF_A_CULTURE:
            changed = f"a format of the PBX's culture ({text}) became {standard}"
        whole = standard
    pieces: list[tuple[bool, str]] = []
    padded = False
    for is_token, piece, is_padded in _pieces(whole, utc=utc):
        padded = padded or is_padded
        is_format = is_token or not _RISKY.search(piece)
        if pieces and pieces[-1][0] is is_format:
            piece = pieces.pop()[1] + piece  # noqa: PLW2901  it goes on with the piece before
        pieces.append((is_format, piece))
    if padded:
        changed = f"{text!r} is written with two digits: {''.join(p for _, p in pieces)!r}"
    if not pieces:
        raise ContractError("a format is empty")
    return Format(tuple(pieces), changed)


def _pieces(text: str, *, utc: bool) -> Iterator[tuple[bool, str, bool]]:
    """Whether it is a token of ours, itself, whether it got another digit."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ContractError(f"the format {text!r} has a quote that is never closed")
        at = found.end()
        if (letters := found[4]) is not None:
            yield _token(letters, text, utc=utc)
            continue
        own = next((part for part in (found[1], found[2], found[3], found[6]) if part), "")
        if own:
            yield False, own, False


def _token(letters: str, text: str, *, utc: bool) -> tuple[bool, str, bool]:
    if letters in _SAME:
        return True, letters, False
    if letters in _OTHERS:
        return True, _OTHERS[letters], False
    if letters in _PADDED:
        return True, _PADDED[letters], True
    if letters == "K":
        return False, "Z" if utc else "", False
    if letters[0] in "yMdHhmsfFtzgK":
        raise ContractError(f"TimeFormat has no {letters}, which the format {text!r} uses")
    return False, letters, False


def duration_function(text: str) -> str:
    """Raises: ContractError."""
    plain = text.replace("\\", "").replace("'", "")
    if plain not in _DURATIONS:
        raise ContractError(f"there is no format {text!r} of a duration: hh:mm:ss, mm:ss or hh:mm")
    return _DURATIONS[plain]
