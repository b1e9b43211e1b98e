"""Users, keys and the audit log, as an operator types them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.commands_kit import callmesh
from tests.acceptance.test_commands import folder, refused

__all__ = ["folder"]

ACME = ("--tenant", "acme")


def test_a_user_gets_keys_that_never_may_more_and_all_of_it_is_in_the_audit_log(
    folder: Path,
) -> None:
    def run(*arguments: str) -> str:
        done = callmesh(folder, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "say --scope" in refused(folder, "users", "put", "anna", *ACME)
    run("users", "put", "anna", *ACME, "--scope", "calls:read", "--title", "Anna Berg")
    first = run("keys", "issue", *ACME, "--name", "laptop", "--user", "anna").strip()
    wider = ("--name", "wide", "--user", "anna", "--scope", "site:write")
    assert "anna lacks: site:write" in refused(folder, "keys", "issue", *ACME, *wider)
    second = run("keys", "rotate", *ACME, "--name", "laptop", "--overlap", "1h").strip()
    assert re.fullmatch(r"cm_\S{43}", first)
    assert second != first
    assert "laptop" in run("keys", "list", *ACME)
    run("users", "disable", "anna", *ACME)
    assert "disabled" in run("users", "list", *ACME)
    assert "at most 7d" in refused(
        folder, "keys", "rotate", *ACME, "--name", "laptop", "--overlap", "8d"
    )

    told = run("audit", *ACME, "--key", "(cli)")
    for action in ("apply", "put_user", "issue_key", "rotate_key"):
        assert action in told
    assert "refused" in run("audit", *ACME, "--outcome", "refused")
    assert first not in told
    assert second not in told


def test_what_users_are_called_is_shown_as_it_is(folder: Path) -> None:
    """Somebody else may have said it, over the API."""
    said = ("--title", "[/b] \x9b31mAnna", "--email", "[/x]@a.b")
    assert callmesh(folder, "users", "put", "a", *ACME, "--scope", "calls:read", *said).stdout
    shown = callmesh(folder, "users", "list", *ACME).stdout
    assert "[/x]@a.b" in shown
    assert "\x9b" not in shown


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("0s", "over at once"),
        ("9999999d", "at most 3650d"),
        (f"{10**14}d", "longer than any clock"),
    ],
)
def test_a_key_with_an_end_that_is_none_is_not_made(folder: Path, end: str, words: str) -> None:
    ending = ("--scope", "calls:read", "--expires-in", end)
    assert words in refused(folder, "keys", "issue", *ACME, "--name", "brief", *ending)


def test_only_who_says_so_makes_an_operator(folder: Path) -> None:
    ops = ("keys", "issue", *ACME, "--name", "ops", "--scope", "tenants:write")
    assert "say --operator" in refused(folder, *ops)
    assert "whole tenant" in refused(folder, *ops, "--operator", "--extension", "101")
    assert callmesh(folder, *ops, "--operator").stdout.startswith("cm_")
    assert "tenants:read" in callmesh(folder, "keys", "list", *ACME).stdout
