"""Values as a Yeastar writes them: blanks for nothing, numbers as texts, local times. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import orjson

from shared.errors import ContractError

#: Numbers, names and channels; the longest that was seen is a channel of some forty characters.
_LONGEST = 128
#: Nobody talks for longer; a larger one is no duration.
_LONGEST_CALL = timedelta(days=7)
#: By so much may the PBX's clock differ from ours and still be believed.
_PLAUSIBLE = timedelta(days=1)
#: `Display Format` of the PBX (System > Date and Time) applies to what the API tells.
_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d-%m-%Y", "%d/%m/%Y", "%m-%d-%Y", "%m/%d/%Y")
_HOURS = ("%H:%M:%S", "%I:%M:%S %p")
_NAMED = re.compile(r"^(?P<name>.*?)\s*<(?P<number>[^<>]*)>$")


def load(raw: bytes | str, what: str) -> dict[str, Any]:
    """Raises: ContractError."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ContractError(f"{what} is no JSON") from None
    if not isinstance(found, dict):
        raise ContractError(f"{what} is no JSON object")
    return found


def text(value: object) -> str | None:
    """None for what is blank, too long, or holds a control character."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if value and len(value) <= _LONGEST and value.isprintable() else None


def number(value: object) -> tuple[str | None, str | None]:
    """Number and name: of ``2005``, and of ``Leo Ball<2005>``."""
    found = text(value)
    if found is not None and (named := _NAMED.match(found)):
        return text(named["number"]), text(named["name"])
    return found, None


def seconds(value: object) -> timedelta | None:
    found = text(value)
    if found is None or not found.isdecimal():
        return None
    length = timedelta(seconds=min(int(found), 10**9))
    return length if length <= _LONGEST_CALL else None


def moment(value: object, zone: tzinfo, *, near: datetime) -> datetime | None:
    """
    A local time in any of the formats in which the PBX can show it; of two that fit, 03/04 and
    04/03, or an hour that comes twice, the one nearer to *near*. None for what is more than a day off, and for none.
    """
    found = text(value)
    if found is None:
        return None
    read = [at for at in _readings(found, zone) if abs(at - near) <= _PLAUSIBLE]
    return min(read, key=lambda at: abs(at - near), default=None)


def local_times(value: object) -> list[datetime]:
    """All that a local time may mean, without a zone."""
    found = text(value)
    if found is None:
        return []
    return [at.replace(tzinfo=None) for at in _readings(found, UTC)]


def _readings(found: str, zone: tzinfo) -> list[datetime]:
    times = []
    for day in _DAYS:
        for hour in _HOURS:
            try:
                at = datetime.strptime(found, f"{day} {hour}").replace(tzinfo=zone)
                # An hour in autumn comes twice.
                times += [at.astimezone(UTC), at.replace(fold=1).astimezone(UTC)]
            except (ValueError, OverflowError):
                continue
    return times
