"""What a placeholder may be piped through. Allow-listed, total: a wrong type is a ContractError."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from shared.errors import ContractError

_Run = Callable[[Any, tuple[str, ...], Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Function:
    arguments: int
    run: _Run


def plain_text(value: Any) -> str:
    """How a value stands in a text: nothing for None, ``true``, seconds of a duration."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, timedelta):
        return str(round(value.total_seconds()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(plain_text(item) for item in value)
    return str(value)


def _iso8601(value: Any, _: tuple[str, ...], __: Mapping[str, Any]) -> str:
    """``2026-11-21T06:54:35+00:00``: offset, whole seconds."""
    return _moment(value).isoformat(timespec="seconds")


def _mmss(value: Any, _: tuple[str, ...], __: Mapping[str, Any]) -> str:
    """Minutes and seconds, ``75:03`` for an hour and a quarter."""
    seconds = _seconds(value)
    return f"{seconds // 60:02}:{seconds % 60:02}"


def _whole_seconds(value: Any, _: tuple[str, ...], __: Mapping[str, Any]) -> int:
    return _seconds(value)


def _map(value: Any, arguments: tuple[str, ...], maps: Mapping[str, Any]) -> str:
    """The first line of the template's map whose pattern (``inbound *``) fits."""
    lines = maps.get(arguments[0])
    if lines is None:
        raise ContractError(f"there is no map {arguments[0]}")
    text = plain_text(value)
    for pattern, meaning in lines.items():
        if fnmatchcase(text, pattern):
            return str(meaning)
    raise ContractError(f"map {arguments[0]} has no line for {text!r}")


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise ContractError(f"a moment is needed, not {type(value).__name__}")
    return value


def _seconds(value: Any) -> int:
    if not isinstance(value, timedelta):
        raise ContractError(f"a duration is needed, not {type(value).__name__}")
    return max(0, round(value.total_seconds()))


FUNCTIONS: dict[str, Function] = {
    "iso8601": Function(0, _iso8601),
    "mmss": Function(0, _mmss),
    "seconds": Function(0, _whole_seconds),
    "map": Function(1, _map),
}
