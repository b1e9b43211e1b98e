from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.wheres import as_test
from shared.contracts.history import COLUMNS
from shared.errors import ContractError


@pytest.mark.parametrize(
    ("text", "field", "operator", "value"),
    [
        ("talk_s > 60", "talk_s", ">", 60),
        ("talk_s>=1.5", "talk_s", ">=", 1.5),
        ("talk_s != -1", "talk_s", "!=", -1),
        ("disposition = missed", "disposition", "=", "missed"),
        ("disposition in missed, busy", "disposition", "in", ["missed", "busy"]),
        ("summary like a quote", "summary", "like", "a quote"),
        ("queue = '  two words '", "queue", "=", "  two words "),
        ('queue = "in"', "queue", "=", "in"),
        ("queue = like it", "queue", "=", "like it"),
        ("number starts_with +44", "number", "starts_with", "+44"),
        ("entries has zoho:dead", "entries", "has", ["zoho:dead"]),
        ("ended_at is_null", "ended_at", "is_null", True),
        ("ended_at is_null no", "ended_at", "is_null", False),
        ("contact_known = false", "contact_known", "=", False),
        ("started_at >= 2026-11-21T00:00:00Z", "started_at", ">=", "2026-11-21T00:00:00Z"),
        ("call_id not_in a,b", "call_id", "not_in", ["a", "b"]),
    ],
)
def test_a_test_is_read_as_it_is_typed(text: str, field: str, operator: str, value: Any) -> None:
    found = as_test(text)
    assert (found.field, found.operator, found.value) == (field, operator, value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "say a field, an operator and a value, as in 'talk_s > 60'; operators are =, !="),
        ("talk_s", "say a field"),
        ("talk_s ~ 6", "say a field"),
        ("talk > 60", "there is no field `talk` \\(did you mean `talk_s`\\?\\)"),
        ("talk_s > a minute", "`talk_s` is a number"),
        ("talk_s > ", "`talk_s` is a number"),
        ("talk_s like 6", "takes no `like`"),
        ("disposition = mised", "did you mean `missed`"),
        ("started_at > yesterday", "a time with a zone"),
        ("ended_at is_null perhaps", "takes true or false"),
    ],
)
def test_a_test_that_is_none_is_refused_with_what_to_change(text: str, fault: str) -> None:
    with pytest.raises(ContractError, match=fault) as refused:
        as_test(text)
    assert refused.value.message.startswith(f"--where {text}: ")


@given(st.sampled_from(list(COLUMNS.by_name)), st.text(max_size=20))
def test_whatever_is_typed_is_read_or_refused(field: str, rest: str) -> None:
    try:
        assert as_test(f"{field} {rest}").field == field
    except ContractError:
        return
