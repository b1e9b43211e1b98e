"""Merge patches, by the examples of RFC 7396, appendix A; and lists in pages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ContractError
from shared.http.lists import MOST_IDS, Paged
from shared.http.patching import merged


@pytest.mark.parametrize(
    ("there", "patch", "then"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "text"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": "b"}, {}, {"a": "b"}),
    ],
)
def test_a_patch_says_what_becomes_another(
    there: dict[str, Any], patch: dict[str, Any], then: dict[str, Any]
) -> None:
    before = repr(there)
    assert merged(there, patch) == then
    assert repr(there) == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(max_size=2), _JSON, max_size=4)


@given(_OBJECTS, _OBJECTS)
def test_a_patch_twice_is_once(there: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged(there, patch)
    assert merged(once, patch) == once


# -- lists -----------------------------------------------------------------------------------------

NAMES = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4))


@given(NAMES, st.integers(min_value=1, max_value=5))
def test_page_by_page_everything_comes_once_and_in_order(names: set[str], limit: int) -> None:
    came: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = Paged(limit=limit, cursor=cursor).page(names, str)
        assert len(page) <= limit
        came += page
        if cursor is None:
            break
    assert came == sorted(names)


def test_only_what_is_asked_for_by_id_comes() -> None:
    assert Paged(ids=" b ,x,a,, ").page("cab", str) == (("a", "b"), None)
    assert Paged(ids="").page("cab", str) == ((), None)


def test_of_too_many_ids_none_comes() -> None:
    with pytest.raises(ContractError, match=f"at most {MOST_IDS}"):
        Paged(ids=",".join(map(str, range(MOST_IDS + 1)))).page("cab", str)


@pytest.mark.parametrize("cursor", ["!", "a", "ä", "\ud800", "////", "=", "gA=="])
def test_a_cursor_of_somewhere_else_is_refused(cursor: str) -> None:
    with pytest.raises(ContractError, match="cursor"):
        Paged.model_construct(ids=None, limit=5, cursor=cursor).page("cab", str)
