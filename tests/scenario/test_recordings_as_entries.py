"""Recorded traffic of PBXs in, entries of a CRM out, as tests/data/pbx/entries.md has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from services.journal.entries import EntryDocument
from shared.clock import ManualClock
from shared.contracts.calls import EntryState
from shared.contracts.envelope import wrap
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.people import RECORDS, USERS
from shared.sandbox.site import CRM, TENANT
from shared.site.journal import EntryPer, JournalPolicy, Misses
from shared.site.models import Agent
from tests.calltable import Row, cells_in
from tests.contract.journal_kit import SECOND, Journal, a_journal
from tests.scenario.traffic_kit import DATA, Recording, recordings

RECORDINGS = {(one.kind, one.name): one for one in recordings()}
PAGE = DATA / "entries.md"
_ADDRESS = "https://pbx.example/?{{.Recording}}"
POLICIES = {
    CRM: JournalPolicy(after=SECOND, recording=_ADDRESS),
    f"{CRM}2": JournalPolicy(
        after=SECOND, recording=_ADDRESS, per=EntryPer.AGENT, misses=Misses.ALL
    ),
}
COLUMNS, *_LINES = cells_in(PAGE)
ROWS: list[Row] = [dict(zip(COLUMNS, line, strict=True)) for line in _LINES]
Rows = dict[tuple[str, str], list[Row]]

_NAMES = {
    record["id"]: record.get("Full_Name", record.get("Account_Name"))
    for records in (*RECORDS.values(), USERS)
    for record in (
        {**one, "Full_Name": one.get("Full_Name", one.get("full_name"))} for one in records
    )
}
_SUBJECT = re.compile(r"(?:Inbound|Outbound|Missed) call (?:(?P<number>\S+) )?[0-9a-f]{10}")
_DESCRIPTION = re.compile(r"(?:No agent|Agent (?P<agent>\S+))(?:.(?!- recording))*(?P<play>.*)")


@pytest.fixture(scope="module")
def journaled() -> Rows:
    """What all recordings have become, by PBX and name."""
    return asyncio.run(_journaled())


async def _journaled() -> Rows:
    clock = ManualClock()
    crms = {name: SandboxCrm(clock=clock) for name in POLICIES}
    rows: Rows = {}
    async with a_journal(clock=clock) as journal:
        await journal.apply(*[f"http://127.0.0.1:{await crm.start()}" for crm in crms.values()])
        await _take_policies(journal)
        calls = {name: await _hear(journal, one) for name, one in RECORDINGS.items()}
        async with journal.writing():
            await journal.until_true(lambda: _is_done(journal, calls), step=SECOND)
        entries = {
            record["id"] + name: record
            for name, crm in crms.items()
            for record in crm.records("Calls")
        }
        for name, of_recording in calls.items():
            rows[name] = [
                {"PBX": name[0], "recording": name[1]} | row
                for call in of_recording
                for row in await _rows_of(journal, call, entries)
            ]
    for crm in crms.values():
        await crm.stop()
    assert not entries, "entries that no call knows of"
    return rows


async def _take_policies(journal: Journal) -> None:
    """And an agent who has a phone, and no user in the CRM."""
    site = journal.site.current[TENANT]
    crms = tuple(crm.model_copy(update={"journal": POLICIES[crm.name]}) for crm in site.crm)
    agents = tuple(
        agent.model_copy(update={"users": dict.fromkeys(POLICIES, agent.users[CRM])})
        for agent in site.agents
    )
    carl = Agent(extension="103", name="Carl Agent")
    await journal.change_site(crm=crms, agents=(*agents, carl))


async def _hear(journal: Journal, recording: Recording) -> list[str]:
    """The ids of its calls, in the order in which they were first heard of."""
    seen: dict[str, None] = {}
    for event, at, key in recording.told():
        seen[event.call_id] = None
        await journal.hear_message(
            wrap(
                event, source="ingest", occurred_at=at, tenant=TENANT, key=f"{event.call_id} {key}"
            )
        )
    return list(seen)


async def _is_done(journal: Journal, calls: Mapping[tuple[str, str], list[str]]) -> bool:
    known = [
        entry
        for found in calls.values()
        for call in found
        for entry in await journal.entries.of_call(call)
    ]
    return all(entry.due_at is None for entry in known)


# -- as rows ---------------------------------------------------------------------------------------


async def _rows_of(journal: Journal, call: str, entries: dict[str, dict[str, Any]]) -> list[Row]:
    """What is the same by both policies stands there once."""
    known = [
        entry
        for entry in await journal.entries.of_call(call)
        if entry.state is not EntryState.NOT_WANTED
    ]
    why_not = {entry.connection: entry.reason for entry in (await journal.ask(call)).entries}
    found = {
        name: [_row(entry, entries) for entry in known if entry.connection == name]
        or [
            dict.fromkeys(COLUMNS[3:-1], "-")
            | {"why none": why_not.get(name) or "its begin or its end is not known"}
        ]
        for name in POLICIES
    }
    by_call, by_agent = found.values()
    if by_call == by_agent:
        return [{"per": "both", **row} for row in by_call]
    return [
        *({"per": "call", **row} for row in by_call),
        *({"per": "agent", **row} for row in by_agent),
    ]


def _row(entry: EntryDocument, entries: dict[str, dict[str, Any]]) -> Row:
    """Of an entry that is in the CRM, and is taken from those that are looked for."""
    assert entry.state is EntryState.SENT, (entry.key, entry.state, entry.reason)
    record = entries.pop(f"{entry.entry_id}{entry.connection}")
    subject = _SUBJECT.fullmatch(record["Subject"])
    description = _DESCRIPTION.fullmatch(record["Description"])
    assert subject, record
    assert description, record
    assert subject[0].endswith(entry.reference)
    linked = record.get("Who_Id") or record.get("What_Id") or {}
    started_at = datetime.fromisoformat(record["Call_Start_Time"])
    return {
        "agent": description["agent"] or "-",
        "type": record["Call_Type"],
        "start": f"{started_at:%H:%M:%S}",
        "talk": record["Call_Duration"],
        "number": subject["number"] or "-",
        "contact": _NAMES[linked["id"]] if linked else "-",
        "owner": _NAMES[record["Owner"]["id"]] if record.get("Owner") else "-",
        "recorded": "yes" if description["play"] else "-",
        "why none": "-",
    }


@pytest.mark.parametrize(("kind", "name"), sorted({(r["PBX"], r["recording"]) for r in ROWS}))
def test_a_recording_becomes_its_entries(journaled: Rows, kind: str, name: str) -> None:
    wanted = [row for row in ROWS if (row["PBX"], row["recording"]) == (kind, name)]

    assert journaled[kind, name] == wanted


def test_every_recording_is_in_the_table(journaled: Rows) -> None:
    """Or in the list below it of those without a call."""
    without_call = re.findall(
        r"`(\w+)`", PAGE.read_text().partition("Recordings without a call")[2]
    )

    assert {(row["PBX"], row["recording"]) for row in ROWS} == {
        name for name, rows in journaled.items() if rows
    }
    assert sorted(without_call) == sorted(name for (_, name), rows in journaled.items() if not rows)
