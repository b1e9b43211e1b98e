"""Moments and lengths of time as types: on the wire, in documents, in settings. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    PlainSerializer,
    WithJsonSchema,
)


def to_instant(moment: datetime) -> datetime:
    """UTC, in whole milliseconds: what MongoDB keeps, so that both stores give back the same."""
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no date of the calendar in UTC") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def to_text(moment: datetime) -> str:
    """ISO 8601, always with milliseconds and ``Z``, so that texts sort as the moments do."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Raises: OverflowError when it is no date of the calendar."""
    return _EPOCH + timedelta(milliseconds=ms)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _written_out(value: Any) -> Any:
    """No number: whether it counts seconds or milliseconds, and since when, it does not say."""
    if isinstance(value, bool | int | float) or (isinstance(value, str) and _NUMBER.match(value)):
        raise ValueError("a moment is written out, with its zone: 2026-11-21T09:30:00Z")
    return value


_NUMBER = re.compile(r"\s*[-+]?[\d.]+\s*$")

#: A moment on the wire and in a document; a naive time is refused.
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    AfterValidator(to_instant),
    PlainSerializer(to_text, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def to_duration(value: Any) -> Any:
    """``250ms``, ``1.5s``, ``10m``, ``2h``, ``1d``; anything else as pydantic reads it."""
    if isinstance(value, str) and (found := _DURATION.match(value.strip())):
        try:
            return timedelta(seconds=float(found["number"]) * _SECONDS[found["unit"] or "s"])
        except OverflowError:
            raise ValueError("longer than any clock runs") from None
    return value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("a length of time is not negative")
    return value


_DURATION = re.compile(r"^(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s|m|h|d)?$")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

#: A length of time in settings and site files: ``1.5s``, ``10m``; a bare number is in seconds.
Duration = Annotated[
    timedelta,
    BeforeValidator(to_duration),
    AfterValidator(_not_negative),
    # Pydantic's own `format: duration` has neither our forms nor parts of a second.
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)?|P[0-9A-Z.,]+)\s*$",
                    "description": "`250ms`, `1.5s`, `10m`, `2h`, `1d`, or as ISO 8601 writes it.",
                },
                {"type": "number", "minimum": 0, "description": "Seconds."},
            ]
        }
    ),
]
