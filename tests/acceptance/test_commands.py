"""What an administrator types, right and wrong: the exit code and one line that says what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.commands_kit import callmesh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where tenant acme is set up."""
    site = tmp_path / "site.yaml"
    site.write_text("tenants:\n  - {tenant: acme, region: GB}\n")
    done = callmesh(tmp_path, "apply", str(site))
    assert done.returncode == 0, done.stderr
    return tmp_path


def refused(folder: Path, *arguments: str) -> str:
    done = callmesh(folder, *arguments)
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def issue(name: str, tenant: str = "acme") -> list[str]:
    return ["keys", "issue", "--tenant", tenant, "--name", name, "--scope", "hooks:write"]


def test_a_key_is_shown_once_and_kept_as_a_digest(folder: Path) -> None:
    key = callmesh(folder, *issue("pbx")).stdout.strip()
    assert key.startswith("cm_")
    with sqlite3.connect(f"file:{folder / 'mesh.db'}?mode=ro", uri=True) as db:
        dump = "\n".join(db.iterdump())
    assert "hooks:write" in dump
    assert key not in dump
    assert "pbx" in callmesh(folder, "keys", "list", "--tenant", "acme").stdout


def test_a_key_that_cannot_be_made_says_why(folder: Path) -> None:
    assert "there is no tenant nosuch" in refused(folder, *issue("pbx", tenant="nosuch"))
    assert "name" in refused(folder, *issue("Bad Name"))
    callmesh(folder, *issue("pbx"))
    assert "has a key pbx; revoke it" in refused(folder, *issue("pbx"))
    agent = (*issue("agent"), "--scope", "site:write", "--extension", "101")
    assert "site:write is about the whole tenant" in refused(folder, *agent)


def test_dead_letters_of_a_service_that_is_none(folder: Path) -> None:
    assert "there is no service nosuch" in refused(
        folder, "dead-letters", "list", "--service", "nosuch"
    )


def test_a_region_is_a_country_code(folder: Path) -> None:
    site = folder / "site.yaml"
    site.write_text("tenants:\n  - {tenant: acme, region: UK}\n")
    assert "the United Kingdom is GB" in refused(folder, "apply", str(site))
