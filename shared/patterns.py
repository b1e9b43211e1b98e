"""
Regular expressions that somebody else wrote. RE2 reads them: its time grows with the text alone,
where with Python's `re` a pattern and a text could take for ever, and everything would wait. Pure.
"""

from __future__ import annotations

from typing import Protocol

import re2  # type: ignore[import-untyped]  # it comes without types

#: Of one compiled pattern, in bytes; RE2's own default is 8 MiB.
_MEMORY = 1024 * 1024
#: Of the steps of RE2's program, of which each can be gone through for each character: 16 ns.
_LARGEST = 5000


class Pattern(Protocol):
    @property
    def programsize(self) -> int: ...

    def search(self, text: str) -> object | None: ...

    def fullmatch(self, text: str) -> object | None: ...


def compiled(text: str, *, case_sensitive: bool) -> Pattern:
    """Raises: ValueError for what RE2 does not take: look-around and back references too."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.case_sensitive = case_sensitive
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(text, options)
    except UnicodeEncodeError:
        raise ValueError(f"{text!r:.80} is no pattern: half a character in it") from None
    except re2.error as error:
        said = error.args[0] if error.args else b""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"{text!r:.80} is no pattern: {words}") from None
    return pattern


def check_size(pattern: Pattern, text: str) -> None:
    """*text*: as it was written. Raises: ValueError for a pattern that takes too long."""
    if pattern.programsize > _LARGEST:
        raise ValueError(f"{text!r:.80} takes too long: shorten what is repeated, as in x{{100}}")
