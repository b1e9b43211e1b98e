"""Expected results come from the reference implementation: ``tests/data/gjson_vectors.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.crm.language.gjson import (
    MAX_LENGTH,
    MAX_VISITS,
    MISSING,
    compile_path,
    escape_literal,
    text_form,
)
from shared.crm.language.jsontext import read_json, write_json

VECTORS = json.loads(
    Path(__file__).parents[4].joinpath("data/gjson_vectors.json").read_text(encoding="utf-8")
)
DOCUMENTS = [read_json(text) for text in VECTORS["documents"]]
CASES = VECTORS["cases"]

PEOPLE = read_json(
    '{"people":[{"id":634866135153775564,"name":"Ann","phone":"+49 30 1","owner":{"id":1}},'
    '{"id":634866135153775565,"name":"B*b","phone":"","active":true,"debt":0},'
    '{"id":3,"name":null,"tags":["a","b"],"owner":{"id":2}}]}'
)


def found(path: str, value: Any = PEOPLE) -> Any:
    return compile_path(path).get(value)


def as_json(text: str) -> str:
    """White space and a key that is there twice are no matter of values."""
    return write_json(read_json(text))


@pytest.mark.parametrize("case", CASES, ids=[f"{c['document']}:{c['path']}" for c in CASES])
def test_a_path_finds_what_the_reference_finds(case: dict[str, Any]) -> None:
    value = found(case["path"], DOCUMENTS[case["document"]])

    assert (value is not MISSING) is case["exists"]
    if case["exists"]:
        assert write_json(value) == as_json(case["raw"])
        shown = text_form(value)
        assert (as_json(shown) if isinstance(value, dict) else shown) == (
            as_json(case["string"]) if isinstance(value, dict) else case["string"]
        )


def test_every_vector_was_read() -> None:
    assert len(CASES) == 200


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("people.#(id==634866135153775565).name", "B*b"),
        ("people.#(id=634866135153775564)#.name", ["Ann"]),
        ("people.#(owner.id>1).id", 3),
        ("people.#(tags.#(==b)).id", 3),
        ("people.#(name==~null)#.id", [3]),
        ("people.#(active==~true)#.name", ["B*b"]),
        ("people.#(active!=true)#.id", []),
        ("people.#(name%A?n).id", 634866135153775564),
        (r'people.#(name%"B\\*b").id', 634866135153775565),
        ("people.#(debt)#.name", ["B*b"]),
        ("people.#(phone!=)#.name", ["Ann"]),
        ("people.#(name==Ann)#|@keys", [None]),
        ("people.0.@keys", ["id", "name", "phone", "owner"]),
        ("people.#.name.@this|@reverse", [None, "B*b", "Ann"]),
        ('people.0.{"who":name,owner.id}', {"who": "Ann", "id": 1}),
        ("people.0.[name,nobody,owner.id]", ["Ann", 1]),
        ("people.0.owner.@tostr.@fromstr.id", 1),
        ("..0.people.#", 3),
        ("..#", 1),
        ("people.#(name==Nobody)#|#", 0),
        ("people.#.{name,tags}|1", {"name": "B*b"}),
        ("people.#.tags.#", [2]),
        ("people|@dig:owner.id", [1, 2]),
        ("p*.2.t*.1", "b"),
        ("*.*", MISSING),
        ("@this.people.#", 3),
        ("!{}|@keys", []),
        ("nobody|[a]", []),
        ("nobody.a|[a]", MISSING),
        ('people.#(name=="~*")#', []),
        ("people.#(name==~maybe)#", []),
        ("people.#(", MISSING),
        ("!nan", MISSING),
        ('!"unclosed', MISSING),
        ("people.@fromstr.0.name", "Ann"),
        ("people.0.name.@fromstr", MISSING),
        ("people.#(name==Ann)#garbage.id", [634866135153775564]),
    ],
)
def test_a_path_finds_what_is_meant(path: str, expected: Any) -> None:
    assert found(path) == expected


@pytest.mark.parametrize("number", ["Anonymous", "", "0x0", "0_0", "\u0660", "nan"])
def test_what_is_no_number_equals_no_number(number: str) -> None:
    assert found(f'people.#(debt=="{number}")#') == []


@pytest.mark.parametrize("number", ["0", "0.0", "-0", "+0", ".0", "0e5"])
def test_a_number_equals_itself_however_it_is_written(number: str) -> None:
    assert found(f'people.#(debt=="{number}").name') == "B*b"


@pytest.mark.parametrize(
    ("right", "expected"),
    [("==true", [1]), (">=false", [0, 1]), ("<true", [0]), ("==1", []), ("!=1", [0, 1])],
)
def test_booleans_are_ordered(right: str, expected: list[int]) -> None:
    assert found(f"#(b{right})#.i", [{"i": 0, "b": False}, {"i": 1, "b": True}]) == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("1e-7", "0.0000001"),
        ("-0.0", "-0"),
        ("-0", "-0"),
        ("100.0", "100"),
        ("634866135153775564", "634866135153775564"),
        ("true", "true"),
        ("null", ""),
        ('"a\\nb"', "a\nb"),
        ('{"a": [1.50, null]}', '{"a":[1.50,null]}'),
    ],
)
def test_a_result_has_a_text(source: str, text: str) -> None:
    assert text_form(read_json(source)) == text


def test_what_does_not_exist_has_no_text() -> None:
    assert text_form(MISSING) == ""


@pytest.mark.parametrize("operator", ["==", "%"])
@pytest.mark.parametrize("name", ['"', "\\", "*", "?", "B*b", '")#|@this|#("', "\\*", "~true"])
def test_an_escaped_value_stands_for_itself(operator: str, name: str) -> None:
    records = [{"name": other} for other in ("x", "Bob", name, "")]

    path = f'#(name{operator}"{escape_literal(name)}")#.name'

    assert found(path, records) == [name]


def test_control_characters_are_dropped() -> None:
    assert escape_literal("+49\x00 30\r\n\x7f1\x9b") == "+49 301"


def test_a_key_in_many_dots_and_a_wildcard_are_told_apart() -> None:
    assert found(r"a\.b.c\*", {"a.b": {"cx": 1, "c*": 2}}) == 2
    assert found(r"a\*b*", {"axbc": 1, "a*bc": 2}) == 2


def test_a_path_that_is_too_long_finds_nothing() -> None:
    name = "n" * MAX_LENGTH

    assert found(name, {name: 1}) == 1
    assert found(name + "n", {name + "n": 1}) is MISSING


@pytest.mark.parametrize(
    "path",
    [
        "#." * 40 + "x",
        "*." * 40 + "x",
        "#(" * 40 + ")" * 40,
        "[" * 40 + "]" * 40,
        "@dig:" * 40 + "x",
    ],
)
def test_a_path_that_is_nested_too_deep_finds_nothing(path: str) -> None:
    value: Any = {"x": 1}
    for _ in range(50):
        value = [value]

    assert found(path, value) is MISSING


@pytest.mark.parametrize(
    "path",
    [
        "@tostr|" * 100,
        "[@this,@this]|" * 100 + "@tostr",
        "@dig:@this|" * 100,
        "#(%*a*a*a*a*b*)#",
        "@dig:#(a==1)#",
        "#.@dig:@dig:x",
        "[@this]|" * 200 + "@this",
    ],
)
def test_an_evaluation_that_costs_too_much_finds_nothing(path: str) -> None:
    rows = [["a" * 100] * 100 for _ in range(MAX_VISITS // 400)]

    assert found(path.removesuffix("|"), [rows, rows, "a" * 20 * MAX_VISITS]) is MISSING


def test_a_wildcard_does_not_go_back() -> None:
    letters = "a" * 5000

    assert found("#(%" + "*a" * 500 + "*b)#", [letters]) == []
    assert found("#(%" + "*a" * 500 + ")#|#", [letters]) == 1
    assert found("#(%" + "*?a?" * 100 + "b)#", [letters]) == []
