"""The CRM's page for a new contact: only of http, only whole, and with one number in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.crm.port import LinksNewContacts
from shared.errors import Rejected
from shared.phone import parse
from tests.contract.scripted_crm import connected

CALLER = parse("+442079460123", "GB")
TEMPLATE: dict[str, Any] = {
    "schema": 2,
    "name": "shop",
    "title": "Shop",
    "quality": "declared",
    "sources": ["this test"],
    "parameters": [
        {"name": "url", "title": "Address", "kind": "url", "https": False},
        {"name": "team", "title": "Team", "default": ""},
    ],
    "phone_formats": ["e164"],
    "search": [{"request": {"url": "{{.url}}/p?q={{.Phone}}"}}],
    "check": {"url": "{{.url}}/me"},
}


def template(**pages: str | None) -> dict[str, Any]:
    contacts = {name: {"new_page_url": page} if page else {} for name, page in pages.items()}
    return {**TEMPLATE, "contacts": contacts}


async def page_of(
    made_of: dict[str, Any],
    folder: Path,
    *modules: str,
    name: str | None = None,
    number: str = "+442079460123",
) -> str | None:
    async with connected(made_of, lambda _: {}, folder) as made:
        port: LinksNewContacts = made.connector
        page = await port.new_contact_page(parse(number, "GB"), name, modules)
        assert made.crm.asked == []
        return page.replace(made.crm.url, "https://crm") if page else None


@pytest.mark.parametrize(
    ("modules", "page"),
    [
        ((), "https://crm/people/new?tel=%2B442079460123"),
        (("Leads",), "https://crm/leads#new/%2B442079460123"),
        (("Firms", "Leads", "People"), "https://crm/leads#new/%2B442079460123"),
        (("Firms",), None),
    ],
)
async def test_the_first_type_that_has_a_page_is_taken(
    modules: tuple[str, ...], page: str | None, tmp_path: Path
) -> None:
    made_of = template(
        Firms=None,
        People="{{.url}}/people/new?tel={{.Number}}",
        Leads="{{.url}}/leads#new/{{.Phone}}",
    )
    assert await page_of(made_of, tmp_path, *modules) == page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (None, "first=&last=&whole="),
        ("Ann Mary Lee", "first=Ann%20Mary&last=Lee&whole=Ann%20Mary%20Lee"),
        ("Lee", "first=&last=Lee&whole=Lee"),
        (
            "x&last=y#/../?",
            "first=&last=x%26last%3Dy%23/../%3F&whole=x%26last%3Dy%23/../%3F",
        ),
        ("a\r\nb\u202e", "first=&last=a%0D%0Ab%E2%80%AE&whole=a%0D%0Ab%E2%80%AE"),
    ],
)
async def test_a_name_is_one_value_whatever_it_says(
    name: str | None, shown: str, tmp_path: Path
) -> None:
    made_of = template(
        People="{{.url}}/n?t={{.Number}}&first={{.FirstName}}&last={{.LastName}}"
        "&whole={{.DisplayName}}"
    )
    page = await page_of(made_of, tmp_path, name=name)
    assert page == f"https://crm/n?t=%2B442079460123&{shown}"


async def test_a_long_name_is_cut(tmp_path: Path) -> None:
    made_of = template(People="{{.url}}/n?t={{.Number}}&n={{.DisplayName}}")
    page = await page_of(made_of, tmp_path, name="n" * 5000)
    assert page is not None
    assert len(page) < 400


@pytest.mark.parametrize("number", ["", "anonymous", "Ann"])
async def test_there_is_none_for_a_caller_without_a_number(number: str, tmp_path: Path) -> None:
    assert await page_of(template(People="{{.url}}/{{.Number}}"), tmp_path, number=number) is None


@pytest.mark.parametrize(
    "page",
    [
        "javascript:alert({{.Number}})",
        "tel:{{.Number}}",
        "{{.Number}}",
        "//{{.Number}}",
        "https://user:secret@crm.example/{{.Number}}",
        "{{.url}}/{{.team}}/{{.Number}}",
        "https://{{.Number}}.example/",
    ],
)
async def test_there_is_none_where_it_would_lead_elsewhere(page: str, tmp_path: Path) -> None:
    assert await page_of(template(People=page), tmp_path) is None


async def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no contact type Others"):
        await page_of(template(People="{{.url}}/{{.Number}}"), tmp_path, "Others")
