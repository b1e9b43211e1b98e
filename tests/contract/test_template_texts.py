"""What a connection's own text, and a summary, become in the requests of each template."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import pytest

from shared.crm.form.journal import NeedsContact
from shared.crm.registry import shipped, shipped_names
from shared.crm.rendering import Rendered
from tests.contract.template_kit import (
    REFERENCE,
    body_of,
    changed,
    contact_of,
    entry,
    sent,
    words_of,
)

NAMES = [name for name in shipped_names() if shipped(name).journal is not None]
#: Of a call they have fields, and none for a text.
WITHOUT_TEXT = {"bitrix24", "retailcrm", "vtiger"}
TEXTED = [name for name in NAMES if name not in WITHOUT_TEXT]
#: They can change an entry, and so say what is known later.
CHANGING = [
    name for name in TEXTED if (journal := shipped(name).journal) and journal.update is not None
]
SUMMARY = 'Asks for a "boat" & a <mast>.\nAnna calls back; it\'s urgent {{.Number}}'


def call(name: str, **parts: Any) -> Any:
    manifest = shipped(name)
    assert manifest.journal is not None
    known = manifest.journal.contact is NeedsContact.YES
    contact = contact_of(next(iter(manifest.contacts))) if known else None
    return entry(contact=contact, recording="https://pbx.example/1.wav", **parts)


def texts_of(request: Rendered) -> Iterator[str]:
    """Of its body, however deep; of HTML, as people read it."""
    level: list[Any] = [body_of(request)]
    while level:
        value = level.pop()
        if isinstance(value, dict | list):
            level += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str):
            yield value
            yield html.unescape(value.replace("<br>", "\n"))


@pytest.mark.parametrize("name", TEXTED)
def test_a_text_of_two_lines_has_two_lines_at_the_crm(name: str) -> None:
    text = 'One "line" & <more>\nand another'
    told = call(name, description=text)
    changes = changed(name, told)
    for requests in ((sent(name, told).create,), *((changes,) if name in CHANGING else ())):
        found = [shown for request in requests for shown in texts_of(request)]
        assert any(text in shown for shown in found), found


@pytest.mark.parametrize("name", CHANGING)
def test_a_summary_is_a_line_of_its_own_and_what_is_in_it_stays_data(name: str) -> None:
    told = call(name, summary=SUMMARY)
    for requests in ((sent(name, told).create,), changed(name, told)):
        found = [text for request in requests for text in texts_of(request)]
        assert any(f"\n{SUMMARY}" in text for text in found)


@pytest.mark.parametrize("name", CHANGING)
def test_without_a_summary_there_is_one_line(name: str) -> None:
    texts = list(texts_of(sent(name, call(name)).create))
    assert not [text for text in texts if "\n" in text]


@pytest.mark.parametrize("name", sorted(WITHOUT_TEXT))
def test_where_there_is_no_field_for_a_text_nothing_is_said(name: str) -> None:
    told = call(name, summary=SUMMARY, description="{{.Summary}}")
    assert "boat" not in " ".join(map(words_of, sent(name, told).all))


@pytest.mark.parametrize("name", NAMES)
def test_a_description_of_the_sites_own_leaves_the_reference_where_find_looks(name: str) -> None:
    made = sent(name, call(name, subject="Boats", description="Of {{.ContactName}}"))
    assert REFERENCE in " ".join(words_of(request) for request in (*made.before, made.create))


@pytest.mark.parametrize("name", ["dynamics", "dynamics_2015"])
def test_dynamics_is_sent_what_it_takes(name: str) -> None:
    made = sent(name, call(name, description="x" * 5000))
    (text,) = {text for text in texts_of(made.create) if text.startswith("xxx")}
    assert len(text) == 2000
