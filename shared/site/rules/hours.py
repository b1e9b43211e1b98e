"""Business hours and holidays. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator

from shared.ids import Name
from shared.site.parts import Part, Zone

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAYS = re.compile(r"(?P<first>[a-z]{3})(-(?P<last>[a-z]{3}))?")
_MIDNIGHT = "24:00"

Span = Annotated[str, StringConstraints(pattern=r"^\d\d:\d\d-\d\d:\d\d$")]
Holiday = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\d{4}-)?\d\d-\d\d(\.\.(\d{4}-)?\d\d-\d\d)?$", strip_whitespace=True
    ),
]


class HoursState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    HOLIDAY = "holiday"


class Hours(Part):
    """When somebody is there: ``open`` by weekday, but for the holidays."""

    name: Name
    zone: Zone | None = Field(default=None, description="Without it the tenant's.")
    open: dict[str, Annotated[tuple[Span, ...], Field(max_length=20)]] = Field(
        max_length=50,
        description="Days, `mon` or `mon-fri`, and from when to when: `09:00-17:30`. Until 24:00 "
        "is until midnight; `22:00-06:00` goes on into the next day.",
    )
    holidays: Annotated[tuple[Holiday, ...], Field(max_length=500)] = Field(
        default=(),
        description="`2026-12-25`, each year's `12-25`, or a span of them: `12-24..12-26`.",
    )

    @model_validator(mode="after")
    def can_be_read(self) -> Self:
        for days, spans in self.open.items():
            _days(days)
            for span in spans:
                begin, end = _times(span)
                if begin == end:
                    raise ValueError(f"{span} is no time at all; the whole day is 00:00-24:00")
        for holiday in self.holidays:
            _holiday(holiday)
        return self

    def state(self, at: datetime, *, zone: str) -> HoursState:
        """
        At that moment, by the clock on the wall; *zone* is the tenant's. A night that began before a
        holiday ends with it, and one that would begin on a holiday does not.
        """
        local = at.astimezone(ZoneInfo(self.zone or zone))
        today, now = local.date(), local.time()
        if self._is_off(today):
            return HoursState.HOLIDAY
        for begin, end in self._spans(today):
            if begin <= now and (end is None or end < begin or now < end):
                return HoursState.OPEN
        yesterday = today - timedelta(days=1)
        for begin, end in self._spans(yesterday):
            if end is not None and now < end < begin and not self._is_off(yesterday):
                return HoursState.OPEN
        return HoursState.CLOSED

    def _spans(self, on: date) -> Iterator[tuple[time, time | None]]:
        """Those that begin on that day; the end None: until midnight."""
        for days, spans in self.open.items():
            if on.weekday() in _days(days):
                yield from map(_times, spans)

    def _is_off(self, on: date) -> bool:
        this, in_year = (on.year, on.month, on.day), (on.month, on.day)
        for (first_year, first), (last_year, last) in map(_holiday, self.holidays):
            if first_year is not None and last_year is not None:
                off = (first_year, *first) <= this <= (last_year, *last)
            elif first <= last:
                off = first <= in_year <= last
            else:  # each year's, over New Year
                off = in_year >= first or in_year <= last
            if off:
                return True
        return False


# Asked at every call, of texts that are a handful.
@lru_cache(maxsize=1000)
def _days(text: str) -> frozenset[int]:
    found = _DAYS.fullmatch(text)
    if found is None or not {found["first"], found["last"] or "mon"} <= set(DAYS):
        raise ValueError(f"{text!r:.20} are no days: say mon, or mon-fri")
    first = DAYS.index(found["first"])
    last = DAYS.index(found["last"] or found["first"])
    count = (last - first) % 7 + 1
    return frozenset((first + number) % 7 for number in range(count))


@lru_cache(maxsize=1000)
def _times(span: str) -> tuple[time, time | None]:
    """The end None: until midnight."""
    begin, _, end = span.partition("-")
    try:
        return time.fromisoformat(begin), None if end == _MIDNIGHT else time.fromisoformat(end)
    except ValueError:
        raise ValueError(f"{span} are no times of a day: say 09:00-17:30") from None


_Day = tuple[int | None, tuple[int, int]]


@lru_cache(maxsize=5000)
def _holiday(text: str) -> tuple[_Day, _Day]:
    first, _, last = text.partition("..")
    begun, ended = _day(first), _day(last or first)
    if (begun[0] is None) != (ended[0] is None):
        raise ValueError(f"{text}: both days with their year, or none")
    if begun[0] is not None and ended[0] is not None and (ended < begun):
        raise ValueError(f"{text} ends before it begins")
    return begun, ended


def _day(text: str) -> _Day:
    year, _, day = text.rpartition("-")
    year, _, month = year.rpartition("-")
    try:
        # 29 February is a day of a leap year, and in other years none.
        found = date(int(year) if year else 2024, int(month), int(day))
    except ValueError:
        raise ValueError(f"{text} is no day of the calendar") from None
    return (found.year if year else None), (found.month, found.day)
