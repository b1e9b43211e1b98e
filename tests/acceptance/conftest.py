"""Where journals are killed: a mesh of its own on either pair of backends, and a sandbox CRM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.sandbox.crm import Faults, SandboxCrm
from tests.acceptance.killing_kit import SETTINGS
from tests.mesh.processes import EmbeddedMesh, Mesh


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("servers", marks=[pytest.mark.rabbitmq, pytest.mark.mongodb]),
    ]
)
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    if request.param == "embedded":
        found: Mesh = EmbeddedMesh(tmp_path / "mesh")
    else:
        urls = (request.getfixturevalue("amqp_url"), request.getfixturevalue("mongo_url"))
        found = Mesh(*urls, tmp_path / "mesh")
    found.settings |= SETTINGS
    with found:
        yield found


@pytest.fixture
def crm(tmp_path: Path) -> SandboxCrm:
    found = SandboxCrm(tmp_path / "crm.db")
    found.faults = Faults(search_lag_ms=300)
    return found
