from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.paths import at_path

#: Zoho's answer to a new call entry, and to a search, in one.
ANSWER: dict[str, Any] = {
    "data": [
        {
            "code": "SUCCESS",
            "details": {"id": "829914000000800001", "Owner": None},
            "phones": ["1", "2"],
            "0": "a key, not a place",
        },
        {"code": "INVALID_DATA"},
    ],
    "info": {"more_records": False, "count": 0},
    "": {"": "an empty name"},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "0", ""]), inner, max_size=3)
    ),
    max_leaves=10,
)
paths = st.text() | st.lists(st.sampled_from(["a", "b", "0", "1", "-1", "\u0663", ""])).map(
    ".".join
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.0.details.id", "829914000000800001"),
        ("data.0.code", "SUCCESS"),
        ("data.1.code", "INVALID_DATA"),
        ("data.0.phones", ["1", "2"]),
        ("data.0.phones.1", "2"),
        ("data.0.0", "a key, not a place"),
        ("data.00.code", "SUCCESS"),
        ("info.more_records", False),
        ("info.count", 0),
        ("info", {"more_records": False, "count": 0}),
    ],
)
def test_a_path_leads_to_its_value(path: str, expected: Any) -> None:
    assert at_path(ANSWER, path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "data.2.code",
        "data.-1",
        "data.code",
        "data.0.details.id.more",
        "data.0.details.Owner",
        "data.0.details.Owner.name",
        "data.0.code.0",
        "data.9999999999",
        "data.\u0660",
        "data.\u00b9",
        "data.1e0",
        "data.",
        "data..0",
        " data",
        "info.count.x",
    ],
)
def test_a_path_that_leads_nowhere_gives_nothing(path: str) -> None:
    assert at_path(ANSWER, path) is None


@pytest.mark.parametrize("value", [ANSWER, [], "text", None, 0])
def test_an_empty_path_is_the_value_itself(value: Any) -> None:
    assert at_path(value, "") is value


@pytest.mark.parametrize("value", [None, "text", 0, 1.5, True])
def test_in_a_plain_value_no_path_leads_anywhere(value: Any) -> None:
    assert at_path(value, "0") is None


@given(json_values, paths)
@settings(deadline=None)
def test_no_path_through_any_answer_is_an_error(value: Any, path: str) -> None:
    at_path(value, path)


@given(json_values, st.lists(st.sampled_from(["a", "b", "0", "1"]), max_size=4).map(tuple))
@settings(deadline=None)
def test_a_path_is_walked_step_by_step(value: Any, names: tuple[str, ...]) -> None:
    expected = value
    for name in names:
        expected = at_path(expected, name)

    found = at_path(value, ".".join(names))

    assert found is expected
