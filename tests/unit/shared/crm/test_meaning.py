"""What an answer means: its status, what its body says, how long it wants to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.crm.form.access import Limits
from shared.crm.form.answers import Meaning, Outcome
from shared.crm.meaning import meaning, wait_of, words
from shared.net.client import Answer

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def answer(status: int, **headers: str) -> Answer:
    return Answer(status, headers, b"")


def outcome(*rules: dict[str, Any]) -> Outcome:
    return Outcome.model_validate({"rules": list(rules)})


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, Meaning.SUCCESS),
        (204, Meaning.NOTHING),
        (302, Meaning.REJECTED),
        (400, Meaning.REJECTED),
        (401, Meaning.CREDENTIALS),
        (403, Meaning.REJECTED),
        (404, Meaning.NOTHING),
        (408, Meaning.UNAVAILABLE),
        (429, Meaning.SLOW_DOWN),
        (503, Meaning.UNAVAILABLE),
    ],
)
def test_without_rules_the_status_says_it(status: int, means: Meaning) -> None:
    assert meaning(Outcome(), answer(status), None, searching=True) is means


def test_a_page_that_is_not_there_is_nobody_for_a_search_only() -> None:
    assert meaning(Outcome(), answer(404), None, searching=False) is Meaning.REJECTED


def test_an_error_with_status_200_is_an_error() -> None:
    rules = outcome({"path": "success", "equals": [False], "means": "rejected"})
    assert meaning(rules, answer(200), {"success": False}, searching=True) is Meaning.REJECTED
    assert meaning(rules, answer(200), {"success": True}, searching=True) is Meaning.SUCCESS
    assert meaning(rules, answer(200), {}, searching=True) is Meaning.SUCCESS


def test_the_first_rule_that_holds_decides() -> None:
    rules = outcome(
        {"status": [403], "path": "0.errorCode", "like": ["*limit*"], "means": "slow_down"},
        {"status": [403], "means": "forbidden"},
    )
    limit = [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    assert meaning(rules, answer(403), limit, searching=False) is Meaning.SLOW_DOWN
    assert meaning(rules, answer(403), [], searching=False) is Meaning.FORBIDDEN


def test_a_rule_with_a_path_alone_holds_where_something_is() -> None:
    rules = outcome({"path": "errors", "means": "unavailable"})
    assert meaning(rules, answer(200), {"errors": []}, searching=False) is Meaning.SUCCESS
    assert meaning(rules, answer(200), {"errors": ["x"]}, searching=False) is Meaning.UNAVAILABLE


@pytest.mark.parametrize(
    ("headers", "value", "wait"),
    [
        ({"retry-after": "7"}, None, timedelta(seconds=7)),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:00 GMT"}, None, timedelta(minutes=1)),
        ({"retry-after": "99999999999999999999"}, None, None),
        ({"retry-after": "999999"}, None, timedelta(hours=1)),
        ({"retry-after": "soon"}, None, None),
        ({"x-reset": "1795262430"}, None, timedelta(seconds=30)),
        ({}, {"error": {"wait": 1500}}, timedelta(seconds=1.5)),
        ({}, {"error": {"wait": "a while"}}, None),
        ({}, {"error": {"wait": -5}}, timedelta(0)),
    ],
)
def test_a_wait_is_read_where_it_is_and_within_reason(
    headers: dict[str, str], value: Any, wait: timedelta | None
) -> None:
    limits = Limits.model_validate(
        {
            "waits": [
                {"header": "X-Reset", "unit": "unix"},
                {"path": "error.wait", "unit": "milliseconds"},
            ]
        }
    )
    assert wait_of(limits, answer(429, **headers), value, NOW) == wait


def test_the_words_of_a_crm_are_shown_and_not_its_body() -> None:
    value = {"code": "BAD", "message": "no\nsuch field", "debug": "Traceback: password=1"}
    assert words(Outcome(), answer(400), value) == "the CRM answered 400 BAD no such field"
    assert len(words(Outcome(), answer(400), {"message": "x" * 9999})) < 400
