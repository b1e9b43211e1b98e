"""
From the ring at the PBX's socket to the card on a page in a real browser, and to a plain client.

The mesh is a process of its own, or six over RabbitMQ and MongoDB; PBX, CRM, page and browser are
beside it on the same machine, and so is its clock. A call begins a second before it rings, so the
CRM has been asked by then, as it is with most calls. Every call is journaled meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from services.catalog import consumers
from services.cli.demo import prepare
from shared.clock import SystemClock
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiParser
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT, site_file
from shared.testing.backends import Backends
from shared.testing.waiting import eventually
from tests.browser.chromium import Tab, chromium, missing
from tests.browser.desk_kit import PageServer
from tests.mesh.processes import EmbeddedMesh, Mesh

#: Calls a second, and how many.
RATES = ((5, 100), (50, 500))
WARM_UP = 20
CLOCK = SystemClock()


class TimedPbx(SandboxPbx):
    """Writes down when it told of each call's first ring, in ms since 1970."""

    def __init__(self) -> None:
        super().__init__(speed=2)
        self.rang: dict[str, float] = {}

    def _tell(self, text: str) -> None:
        if "Ringing" in text:
            for message in AmiParser().feed(f"{text}\r\n\r\n".encode()):
                if message.event == "Newstate" and message.get("Channel").startswith("PJSIP/101"):
                    call = call_id(TENANT, PBX, message.get("Linkedid"))
                    self.rang.setdefault(call, _now_ms())
        super()._tell(text)


def _now_ms() -> float:
    return time.time() * 1000  # noqa: TID251  the browser's performance.timeOrigin is of this clock


async def measure(backends: Backends, folder: Path) -> list[str]:
    if (reason := missing()) is not None:
        return [reason]
    lines: list[str] = []
    meshes: tuple[tuple[str, Mesh], ...] = (
        ("embedded, one process", EmbeddedMesh(folder / "embedded")),
        ("RabbitMQ and MongoDB, six", _mesh(backends, folder)),
    )
    for name, mesh in meshes:
        with mesh:
            lines += [f"{name:<26} {line}" for line in await _measured(mesh, folder)]
    return lines


def _mesh(backends: Backends, folder: Path) -> Mesh:
    return Mesh(backends.amqp_url(), backends.mongo_url(), folder / "servers")


async def _measured(mesh: Mesh, folder: Path) -> list[str]:
    lines = []
    async with _office(mesh, folder) as (pbx, tab, heard):
        serials = iter(range(1, 100_000))
        await _play(pbx, serials, rate=5, calls=WARM_UP)
        for rate, calls in RATES:
            before = set(pbx.rang)
            await _play(pbx, serials, rate=rate, calls=calls)
            wanted = set(pbx.rang) - before
            with suppress(AssertionError):  # what is missing is said
                await eventually(lambda wanted=wanted: wanted <= set(heard))
                await eventually(partial(_is_shown, tab, wanted))
            shown = dict(await tab.value(_POPS))
            for client, times in (("browser", shown), ("client", heard)):
                waits = sorted(times[call] - pbx.rang[call] for call in wanted if call in times)
                lines.append(f"{rate:>3} calls/s, {client:<8} {_words(waits, len(wanted))}")
    return lines


async def _is_shown(tab: Tab, wanted: set[str]) -> bool:
    return wanted <= {call for call, _ in await tab.value(_POPS)}


#: The first card of each call, and when it was on the page.
_POPS = (
    "[...new Map(log.filter((e) => e.kind === 'pop').reverse()"
    ".map((e) => [e.call_id, times[e.id]]))]"
)


def _words(waits: list[float], wanted: int) -> str:
    if not waits:
        return "nothing came"
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    missing_ones = f"; {wanted - len(waits)} MISSING" if len(waits) < wanted else ""
    return f"p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   most {waits[-1]:6.1f} ms{missing_ones}"


async def _play(pbx: TimedPbx, serials: Any, *, rate: int, calls: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            cast = Cast(started_at=CLOCK.now().replace(microsecond=0), serial=next(serials))
            group.create_task(pbx.play("answered", cast))
            await CLOCK.sleep(timedelta(seconds=1 / rate))


@asynccontextmanager
async def _office(
    mesh: Mesh, folder: Path
) -> AsyncIterator[tuple[TimedPbx, Tab, dict[str, float]]]:
    async with AsyncExitStack() as stack:
        crm, pbx, pages = SandboxCrm(mesh.folder / "crm.db"), TimedPbx(), PageServer(mesh.url)
        await pages.start()
        stack.push_async_callback(pages.stop)
        mesh.settings["CALLMESH_HTTP_ORIGINS"] = pages.url
        text = site_file(
            crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=await pbx.start()
        )
        stack.push_async_callback(crm.stop)
        stack.push_async_callback(pbx.stop)
        async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
            pages.key = await prepare(platform, text)
        await asyncio.to_thread(_start, mesh)
        await eventually(lambda: pbx.listeners == 2)
        profile = mesh.folder / "browser"
        profile.mkdir()
        browser = await stack.enter_async_context(chromium(profile))
        tab = await browser.page(pages.at("", "socket"))
        heard: dict[str, float] = {}
        session = await stack.enter_async_context(aiohttp.ClientSession())
        key = pages.key.get_secret_value()
        listening = asyncio.create_task(_listen(session, f"{mesh.url}/v1/events", key, heard))
        stack.callback(listening.cancel)
        await CLOCK.sleep(timedelta(seconds=2))
        yield pbx, tab, heard


def _start(mesh: Mesh) -> None:
    if not isinstance(mesh, EmbeddedMesh):
        mesh.start()
        return
    with (mesh.folder / "gateway.log").open("ab") as log:
        mesh.processes["gateway"] = subprocess.Popen(
            [sys.executable, "-m", "services", "up"],
            env=mesh.environment("gateway"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    mesh.wait_ready("gateway")


async def _listen(
    session: aiohttp.ClientSession, url: str, key: str, heard: dict[str, float]
) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    with suppress(aiohttp.ClientError):
        async with session.get(url, headers={"X-Api-Key": key}, timeout=timeout) as stream:
            async for line in stream.content:
                if line.startswith(b'data: {"kind":"pop"'):
                    heard.setdefault(json.loads(line[6:])["call_id"], _now_ms())
