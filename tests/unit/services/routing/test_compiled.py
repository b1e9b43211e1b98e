from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from services.routing.compiled import CompiledRule, Unknown
from shared.site.rules.conditions import AllOf, AnyOf, Condition, NoneOf, subject_of
from shared.site.rules.rule import RoutingRule
from shared.site.rules.subjects import Subject
from shared.site.rules.values import Around, Comparison, kind_of
from shared.testing.rules import SUBJECTS, rules, values_of

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
TIER = "field.Tier"


class NotAsked(Exception):
    """The CRM was not asked yet."""


@dataclass(slots=True)
class Known:
    """What is not in it was not asked yet, where it is the CRM's, and is not there elsewhere."""

    values: Mapping[str, JsonValue | Unknown]
    now: datetime = NOW
    looked_at: list[str] = field(default_factory=list)

    def of(self, subject: Subject) -> JsonValue | Unknown:
        name = str(subject)
        self.looked_at.append(name)
        if name not in self.values and subject.needs_crm:
            raise NotAsked(name)
        return self.values.get(name)


knowledge = st.fixed_dictionaries(
    {subject: values_of(subject) | st.just(Unknown.UNKNOWN) for subject in SUBJECTS}
).map(Known)


def a_rule(rows: Iterable[Mapping[str, Any]], **more: Any) -> RoutingRule:
    return RoutingRule.model_validate(
        {
            "name": "tiers",
            "crm": "zoho",
            "field": "Tier",
            "rows": [{"destination": "queue:a", **row} for row in rows],
            "default": "queue:rest",
            **more,
        }
    )


def a_test(operator: str, value: Any = None, of: str | None = None) -> dict[str, Any]:
    return {"operator": operator, "value": value, "of": of}


def compiled(*rows: Mapping[str, Any], **more: Any) -> CompiledRule:
    return CompiledRule(a_rule(rows, **more), zone="Europe/Berlin", region="GB")


def matching(rule: CompiledRule, value: JsonValue | Unknown, of: str = TIER) -> list[int]:
    return list(rule.matching(Known({of: value})))


# -- the first row that matches is the first that matches alone ---------------------------------


@settings(deadline=None, max_examples=300)
@given(rules(), st.lists(knowledge, min_size=1, max_size=3))
def test_the_rows_that_match_are_those_that_match_when_tried_alone(
    rule: RoutingRule, calls: list[Known]
) -> None:
    ready = CompiledRule(rule, zone="Europe/Berlin", region="GB")

    for known in calls:
        alone = [n for n in range(1, len(rule.rows) + 1) if ready.holds(n, known) is True]
        assert list(ready.matching(known)) == alone


@settings(deadline=None, max_examples=300)
@given(rules(), knowledge)
def test_a_row_alone_is_what_its_comparisons_make_in_kleenes_logic(
    rule: RoutingRule, known: Known
) -> None:
    ready = CompiledRule(rule, zone="Europe/Berlin", region="GB")

    for number, row in enumerate(rule.rows, start=1):
        truth = 1.0 if row.condition is None else kleene(row.condition, known)
        assert ready.holds(number, known) is {0.0: False, 0.5: None, 1.0: True}[truth]


def kleene(condition: Condition, known: Known) -> float:
    """0 false, ½ unknown, 1 true: then `all` is the least and `any` the most of them."""
    match condition:
        case AllOf():
            return min(kleene(part, known) for part in condition.all)
        case AnyOf():
            return max(kleene(part, known) for part in condition.any)
        case NoneOf():
            return 1 - max(kleene(part, known) for part in condition.none)
    subject = subject_of(condition, "Tier")
    assert subject is not None
    value = known.of(subject)
    if isinstance(value, Unknown):
        return 0.5
    around = Around(ZoneInfo("Europe/Berlin"), "GB")
    comparison = Comparison(condition.operator, condition.values, kind_of(subject), around)
    return float(comparison.holds(value, now=known.now))


# -- rows that are looked up ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ("silver", [2, 4, 8]),
        ("Gold", [1, 3, 8, 9]),
        (["silver", "gold"], [1, 2, 3, 4, 8, 9]),
        ("goldfish", [3, 8]),
        (60, [5, 6, 8]),
        (50, [6, 8]),
        ("50.0", [6, 8]),
        (15, [7, 8]),
        (True, [8, 10]),
        ([], []),
        (None, []),
        ("", []),
        (Unknown.UNKNOWN, []),
    ],
)
def test_rows_of_all_operators_over_one_field_are_found_in_their_order(
    value: JsonValue | Unknown, rows: list[int]
) -> None:
    rule = compiled(
        a_row("=", "gold"),
        a_row("in", ["silver", "bronze"]),
        a_row("starts_with", "gol"),
        a_row("contains", "silv"),
        a_row(">", "50"),
        a_row(">=", "50"),
        a_row("between", [10, 20]),
        a_row("exists"),
        a_row("=", "GOLD "),
        a_row("=", "yes"),
    )

    assert matching(rule, value) == rows


def a_row(operator: str, value: Any = None) -> dict[str, Any]:
    return {"operator": operator, "value": value}


@pytest.mark.parametrize(
    ("time", "rows"),
    [("23:30", [1, 9]), ("05:59", [1, 8]), ("06:00", [1]), ("06:01", []), ("21:59", [9])],
)
def test_a_span_over_midnight_is_one_row_at_both_its_ends(time: str, rows: list[int]) -> None:
    of = "time.of_day"
    night = {"when": a_test("between", ["22:00", "6:00"], of)}
    never = [{"when": a_test("=", f"12:{minute:02}", of)} for minute in range(6)]
    early, late = a_test("<", "6:00", of), a_test(">", "21:00", of)
    rule = compiled(night, *never, {"when": early}, {"when": late})

    assert matching(rule, time, of) == rows


def test_a_national_and_an_international_beginning_find_the_same_number() -> None:
    of = "caller.number"
    others = [{"when": a_test("starts_with", f"+49{n}", of)} for n in range(10)]
    rule = compiled(
        *others,
        {"when": a_test("starts_with", "020", of)},
        {"when": a_test("starts_with", "0044 20", of)},
        {"when": a_test("=", "020 7123 4567", of)},
    )

    assert matching(rule, "+442071234567", of) == [11, 12, 13]


# -- what is looked at, and when -----------------------------------------------------------------


def test_nobody_is_asked_for_a_row_behind_the_one_that_matches() -> None:
    known = Known({"caller.country": "DE"})
    rule = compiled(
        {"when": a_test("=", "DE", "caller.country")},
        *({"operator": "=", "value": f"tier {number}"} for number in range(20)),
    )

    rows = rule.matching(known)

    assert next(rows) == 1
    assert known.looked_at == ["caller.country"]
    with pytest.raises(NotAsked, match=r"field\.Tier"):
        next(rows)


def test_within_a_row_the_crm_is_asked_last() -> None:
    abroad, gold = a_test("!=", "DE", "caller.country"), a_test("=", "GOLD")
    rule = compiled({"when": {"all": [gold, abroad]}}, {"when": {"any": [gold, {"all": [gold]}]}})

    assert rule.holds(1, Known({"caller.country": "DE"})) is False
    with pytest.raises(NotAsked):
        rule.holds(1, Known({"caller.country": "FR"}))
    with pytest.raises(NotAsked):
        rule.holds(2, Known({"caller.country": "DE"}))


def test_a_row_without_a_condition_matches_whatever_is_known() -> None:
    rule = compiled({"operator": "=", "value": "GOLD"}, {})

    assert list(rule.matching(Known({TIER: Unknown.UNKNOWN}))) == [2]


@pytest.mark.parametrize(
    ("zone", "matches"), [("Europe/Berlin", [1]), ("America/New_York", []), (None, [1])]
)
def test_dates_are_of_the_zone_of_the_rule_before_that_of_the_tenant(
    zone: str | None, matches: list[int]
) -> None:
    rule = compiled({"operator": "=", "value": "2026-01-01"}, zone=zone)

    assert matching(rule, "2025-12-31T23:00:00Z") == matches


# -- the price ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (lambda n: ("=", f"tier {n}"), "tier 3999"),
        (lambda n: ("in", [f"tier {n}", f"level {n}"]), "level 3999"),
        (lambda n: ("starts_with", f"tier {n:05}"), "tier 03999 or so"),
        (lambda n: ("<", n), 3998.5),
        (lambda n: (">=", 5000 - n), 1001),
        (lambda n: ("between", [n * 10, n * 10 + 5]), 39_993),
        (lambda n: ("between", [n * 10, n * 10 + 5 if n else 39_991]), 39_993),
        (lambda n: ("=", f"tier {n}") if n % 2 else (">", 10_000 - n), "tier 3999"),
    ],
    ids=["=", "in", "starts_with", "<", ">=", "between", "between after the first", "mixed"],
)
def test_thousands_of_rows_are_not_tried_one_by_one(
    rows: Callable[[int], tuple[str, Any]], value: JsonValue
) -> None:
    rule = compiled(*(a_row(*rows(number)) for number in range(4000)))
    known = Known({TIER: value})

    asked = calls_of(lambda: next(rule.matching(known)))

    assert next(rule.matching(known)) == 4000
    assert asked < 200


def test_what_has_to_be_tried_is_tried_before_the_row_that_is_looked_up_alone() -> None:
    found = a_row("=", "GOLD")
    tried = [a_row("contains", f"tier {number}") for number in range(500)]
    rule = compiled(*tried[:20], found, *tried)
    known = Known({TIER: "gold"})

    few = calls_of(lambda: next(rule.matching(known)))
    all_ = calls_of(lambda: list(rule.matching(known)))

    assert next(rule.matching(known)) == 21
    assert few < all_ / 10


@pytest.mark.parametrize("operator", ["contains", "!=", "<", "starts_with"])
def test_a_value_is_read_once_however_many_rows_ask(operator: str) -> None:
    """A list of a thousand texts that each of a hundred thousand rows reads anew takes a minute."""
    rows = [
        {"when": {"any": [a_test(operator, f"tier {n}"), a_test("=", f"x {n}")]}}
        for n in range(100)
    ]
    rule = compiled(*rows)
    value: list[JsonValue] = ["SILVER"] * 500

    one = calls_of(lambda: rule.holds(1, Known({TIER: value})))
    known = Known({TIER: value})
    all_ = calls_of(lambda: list(rule.matching(known)))

    assert known.looked_at == [TIER]
    assert all_ < one + 100 * 20


# -- in words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "always"),
        (a_row("=", "GOLD"), "= 'GOLD'"),
        (a_row("in", ["GOLD", 5]), "in ['GOLD', '5']"),
        (a_row("between", [10, 20]), "between '10' and '20'"),
        (a_row("exists"), "exists"),
        ({"when": a_test("older_than", "30d")}, "older_than '30d'"),
        ({"when": a_test("=", "DE", "caller.country")}, "caller.country = 'DE'"),
        (
            {
                "when": {
                    "all": [
                        a_test("=", "DE", "caller.country"),
                        {"none": [a_test("=", "open", "hours.office"), a_test("=", "GOLD")]},
                    ]
                }
            },
            "all of (caller.country = 'DE', none of (hours.office = 'open', field.Tier = 'GOLD'))",
        ),
        ({"when": {"any": [a_test("exists")]}}, "any of (field.Tier exists)"),
    ],
)
def test_a_condition_is_said_in_a_few_words(row: dict[str, Any], words: str) -> None:
    assert compiled(row).describe(1) == words


def test_a_long_condition_is_cut() -> None:
    rule = compiled(a_row("in", ["x" * 500] * 1000), a_row("=", "x" * 500))

    assert [len(rule.describe(number)) for number in (1, 2)] == [200, 200]
    assert rule.describe(1).endswith("…")
