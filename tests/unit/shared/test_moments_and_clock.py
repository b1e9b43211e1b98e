from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.clock import ManualClock, SystemClock
from shared.moments import Duration, Instant
from shared.testing.waiting import eventually

INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)

zones = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
#: A day from both ends of the calendar, where a change of zone still stays in it.
moments = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001  hypothesis takes naive bounds and adds the zone
    datetime(9999, 12, 30),  # noqa: DTZ001  the same
    timezones=zones,
)


def the_text_of(moment: datetime) -> str:
    return str(INSTANT.dump_python(INSTANT.validate_python(moment), mode="json"))


# -- Instant ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T06:54:35Z", "2026-11-21T06:54:35.000Z"),
        ("2026-11-21T06:54:35.958Z", "2026-11-21T06:54:35.958Z"),
        ("2026-11-21T06:54:35.958999Z", "2026-11-21T06:54:35.958Z"),
        ("2026-11-21T07:54:35.958+01:00", "2026-11-21T06:54:35.958Z"),
        ("2026-11-20T23:54:35-07:00", "2026-11-21T06:54:35.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds(text: str, expected: str) -> None:
    assert INSTANT.dump_python(INSTANT.validate_python(text), mode="json") == expected


def test_a_moment_is_held_in_utc_and_whole_milliseconds() -> None:
    moment = INSTANT.validate_python("2026-11-21T07:54:35.958999+01:00")

    assert moment == datetime(2026, 11, 21, 6, 54, 35, 958000, UTC)
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T06:54:35",
        "2026-11-21 06:54:35.958",
        datetime(2026, 11, 21, 6, 54, 35),  # noqa: DTZ001  the naive time is the point
        "yesterday",
        "",
        None,
    ],
)
def test_a_time_without_a_zone_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(value)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_utc_has_no_date_for_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(text)


@given(st.lists(moments, max_size=10))
@settings(deadline=None)
def test_the_texts_of_moments_sort_as_the_moments_do(found: list[datetime]) -> None:
    instants = sorted(INSTANT.validate_python(moment) for moment in found)

    assert sorted(the_text_of(moment) for moment in found) == [the_text_of(m) for m in instants]


@given(moments)
@settings(deadline=None)
def test_a_moment_is_read_back_from_its_text(moment: datetime) -> None:
    instant = INSTANT.validate_python(moment)

    assert INSTANT.validate_python(the_text_of(moment)) == instant
    assert timedelta(0) <= moment - instant < timedelta(milliseconds=1)


# -- Duration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("1.5s", timedelta(seconds=1.5)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("0s", timedelta(0)),
        ("0.5h", timedelta(minutes=30)),
        (" 90 s ", timedelta(seconds=90)),
        ("15", timedelta(seconds=15)),
        ("1.5", timedelta(seconds=1.5)),
        (15, timedelta(seconds=15)),
        (1.5, timedelta(seconds=1.5)),
        ("PT1.5S", timedelta(seconds=1.5)),
        (timedelta(minutes=1), timedelta(minutes=1)),
    ],
)
def test_a_length_of_time_is_a_number_and_a_unit_or_seconds(
    value: Any, expected: timedelta
) -> None:
    assert DURATION.validate_python(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "s", "1w", "5M", "1,5s", "1.s", ".5s", "-5s", "1e3", "1 000s", "nan", "inf", "soon", None],
)
def test_what_is_no_length_of_time_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


def test_a_length_of_time_that_no_clock_can_hold_is_refused() -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python("99999999999999d")


@given(st.timedeltas(timedelta(0), timedelta(days=400)))
@settings(deadline=None)
def test_a_length_of_time_is_read_back_from_json(length: timedelta) -> None:
    assert DURATION.validate_json(DURATION.dump_json(length)) == length


# -- clocks -------------------------------------------------------------------------------------


def test_the_systems_clock_tells_an_aware_time_in_utc() -> None:
    assert SystemClock().now().tzinfo is UTC


async def test_a_manual_clock_stands_still(clock: ManualClock) -> None:
    before = clock.now()
    await eventually(lambda: True)

    assert clock.now() == before


async def test_advancing_moves_the_clock_by_as_much(clock: ManualClock) -> None:
    before = clock.now()

    await clock.advance(timedelta(seconds=5))

    assert clock.now() - before == timedelta(seconds=5)


async def test_sleepers_are_woken_in_the_order_they_are_due(clock: ManualClock) -> None:
    woken: list[tuple[str, timedelta]] = []
    began = clock.now()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(timedelta(seconds=seconds))
        woken.append((name, clock.now() - began))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3), ("early", 1), ("also early", 1), ("middle", 2)):
            group.create_task(sleeper(name, seconds))
        await eventually(lambda: clock.sleepers == 4)
        await clock.advance(timedelta(seconds=3))

    assert woken == [
        ("early", timedelta(seconds=1)),
        ("also early", timedelta(seconds=1)),
        ("middle", timedelta(seconds=2)),
        ("late", timedelta(seconds=3)),
    ]


async def test_a_sleeper_that_is_not_due_sleeps_on(clock: ManualClock) -> None:
    sleeper = asyncio.create_task(clock.sleep(timedelta(seconds=10)))
    await eventually(lambda: clock.sleepers == 1)

    await clock.advance(timedelta(seconds=9.999))

    assert not sleeper.done()
    sleeper.cancel()


async def test_one_advance_wakes_a_task_as_often_as_it_sleeps_within_it(clock: ManualClock) -> None:
    ticks: list[datetime] = []
    began = clock.now()

    async def tick() -> None:
        while True:
            await clock.sleep(timedelta(seconds=1))
            ticks.append(clock.now())

    ticker = asyncio.create_task(tick())
    await eventually(lambda: clock.sleepers == 1)
    await clock.advance(timedelta(seconds=3))
    ticker.cancel()

    assert ticks == [began + timedelta(seconds=number) for number in (1, 2, 3)]


async def test_the_clock_counts_who_sleeps(clock: ManualClock) -> None:
    sleepers = [asyncio.create_task(clock.sleep(timedelta(seconds=s))) for s in (1, 2, 3)]
    await eventually(lambda: clock.sleepers == 3)

    await clock.advance(timedelta(seconds=1))
    assert clock.sleepers == 2

    sleepers[1].cancel()
    await eventually(lambda: clock.sleepers == 1)
    sleepers[2].cancel()


async def test_a_cancelled_sleeper_does_not_stop_the_others(clock: ManualClock) -> None:
    gone = asyncio.create_task(clock.sleep(timedelta(seconds=1)))
    there = asyncio.create_task(clock.sleep(timedelta(seconds=2)))
    await eventually(lambda: clock.sleepers == 2)
    gone.cancel()

    await clock.advance(timedelta(seconds=2))

    assert there.done()
