"""Which ways of writing a number each template finds: what docs/explanation/numbers.md says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.crm.registry import shipped, shipped_names
from shared.phone import parse, same_number, spellings

PAGE = Path(__file__).parents[2] / "docs/explanation/numbers.md"
PRINTED = (
    "(202) 555-0143",
    "+1 202-555-0143",
    "202-555-0143",
    "202.555.0143",
    "+1 (202) 555-0143",
    " (202) 555-0143 ",
)
PLAIN = ("+12025550143", "12025550143", "2025550143")
#: As a PBX gives the caller: E.164, without the plus sign, without the country code.
GIVEN = PLAIN

Finds = Callable[[str, str], bool]


def _digits(text: str) -> str:
    return "".join(sign for sign in text if sign.isdigit())


def _whole(asked: str, stored: str) -> bool:
    return asked == stored


def _ends(asked: str, stored: str) -> bool:
    return stored.endswith(asked)


def _holds(asked: str, stored: str) -> bool:
    return asked in stored


def _in_digits(asked: str, stored: str) -> bool:
    return _digits(stored) == _digits(asked)


def _digits_end(asked: str, stored: str) -> bool:
    return _digits(stored).endswith(_digits(asked))


#: How the CRM compares, as the templates say; None: its search decides, and nobody has tried it.
COMPARED: dict[str, Finds | None] = {
    "bitrix24": _in_digits,
    "bullhorn": None,
    # Stored as E.164 where it is valid.
    "close": _in_digits,
    "copper": None,
    "dynamics": _whole,
    "dynamics_2015": _whole,
    "espocrm": _in_digits,
    "freshdesk": _whole,
    "freshsales": _whole,
    # The calculated fields, without country code.
    "hubspot": _digits_end,
    "insightly": _whole,
    "kommo": None,
    "monday": _digits_end,
    "odoo": _in_digits,
    "odoo_jsonrpc": _in_digits,
    "pipedrive": _digits_end,
    "proprietary": _whole,
    "proprietary_1": _whole,
    "retailcrm": None,
    "salesforce": _digits_end,
    "sugarcrm": _whole,
    "suitecrm": _holds,
    "suitecrm_v4_1": _digits_end,
    "tryton": None,
    "vtiger": _ends,
    "zendesk": None,
    "zoho": _whole,
}


def found(name: str, stored: str, given: str = "+12025550143") -> bool:
    compares = COMPARED[name]
    assert compares is not None
    manifest = shipped(name)
    searches = [*manifest.search, *(s for c in manifest.contacts.values() for s in c.search)]
    formats = [text for search in searches for text in search.formats or manifest.phone_formats]
    asked = spellings(parse(given, "US"), dict.fromkeys(formats))
    return any(compares(one, stored) for one in asked) and same_number(stored, given, "US")


KNOWN = sorted(name for name, compares in COMPARED.items() if compares is not None)


def test_every_template_is_in_the_table() -> None:
    assert set(COMPARED) == set(shipped_names())


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", KNOWN)
def test_digits_are_found_however_the_pbx_gives_the_caller(name: str, given: str) -> None:
    assert [stored for stored in PLAIN if not found(name, stored, given)] == []


def test_the_page_says_which_printed_numbers_are_found() -> None:
    lines = PAGE.read_text().splitlines()
    rows = {
        name.strip("` "): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in lines
        if line.startswith("| `") and line.count("|") == len(PRINTED) + 2
        for name in line.split("|")[1].split(",")
    }
    said = {name: ["yes" if found(name, one) else "no" for one in PRINTED] for name in KNOWN}
    assert rows == said


@pytest.mark.parametrize("name", KNOWN)
def test_what_the_page_calls_found_is_found_for_every_way_of_giving(name: str) -> None:
    for stored in PRINTED:
        assert len({found(name, stored, given) for given in GIVEN}) == 1, stored
