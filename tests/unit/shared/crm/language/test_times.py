"""Moments in zones whose clocks are changed, and durations of any length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crm.language.text import compile_text

BERLIN, NEW_YORK, LORD_HOWE, KOLKATA = (
    *("Europe/Berlin", "America/New_York"),
    *("Australia/Lord_Howe", "Asia/Kolkata"),
)
ZONES = (BERLIN, NEW_YORK, LORD_HOWE, KOLKATA, "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Until the year 2200.
moments = st.integers(0, 7_258_118_400_000_000).map(lambda us: EPOCH + timedelta(microseconds=us))
zones = st.sampled_from(ZONES)


def said(text: str, **variables: Any) -> str:
    return compile_text(text).text(variables)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("moment", "zone", "shown"),
    [
        # Germany's clocks go from 02:00 to 03:00 at 01:00 UTC.
        ("2026-03-29T00:59:59Z", BERLIN, "2026-03-29T01:59:59+01:00"),
        ("2026-03-29T01:00:00Z", BERLIN, "2026-03-29T03:00:00+02:00"),
        # And from 03:00 to 02:00: half past two is there twice.
        ("2026-10-25T00:30:00Z", BERLIN, "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T01:30:00Z", BERLIN, "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:00:00Z", BERLIN, "2026-10-25T03:00:00+01:00"),
        ("2026-03-08T06:59:59Z", NEW_YORK, "2026-03-08T01:59:59-05:00"),
        ("2026-03-08T07:00:00Z", NEW_YORK, "2026-03-08T03:00:00-04:00"),
        ("2026-11-01T05:30:00Z", NEW_YORK, "2026-11-01T01:30:00-04:00"),
        ("2026-11-01T06:30:00Z", NEW_YORK, "2026-11-01T01:30:00-05:00"),
        # Half an hour: from 02:00 to 01:30, and from 02:00 to 02:30.
        ("2026-04-04T14:45:00Z", LORD_HOWE, "2026-04-05T01:45:00+11:00"),
        ("2026-04-04T15:15:00Z", LORD_HOWE, "2026-04-05T01:45:00+10:30"),
        ("2026-10-03T15:29:59Z", LORD_HOWE, "2026-10-04T01:59:59+10:30"),
        ("2026-10-03T15:30:00Z", LORD_HOWE, "2026-10-04T02:30:00+11:00"),
        ("2026-03-29T01:00:00Z", KOLKATA, "2026-03-29T06:30:00+05:30"),
        ("2026-10-25T01:00:00Z", "UTC", "2026-10-25T01:00:00+00:00"),
        # The next day, month, year, and the last of February.
        ("2026-06-15T22:30:00Z", BERLIN, "2026-06-16T00:30:00+02:00"),
        ("2026-12-31T23:30:00Z", BERLIN, "2027-01-01T00:30:00+01:00"),
        ("2027-01-01T03:00:00Z", NEW_YORK, "2026-12-31T22:00:00-05:00"),
        ("2028-02-28T23:30:00Z", BERLIN, "2028-02-29T00:30:00+01:00"),
    ],
)
def test_a_moment_is_that_of_the_clocks_of_its_zone(moment: str, zone: str, shown: str) -> None:
    day, time = shown[:10], shown[11:19]
    known = {"At": at(moment), "Zone": zone}

    assert said("{{.At | in_zone .Zone | iso8601}}", **known) == shown
    assert said('{{TimeFormat .At "yyyy-MM-ddTHH:mm:sszzz"}}', **known) == shown
    assert said('{{TimeFormat .At "yyyy-MM-ddTHH:mm:ss-z"}}', **known) == shown[:-3] + shown[-2:]
    assert said("{{.At | local .Zone}}", **known) == f"{day} {time}"
    assert said("{{.At | in_zone .Zone | date}} {{.At | in_zone .Zone | time}}", **known) == (
        f"{day} {time}"
    )
    assert said('{{TimeFormat .At "yyyy-MM-ddTHH:mm:ss.000Zz" "1"}}', **known) == (
        f"{moment[:-1]}.000Z"
    )


@pytest.mark.parametrize(
    ("started", "ended", "zone"),
    [
        ("2026-03-29T00:55:00Z", "2026-03-29T01:05:00Z", BERLIN),
        ("2026-10-25T00:55:00Z", "2026-10-25T01:05:00Z", BERLIN),
        ("2026-03-08T06:55:00Z", "2026-03-08T07:05:00Z", NEW_YORK),
        ("2026-11-01T05:55:00Z", "2026-11-01T06:05:00Z", NEW_YORK),
        ("2026-04-04T14:55:00Z", "2026-04-04T15:05:00Z", LORD_HOWE),
        ("2026-10-03T15:25:00Z", "2026-10-03T15:35:00Z", LORD_HOWE),
    ],
)
def test_a_call_over_the_change_is_as_long_as_it_was(started: str, ended: str, zone: str) -> None:
    """Though its clocks show another time in between, their offsets make it right again."""
    shown = [
        said("{{.At | in_zone .Zone | iso8601}}", At=at(t), Zone=zone) for t in (started, ended)
    ]
    plain = [said("{{.At | local .Zone}}", At=at(t), Zone=zone) for t in (started, ended)]

    assert at(shown[1]) - at(shown[0]) == timedelta(minutes=10)
    assert at(plain[1]) - at(plain[0]) != timedelta(minutes=10)


@given(moments, zones)
def test_a_form_with_an_offset_is_the_same_moment_read_again(moment: datetime, zone: str) -> None:
    whole = moment.replace(microsecond=0)
    known = {"At": moment, "Zone": zone}
    for text in (
        "{{.At | iso8601}}",
        "{{.At | in_zone .Zone | iso8601}}",
        "{{.At | iso_utc}}",
        '{{TimeFormat .At "yyyy-MM-ddTHH:mm:sszzz"}}',
        '{{TimeFormat .At "yyyy-MM-ddTHH:mm:ss-z"}}',
        '{{TimeFormat .At "yyyy-MM-ddTHH:mm:ssZz" "1"}}',
    ):
        assert at(said(text, **known)) == whole
    assert said("{{.At | unix}}", **known) == str(int(whole.timestamp()))
    milliseconds = int(said("{{.At | unix_ms}}", **known))
    assert milliseconds == (moment - EPOCH) // timedelta(milliseconds=1)


@given(moments)
def test_a_form_in_utc_is_the_same_moment_read_as_utc(moment: datetime) -> None:
    shown = said("{{.At | utc}}", At=moment)

    assert at(f"{shown}+00:00") == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        # mm:ss, HH:MM, HH:MM:SS, hours and minutes, minutes, hours, seconds, milliseconds
        (0, "00:00 00:00 00:00:00 0+0 0 0 0 0"),
        (-5, "00:00 00:00 00:00:00 0+0 0 0 0 0"),
        (0.4, "00:00 00:00 00:00:00 0+0 0 0 0 400"),
        (0.5, "00:00 00:00 00:00:00 0+0 0 0 0 500"),
        (1.5, "00:02 00:00 00:00:02 0+0 1 0 2 1500"),
        (17, "00:17 00:00 00:00:17 0+0 1 0 17 17000"),
        (59.6, "01:00 00:01 00:01:00 0+1 1 0.02 60 59600"),
        (60.4, "01:00 00:01 00:01:00 0+1 1 0.02 60 60400"),
        (61, "01:01 00:01 00:01:01 0+1 2 0.02 61 61000"),
        (3599, "59:59 00:59 00:59:59 0+59 60 1 3599 3599000"),
        (5400, "90:00 01:30 01:30:00 1+30 90 1.5 5400 5400000"),
        (6000, "100:00 01:40 01:40:00 1+40 100 1.67 6000 6000000"),
        (86_400, "1440:00 24:00 24:00:00 24+0 1440 24 86400 86400000"),
        (363_599, "6059:59 100:59 100:59:59 100+59 6060 101 363599 363599000"),
    ],
)
def test_a_duration_in_every_form(seconds: float, shown: str) -> None:
    text = (
        "{{.D | mmss}} {{.D | hh_mm}} {{.D | hh_mm_ss}} {{.D | hours_part}}+{{.D | minutes_part}} "
        "{{.D | minutes}} {{.D | hours}} {{.D | seconds}} {{.D | ms}}"
    )

    assert said(text, D=timedelta(seconds=seconds)) == shown


@given(st.timedeltas(-timedelta(days=10), timedelta(days=4000)))
def test_forms_of_a_duration_are_one_duration(duration: timedelta) -> None:
    seconds = int(said("{{.D | seconds}}", D=duration))
    minutes, rest = map(int, said("{{.D | mmss}}", D=duration).split(":"))
    parts = list(map(int, said("{{.D | hh_mm_ss}}", D=duration).split(":")))
    hours, over = (
        int(said(f"{{{{.D | {form}}}}}", D=duration)) for form in ("hours_part", "minutes_part")
    )

    assert abs(seconds - max(duration.total_seconds(), 0)) <= 0.5
    assert minutes * 60 + rest == parts[0] * 3600 + parts[1] * 60 + parts[2] == seconds
    assert (rest < 60, parts[1] < 60, parts[2] < 60, over < 60) == (True,) * 4
    assert hours * 60 + over == seconds // 60
    assert 0 <= int(said("{{.D | minutes}}", D=duration)) * 60 - seconds < 60
    assert abs(float(said("{{.D | hours}}", D=duration)) - seconds / 3600) < 0.0051
