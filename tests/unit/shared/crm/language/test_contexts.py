from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.contexts import (
    SEARCH_ESCAPES,
    form_value,
    header_value,
    json_string,
    path_segment,
    query_value,
    url_only_http,
    zoho_criteria,
)
from shared.crm.language.values import Encoded, Fragment
from shared.errors import ContractError

#: Rich in what means something somewhere.
values = st.text(
    st.sampled_from(list("/?#&=+%;:@\\(),'\"<> \r\n\t\x00äa1.")) | st.characters(codec="utf-8")
)
ESCAPES: dict[str, Callable[[str], str]] = {
    "path": path_segment,
    "query": query_value,
    "form": form_value,
    "header": header_value,
    "json": json_string,
    "pop-up": url_only_http,
    **SEARCH_ESCAPES,
}


def zoho_read(text: str) -> str:
    """What Zoho makes of an escaped value."""
    return re.sub(r"\\([\\(),])", r"\1", text)


# -- path ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Contacts", "Contacts"),
        ("a/b", "a%2Fb"),
        ("../..", "..%2F.."),
        ("...", "..."),
        ("a?b#c", "a%3Fb%23c"),
        ("a b+c", "a%20b%2Bc"),
        ("100%", "100%25"),
        ("Ä", "%C3%84"),
        ("", ""),
    ],
)
def test_a_segment_of_a_path_keeps_what_is_data(text: str, expected: str) -> None:
    assert path_segment(text) == expected


@pytest.mark.parametrize("text", [".", ".."])
def test_a_segment_cannot_walk_up_the_path(text: str) -> None:
    with pytest.raises(ContractError):
        path_segment(text)


@given(values.filter(lambda text: text not in {".", ".."}))
@settings(deadline=None, max_examples=30)
def test_a_value_comes_back_from_its_segment(text: str) -> None:
    escaped = path_segment(text)

    assert unquote(escaped) == text
    assert re.fullmatch(r"([A-Za-z0-9._~-]|%[0-9A-F]{2})*", escaped)


@given(values.filter(lambda text: text not in {".", ".."}))
@settings(deadline=None, max_examples=30)
def test_a_value_stays_one_segment_of_its_url(text: str) -> None:
    parts = urlsplit(f"https://api.example/crm/{path_segment(text)}/search?page=1")

    assert (parts.netloc, parts.query, parts.fragment) == ("api.example", "page=1", "")
    assert parts.path.count("/") == 3


# -- query --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "((Phone:equals:1202888888)OR(Phone:equals:120-288-8888)OR(Phone:equals:120 288 8888))",
            "((Phone:equals:1202888888)OR(Phone:equals:120-288-8888)OR(Phone:equals:120%20288%208888))",
        ),
        ("id,Account_Name", "id,Account_Name"),
        ("+447700900123", "%2B447700900123"),
        ("a&b=c", "a%26b%3Dc"),
        ("a#b", "a%23b"),
        ("100%", "100%25"),
        ("Ä", "%C3%84"),
    ],
)
def test_a_value_of_a_query_is_written_as_the_recorded_logs_show_it(
    text: str, expected: str
) -> None:
    assert query_value(text) == expected


@given(values)
@settings(deadline=None, max_examples=30)
def test_a_value_comes_back_from_its_query(text: str) -> None:
    escaped = query_value(text)

    assert unquote(escaped) == text
    assert not set(escaped) & set("&=+#?;<>\"' \\\r\n\x00") - {"'"}


@given(values, values)
@settings(deadline=None, max_examples=30)
def test_two_values_stay_two_values_of_their_query(one: str, other: str) -> None:
    query = f"a={query_value(one)}&b={query_value(other)}"

    assert parse_qsl(query, keep_blank_values=True) == [("a", one), ("b", other)]


# -- header -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Bearer abc", "Zoho-oauthtoken 1000.ab", "ä", 'a "b" c'])
def test_a_header_has_its_value_as_it_is(text: str) -> None:
    assert header_value(text) == text


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\x00", "\t", "\x0b", "\x1f", "\x7f"])
def test_a_header_with_a_control_character_is_refused(character: str) -> None:
    with pytest.raises(ContractError):
        header_value(f"a{character}X-Evil: 1")


@given(values)
@settings(deadline=None, max_examples=30)
def test_no_value_begins_another_header(text: str) -> None:
    try:
        escaped = header_value(text)
    except ContractError:
        return
    assert escaped == text
    assert not set(escaped) & {"\r", "\n", "\x00"}


# -- form, JSON, and what was encoded before --------------------------------------------------


@given(values, values)
@settings(deadline=None, max_examples=30)
def test_two_values_stay_two_fields_of_their_form(one: str, other: str) -> None:
    form = f"a={form_value(one)}&b={form_value(other)}"

    assert parse_qsl(form, keep_blank_values=True) == [("a", one), ("b", other)]


def test_a_blank_of_a_form_is_a_plus() -> None:
    assert form_value("a b+c") == "a+b%2Bc"
    assert unquote_plus(form_value("a b+c")) == "a b+c"


@given(values)
@settings(deadline=None, max_examples=30)
def test_a_value_comes_back_from_its_json_string(text: str) -> None:
    assert json.loads(f'["{json_string(text)}"]') == [text]


@pytest.mark.parametrize("place", [path_segment, query_value, form_value])
def test_what_was_encoded_is_not_encoded_twice(place: Callable[[str], str]) -> None:
    assert place(Encoded("a%20b")) == "a%20b"
    # A mark for the search language is none for the place.
    assert "%25" in place(Fragment("a%20b"))


def test_encoded_dots_still_walk_nowhere() -> None:
    with pytest.raises(ContractError):
        path_segment(Encoded(".."))


@pytest.mark.parametrize("place", [path_segment, query_value, form_value])
def test_half_a_character_is_sent_as_one_that_exists(place: Callable[[str], str]) -> None:
    assert place("a\ud800") == "a%EF%BF%BD"


# -- pop-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "https://crm.example/contacts/1",
        "http://10.0.0.5:8080/x?a=b#/y",
        "HTTPS://crm.example",
        "https://bücher.example/x",
        "https://[::1]/x",
        "https://crm.example/?mail=a@b.c",
    ],
)
def test_a_browser_may_open_http(text: str) -> None:
    assert url_only_http(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "javascript:alert(1)",
        "java\nscript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//evil.example/x",
        "/contacts/1",
        "https:evil.example",
        "https:///evil.example",
        "https://",
        "https://user:pass@crm.example/",
        "https://crm.example@evil.example/",
        "https://crm.example\\@evil.example/",
        "https:\\\\evil.example",
        "https://evil.example\\.crm.example/",
        "https://crm.example/a\r\nX: 1",
        "https://crm.example/a b",
        "https://crm.example:port/",
        "https://[::1/",
        "tel:+4420",
    ],
)
def test_a_browser_opens_nothing_else(text: str) -> None:
    with pytest.raises(ContractError):
        url_only_http(text)


# -- search languages ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("447700900123", "447700900123"),
        ("(020) 7946-0000", r"\(020\) 7946-0000"),
        ("Smith, John", r"Smith\, John"),
        ("a\\b", r"a\\b"),
        ("\\)", r"\\\)"),
        ("1)OR(Phone:equals:2", r"1\)OR\(Phone:equals:2"),
        ("", ""),
    ],
)
def test_what_means_something_to_zoho_has_a_backslash_before_it(text: str, expected: str) -> None:
    assert zoho_criteria(text) == expected


@given(values)
@settings(deadline=None, max_examples=30)
def test_a_value_comes_back_from_zohos_criteria(text: str) -> None:
    escaped = zoho_criteria(text)

    assert zoho_read(escaped) == text
    assert not set(re.sub(r"\\[\\(),]", "", escaped)) & set("\\(),")


def test_the_search_language_without_a_name_leaves_the_value() -> None:
    assert SEARCH_ESCAPES["none"]("a(b)") == "a(b)"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("odata", "O'Brien", "O''Brien"),
        ("odata", "x' or '1' eq '1", "x'' or ''1'' eq ''1"),
        ("sql", "' OR '1'='1", "'' OR ''1''=''1"),
        ("sql", "\\' OR 1=1 --", "\\\\'' OR 1=1 --"),
        ("sql", "a\x00\nb", "ab"),
        ("soql", "O'Brien", "O\\'Brien"),
        ("soql", "\\' OR Name LIKE '%", "\\\\\\' OR Name LIKE \\'%"),
        ("soql", 'a"b\n\x01', 'a\\"b\\n\\u0001'),
        ("sosl", "a} RETURNING User(Id)", "a\\} RETURNING User\\(Id\\)"),
        ("sosl", "+44-20*?", "\\+44\\-20\\*\\?"),
        ("sosl", "Anna and Not ben ORcas x_or", "Anna     ben ORcas x_or"),
        ("sosl", "a(OR)b", "a\\( \\)b"),
        ("sql_like", "100%_a'b", "100__a''b"),
        ("soql_like", "100%_a'b", "100\\%\\_a\\'b"),
        ("lucene", ">5 <=9", " 5  \\=9"),
        ("lucene", "+44 (0)20", "\\+44 \\(0\\)20"),
        ("lucene", "x OR isDeleted:true", "x \\OR isDeleted\\:true"),
        ("lucene", "NOT a AND b NOTE", "\\NOT a \\AND b NOTE"),
        ("lucene", 'a" OR "b', 'a\\" \\OR \\"b'),
        ("jpql", "O'Brien", "O''Brien"),
        ("quoted", 'a" OR b:"\\', 'a\\" OR b:\\"\\\\'),
        ("zoho", "1)OR(Phone:equals:2", "1\\)OR\\(Phone:equals:2"),
        ("espo", "a'b(c)", "a'b(c)"),
    ],
)
def test_an_attack_stays_what_is_searched_for(language: str, text: str, expected: str) -> None:
    assert SEARCH_ESCAPES[language](text) == expected


#: How the language reads what stands between its quotes (or up to its blank), and what in it
#: would end or change it.
READERS: dict[str, tuple[str, str]] = {
    "odata": (r"''", "'"),
    "jpql": (r"''", "'"),
    "sql": (r"''|\\\\", "'\\"),
    "sql_like": (r"''|\\\\", "'\\%"),
    "soql": (r"\\(?:u[0-9a-f]{4}|.)", "'\"\\\n\r\x00"),
    "soql_like": (r"\\(?:u[0-9a-f]{4}|.)", "'\"\\\n\r\x00%_"),
    "sosl": (r"\\.", "?&|!{}[]()^~*:\\\"'+-"),
    "lucene": (r"\\.", '+-&|!(){}[]^"~*?:/\\=<>'),
    "zoho": (r"\\.", "\\(),"),
    "quoted": (r"\\.", '"\\'),
}


@given(values)
@settings(deadline=None, max_examples=50)
def test_nothing_that_means_something_is_left_bare(text: str) -> None:
    for language, (escaped, special) in READERS.items():
        found = SEARCH_ESCAPES[language](text)
        assert not set(re.sub(escaped, "", found, flags=re.DOTALL)) & {*special}


@given(values)
@settings(deadline=None, max_examples=30)
def test_escaped_twice_is_escaped_once(text: str) -> None:
    for escape in SEARCH_ESCAPES.values():
        once = escape(text)

        assert escape(once) == once


@given(st.lists(st.sampled_from(["AND", "OR", "NOT", "a", "NOTE", "(OR)"])).map(" ".join))
@settings(deadline=None, max_examples=30)
def test_no_word_of_a_value_is_an_operator_of_lucene(text: str) -> None:
    assert not {"AND", "OR", "NOT"} & set(SEARCH_ESCAPES["lucene"](text).split())


@given(values)
@settings(deadline=None, max_examples=30)
def test_a_value_is_escaped_or_breaks_the_contract(text: str) -> None:
    for escape in ESCAPES.values():
        try:
            escaped = escape(text)
        except ContractError:
            continue
        assert isinstance(escaped, str)
