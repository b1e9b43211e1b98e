"""Faults of a rule stand at the places of its text, and say what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.site.rules.misread import faults_of_rule
from shared.site.rules.rule import RoutingRule, Row

ROW = {"operator": "=", "value": "GOLD", "destination": "queue:a"}


def faults(**changes: Any) -> list[tuple[tuple[str | int, ...], str]]:
    known = {"name": "a", "dids": ["1"], "crm": "z", "field": "F", "default": "queue:a"}
    with pytest.raises(ValidationError) as caught:
        RoutingRule.model_validate({**known, "rows": [ROW], **changes})
    return faults_of_rule(caught.value, RoutingRule)


BAD = {"of": "field.A", "operator": "~", "value": "1"}
GOOD = {"of": "field.A", "value": "1"}


@pytest.mark.parametrize(
    ("row", "path", "what"),
    [
        ({"when": {"all": [GOOD, BAD]}}, ("when", "all", 1, "operator"), "Input should be '='"),
        (
            {"when": {"none": [{"any": [GOOD, {"all": [BAD]}]}]}},
            ("when", "none", 0, "any", 1, "all", 0, "operator"),
            "Input should be '='",
        ),
        ({"when": BAD}, ("when", "operator"), "Input should be '='"),
        ({"when": {"all": []}}, ("when", "all"), ""),
        ({"when": "open"}, ("when",), "Input should be an object"),
        ({"when": {"al": [GOOD]}}, ("when", "al"), "unknown key"),
        ({"when": GOOD | {"value": ["a", ""]}}, ("when", "value", 1), ""),
        ({**ROW, "value": ""}, ("value",), ""),
        ({**ROW, "value": {"a": 1}}, ("value",), "Input should be a valid string"),
        ({**ROW, "operator": "in", "value": ["a", {"b": 1}]}, ("value", 1), ""),
        ({**ROW, "value": None}, (), "`=` takes one value"),
        ({**ROW, "destination": "moon:a"}, ("destination",), "'moon:a': there is no destination"),
        ({**ROW, "destination": ["queue:a", "x"]}, ("destination",), "there is no destination"),
        ({**ROW, "destination": 7}, ("destination", 0), "a destination is a text such as"),
        (
            {**ROW, "destination": {"split": [{"percent": 50, "destination": "queue:a"}] * 3}},
            ("destination", 0),
            "the percents add up to 150, not to 100",
        ),
        (
            {**ROW, "destination": {"split": [{"percent": 50, "destination": "x:a"}] * 2}},
            ("destination", 0, "split", 0, "destination"),
            "'x:a': there is no",
        ),
        ({**ROW, "variables": {"X": "field.A"}}, ("variables", "X"), "String should match"),
        ({**ROW, "prority": 1}, ("prority",), "unknown key; did you mean `priority`?"),
    ],
)
def test_a_fault_of_a_row_stands_where_it_was_written(
    row: dict[str, Any], path: tuple[str | int, ...], what: str
) -> None:
    if "destination" not in row:
        row = {**row, "destination": "queue:a"}
    found = faults(rows=[ROW, row])
    places = [place for place, _ in found]
    assert places[0] == ("rows", 1, *path)
    assert len(places) == len(set(places)) or "split" in str(row)
    assert what in found[0][1]
    assert "function" not in str(found)
    assert "Destination" not in str(places)


def test_a_default_is_a_destination_too() -> None:
    assert faults(default={"queue": "a"})[0][0] == ("default", 0, "split")
    assert faults(default="x")[0][0] == ("default",)


def test_what_is_wrong_elsewhere_stays_where_it_is() -> None:
    assert faults(dids=["a b"])[0][0] == ("dids", 0)
    assert faults(feld="Tier")[0] == (("feld",), "unknown key; did you mean `field`?")


def test_a_row_alone_is_read_with_what_is_above_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Row.model_validate({**ROW, "destination": 7})
    ((path, _),) = faults_of_rule(caught.value, Row, above=("rows", 0))
    assert path == ("rows", 0, "destination", 0)
