"""A batch of entries that cannot work is said when the template is read, with its place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.unit.shared.crm.test_lint import SHOP, changed

JOURNAL: dict[str, Any] = yaml.safe_load(SHOP.read_text())["journal"]
CREATE: dict[str, Any] = {
    "method": "POST",
    "url": "{{.url}}/calls",
    "json": {"calls": [{"text": "{{.Subject}}", "at": "{{.StartedAt | unix}}"}]},
}
ANSWERS = {"at_most": 10, "list": "calls", "answers": "done"}
COUNTS = {"at_most": 10, "list": "calls", "taken": ["count"]}


def of(**parts: Any) -> list[str]:
    journal = {
        **JOURNAL,
        "create": CREATE,
        "record": "calls.0",
        "entry_id": "done.0.id",
        "batch": ANSWERS,
        **parts,
    }
    return changed(journal=journal)


def counted(**parts: Any) -> list[str]:
    return of(**{"batch": COUNTS, "entry_id": "-", "idempotent": True, **parts})


def test_good_ones_have_no_findings() -> None:
    assert of() == []
    assert counted() == []


def test_a_list_may_be_the_whole_body_and_the_whole_answer() -> None:
    create = {**CREATE, "json": CREATE["json"]["calls"]}
    batch = {"at_most": 10, "list": "", "answers": ""}
    assert of(create=create, record="0", batch=batch, entry_id="0.id") == []


def test_the_rest_of_a_request_may_use_what_all_calls_share() -> None:
    assert of(create={**CREATE, "headers": {"X-Zone": "{{.Zone}}"}}) == []


@pytest.mark.parametrize(
    ("parts", "finding"),
    [
        ({"batch": {**ANSWERS, "list": "data"}}, "error journal.batch.list"),
        ({"batch": {**ANSWERS, "list": "calls.0.text"}}, "error journal.batch.list"),
        (
            {"create": {**CREATE, "json": {"calls": [{"text": "{{.Subject}}"}, {"is": "last"}]}}},
            "error journal.batch.list",
        ),
        ({"record": ""}, "error journal.record"),
        ({"entry_id": "id"}, "error journal.entry_id"),
        ({"accepted": "status"}, "error journal.accepted"),
        ({"take": {"link": "link"}}, "error journal.take.link"),
        (
            {"create": {**CREATE, "url": "{{.url}}/agents/{{.Agent}}/calls"}},
            "error journal.create.url",
        ),
        (
            {"create": {**CREATE, "headers": {"X-Call": "{{.Reference}}"}}},
            "error journal.create.headers.X-Call",
        ),
        (
            {"create": {**CREATE, "json": {**CREATE["json"], "who": "{{.Owner}}"}}},
            "error journal.create.json.who",
        ),
        (
            {
                "before": [{"request": {"url": "{{.url}}/x"}, "take": {"made": "id"}}],
                "create": {**CREATE, "query": {"of": "{{.made}}"}},
            },
            "error journal.create.query.of",
        ),
    ],
)
def test_what_cannot_work_is_found(parts: dict[str, Any], finding: str) -> None:
    assert finding in of(**parts)


@pytest.mark.parametrize(
    ("parts", "finding"),
    [
        ({"entry_id": "id"}, "error journal.entry_id"),
        ({"take": {"link": "link"}}, "error journal.take.link"),
    ],
)
def test_counts_have_nothing_to_read_of_one_call(parts: dict[str, Any], finding: str) -> None:
    assert finding in counted(**parts)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"batch": {"at_most": 10, "answers": "done"}}, "list"),
        ({"batch": {**ANSWERS, "at_most": 0}}, "at_most"),
        ({"batch": {**ANSWERS, "at_most": 1001}}, "at_most"),
        ({"batch": {**ANSWERS, "list": "calls.#.x"}}, "list"),
        ({"batch": {"at_most": 10, "list": "calls"}}, "how is the answer read"),
        ({"batch": {**ANSWERS, "taken": ["count"]}}, "how is the answer read"),
        ({"batch": COUNTS}, "only for what is `idempotent`"),
        (
            {"create": {"method": "POST", "url": "{{.url}}", "multipart": {"a": "{{.Subject}}"}}},
            "joins lists of a `json`",
        ),
        (
            {"create": {"url": "{{.url}}", "query": {"a": "{{.Subject}}"}}},
            "joins lists of a `json`",
        ),
    ],
)
def test_what_is_no_batch_is_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        of(**parts)
