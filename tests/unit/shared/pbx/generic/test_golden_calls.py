"""Sample hooks in, finished calls out, as tests/data/pbx/generic/calls.md has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.ids import call_id
from shared.pbx.generic.adapter import GenericSettings, generic_adapter
from shared.pbx.port import Phones, RawHook, Sighting
from tests.calltable import CallTable, call_of

SAMPLES = Path(__file__).parents[4] / "data" / "pbx" / "generic"
TABLE = CallTable(SAMPLES / "calls.md", phone=lambda party: party.extension or f"({party.number})")
WITHOUT_CALL = {"agent_status"}
CAME = datetime(2026, 11, 21, 10, 1, tzinfo=UTC)
PHONES = Phones(extensions=frozenset({"101", "102", "103"}))


def read(name: str) -> list[Sighting]:
    hooks = generic_adapter(GenericSettings(), tenant="acme", pbx="door").hooks
    assert hooks is not None
    hook = RawHook(body=(SAMPLES / f"{name}.json").read_bytes(), received_at=CAME)
    return list(hooks.read(hook, PHONES).sightings)


@pytest.mark.parametrize("name", TABLE.names)
def test_a_sample_adds_up_to_its_row(name: str) -> None:
    assert [TABLE.row(call_of(read(name)), name)] == TABLE.rows_of(name)


def test_every_sample_is_in_the_table() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == {*TABLE.names} | WITHOUT_CALL


@pytest.mark.parametrize("name", TABLE.names)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_neither_order_nor_repeats_change_a_call(name: str, data: st.DataObject) -> None:
    sightings = read(name)
    doubled = data.draw(st.permutations([*sightings, *read(name)]))

    assert call_of(doubled) == call_of(sightings)


def test_a_record_adds_nothing_to_live_events_of_the_same_moments() -> None:
    """But its own word on the end, and of two ends the seen one holds."""
    both = read("live_and_record")
    keys = [(type(one.body), one.key) for one in both]
    repeated = {key for key in keys if keys.count(key) > 1}
    again = {type(one.body).__name__ for one in both if (type(one.body), one.key) in repeated}

    assert again == {"CallStarted", "CallRinging", "CallAnswered", "LegEnded"}
    assert len(both) - len(set(keys)) == 6
    assert {one.body for one in both if type(one.body).__name__ == "CallStarted"} == {
        both[3].body,
    }


def test_a_wrong_clock_keeps_lengths_and_ends_now() -> None:
    record = call_of(read("clock_of_1970"))

    assert record.ended_at == CAME
    assert record.started_at == CAME - timedelta(seconds=12)


def test_a_call_has_the_order_and_the_recording_that_were_told() -> None:
    assert call_of(read("click_to_call")).dial_id == "order-7"
    assert call_of(read("inbound_answered")).recordings == ("https://pbx.example/rec/g-1.wav",)
    assert call_of(read("inbound_queue")).queue == "support"
    assert call_of(read("inbound_answered")).call_id == call_id("acme", "door", "g-1")


def test_what_an_agent_does_is_no_call() -> None:
    (found,) = read("agent_status")

    assert found.body == AgentStatusChanged(
        extension="101", status=AgentStatus.BREAK, source_name="door"
    )
