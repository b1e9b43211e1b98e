"""Six processes over RabbitMQ and MongoDB, one of them killed in the middle of the calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.clock import SystemClock
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import CALLS, Round, mesh_api, play_round
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.site import PBX, TENANT, site_file
from shared.testing.waiting import eventually
from tests.mesh.processes import Mesh

pytestmark = [pytest.mark.rabbitmq, pytest.mark.mongodb]


async def test_killed_services_lose_no_call_and_double_no_entry(
    amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    crm = SandboxCrm(tmp_path / "crm.db")
    pbx = SandboxPbx(speed=2)
    text = site_file(crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=await pbx.start())
    with Mesh(amqp_url, mongo_url, tmp_path / "mesh") as mesh:
        pbx.agi = ("127.0.0.1", mesh.agi_port, f"route/{TENANT}/{PBX}")
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            key = await prepare(platform, text)
        await asyncio.to_thread(mesh.start)
        await eventually(lambda: pbx.listeners == 2)
        what = Round(started_at=SystemClock().now())
        async with mesh_api(mesh.url, key.get_secret_value()) as api:
            said: list[str] = []
            playing = asyncio.create_task(play_round(pbx, api, what, say=said.append))
            # ingest holds the PBX's events and stays; all that follows it dies once.
            await eventually(lambda: any("rings" in words for words in said))
            for name in ("journal", "lookup", "routing"):
                await asyncio.to_thread(mesh.kill, name)
                await asyncio.to_thread(mesh.start, name)
            told = await playing
        codes = await asyncio.to_thread(mesh.stop)
        leaked = [name for name in CATALOG if key.get_secret_value() in mesh.log(name)]
    subjects = [entry["Subject"] for entry in crm.records("Calls")]
    await pbx.stop()
    await crm.stop()
    assert len(told) == CALLS
    assert len(subjects) == len(set(subjects)) == CALLS
    assert set(codes.values()) == {0}
    assert not leaked
