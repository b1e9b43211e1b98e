"""
Patterns of a template's parameters: of a whole value, with regard to case. A template may be
somebody's file, and a value somebody else's. Pure.
"""

from __future__ import annotations

from functools import lru_cache

from shared.patterns import Pattern, check_size, compiled


def check_pattern(text: str) -> None:
    """Raises: ValueError for what RE2 does not take, and for what takes it too long."""
    check_size(_compiled(text), text)


def fits(pattern: str, value: str) -> bool:
    """Whether the whole *value* is as a checked *pattern* says."""
    try:
        return _compiled(pattern).fullmatch(value) is not None
    except UnicodeEncodeError:
        # Half a character, which no pattern can name.
        return False


@lru_cache(maxsize=256)
def _compiled(text: str) -> Pattern:
    """Raises: ValueError."""
    return compiled(text, case_sensitive=True)
