"""
Schemathesis against the whole API of a mesh in this process: whatever is sent, no answer is a fault
of ours, and each is one that the OpenAPI document tells of.

``CALLMESH_TEST_FUZZ`` is how many examples each operation gets beside those that the document's
bounds alone give: some minutes with the default, hours with 1000.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.http.auth import Scope
from shared.ids import new_id
from shared.runtime.platform import Choice
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
)
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.site import TENANT
from tests.scenario.conftest import WholeMesh, opened

EXAMPLES = int(os.environ.get("CALLMESH_TEST_FUZZ", "5"))  # noqa: TID251  the test's own
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    # Of our own: tests/contract/fuzz_checks.py.
    "wrong_heads_are_refused",
    "innards_are_not_shown",
)
ROOT = Path(__file__).parents[2]
#: Their answers do not end: a stream follows what happens.
ENDLESS = r"/(events|socket)$"
CONFIG = """
[phases.stateful]
enabled = false
"""


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WholeMesh]:
    monkeypatch.setenv("CALLMESH_ROUTING_AGI_PORT", "0")
    choice = Choice(
        MeshSettings(
            data_dir=tmp_path,
            settings_poll=timedelta(seconds=1),
            drain=timedelta(seconds=2),
        ),
        AmqpSettings(),
        MongoSettings(),
        NetSettings(allow="127.0.0.0/8"),
    )
    crm = SandboxCrm(tmp_path / "crm.db")
    http = HttpSettings(port=0, rate=0, traffic_rate=0, wrong_keys=0)
    async with opened(choice, crm, http=http) as found:
        yield found
    await crm.stop()


@pytest.mark.timeout(3600)
async def test_whatever_is_sent_is_answered_as_the_document_says(
    mesh: WholeMesh, tmp_path: Path
) -> None:
    # An operator's key of another tenant: nothing that is sent can take it away.
    key = await mesh.platform.keys.issue(
        tenant="elsewhere", name=f"k-{new_id()}", scopes=tuple(Scope)
    )
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{mesh.url}/openapi.json",
        f"--header=X-Api-Key:{key.get_secret_value()}",
        f"--header=X-Callmesh-Tenant:{TENANT}",
        f"--checks={','.join(CHECKS)}",
        f"--exclude-path-regex={ENDLESS}",
        f"--max-examples={EXAMPLES}",
        "--generation-deterministic",
        "--seed=7",
        "--phases=examples,coverage,fuzzing",
        "--workers=1",
        "--request-timeout=120",
        "--warnings=off",
        "--suppress-health-check=all",
        "--no-shrink",
        "--no-color",
        cwd=tmp_path,
        env={
            **os.environ,  # noqa: TID251  as this test has it
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.contract.fuzz_checks",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")[-200_000:]
    assert mesh.state.failed is None
