"""Changes that are bound to what somebody has seen."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import Stale
from shared.http.tags import OnlyIf, has, tag_of


@pytest.mark.parametrize(
    ("header", "is_there"),
    [
        ('"a1"', True),
        ('W/"a1"', True),
        ("a1", True),
        ('"b", "a1"', True),
        ('"b","c"', False),
        ('"a"', False),
        ("*", True),
        ("", False),
        ('"', False),
        ('""', False),
        ('"*"', False),
    ],
)
def test_a_tag_is_among_those_of_a_header(header: str, is_there: bool) -> None:
    assert has(header, "a1") is is_there
    assert not has(header, None)


@pytest.mark.parametrize(
    ("said", "now", "is_refused"),
    [
        ({}, None, False),
        ({}, "a1", False),
        ({"if_match": '"a1"'}, "a1", False),
        ({"if_match": '"a1"'}, "b2", True),
        ({"if_match": '"a1"'}, None, True),
        ({"if_match": "*"}, "b2", False),
        ({"if_match": "*"}, None, True),
        ({"if_none_match": "*"}, None, False),
        ({"if_none_match": "*"}, "a1", True),
        ({"if_none_match": '"b2"'}, "a1", False),
        ({"if_match": '"a1"', "if_none_match": "*"}, "a1", True),
    ],
)
def test_a_change_is_made_only_to_what_was_seen(
    said: dict[str, Any], now: str | None, is_refused: bool
) -> None:
    if not is_refused:
        OnlyIf(**said).check(now)
        return
    with pytest.raises(Stale):
        OnlyIf(**said).check(now)


def test_the_tag_is_another_for_another_thing_and_the_same_for_the_same() -> None:
    assert tag_of({"a": 1, "b": [2]}) == tag_of({"b": [2], "a": 1})
    assert tag_of({"a": 1}) != tag_of({"a": "1"})
    assert tag_of("a", "b") != tag_of("ab")
    assert tag_of({}).isalnum()
