from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crm.language.contexts import (
    SEARCH_ESCAPES,
    header_value,
    path_segment,
    query_value,
    zoho_criteria,
)
from shared.errors import ContractError

#: Rich in what means something somewhere.
values = st.text(
    st.sampled_from(list("/?#&=+%;:@\\(),'\"<> \r\n\t\x00äa1.")) | st.characters(codec="utf-8")
)
ESCAPES: dict[str, Callable[[str], str]] = {
    "path": path_segment,
    "query": query_value,
    "header": header_value,
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
@settings(deadline=None)
def test_a_value_comes_back_from_its_segment(text: str) -> None:
    escaped = path_segment(text)

    assert unquote(escaped) == text
    assert re.fullmatch(r"([A-Za-z0-9._~-]|%[0-9A-F]{2})*", escaped)


@given(values.filter(lambda text: text not in {".", ".."}))
@settings(deadline=None)
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
@settings(deadline=None)
def test_a_value_comes_back_from_its_query(text: str) -> None:
    escaped = query_value(text)

    assert unquote(escaped) == text
    assert not set(escaped) & set("&=+#?;<>\"' \\\r\n\x00") - {"'"}


@given(values, values)
@settings(deadline=None)
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
@settings(deadline=None)
def test_no_value_begins_another_header(text: str) -> None:
    try:
        escaped = header_value(text)
    except ContractError:
        return
    assert escaped == text
    assert not set(escaped) & {"\r", "\n", "\x00"}


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
@settings(deadline=None)
def test_a_value_comes_back_from_zohos_criteria(text: str) -> None:
    escaped = zoho_criteria(text)

    assert zoho_read(escaped) == text
    assert not set(re.sub(r"\\[\\(),]", "", escaped)) & set("\\(),")


def test_the_search_language_without_a_name_leaves_the_value() -> None:
    assert SEARCH_ESCAPES["none"]("a(b)") == "a(b)"


@given(st.sampled_from(sorted(ESCAPES)), values)
@settings(deadline=None)
def test_a_value_is_escaped_or_breaks_the_contract(place: str, text: str) -> None:
    try:
        escaped = ESCAPES[place](text)
    except ContractError:
        return
    assert isinstance(escaped, str)
