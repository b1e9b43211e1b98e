from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.journal.listed import is_number_listed, is_phone_listed
from services.journal.wanting import wanted
from shared.phone import parse
from shared.site.journal import DoNotLog, EntryPer, JournalPolicy
from tests.calltelling import told

SPELLINGS = [
    "+44 20 7946 0001",
    "+442079460001",
    "442079460001",
    "00442079460001",
    "0044 20 7946-0001",
    "020 7946 0001",
    "(020) 7946 0001",
    "02079460001",
    "020-7946/0001",
    "020.7946.0001",
]


@pytest.mark.parametrize("listed", SPELLINGS)
@pytest.mark.parametrize("called", SPELLINGS)
def test_a_number_is_found_however_it_is_written(called: str, listed: str) -> None:
    assert is_number_listed(called, ("+15005550006", listed), "GB")


@pytest.mark.parametrize("listed", SPELLINGS)
def test_another_number_of_the_same_end_is_not(listed: str) -> None:
    assert not is_number_listed("+44 20 7946 1001", (listed,), "GB")
    assert not is_number_listed("+1 202 946 0001", (listed,), "GB")


@pytest.mark.parametrize("written", SPELLINGS[:5])
def test_without_a_region_a_number_with_its_country_is_found(written: str) -> None:
    assert is_number_listed("+442079460001", (written,), None)
    assert is_number_listed(written, ("+442079460001",), None)


def test_without_a_region_a_national_number_is_the_one_that_is_written_alike() -> None:
    assert is_number_listed("020 7946 0001", ("(020) 7946-0001",), None)
    assert not is_number_listed("+442079460001", ("020 7946 0001",), None)


@pytest.mark.parametrize(
    ("listed", "called", "expected"),
    [
        ("+4477009*", "+447700900123", True),
        ("+4477009*", "07700 900123", True),
        ("+4477009*", "00447700900123", True),
        ("+44 7700 9*", "447700900123", True),
        ("004477009*", "+447700900123", True),
        ("4477009*", "+447700900123", True),
        ("07700 9*", "+447700900123", True),
        ("07700 9*", "07700900123", True),
        ("+4477008*", "+447700900123", False),
        ("07700*", "+4915112345678", False),
        # A number of another country that is written at home as one of ours is.
        ("0151*", "+4915112345678", False),
        ("+44*", "+15005550006", False),
        ("1*", "150", True),
        ("+1*", "150", False),
    ],
)
def test_a_star_stands_for_all_that_begin_so(listed: str, called: str, *, expected: bool) -> None:
    assert is_number_listed(called, (listed,), "GB") is expected


@pytest.mark.parametrize("hidden", [None, "", "anonymous", "Private", "<unknown>", "withheld"])
def test_who_hides_is_listed_by_one_word_and_by_no_number(hidden: str | None) -> None:
    assert is_number_listed(hidden, ("+442079460001", "withheld"), "GB")
    assert not is_number_listed(hidden, ("+442079460001", "0*", "+4*"), "GB")
    assert not is_number_listed("+442079460001", ("withheld",), "GB")


@pytest.mark.parametrize(
    ("extension", "expected"),
    [("150", True), ("15", False), ("1500", False), ("21", True), ("2", True), (None, False)],
)
def test_extensions_are_listed_whole_or_by_their_beginning(
    extension: str | None, *, expected: bool
) -> None:
    assert is_phone_listed(extension, ("150", "2*")) is expected


@given(
    number=st.one_of(st.text(max_size=300), st.from_regex(r"\A\+?[0-9 ()./-]{1,300}\Z")),
    listed=st.lists(
        st.from_regex(r"\A(\+?[0-9][0-9 ()./-]{0,30}\*?|withheld)\Z", fullmatch=True), max_size=5
    ),
    region=st.sampled_from(["GB", "US", "DE", "IT", None]),
)
def test_whatever_a_caller_sends_is_read(
    number: str, listed: list[str], region: str | None
) -> None:
    """And it is found by itself, however long or odd it is, but for a number that is none."""
    assert is_number_listed(number, tuple(listed), region) in {True, False}
    if re.fullmatch(r"\+?[0-9][0-9 ()./-]{0,30}", number) and parse(number, region).digits:
        assert is_number_listed(number, (*listed, number), region)


def test_a_long_list_is_not_read_number_by_number_for_each_call() -> None:
    """10,000 of them, every call's number another: each is compared with those of its own end."""
    numbers = tuple(f"+44770{number:07}" for number in range(10_000))
    phones = tuple(number[1:] for number in numbers)
    policy = JournalPolicy(do_not_log=DoNotLog(numbers=numbers, extensions=phones, dids=numbers))
    record = told("0 in 447709999123, 1 ring 101, 5 answer 101, 65 end")
    before = parse.cache_info()
    assert wanted(record, policy, per=EntryPer.CALL, region="GB").agents == ("101",)
    after = parse.cache_info()
    assert after.hits + after.misses - before.hits - before.misses < 100
