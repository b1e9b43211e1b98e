from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import Direction
from shared.crm.language.functions import FUNCTIONS, plain_text
from shared.errors import ContractError

#: Zoho's, by the template that ships.
CALL_TYPE = {"inbound answered": "Inbound", "inbound *": "Missed", "*": "Outbound"}

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
    st.lists(st.text(), max_size=3),
    st.dictionaries(st.text(), st.text(), max_size=3),
)


def run(name: str, value: Any, *arguments: str, maps: Mapping[str, Any] | None = None) -> Any:
    return FUNCTIONS[name].run(value, arguments, maps or {})


# -- how a value stands in a text ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, "", id="none"),
        pytest.param("text", "text", id="text"),
        pytest.param("", "", id="empty"),
        pytest.param(True, "true", id="yes"),
        pytest.param(False, "false", id="no"),
        pytest.param(42, "42", id="whole"),
        pytest.param(-1.5, "-1.5", id="fraction"),
        pytest.param(timedelta(minutes=1, seconds=15), "75", id="duration"),
        pytest.param(timedelta(seconds=75.25), "75", id="duration with a fraction"),
        pytest.param(
            datetime(2026, 11, 21, 6, 54, 35, 958000, UTC), "2026-11-21T06:54:35+00:00", id="moment"
        ),
        pytest.param(["a", 1, None], "a,1,", id="list"),
        pytest.param((), "", id="empty list"),
        pytest.param(Direction.INBOUND, "inbound", id="word of ours"),
    ],
)
def test_a_value_stands_in_a_text_as_people_write_it(value: Any, expected: str) -> None:
    assert plain_text(value) == expected


@given(anything)
@settings(deadline=None)
def test_every_value_has_a_text(value: Any) -> None:
    assert isinstance(plain_text(value), str)


# -- mmss, seconds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(0), "00:00"),
        (timedelta(seconds=1), "00:01"),
        (timedelta(seconds=59), "00:59"),
        (timedelta(seconds=60), "01:00"),
        (timedelta(seconds=72.25), "01:12"),
        (timedelta(seconds=59.9), "01:00"),
        (timedelta(minutes=75, seconds=3), "75:03"),
        (timedelta(hours=2), "120:00"),
        (timedelta(seconds=-5), "00:00"),
    ],
)
def test_a_duration_is_written_in_minutes_and_seconds(duration: timedelta, expected: str) -> None:
    assert run("mmss", duration) == expected


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(0), 0),
        (timedelta(seconds=72.25), 72),
        (timedelta(minutes=75, seconds=3), 4503),
        (timedelta(seconds=-5), 0),
    ],
)
def test_a_duration_is_given_in_whole_seconds(duration: timedelta, expected: int) -> None:
    assert run("seconds", duration) == expected


@given(st.timedeltas(timedelta(0), timedelta(days=10)))
@settings(deadline=None)
def test_minutes_and_seconds_add_up(duration: timedelta) -> None:
    minutes, seconds = run("mmss", duration).split(":")

    assert 0 <= int(seconds) < 60
    assert abs(int(minutes) * 60 + int(seconds) - duration.total_seconds()) <= 0.5


# -- iso8601 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 11, 21, 6, 54, 35, 958000, UTC), "2026-11-21T06:54:35+00:00"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (
            datetime(2026, 11, 21, 8, 54, 35, tzinfo=timezone(timedelta(hours=2))),
            "2026-11-21T08:54:35+02:00",
        ),
    ],
)
def test_a_moment_is_written_with_its_offset_and_whole_seconds(
    moment: datetime, expected: str
) -> None:
    assert run("iso8601", moment) == expected


# -- map ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("inbound answered", "Inbound"),
        ("inbound missed", "Missed"),
        ("inbound ", "Missed"),
        ("outbound answered", "Outbound"),
        ("", "Outbound"),
        ("INBOUND answered", "Outbound"),
        (None, "Outbound"),
        (42, "Outbound"),
    ],
)
def test_the_first_line_of_a_map_that_fits_gives_the_word(value: Any, expected: str) -> None:
    assert run("map", value, "call_type", maps={"call_type": CALL_TYPE}) == expected


def test_a_value_that_fits_no_line_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="call_type has no line"):
        run("map", "internal", "call_type", maps={"call_type": {"inbound": "x"}})


def test_a_map_that_is_not_there_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="there is no map colours"):
        run("map", "red", "colours", maps={"call_type": CALL_TYPE})


# -- wrong types --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mmss", "seconds"])
@pytest.mark.parametrize("value", [None, "75", 7, 1.5, True, datetime(2026, 1, 1, tzinfo=UTC)])
def test_what_is_no_duration_breaks_the_contract(name: str, value: Any) -> None:
    with pytest.raises(ContractError, match="a duration is needed"):
        run(name, value)


@pytest.mark.parametrize("value", [None, "2026-01-01", 0, timedelta(1)])
def test_what_is_no_moment_breaks_the_contract(value: Any) -> None:
    with pytest.raises(ContractError, match="a moment is needed"):
        run("iso8601", value)


@given(st.sampled_from(sorted(FUNCTIONS)), anything)
@settings(deadline=None)
def test_a_function_gives_a_value_or_breaks_the_contract(name: str, value: Any) -> None:
    function = FUNCTIONS[name]
    try:
        found = function.run(value, ("call_type",) * function.arguments, {"call_type": CALL_TYPE})
    except ContractError:
        return
    assert isinstance(found, str | int)
