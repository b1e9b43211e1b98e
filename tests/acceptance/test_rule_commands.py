"""``callmesh rule``: what an administrator types, and what he reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.yamltext import read_yaml
from tests.acceptance.commands_kit import callmesh

SITE = """\
tenants:
  - tenant: acme
    crm:
      - {name: zoho, template: zoho, credentials: {client_id: a, client_secret: b, refresh_token: c}}
"""
RULE = """\
name: main
dids: ["442079460000"]
crm: zoho
credentials: {refresh_token: hunter2}
field: Tier
default: queue:all
"""
ROWS = "operator,value,destination\n=,GOLD,queue:support\n=,SILVER,queue:sales\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where tenant acme is set up, and a rule is written down."""
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "main.yaml").write_text(RULE)
    (tmp_path / "rows.csv").write_text(ROWS)
    done(tmp_path, "apply", "site.yaml")
    return tmp_path


def done(folder: Path, *arguments: str) -> str:
    """What it prints. A word that is a file's name is that file of *folder*."""
    found = callmesh(folder, *(str(folder / a) if (folder / a).is_file() else a for a in arguments))
    assert found.returncode == 0, found.stderr
    return found.stdout


def refused(folder: Path, *arguments: str) -> list[str]:
    found = callmesh(folder, *(str(folder / a) if (folder / a).is_file() else a for a in arguments))
    assert found.returncode == 1, found.stdout
    assert "Traceback" not in found.stderr
    return found.stderr.splitlines()


def test_a_rule_is_put_shown_changed_rolled_back_and_deleted(folder: Path) -> None:
    put = ("rule", "put", "acme", "main.yaml", "--rows", "rows.csv")
    assert done(folder, *put) == "acme/main created: version 1, 2 row(s)\n"
    assert done(folder, *put) == "acme/main is so already: version 1\n"

    shown = done(folder, "rule", "show", "acme/main")
    assert "hunter2" not in shown
    assert "sealed:" not in shown
    found = read_yaml(shown).value
    assert found["credentials"] == {"refresh_token": "********"}
    assert found["rows"][1] == {"operator": "=", "value": "SILVER", "destination": "queue:sales"}

    (folder / "rows.csv").write_text(ROWS.replace("SILVER", "BRONZE"))
    assert "changed: version 2" in done(folder, *put, "--version", "1")
    assert "at version 2" in refused(folder, *put, "--version", "1")[0]
    listed = done(folder, "rule", "list", "--search", "tier")
    assert ("main" in listed, "442079460000" in listed) == (True, True)
    assert "main" not in done(folder, "rule", "list", "--tenant", "globex")

    assert "version 3" in done(folder, "rule", "rollback", "acme/main", "1")
    assert "SILVER" in done(folder, "rule", "show", "acme/main")
    assert "BRONZE" in done(folder, "rule", "show", "acme/main", "--version", "2")
    assert done(folder, "rule", "delete", "acme/main", "--yes") == "deleted acme/main\n"
    versions = done(folder, "rule", "versions", "acme/main")
    for what in ("created", "changed", "rolled back to 1", "deleted"):
        assert what in versions
    assert "no rule acme/main" in refused(folder, "rule", "show", "acme/main")[0]
    assert "was deleted here" in done(folder, "rule", "show", "acme/main", "--version", "4")


def test_what_is_shown_can_be_put_again_without_its_secrets(folder: Path) -> None:
    done(folder, "rule", "put", "acme", "main.yaml", "--rows", "rows.csv")
    shown = done(folder, "rule", "show", "acme/main")
    (folder / "shown.yaml").write_text(shown)
    assert "is so already" in done(folder, "rule", "put", "acme", "shown.yaml")

    (folder / "shown.yaml").write_text(shown.replace("Tier", "Rank"))
    assert "changed: version 2" in done(folder, "rule", "put", "acme", "shown.yaml")
    (folder / "shown.yaml").write_text(shown.replace("name: main", "name: other"))
    (said,) = refused(folder, "rule", "put", "acme", "shown.yaml")
    assert said == "credentials.refresh_token: none is stored; say it"


def test_who_deletes_is_asked_first(folder: Path) -> None:
    done(folder, "rule", "put", "acme", "main.yaml", "--rows", "rows.csv")
    command = [sys.executable, "-m", "services", "rule", "delete", "acme/main"]
    environment = {"CALLMESH_DATA_DIR": str(folder), "PATH": ""}
    for answer, code, there in (("n\n", 1, True), ("y\n", 0, False)):
        asked = subprocess.run(
            command, input=answer, capture_output=True, text=True, env=environment, check=False
        )
        assert "Are you sure you want to remove 'main'?" in asked.stdout + asked.stderr
        assert asked.returncode == code, asked.stderr
        assert ("main" in done(folder, "rule", "list")) is there


def test_a_fault_is_shown_with_the_line_of_its_file(folder: Path) -> None:
    (folder / "rows.csv").write_text(f"{ROWS}\n=,gold,queue:x\n=,A,rule:nosuch\n")
    put = ("rule", "put", "acme", "main.yaml", "--rows", "rows.csv")
    missing, never = sorted(refused(folder, *put), reverse=True)
    assert never.startswith("rows.csv:5: this row is never taken: row 1 takes all")
    assert missing == "rows.csv:6: there is no rule nosuch"

    (folder / "rows.csv").write_text(ROWS)
    (folder / "main.yaml").write_text(RULE.replace("crm: zoho", "crm: hubspot"))
    assert refused(folder, *put) == ["main.yaml:3: crm: there is no crm hubspot"]
    assert "no tenant globex" in refused(folder, "rule", "put", "globex", *put[3:])[0]
    assert "say TENANT/NAME" in refused(folder, "rule", "show", "main")[0]


def test_a_site_file_puts_rules_and_says_what_it_changes(folder: Path) -> None:
    rule = {
        "name": "main",
        "dids": ["442079460000"],
        "crm": "zoho",
        "field": "Tier",
        "rows": [{"operator": "=", "value": "GOLD", "destination": "queue:support"}],
        "default": "queue:all",
    }
    (folder / "site.yaml").write_text(f"{SITE}    rules: [{json.dumps(rule)}]\n")
    dry = done(folder, "apply", "site.yaml", "--dry-run")
    assert "+ acme: rules main\n" in dry
    assert "acme" not in done(folder, "rule", "list")
    assert "applied to 1 tenant(s)" in done(folder, "apply", "site.yaml")
    assert "main" in done(folder, "rule", "list")
    assert done(folder, "apply", "site.yaml") == "nothing to change\n"
