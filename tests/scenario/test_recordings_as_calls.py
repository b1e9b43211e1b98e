"""Recorded traffic of a real Asterisk in, finished calls out, as tests/data/pbx/calls.md has them."""

from __future__ import annotations

import pytest

from tests.calltable import CallTable, calls_of
from tests.scenario.traffic_kit import DATA, asterisk

TABLE = CallTable(DATA / "calls.md")


@pytest.mark.parametrize("name", TABLE.names)
def test_a_recording_adds_up_to_its_rows(name: str) -> None:
    found = [TABLE.row(call, name) for call in calls_of(asterisk(name))]

    assert found == TABLE.rows_of(name)


@pytest.mark.parametrize("name", TABLE.without_call)
def test_a_recording_without_a_call_makes_none(name: str) -> None:
    assert calls_of(asterisk(name)) == []


def test_every_recording_is_in_the_table() -> None:
    names = [path.name.removesuffix(".ami.txt") for path in DATA.glob("*.ami.txt")]

    assert sorted(TABLE.names + TABLE.without_call) == sorted(names)
