"""``callmesh pbx``: what an administrator sees of the connections, and of one that does not work."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.ingest.store import LINKS, SAY_EVERY, LinkBook
from shared.clock import ManualClock, SystemClock
from shared.sandbox.pbx import SECRET, SandboxPbx
from shared.sandbox.site import site_file
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.acceptance.commands_kit import callmesh


@pytest.fixture
async def pbx() -> AsyncIterator[tuple[SandboxPbx, int]]:
    found = SandboxPbx()
    port = await found.start()
    yield found, port
    await found.stop()


async def said(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Of a process of its own, while this one goes on being a PBX."""
    done = await asyncio.to_thread(
        callmesh, folder, *arguments, CALLMESH_NET_ALLOW="127.0.0.0/8", COLUMNS="200"
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


async def apply(folder: Path, port: int, *, secret: str = SECRET) -> None:
    site = folder / "site.yaml"
    text = site_file(crm_url="http://127.0.0.1:1", ami_port=port)
    site.write_text(text.replace(SECRET, secret))
    done = await said(folder, "apply", str(site))
    assert done.returncode == 0, done.stderr


async def test_a_connection_that_works_is_checked_without_a_fault(
    tmp_path: Path, pbx: tuple[SandboxPbx, int]
) -> None:
    sandbox, port = pbx
    await apply(tmp_path, port)
    done = await said(tmp_path, "pbx", "check", "demo/sandbox")

    assert sandbox.logins >= 1
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert f"✓ AMI answers at 127.0.0.1:{port}" in lines
    assert all(line.startswith("✓") for line in lines)


async def test_a_wrong_secret_and_a_closed_port_are_told_apart(
    tmp_path: Path, pbx: tuple[SandboxPbx, int]
) -> None:
    sandbox, port = pbx
    await apply(tmp_path, port, secret="a wrong one")
    refused = await said(tmp_path, "pbx", "check", "demo/sandbox")
    assert refused.returncode == 1
    assert "secret" in refused.stdout
    assert "a wrong one" not in refused.stdout

    await sandbox.stop()
    closed = await said(tmp_path, "pbx", "check", "demo/sandbox")
    assert closed.returncode == 1
    assert f"127.0.0.1:{port}" in closed.stdout
    assert closed.stdout != refused.stdout

    whole = await said(tmp_path, "doctor")
    assert whole.returncode == 1
    assert f"✗ demo: PBX sandbox: {closed.stdout.splitlines()[0][2:]}" in whole.stdout
    assert "✓ demo: PBX door: " in whole.stdout


@pytest.mark.parametrize("name", ["sandbox", "demo/nosuch", "nosuch/sandbox", "demo/"])
async def test_a_connection_that_is_none_says_so(tmp_path: Path, name: str) -> None:
    await apply(tmp_path, 1)
    done = await said(tmp_path, "pbx", "check", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


async def test_the_list_says_how_each_is_in_the_running_services(tmp_path: Path) -> None:
    await apply(tmp_path, 1)
    db = SqliteFile(tmp_path / "mesh.db")
    await db.open()
    try:
        await _say(db)
    finally:
        await db.close()
    done = await said(tmp_path, "pbx", "list")
    assert done.returncode == 0, done.stderr
    (sandbox,) = [line for line in done.stdout.splitlines() if " sandbox " in line]
    (door,) = [line for line in done.stdout.splitlines() if " door " in line]
    cells = [cell.strip() for cell in sandbox.split("│")[1:-1]]
    # What the other side says may be anything.
    assert cells[:5] == ["demo", "sandbox", "asterisk", "1 of 2", "+0.0 s"]
    assert cells[5] == "[/b] closed\ufffd[31m"
    assert [cell.strip() for cell in door.split("│")[1:-1]] == [
        "demo",
        "door",
        "generic",
        "-",
        "-",
        "",
    ]


async def _say(db: SqliteFile) -> None:
    clock = SystemClock()
    gone = ManualClock(clock.now() - 4 * SAY_EVERY)
    links = [SqliteStore(db, clock).collection(LINKS) for _ in range(3)]
    up, down = LinkBook(links[0], clock), LinkBook(links[1], clock)
    dead = LinkBook(links[2], gone)
    for book, fault in ((up, None), (down, "[/b] closed\x1b[31m"), (dead, "of yesterday")):
        await book.say(
            tenant="demo", pbx="sandbox", kind="asterisk", fault=fault, ahead=timedelta(0)
        )
