from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.jsonbody import fill, fill_json_text
from shared.crm.language.text import Fragment
from shared.errors import ContractError

#: As the vendor's form shows it.
YEASTAR = """{
  "data": [{
    "{{.Owner}}{{.WhoModule}}": {
      "Description": "{{.Description}}",
      "Call_Start_Time": "{{TimeFormat .StartTimeUnix 'yyyy-MM-ddTHH:mm:ss-z' '1'}}",
      {{if .RecordPath}}"Recording": "{{.RecordPath}}",{{end}}
      "Call_Duration": {{.Talk_Duration_Sec}},
    }}]}"""
values = st.text(
    st.sampled_from(list('"\\{}[]:,\n\r\t\x00\x1f/ua1é\u2028')) | st.characters(codec="utf-8"),
    max_size=15,
) | st.sampled_from(["{{", "{{.Other}}", '","a":"b', "\\", '\\"', "\\u0022", "}}"])


def text(source: str, **variables: Any) -> Any:
    return fill_json_text(source, variables, maps={"m": {"*": 7}})


# -- text ---------------------------------------------------------------------------------------


def test_a_body_of_a_pbx_template_becomes_what_it_means() -> None:
    found = text(
        YEASTAR,
        Owner="4471",
        WhoModule="Contacts",
        Description='said "hi"\n\\o/',
        StartTimeUnix=1672531199,
        Talk_Duration_Sec=75,
    )

    assert found == {
        "data": [
            {
                "4471Contacts": {
                    "Description": 'said "hi"\n\\o/',
                    "Call_Start_Time": "2022-12-31T23:59:59+0000",
                    "Call_Duration": 75,
                }
            }
        ]
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ("07", "07"),
        ('a"b', 'a"b'),
        (["a", 1], ["a", 1]),
        ({"a": None}, {"a": None}),
        (timedelta(seconds=75), 75),
        (datetime(2026, 11, 21, tzinfo=UTC), "2026-11-21T00:00:00+00:00"),
        (634866135153775564, 634866135153775564),
    ],
)
def test_outside_of_a_string_a_value_is_written_as_json(value: Any, expected: Any) -> None:
    found = text('{"a": {{.V}}}', V=value)["a"]

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": "x {{.N}} y"}', {"a": "x 7 y"}),
        ('{"a": "{{.Missing}}"}', {"a": ""}),
        ('{"a": {{.N | map "m"}}}', {"a": 7}),
        ('{"a": 1,}', {"a": 1}),
        ("[1, 2 ,\n ]", [1, 2]),
        ('{"a": ",}", "b": ",]",}', {"a": ",}", "b": ",]"}),
        ('{"a": "\\",}"}', {"a": '",}'}),
        ('{"a": "\\\\{{.N}}"}', {"a": "\\7"}),
        ('{{if .N}}"only"{{else}}{}{{end}}', "only"),
        ('{"a": "{{if .N}}\\"{{end}}{{.N}}"}', {"a": '"7'}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ("", None),
        ("{{if .Missing}}{}{{end}} ", None),
        ("null", None),
    ],
)  # fmt: skip
def test_a_text_becomes_its_value(source: str, expected: Any) -> None:
    assert text(source, N=7) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{"a": }', "line 1, column 7 of the rendered text: Expecting value"),
        ('{\n "a" 1}', "line 2, column 6 of the rendered text"),
        ('{"a": "{{.V}}', "line 1, column 7 of the rendered text: Unterminated string"),
        ('{"a": {{.V}}{{.V}}}', "of the rendered text"),
        ('{"a": 1} x', "line 1, column 10 of the rendered text: Extra data"),
        ('{"a": "\\{{.V}}"}', "a backslash stands right before a placeholder"),
        ('{"a": "\\{{if .V}}\\\\{{end}}{{.V}}"}', "a backslash stands right before a placeholder"),
        ('{"a": NaN}', "NaN and Infinity are no numbers"),
        ('{"a": 1e999}', "a number is too large"),
        ('{"a": ' + "9" * 5000 + "}", "a number has too many digits"),
        ("[" * 200 + "]" * 200, "nested too deep"),
        ('{"a": {{.Bad}}}', "JSON has no such number"),
        ('{"a": 1, "{{.A}}": 2}', "the body has one key twice"),
        ("{{.V", "line 1, column 1: {{ is never closed"),
    ],
)
def test_what_is_no_json_breaks_the_contract_and_says_where(source: str, expected: str) -> None:
    with pytest.raises(ContractError) as caught:
        text(source, V="s3cret", Bad=float("nan"), A="a")

    assert expected in caught.value.message
    assert "s3cret" not in caught.value.message


@given(values, values)
@settings(deadline=None, max_examples=80)
def test_any_value_comes_back_as_that_very_value(one: str, two: str) -> None:
    source = '{"a": "{{.A}}", "b": ["x{{.A}}y{{.B}}", {{.B}}], "n{{.A}}": {"c": {{.A}}},}'

    assert text(source, A=one, B=two, Other="other") == {
        "a": one,
        "b": [f"x{one}y{two}", two],
        f"n{one}": {"c": one},
    }


@given(st.text(st.sampled_from(list('{}[]",:\\ an1.{}')), max_size=30), values)
@settings(deadline=None, max_examples=60)
def test_any_text_is_a_value_or_breaks_the_contract(source: str, value: str) -> None:
    for whole in (
        source,
        source + "{{.A}}",
        '"' + source + '{{.A}}"',
        f"{source}{{{{.A}}}}{source}",
    ):
        try:
            text(whole, A=value)
        except ContractError:
            continue


# -- structures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"a": "{{.N}}", "b": "n{{.N}}", "c": 1, "d": None}, {"a": 7, "b": "n7", "c": 1, "d": None}),
        ({"a": "{{.Missing}}", "b": 1}, {"b": 1}),
        ({"a": "{{.Missing | mmss}}", "b": 1}, {"b": 1}),
        ({"a": "{{.Empty}}"}, {"a": ""}),
        ({"a": "{{.Empty | nothing}}", "b": 1}, {"b": 1}),
        ({"a": {"id": "{{.Missing}}"}, "b": 1}, {"b": 1}),
        ({"a": {}, "b": []}, {"a": {}, "b": []}),
        ({"a": ["{{.Missing}}", "{{.N}}"]}, {"a": [7]}),
        ({"a": "{{.Missing}}"}, None),
        ({"cf_{{.N}}": "{{.Yes}}"}, {"cf_7": True}),
        ({"{{.Missing}}": 1, "b": 2}, {"b": 2}),
        ({"a": "{{.Map}}"}, {"a": {"x": 1}}),
        ({"a": "{{.Talk}}", "b": "{{.At}}"}, {"a": 75, "b": "2026-11-21T00:00:00+00:00"}),
        ({"a": "{{.N | map `m`}}"}, {"a": 7}),
        ("{{.N}}", 7),
        (None, None),
    ],
)  # fmt: skip
def test_a_structure_is_filled_and_keeps_its_types(shape: Any, expected: Any) -> None:
    variables = {
        "N": 7,
        "Yes": True,
        "Empty": "",
        "Map": {"x": 1},
        "Talk": timedelta(seconds=75),
        "At": datetime(2026, 11, 21, tzinfo=UTC),
    }

    assert fill(shape, variables, {"m": {"*": 7}}) == expected


def test_marks_of_a_text_do_not_reach_the_body() -> None:
    assert type(fill({"a": "{{.A}}"}, {"A": Fragment("x")}, {})["a"]) is str


def test_a_key_that_a_value_makes_twice_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="one key twice"):
        fill({"Description": "x", "{{.K}}": "y"}, {"K": "Description"}, {})


def test_a_structure_that_is_nested_for_ever_breaks_the_contract() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless

    with pytest.raises(ContractError, match="nested too deep"):
        fill(endless, {}, {})


def test_a_value_that_json_cannot_say_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="no such number"):
        fill({"a": "{{.A}}"}, {"A": float("inf")}, {})


@given(values, values)
@settings(deadline=None, max_examples=30)
def test_a_filled_value_is_that_very_value(one: str, two: str) -> None:
    found = fill({"a": "{{.A}}", "b": ["x{{.B}}"]}, {"A": one, "B": two}, {})

    assert found == {"a": one, "b": [f"x{two}"]}
