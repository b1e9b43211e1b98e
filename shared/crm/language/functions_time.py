"""
Functions of moments and durations.

A moment is a datetime with a zone, or Unix seconds (a number or digits); a duration is a
timedelta, or seconds. ``TimeFormat``'s documented example contradicts itself (it prints one hour
more than UTC and calls it ``Z``), so its meaning is ours: a third argument ``"1"`` is UTC; ``"0"``
or none is the zone in the variable ``Zone`` (an IANA name, UTC where there is none).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from shared.crm.language.function import Function, Scope, a_flag
from shared.crm.language.values import kind_of, number_in, plain_text
from shared.errors import ContractError

#: The last second that a datetime can say, 9999-12-31 in UTC.
_LAST_SECOND = 253_402_300_799
_LONGEST_SECONDS = 86_399_999_913_600  # timedelta.max, in whole days
_LONGEST_FORMAT = 200
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]{1,30}(?:/[A-Za-z0-9_+-]{1,30}){0,3}")
#: Letters that are none of these stay, as does what stands in quotes. A sign before ``z`` belongs
#: to the offset (``ss-z`` is in the vendor's form), and ``Zz`` is ``Z``, as in its example.
_TOKEN = re.compile(
    r"'(?:[^']|'')*'|yyyy|yy|MM?M?M?|dd?d?d?|HH?|hh?|mm?|ss?|SSS|a|Zz|[+-]?z(?:zz)?"
)
#: English, whatever the machine's language is.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


# -- reading ------------------------------------------------------------------------------------


def moment_in(value: Any) -> datetime:
    """Raises: ContractError, also for a datetime that does not say its zone."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ContractError("a moment needs its zone")
        return value
    seconds = None if isinstance(value, timedelta) else number_in(value)
    if seconds is None:
        raise ContractError(f"a moment is needed, not {kind_of(value)}")
    if not 0 <= seconds <= _LAST_SECOND:
        raise ContractError("a moment is needed, in Unix seconds (not milliseconds)")
    return datetime.fromtimestamp(seconds, UTC)


def seconds_in(value: Any) -> int:
    """Whole seconds of a duration, 0 for a negative one. Raises: ContractError."""
    seconds = number_in(value)
    if seconds is None:
        raise ContractError(f"a duration is needed, not {kind_of(value)}")
    if not abs(seconds) <= _LONGEST_SECONDS:
        raise ContractError("a duration is needed, in seconds")
    return max(0, round(seconds))


def zone_in(value: Any) -> tzinfo:
    """Raises: ContractError for what is no zone of the IANA list."""
    name = plain_text(value)
    if not _ZONE_NAME.fullmatch(name):
        raise ContractError("a zone is needed, as Europe/London")
    return _zone(name)


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ContractError(f"there is no zone {name}") from None


def _earlier(moment: datetime, seconds: int) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:
        raise ContractError("a moment is out of the calendar") from None


def _at(moment: datetime, zone: tzinfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError):
        raise ContractError("a moment is out of the calendar") from None


def _offset(moment: datetime, colon: str = "") -> str:
    """``+0130``."""
    minutes = (moment.utcoffset() or timedelta(0)) // timedelta(minutes=1)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02}{colon}{abs(minutes) % 60:02}"


_TOKENS: dict[str, Callable[[datetime], str]] = {
    "yyyy": lambda moment: f"{moment.year:04}",
    "yy": lambda moment: f"{moment.year % 100:02}",
    "M": lambda moment: f"{moment.month}",
    "MMM": lambda moment: _MONTHS[moment.month - 1][:3],
    "MMMM": lambda moment: _MONTHS[moment.month - 1],
    "d": lambda moment: f"{moment.day}",
    "ddd": lambda moment: _DAYS[moment.weekday()][:3],
    "dddd": lambda moment: _DAYS[moment.weekday()],
    "H": lambda moment: f"{moment.hour}",
    "h": lambda moment: f"{moment.hour % 12 or 12}",
    "m": lambda moment: f"{moment.minute}",
    "s": lambda moment: f"{moment.second}",
    "SSS": lambda moment: f"{moment.microsecond // 1000:03}",
    "a": lambda moment: "AM" if moment.hour < 12 else "PM",  # noqa: PLR2004  noon
    "Zz": lambda _: "Z",
    "z": _offset,
    "zzz": lambda moment: _offset(moment, ":"),
}


def _token(token: str, moment: datetime) -> str:
    if token[0] == "'":
        return token[1:-1].replace("''", "'") or "'"
    name = token.lstrip("+-")
    if name in _TOKENS:
        return _TOKENS[name](moment)
    return _TOKENS[name[0]](moment).zfill(2)


# -- the documented two -------------------------------------------------------------------------


def _a_format(value: Any) -> str:
    text = plain_text(value)
    if not 0 < len(text) <= _LONGEST_FORMAT:
        raise ContractError(f"a format of 1 to {_LONGEST_FORMAT} characters is needed")
    return text


def _time_format(value: Any, arguments: tuple[Any, ...], scope: Scope) -> str:
    is_utc = len(arguments) > 1 and arguments[1]
    zone = UTC if is_utc else zone_in(scope.variables.get("Zone") or "UTC")
    moment = _at(moment_in(value), zone)
    return _TOKEN.sub(lambda found: _token(found[0], moment), arguments[0])


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


# -- ours ---------------------------------------------------------------------------------------


def _blank_between(moment: datetime) -> str:
    """``2026-11-21 06:54:35``."""
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")


def _of_moment(make: Callable[[datetime], Any]) -> Function:
    return Function(lambda value, _, __: make(moment_in(value)))


def _of_utc(make: Callable[[datetime], Any]) -> Function:
    return Function(lambda value, _, __: make(_at(moment_in(value), UTC)))


def _of_zone(make: Callable[[datetime], Any]) -> Function:
    return Function(
        lambda value, arguments, _: make(_at(moment_in(value), arguments[0])), (zone_in,)
    )


def _of_seconds(make: Callable[[int], Any]) -> Function:
    return Function(lambda value, _, __: make(seconds_in(value)))


def _exact_milliseconds(value: Any) -> int:
    seconds_in(value)
    if isinstance(value, timedelta):
        return max(0, round(value / timedelta(milliseconds=1)))
    return max(0, round((number_in(value) or 0) * 1000))


TIME_FUNCTIONS: dict[str, Function] = {
    "TimeFormat": Function(_time_format, (_a_format, a_flag), needs=1),
    "ToMillis": _of_utc(_milliseconds),
    # Moments. ``date`` and ``time`` are those of the zone that the moment is in: see ``in_zone``.
    "iso8601": _of_moment(lambda moment: moment.isoformat(timespec="seconds")),
    "iso_utc": _of_utc(lambda moment: f"{_blank_between(moment).replace(' ', 'T')}Z"),
    "utc": _of_utc(_blank_between),
    "local": _of_zone(_blank_between),
    "in_zone": _of_zone(lambda moment: moment),
    # Of a moment in UTC: in a zone Python reckons with what its clocks show.
    "earlier": Function(
        lambda value, arguments, _: _earlier(_at(moment_in(value), UTC), arguments[0]),
        (seconds_in,),
    ),
    "date": _of_moment(lambda moment: moment.date().isoformat()),
    "time": _of_moment(lambda moment: moment.time().isoformat("seconds")),
    "unix": _of_utc(lambda moment: _milliseconds(moment) // 1000),
    "unix_ms": _of_utc(_milliseconds),
    "aspnet_date": _of_utc(lambda moment: f"/Date({_milliseconds(moment)})/"),
    # Durations, made of whole seconds (but ``ms``), a half goes to the even one; a begun minute
    # counts in ``minutes`` alone, ``hours`` has hundredths.
    "seconds": _of_seconds(lambda seconds: seconds),
    "ms": Function(lambda value, _, __: _exact_milliseconds(value)),
    "minutes": _of_seconds(lambda seconds: -(-seconds // 60)),
    "hours": _of_seconds(lambda seconds: round(seconds / 3600, 2)),
    "hours_part": _of_seconds(lambda seconds: seconds // 3600),
    "minutes_part": _of_seconds(lambda seconds: seconds % 3600 // 60),
    "mmss": _of_seconds(lambda seconds: f"{seconds // 60:02}:{seconds % 60:02}"),
    "hh_mm": _of_seconds(lambda seconds: f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"),
    "hh_mm_ss": _of_seconds(
        lambda seconds: f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    ),
}
