"""Recorded traffic of a real Asterisk in, finished calls out, as tests/data/pbx/calls.md has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.pbx.asterisk.ami_wire import AmiParser
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Sighting
from tests.calltable import CallTable, calls_of

RECORDINGS = Path(__file__).parents[1] / "data" / "pbx"
TABLE = CallTable(RECORDINGS / "calls.md")


def replayed(name: str) -> list[Sighting]:
    tracker = CallTracker(
        tenant="acme", pbx="main", trunks=["trunk", "trunk2"], extensions=["101", "102", "103"]
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = []
    for message in AmiParser().feed((RECORDINGS / f"{name}.ami.txt").read_bytes()):
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        found += tracker.feed(message, now=now)
    found += tracker.tick(now + timedelta(seconds=1))
    assert tracker.live_calls == 0
    return found


@pytest.mark.parametrize("name", TABLE.names)
def test_a_recording_adds_up_to_its_rows(name: str) -> None:
    found = [TABLE.row(call, name) for call in calls_of(replayed(name))]

    assert found == TABLE.rows_of(name)


@pytest.mark.parametrize("name", TABLE.without_call)
def test_a_recording_without_a_call_makes_none(name: str) -> None:
    assert calls_of(replayed(name)) == []


def test_every_recording_is_in_the_table() -> None:
    names = [path.name.removesuffix(".ami.txt") for path in RECORDINGS.glob("*.ami.txt")]

    assert sorted(TABLE.names + TABLE.without_call) == sorted(names)
