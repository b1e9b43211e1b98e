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


class Pattern(Protocol):
    def search(self, text: str) -> object | None: ...


def check_pattern(text: str) -> None:
    """Raises: ValueError for what RE2 does not take: look-around and back references too."""
    compiled(text)


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
