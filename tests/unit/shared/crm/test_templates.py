"""The templates that ship say what is meant."""

from __future__ import annotations

from typing import Any

import pytest

from shared.crm.language.text import compile_text
from shared.crm.registry import parameters_of, shipped

ZOHO = shipped("zoho")


@pytest.mark.parametrize(
    ("data_centre", "accounts", "api"),
    [
        ("com", "https://accounts.zoho.com", "https://www.zohoapis.com"),
        ("com.au", "https://accounts.zoho.com.au", "https://www.zohoapis.com.au"),
        # The one whose names differ.
        ("ca", "https://accounts.zohocloud.ca", "https://www.zohoapis.ca"),
    ],
)
def test_a_data_centre_of_zoho_has_its_own_hosts(data_centre: str, accounts: str, api: str) -> None:
    found = parameters_of(ZOHO, {"data_centre": data_centre})
    assert (found["accounts_url"], found["api_url"]) == (accounts, api)


def test_every_data_centre_of_zoho_has_a_host() -> None:
    for data_centre in ZOHO.parameters[0].options:
        parameters_of(ZOHO, {"data_centre": data_centre})


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (
            {"Agent": "101", "AgentName": "Anna", "Dialled": "4420", "Recording": "https://r/1"},
            "Agent 101 Anna - dialled 4420 - recording https://r/1",
        ),
        ({"Agent": "101", "Dialled": "4420"}, "Agent 101 - dialled 4420"),
        ({"Dialled": "4420"}, "No agent - dialled 4420"),
        ({}, "No agent"),
    ],
)
def test_an_entry_says_who_had_the_call_where_anybody_had(
    known: dict[str, Any], words: str
) -> None:
    assert ZOHO.journal is not None
    said = compile_text(ZOHO.journal.description).text(known, maps=ZOHO.maps)
    assert " ".join(said.split()) == words
