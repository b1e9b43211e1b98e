"""``callmesh journal``: what an operator types when calls did not get into the CRM, and what he reads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.journal.store import CALLS, ENTRIES, CallLog, EntryDocument
from shared.clock import SystemClock
from shared.contracts.calls import CallEnded, EntryState
from shared.contracts.envelope import wrap
from shared.contracts.journal import EntryTry, Exchange
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import TENANT, site_file
from shared.site.journal import EntryPer
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.acceptance.commands_kit import callmesh, environment
from tests.acceptance.test_processes import serving

SETTINGS = {"CALLMESH_NET_ALLOW": "127.0.0.0/8", "COLUMNS": "220"}
EXCHANGE = Exchange(
    method="POST",
    url="https://crm.example/calls",
    headers={"Authorization": "Bearer •••"},
    body='{"Subject": "call"}',
    status=400,
    answer='{"message": "no such field\u001b[31m"}',
)


@dataclass
class Desk:
    """The demo's tenant in a folder, with calls of a while ago, over a sandbox CRM."""

    folder: Path
    crm: SandboxCrm
    now: datetime

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        done = await asyncio.to_thread(callmesh, self.folder, *arguments, **SETTINGS)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    async def done(self, *arguments: str) -> str:
        code, said, fault = await self("journal", *arguments)
        assert code == 0, said + fault
        return said

    async def refused(self, *arguments: str) -> str:
        code, said, fault = await self("journal", *arguments)
        assert (code, said) == (1, "")
        assert len(fault.splitlines()) == 1, fault
        return fault

    async def put_calls(self, *calls: str, **entry: object) -> None:
        """They ended two hours ago; with *entry* each has one."""
        began_at = self.now - timedelta(hours=2)
        async with self.store() as store:
            log = CallLog(store.collection(CALLS), SystemClock(), silent_after=timedelta(hours=12))
            for call in calls:
                for event in (a_call(call_id=call), CallEnded(call_id=call, pbx="main")):
                    await log.take(
                        wrap(event, source="test", occurred_at=began_at, tenant=TENANT), call
                    )
                if entry:
                    made = EntryDocument.wanting(
                        TENANT,
                        call,
                        "zoho",
                        agent=None,
                        per=EntryPer.CALL,
                        now=began_at,
                        due_at=began_at,
                    )
                    await store.collection(ENTRIES).put(made.model_copy(update=entry))

    async def put_dead_calls(self, *calls: str) -> None:
        reason = "the CRM answered 400 no such field"
        tried = EntryTry(at=self.now, state=EntryState.DEAD, reason=reason)
        await self.put_calls(
            *calls,
            state=EntryState.DEAD,
            reason=reason,
            attempts=3,
            tries=(tried,),
            exchange=EXCHANGE,
            due_at=None,
        )

    @asynccontextmanager
    async def store(self) -> AsyncIterator[SqliteStore]:
        db = SqliteFile(self.folder / "mesh.db")
        await db.open()
        try:
            yield SqliteStore(db, SystemClock())
        finally:
            await db.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(serving(self.folder, "up", **SETTINGS))
            yield


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    crm = SandboxCrm()
    url = f"http://127.0.0.1:{await crm.start()}"
    desk = Desk(tmp_path, crm, SystemClock().now())
    (tmp_path / "site.yaml").write_text(site_file(crm_url=url, ami_port=1, settle_s=0))
    code, _, fault = await desk("apply", str(tmp_path / "site.yaml"))
    assert code == 0, fault
    yield desk
    await crm.stop()


async def test_dead_entries_are_listed_counted_and_shown(desk: Desk) -> None:
    assert await desk.done("entries") == "no entries are dead\n"
    await desk.put_dead_calls("c1")
    await desk.put_calls("c2", state=EntryState.RECONNECT, reason="connect it again")

    listed = await desk.done("entries")
    assert ("c1/zoho" in listed, "c2/zoho" in listed, "no such field" in listed) == (1, 0, 1)
    waiting = await desk.done("entries", "--state", "waiting_for_reconnect", "--tenant", TENANT)
    assert "connect it again" in waiting
    assert "no entries" in await desk.done("entries", "--connection", "hubspot")
    assert "no entries" in await desk.done("entries", "--since", "5m")
    summary = await desk.done("summary")
    assert "since" in summary
    assert "connect it again" in summary

    for name in ("c1", "c1/zoho"):
        shown = await desk.done("show", name)
        assert "state: dead\n" in shown
        assert "what to do: mend what the reason says" in shown
        assert "POST https://crm.example/calls\n  Authorization: Bearer •••\n" in shown
        assert "answer 400\n" in shown
        assert "\x1b" not in shown


async def test_what_cannot_be_done_is_said(desk: Desk) -> None:
    assert "has no entry" in await desk.refused("show", "nosuch")
    assert "nosuch/zoho" in await desk.refused("show", "nosuch/zoho")
    assert "--all" in await desk.refused("replay")
    assert "--all" in await desk.refused("replay", "c1", "--all")
    assert "no entry of call nosuch" in await desk.refused("replay", "nosuch")
    assert "no tenant globex" in await desk.refused("summary", "--tenant", "globex")
    assert "--since soon: say 90m" in await desk.refused("entries", "--since", "soon")
    assert "--until 9999999d: say 90m" in await desk.refused("reconcile", "--until", "9999999d")
    assert "no CRM connection hubspot" in await desk.refused("reconcile", "--connection", "hubspot")
    assert "until" in await desk.refused("reconcile", "--since", "1h", "--until", "2h")


async def test_many_are_replayed_after_a_question_only(desk: Desk) -> None:
    await desk.put_dead_calls(*(f"c{number}" for number in range(21)))
    command = [sys.executable, "-m", "services", "journal", "replay", "--all"]
    for answer, code, said in (("n\n", 1, ""), ("y\n", 0, "21 will be tried again")):
        asked = await asyncio.to_thread(
            subprocess.run,
            command,
            input=answer,
            capture_output=True,
            text=True,
            env=environment(desk.folder, **SETTINGS),
            check=False,
        )
        assert "Send 21 entries after all?" in asked.stderr
        assert (asked.returncode, asked.stdout.strip()) == (code, said)
    assert await desk.done("replay", "--all") == "0 will be tried again\n"


async def test_a_replay_is_watched_until_all_are_in_the_crm(desk: Desk) -> None:
    await desk.put_dead_calls(*(f"c{number}" for number in range(5)))
    with desk.running():
        said = await desk.done("replay", "c0", "c1/zoho", "--wait")
        assert said == "2 will be tried again\nsent 2, dead 0, waiting 0\n"
        said = await desk.done("replay", "--connection", "zoho", "--wait")
        assert said == "3 will be tried again\nsent 3, dead 0, waiting 0\n"
        said = await desk.done("replay", "c0", "--wait")
        assert (
            said
            == "0 will be tried again\n1 left alone: in the CRM already, not wanted, or under way\n"
        )
    assert len(desk.crm.records("Calls")) == 5


async def test_a_watched_replay_that_fails_again_says_so(desk: Desk) -> None:
    await desk.put_dead_calls("c1")
    desk.crm.faults = Faults(grant_revoked=True)
    with desk.running():
        code, said, _ = await desk("journal", "replay", "c1", "--wait")
    assert code == 1
    assert "1 wait until a person connects the CRM again" in said


async def test_calls_are_reconciled_and_repaired(desk: Desk) -> None:
    await desk.put_calls("c1")
    await desk.put_dead_calls("c2")

    code, said, _ = await desk("journal", "reconcile")
    assert code == 1
    assert ("missing" in said, "stuck" in said, "no such field" in said) == (1, 1, 1)
    assert "demo: 2 calls, 0 entries right, 2 wrong, 0 repaired\n" in said
    assert "--repair" in said
    assert (await desk.done("reconcile", "--until", "3h")).startswith("demo: 0 calls")
    repaired = await desk.done("reconcile", "--repair")
    assert "2 wrong, 2 repaired\n" in repaired
    with desk.running():
        await desk.done("replay", "c1", "c2", "--wait")
        code, report = await report_of_all(desk)
    assert code == 0, report
    assert (report["tenant"], report["calls"], report["entries"]) == (TENANT, 2, 2)
    assert report["findings"] == []
    assert len(desk.crm.records("Calls")) == 2

    desk.crm.remove("Calls", desk.crm.records("Calls")[0]["id"])

    async def is_lost() -> bool:
        """Not said before the time that the CRM's search may take is over."""
        code, said, _ = await desk("journal", "reconcile", "--ask-crm")
        return code == 1 and "lost" in said

    await eventually(is_lost)
    desk.crm.faults = Faults(fail_next=1000, fail_status=503)

    async def is_told_why() -> bool:
        code, said, _ = await desk("journal", "reconcile", "--ask-crm")
        assert code == 1
        assert "zoho was not asked for 2: " in said
        return "the CRM answered 503" in said

    await eventually(is_told_why)


async def report_of_all(desk: Desk) -> tuple[int, dict[str, Any]]:
    """The exit code and the report, once the CRM has answered in the two seconds it has for each."""
    found: list[tuple[int, dict[str, Any]]] = []

    async def is_there() -> bool:
        code, said, _ = await desk("journal", "reconcile", "--ask-crm", "--json")
        (report,) = json.loads(said)
        found[:] = [(code, report)]
        return not report["not_asked"]

    await eventually(is_there)
    return found[0]
