"""
Routing rules and values for property tests: made of few words, so that tests and values often meet,
and of many rows over one subject in a row, so that they are indexed.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pydantic import JsonValue

from shared.site.rules.conditions import Operator
from shared.site.rules.rule import RoutingRule
from shared.site.rules.subjects import Subject
from shared.site.rules.values import Kind, check_wanted, kind_of

FIELD = "Tier"
SUBJECTS = (
    f"field.{FIELD}",
    "field.Debt",
    "caller.number",
    "time.of_day",
    "hours.office",
)
_WORDS = (
    "GOLD",
    "gold ",
    "Goldfish",
    "g",
    "silver",
    "Straße",
    "STRASSE",
    "yes",
    "true",
    "no",
    "0",
    "1",
    "9",
    "10",
    "10.0",
    "50",
    "1700000000",
    "2023-11-14T22:13:20Z",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
)
_NUMBERS = ("+442071234567", "020 7123 4567", "02071234567", "+44", "+4420", "020", "101", "anna")
_TIMES = ("00:00", "6:00", "06:00", "09:30", "22:00", "23:59")
_STATES = ("open", "closed", "holiday")
_AGES = ("1h", "30d", "400d", "2000d")
_PATTERNS = ("^g", "1", "(gold|silver)$", "[[:digit:]]+:")
_ORDERS = {
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
    Operator.BETWEEN,
}
_NO_VALUES: tuple[JsonValue, ...] = (None, "", "  ", [], [None], {})
_BARE: tuple[JsonValue, ...] = (True, False, 0, 1, 9.5, 10, 50, 1700000000, {"name": "Gold"})
_WAYS: tuple[Any, ...] = ("queue:a", "queue:b", "manager", ["manager", "queue:a"], "rule:other")


def _words_of(subject: str) -> tuple[str, ...]:
    match subject:
        case "caller.number":
            return _NUMBERS
        case "time.of_day":
            return _TIMES
        case "hours.office":
            return _STATES
        case _:
            return _WORDS


def values_of(subject: str) -> st.SearchStrategy[JsonValue]:
    """What may be found out about it: a value, several, none."""
    one = st.sampled_from([*_words_of(subject), *_BARE])
    return st.one_of(one, one, st.lists(one, max_size=3), st.sampled_from(_NO_VALUES))


@st.composite
def _tests(draw: st.DrawFn, subject: str) -> dict[str, Any]:
    kind = kind_of(Subject.parse(subject))
    operators = [op for op in Operator if kind is not Kind.PHONE or op not in _ORDERS]
    operator = draw(st.sampled_from(operators))
    word = st.sampled_from(_words_of(subject))
    match operator:
        case Operator.EXISTS:
            return {"operator": "exists"}
        case Operator.IN:
            value: Any = draw(st.lists(word, min_size=1, max_size=3))
        case Operator.BETWEEN:
            pairs = st.lists(word, min_size=2, max_size=2)
            value = draw(pairs.filter(lambda pair: _is_sensible(pair, kind)))
        case Operator.OLDER_THAN | Operator.NEWER_THAN:
            value = draw(st.sampled_from(_AGES))
        case Operator.MATCHES:
            value = draw(st.sampled_from(_PATTERNS))
        case _:
            value = draw(word)
    return {"operator": operator.value, "value": value}


def _is_sensible(pair: list[str], kind: Kind) -> bool:
    try:
        check_wanted(Operator.BETWEEN, tuple(pair), kind)
    except ValueError:
        return False
    return True


def _of(subject: str) -> st.SearchStrategy[dict[str, Any]]:
    """A test that names its subject; the rule's own field at times by saying nothing."""
    named = _tests(subject).map(lambda test: {**test, "of": subject})
    return named if subject != SUBJECTS[0] else named | _tests(subject)


_ONE = st.sampled_from(SUBJECTS).flatmap(_of)


def _several(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    form = st.sampled_from(("all", "any", "none"))
    return st.builds(lambda word, held: {word: held}, form, st.lists(parts, min_size=1, max_size=3))


_CONDITIONS = st.recursive(_ONE, _several, max_leaves=6)
_ALWAYS: st.SearchStrategy[dict[str, Any]] = st.just({})
_ROW = st.one_of(
    _tests(SUBJECTS[0]),
    _tests(SUBJECTS[0]),
    _CONDITIONS.map(lambda condition: {"when": condition}),
    _CONDITIONS.map(lambda condition: {"when": condition}),
    _ALWAYS,
)


@st.composite
def rules(draw: st.DrawFn) -> RoutingRule:
    """Of up to 60 rows; some always match, some lead to somebody who may be away."""
    rows: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            rows += draw(st.lists(_ROW, max_size=10))
        else:
            subject = draw(st.sampled_from(SUBJECTS))
            tests = draw(st.lists(_of(subject), min_size=8, max_size=20))
            rows += ({"when": test} for test in tests)
    ways = draw(st.lists(st.sampled_from(_WAYS), min_size=1, max_size=8))
    # In turn: one drawn for each row would be most of what is drawn.
    rows = [{**row, "destination": ways[place % len(ways)]} for place, row in enumerate(rows)]
    return RoutingRule.model_validate(
        {
            "name": "generated",
            "crm": "crm",
            "field": FIELD,
            "rows": rows or [{"destination": "queue:a"}],
            "default": "queue:a",
        }
    )
