from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.contexts import zoho_criteria
from shared.crm.language.text import Template, compile_text
from shared.errors import ContractError

STARTED = datetime(2026, 11, 21, 6, 54, 35, 958000, UTC)
MAPS = {"types": {"inbound answered": "Inbound", "inbound *": "Missed", "*": "Outbound"}}

#: Texts close to the language, so that a search finds its edges.
template_like = st.text(
    st.sampled_from(list("{}|.'\"` \n_aZ9é")) | st.characters(codec="utf-8"), max_size=30
)
words = r"""{{ }} .Phone .A | iso8601 map mmss nope "x" 'y' `z` { } " ' ` . text"""
fragments = st.lists(st.sampled_from([*words.split(), " ", "\n"]), max_size=14).map("".join)


def fault(source: str, known: frozenset[str] | None = None) -> str:
    with pytest.raises(ContractError) as caught:
        compile_text(source, known=known)
    return caught.value.message


# -- what a template says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{.Phone}}", "447700900123"),
        ("{{ .Phone }}", "447700900123"),
        ("{{\n  .Phone\n}}", "447700900123"),
        ("({{.Field}}:equals:{{.Phone}})", "(Mobile:equals:447700900123)"),
        ("{{.Field}}{{.Phone}}", "Mobile447700900123"),
        ("two\n{{.Phone}}\nlines", "two\n447700900123\nlines"),
        ("{.Phone}", "{.Phone}"),
        ("}} {", "}} {"),
        ("{{.Unset}}!", "!"),
        ("{{.Nothing}}!", "!"),
        ("{{.Count}} of {{.Yes}}", "3 of true"),
        ("at {{.StartedAt | iso8601}}", "at 2026-11-21T06:54:35+00:00"),
        ("{{.TalkTime|mmss}}", "01:15"),
    ],
)
def test_placeholders_become_values_and_the_rest_stays(source: str, expected: str) -> None:
    variables = {
        "Phone": "447700900123",
        "Field": "Mobile",
        "Nothing": None,
        "Count": 3,
        "Yes": True,
        "StartedAt": STARTED,
        "TalkTime": timedelta(seconds=75),
    }

    assert compile_text(source).text(variables) == expected


@pytest.mark.parametrize(
    "value", ["text", "", 42, 4.2, True, None, ["a", 1], {"id": "829"}, STARTED, timedelta(1)]
)
@pytest.mark.parametrize("source", ["{{.Value}}", "{{ .Value }}"])
def test_a_template_that_is_one_placeholder_keeps_the_type_of_its_value(
    source: str, value: Any
) -> None:
    assert compile_text(source).value({"Value": value}) is value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Value}} ", "42 "),
        (" {{.Value}}", " 42"),
        ("{{.Value}}{{.Value}}", "4242"),
        ("42", "42"),
        ("", ""),
    ],
)
def test_any_other_template_gives_text(source: str, expected: str) -> None:
    assert compile_text(source).value({"Value": 42}) == expected


def test_the_type_of_what_a_function_gives_is_kept_too() -> None:
    assert compile_text("{{.Talk | seconds}}").value({"Talk": timedelta(seconds=75)}) == 75


@pytest.mark.parametrize("quote", ['"', "'", "`"])
def test_an_argument_stands_in_any_of_three_quotes(quote: str) -> None:
    template = compile_text("{{.Kind | map %stypes%s}}" % (quote, quote))  # noqa: UP031  braces

    assert template.value({"Kind": "inbound missed"}, MAPS) == "Missed"


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ('"it\'s"', "it's"),
        ("'say \"hi\"'", 'say "hi"'),
        ("`a 'b' \"c\"`", "a 'b' \"c\""),
        ('"a|b"', "a|b"),
        ('"a.b"', "a.b"),
        ('" "', " "),
        ('""', ""),
        ('"{"', "{"),
    ],
)
def test_in_quotes_stands_anything_but_the_quote_itself(argument: str, name: str) -> None:
    template = compile_text("{{.Kind | map " + argument + "}}")

    assert template.value({"Kind": "x"}, {name: {"*": "found"}}) == "found"


def test_functions_are_piped_from_left_to_right() -> None:
    template = compile_text('{{.Talk | mmss | map "short"}}')

    assert template.value({"Talk": timedelta(seconds=5)}, {"short": {"00:*": "short"}}) == "short"


def test_a_template_knows_its_variables() -> None:
    template = compile_text("{{.A}} {{.B | iso8601}} {{.A}} .C {{ ._d1 }}")

    assert template.names == {"A", "B", "_d1"}


# -- escaping -----------------------------------------------------------------------------------


def test_values_are_escaped_and_the_templates_own_text_is_not() -> None:
    template = compile_text("(Name:equals:{{.Name}})")

    assert (
        template.text({"Name": "Smith (Jr), A"}, escape=zoho_criteria)
        == r"(Name:equals:Smith \(Jr\)\, A)"
    )


@given(st.text(max_size=20), st.text(max_size=20))
@settings(deadline=None)
def test_whatever_the_value_is_the_templates_own_text_stays(value: str, own: str) -> None:
    source = own.replace("{", "(")

    text = compile_text(f"{source}{{{{.V}}}}{source}").text({"V": value}, escape=lambda _: "<v>")

    assert text == f"{source}<v>{source}"


@given(template_like | fragments)
@settings(deadline=None)
def test_what_a_value_says_is_never_read_as_a_template(value: str) -> None:
    assert compile_text("a {{.V}} b").text({"V": value, "Phone": "x", "A": "y"}) == f"a {value} b"


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("{{.A", "line 1, column 1: {{ is never closed", id="never closed"),
        pytest.param("ab {{.A", "line 1, column 4: {{ is never closed", id="further right"),
        pytest.param(
            "{{.A}}\ntwo {{.B", "line 2, column 5: {{ is never closed", id="in the second line"
        ),
        pytest.param("\n\n{{.A}", "line 3, column 1: {{ is never closed", id="half closed"),
        pytest.param(
            "{{.A | nope}}", "line 1, column 8: there is no function nope", id="no such function"
        ),
        pytest.param(
            "x\n{{ .A |\n  nope }}",
            "line 3, column 3: there is no function nope",
            id="no such function, third line",
        ),
        pytest.param(
            "{{.A | map}}", "line 1, column 8: map takes 1 argument(s)", id="an argument too few"
        ),
        pytest.param(
            '{{.A | map "a" "b"}}',
            "line 1, column 8: map takes 1 argument(s)",
            id="an argument too many",
        ),
        pytest.param(
            '{{.A | mmss "x"}}',
            "line 1, column 8: mmss takes 0 argument(s)",
            id="an argument where none is",
        ),
        pytest.param(
            "{{.A .B}}",
            "line 1, column 7: a variable is followed by | and a function, or by }}",
            id="two variables",
        ),
        pytest.param(
            "{{.A |}}",
            "line 1, column 6: a variable is followed by | and a function, or by }}",
            id="a pipe to nowhere",
        ),
        pytest.param(
            "{{.A | .B}}",
            "line 1, column 6: a variable is followed by | and a function, or by }}",
            id="a pipe to a variable",
        ),
        pytest.param(
            "{{.A mmss}}",
            "line 1, column 6: a variable is followed by | and a function, or by }}",
            id="a function without a pipe",
        ),
    ],
)
def test_a_fault_is_shown_with_its_line_and_column(source: str, expected: str) -> None:
    assert fault(source) == expected


@pytest.mark.parametrize(
    ("source", "where"),
    [
        pytest.param("{{mmss}}", "line 1, column 3: ", id="a function first"),
        pytest.param('{{"x"}}', "line 1, column 3: ", id="a text first"),
        pytest.param("{{| mmss}}", "line 1, column 3: ", id="a pipe first"),
        pytest.param("a\n b {{ mmss }}", "line 2, column 7: ", id="in the second line"),
    ],
)
def test_what_stands_in_place_of_the_variable_is_where_the_fault_is(
    source: str, where: str
) -> None:
    assert fault(source) == f"{where}a placeholder begins with a variable: {{{{.Name}}}}"


@pytest.mark.parametrize("source", ["{{}}", "{{ }}", "{{\n}}"])
def test_a_placeholder_of_nothing_is_a_fault(source: str) -> None:
    assert fault(source).startswith("line 1, column ")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("{{?}}", "line 1, column 3: cannot read '?'", id="at the beginning"),
        pytest.param("{{.A ?}}", "line 1, column 6: cannot read '?'", id="behind a blank"),
        pytest.param("{{.A\n ?}}", "line 2, column 2: cannot read '?'", id="in the next line"),
        pytest.param("{{.A | map 'x}}", 'line 1, column 12: cannot read "\'x"', id="a quote open"),
        pytest.param("{{.1}}", "line 1, column 3: cannot read '.1'", id="a digit as a name"),
        pytest.param("{{.}}", "line 1, column 3: cannot read '.'", id="no name"),
    ],
)
def test_what_cannot_be_read_is_where_the_fault_is(source: str, expected: str) -> None:
    assert fault(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Nope}}", "line 1, column 1: there is no variable .Nope"),
        ("{{.Phone}}\n  {{ .nope }}", "line 2, column 3: there is no variable .nope"),
        ("{{.phone}}", "line 1, column 1: there is no variable .phone"),
    ],
)
def test_a_variable_that_is_not_known_is_a_fault(source: str, expected: str) -> None:
    assert fault(source, frozenset({"Phone"})) == expected


def test_without_a_list_of_variables_any_may_stand() -> None:
    assert compile_text("{{.Anything}}", known=None).names == {"Anything"}


def test_where_no_variable_is_known_none_may_stand() -> None:
    assert fault("{{.Phone}}", frozenset()) == "line 1, column 1: there is no variable .Phone"


@given(template_like | fragments, st.none() | st.just(frozenset({"Phone"})))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_template_or_breaks_the_contract(
    source: str, known: frozenset[str] | None
) -> None:
    try:
        template = compile_text(source, known=known)
    except ContractError as error:
        assert error.message.startswith("line ")  # noqa: PT017  both ways out are right
    else:
        assert isinstance(template, Template)


@given(template_like.filter(lambda text: "{{" not in text))
@settings(deadline=None)
def test_a_text_without_placeholders_is_itself(source: str) -> None:
    assert compile_text(source).text({}) == source
