from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.site.rules.conditions import Operator
from shared.site.rules.keys import folded
from shared.site.rules.subjects import Ask, Subject
from shared.site.rules.values import (
    Around,
    Comparison,
    Kind,
    check_age,
    check_wanted,
    head_of,
    heads_of,
    items_of,
    key_of,
    keys_of,
    kind_of,
)

AROUND = Around(ZoneInfo("Europe/Berlin"), "GB")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TABLE = Path(__file__).parents[4] / "data" / "rules" / "comparisons.md"
KINDS = {
    "## Values": Kind.VALUE,
    "## Telephone numbers": Kind.PHONE,
    "## Times of day": Kind.TIME,
}


def holds(
    value: Any, operator: Operator, *wanted: str, kind: Kind = Kind.VALUE, around: Around = AROUND
) -> bool:
    return Comparison(operator, wanted, kind, around).holds(value, now=NOW)


def table() -> Iterator[Any]:
    kind = Kind.VALUE
    for number, line in enumerate(TABLE.read_text().splitlines(), start=1):
        kind = KINDS.get(line, kind)
        cells = [re.sub(r"^`(.*)`$", r"\1", cell.strip()) for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or cells[0] in {"value", "---"}:
            continue
        value, operator, wanted, answer, _ = cells
        words = json.loads(wanted) if operator in {"in", "between"} else [wanted] if wanted else []
        yield pytest.param(
            json.loads(value), Operator(operator), words, kind, answer == "yes", id=f"line {number}"
        )


ROWS = list(table())


def test_the_table_is_read() -> None:
    assert len(ROWS) > 120
    assert {row.values[1] for row in ROWS} == set(Operator)
    assert {row.values[3] for row in ROWS} == set(Kind)


@pytest.mark.parametrize(("value", "operator", "wanted", "kind", "answer"), ROWS)
def test_a_comparison_holds_as_the_table_says(
    value: Any, operator: Operator, wanted: list[str], kind: Kind, answer: bool
) -> None:
    assert holds(value, operator, *wanted, kind=kind) is answer


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        (Subject(Ask.NUMBER), Kind.PHONE),
        (Subject(Ask.DID), Kind.PHONE),
        (Subject(Ask.TIME), Kind.TIME),
        (Subject(Ask.DATE), Kind.VALUE),
        (Subject(Ask.DTMF), Kind.VALUE),
        (Subject(Ask.FIELD, "Phone"), Kind.VALUE),
    ],
)
def test_a_subject_says_how_its_values_are_read(subject: Subject, kind: Kind) -> None:
    assert kind_of(subject) is kind


# What rules may not say.


@pytest.mark.parametrize(
    ("operator", "wanted", "kind", "said"),
    [
        ("between", ("20", "10"), Kind.VALUE, r"the lower one first: \[10, 20\]"),
        ("between", ("2026-05-02", "2026-05-01"), Kind.VALUE, "the lower one first"),
        ("between", ("10", "gold"), Kind.VALUE, "two of a kind, not a number and a text"),
        ("between", ("100", "199"), Kind.PHONE, "have no order"),
        ("<", ("100",), Kind.PHONE, "have no order"),
        ("<", ("noon",), Kind.TIME, "'noon' is no time of day: say 09:30"),
        ("=", ("930",), Kind.TIME, "'930' is no time of day"),
        ("in", ("09:30", "24:30"), Kind.TIME, "'24:30' is no time of day"),
        ("between", ("22:00", "6"), Kind.TIME, "'6' is no time of day"),
        ("contains", (" ",), Kind.VALUE, "takes more than blanks"),
        ("=", ("  ",), Kind.VALUE, "takes more than blanks: no value is asked for by `exists`"),
        ("!=", (" ",), Kind.VALUE, "takes more than blanks"),
        ("in", ("GOLD", "\n"), Kind.PHONE, "takes more than blanks"),
        ("starts_with", ("\t",), Kind.PHONE, "takes more than blanks"),
    ],
)
def test_what_can_never_fit_is_refused(
    operator: str, wanted: tuple[str, ...], kind: Kind, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        check_wanted(Operator(operator), wanted, kind)


@pytest.mark.parametrize(
    ("operator", "wanted", "kind"),
    [
        ("between", ("10", "10"), Kind.VALUE),
        ("between", ("22:00", "06:00"), Kind.TIME),
        ("exists", (), Kind.PHONE),
        ("in", ("100", "+44"), Kind.PHONE),
        ("starts_with", ("9:",), Kind.TIME),
        ("matches", ("^1",), Kind.TIME),
    ],
)
def test_what_can_fit_is_not(operator: str, wanted: tuple[str, ...], kind: Kind) -> None:
    check_wanted(Operator(operator), wanted, kind)


@pytest.mark.parametrize("text", ["30d", "12h", "15m", "90s", " 1.5h "])
def test_an_age_is_a_length_of_time(text: str) -> None:
    check_age(text)


@pytest.mark.parametrize("text", ["30", "", "month", "-3d", "3 weeks", "1d2h"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="is no age: say 30d, 12h, 15m"):
        check_age(text)


def test_an_age_longer_than_time_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="longer than any clock runs"):
        check_age("9" * 400 + "d")


# Shapes.

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.dates().map(lambda day: day.isoformat())
    | st.from_regex(r"\A\+?[0-9*#() -]{0,20}\Z")
    | st.sampled_from(["0001-01-01", "9999-12-31T23:59:59-12:00", "/Date(999999999999999)/"])
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "label", "title", "value", "id"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
WORDS = st.text(max_size=30) | SCALARS.map(str)
AROUNDS = st.sampled_from(
    [
        AROUND,
        Around(ZoneInfo("UTC")),
        Around(ZoneInfo("Pacific/Kiritimati"), "US"),
        Around(ZoneInfo("Pacific/Pago_Pago"), "DE"),
    ]
)


@given(
    JSON,
    st.sampled_from(Operator),
    st.lists(WORDS, max_size=3),
    st.sampled_from(Kind),
    AROUNDS,
)
@example(10**5000, Operator.EQUAL, ["1"], Kind.VALUE, AROUND)
@example("\ud800", Operator.MATCHES, ["a"], Kind.VALUE, AROUND)
@example("a", Operator.MATCHES, ["\ud800"], Kind.VALUE, AROUND)
@example("a", Operator.MATCHES, ["(" * 500], Kind.PHONE, AROUND)
@example("a", Operator.OLDER_THAN, ["9" * 400 + "d"], Kind.VALUE, AROUND)
@example("-sNaN", Operator.LESS, ["-sNaN"], Kind.VALUE, AROUND)
@example("1e999999999", Operator.LESS, ["1e-999999999"], Kind.VALUE, AROUND)
@example("+" + "0" * 100_000, Operator.STARTS_WITH, ["+"], Kind.PHONE, AROUND)
def test_nothing_that_is_compared_raises(
    value: Any, operator: Operator, wanted: list[str], kind: Kind, around: Around
) -> None:
    assert holds(value, operator, *wanted, kind=kind, around=around) in {True, False}


@given(JSON, st.sampled_from(Operator), WORDS, st.sampled_from(Kind))
def test_no_value_fits_nothing(value: Any, operator: Operator, wanted: str, kind: Kind) -> None:
    if not items_of(value):
        assert not holds(value, operator, wanted, kind=kind)


@given(JSON, WORDS, st.sampled_from(Kind), AROUNDS)
def test_equal_is_to_share_a_key(value: Any, wanted: str, kind: Kind, around: Around) -> None:
    items = items_of(value)
    key = key_of(wanted, kind, around)

    equal = any(key in keys_of(item, kind, around) for item in items)

    assert holds(value, Operator.EQUAL, wanted, kind=kind, around=around) is equal
    different = holds(value, Operator.NOT_EQUAL, wanted, kind=kind, around=around)
    assert different is (bool(items) and not equal)


@given(WORDS, st.sampled_from(Kind), AROUNDS)
def test_a_text_is_equal_to_itself(text: str, kind: Kind, around: Around) -> None:
    there = bool(text.strip())

    assert holds(text, Operator.EQUAL, text, kind=kind, around=around) is there


@given(WORDS, st.sampled_from(Kind), AROUNDS)
@example("0044 20 7946 0000", Kind.PHONE, AROUND)
@example("+44 (0)20 7946 0000", Kind.PHONE, AROUND)
@example("ﬀ", Kind.VALUE, AROUND)
def test_a_text_starts_with_itself_and_contains_itself(
    text: str, kind: Kind, around: Around
) -> None:
    there = bool(text.strip())

    assert holds(text, Operator.STARTS_WITH, text, kind=kind, around=around) is there
    assert holds(text, Operator.CONTAINS, text, kind=kind, around=around) is there


@given(JSON, WORDS, st.sampled_from(Kind), AROUNDS)
def test_to_start_with_is_to_have_such_a_head(
    value: Any, wanted: str, kind: Kind, around: Around
) -> None:
    head = head_of(wanted, kind, around)

    expected = bool(head) and any(
        found.startswith(head) for item in items_of(value) for found in heads_of(item, kind, around)
    )

    assert holds(value, Operator.STARTS_WITH, wanted, kind=kind, around=around) is expected


NUMBERS = st.integers().map(str) | st.decimals(allow_nan=False, allow_infinity=False).map(str)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(datetime.isoformat)  # noqa: DTZ001  the zone is Around's
OF_ONE_TYPE = st.one_of(
    st.tuples(NUMBERS, NUMBERS), st.tuples(MOMENTS, MOMENTS), st.tuples(st.text(), st.text())
).filter(lambda pair: bool(pair[0].strip()))


@given(OF_ONE_TYPE)
def test_within_a_type_one_is_less_equal_or_greater(pair: tuple[str, str]) -> None:
    value, wanted = pair
    same_type = key_of(value, Kind.VALUE, AROUND)[0] == key_of(wanted, Kind.VALUE, AROUND)[0]

    less = holds(value, Operator.LESS, wanted)
    equal = holds(value, Operator.EQUAL, wanted)
    greater = holds(value, Operator.GREATER, wanted)

    assert less + equal + greater == int(same_type)
    assert holds(value, Operator.LESS_OR_EQUAL, wanted) is (less or equal)
    assert holds(value, Operator.GREATER_OR_EQUAL, wanted) is (greater or equal)
    assert holds(value, Operator.BETWEEN, wanted, wanted) is equal


@given(JSON, WORDS)
def test_what_is_equal_is_neither_less_nor_greater_by_one(value: Any, wanted: str) -> None:
    if holds(value, Operator.EQUAL, wanted):
        assert holds(value, Operator.LESS_OR_EQUAL, wanted)
        assert holds(value, Operator.GREATER_OR_EQUAL, wanted)


@given(JSON, st.lists(WORDS, min_size=1, max_size=4), st.sampled_from(Kind))
def test_in_is_equal_to_one_of_them(value: Any, wanted: list[str], kind: Kind) -> None:
    one = any(holds(value, Operator.EQUAL, word, kind=kind) for word in wanted)

    assert holds(value, Operator.IN, *wanted, kind=kind) is one


@given(st.lists(JSON, max_size=4), st.sampled_from(list(Operator)), WORDS)
def test_one_fitting_item_of_a_list_is_enough(
    values: list[Any], operator: Operator, wanted: str
) -> None:
    # Lists count when they are in one list, not deeper.
    items = [item for value in values for item in items_of(value)]
    each = [holds(item, operator, wanted) for item in items]

    expected = bool(each) and (all(each) if operator is Operator.NOT_EQUAL else any(each))

    assert holds(items, operator, wanted) is expected


@given(st.text(alphabet="abcÄöß ", max_size=12), st.text(alphabet="ABCäÖß ", max_size=4))
def test_contains_is_to_have_it_somewhere(text: str, wanted: str) -> None:
    if text.strip() and wanted.strip():
        plain = " ".join(text.split()).casefold()
        assert holds(text, Operator.CONTAINS, wanted) is (
            " ".join(wanted.split()).casefold() in plain
        )


def test_of_long_lists_and_texts_only_the_beginning_counts() -> None:
    assert holds(["a"] * 999 + ["b"], Operator.EQUAL, "b")
    assert not holds(["a"] * 1000 + ["b"], Operator.EQUAL, "b")
    assert holds("a" * 9_999 + "b", Operator.CONTAINS, "b")
    assert not holds("a" * 10_000 + "b", Operator.CONTAINS, "b")


def test_of_a_list_of_long_texts_no_more_counts_than_of_one_text() -> None:
    """A thousand notes of ten thousand letters would hold up every call."""
    assert holds(["a" * 5_000, "b" * 5_000, "c"], Operator.CONTAINS, "b")
    assert not holds(["a" * 5_000, "b" * 5_000, "c"], Operator.CONTAINS, "c")


def test_patterns_are_looked_for_in_the_first_thousand_characters() -> None:
    assert holds("a" * 999 + "b", Operator.MATCHES, "b")
    assert not holds("a" * 1_000 + "b", Operator.MATCHES, "b")


def test_of_accents_upon_one_letter_only_the_first_count() -> None:
    """To put ten thousand in order takes a second, in each comparison."""
    heap = "a" + "\u0301" * 5_000 + "\u0316" * 4_998 + "z"

    assert len(folded(heap)) < 40
    assert holds(heap, Operator.CONTAINS, "z")
    assert holds(heap, Operator.MATCHES, "^á")
    assert holds("Zoe\u0308" * 100, Operator.EQUAL, "zoë" * 100)


def test_items_are_compared_each_for_itself() -> None:
    assert not holds(["gold", "fish"], Operator.CONTAINS, "dfi")
    assert not holds(["gold", "fish"], Operator.CONTAINS, "d fi")
    assert not holds(["gold", "fish"], Operator.STARTS_WITH, "sh")
    assert holds(["gold", "fish"], Operator.STARTS_WITH, "fi")
    assert not holds(["gold\nfish"], Operator.STARTS_WITH, "fish")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("operator", [Operator.CONTAINS, Operator.STARTS_WITH])
def test_blanks_are_in_nothing(operator: Operator, kind: Kind) -> None:
    assert not holds("02 079", operator, " ", kind=kind)


def test_what_is_longer_than_any_number_is_none() -> None:
    number, blanks = "020 7946", " " * 60

    assert holds(f"{number} 0000", Operator.EQUAL, "02079460000", kind=Kind.PHONE)
    assert not holds(f"{number}{blanks}0000", Operator.EQUAL, "02079460000", kind=Kind.PHONE)


def test_a_zone_moves_dates_without_one() -> None:
    moment = "2026-05-01T00:00:00+14:00"
    kiritimati = Around(ZoneInfo("Pacific/Kiritimati"))

    assert holds(moment, Operator.EQUAL, "2026-05-01", around=kiritimati)
    assert not holds(moment, Operator.EQUAL, "2026-05-01", around=AROUND)


def test_a_region_says_whose_national_numbers_are_meant() -> None:
    germany = Around(ZoneInfo("Europe/Berlin"), "DE")
    nowhere = Around(ZoneInfo("Europe/Berlin"))
    number = "+4930123456"

    assert holds(number, Operator.EQUAL, "030 123456", kind=Kind.PHONE, around=germany)
    assert not holds(number, Operator.EQUAL, "030 123456", kind=Kind.PHONE, around=AROUND)
    assert not holds(number, Operator.EQUAL, "030 123456", kind=Kind.PHONE, around=nowhere)


def test_comparisons_are_equal_by_what_they_say() -> None:
    one = Comparison(Operator.EQUAL, ("gold",), Kind.VALUE, AROUND)

    assert one == Comparison(Operator.EQUAL, ("gold",), Kind.VALUE, AROUND)
    assert one != Comparison(Operator.EQUAL, ("silver",), Kind.VALUE, AROUND)
    assert hash(one) == hash(Comparison(Operator.EQUAL, ("gold",), Kind.VALUE, AROUND))
