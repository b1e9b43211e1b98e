from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from services.routing.compiled import CompiledRule
from shared.site.rules.conditions import AllOf, Condition, Operator, Test
from shared.site.rules.places import is_sure
from shared.site.rules.reach import unreachable
from shared.site.rules.rule import RoutingRule
from shared.site.rules.subjects import Subject
from shared.site.rules.values import Around
from shared.testing.rules import SUBJECTS, rules, values_of

AROUND = Around(ZoneInfo("Europe/Berlin"), "GB")
ALWAYS: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Known:
    values: Mapping[str, JsonValue]
    now: datetime = datetime(2026, 3, 4, 12, tzinfo=UTC)

    def of(self, subject: Subject) -> JsonValue:
        return self.values[str(subject)]


def a_row(operator: str, value: Any = None) -> dict[str, Any]:
    return {"operator": operator, "value": value}


def when(operator: str, value: Any = None, of: str | None = None) -> dict[str, Any]:
    return {"when": {"operator": operator, "value": value, "of": of}}


def all_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"when": {"all": [row["when"] for row in rows]}}


def any_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"when": {"any": [row["when"] for row in rows]}}


def none_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"when": {"none": [row["when"] for row in rows]}}


def a_rule(*rows: dict[str, Any]) -> RoutingRule:
    return RoutingRule.model_validate(
        {
            "name": "tiers",
            "crm": "zoho",
            "field": "Tier",
            "rows": [{"destination": "queue:a", **row} for row in rows],
            "default": "queue:rest",
        }
    )


def found(*rows: dict[str, Any]) -> dict[int, str]:
    return dict(unreachable(a_rule(*rows), AROUND))


GB, OPEN = when("=", "GB", "caller.country"), when("=", "open", "hours.office")
GOLD = when("=", "GOLD")


# -- never in vain -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(
    rules(),
    st.lists(
        st.fixed_dictionaries({subject: values_of(subject) for subject in SUBJECTS}),
        min_size=1,
        max_size=8,
    ),
)
def test_a_row_beyond_reach_is_never_the_first_that_matches(
    rule: RoutingRule, calls: list[dict[str, JsonValue]]
) -> None:
    beyond = dict(unreachable(rule, AROUND))
    compiled = CompiledRule(rule, zone="Europe/Berlin", region="GB")

    for values in calls:
        for number, row in enumerate(rule.rows, start=1):
            if compiled.holds(number, Known(values)):
                assert number not in beyond, beyond[number]
                if is_sure(row.destination):
                    break


@settings(deadline=None, max_examples=100)
@given(rules(), st.data())
def test_a_row_that_stands_there_twice_is_beyond_reach(
    rule: RoutingRule, data: st.DataObject
) -> None:
    sure = [row for row in rule.rows if is_sure(row.destination)]
    assume(sure)
    rows = (*rule.rows, data.draw(st.sampled_from(sure)))

    beyond = dict(unreachable(rule.model_copy(update={"rows": rows}), AROUND))

    assert len(rows) in beyond


# -- what is found, and what it says -------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(
            [a_row("=", "GOLD"), a_row("=", "x"), a_row("=", " gold")],
            {3: "row 1 takes all that it would: = 'GOLD'"},
            id="double",
        ),
        pytest.param(
            [a_row("=", "1.50"), when("=", "1.5", "field.Tier")],
            {2: "row 1 takes all that it would: = '1.50'"},
            id="the same said otherwise",
        ),
        pytest.param(
            [a_row("=", "GOLD"), ALWAYS, a_row("=", "x"), GB],
            {3: "row 2 always matches", 4: "row 2 always matches"},
            id="after a row that always matches",
        ),
        pytest.param(
            [a_row(">", 10), a_row(">", 50), a_row(">=", 10), a_row("=", 60), a_row("=", 10)],
            {
                2: "row 1 takes all that it would: > '10'",
                4: "row 3 takes all that it would: >= '10'",
                5: "row 3 takes all that it would: >= '10'",
            },
            id="more after less",
        ),
        pytest.param(
            [a_row("<=", 10), a_row("<", 10), a_row("between", [2, 10]), a_row("<", 11)],
            {
                2: "row 1 takes all that it would: <= '10'",
                3: "row 1 takes all that it would: <= '10'",
            },
            id="less after more",
        ),
        pytest.param(
            [
                a_row("between", [10, 20]),
                a_row("between", [30, 40]),
                a_row("between", [12, 20]),
                a_row("between", [15, 35]),
                a_row("between", [5, 50]),
                a_row("between", [6, 49]),
                a_row("in", [7, "8.0"]),
            ],
            {
                3: "row 1 takes all that it would: between '10' and '20'",
                6: "row 5 takes all that it would: between '5' and '50'",
                7: "row 5 takes all that it would: between '5' and '50'",
            },
            id="between within between",
        ),
        pytest.param(
            [a_row("=", "GOLD"), a_row("=", "SILVER"), a_row("in", ["silver", "gold"])],
            {3: "rows 1 and 2 take all that it would"},
            id="in, all taken",
        ),
        pytest.param(
            [*(a_row("=", n) for n in range(9)), a_row("in", [*range(9)])],
            {10: "rows 1, 2, 3, 4, 5 and others take all that it would"},
            id="in, all taken by many",
        ),
        pytest.param(
            [a_row("in", ["GOLD", "SILVER"]), a_row("=", "gold"), a_row("in", ["GOLD", "TIN"])],
            {2: "row 1 takes all that it would: in ['GOLD', 'SILVER']"},
            id="in before",
        ),
        pytest.param(
            [
                when("starts_with", "+44", "caller.number"),
                when("starts_with", "+44 20", "caller.number"),
                when("=", "020 7123 4567", "caller.number"),
                when("starts_with", "+4", "caller.number"),
            ],
            {
                2: "row 1 takes all that it would: caller.number starts_with '+44'",
                3: "row 1 takes all that it would: caller.number starts_with '+44'",
            },
            id="beginnings of numbers",
        ),
        pytest.param(
            [a_row("starts_with", "gol"), a_row("=", "GOLD"), a_row("starts_with", "Gold ")],
            {
                2: "row 1 takes all that it would: starts_with 'gol'",
                3: "row 1 takes all that it would: starts_with 'gol'",
            },
            id="beginnings of texts",
        ),
        pytest.param(
            [a_row("exists"), a_row("!=", "x"), a_row("contains", "x"), GB, all_of(GB, GOLD)],
            dict.fromkeys((2, 3, 5), "row 1 takes all that it would: exists"),
            id="anything after exists",
        ),
        pytest.param(
            [a_row("=", "x"), a_row("!=", "X"), a_row("matches", "y")],
            {3: "rows 1 and 2 take all that it would"},
            id="equal or not",
        ),
        pytest.param(
            [when("older_than", "10d"), when("older_than", "30d"), when("newer_than", "30d")],
            {2: "row 1 takes all that it would: older_than '10d'"},
            id="ages",
        ),
        pytest.param(
            [
                when("between", ["22:00", "6:00"], "time.of_day"),
                when("between", ["23:00", "5:00"], "time.of_day"),
                when("<", "05:30", "time.of_day"),
                when("between", ["21:00", "23:00"], "time.of_day"),
            ],
            dict.fromkeys(
                (2, 3), "row 1 takes all that it would: time.of_day between '22:00' and '6:00'"
            ),
            id="over midnight",
        ),
        pytest.param(
            [all_of(GB, GOLD), OPEN, all_of(GOLD, GB, GB), none_of(GB), none_of(GB), none_of(OPEN)],
            {
                3: "row 1 takes all that it would: "
                "all of (caller.country = 'GB', field.Tier = 'GOLD')",
                5: "row 4 takes all that it would: none of (caller.country = 'GB')",
            },
            id="the same conditions twice",
        ),
        pytest.param(
            [any_of(GB, GOLD), GOLD, all_of(GB, OPEN), any_of(GB, OPEN), any_of(OPEN, GOLD)],
            {
                2: "row 1 takes all that it would: "
                "any of (caller.country = 'GB', field.Tier = 'GOLD')",
                3: "row 1 takes all that it would: "
                "any of (caller.country = 'GB', field.Tier = 'GOLD')",
                5: "rows 1 and 4 take all that it would",
            },
            id="one of several",
        ),
        pytest.param(
            [all_of(GB), when("in", ["GB"], "caller.country")],
            {2: "row 1 takes all that it would: all of (caller.country = 'GB')"},
            id="all of one",
        ),
    ],
)
def test_rows_beyond_reach_are_named_with_what_is_before_them(
    rows: list[dict[str, Any]], said: dict[int, str]
) -> None:
    assert found(*rows) == said


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([a_row("=", "A"), all_of(GOLD, when("=", "B"))], id="a list has both"),
        pytest.param([a_row("!=", "A"), a_row("=", "B")], id="a list of A and B"),
        pytest.param([a_row(">", 10), a_row(">=", 10)], id="the bound itself"),
        pytest.param([a_row(">", 10), a_row(">", "A")], id="of another type"),
        pytest.param([a_row("starts_with", "y"), a_row("=", "yes")], id="a true is yes, not y…"),
        pytest.param([a_row("starts_with", "1"), a_row("=", "10")], id="010 is 10, too"),
        pytest.param([a_row("exists"), when("exists", None, "field.Other")], id="another field"),
        pytest.param([all_of(GB, GOLD), GB, GOLD], id="less than both"),
        pytest.param([none_of(GB), GOLD, none_of(GB, OPEN)], id="none of more"),
        pytest.param([a_row("between", [1, 5]), a_row("between", [5, 9])], id="side by side"),
    ],
)
def test_rows_that_some_value_reaches_are_not_named(rows: list[dict[str, Any]]) -> None:
    assert found(*rows) == {}


@pytest.mark.parametrize("row", [ALWAYS, a_row("=", "GOLD"), a_row("exists"), all_of(GB, GOLD)])
def test_a_row_that_leads_to_somebody_who_may_be_away_takes_nothing(row: dict[str, Any]) -> None:
    away = {**row, "destination": "manager"}
    sure = {**row, "destination": ["manager", "queue:a"]}

    assert found(away, away, sure) == {}
    assert list(found(sure, away)) == [2]


def unread(operator: Operator, *values: str) -> Test:
    """As nobody can write it: a rule with it is refused when it is read."""
    return Test.model_construct(of=None, operator=operator, value=values)


HIGH_FIRST = unread(Operator.BETWEEN, "20", "10")


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (HIGH_FIRST, "between '20' and '10'"),
        (unread(Operator.BETWEEN, "10", "2026-01-01"), "between '10' and '2026-01-01'"),
        (unread(Operator.STARTS_WITH, "  "), "starts_with '  '"),
        (
            AllOf.model_construct(all=(unread(Operator.EXISTS), HIGH_FIRST)),
            "all of (field.Tier exists, field.Tier between '20' and '10')",
        ),
    ],
)
def test_a_row_that_no_value_can_match_is_named(condition: Condition, words: str) -> None:
    rule = a_rule(ALWAYS)
    row = rule.rows[0].model_copy(update={"when": condition})

    beyond = unreachable(rule.model_copy(update={"rows": (row,)}), AROUND)

    assert list(beyond) == [(1, f"no value can match {words}")]


# -- many rows ---------------------------------------------------------------------------------


def shuffled(count: int) -> Iterator[int]:
    """Every number below *count*, a power of ten, in no order."""
    return (number * 7919 % count for number in range(count))


@pytest.mark.parametrize(
    "row",
    [
        lambda n: ("=", n),
        lambda n: (">", -n),
        lambda n: ("between", [n * 10, n * 10 + 5]),
        lambda n: ("starts_with", f"tier {n:05}"),
        lambda n: ("in", [f"tier {n}", f"level {n}"]),
    ],
    ids=["=", ">", "between", "starts_with", "in"],
)
def test_ten_times_the_rows_are_ten_times_the_work(row: Callable[[int], tuple[str, Any]]) -> None:
    few = a_rule(*(a_row(*row(number)) for number in shuffled(100)))
    many = a_rule(*(a_row(*row(number)) for number in shuffled(1000)))

    assert calls_of(lambda: list(unreachable(many, AROUND))) < 15 * calls_of(
        lambda: list(unreachable(few, AROUND))
    )


def calls_of(work: Callable[[], object]) -> int:
    """How many functions it calls, Python's own and those in C."""
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
