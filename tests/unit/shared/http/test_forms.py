"""Which form a client likes best, and bodies that are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.errors import ContractError
from shared.http.forms import form_wanted, read_form, read_json
from shared.http.routes import Form, InForms


class Said(InForms):
    def as_text(self) -> str:
        return "text"

    def as_xml(self) -> str:
        return "<xml/>"


class Words(BaseModel):
    def as_text(self) -> str:
        return "text"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.TEXT),
        ("*/*", Form.TEXT),
        ("application/json", Form.JSON),
        ("Application/JSON ; Q=0.9 , text/plain;q=0.8", Form.JSON),
        ("text/plain;q=0.8, application/json;q=0.9, text/xml", Form.XML),
        ("text/xml;q=0, text/plain;q=0.001", Form.TEXT),
        ("application/json;q=2", Form.JSON),
    ],
)
def test_the_client_gets_what_it_likes_best(accept: str, form: Form) -> None:
    assert form_wanted(Said(), accept) is form


def test_what_cannot_be_xml_is_no_xml() -> None:
    assert form_wanted(Words(), "application/xml") is Form.TEXT
    assert form_wanted(Words(), "application/xml, application/json;q=0.1") is Form.JSON


@pytest.mark.parametrize("form", list(Form))
def test_an_answer_may_know_its_form(form: Form) -> None:
    said = Said(form=form)

    assert form_wanted(said, "application/json, application/xml, text/plain") is form
    assert said.model_dump() == {}
    assert "form" not in Said.model_json_schema(mode="serialization").get("properties", {})


@given(
    st.text(max_size=60)
    | st.from_regex(r"(text/xml|application/json)(;q=[0-9.]*)?", fullmatch=True)
)
def test_no_header_is_too_strange(accept: str) -> None:
    assert form_wanted(Said(), accept) in Form


def test_a_form_is_read() -> None:
    body = b"did=%2B44&from=&dtmf=1%232&did=45&name=Zo%C3%AB+B"

    assert read_form(body) == {"did": "45", "from": "", "dtmf": "1#2", "name": "Zoë B"}


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (read_form, b"a=\xff"),
        (read_form, b"a=%ff"),
        (read_form, b"a=1&" * 101),
        (read_json, b""),
        (read_json, b"\xff\xfe1\x00"),
        (read_json, b"[NaN]"),
        (read_json, b"[" * 100_000),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(read: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(ContractError, match="in UTF-8"):
        read(body)


@given(st.binary(max_size=80), st.sampled_from([read_form, read_json]))
def test_no_body_does_more_than_be_refused(body: bytes, read: Callable[[bytes], Any]) -> None:
    with suppress(ContractError):
        read(body)


_TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=9)


@given(st.dictionaries(_TEXTS, _TEXTS, max_size=9))
def test_a_body_is_read_as_it_was_meant(said: dict[str, str]) -> None:
    assert read_json(json.dumps(said).encode()) == said
    assert read_form(urlencode(said).encode()) == said
