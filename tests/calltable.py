"""Calls as rows of Markdown tables that a support engineer can read; most are in tests/data/pbx."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from services.journal.domain import Seen, fold
from shared.contracts.calls import CallEvent, CallRecord, LegRecord, Party
from shared.pbx.port import Sighting

Row = dict[str, str]


def cells_in(page: Path) -> list[list[str]]:
    """Of the one table of *page*, line by line; the first is the headings."""
    lines = page.read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in lines
        if line.startswith("| ")
    ]


def calls_of(sightings: Iterable[Sighting]) -> list[CallRecord]:
    """As the mesh does: what comes again under a key is dropped."""
    events: dict[str, dict[str, Seen]] = {}
    for found in sightings:
        if isinstance(found.body, CallEvent):
            seen = Seen(f"{found.body.wire_name()} {found.key}", found.at, found.body)
            events.setdefault(found.body.call_id, {}).setdefault(seen.id, seen)
    return [fold(call_id, of_call.values()) for call_id, of_call in events.items()]


def call_of(sightings: Iterable[Sighting]) -> CallRecord:
    """The call of which all of them are."""
    found = list(sightings)
    assert all(isinstance(one.body, CallEvent) for one in found)
    (call,) = calls_of(found)
    return call


def label(party: Party) -> str:
    return party.label


class CallTable:
    """
    The first column has the names of samples, the one after it may say how they were read; the
    others are of calls, in any order. *phone* is how whoever rang is written.
    """

    def __init__(self, page: Path, *, phone: Callable[[Party], str] = label) -> None:
        self._columns, *rows = cells_in(page)
        self._phone = phone
        self.rows: list[Row] = [dict(zip(self._columns, row, strict=True)) for row in rows]
        self.names = sorted({row[0] for row in rows})
        #: The names in the list below the table.
        self.without_call = re.findall(
            r"^- `(\w+)`:", page.read_text().partition(" without a call:")[2], re.MULTILINE
        )

    def rows_of(self, *given: str) -> list[Row]:
        """*given*: what the first columns say."""
        return [row for row in self.rows if tuple(row.values())[: len(given)] == given]

    def row(self, call: CallRecord, *given: str) -> Row:
        shown = self._shown(call)
        said = dict(zip(self._columns, given, strict=False))
        return said | {column: shown[column] for column in self._columns[len(given) :]}

    def _shown(self, call: CallRecord) -> Row:
        end = str(call.end_known or "-")
        return {
            "direction": str(call.direction or "-"),
            "caller": call.caller.label if call.caller else "-",
            "dialled": call.dialled or "-",
            "disposition": str(call.disposition or "-"),
            "rang": _list(self._leg(leg) for leg in call.legs if leg.rang_at),
            "answered": _list(self._leg(leg) for leg in call.legs if leg.answered_at),
            "legs": _list(f"{self._leg(leg)} {leg.outcome}" for leg in call.legs if leg.outcome),
            "transfers": _list(f"{t.kind} {t.by.label} to {t.to.label}" for t in call.transfers),
            "queue": call.queue or "-",
            "wait": _seconds(call.wait_time),
            "hold": _seconds(call.hold_time),
            "talk": _seconds(call.talk_time),
            "hung up by": call.hangup_by or "-",
            "end": end,
            "end known": end,
            "known": end,
            "order": call.dial_id or "-",
            "recording": _list(call.recordings),
            "recordings": _list(call.recordings),
            "rec": str(len(call.recordings)),
        }

    def _leg(self, leg: LegRecord) -> str:
        phone = self._phone(leg.callee)
        return f"{phone} (own)" if leg.own_phone else phone


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "-"


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.1f}"
