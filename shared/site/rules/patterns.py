"""
Patterns of ``matches``. RE2 reads them: its time grows with the text alone, so that no pattern and
no text can hold up a call. Pure.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Protocol

import re2  # type: ignore[import-untyped]  # it comes without types

#: Of one compiled pattern, in bytes; RE2's own default is 8 MiB.
_MEMORY = 1024 * 1024
LONGEST_TEXT = 10_000
#: Of that, what patterns are looked for in: a few of them take 50 µs for a character.
LONGEST_SEARCHED = 1000


#: Of the steps of RE2's program, of which each can be gone through for each character: 16 ns.
_LARGEST = 5000
#: Of the patterns of one rule, all of which may be looked for while a caller waits.
MOST_COST = 50_000
#: Of a pattern that has to be read again because others have taken its place in memory.
_EACH = 50


class Pattern(Protocol):
    @property
    def programsize(self) -> int: ...

    def search(self, text: str) -> object | None: ...


def check_pattern(text: str) -> None:
    """
    Raises: ValueError for what RE2 does not take: look-around and back references too; and for
    what takes it too long.
    """
    if compiled(text).programsize > _LARGEST:
        raise ValueError(f"{text!r:.80} takes too long: shorten what is repeated, as in x{{100}}")


def cost_of(text: str) -> int:
    """What one pattern, found in a text or not, takes of :data:`MOST_COST`. Raises: ValueError."""
    return _EACH + compiled(text).programsize


@lru_cache(maxsize=2000)
def compiled(text: str) -> Pattern:
    """
    Without regard to case, anywhere in the text; accents composed (NFC), as `search` wants its text.

    Raises: ValueError.
    """
    options = re2.Options()
    options.max_mem = _MEMORY
    options.case_sensitive = False
    options.log_errors = False
    try:
        # Texts are composed too, so that both write an accent in one way.
        pattern: Pattern = re2.compile(unicodedata.normalize("NFC", text), options)
    except UnicodeEncodeError:
        raise ValueError(f"{text!r:.80} is no pattern: half a character in it") from None
    except re2.error as error:
        said = error.args[0] if error.args else b""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"{text!r:.80} is no pattern: {words}") from None
    return pattern
