"""Recorded traffic of a real Asterisk in, finished calls out, as tests/data/pbx/calls.md has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.journal.domain import Seen, fold
from shared.contracts.calls import CallRecord, LegRecord
from shared.pbx.asterisk.ami_wire import AmiParser
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Sighting

RECORDINGS = Path(__file__).parents[1] / "data" / "pbx"
_TEXT = (RECORDINGS / "calls.md").read_text()
_ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in _TEXT.splitlines()
    if line.startswith("| ")
]
COLUMNS, *CALLS = _ROWS
WITH_CALLS = sorted({row[0] for row in CALLS})
WITHOUT_CALL = re.findall(
    r"^- `(\w+)`:", _TEXT.partition("Recordings without a call:")[2], re.MULTILINE
)


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


def calls_of(name: str) -> list[CallRecord]:
    events: dict[str, list[Seen]] = {}
    for found in replayed(name):
        seen = Seen(found.key, found.at, found.body)
        events.setdefault(found.body.call_id, []).append(seen)
    return [fold(call_id, of_call) for call_id, of_call in events.items()]


def as_row(name: str, record: CallRecord) -> list[str]:
    legs = record.legs
    return [
        name,
        str(record.direction),
        record.caller.label if record.caller else "-",
        record.dialled or "-",
        str(record.disposition),
        _list(_label(leg) for leg in legs if leg.rang_at),
        _list(_label(leg) for leg in legs if leg.answered_at),
        _list(f"{_label(leg)} {leg.outcome}" for leg in legs),
        _list(f"{t.kind} {t.by.label} to {t.to.label}" for t in record.transfers),
        _seconds(record.wait_time),
        _seconds(record.hold_time),
        _seconds(record.talk_time),
        record.hangup_by or "-",
    ]


def _label(leg: LegRecord) -> str:
    return f"{leg.callee.label} (own)" if leg.own_phone else leg.callee.label


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "-"


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.1f}"


@pytest.mark.parametrize("name", WITH_CALLS)
def test_a_recording_adds_up_to_its_rows(name: str) -> None:
    found = [dict(zip(COLUMNS, as_row(name, call), strict=True)) for call in calls_of(name)]

    assert found == [dict(zip(COLUMNS, row, strict=True)) for row in CALLS if row[0] == name]


@pytest.mark.parametrize("name", WITHOUT_CALL)
def test_a_recording_without_a_call_makes_none(name: str) -> None:
    assert calls_of(name) == []


def test_every_recording_is_in_the_table() -> None:
    names = [path.name.removesuffix(".ami.txt") for path in RECORDINGS.glob("*.ami.txt")]

    assert sorted(WITH_CALLS + WITHOUT_CALL) == sorted(names)
