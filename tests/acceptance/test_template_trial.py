"""``template test`` shows every exchange, and no secret: not even one that the CRM just made."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from tests.contract.scripted_crm import Asked, scripted

ROOT = Path(__file__).parents[2]
#: The session's id is called `id`, as SuiteCRM's is: nothing but the template says what it is.
TEMPLATE: dict[str, Any] = {
    "schema": 2,
    "name": "trial",
    "title": "Trial",
    "quality": "declared",
    "sources": ["this file"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url"}],
    "credentials": [{"name": "password", "title": "Password"}],
    "auth": {
        "login": [
            {
                "request": {"method": "POST", "url": "{{.url}}/login", "json": ["{{.password}}"]},
                "take": {"Sid": "id"},
            }
        ],
        "apply": [{"in": "query", "name": "sid", "value": "{{.Sid}}"}],
    },
    "phone_formats": ["e164"],
    "check": {"url": "{{.url}}/me"},
    "search": [{"request": {"url": "{{.url}}/people?n={{.Phone}}"}, "records": "people"}],
    "contacts": {"People": {"phone_fields": ["phone"], "map": {"display_name": "name"}}},
    "follow_ups": [{"after": "search", "request": {"url": "{{.url}}/follow-up"}}],
}


def answers(asked: Asked) -> Any:
    if asked.what == "POST /login":
        return {"id": "sid-4711"}
    name = "[red]Ann[/] \x1b]0;title\x07"
    return {"people": [{"id": 1, "name": name, "phone": "+442079460123"}]}


async def test_what_a_sign_in_makes_is_masked_from_the_first_moment(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(TEMPLATE))
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "CALLMESH_DATA_DIR": str(tmp_path / "data"),
        "CALLMESH_NET_ALLOW": "127.0.0.1/32",
        "PASSWORD": "pw-0815",
        "COLUMNS": "200",
    }
    async with scripted(answers) as crm:
        ran = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services", "template", "test", "./trial.yaml"),
            *("--number", "020 7946 0123", "--region", "GB", "--parameter", f"url={crm.url}"),
            *("--credential", "password=PASSWORD"),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await ran.communicate())[0].decode()
    assert ran.returncode == 0, said
    assert "sid-4711" not in said
    assert "pw-0815" not in said
    assert "\x1b" not in said
    assert "display_name [red]Ann[/]" in said
    assert "/follow-up?sid=•••" in said
    stores = _stores(tmp_path / "data")
    assert stores
    # The log of requests has its lines, masked as everywhere; of the trial itself nothing stays.
    left = [line for line in ";".join(stores).split(";") if "doc_mesh_requests" not in line]
    assert "trial-" not in "".join(left), "the trial left its session behind"
    assert "sid-4711" not in "".join(stores)


def _stores(folder: Path) -> list[str]:
    """What is in each, as SQL."""
    found = []
    for file in folder.rglob("*.db"):
        with closing(sqlite3.connect(file)) as store:
            found.append("".join(store.iterdump()))
    return found
