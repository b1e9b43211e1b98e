"""``callmesh requests``: what an operator types when a CRM or a PBX does not do as it should."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.net.requests import AskedSide, Detail, RequestNote
from shared.observe.metrics import Metrics
from shared.runtime.requests import RequestLog
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.acceptance.commands_kit import callmesh

SITE = "tenants: [{tenant: acme, region: GB, zone: Europe/Berlin}]\n"
LINES: tuple[dict[str, Any], ...] = (
    {"operation": "search", "status": 200},
    {
        "operation": "journal",
        "method": "POST",
        "status": 400,
        "error": "no such field [Subject]\x1b[31m",
        "request": '{"Subject": "call"}',
        "answer": '{"message": "no such field"}',
    },
    {
        "side": AskedSide.PBX,
        "connection": "berlin",
        "operation": "originate",
        "method": "AMI",
        "url": "ami://192.0.2.20/Originate",
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line for each hour, the last of this hour."""
    folder = tmp_path_factory.mktemp("requests")
    (folder / "site.yaml").write_text(SITE)
    found = callmesh(folder, "apply", str(folder / "site.yaml"))
    assert found.returncode == 0, found.stderr
    (file,) = folder.glob("*.db")
    asyncio.run(make_lines(file))
    return folder


async def make_lines(file: Path) -> None:
    db, clock = SqliteFile(file), SystemClock()
    await db.open()
    log = RequestLog.in_store(
        SqliteStore(db, clock), clock=clock, metrics=Metrics(), detail=Detail.ALL
    )
    for number, changes in enumerate(LINES):
        known: dict[str, Any] = {
            "tenant": "acme",
            "side": AskedSide.CRM,
            "connection": "zoho",
            "at": clock.now() - timedelta(hours=len(LINES) - number, minutes=-30),
            "method": "GET",
            "url": "https://crm.example/Contacts?phone=447700900123",
            "took": timedelta(milliseconds=87),
        }
        log.note(RequestNote(**(known | changes)))
    await log.write()
    await db.close()


def done(folder: Path, *arguments: str) -> str:
    found = callmesh(folder, "requests", *arguments, COLUMNS="240")
    assert found.returncode == 0, found.stderr
    return found.stdout


def refused(folder: Path, *arguments: str) -> str:
    found = callmesh(folder, "requests", *arguments)
    assert found.returncode == 1, found.stdout
    assert len(found.stderr.splitlines()) == 1, found.stderr
    return found.stderr


def operations(shown: str) -> list[str]:
    known = ("search", "journal", "originate")
    return [word for line in shown.splitlines() for word in known if f" {word} " in line]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((), ["originate", "journal", "search"]),
        (("--side", "pbx", "--since", "2h", "--well", "--limit", "1"), ["originate"]),
        (
            ("--failed", "--status", "4xx", "--text", "CONTACTS", "--connection", "zoho"),
            ["journal"],
        ),
        (("--operation", "search", "--operation", "originate", "--until", "2h"), ["search"]),
    ],
)
def test_requests_are_listed_by_what_is_asked(
    folder: Path, asked: tuple[str, ...], found: list[str]
) -> None:
    assert operations(done(folder, "list", *asked)) == found


def test_one_is_shown_with_its_bodies_and_nothing_that_a_terminal_acts_upon(folder: Path) -> None:
    listed = done(folder, "list", "--failed")
    assert "\x1b" not in listed
    assert "no such field [Subject]" in listed
    request_id = listed.split("│")[-2].strip()

    shown = done(folder, "show", request_id)

    assert "\x1b" not in shown
    assert "error: no such field [Subject]" in shown
    assert 'request:\n{"Subject": "call"}' in shown
    assert 'answer:\n{"message": "no such field"}' in shown


def test_what_cannot_be_asked_is_said(folder: Path) -> None:
    assert done(folder, "list", "--connection", "nowhere") == "no requests\n"
    assert "say 2xx, 4xx or 5xx" in refused(folder, "list", "--status", "six")
    assert "--since x: say 90m" in refused(folder, "list", "--since", "x")
    assert "no tenant other; there are: acme" in refused(folder, "list", "--tenant", "other")
    assert "there is no request none of tenant acme" in refused(folder, "show", "none")
