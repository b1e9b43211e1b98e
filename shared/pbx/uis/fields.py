"""The parameters of a request, whatever form it has: JSON, a form, a query. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from urllib.parse import parse_qsl

from shared.errors import ContractError
from shared.pbx.lines import one_line
from shared.pbx.port import RawHook

#: A body of ours has some hundred bytes; the vendor's longest template some thousand.
MAX_BODY_BYTES = 64 * 1024
_MAX_TEXT = 256
_MAX_FIELDS = 200
_DAY = timedelta(days=1)
_QUARTER = timedelta(minutes=15)
_WIDEST_ZONE = timedelta(hours=14)
#: What two ways of telling one moment may differ by: seconds cut off, a slow queue.
_SLACK = timedelta(minutes=2)
#: Later than this in seconds is the year 5138: milliseconds are meant.
_MILLISECONDS = 1e11
_NOTHING = frozenset({"", "null", "none"})
#: A placeholder that the account did not know, and left as it was.
_PLACEHOLDER = re.compile(r"\{\{.*\}\}")
#: The account quotes texts itself, so quotes around a placeholder come out doubled.
_QUOTED_TWICE = re.compile(r':(\s*)""((?:[^"\\]|\\.)*)""(?=\s*[,}])')
_YES, _NO = frozenset({"true", "1", "t", "yes"}), frozenset({"false", "0", "f", "no"})


@dataclass(frozen=True, slots=True)
class Fields:
    """By the vendor's names. What is empty, ``null`` or no value of its kind is not there."""

    values: Mapping[str, Any]

    def text(self, *names: str) -> str | None:
        """Of the first that has one: a line of at most 256 characters; numbers as digits."""
        for name in names:
            if (found := as_text(self.values.get(name))) is not None:
                return found
        return None

    def number(self, name: str) -> float | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            found = float(text)
        except ValueError:
            return None
        return found if math.isfinite(found) else None

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        word = str(value).lower() if isinstance(value, bool) else (self.text(name) or "").lower()
        return True if word in _YES else False if word in _NO else None

    def seconds(self, name: str) -> timedelta | None:
        """A length of at most a week."""
        found = self.number(name)
        if found is None or not 0 <= found <= 7 * _DAY.total_seconds():
            return None
        return timedelta(seconds=found)

    def texts(self, name: str) -> list[str]:
        """The texts of a list; a text alone is a list of one."""
        value = self.values.get(name)
        items = value if isinstance(value, list) else [value]
        return [found for item in items[:_MAX_FIELDS] if (found := as_text(item, most=2048))]


def as_text(value: Any, *, most: int = _MAX_TEXT) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:  # noqa: PLR2004  exact up to there
        value = int(value)
    if not isinstance(value, str | int | float):
        return None
    text = one_line(str(value), most=most)
    if text.lower() in _NOTHING or _PLACEHOLDER.search(text):
        return None
    return text


def fields_of(hook: RawHook) -> Fields:
    """
    Query and body together, the body first; objects within (the vendor's ``contact_info``,
    ``call_info``) are laid flat, what stands outside first.

    Raises: ContractError.
    """
    found = dict(hook.query)
    found.update(_flat(_body(hook)))
    return Fields(found)


def _body(hook: RawHook) -> dict[str, Any]:
    if len(hook.body) > MAX_BODY_BYTES:
        raise ContractError(f"a request of more than {MAX_BODY_BYTES} bytes is none of a UIS")
    try:
        text = hook.body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ContractError("the body is not in UTF-8") from None
    if not text:
        return {}
    if text.startswith(("{", "[")):
        return _json(text)
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise ContractError("the body is neither JSON nor a form of at most 200 fields") from None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = json.loads(_QUOTED_TWICE.sub(r':\1"\2"', text))
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise ContractError(
                f"the body is no JSON{where}; in the notification, write each placeholder without "
                "quotes around it, as docs/how-to/pbx/uis.md has it"
            ) from None
    if not isinstance(found, dict):
        raise ContractError("the body is JSON, but no object")
    return found


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for value in values.values():
        if isinstance(value, dict):
            for name, inner in value.items():
                if name not in values:
                    yield name, inner
    for name, value in values.items():
        if not isinstance(value, dict):
            yield name, value


# -- times -----------------------------------------------------------------------------------------


def local_time(text: str | None, zone: tzinfo) -> datetime | None:
    """``2026-03-04 10:15:00.25`` in *zone* → UTC; one with a zone of its own keeps it."""
    if text is None:
        return None
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        return found.astimezone(UTC)
    return None


def timestamp(seconds: float | None) -> datetime | None:
    """Seconds since 1970, or milliseconds."""
    if seconds is None or seconds <= 0:
        return None
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds / (1000 if seconds > _MILLISECONDS else 1), UTC)
    return None


def happened_at(fields: Fields, zone: tzinfo, *, received_at: datetime) -> datetime:
    """By the account's clock where it tells a moment within a day of *received_at*."""
    told = timestamp(fields.number("notification_timestamp"))
    told = told or local_time(fields.text("notification_time"), zone)
    return told if told is not None and abs(told - received_at) <= _DAY else received_at


def zone_told(fields: Fields, zone: tzinfo) -> tzinfo:
    """
    The zone of the request's local times: where it has its moment both ways, the distance says it
    better than a setting.
    """
    moment, local = timestamp(fields.number("notification_timestamp")), None
    with suppress(ValueError):
        local = datetime.fromisoformat(fields.text("notification_time") or "")
    if moment is None or local is None or local.tzinfo is not None:
        return zone
    gap = local.replace(tzinfo=UTC) - moment
    offset = round(gap / _QUARTER) * _QUARTER
    if abs(gap - offset) > _SLACK or abs(offset) > _WIDEST_ZONE:
        return zone
    return timezone(offset)
