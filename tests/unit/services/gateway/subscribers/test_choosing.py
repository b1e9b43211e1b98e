"""Which events a subscriber is told of."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.gateway.subscribers.choosing import (
    EventFilter,
    check_filter,
    check_patterns,
    types_of,
)
from services.gateway.subscribers.public import TYPES, paths_of, variables_of

EVENT: dict[str, Any] = {
    "type": "calls.ended",
    "occurred_at": "2026-11-22T09:00:00.000Z",
    "data": {
        "call_id": "c1",
        "cause": 16,
        "flag": True,
        "disposition": "answered",
        "caller": {"number": "+447700900123", "name": None},
        "fields": {"Tier": "GOLD", "a.b": 1},
        "phones": ["101", "102"],
    },
}


@pytest.mark.parametrize(
    ("field", "operator", "value", "holds"),
    [
        ("type", "=", "calls.ended", True),
        ("type", "=", "calls.Ended", False),
        ("data.disposition", "!=", "answered", False),
        ("data.disposition", "!=", "missed", True),
        ("data.nothing", "!=", "missed", True),
        ("data.nothing", "=", "missed", False),
        ("data.nothing", "is_null", True, True),
        ("data.caller.name", "is_null", True, True),
        ("data.caller.number", "is_null", True, False),
        ("data.caller.number", "is_null", False, True),
        ("data.caller.number.deeper", "=", "x", False),
        ("data.cause", "=", 16, True),
        ("data.cause", "=", 16.0, True),
        ("data.cause", "=", "16", False),
        ("data.cause", ">", 15, True),
        ("data.cause", ">", "15", False),
        ("data.cause", "<=", 16, True),
        ("data.cause", "<", 16, False),
        ("data.nothing", "<", 16, False),
        ("data.flag", "=", True, True),
        ("data.flag", "=", 1, False),
        ("data.cause", "=", True, False),
        ("occurred_at", ">=", "2026-11-22T00:00:00.000Z", True),
        ("occurred_at", "<", "2026-11-22T00:00:00.000Z", False),
        ("data.disposition", "in", ["missed", "answered"], True),
        ("data.disposition", "in", [], False),
        ("data.disposition", "not_in", ["missed"], True),
        ("data.disposition", "not_in", ["answered"], False),
        ("data.nothing", "not_in", ["answered"], True),
        ("data.caller.number", "starts_with", "+44", True),
        ("data.caller.number", "starts_with", "44", False),
        ("data.fields.Tier", "like", "gol", True),
        ("data.cause", "like", "1", False),
        ("data.phones", "has", "102", True),
        ("data.phones", "has", ["9", "101"], True),
        ("data.phones", "has", "10", False),
        ("data.call_id", "has", "c1", False),
    ],
)
def test_a_test_of_one_field(field: str, operator: str, value: Any, *, holds: bool) -> None:
    tested = EventFilter.model_validate({"field": field, "operator": operator, "value": value})
    assert tested.holds(EVENT) is holds


def test_several_tests_together() -> None:
    yes = {"field": "data.cause", "value": 16}
    no = {"field": "data.cause", "value": 17}
    both = EventFilter.model_validate({"filters": [yes, no]})
    either = EventFilter.model_validate({"condition": "or", "filters": [no, yes]})
    inner = EventFilter.model_validate(
        {"filters": [yes, {"condition": "or", "filters": [no, {"filters": [yes, yes]}]}]}
    )
    assert not both.holds(EVENT)
    assert either.holds(EVENT)
    assert inner.holds(EVENT)
    assert inner.depth == 4


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "say `field`"),
        ({"field": "type", "filters": [{"field": "type", "value": "x"}]}, "or `filters`"),
        ({"field": "type", "operator": "in", "value": "x"}, "takes a list"),
        ({"field": "type", "operator": "=", "value": ["x"]}, "takes one value"),
        ({"field": "type", "operator": "=", "value": None}, "see `is_null`"),
        ({"field": "type", "operator": "=", "value": {"a": 1}}, "a value is a text"),
        ({"field": "type", "operator": "is_null", "value": "no"}, "true or false"),
        ({"field": "type", "operator": "like", "value": 1}, "takes a text"),
        ({"field": "type", "operator": "in", "value": ["x"] * 501}, "at most 500 values"),
        ({"field": "type", "value": "x" * 300}, "256 characters"),
        ({"field": "type", "value": 2**63}, "too large"),
        ({"field": "type", "operator": "in", "value": [1, 10**400]}, "too large"),
        ({"field": "data..x", "operator": "~", "value": "x"}, "Input should be"),
        ({"field": "type; drop", "value": "x"}, "match pattern"),
        ({"feild": "type", "value": "x"}, "Extra inputs"),
    ],
)
def test_what_is_no_filter_says_why(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EventFilter.model_validate(said)


def test_a_pattern_is_of_some_type() -> None:
    assert types_of(["calls.ended"]) == {"calls.ended"}
    assert types_of(["dials.*", "calls.ended"]) == {"dials.state_changed", "calls.ended"}
    assert types_of(["*"]) == set(TYPES)
    with pytest.raises(ValueError, match=r"did you mean `calls\.ended`"):
        check_patterns(["calls.endet"])
    with pytest.raises(ValueError, match="no event is `hooks"):
        check_patterns(["calls.*", "hooks.*"])
    # Of a newer version, which runs beside this one.
    assert types_of(["hooks.*", "calls.ended"]) == {"calls.ended"}


def test_a_filters_field_is_one_of_its_events() -> None:
    ended = types_of(["calls.ended"])
    check_filter(EventFilter(field="data.disposition", value="missed"), ended)
    with pytest.raises(ValueError, match=r"did you mean `data\.disposition`"):
        check_filter(EventFilter(field="data.dispositon", value="missed"), ended)
    # What another event has, this one has not.
    with pytest.raises(ValueError, match="no event that is subscribed to"):
        check_filter(EventFilter(field="data.decision.rule", value="x"), ended)
    check_filter(EventFilter(field="data.decision.rule", value="x"), types_of(["calls.routed"]))
    # What a CRM calls its fields nobody knows beforehand.
    resolved = types_of(["contacts.resolved"])
    check_filter(EventFilter(field="data.contact.fields.Tier", value="GOLD"), resolved)


def test_more_tests_than_anybody_writes_are_refused() -> None:
    one = EventFilter(field="type", value="x")
    many = EventFilter(filters=(one,) * 30)
    with pytest.raises(ValueError, match="at most 50 tests"):
        check_filter(EventFilter(filters=(many, many)), types_of(["*"]))
    deep = one
    for _ in range(5):
        deep = EventFilter(filters=(deep,))
    with pytest.raises(ValueError, match="5 deep"):
        check_filter(deep, types_of(["*"]))


def test_no_two_places_of_an_event_are_one_variable() -> None:
    """Else which of them a text says would be chance."""
    for event_type in TYPES:
        paths = [p for p in paths_of(frozenset({event_type})) if not p.endswith(".*")]
        names = variables_of(frozenset({event_type})) - {"Event", "Data"}
        assert len(names) == len(paths), event_type


def test_no_choice_of_events_is_kept() -> None:
    """There are two million of them, and each changed subscriber may have another."""
    chosen = frozenset(list(TYPES)[:5])
    assert paths_of(chosen) is not paths_of(chosen)
    assert variables_of(chosen) is not variables_of(chosen)
