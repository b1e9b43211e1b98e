"""Calls and pipes, conditions, trim marks and comments: what Go's templates mean by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.crm.language.text import compile_text
from shared.errors import ContractError

VARIABLES: dict[str, Any] = {
    "Name": "anna",
    "Kind": "missed",
    "Empty": "",
    "Zero": 0,
    "No": False,
    "Yes": True,
    "None": None,
    "List": [],
    "Items": ["a", "b"],
    "Count": 7,
    "Text7": "7",
    "Ext": "0101",
    "Talk": timedelta(seconds=75),
    "At": datetime(2026, 11, 21, 6, 54, 35, tzinfo=UTC),
    "Later": datetime(2026, 11, 21, 7, 54, 35, tzinfo=UTC),
}


def said(source: str) -> str:
    return compile_text(source).text(VARIABLES, maps={"m": {"an*": "Anna!"}})


# -- calls and pipes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{Capitalize .Name}}", "Anna"),
        ("{{ .Name | Capitalize }}", "Anna"),
        ('{{replace .Name "n" "m"}}', "amma"),
        ('{{.Name | replace "n" "m"}}', "amma"),
        ('{{replace .Name "n" "m" | upper | first 2}}', "AM"),
        ("{{first .Name .Zero}}{{first .Name 2}}", "an"),
        ("{{default .None .Name}}", "anna"),
        ("{{default .None (upper .Name)}}", "ANNA"),
        ('{{.None | default (.Name | map "m")}}', "Anna!"),
        ("{{(upper .Name) | lower}}", "anna"),
        ('{{"{{"}}', "{{"),
        ("{{7}}{{-2}}{{1.5}}", "7-21.5"),
        ("{{true}} {{false}} {{nil}}", "true false "),
        ("{{eq .Name `anna`}}", "true"),
        ("{{eq(upper .Name) 'ANNA'}}", "true"),
        ('{"a": {"b": {{.Count}}}}', '{"a": {"b": 7}}'),
    ],
)
def test_a_function_is_called_in_front_or_through_a_pipe(source: str, expected: str) -> None:
    assert said(source) == expected


def test_nothing_stands_for_no_value() -> None:
    assert compile_text("{{nothing}}").value({}) is None
    assert compile_text("{{default .A nothing}}").value({"A": ""}) is None
    assert compile_text("{{nothing .A}}").value({"A": ""}) is None
    assert compile_text("{{.A | nothing}}").value({"A": 0}) == 0


def test_an_error_of_a_function_says_which() -> None:
    with pytest.raises(ContractError, match=r"^number: a number is needed, not text$"):
        said("{{.Name | upper | number}}")


# -- conditions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Empty", "Zero", "No", "None", "List", "NotThere"])
def test_what_is_empty_is_false(name: str) -> None:
    assert said(f"{{{{if .{name}}}}}yes{{{{else}}}}no{{{{end}}}}") == "no"
    assert said(f"{{{{not .{name}}}}}") == "true"


@pytest.mark.parametrize("name", ["Name", "Count", "Yes", "Items", "Ext", "At", "Talk"])
def test_what_is_there_is_true(name: str) -> None:
    assert said(f"{{{{if .{name}}}}}yes{{{{else}}}}no{{{{end}}}}") == "yes"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{if .Empty}}a{{end}}", ""),
        ('{{if eq .Kind "x"}}a{{else if eq .Kind "missed"}}b{{else}}c{{end}}', "b"),
        ('{{if eq .Kind "x"}}a{{else if .No}}b{{else}}c{{end}}', "c"),
        ("{{if .Yes}}{{if .No}}a{{else}}b{{end}}c{{end}}d", "bcd"),
        ("{{if .Yes}}a{{else}}{{number .Name}}{{end}}", "a"),
        ('{{if .Kind | eq "missed"}}a{{end}}', "a"),
        ("{{if and .Yes (or .No .Count) (not .Empty)}}a{{end}}", "a"),
    ],
)
def test_the_first_true_condition_is_what_is_said(source: str, expected: str) -> None:
    assert said(source) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('eq .Name "anna"', True),
        ('eq .Name "x" "y" "anna"', True),
        ('eq .Name "Anna"', False),
        ("eq .Count 7", True),
        ("eq .Count .Text7", True),
        ("eq .Count 7.0", True),
        # Two extensions, not one number.
        ('eq .Ext "101"', False),
        ("eq .None .Empty", True),
        ("eq .Yes true", True),
        ('eq .Yes "true"', True),
        ("eq 634866135153775564 634866135153775565", False),
        ("ne .Name .Kind", True),
        ("lt .Text7 10", True),
        ('lt "b" "a"', False),
        ("le .Count 7", True),
        ("gt .Talk 60", True),
        ("ge .Count 8", False),
        ("lt .At .Later", True),
        (".Count | gt 6", True),
    ],
)
def test_numbers_are_compared_as_numbers_and_all_else_as_text(
    expression: str, expected: bool
) -> None:
    assert compile_text(f"{{{{{expression}}}}}").value(VARIABLES) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("or .Empty .Name", "anna"),
        ("or .Empty .Zero", 0),
        ("or .Name (number .Name)", "anna"),
        ("and .Name .Count", 7),
        ("and .Empty (number .Name)", ""),
        ("and .Name", "anna"),
    ],
)
def test_and_and_or_give_the_value_that_decides_and_look_no_further(
    expression: str, expected: Any
) -> None:
    assert compile_text(f"{{{{{expression}}}}}").value(VARIABLES) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{if .A}}x", "line 1, column 3: if is never ended: {{end}}"),
        ("x{{end}}", "line 1, column 4: end without an if before it"),
        ("{{else}}", "line 1, column 3: else without an if before it"),
        (
            "{{if .A}}{{else}}{{else}}{{end}}",
            "line 1, column 20: else without an if before it",
        ),
        ("{{if}}{{end}}", "line 1, column 3: if needs a condition: {{if .Name}}"),
        ("{{if .A}}{{else .B}}{{end}}", "line 1, column 17: else stands alone"),
        ("{{if .A}}{{else if}}{{end}}", "line 1, column 17: if needs a condition"),
        ("{{if .A}}{{end .A}}", "line 1, column 16: end stands alone"),
        ("{{if .A .B}}{{end}}", "line 1, column 9: a variable is followed by |"),
    ],
)
def test_a_condition_that_is_not_whole_is_a_fault(source: str, expected: str) -> None:
    with pytest.raises(ContractError) as caught:
        compile_text(source)
    assert caught.value.message.startswith(expected)


# -- trim marks and comments --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a \n {{- .Name -}} \t b", "aannab"),
        ("a {{- .Name}} b", "aanna b"),
        ("a {{.Name -}} b", "a annab"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a{{/* {{.Nope | nope}} */}}b", "ab"),
        ("{{- if .Yes -}} x {{- end -}} ", "x"),
        ("a {{-2}} b", "a -2 b"),
    ],
)
def test_blanks_are_cut_where_a_mark_says_so(source: str, expected: str) -> None:
    assert said(source) == expected


def test_the_first_closing_braces_end_a_placeholder() -> None:
    assert said('{"a":{"b":{{.Count}}}}}') == '{"a":{"b":7}}}'


def test_braces_in_quotes_do_not_close() -> None:
    assert said('{{default .None "}}"}}') == "}}"


def test_a_comment_beside_a_placeholder_leaves_the_type_of_its_value() -> None:
    assert compile_text("{{/* seconds */}}{{.Count}}").value(VARIABLES) == 7


# -- what a template knows of itself ------------------------------------------------------------


def test_a_template_names_the_variables_and_maps_of_all_its_branches() -> None:
    template = compile_text(
        '{{if eq .A (lower .B)}}{{.C | map "one"}}{{else if .D}}{{TimeFormat .E "yyyy"}}'
        '{{else}}{{default .F (map .G "two")}}{{end}}'
    )

    assert template.names == set("ABCDEFG")
    assert template.maps_used == {"one", "two"}
    assert not template.is_static


def test_a_comment_is_nothing_that_changes() -> None:
    assert compile_text("plain {{/* no value */}}text").is_static
