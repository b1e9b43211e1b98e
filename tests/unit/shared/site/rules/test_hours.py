from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.site.rules.hours import Hours, HoursState

OPEN, CLOSED, HOLIDAY = HoursState.OPEN, HoursState.CLOSED, HoursState.HOLIDAY
BERLIN = ZoneInfo("Europe/Berlin")


def hours(opened: dict[str, list[str]], *holidays: str, zone: str | None = None) -> Hours:
    return Hours.model_validate(
        {"name": "office", "open": opened, "holidays": holidays, "zone": zone}
    )


def state(when: Hours, local: str) -> HoursState:
    """At that local time in Berlin, the tenant's zone."""
    return when.state(datetime.fromisoformat(local).replace(tzinfo=BERLIN), zone="Europe/Berlin")


# 1 May 2026 is a Friday.
@pytest.mark.parametrize(
    ("opened", "local", "expected"),
    [
        ({"mon-fri": ["09:00-17:30"]}, "2026-05-01T09:00", OPEN),
        ({"mon-fri": ["09:00-17:30"]}, "2026-05-01T08:59:59", CLOSED),
        ({"mon-fri": ["09:00-17:30"]}, "2026-05-01T17:29:59", OPEN),
        ({"mon-fri": ["09:00-17:30"]}, "2026-05-01T17:30", CLOSED),
        ({"mon-fri": ["09:00-17:30"]}, "2026-05-02T12:00", CLOSED),
        ({"mon-fri": ["09:00-12:00", "13:00-17:00"]}, "2026-05-01T12:30", CLOSED),
        ({"mon-fri": ["09:00-12:00", "13:00-17:00"]}, "2026-05-01T13:00", OPEN),
        ({"mon-fri": ["09:00-12:00"], "fri": ["13:00-15:00"]}, "2026-05-01T14:00", OPEN),
        ({"mon-fri": ["09:00-12:00"], "fri": ["13:00-15:00"]}, "2026-04-30T14:00", CLOSED),
        ({"sat-mon": ["10:00-12:00"]}, "2026-05-03T11:00", OPEN),
        ({"sat-mon": ["10:00-12:00"]}, "2026-05-05T11:00", CLOSED),
        ({"fri": ["00:00-24:00"]}, "2026-05-01T00:00", OPEN),
        ({"fri": ["00:00-24:00"]}, "2026-05-01T23:59:59.999999", OPEN),
        ({"fri": ["00:00-24:00"]}, "2026-05-02T00:00", CLOSED),
        ({"fri": ["18:00-00:00"]}, "2026-05-01T23:59", OPEN),
        ({"fri": ["18:00-00:00"]}, "2026-05-02T00:00", CLOSED),
        ({"fri": ["22:00-06:00"]}, "2026-05-01T22:00", OPEN),
        ({"fri": ["22:00-06:00"]}, "2026-05-02T05:59", OPEN),
        ({"fri": ["22:00-06:00"]}, "2026-05-02T06:00", CLOSED),
        ({"fri": ["22:00-06:00"]}, "2026-05-01T05:00", CLOSED),
        ({"sun": ["22:00-06:00"]}, "2026-05-04T05:00", OPEN),
        ({"fri": []}, "2026-05-01T12:00", CLOSED),
        ({}, "2026-05-01T12:00", CLOSED),
    ],
)
def test_hours_are_open_by_weekday(
    opened: dict[str, list[str]], local: str, expected: HoursState
) -> None:
    assert state(hours(opened), local) is expected


ALWAYS = {"mon-sun": ["00:00-24:00"]}


@pytest.mark.parametrize(
    ("holiday", "day", "off"),
    [
        ("2026-12-25", "2026-12-25", True),
        ("2026-12-25", "2027-12-25", False),
        ("12-25", "2027-12-25", True),
        ("12-25", "2027-12-26", False),
        ("12-24..12-26", "2026-12-24", True),
        ("12-24..12-26", "2026-12-26", True),
        ("12-24..12-26", "2026-12-27", False),
        # Each year's, over New Year.
        ("12-30..01-02", "2026-12-29", False),
        ("12-30..01-02", "2026-12-30", True),
        ("12-30..01-02", "2027-01-01", True),
        ("12-30..01-02", "2027-01-02", True),
        ("12-30..01-02", "2027-01-03", False),
        ("2026-12-30..2027-01-02", "2026-12-31", True),
        ("2026-12-30..2027-01-02", "2027-01-02", True),
        ("2026-12-30..2027-01-02", "2026-01-01", False),
        ("2026-12-30..2027-01-02", "2027-12-31", False),
        # The leap day.
        ("02-29", "2028-02-29", True),
        ("02-29", "2028-02-28", False),
        ("02-29", "2027-02-28", False),
        ("02-29", "2027-03-01", False),
        ("02-27..02-29", "2027-02-28", True),
        ("02-27..02-29", "2027-03-01", False),
        ("02-29..03-01", "2027-02-28", False),
        ("02-29..03-01", "2027-03-01", True),
        ("2028-02-29", "2028-02-29", True),
    ],
)
def test_holidays_are_whole_days(holiday: str, day: str, off: bool) -> None:
    when = hours(ALWAYS, holiday)

    for clock in ("00:00", "12:00", "23:59"):
        assert state(when, f"{day}T{clock}") is (HOLIDAY if off else OPEN)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2026-12-24T23:00", OPEN),
        ("2026-12-25T00:00", HOLIDAY),  # the night ends with the day before it
        ("2026-12-25T23:00", HOLIDAY),
        ("2026-12-26T02:00", CLOSED),  # the night of a holiday is none
        ("2026-12-26T22:00", OPEN),
        ("2026-12-27T02:00", OPEN),
    ],
)
def test_a_night_and_a_holiday(local: str, expected: HoursState) -> None:
    assert state(hours({"mon-sun": ["22:00-06:00"]}, "12-25"), local) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # 29 March 2026: 02:00 is 03:00.
        ("2026-03-29T00:59:59+00:00", CLOSED),  # 01:59:59
        ("2026-03-29T01:00:00+00:00", OPEN),  # 03:00
        ("2026-03-29T01:29:59+00:00", OPEN),  # 03:29:59
        ("2026-03-29T01:30:00+00:00", CLOSED),
        # 25 October 2026: 03:00 is 02:00 again.
        ("2026-10-25T00:29:59+00:00", CLOSED),  # 02:29:59, the first
        ("2026-10-25T00:30:00+00:00", OPEN),  # 02:30
        ("2026-10-25T01:00:00+00:00", CLOSED),  # 02:00, the second
        ("2026-10-25T01:30:00+00:00", OPEN),  # 02:30 again
        ("2026-10-25T02:29:59+00:00", OPEN),  # 03:29:59
        ("2026-10-25T02:30:00+00:00", CLOSED),
    ],
)
def test_when_clocks_change_the_wall_clock_counts(moment: str, expected: HoursState) -> None:
    when = hours({"sun": ["02:30-03:30"]})

    assert when.state(datetime.fromisoformat(moment), zone="Europe/Berlin") is expected


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
def test_a_night_in_which_clocks_change_ends_by_the_wall_clock(day: str) -> None:
    when = hours({"sat": ["22:00-06:00"]})
    end = datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(6), BERLIN)

    just_before = end.astimezone(UTC) - timedelta(seconds=1)

    assert when.state(just_before, zone="Europe/Berlin") is OPEN
    assert when.state(end, zone="Europe/Berlin") is CLOSED


def test_hours_of_their_own_zone() -> None:
    moment = datetime(2026, 5, 1, 14, 0, tzinfo=UTC)  # 16:00 in Berlin, 10:00 in New York
    day = {"fri": ["09:00-12:00"]}

    assert hours(day).state(moment, zone="Europe/Berlin") is CLOSED
    assert hours(day, zone="America/New_York").state(moment, zone="Europe/Berlin") is OPEN


def test_a_holiday_is_one_of_the_zone() -> None:
    when = hours(ALWAYS, "2026-05-02", zone="Pacific/Kiritimati")

    assert when.state(datetime(2026, 5, 1, 10, 0, tzinfo=UTC), zone="UTC") is HOLIDAY
    assert when.state(datetime(2026, 5, 1, 9, 59, tzinfo=UTC), zone="UTC") is OPEN


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  hypothesis wants bounds without a zone
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
)
def test_a_span_and_the_rest_of_the_day_are_never_both_open(
    moment: datetime, begin: time, end: time
) -> None:
    if begin == end:
        return
    span = hours({"mon-sun": [f"{begin:%H:%M}-{end:%H:%M}"]})
    rest = hours({"mon-sun": [f"{end:%H:%M}-{begin:%H:%M}"]})

    states = {each.state(moment, zone="Europe/Berlin") for each in (span, rest)}

    assert states == {OPEN, CLOSED}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"open": {"monday": []}}, "'monday' are no days: say mon, or mon-fri"),
        ({"open": {"Mon": []}}, "'Mon' are no days"),
        ({"open": {"mon-": []}}, "'mon-' are no days"),
        ({"open": {"mon-xyz": []}}, "'mon-xyz' are no days"),
        ({"open": {"m" * 10_000: []}}, "'mmmmmmmmmmmmmmmmmmm are no days"),
        ({"open": {"mon": ["9:00-17:00"]}}, "should match pattern"),
        ({"open": {"mon": ["09:00-17:60"]}}, "09:00-17:60 are no times of a day: say 09:00-17:30"),
        ({"open": {"mon": ["24:00-06:00"]}}, "24:00-06:00 are no times of a day"),
        ({"open": {"mon": ["\u0660\u0669:00-17:00"]}}, "are no times of a day"),
        ({"open": {"mon": ["09:00-09:00"]}}, "no time at all; the whole day is 00:00-24:00"),
        ({"open": {"mon": ["09:00-10:00"] * 21}}, "at most 20 items"),
        ({"open": {f"{number}": [] for number in range(51)}}, "at most 50 items"),
        ({"open": {}, "holidays": ["25 December"]}, "should match pattern"),
        ({"open": {}, "holidays": ["2026-02-29"]}, "2026-02-29 is no day of the calendar"),
        ({"open": {}, "holidays": ["0000-01-01"]}, "0000-01-01 is no day of the calendar"),
        ({"open": {}, "holidays": ["02-30"]}, "02-30 is no day of the calendar"),
        ({"open": {}, "holidays": ["2026-12-24..12-26"]}, "both days with their year, or none"),
        ({"open": {}, "holidays": ["12-24..2026-12-26"]}, "both days with their year, or none"),
        ({"open": {}, "holidays": ["2026-12-26..2026-12-24"]}, "ends before it begins"),
        ({"open": {}, "holidays": ["12-25"] * 501}, "at most 500 items"),
        ({"open": {}, "zone": "Europe/Atlantis"}, "Europe/Atlantis is no time zone"),
        ({"open": {}, "opened": {}}, "Extra inputs are not permitted"),
    ],
)
def test_what_are_no_hours_is_refused_in_words(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Hours.model_validate({"name": "office", **words})

    assert said in str(raised.value)


def test_hours_come_back_from_json_as_they_were() -> None:
    when = hours({"mon-fri": ["09:00-17:30"], "sat": []}, "12-25", "12-24..12-26", zone="UTC")

    assert Hours.model_validate_json(when.model_dump_json(exclude_defaults=True)) == when
