"""PBXware's "Custom CRM": what it may send, and what it gets, as questions.md has it."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from shared.errors import ContractError
from shared.pbx.pbxware.adapter import PbxwareSettings, pbxware_adapter
from shared.pbx.pbxware.custom_crm import CustomCrmQuestion, parse_question, render_value
from shared.pbx.port import RawHook

NOW = datetime(2026, 3, 4, 7, 15, tzinfo=UTC)
PAGE = Path(__file__).parents[4] / "data" / "pbx" / "pbxware" / "questions.md"
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("| ").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| `")
]


def hook(query: str = "", body: bytes = b"") -> RawHook:
    method = "POST" if body else "GET"
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    return RawHook(method=method, query=pairs, body=body, received_at=NOW)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}{row[1]}")
def test_a_question_is_read_as_its_row_says(row: list[str]) -> None:
    query, body, *wanted = row
    found = parse_question(hook(query.removeprefix("?"), body.encode()))
    assert [found.field, found.dtmf, found.caller] == wanted


def test_the_table_has_both_methods() -> None:
    assert {bool(row[1]) for row in ROWS} == {True, False}


@pytest.mark.parametrize(
    ("query", "body", "words"),
    [
        ("", b"", "field_name is missing"),
        ("field_name=", b"", "field_name is missing"),
        ("", b'{"field_name": null}', "field_name is missing"),
        ("", b'{"field_name": ["Tier"]}', "field_name is missing"),
        ("field_name=a%20b", b"", "letters, digits, _ and ."),
        ("field_name=Tier%0d%0aX: 1", b"", "letters, digits, _ and ."),
        ("field_name=(select)", b"", "letters, digits, _ and ."),
        ("field_name=" + "a" * 101, b"", "at most 100"),
        ("field_name=Tier&dtmf=12;34", b"", "dtmf"),
        ("field_name=Tier&dtmf=" + "1" * 33, b"", "dtmf"),
        ("field_name=Tier&caller=" + "1" * 65, b"", "longer than 64"),
        ("field_name=Tier", b"field_name=Tier", "no JSON"),
        ("field_name=Tier", b"[1]", "no object"),
        ("field_name=Tier", b"[" * 10_000, "no JSON"),
        ("field_name=Tier", b" " * 20_000, "more than 16384 bytes"),
        ("field_name=Tier", b"\xff{}", "no JSON"),
    ],
)
def test_what_is_wrong_is_said(query: str, body: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=re.escape(words)):
        parse_question(hook(query, body))


def test_half_a_character_is_no_reason_to_break_off() -> None:
    asked = RawHook(body=b'{"field_name": "Tier", "from": "12\\ud83d"}', received_at=NOW)

    assert parse_question(asked).caller == "12?"
    assert render_value("gold \ud83d", as_json=False).body == b"gold ?"


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=70)), st.binary(max_size=80))
def test_anything_is_read_or_refused(query: dict[str, str], body: bytes) -> None:
    """Nothing but our own refusal comes out, and what is read is safe to search with."""
    asked = RawHook(query={"field_name": "Tier", **query}, body=body, received_at=NOW)
    with suppress(ContractError):
        found = parse_question(asked)
        assert re.fullmatch(r"[A-Za-z0-9_.]+", found.field)
        assert re.fullmatch(r"[0-9*#A-D]*", found.dtmf)
        assert found.caller.isprintable()


@pytest.mark.parametrize(
    ("value", "text", "in_json"),
    [
        ("GOLD", "GOLD", "GOLD"),
        (" a\r\nSet-Cookie: b ", "a Set-Cookie: b", "a Set-Cookie: b"),
        ("Zoë", "Zoë", "Zoë"),
        (50, "50", 50),
        (50.0, "50", 50.0),
        (0.5, "0.5", 0.5),
        (0, "0", 0),
        (True, "true", "true"),
        (False, "false", "false"),
        (["a", 1, None, "", ["x"]], "a, 1", "a, 1"),
        (None, "", ""),
        ("", "", ""),
        ([], "", ""),
        ({"name": "x"}, "", ""),
        (float("nan"), "", ""),
        (float("inf"), "", ""),
        ("x" * 5000, "x" * 1000, "x" * 1000),
    ],
)
def test_a_value_on_one_line(value: JsonValue, text: str, in_json: object) -> None:
    plain = render_value(value, as_json=False)
    wrapped = render_value(value, as_json=True)
    assert (plain.status, plain.body.decode()) == (200, text)
    assert (wrapped.status, json.loads(wrapped.body)) == (200, {"value": in_json})
    assert plain.content_type.startswith("text/plain")
    assert wrapped.content_type.startswith("application/json")


def test_a_question_without_digits_or_caller_says_so() -> None:
    assert parse_question(hook("field_name=Tier")) == CustomCrmQuestion("Tier")


async def test_there_is_nothing_to_try_from_here() -> None:
    made = pbxware_adapter(PbxwareSettings())
    assert [finding.fault async for finding in made.check()] == [None]
    assert (made.hooks, made.switchboard, made.source, made.route) == (None,) * 4
