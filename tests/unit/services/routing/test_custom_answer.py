"""What a Custom CRM may answer, in every form that its author may think of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.routing.custom_answer import value_in
from shared.errors import ContractError
from shared.net.client import Answer

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html; charset=UTF-8"


def read(body: bytes | str, kind: str = JSON, *, field: str = "Tier") -> JsonValue:
    body = body.encode() if isinstance(body, str) else body
    headers = {"content-type": kind} if kind else {}
    return value_in(Answer(200, headers, body), field, host="crm.example")


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        # plain text
        ("GOLD", TEXT, "GOLD"),
        ("  GOLD\r\n", TEXT, "GOLD"),
        ("\ufeffGOLD", TEXT, "GOLD"),
        ("50", TEXT, "50"),
        ("007", TEXT, "007"),
        ("true", TEXT, "true"),
        ("[VIP] since 2020", TEXT, "[VIP] since 2020"),
        ("{broken", TEXT, "{broken"),
        ("< 5", TEXT, "< 5"),
        ("GOLD", "", "GOLD"),
        ("GOLD", "application/octet-stream", "GOLD"),
        ("GOLD", "TEXT/PLAIN", "GOLD"),
        # PHP calls everything HTML
        ("GOLD", HTML, "GOLD"),
        ('{"Tier": "GOLD"}', HTML, "GOLD"),
        # JSON in a text
        ('"GOLD"', TEXT, "GOLD"),
        ('{"tier": 5}', TEXT, 5),
        ('["GOLD", "VIP"]', TEXT, ["GOLD", "VIP"]),
        # JSON
        ('"GOLD"', JSON, "GOLD"),
        ("50", JSON, 50),
        ("12.5", JSON, 12.5),
        ("true", JSON, True),
        ('"GOLD"', "application/problem+json; charset=utf-8", "GOLD"),
        ('{"Tier": "GOLD", "tier": "x", "value": "y"}', JSON, "GOLD"),
        ('{"value": "y", "TIER": "GOLD"}', JSON, "GOLD"),
        ('{"value": "y", "result": "z"}', JSON, "y"),
        ('{"result": "z", "other": 1}', JSON, "z"),
        ('["GOLD", 5, null, " "]', JSON, ["GOLD", 5]),
        ('{"Tier": [true, 2]}', JSON, [True, 2]),
        # no value
        ("", JSON, None),
        (" \n", TEXT, None),
        ("null", JSON, None),
        ("null", TEXT, None),
        ('""', JSON, None),
        ('" "', JSON, None),
        ("{}", JSON, None),
        ('{"other": "x"}', JSON, None),
        ('{"Tier": null, "value": "x"}', JSON, None),
        ("[]", JSON, None),
        ("[null]", JSON, None),
        # what no store can hold as it is
        (str(2**63), JSON, str(2**63)),
        (str(2**63 - 1), JSON, 2**63 - 1),
        (r'"a\ud800b"', JSON, "a?b"),
    ],
)
def test_a_value_is_read(body: str, kind: str, value: JsonValue) -> None:
    found = read(body, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("Zoë".encode("latin-1"), "ISO-8859-1"),
        ("Zoë".encode("cp1252"), '"windows-1252"'),
        ("Zoë".encode(), "utf8"),
        ("Zoë".encode("utf-16"), "utf-16"),
    ],
)
def test_a_character_set_that_is_told_holds(body: bytes, charset: str) -> None:
    assert read(body, f"text/plain; charset={charset}") == "Zoë"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("<!DOCTYPE html><p>", TEXT, "a page"),
        ("<html>", "", "a page"),
        ('<?xml version="1.0"?><a/>', "text/xml", "a page"),
        ("<p>Sign in</p>", HTML, "a page"),
        ("x", "image/png", "image/png"),
        ("<a/>", "application/xml", "application/xml"),
        ("GOLD", JSON, "no JSON"),
        ('{"Tier": ', JSON, "no JSON"),
        ("NaN", JSON, "no JSON"),
        ("1e999", JSON, "no JSON"),
        ("[" * 50_000, JSON, "no JSON"),
        ('{"Tier": {"id": 5}}', JSON, "an object"),
        ('[{"Tier": "GOLD"}]', JSON, "an object"),
        ("[[1]]", JSON, "a list in a list"),
        (json.dumps(["a"] * 201), JSON, "more than 200"),
        ("x" * 4097, TEXT, "more than 4096"),
        ("9" * 5000, JSON, "more than 4096"),
        (b"Zo\xeb", TEXT, "UTF-8"),
        (b"\xff\xfe\x00", JSON, "UTF-8"),
        ("x", "text/plain; charset=klingon", "UTF-8"),
        ("x", "text/plain; charset=idna", "UTF-8"),
        ("x", "text/plain; charset=unicode_escape", "UTF-8"),
        ("x", "text/plain; charset=zip", "UTF-8"),
    ],
)
def test_what_is_no_value_is_said_without_its_content(
    body: bytes | str, kind: str, said: str
) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        read(body, kind)
    assert len(str(caught.value)) < 200
    assert "Sign" not in str(caught.value)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")),
    st.sampled_from([JSON, TEXT, HTML, ""]) | st.text(max_size=60),
)
def test_nothing_that_comes_breaks_it(body: bytes, kind: str) -> None:
    try:
        found = read(body, kind)
    except ContractError:
        return
    assert found is None or json.dumps(found)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(anything, st.sampled_from([JSON, TEXT]))
def test_whatever_json_comes_a_value_is_one_that_every_store_holds(
    content: JsonValue, kind: str
) -> None:
    try:
        found = read(json.dumps({"Tier": content}), kind)
    except ContractError:
        return
    items = found if isinstance(found, list) else [found]
    for item in items:
        assert item is None or isinstance(item, str | bool | int | float)
        if isinstance(item, int):
            assert -(2**63) <= item < 2**63
        if isinstance(item, str):
            assert item.encode()
