"""``callmesh calls``: what a supervisor types, and what he reads."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from services.journal.store import CALLS, CallLog
from shared.clock import SystemClock
from shared.contracts.calls import CallEnded, Party
from shared.contracts.envelope import wrap
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call
from tests.acceptance.commands_kit import callmesh, environment

SITE = "tenants: [{tenant: acme, region: GB, zone: Europe/Berlin}]\n"
CALLS_MADE = 520


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More calls than a page has, one minute after the other; each tenth is still under way."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "site.yaml").write_text(SITE)
    found = callmesh(folder, "apply", str(folder / "site.yaml"))
    assert found.returncode == 0, found.stderr
    (file,) = folder.glob("*.db")
    asyncio.run(make_calls(file))
    return folder


async def make_calls(file: Path) -> None:
    db = SqliteFile(file)
    await db.open()
    log = CallLog(
        SqliteStore(db, SystemClock()).collection(CALLS),
        SystemClock(),
        silent_after=timedelta(hours=1),
    )

    async def make(number: int) -> None:
        call, at = f"c{number:03}", NOON + timedelta(minutes=number)
        caller = Party(number=f"+44770090{number:04}", name="\x1b[31m=1+1")
        events = [a_call(call_id=call, caller=caller), CallEnded(call_id=call, pbx="main")]
        for event in events[: 1 if number % 10 == 0 else 2]:
            await log.take(wrap(event, source="test", occurred_at=at, tenant="acme"), call)

    await asyncio.gather(*map(make, range(CALLS_MADE)))
    await db.close()


def done(folder: Path, *arguments: str) -> str:
    found = callmesh(folder, "calls", *arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def refused(folder: Path, *arguments: str) -> str:
    found = callmesh(folder, "calls", *arguments)
    assert found.returncode == 1, found.stdout
    assert "Traceback" not in found.stderr
    return found.stderr


def test_calls_are_listed_and_counted_by_what_is_asked(folder: Path) -> None:
    assert done(folder, "count") == f"{CALLS_MADE}\n"
    assert done(folder, "count", "--where", "disposition = missed") == "468\n"
    shown = done(
        folder, "list", "--number", "07700 900007", "--fields", "call_id,number,caller_name"
    )
    assert ("c007" in shown, "+447700900007" in shown, "c008" in shown) == (True, True, False)
    assert "\x1b" not in shown
    # Berlin's noon is an hour before the first call.
    hour = ("--since", "2026-01-01T13:00", "--until", "2026-01-01T13:10")
    assert done(folder, "count", *hour) == "10\n"
    two = ("--where", "ended_at is_null", "--where", "call_id < c100")
    assert done(folder, "count", *two) == "10\n"
    oldest = done(folder, "list", "--ascending", "--limit", "2", "--fields", "call_id")
    assert [word in oldest for word in ("c000", "c001", "c002")] == [True, True, False]
    assert done(folder, "list", "--extension", "101") == "no calls\n"


def test_a_call_is_shown_as_a_whole(folder: Path) -> None:
    shown = json.loads(done(folder, "show", "c007"))
    assert (shown["call_id"], shown["disposition"]) == ("c007", "missed")
    assert "there is no call x" in refused(folder, "show", "x")


def test_calls_are_exported_to_a_file_that_is_whole(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    target.write_text("old")
    done(folder, "export", str(target), "--fields", "call_id,started_at,number,caller_name")
    with target.open(newline="") as file:
        lines = list(csv.reader(file, strict=True))
    assert len(lines) == CALLS_MADE + 1
    assert lines[0] == ["call_id", "started_at", "number", "caller_name"]
    assert lines[-1][:3] == ["c000", "2026-01-01T13:00:00.000+01:00", "+447700900000"]
    assert list(tmp_path.iterdir()) == [target]

    out = done(folder, "export", "-", "--ascending", "--zone", "UTC", "--where", "call_id < c002")
    assert [line.split(",")[0] for line in out.splitlines()] == ["call_id", "c000", "c001"]


def test_an_export_that_cannot_be_leaves_the_old_file(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "calls.csv"
    target.write_text("old")
    assert "zone: no time zone" in refused(folder, "export", str(target), "--zone", "Mars")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("calls.csv", "old")]
    gone = str(tmp_path / "none" / "calls.csv")
    assert "cannot be written: No such file" in refused(folder, "export", gone)


def test_who_reads_only_the_first_lines_gets_them(folder: Path) -> None:
    command = f"{sys.executable} -m services calls export - | head -n 1"
    found = subprocess.run(
        ["bash", "-c", command],
        env=environment(folder) | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert found.stdout.startswith("call_id,pbx,")
    assert "Traceback" not in found.stderr


def test_what_is_wrong_is_said_in_one_line(folder: Path) -> None:
    assert "did you mean `talk_s`" in refused(folder, "list", "--where", "talk > 1")
    assert "--fields: there is no field `x`" in refused(folder, "list", "--fields", "x")
    assert "--sort number: there are started_at" in refused(folder, "list", "--sort", "number")
    assert "there is no tenant globex; there are: acme" in refused(
        folder, "count", "--tenant", "globex"
    )
    assert "--since soon" in refused(folder, "count", "--since", "soon")


def test_a_refresh_changes_nothing_that_is_right(folder: Path) -> None:
    assert done(folder, "refresh") == "0 call(s) changed\n"
