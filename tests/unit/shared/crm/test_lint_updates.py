"""A change of an entry that cannot work, or would do more than change it, is said with its place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.shared.crm.test_lint import SHOP, changed

JOURNAL = yaml.safe_load(SHOP.read_text())["journal"]
UPDATE = {"method": "PUT", "url": "{{.url}}/calls/{{.EntryId}}", "json": {"text": "{{.Subject}}"}}


def with_update(update: dict[str, Any], **journal: Any) -> list[str]:
    return changed(journal={**JOURNAL, **journal, "update": update})


def test_a_good_one_has_no_findings() -> None:
    assert with_update(UPDATE) == []


@pytest.mark.parametrize(
    ("update", "finding"),
    [
        ({**UPDATE, "url": "{{.url}}/calls"}, "error journal.update"),
        ({**UPDATE, "url": "http://crm.example/{{.EntryId}}"}, "warning journal.update.url"),
        (
            {"method": "PUT", "url": "{{.url}}/{{.EntryId}}", "body": "x", "record": ""},
            "error journal.update.record",
        ),
        (
            {**UPDATE, "after": [{"request": {"url": "http://crm.example/link"}}]},
            "warning journal.update.after.0.request.url",
        ),
    ],
)
def test_what_cannot_work_is_found(update: dict[str, Any], finding: str) -> None:
    assert finding in with_update(update)


def test_the_id_may_be_looked_up_before_it() -> None:
    before = [
        {
            "request": {"when": "{{.EntryId}}", "url": "{{.url}}/logs/{{.EntryId}}"},
            "take": {"log": "id"},
        }
    ]
    update = {**UPDATE, "url": "{{.url}}/calls/{{.log}}"}
    assert with_update(update, before=before) == []


def test_what_was_made_before_the_entry_must_not_be_made_again() -> None:
    made = {"request": {"method": "POST", "url": "{{.url}}/rings"}, "take": {"ring": "id"}}
    assert "warning journal.before.0.request" in with_update(UPDATE, before=[made])
    only_once = {"method": "POST", "url": "{{.url}}/rings", "when": "{{if not .EntryId}}1{{end}}"}
    assert with_update(UPDATE, before=[{**made, "request": only_once}]) == []
