"""The reference of the template language says what is so."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.crm.language.contexts import SEARCH_ESCAPES
from shared.crm.language.functions import FUNCTIONS
from shared.crm.language.text import compile_text
from shared.phone import parse, spellings

PAGE = (Path(__file__).parents[2] / "docs/reference/template-language.md").read_text()
VARIABLES = {
    "StartedAt": datetime(2026, 11, 21, 10, 0, 5, tzinfo=UTC),
    "TalkTime": timedelta(seconds=3725),
    "Name": "o'Brien & Sons",
    "Number": "+442079460123",
    "Zone": "Europe/Berlin",
    "Id": "12x345",
    "Kind": "inbound missed",
    "Tags": ["a", "b"],
    "Key": "k3y",
    "Empty": "",
}
MAPS = {"type": {"inbound answered": "Inbound", "inbound *": "Missed", "*": "Outbound"}}
EXAMPLES = re.findall(r"^\| `(\{\{.*?\}\})` \| `(.*?)` \|", PAGE, re.MULTILINE)
FORMATS = re.findall(r"^\| `([^`{]+)` \| (.+?) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("example", "gives"), EXAMPLES)
def test_an_example_gives_what_is_said(example: str, gives: str) -> None:
    said = compile_text(example.replace("\\|", "|")).text(VARIABLES, maps=MAPS)
    assert said == gives.strip()


def test_every_function_has_an_example() -> None:
    texts = " ".join(example for example, _ in EXAMPLES)
    assert [name for name in FUNCTIONS if not re.search(rf"(?<![\w.]){name}\b", texts)] == []


def test_every_search_language_is_named() -> None:
    assert [n for n in SEARCH_ESCAPES if n != "zoho_criteria" and f"`{n}`" not in PAGE] == []


@pytest.mark.parametrize(("wanted", "shown"), FORMATS)
def test_a_phone_format_gives_what_is_said(wanted: str, shown: str) -> None:
    (found,) = spellings(parse("02079460123", "GB"), [wanted])
    assert found in shown
