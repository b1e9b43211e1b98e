from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.paths import at_path, list_at, of_record, split_at_first_array

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
@settings(deadline=None, max_examples=30)
def test_no_path_through_any_answer_is_an_error(value: Any, path: str) -> None:
    at_path(value, path)


@given(json_values, st.lists(st.sampled_from(["a", "b", "0", "1"]), max_size=4).map(tuple))
@settings(deadline=None, max_examples=30)
def test_a_path_is_walked_step_by_step(value: Any, names: tuple[str, ...]) -> None:
    expected = value
    for name in names:
        expected = at_path(expected, name)

    found = at_path(value, ".".join(names))

    assert found is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nothing,data.0.code", "SUCCESS"),
        ("data.0.details.Owner,data.1.code", "INVALID_DATA"),
        ("data.#(code==NONE)#.code,info.count", 0),
        ("nothing, info.more_records", False),
        ('data.#(code=="A,B").code,data.1.code', "INVALID_DATA"),
        ("{data.0.code,info.count}", {"code": "SUCCESS", "count": 0}),
        ("[data.0.code,info.count]", ["SUCCESS", 0]),
        ("nothing,none", None),
        ("data.#(code==NONE)#.code,nothing", []),
        (",data.1.code,", "INVALID_DATA"),
        (",", None),
    ],
)
def test_the_first_alternative_with_something_in_it_counts(path: str, expected: Any) -> None:
    assert at_path(ANSWER, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.data.0.code", "SUCCESS"),
        ("$.data[1].code", "INVALID_DATA"),
        ("data[0].phones[1]", "2"),
        ("data[*].code", ["SUCCESS", "INVALID_DATA"]),
        ('data.#(phones[0]=="1").code', "SUCCESS"),
        ("nothing, $.data[1].code", "INVALID_DATA"),
        ("data.[0]", [ANSWER["data"][0]]),
        ("$", ANSWER),
    ],
)
def test_the_spelling_of_other_tools_is_read(path: str, expected: Any) -> None:
    assert at_path(ANSWER, path) == expected


def test_what_gjson_finds_goes_before_another_spelling() -> None:
    assert at_path({"$": {"a": 1}, "a": 2}, "$.a") == 1
    assert at_path({"a[0]": 1, "a": [2]}, "a[0]") == 1


def test_a_column_and_a_condition_are_read() -> None:
    assert at_path(ANSWER, "data.#.code") == ["SUCCESS", "INVALID_DATA"]
    assert at_path(ANSWER, 'data.#(code=="SUCCESS").details.id') == "829914000000800001"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.#.Owner.id", ("data", "Owner.id")),
        ("#.id", ("", "id")),
        ("data|#.id", ("data", "id")),
        (r"a\.b.#.c", (r"a\.b", "c")),
        ("data.#.phones.#.id", ("data", "phones.#.id")),
        ("data.#.{id,Owner.id}", ("data", "{id,Owner.id}")),
        ("users.#(active==true)#.id", ("users", "#(active==true).id")),
        ("users.#[active==true]#.id", ("users", "#[active==true].id")),
        ("users.#(active==true)#", ("users", "#(active==true)")),
        ('data.#(k=="|.#")#.id', ("data", '#(k=="|.#").id')),
        ("$.data[*].id", ("data", "id")),
        ("data.#.mobile, data.#.phone", ("data", "mobile,phone")),
        ('d.#(a=="x,y")#.s,d.#.t', ("d", '#(a=="x,y").s,t')),
        ("data.#", None),
        ("data.#|0.id", None),
        ("data.#.id|0", None),
        ("data.#(id==1).name", None),
        ("users.#(active==true)#|0.id", None),
        ("users.#(active==true", None),
        ("data.0.id", None),
        ("data.#.id,other.#.id", None),
        ("data.#.id,total", None),
        ("{data.#.id}", None),
        ("", None),
    ],
)
def test_a_path_is_split_at_its_list(path: str, expected: tuple[str, str] | None) -> None:
    assert split_at_first_array(path) == expected


def test_a_condition_is_asked_of_the_record_itself() -> None:
    users = [{"id": 1, "active": True}, {"id": 2}, {"id": 3, "active": False}]

    assert [of_record(user, "#(active==true).id") for user in users] == [1, None, None]
    assert [of_record(user, "#(active==true).id,id") for user in users] == [1, 2, 3]
    assert of_record(users[1], "") is users[1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data.0", [ANSWER["data"][0]]),
        ("data", ANSWER["data"]),
        ("data.#(code==INVALID_DATA)#", [{"code": "INVALID_DATA"}]),
        ("data.#(code==NONE)#", []),
        ("", [ANSWER]),
        ("nothing", []),
        ("data.0.details.Owner", []),
        ("data.0.code", []),
        ("nothing,data", ANSWER["data"]),
    ],
)
def test_an_answer_has_records(path: str, expected: list[Any]) -> None:
    assert list_at(ANSWER, path) == expected


def test_more_alternatives_than_anyone_writes_are_not_read() -> None:
    assert at_path({"a": 1}, "b," * 3000 + "a") == 1
    assert at_path({"a": 1}, "b," * 5000 + "a") is None
