"""There and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import Note
from shared.crm.importing.xml import read_xml
from shared.crm.importing.yeastar.importer import export_yeastar, import_yeastar
from shared.crm.registry import shipped, shipped_names

FOLDER = Path(__file__).parents[4] / "data" / "templates" / "yeastar"


def again(template: dict[str, Any]) -> tuple[dict[str, Any], tuple[Note, ...]]:
    text, notes = export_yeastar(Manifest.model_validate(template))
    return import_yeastar(text).template, notes


def test_the_newer_edition_comes_back_as_it_was() -> None:
    first = import_yeastar((FOLDER / "newer.xml").read_bytes()).template
    second, _ = again(first)
    assert second == first


def test_the_older_edition_comes_back_but_for_the_request_that_follows() -> None:
    first = import_yeastar((FOLDER / "older.xml").read_bytes()).template
    second, notes = again(first)
    assert any(note.level == "left" and "`then`" in note.what for note in notes)
    del first["contacts"]["people"]["search"][0]["then"]
    first["contacts"]["people"]["map"]["phones"] = ["phone"]
    assert second == first


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"basic": "{{.api_key}}:X"},
        {"apply": [{"in": "header", "name": "Authorization", "value": "Token {{.api_key}}"}]},
        {
            "oauth2": {
                "grant": "client_credentials",
                "token_url": "https://crm.example/token",
                "encoding": "json",
                "refresh_every": "10m",
            }
        },
    ],
    ids=["none", "basic", "bearer", "token"],
)
def test_ways_to_get_in_come_back(auth: dict[str, Any]) -> None:
    keys = ("client_id", "client_secret") if "oauth2" in auth else ("api_key",)
    template: dict[str, Any] = {
        "schema": 2,
        "name": "mill",
        "title": "Mill",
        "quality": "declared",
        "sources": ["imported from Yeastar XML Mill"],
        "credentials": [{"name": name, "title": name} for name in keys] if auth else [],
        "auth": auth,
        "phone_formats": ["digits", "e164", "national_digits"],
        "contacts": {
            "people": {
                "search": [{"request": {"url": "https://crm.example/?p={{.Phone}}"}}],
                "map": {"id": "id", "phones": ["tel"]},
            }
        },
        "check": {"url": 'https://crm.example/?p={{"0"}}'},
    }
    second, _ = again(template)
    assert second == {key: value for key, value in template.items() if value}


def test_a_template_of_tests_is_said_as_one_search_with_its_fields_in_it() -> None:
    text, notes = export_yeastar(shipped("zoho"))
    urls = [
        request.get("URLFormat")
        for request in read_xml(text).root.all("Scenarios", "Scenario", "Requests", "Request")
        if request.get("Name") == "Leads" and request.get("Method") == "GET"
    ]
    (url,) = urls
    assert url == (
        "{{.api_url}}/crm/{{.api_version}}/Leads/search?criteria="
        "((Phone:equals:{{UrlEncode .Phone}})OR(Mobile:equals:{{UrlEncode .Phone}}))"
        "&page=1&per_page=200&fields=id,Full_Name,Company,Email,Owner,Modified_Time,Phone,Mobile"
    )
    assert any(note.place == "journal.find" for note in notes)
    # Its default is made of another parameter.
    assert any(note.place == "parameters.api_url.default" for note in notes)


@pytest.mark.parametrize("name", shipped_names())
def test_every_template_that_ships_makes_a_file_that_is_xml(name: str) -> None:
    text, notes = export_yeastar(shipped(name))
    assert read_xml(text).repaired == ()
    assert notes
