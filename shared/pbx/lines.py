"""Texts from outside, fit for events, logs and answers. Pure."""

from __future__ import annotations

import re

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MOST = 256
#: Larger ones are no number that a PBX counts with.
_LARGEST = 2**63


def one_line(text: str, *, most: int = _MOST) -> str:
    """At most *most* characters of it, without control characters and halves of characters."""
    whole = text[: 4 * most].encode(errors="replace").decode()
    return _UNSEEN.sub(" ", whole).strip()[:most]


def text_of(value: object, *, most: int = _MOST) -> str:
    """A text, or a whole number in digits; nothing for what is neither."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
        value = str(value)
    return one_line(value, most=most) if isinstance(value, str) else ""
