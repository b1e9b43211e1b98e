"""The tutorial "add your CRM" as a reader does it: one YAML file, no Python."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.testing.waiting import eventually
from tests.acceptance.commands_kit import command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial/add-your-crm.md").read_text()
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = re.findall(r"cat > (\w+) <<'JSON'\n(.*?)JSON\n", PAGE, re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # noqa: TID251  of the process that is started
        text=True,
    ) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        (tmp_path / "port").write_text(said.partition("port ")[2].split()[0])
        yield tmp_path
        server.terminate()


def template() -> str:
    """The file as it is at the end of the tutorial."""
    begin, users, journal, link, new_page, telephony = map(str, YAML)
    begin = begin.replace("    page_url:", f"{link}{new_page.rstrip()}\n    page_url:")
    return begin + users + journal + telephony


def callmesh(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "CALLMESH_DATA_DIR": str(folder / "data"),
        "CALLMESH_NET_ALLOW": "127.0.0.1/32",
        "CALLMESH_TEMPLATES_DIR": str(folder),
        "SHOP_KEY": "not-a-real-key",
        "COLUMNS": "200",
    }
    ran = command(arguments, environment=environment, cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


async def test_a_crm_is_added_by_one_file(shop: Path) -> None:
    port = int((shop / "port").read_text())
    await eventually(lambda: answers(port))
    (shop / "my-shop.yaml").write_text(template())
    assert "no faults" in callmesh(shop, "template", "lint", "./my-shop.yaml")
    said = callmesh(
        shop,
        *("template", "test", "./my-shop.yaml"),
        *("--number", "020 7946 0123", "--region", "GB"),
        *("--parameter", f"url=http://127.0.0.1:{port}", "--credential", "api_key=SHOP_KEY"),
    )
    assert "contact_id 7, display_name Ann Lee, company Lee & Co" in said
    assert "display_name Bo" not in said.replace('"first": "Bo"', "")
    assert "display_name Cy, email cy@shop.example" in said
    assert "not-a-real-key" not in said
    assert re.search(
        r"my-shop +│ My Shop +│ search, users, journal", callmesh(shop, "template", "list")
    )


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
