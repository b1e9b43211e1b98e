"""Reading values out of an answer: the plain part of GJSON's paths, ``data.0.details.id``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: More digits index no list that was ever read.
_MAX_DIGITS = 9


def at_path(value: Any, path: str) -> Any:
    """None where the path leads nowhere; never raises. An empty path is the value itself."""
    for name in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = _item(value, name)
        else:
            return None
    return value


def _item(items: Sequence[Any], name: str) -> Any:
    if not (name.isascii() and name.isdigit() and len(name) <= _MAX_DIGITS):
        return None
    return items[int(name)] if int(name) < len(items) else None
