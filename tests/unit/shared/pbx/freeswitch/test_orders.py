"""Orders as FreeSWITCH takes them, and what its refusals mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatus
from shared.contracts.calls import Disposition, LegOutcome
from shared.contracts.dialing import DialReason
from shared.errors import ContractError, Rejected
from shared.pbx.freeswitch.causes import disposition_of, outcome_of, q850, refusal_of
from shared.pbx.freeswitch.orders import (
    agent_status,
    assignments,
    channels_of,
    originate,
    status_word,
    words_of,
)
from shared.pbx.port import AgentAt, DialRequest

ORDER = DialRequest(
    reference="click-0001",
    extension="101",
    number="+447700900777",
    ring_for=timedelta(seconds=15),
)


def test_a_click_rings_the_agent_and_then_sends_him_to_the_number() -> None:
    assert originate(ORDER, channel="c-1", domain=None, context="default") == (
        "originate {origination_uuid=c-1,origination_caller_id_number=+447700900777,"
        "origination_caller_id_name='Call +447700900777',originate_timeout=15,"
        "ignore_early_media=true,crm_click_id=click-0001,crm_number=+447700900777}"
        "user/101 +447700900777 XML default"
    )


def test_the_number_that_the_customer_shall_see_is_that_of_the_line_outside() -> None:
    """The agent's phone shows the customer's."""
    line = originate(
        replace(ORDER, caller_id="+442079460123"), channel="c", domain=None, context="default"
    )

    assert ",effective_caller_id_number=+442079460123,effective_caller_id_name=+44" in line
    assert "origination_caller_id_number=+447700900777," in line


@pytest.mark.parametrize(
    "listed", [{}, {"rows": None}, {"rows": [None, 1, {}, {"uuid": 1, "call_uuid": "a"}]}]
)
def test_a_list_of_channels_that_says_nothing_leaves_the_agents_own(
    listed: dict[str, object],
) -> None:
    assert channels_of(listed, "a") == ["a"]


def test_the_domain_of_the_phones_is_named_where_it_is_not_the_default() -> None:
    line = originate(ORDER, channel="c-1", domain="pbx.example", context="internal")

    assert line.endswith("}user/101@pbx.example +447700900777 XML internal")


@given(text=st.text(max_size=40).filter(lambda text: not set(text) & set("\r\n\x00")))
def test_no_value_ends_the_braces_or_begins_another_variable(text: str) -> None:
    line = assignments({"a": text, "b": "1"})

    assert line.startswith("a=")
    assert line.endswith(",b=1")
    inside = line.removeprefix("a=").removesuffix(",b=1")
    assert not set(inside.removeprefix("'").removesuffix("'")) & set("{}[]<>,'\"$\\`|^")
    assert " " not in inside or (inside[0] == inside[-1] == "'")


def test_a_line_break_in_a_value_is_refused() -> None:
    with pytest.raises(ContractError):
        assignments({"a": "x\nexit"})


@pytest.mark.parametrize(
    "extension", ["", "1 2", "101,user/900", "101}", "1&hupall()", "$a", "1\n"]
)
def test_an_extension_that_is_more_than_a_word_is_refused(extension: str) -> None:
    order = DialRequest(
        reference="r", extension=extension, number="100", ring_for=timedelta(seconds=1)
    )

    with pytest.raises(ContractError):
        originate(order, channel="c", domain=None, context="default")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (AgentStatus.FREE, "Available"),
        (AgentStatus.BREAK, "On Break"),
        (AgentStatus.DINNER, "On Break"),
        (AgentStatus.OFFLINE, "Logged Out"),
    ],
)
def test_a_status_is_said_in_the_words_of_mod_callcenter(status: AgentStatus, said: str) -> None:
    known = status_word(words_of(None), status, None)
    line = agent_status(AgentAt("101"), known, queue_domain="default")
    assert line == f"callcenter_config agent set status 101@default '{said}'"


def test_an_agent_with_a_name_of_the_pbxs_own_is_called_by_it() -> None:
    line = agent_status(AgentAt("101", "anna@sales"), "Available", queue_domain="default")
    assert line == "callcenter_config agent set status anna@sales 'Available'"


def test_a_status_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(Rejected, match="no status for busy"):
        status_word(words_of(None), AgentStatus.BUSY, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("-ERR NO_ANSWER", DialReason.AGENT_NO_ANSWER),
        ("-ERR CALL_REJECTED", DialReason.AGENT_NO_ANSWER),
        ("-ERR ORIGINATOR_CANCEL", DialReason.AGENT_NO_ANSWER),
        ("-ERR USER_NOT_REGISTERED", DialReason.AGENT_UNREACHABLE),
        ("-ERR SUBSCRIBER_ABSENT", DialReason.AGENT_UNREACHABLE),
        ("-ERR USER_BUSY", DialReason.AGENT_UNREACHABLE),
        ("-USAGE: <call url> …", DialReason.PBX_REFUSED),
        ("", DialReason.PBX_REFUSED),
    ],
)
def test_a_failed_order_says_why(answer: str, reason: DialReason) -> None:
    assert refusal_of(answer) is reason


@pytest.mark.parametrize(
    ("cause", "outcome", "number"),
    [
        ("LOSE_RACE", LegOutcome.ELSEWHERE, None),
        ("PICKED_OFF", LegOutcome.ELSEWHERE, None),
        ("ORIGINATOR_CANCEL", LegOutcome.CANCELLED, None),
        ("USER_BUSY", LegOutcome.BUSY, 17),
        ("CALL_REJECTED", LegOutcome.BUSY, 21),
        ("NO_ANSWER", LegOutcome.NO_ANSWER, 19),
        ("UNALLOCATED_NUMBER", LegOutcome.UNREACHABLE, 1),
        ("USER_NOT_REGISTERED", LegOutcome.UNREACHABLE, None),
        ("NORMAL_CLEARING", LegOutcome.NO_ANSWER, 16),
        ("SOMETHING_NEW", LegOutcome.NO_ANSWER, None),
    ],
)
def test_causes_by_name(cause: str, outcome: LegOutcome, number: int | None) -> None:
    assert (outcome_of(cause), q850(cause)) == (outcome, number)


@pytest.mark.parametrize(
    ("cause", "disposition"),
    [
        ("USER_BUSY", Disposition.BUSY),
        ("NO_ANSWER", Disposition.MISSED),
        ("ORIGINATOR_CANCEL", Disposition.MISSED),
        ("UNALLOCATED_NUMBER", Disposition.FAILED),
        ("NORMAL_CLEARING", None),
        ("SUCCESS", None),
        ("", None),
    ],
)
def test_what_a_call_came_to_by_the_last_cause(cause: str, disposition: Disposition | None) -> None:
    assert disposition_of(cause) is disposition
