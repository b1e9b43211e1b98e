"""``callmesh dials``: what an operator types, and what he reads."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialState
from shared.errors import Rejected
from shared.sandbox.site import TENANT
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.acceptance.commands_kit import callmesh, environment
from tests.contract.dial_kit import SECOND, Floor, Replica, Seen

SITE = f"tenants: [{{tenant: {TENANT}, region: GB, zone: Europe/Berlin}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site.yaml").write_text(SITE)
    found = callmesh(tmp_path, "apply", str(tmp_path / "site.yaml"))
    assert found.returncode == 0, found.stderr
    return tmp_path


@asynccontextmanager
async def dialling(folder: Path) -> AsyncIterator[tuple[Floor, Replica]]:
    """A dialer on the same store as the commands."""
    db = SqliteFile(folder / "mesh.db")
    await db.open()
    clock = ManualClock(SystemClock().now())
    floor = Floor(SqliteStore(db, clock), clock)
    await floor.say()
    yield floor, await floor.replica()
    await db.close()


def plain(text: str) -> list[list[str]]:
    """The cells of a table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


async def test_dials_are_listed_and_shown(folder: Path) -> None:
    assert callmesh(folder, "dials", "list").stdout == "no dials\n"
    async with dialling(folder) as (floor, replica):
        for number, requested_by in (
            ("+447700900100", "key desk"),
            ("+447700900101", "crm shop"),
            ("+447700900102", "key desk"),
        ):
            await floor.clock.advance(SECOND)
            record = await replica.place(number, dial_id=number[-3:], requested_by=requested_by)
            await floor.run(replica)
            if number != "+447700900102":
                await Seen.of(record).come(replica, until=DialState.CONNECTED)
                await replica.hear(Seen.of(record).ends(Disposition.ANSWERED))

    found = callmesh(folder, "dials", "list", COLUMNS="200")
    rows = plain(found.stdout)
    assert [(row[2], row[3], row[5], row[6]) for row in rows] == [
        ("+447700900102", "requested", "key desk", "102"),
        ("+447700900101", "ended", "crm shop", "101"),
        ("+447700900100", "ended", "key desk", "100"),
    ]
    for options, dials in (
        (["--under-way"], ["102"]),
        (["--state", "ended", "--limit", "1"], ["101"]),
        (["--number", "07700 900101"], ["101"]),
        (["--since", "1h", "--extension", "101"], ["102", "101", "100"]),
        (["--until", "1h"], []),
    ):
        rows = plain(callmesh(folder, "dials", "list", *options, COLUMNS="200").stdout)
        assert [row[6] for row in rows] == dials, options

    shown = callmesh(folder, "dials", "show", "101")
    assert json.loads(shown.stdout)["state"] == "ended"
    for arguments in (("show", "nothing"), ("cancel", "nothing"), ("list", "--tenant", "other")):
        found = callmesh(folder, "dials", *arguments)
        assert (found.returncode, found.stdout) == (1, ""), arguments
        assert "there is no" in found.stderr


async def a_cancel(folder: Path, dial: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "dials", "cancel", dial),
        env=environment(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_dial_is_ended_by_the_dialer_that_runs(folder: Path) -> None:
    async with dialling(folder) as (floor, replica):
        record = await replica.place(dial_id="d1")
        await floor.run(replica)
        await Seen.of(record).come(replica, until=DialState.CUSTOMER_RINGING)
        command = await a_cancel(folder, "d1")

        async def is_over() -> bool:
            await replica.look()
            return (await replica.state("d1"))[0].is_final

        await eventually(is_over)
        said, wrong = await command.communicate()
        assert (command.returncode, wrong) == (0, b"")
        assert said == b"d1 has failed: The call was cancelled.\n"
        assert await replica.state("d1") == (DialState.FAILED, DialReason.CANCELLED)
        assert len(floor.line.ended) == 1

    again = callmesh(folder, "dials", "cancel", "d1")
    assert (again.returncode, again.stderr) == (1, "dial d1 is over: it has failed\n")
    noted = callmesh(folder, "audit", "--tenant", TENANT)
    assert "cancel_dial" in noted.stdout


async def test_a_pbx_that_does_not_end_it_is_quoted(folder: Path) -> None:
    async with dialling(folder) as (floor, replica):
        await replica.place(dial_id="d1")
        await floor.run(replica)
        floor.line.cannot_end = Rejected("calls are ended at the phone")
        command = await a_cancel(folder, "d1")

        async def was_tried() -> bool:
            await replica.look()
            return (await replica.document("d1")).cancel_fault is not None

        await eventually(was_tried)
        _, wrong = await command.communicate()
        assert command.returncode == 1
        assert wrong == b"the call goes on: calls are ended at the phone\n"
