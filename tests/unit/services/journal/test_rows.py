from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.journal.rows import compact, row_of, written_as
from shared.contracts.calls import CallRecord, EntryRecord, EntryState, LegRecord, Party
from shared.contracts.history import CallRow
from shared.contracts.routing import Destination, RouteDecision, RouteReason
from shared.testing.builders import NOON

NUMBER = "+447700900123"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("+44 (7700) 900-123", NUMBER),
        (" 07700.900/123", "07700900123"),
        ("101", "101"),
        ("anonymous", "anonymous"),
        ("sip:ann@acme.example", "sip:ann@acme.example"),
        ("+", "+"),
        ("()", "()"),
        ("٣٤٥", "٣٤٥"),
    ],
)
def test_a_number_loses_its_punctuation_and_nothing_else_does(
    text: str | None, found: str | None
) -> None:
    assert compact(text) == found


@pytest.mark.parametrize("spelt", [NUMBER, "07700 900123", "447700900123", "00447700900123"])
def test_a_number_may_be_written_in_these_ways(spelt: str) -> None:
    assert {NUMBER, "447700900123", "00447700900123", "07700900123", "7700900123"} <= set(
        written_as(spelt, "GB")
    )


def test_a_short_number_is_no_part_of_a_long_one() -> None:
    assert written_as("101", "GB") == ("101",)
    assert written_as("anonymous", "GB") == ("anonymous",)
    assert "20123456" not in written_as("+4520123457", "DK")


@given(st.text(max_size=30))
def test_whatever_is_asked_for_is_found_as_it_was_written(text: str) -> None:
    written = compact(text)
    assert written is None or written in written_as(text, "GB")


def test_the_row_of_a_call_that_nobody_saw_begin() -> None:
    row = row_of(CallRecord(call_id="c1"), started_at=NOON)
    assert row == CallRow(call_id="c1", started_at=NOON)


def test_a_nul_hides_nothing_behind_it() -> None:
    caller = Party(name="Jane\0Doe", number="1\0", extension="10\x001")
    row = row_of(CallRecord(call_id="c1", caller=caller), started_at=NOON)
    assert (row.caller_name, row.caller, row.extensions) == (
        "Jane\ufffdDoe",
        "1\ufffd",
        ("10\ufffd1",),
    )


def test_who_picked_up_and_where_it_was_sent() -> None:
    own, rung, outside = (
        LegRecord(leg_id="1", callee=Party(extension="101"), own_phone=True, answered_at=NOON),
        LegRecord(leg_id="2", callee=Party(extension="102"), rang_at=NOON),
        LegRecord(leg_id="3", callee=Party(number="+44 7700 900123"), answered_at=NOON),
    )
    record = CallRecord(
        call_id="c1",
        caller=Party(extension="101", number="101"),
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=90),
        legs=(own, rung, outside, own),
        route=RouteDecision(
            destination=Destination.parse("queue:help"),
            reason=RouteReason.ROW_MATCHED,
            rule="main",
        ),
        entries=(
            EntryRecord(connection="zoho", agent="101", state=EntryState.DEAD),
            EntryRecord(connection="zoho", agent="102", state=EntryState.DEAD),
        ),
    )
    row = row_of(record, started_at=NOON)
    assert (row.extensions, row.agents, row.answered_by) == (
        ("101", "102"),
        ("101", "102"),
        (NUMBER,),
    )
    assert (row.rule, row.destination, row.route_reason) == ("main", "queue:help", "row_matched")
    assert (row.duration_s, row.entries) == (90, ("zoho:dead",))
