"""A FastAGI decision with a cached contact, beside a FastAGI server that says a fixed word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
)
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import ask_route
from shared.sandbox.site import PBX, TENANT, site_file
from shared.testing.backends import Backends
from tests.mesh.processes import Mesh

ASKED = 1500
WARM = 200
_ANSWER = {"CRM_DEST": "extension:101", "CRM_REASON": "fixed", "CRM_RULE": "none", "CRM_URL": ""}

Agi = tuple[str, int, str]


async def measure(backends: Backends, folder: Path) -> list[str]:
    lines = [f"{ASKED} questions one after the other, each on a connection of its own, ms"]
    crm = SandboxCrm(folder / "decision-crm.db")
    text = site_file(crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=1)
    async with _echo() as agi:
        lines.append(await _timed("bare FastAGI echo", agi))
    async with _embedded(folder / "decision", text) as agi:
        lines.append(await _timed("embedded", agi))
    with Mesh(backends.amqp_url(), backends.mongo_url(), folder / "decision-mesh") as mesh:
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            await prepare(platform, text)
        await asyncio.to_thread(mesh.start, "routing")
        agi = ("127.0.0.1", mesh.agi_port, f"route/{TENANT}/{PBX}")
        lines.append(await _timed("process of its own, MongoDB", agi))
    async with _echo() as agi:
        lines.append(await _timed("bare FastAGI echo, again", agi))
    await crm.stop()
    return lines


async def _timed(name: str, agi: Agi) -> str:
    took = []
    for number in range(WARM + ASKED):
        began = perf_counter()
        found = await ask_route(
            agi,
            caller="447700900123",
            caller_name="Customer",
            did="442079460000",
            uniqueid=f"1795244075.{number}",
        )
        took.append((perf_counter() - began) * 1000)
        assert found["CRM_DEST"] == "extension:101", found
    cuts = quantiles(took[WARM:], n=100)
    return f"{name:<28} p50 {cuts[49]:6.2f}   p99 {cuts[98]:6.2f}   max {max(took[WARM:]):6.2f}"


@asynccontextmanager
async def _embedded(folder: Path, text: str) -> AsyncIterator[Agi]:
    choice = Choice(
        MeshSettings(data_dir=folder),
        AmqpSettings(),
        MongoSettings(),
        NetSettings(allow="127.0.0.0/8"),
    )
    async with open_platform(choice, consumers=consumers()) as platform:
        await prepare(platform, text)
        async with running(
            [CATALOG["routing"].build],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=choice.mesh.drain,
        ) as state:
            yield "127.0.0.1", state.services[0].ports["fastagi"], f"route/{TENANT}/{PBX}"


@asynccontextmanager
async def _echo() -> AsyncIterator[Agi]:
    """The same dialogue without a question behind it: what sockets and this client cost."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            pass
        writer.write(b"GET FULL VARIABLE ${CHANNEL(linkedid)}\n")
        await reader.readline()
        for name, value in _ANSWER.items():
            writer.write(f'SET VARIABLE {name} "{value}"\n'.encode())
            await reader.readline()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "127.0.0.1", server.sockets[0].getsockname()[1], "route"
    finally:
        server.close()
