"""
Values from outside against those who read them: SQLite, our own reader of Zoho's criteria, GJSON,
and small readers of the other languages. Nothing leaves its place, whatever it was piped through.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.form.requests import Request
from shared.crm.language.contexts import SEARCH_ESCAPES, header_value, url_only_http
from shared.crm.language.gjson import escape_literal
from shared.crm.language.paths import at_path
from shared.crm.language.text import Fragment, compile_text
from shared.crm.language.url import compile_url
from shared.crm.rendering import Scope, render
from shared.errors import ContractError
from shared.sandbox.criteria import read_criteria

values = st.text(
    st.sampled_from(list("'\"\\`;-/*%_(),:{}&|<>= \n\r\t\x00\u202e\u200b٣\uff11'\uff41AORaor12"))
    | st.characters(codec="utf-8"),
    max_size=20,
) | st.sampled_from(
    ["' OR '1'='1", "\\' OR 1=1 --", "x'; DROP TABLE people; --", "1)OR(Phone:equals:2", '"]#|#.x']
)
PIPES = [
    *("", "first 1", "first 2", "last 1", "last 2", "substring 1 2", "lower", "upper", "trim"),
    *('replace "a" "\'"', 'replace "\\\\" ""', 'before "\'"', 'after "\\\\"', "html", "json"),
    *('split "\'" | item 0', 'split "\'" | join "\\\\"', 'split "a"', "Capitalize", "text"),
    *('default "x"', "nothing | text", "UrlEncode", "UrlEncode | last 2", "base64", "length"),
]
#: What ends a text in quotes, and what keeps a quote from ending it.
QUOTED = {
    "sql, quotes doubled": ("sql", re.compile(r"'(?:[^']|'')*'")),
    "sql, backslashes too": ("sql", re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)),
    "sql_like": ("sql_like", re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)),
    "odata": ("odata", re.compile(r"'(?:[^']|'')*'")),
    "jpql": ("jpql", re.compile(r"'(?:[^']|'')*'")),
    "soql": ("soql", re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)),
    "soql_like": ("soql_like", re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)),
}


def said(language: str, source: str, value: str) -> str:
    """As the renderer says it: a variable from outside, escaped for the language."""
    escaped = SEARCH_ESCAPES[language](value)
    return compile_text(source).text({"V": Fragment(escaped)})


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE people (name TEXT, phone TEXT)")
        connection.execute("INSERT INTO people VALUES ('Anna', '+4420'), ('Ben', '100%')")
        yield connection


# -- texts in quotes ----------------------------------------------------------------------------


@given(values)
@settings(deadline=None, max_examples=60)
def test_no_value_leaves_its_quotes_whatever_it_is_piped_through(value: str) -> None:
    for language, literal in QUOTED.values():
        for pipe in PIPES:
            source = f"'{{{{.V | {pipe}}}}}'" if pipe else "'{{.V}}'"
            assert literal.fullmatch(said(language, source, value)), (language, pipe)


@given(values)
@settings(deadline=None, max_examples=60)
def test_a_database_reads_a_value_as_one_text(value: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        (found,) = connection.execute(said("sql", "SELECT '{{.V}}'", value)).fetchone()
    assert found == re.sub(r"[\x00-\x1f\x7f]", "", value).replace("\\", "\\\\")


@pytest.mark.parametrize(
    "attack",
    [
        *("' OR '1'='1", "\\' OR 1=1 --", "'; DELETE FROM people; --", "' UNION SELECT 'a","'\x00"),
        *("x\\", "%", "_____", "\u02bc OR 1=1", "\uff07 OR 1=1"),
    ],
)  # fmt: skip
def test_no_attack_finds_anybody(database: sqlite3.Connection, attack: str) -> None:
    for query in (
        "SELECT name FROM people WHERE phone = '{{.V}}'",
        "SELECT name FROM people WHERE phone = '{{.V | last 12}}' AND name <> '{{.V | first 1}}'",
        "SELECT name FROM people WHERE name = 'x' OR phone = '{{.V | split \" \" | item 0}}'",
    ):
        assert database.execute(said("sql", query, attack)).fetchall() == []
    assert database.execute("SELECT count(*) FROM people").fetchone() == (2,)


def test_a_wildcard_of_a_value_stands_for_one_character_at_most(
    database: sqlite3.Connection,
) -> None:
    query = "SELECT name FROM people WHERE phone LIKE '{{.V}}'"
    assert database.execute(said("sql_like", query, "100%")).fetchall() == [("Ben",)]
    assert database.execute(said("sql_like", query, "%")).fetchall() == []


def test_functions_see_a_value_as_it_was() -> None:
    source = '{{if eq .V "o\'Brien"}}{{.V | length}} {{.V | base64}} {{.V | map `m`}}{{end}}'
    variables = {"V": SEARCH_ESCAPES["soql"]("o'Brien")}
    # What a map says is the template's own.
    maps = {"m": {"o'*": "it's"}}
    assert compile_text(source).text(variables, maps=maps) == "7 bydCcmllbg== it's"


# -- other languages ----------------------------------------------------------------------------


@given(values.filter(lambda text: text == text.strip()))
@settings(deadline=None, max_examples=60)
def test_zohos_criteria_stay_one_test_of_the_value(value: str) -> None:
    for pipe in ("", "first 3", "last 3", "lower", 'replace "a" ")"'):
        source = f"{{{{.V | {pipe}}}}}" if pipe else "{{.V}}"
        (test,) = read_criteria(said("zoho", f"(Phone:equals:{source})", value))
        assert (test.field, test.value) == ("Phone", compile_text(source).text({"V": value}))


@given(values, st.lists(values, max_size=3))
@settings(deadline=None, max_examples=60)
def test_a_condition_of_a_path_finds_its_own_record(value: str, others: list[str]) -> None:
    rows = [{"k": text, "id": at} for at, text in enumerate([*others, value])]
    found = at_path(rows, f'#(k=="{escape_literal(value)}")#.id')
    kept = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", value)
    assert found == [row["id"] for row in rows if row["k"] == kept]
    for pipe in ("first 1", "last 1", "substring 1 1"):
        path = compile_text(f'#(k=="{{{{.V | {pipe}}}}}")#.id').text({"V": escape_literal(value)})
        part = re.sub(
            r"[\x00-\x1f\x7f-\x9f]", "", compile_text(f"{{{{.V | {pipe}}}}}").text({"V": value})
        )
        assert at_path(rows, path) == [row["id"] for row in rows if row["k"] == part]


@given(values)
@settings(deadline=None, max_examples=60)
def test_no_value_is_an_operator_of_a_word_search(value: str) -> None:
    for pipe in PIPES:
        if "UrlEncode" in pipe:
            continue
        source = f"{{{{.V | {pipe}}}}}" if pipe else "{{.V}}"
        lucene = re.sub(r"\\.", "x", said("lucene", source, value), flags=re.DOTALL)
        assert not set(lucene) & set('+-=&|!(){}[]^"~*?:/\\<>')
        assert not {"AND", "OR", "NOT"} & set(lucene.split())
        sosl = re.sub(r"\\.", " ", said("sosl", source, value), flags=re.DOTALL)
        assert not set(sosl) & set("?&|!{}[]()^~*:\\\"'+-")
        assert not {"and", "or", "not"} & set(re.split(r"\W+", sosl.lower()))


# -- whole requests -----------------------------------------------------------------------------


@given(values, st.sampled_from(["query", "form", "json"]))
@settings(deadline=None, max_examples=40)
def test_a_query_in_a_request_keeps_its_shape(value: str, place: str) -> None:
    text = "Ref = '{{.V | first 9}}' AND Name = '{{.V}}' LIMIT 1"
    shape = {"method": "POST", "url": "https://crm.example/q", "language": "soql"}
    request = Request.model_validate({**shape, place: {"q": text}})
    rendered = render(request, Scope(own={}, variables={"V": value}))
    assert rendered is not None
    body = (rendered.body or b"").decode()
    if place == "query":
        sent = rendered.url.query["q"]
    else:
        sent = json.loads(body)["q"] if place == "json" else dict(parse_qsl(body))["q"]
    quoted = r"'(?:[^'\\]|\\.)*'"
    assert re.fullmatch(rf"Ref = {quoted} AND Name = {quoted} LIMIT 1", sent, re.DOTALL)


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        # The template's own percent sign and digits of a value make no escape together.
        ("{{.api_url}}/find?like=%{{.V}}%", "27 or 1", "/find?like=%2527%20or%201%25"),
        ("{{.api_url}}/%{{.V}}", "2e", "/%252e"),
        ("{{.api_url}}/%2{{.V}}/x", "e", "/%252e/x"),
        ("{{.api_url}}/a%20b/{{.V}}", "%2F%", "/a%20b/%252F%25"),
        ("{{.api_url}}/{{.V}}", "%", "/%25"),
        ("{{.api_url}}/{{.V}}", "\x00\u202e\ud800", "/%00%E2%80%AE%EF%BF%BD"),
        ("{{.api_url}}/{{.V}}", "\uff0e\uff0e\uff0f", "/%EF%BC%8E%EF%BC%8E%EF%BC%8F"),
        ("{{.api_url}}?a={{UrlEncode .V}}%", "%41", "?a=%2541%25"),
        ("{{.api_url}}/{{UrlEncode .V | first 2}}/x", "/..", "/%252/x"),
    ],
)
def test_no_escape_is_made_of_two_halves(source: str, value: str, expected: str) -> None:
    own = {"api_url": "https://api.example"}
    assert compile_url(source).text({"V": value}, trusted=own) == f"https://api.example{expected}"


@given(values, st.sampled_from(["%{{.V}}%", "%2{{.V}}", "a%2{{.V | first 1}}{{.V | last 1}}"]))
@settings(deadline=None, max_examples=60)
def test_what_a_server_decodes_is_what_was_meant(value: str, text: str) -> None:
    own = {"api_url": "https://api.example"}
    found = urlsplit(
        compile_url(f"{{{{.api_url}}}}/?q={text}").text({"V": value}, trusted=own)
    ).query
    assert unquote(found.removeprefix("q=")) == compile_text(text).text({"V": value})


# -- numbers, marks, halves ---------------------------------------------------------------------


@pytest.mark.parametrize("digits", ["٣", "\uff11\uff12", "²", "1٣", "߁"])
@pytest.mark.parametrize(
    "source",
    [
        *("{{.V | number}}", "{{.V | seconds}}", '{{TimeFormat .V "yyyy"}}', '{{first "a" .V}}'),
        *("{{substring .L .V}}", "{{item .L .V}}", "{{.V | unix}}"),
    ],
)
def test_digits_of_other_scripts_are_no_numbers(source: str, digits: str) -> None:
    with pytest.raises(ContractError):
        compile_text(source).text({"V": digits, "L": ["a"]})


@pytest.mark.parametrize("value", ["a\x00b", "a\x85b\nc", "\u202e", "\ud800"])
def test_a_header_is_one_line_that_can_be_sent(value: str) -> None:
    try:
        found = header_value(value)
    except ContractError:
        return
    found.encode()
    assert "\n" not in found
    assert "\x00" not in found


@pytest.mark.parametrize(
    "address",
    [
        "https://crm.example\u202e/x",
        "https://crm\u200b.example/x",
        "https://crm.example\u2028/x",
        "https://crm.example/\x00",
        "https://crm.example\ud800/",
    ],
)
def test_an_address_that_shows_another_than_it_is_opens_nothing(address: str) -> None:
    with pytest.raises(ContractError):
        url_only_http(address)
