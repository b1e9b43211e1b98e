"""
Patterns of a template's parameters. RE2 reads them: a template may be somebody's file, and a value
somebody else's; with Python's `re` the two could take for ever, and everything would wait. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import re2  # type: ignore[import-untyped]  # it comes without types

#: Of one compiled pattern, in bytes; RE2's own default is 8 MiB.
_MEMORY = 1024 * 1024
#: Of the steps of RE2's program, of which each can be gone through for each character: 16 ns.
_LARGEST = 5000


class _Pattern(Protocol):
    @property
    def programsize(self) -> int: ...

    def fullmatch(self, text: str) -> object | None: ...


def check_pattern(text: str) -> None:
    """
    Raises: ValueError for what RE2 does not take: look-around and back references too; and for
    what takes it too long.
    """
    if _compiled(text).programsize > _LARGEST:
        raise ValueError(f"{text!r:.80} takes too long: shorten what is repeated, as in x{{100}}")


def fits(pattern: str, value: str) -> bool:
    """Whether the whole *value* is as a checked *pattern* says."""
    try:
        return _compiled(pattern).fullmatch(value) is not None
    except UnicodeEncodeError:
        # Half a character, which no pattern can name.
        return False


@lru_cache(maxsize=256)
def _compiled(text: str) -> _Pattern:
    """Raises: ValueError."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        pattern: _Pattern = re2.compile(text, options)
    except UnicodeEncodeError:
        raise ValueError(f"{text!r:.80} is no pattern: half a character in it") from None
    except re2.error as error:
        said = error.args[0] if error.args else b""
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"{text!r:.80} is no pattern: {words}") from None
    return pattern
