"""Formats of .NET for moments and durations → those of ``TimeFormat`` and our own functions."""

from __future__ import annotations

import re

from shared.errors import ContractError

#: One letter is a format of its own. Those of a culture are written as ISO 8601 has it.
_STANDARD = {
    "s": "yyyy-MM-ddTHH:mm:ss",
    "u": "yyyy-MM-dd HH:mm:ss'Z'",
    "o": "yyyy-MM-ddTHH:mm:ss.fffffffK",
    "O": "yyyy-MM-ddTHH:mm:ss.fffffffK",
    "R": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
    "r": "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
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
_TOKEN = re.compile(
    r"""'(?P<one>[^']*)' | "(?P<two>[^"]*)" | \\(?P<escaped>.) | % | (?P<token>([A-Za-z])\5*)"""
    r"""| (?P<plain>[^A-Za-z'"\\%]+)""",
    re.DOTALL | re.VERBOSE,
)
_SAME = frozenset(
    {
        *("yyyy", "yy", "MMMM", "MMM", "MM", "M", "dddd", "ddd", "dd", "d"),
        *("HH", "H", "hh", "h", "mm", "m", "ss", "s", "zzz"),
    }
)
#: Letters that are tokens there, and those that ``TimeFormat`` may take for one.
_TOKENS = frozenset("yMdHhmsfFtzgK")
_RISKY = re.compile(r"[yMdHhmsSazZ']")

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


def moment_format(text: str, *, utc: bool) -> tuple[str, str]:
    """Ours, and what does not look the same. Raises: ContractError for what we cannot say."""
    changed, whole = "", text
    if len(text) == 1:
        if text not in _STANDARD:
            raise ContractError(f"there is no format {text!r} here; write one of yyyy MM dd HH mm")
        whole = _STANDARD[text]
        if text in _OF_A_CULTURE:
            changed = f"a format of the PBX's culture ({text}) became {whole}"
    made, own, at = "", "", 0
    while at < len(whole):
        found = _TOKEN.match(whole, at)
        if found is None:
            raise ContractError(f"the format {text!r} has a quote that is never closed")
        at = found.end()
        if not (letters := found["token"]):
            own += next(filter(None, found.group("one", "two", "escaped", "plain")), "")
        elif token := _token(letters, text, utc=utc):
            made, own = f"{made}{_quoted(own)}{token}", ""
        else:
            own += "Z" if letters == "K" else letters
    made += _quoted(own)
    if not made:
        raise ContractError("a format is empty")
    return made, changed


def _quoted(own: str) -> str:
    if not _RISKY.search(own):
        return own
    doubled = own.replace("'", "''")
    return f"'{doubled}'"


def _token(letters: str, text: str, *, utc: bool) -> str:
    """Empty for a letter that stands for itself, as ``K`` does for Z in UTC."""
    if letters in _SAME:
        return letters
    if letters == "tt":
        return "a"
    if letters[0] in "fF" and 3 <= len(letters) <= 7:  # noqa: PLR2004  milliseconds, and ticks
        # A moment of ours has milliseconds; what is behind them is 0.
        return "SSS" + "0" * (len(letters) - 3)
    if letters == "K":
        return "" if utc else "zzz"
    if letters[0] in _TOKENS:
        raise ContractError(f"TimeFormat has no {letters}, which the format {text!r} uses")
    return ""


def duration_function(text: str) -> str:
    """Raises: ContractError."""
    plain = text.replace("\\", "").replace("'", "")
    if plain not in _DURATIONS:
        raise ContractError(f"there is no format {text!r} of a duration: hh:mm:ss, mm:ss or hh:mm")
    return _DURATIONS[plain]
