"""Patterns of ``matches``, which a caller waits for. Pure."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from shared import patterns
from shared.patterns import Pattern

LONGEST_TEXT = 10_000
#: Of that, what patterns are looked for in: a few of them take 50 µs for a character.
LONGEST_SEARCHED = 1000
#: Of the patterns of one rule, all of which may be looked for while a caller waits.
MOST_COST = 50_000
#: Of a pattern that has to be read again because others have taken its place in memory.
_EACH = 50


def check_pattern(text: str) -> None:
    """Raises: ValueError for what RE2 does not take, and for what takes it too long."""
    patterns.check_size(compiled(text), text)


def cost_of(text: str) -> int:
    """What one pattern, found in a text or not, takes of :data:`MOST_COST`. Raises: ValueError."""
    return _EACH + compiled(text).programsize


@lru_cache(maxsize=2000)
def compiled(text: str) -> Pattern:
    """
    Without regard to case, anywhere in the text; accents composed (NFC), as `search` wants its text.

    Raises: ValueError.
    """
    # Texts are composed too, so that both write an accent in one way.
    return patterns.compiled(unicodedata.normalize("NFC", text), case_sensitive=False)
