from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.contexts import zoho_criteria
from shared.crm.language.evaluate import within_steps
from shared.crm.language.text import Template, compile_text
from shared.errors import ContractError

STARTED = datetime(2026, 11, 21, 6, 54, 35, 958000, UTC)
MAPS = {"types": {"inbound answered": "Inbound", "inbound *": "Missed", "*": "Outbound"}}

#: Texts close to the language, so that a search finds its edges.
template_like = st.text(
    st.sampled_from(list("{}|.'\"` \n_aZ9é")) | st.characters(codec="utf-8"), max_size=30
)
words = r"""{{ }} {{- -}} .Phone .A | iso8601 map mmss nope "x" 'y' `z` { } " ' ` . text ( ) -1 2.5
if else end eq and not nothing true range $v := /* */ default \ {{if }}{{end}}"""
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
        ('"{"', "{"),
        ('"}}"', "}}"),
        (r'"a\"b"', 'a"b'),
        (r"'it\'s'", "it's"),
        (r'"a\\b"', "a\\b"),
        (r'"a\nb\tc"', "a\nb\tc"),
        (r"`a\nb`", r"a\nb"),
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
@settings(deadline=None, max_examples=30)
def test_whatever_the_value_is_the_templates_own_text_stays(value: str, own: str) -> None:
    source = own.replace("{", "(")

    text = compile_text(f"{source}{{{{.V}}}}{source}").text({"V": value}, escape=lambda _: "<v>")

    assert text == f"{source}<v>{source}"


@given(template_like | fragments)
@settings(deadline=None, max_examples=30)
def test_what_a_value_says_is_never_read_as_a_template(value: str) -> None:
    assert compile_text("a {{.V}} b").text({"V": value, "Phone": "x", "A": "y"}) == f"a {value} b"


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.A", "line 1, column 1: {{ is never closed"),
        ("ab {{.A", "line 1, column 4: {{ is never closed"),
        ("{{.A}}\ntwo {{.B", "line 2, column 5: {{ is never closed"),
        ("\n\n{{.A}", "line 3, column 1: {{ is never closed"),
        ("{{", "line 1, column 1: {{ is never closed"),
        ("{{}}", "line 1, column 1: nothing stands between {{ and }}"),
        ("{{ }}", "line 1, column 1: nothing stands between {{ and }}"),
        ("{{/* a", "line 1, column 3: a comment is never closed: */"),
        ("{{/* a */ .A}}", "line 1, column 11: a comment stands alone: {{/* ... */}}"),
        ("{{.A | map 'x}}", "line 1, column 12: a text in quotes is never closed"),
        ("{{?}}", "line 1, column 3: cannot read '?'"),
        ("{{.A\n ?}}", "line 2, column 2: cannot read '?'"),
        ("{{.A\xa0}}", "line 1, column 5: cannot read '\\xa0'"),
        ("{{.A-}}", "line 1, column 5: cannot read '-'"),
        ("{{.}}", "line 1, column 3: the dot alone is nothing here; name a variable: {{.Name}}"),
        ("{{.A.B}}", "line 1, column 3: a variable has no parts: .A ends here"),
        (
            "{{$v}}",
            "line 1, column 3: a template has no variables of its own ($x); name a given one",
        ),
        ('{{.A | map "\\d"}}', "line 1, column 13: there is no '\\\\d' in quotes"),
        ("{{.A .B}}", "line 1, column 6: a variable is followed by | and a function, or by }}"),
        ("{{.A |}}", "line 1, column 6: a variable is followed by | and a function, or by }}"),
        ("{{.A | .B}}", "line 1, column 6: a variable is followed by | and a function, or by }}"),
        ("{{.A mmss}}", "line 1, column 6: a variable is followed by | and a function, or by }}"),
        ("{{.A)}}", "line 1, column 5: a variable is followed by | and a function, or by }}"),
        ("{{| mmss}}", "line 1, column 3: a placeholder begins with a variable: {{.Name}}"),
        ("{{()}}", "line 1, column 4: a placeholder begins with a variable: {{.Name}}"),
        ("{{(.A}}", "line 1, column 3: a bracket is never closed"),
        ("{{mmss}}", "line 1, column 3: mmss needs a value"),
        ("{{eq .A lower .B}}", "line 1, column 9: a function among arguments needs brackets"),
        ("x\n{{ .A |\n  nope }}", "line 3, column 3: there is no function nope"),
        ("{{.A | lowr}}", "line 1, column 8: there is no function lowr; is it lower?"),
        ("{{.A | map}}", "line 1, column 8: map takes 1 argument(s) beside its value, not 0"),
        ('{{.A | mmss "x"}}', "line 1, column 8: mmss takes 0 argument(s)"),
        ("{{TimeFormat .A}}", "line 1, column 3: TimeFormat takes 1 to 2 argument(s)"),
        ("{{eq .A}}", "line 1, column 3: eq takes at least 1 argument(s)"),
        ("{{.A | map .B}}", "line 1, column 12: map takes the name of a map in quotes"),
        ('{{.A | map ""}}', "line 1, column 12: map: an argument is empty"),
        ('{{.A | first "x"}}', "line 1, column 14: first: a whole number"),
        ('{{.A | local "No/Where"}}', "line 1, column 14: local: there is no zone No/Where"),
        ('{{TimeFormat .A "yyyy" "2"}}', 'line 1, column 24: TimeFormat: "1" or "0" is needed'),
        ("{{.A | first 1e}}", "line 1, column 15: cannot read 'e'"),
        ("\ud800", "line 1, column 1: half a character (a lone surrogate)"),
    ],
)
def test_a_fault_is_shown_with_its_line_and_column(source: str, expected: str) -> None:
    assert fault(source).startswith(expected)


@pytest.mark.parametrize(
    ("source", "instead"),
    [
        ("{{range .A}}", "join makes a text of a list"),
        ("{{with .A}}", "use if"),
        ('{{printf "%q" .A}}', "write the text with placeholders in it"),
        ("{{index .A 0}}", "use item"),
        ("{{urlquery .A}}", "use UrlEncode"),
        ("{{len .A}}", "use length"),
        ("{{.A | if}}", "if stands first: {{if .Name}}"),
    ],
)
def test_what_go_has_and_this_has_not_is_named_with_what_there_is(
    source: str, instead: str
) -> None:
    assert fault(source).endswith(instead)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Nope}}", "line 1, column 3: there is no variable .Nope"),
        ("{{.Phone}}\n  {{ .nope }}", "line 2, column 6: there is no variable .nope"),
        ("{{.phone}}", "line 1, column 3: there is no variable .phone"),
        ("{{if .Phone}}{{lower .Nope}}{{end}}", "line 1, column 22: there is no variable .Nope"),
        ("{{if (eq .Phone .Nope)}}{{end}}", "line 1, column 17: there is no variable .Nope"),
    ],
)
def test_a_variable_that_is_not_known_is_a_fault(source: str, expected: str) -> None:
    assert fault(source, frozenset({"Phone"})) == expected


def test_what_is_known_is_asked_anew_each_time() -> None:
    compile_text("{{.Phone}}", known={"Phone"})

    assert fault("{{.Phone}}", frozenset()) == "line 1, column 3: there is no variable .Phone"


def test_without_a_list_of_variables_any_may_stand() -> None:
    assert compile_text("{{.Anything}}", known=None).names == {"Anything"}


# -- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x" * 65_537, "at most 65536 characters"),
        ("{{.A}}" * 5_001, "at most 5000 parts"),
        ("{{" + "(" * 22 + ".A" + ")" * 22 + "}}", "over 20 brackets are nested"),
        ("{{if .A}}" * 21 + "{{end}}" * 21, "over 20 ifs are nested"),
        ("{{.A | first " + "1" * 41 + "}}", "a number has too many digits"),
    ],
)
def test_a_template_is_bounded(source: str, expected: str) -> None:
    assert expected in fault(source)


def test_as_many_as_may_be_nested_are_rendered() -> None:
    deep = "{{if .A}}" * 20 + "x" + "{{end}}" * 20

    assert compile_text(deep).text({"A": 1}) == "x"
    assert compile_text("{{" + "(" * 20 + ".A" + ")" * 20 + "}}").value({"A": 1}) == 1


def test_a_long_row_of_functions_is_no_deep_one() -> None:
    assert compile_text("{{.A" + " | lower" * 4_000 + "}}").value({"A": "X"}) == "x"


@pytest.mark.parametrize(
    "source",
    [
        "{{.A}}{{.A}}",
        '{{.A | replace "a" "aa"}}',
        '{{.A | replace "a" "aaaaaaaa" | replace "a" "aaaaaaaa"}}',
        "{{.A | html}}{{.A | base64}}",
        "{{.A" + " | lower" * 30 + " | first 1}}",
    ],
)
def test_no_template_makes_more_than_a_million_characters_or_works_for_ever(source: str) -> None:
    with pytest.raises(ContractError):
        compile_text(source).text({"A": "a" * 600_000})


def test_texts_that_are_made_together_share_their_steps() -> None:
    text = compile_text('{{.A | replace "a" "aa"}}')
    with within_steps(1_000):
        text.text({"A": "a" * 200})
        with pytest.raises(ContractError, match="too much work"):
            text.text({"A": "a" * 200})
    # Each has its own bound again.
    assert len(text.text({"A": "a" * 2_000})) == 4_000


def test_what_is_inside_of_another_one_has_no_steps_of_its_own() -> None:
    text = compile_text("{{.A | lower}}")
    with within_steps(1_000):
        with within_steps(1_000_000):
            text.text({"A": "a" * 300})
        with within_steps(1_000_000), pytest.raises(ContractError, match="too much work"):
            text.text({"A": "a" * 300})


# -- any text -----------------------------------------------------------------------------------


@given(template_like | fragments | st.text(), st.none() | st.just(frozenset({"Phone"})))
@settings(deadline=None, max_examples=80)
def test_any_text_is_a_template_or_breaks_the_contract(
    source: str, known: frozenset[str] | None
) -> None:
    try:
        template = compile_text(source, known=known)
    except ContractError as error:
        assert error.message.startswith("line ")  # noqa: PT017  both ways out are right
        return
    assert isinstance(template, Template)
    try:
        template.value({"Phone": "+4420", "A": [1]}, MAPS)
    except ContractError:
        return


@given(template_like.filter(lambda text: "{{" not in text))
@settings(deadline=None, max_examples=30)
def test_a_text_without_placeholders_is_itself(source: str) -> None:
    assert compile_text(source).text({}) == source
    assert compile_text(source).is_static
