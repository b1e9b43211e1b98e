"""What is allowed in a template and cannot work is said, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.crm.form.manifest import Manifest
from shared.crm.lint import lint

SHOP = Path(__file__).parents[3] / "data" / "templates" / "own" / "corner-shop.yaml"


def changed(**parts: Any) -> list[str]:
    shape = {**yaml.safe_load(SHOP.read_text()), **parts}
    return [
        f"{finding.level} {'.'.join(map(str, finding.path))}"
        for finding in lint(Manifest.model_validate(shape))
    ]


def person(**more: Any) -> dict[str, Any]:
    return {"People": {"phone_fields": ["phone"], "map": {"display_name": "name"}, **more}}


def request(**query: str) -> dict[str, Any]:
    return {"url": "{{.url}}/people", "query": query}


def test_a_good_template_has_no_findings() -> None:
    assert changed() == []


@pytest.mark.parametrize(
    ("parts", "finding"),
    [
        ({"search": [{"request": request(page="1")}]}, "error search.0.request"),
        ({"search": [{"request": request(q="{{.Phone}}"), "test": "x"}]}, "error search.0.test"),
        (
            {"search": [{"request": request(q="name eq '{{.Phone}}'")}]},
            "warning search.0.request.query.q",
        ),
        ({"contacts": person(phone_fields=[])}, "error contacts.People"),
        ({"contacts": person(page_url=None)}, "warning contacts.People"),
        (
            {
                "users": {
                    "request": request(),
                    "first_name": "n",
                    "email": "e",
                    "pages": {"kind": "page"},
                }
            },
            "error users.pages",
        ),
        ({"users": {"request": request(), "first_name": "n"}}, "warning users"),
        (
            {"users": {"request": request(p="{{.Page}}"), "first_name": "n", "email": "e"}},
            "error users",
        ),
        ({"credentials": [{"name": "unused", "title": "x"}], "auth": {}}, "warning credentials.0"),
        ({"check": {"url": "http://crm.example/me"}}, "warning check.url"),
        (
            {
                "check": {
                    "url": "{{.url}}",
                    "headers": {"X-Key": "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"},
                }
            },
            "error check.headers.X-Key",
        ),
        ({"headers": {"X-Key": "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"}}, "error headers.X-Key"),
        (
            {"follow_ups": [{"after": "auth", "request": {"url": "http://crm.example"}}]},
            "warning follow_ups.0.request.url",
        ),
        (
            {
                "search": [
                    {
                        "request": request(phone="{{.Phone}}"),
                        "then": [{"request": request(q="name eq '{{.Phone}}'")}],
                    }
                ]
            },
            "warning search.0.then.0.request.query.q",
        ),
    ],
)
def test_what_cannot_work_is_found(parts: dict[str, Any], finding: str) -> None:
    assert finding in changed(**parts)


def test_an_entry_without_the_reference_of_its_call_is_found() -> None:
    journal = {
        "subject": "a call",
        "create": {"method": "POST", "url": "{{.url}}/calls", "json": {"text": "{{.Subject}}"}},
        "entry_id": "id",
        "find": {"request": {"url": "{{.url}}/calls"}, "entry_id": "calls.0.id"},
    }
    assert {"error journal", "error journal.find"} <= set(changed(journal=journal))


def test_links_that_no_body_takes_are_found() -> None:
    journal = yaml.safe_load(SHOP.read_text())["journal"]
    create = {"method": "POST", "url": "{{.url}}/calls", "body": "{{.Subject}}"}
    assert "error contacts.People.journal" in changed(journal={**journal, "create": create})


def test_a_header_of_one_long_word_is_no_key() -> None:
    assert changed(headers={"X-Long": "a" * 60_000}) == []
