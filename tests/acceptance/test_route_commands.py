"""``callmesh route``: rules tried without a call, as an administrator types it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from services.routing.store import DECISIONS, DecisionLog
from shared.clock import SystemClock
from shared.contracts.routing import DecideRoute, Destination, RouteDecision, RouteReason, TraceStep
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.site import site_file
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.acceptance.commands_kit import callmesh

DID = "442079460000"
DRAFT = """\
name: by-tier
dids: ["442079460000"]
crm: zoho
modules: [Contacts]
field: Tier
within: 10s
rows:
  - {operator: "=", value: GOLD, destination: "queue:support"}
  - {operator: "=", value: SILVER, destination: "queue:vip"}
default: extension:102
"""
ANSWER = tuple[int, str, str]


@dataclass
class Desk:
    """The demo's tenant in a folder, over a sandbox CRM."""

    folder: Path
    crm: SandboxCrm

    async def __call__(self, *arguments: str) -> ANSWER:
        """Exit code, output, errors."""
        done: subprocess.CompletedProcess[str] = await asyncio.to_thread(
            callmesh,
            self.folder,
            *arguments,
            CALLMESH_NET_ALLOW="127.0.0.0/8",
            COLUMNS="200",
        )
        return done.returncode, done.stdout, done.stderr

    async def explain(self, *arguments: str) -> str:
        code, said, fault = await self("route", "explain", "--tenant", "demo", *arguments)
        assert code == 0, fault
        return said

    async def refused(self, *arguments: str) -> str:
        code, said, fault = await self("route", *arguments)
        assert (code, said) == (1, ""), said
        assert len(fault.splitlines()) == 1, fault
        return fault

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    crm = SandboxCrm()
    url = f"http://127.0.0.1:{await crm.start()}"
    desk = Desk(tmp_path, crm)
    text = site_file(crm_url=url, ami_port=1, within_s=10)
    code, _, fault = await desk("apply", desk.file("site.yaml", text))
    assert code == 0, fault
    yield desk
    await crm.stop()


async def test_explain_asks_the_crm_and_shows_each_step(desk: Desk) -> None:
    said = await desk.explain("--did", DID, "--from", "07700 900145")

    lines = said.splitlines()
    assert lines[0] == "queue:support"
    assert lines[1].startswith("row_matched: rule by-tier (version 1), row 1, ")
    assert 'Tier: "GOLD"' in lines
    assert "zoho: 1 found (crm)" in said
    assert desk.crm.asked


async def test_explain_without_the_crm(desk: Desk) -> None:
    contact = desk.file("jane.json", '{"display_name": "Jane [red]Doe[/]", "fields": {"Tier": 1}}')
    gold = await desk.explain("--did", DID, "--from", "1", "--field", "Tier=gold")
    nobody = await desk.explain("--did", DID, "--from", "1", "--nobody")
    both = await desk.explain("--did", DID, "--contact", contact, "--field", "Tier=SILVER")
    as_json = await desk.explain("--did", DID, "--contact", contact, "--json")

    assert gold.startswith("queue:support\nrow_matched")
    assert nobody.startswith("extension:102\nno_contact")
    assert both.startswith("extension:101\nrow_matched")
    assert "Jane [red]Doe[/]" in both
    assert json.loads(as_json)["reason"] == "no_row_matched"
    assert not desk.crm.asked


async def test_explain_tries_a_draft_at_a_time_of_the_tenants_zone(desk: Desk) -> None:
    draft = desk.file(
        "draft.yaml",
        "name: by-night\ndids: ['1']\nzone: Asia/Tokyo\ndefault: queue:day\nrows:\n"
        "  - {when: {of: time.of_day, operator: '>=', value: '18:00'}, destination: 'queue:night'}\n",
    )

    day = await desk.explain("--did", "1", "--rule", draft, "--at", "2026-01-05T08:59")
    night = await desk.explain("--did", "1", "--rule", draft, "--at", "2026-01-05T09:00")

    rows = desk.file("rows.csv", "operator,value,destination\n=,GOLD,queue:of-csv\n")
    rest = desk.file("rest.yaml", DRAFT.partition("rows:")[0] + "default: extension:102\n")
    of_csv = await desk.explain(
        *("--did", DID, "--rule", rest, "--rows", rows, "--field", "Tier=GOLD")
    )

    assert of_csv.splitlines()[0] == "queue:of-csv"
    assert day.splitlines()[0] == "queue:day"
    assert night.splitlines()[0] == "queue:night", "in UTC, the tenant's, it is 18:00 in Tokyo"


async def test_what_cannot_be_explained_says_what_to_change(desk: Desk) -> None:
    def explain(*more: str) -> tuple[str, ...]:
        return ("explain", "--tenant", "demo", *more)

    assert "no tenant x" in await desk.refused("explain", "--tenant", "x", "--did", "1")
    assert "2026-12-24T18:30" in await desk.refused(*explain("--did", "1", "--at", "noon"))
    assert "NAME=VALUE" in await desk.refused(*explain("--did", "1", "--field", "Tier"))
    assert "agents.101" in await desk.refused(*explain("--did", "1", "--agent", "101=asleep"))
    both = explain("--did", "1", "--nobody", "--field", "a=b")
    assert "--nobody has no record" in await desk.refused(*both)
    draft = desk.file("draft.yaml", DRAFT.replace("queue:vip", "sofa:vip"))
    assert "draft.yaml:9: rows.1.dest" in await desk.refused(
        *explain("--did", "1", "--rule", draft)
    )


async def test_a_batch_says_what_a_draft_would_change(desk: Desk) -> None:
    numbers = desk.file(
        "numbers.csv",
        "from,note\n07700 900145,gold\n+447700900123,silver\nhello,bad\n+447700900999,none\n",
    )
    table, draft = str(desk.folder / "out.csv"), desk.file("draft.yaml", DRAFT)
    arguments = ("route", "batch", "--tenant", "demo", "--did", DID, numbers)

    code, said, _ = await desk(*arguments)
    compared = await desk(*arguments, "--rule", draft, "--out", table, "--only-changed")

    assert code == 0
    rows = list(csv.DictReader(said.splitlines()))
    assert [(row["note"], row["destination"], row["reason"]) for row in rows] == [
        ("gold", "queue:support", "row_matched"),
        ("silver", "extension:101", "row_matched"),
        ("bad", "", ""),
        ("none", "extension:102", "no_contact"),
    ]
    assert rows[2]["fault"].startswith("line 4: from: no number")
    assert compared[:2] == (0, "")
    assert "4 calls, 1 would be treated otherwise, 1 with a fault" in compared[2]
    changed = list(csv.DictReader(desk.read("out.csv").splitlines()))
    assert [(row["note"], row["now"], row["destination"], row["changed"]) for row in changed] == [
        ("silver", "extension:101", "queue:vip", "destination"),
        ("bad", "", "", ""),
    ]


async def test_a_batch_reads_a_pipe_to_its_end(desk: Desk) -> None:
    pipe = desk.folder / "numbers"
    os.mkfifo(pipe)
    text = "from\n" + "hello\n" * 20_000
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_text, text))

    code, said, fault = await desk("route", "batch", "--tenant", "demo", str(pipe))

    assert (code, said.count("\n")) == (0, 20_001), fault
    await writing


async def test_a_batch_that_cannot_begin_says_why_and_writes_nothing(desk: Desk) -> None:
    def batch(*more: str) -> tuple[str, ...]:
        return ("batch", "--tenant", "demo", *more)

    numbers = desk.file("numbers.csv", "from\n1\n")
    draft = desk.file("draft.yaml", DRAFT.replace("zoho", "nosuch"))
    table = desk.file("out.csv", "an older table")

    assert "--only-changed" in await desk.refused(*batch(numbers, "--only-changed"))
    assert "one of them is `from`" in await desk.refused(*batch(table))
    assert "is the table of numbers itself" in await desk.refused(*batch(numbers, "--out", numbers))
    assert "no crm nosuch" in await desk.refused(*batch(numbers, "--rule", draft, "--out", table))
    assert desk.read("out.csv") == "an older table"
    assert desk.read("numbers.csv") == "from\n1\n"


async def test_decisions_are_listed_and_one_is_shown(desk: Desk) -> None:
    none = await desk("route", "decisions", "--tenant", "demo")
    db = SqliteFile(desk.folder / "mesh.db")
    await db.open()
    clock = SystemClock()
    log = DecisionLog(SqliteStore(db, clock).collection(DECISIONS), clock, keep=timedelta(days=1))
    for caller in ("+447700900123", "+447700900145"):
        await log.note(
            tenant="demo",
            asked=DecideRoute(did=DID, caller=caller, call_id=f"c{caller[-1]}"),
            decision=RouteDecision(
                destination=Destination.parse("queue:support"),
                reason=RouteReason.ROW_MATCHED,
                rule="by-tier",
                trace=(TraceStep(step="row", detail="1: = [GOLD] matches", after_ms=1),),
            ),
        )
    (document,) = (await log.page("demo", call_id="c3")).documents
    await db.close()

    _, listed, _ = await desk("route", "decisions", "--tenant", "demo", "--from", "07700900123")
    _, shown, _ = await desk("route", "decisions", "--tenant", "demo", "--id", document.key)

    assert none[:2] == (0, "no decisions\n")
    assert document.key in listed
    assert "900145" not in listed
    assert shown.splitlines()[1] == "queue:support"
    assert "1: = [GOLD] matches" in shown
    assert "no such decision" in await desk.refused("decisions", "--tenant", "demo", "--id", "x")
