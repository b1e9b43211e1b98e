"""An employee's status, as a notification of a UIS account says it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatus, AgentStatusChanged, Side
from shared.errors import ContractError
from shared.pbx.port import Phones, RawHook, Sighting
from shared.pbx.uis.notifications import UisHooks
from shared.pbx.uis.staff import StaffWords

PHONES = Phones(extensions=frozenset({"101", "102"}), users={"25": "101", "99": "not here"})
NOW = datetime(2026, 3, 4, 7, 15, 5, tzinfo=UTC)
SAID: dict[str, Any] = {
    "event": "status",
    "notification_time": "2026-03-04 10:15:04",
    "employee_id": 25,
    "employee_status": "do_not_disturb",
}


def read(said: dict[str, Any], *, by_flag: bool = False, **site: str) -> list[Sighting]:
    words = StaffWords(
        statuses={AgentStatus(name): word for name, word in site.items()}, by_flag=by_flag
    )
    hooks = UisHooks("acme", "uis", ZoneInfo("Europe/Moscow"), words)
    hook = RawHook(body=json.dumps(said).encode(), received_at=NOW)
    reading = hooks.read(hook, PHONES)
    assert reading.reports == ()
    return list(reading.sightings)


def told(said: dict[str, Any], **more: Any) -> tuple[AgentStatus, str | None] | None:
    found = [one.body for one in read(said, **more)]
    if not found:
        return None
    (body,) = found
    assert isinstance(body, AgentStatusChanged)
    return body.status, body.own


def test_a_change_is_the_agents_whose_employee_it_is_and_needs_no_call() -> None:
    (found,) = read(SAID)

    assert found.body == AgentStatusChanged(
        extension="101",
        status=AgentStatus.BUSY,
        source=Side.PBX,
        source_name="uis",
        own="do_not_disturb",
    )
    assert found.at == datetime(2026, 3, 4, 7, 15, 4, tzinfo=UTC)
    assert [one.key for one in read(SAID)] == [found.key]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("available", AgentStatus.FREE),
        ("do_not_disturb", AgentStatus.BUSY),
        ("break", AgentStatus.BREAK),
        ("not_at_workplace", AgentStatus.DINNER),
        ("not_at_work", AgentStatus.OFFLINE),
        ("Available", AgentStatus.FREE),
        ("Обучение", AgentStatus.BREAK),
    ],
)
def test_the_accounts_words_are_ours(word: str, status: AgentStatus) -> None:
    """A status that the account made itself is one in which nobody takes calls."""
    assert told(SAID | {"employee_status": word}) == (status, word)


def test_what_the_site_says_of_a_word_comes_first() -> None:
    assert told(SAID | {"employee_status": "break"}, dinner="break") == (
        AgentStatus.DINNER,
        "break",
    )
    training = SAID | {"employee_status": "Обучение"}
    assert told(training, busy="обучение") == (AgentStatus.BUSY, "Обучение")


@pytest.mark.parametrize("name", ["employee_status", "status", "status_mnemonic", "status_name"])
def test_the_status_has_one_of_several_names(name: str) -> None:
    said = {key: value for key, value in SAID.items() if key != "employee_status"}
    assert told(said | {name: "available"}) == (AgentStatus.FREE, "available")


@pytest.mark.parametrize("name", ["Employee status changed", "employee_status", "STATUS"])
def test_the_vendors_names_of_the_event_are_known(name: str) -> None:
    said = {key: value for key, value in SAID.items() if key != "event"}
    assert told(said | {"notification_name": name}) is not None


@pytest.mark.parametrize(
    ("said", "by_flag", "status"),
    [
        ({"calls_available": True}, True, AgentStatus.FREE),
        ({"calls_available": "false"}, True, AgentStatus.BUSY),
        ({"calls_available": False, "employee_status": None}, False, AgentStatus.BUSY),
        # What is set counts: here the flag, there the status.
        ({"calls_available": True, "employee_status": "break"}, True, AgentStatus.FREE),
        ({"calls_available": True, "employee_status": "break"}, False, AgentStatus.BREAK),
    ],
)
def test_the_older_flag_is_read(said: dict[str, Any], by_flag: bool, status: AgentStatus) -> None:
    found = told({**SAID, "employee_status": None, **said}, by_flag=by_flag)
    assert found is not None
    assert found[0] is status


@pytest.mark.parametrize(
    "said",
    [
        {"employee_status": "unknown"},
        {"employee_id": 26},
        {"employee_id": None},
        {"employee_id": 99},
        {"employee_id": "25; drop"},
    ],
)
def test_what_is_of_nobody_we_know_or_says_nothing_is_passed_over(said: dict[str, Any]) -> None:
    assert told(SAID | said) is None


def test_a_notification_without_a_status_says_what_to_write() -> None:
    with pytest.raises(ContractError, match='write "employee_status"'):
        told({**SAID, "employee_status": None})


@given(
    said=st.dictionaries(
        st.sampled_from(
            ["employee_status", "status", "calls_available", "employee_id", "extension"]
        ),
        st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    )
)
def test_no_notification_breaks_the_reader(said: dict[str, Any]) -> None:
    try:
        found = told(SAID | said)
    except ContractError:
        return
    assert found is None or found[1] is None or 0 < len(found[1]) <= 100
