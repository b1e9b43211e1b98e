"""The gateway is killed while phones ring: screens come back, and no card opens a second time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from services.catalog import consumers
from services.cli.demo import prepare
from shared.clock import SystemClock
from shared.ids import call_id
from shared.moments import to_text
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.site import TENANT, site_file
from shared.testing.waiting import eventually
from tests.contract.streams_kit import Page, listening
from tests.mesh.processes import EmbeddedMesh, Mesh

JANE, STRANGER = "+447700900123", "+447700900999"
MINE = "/v1/agents/101/events"
CLOCK = SystemClock()


@dataclass
class Office:
    """A mesh of processes, whose PBX is the JSON hook."""

    mesh: Mesh
    session: aiohttp.ClientSession
    key: str

    def start(self) -> None:
        if not isinstance(self.mesh, EmbeddedMesh):
            self.mesh.start(*(["gateway"] if "gateway" in self.mesh.processes else ()))
            return
        with (self.mesh.folder / "gateway.log").open("ab") as log:
            self.mesh.processes["gateway"] = subprocess.Popen(
                [sys.executable, "-m", "services", "up"],
                env=self.mesh.environment("gateway"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.mesh.wait_ready("gateway")

    async def tell(self, *events: dict[str, Any]) -> None:
        now = to_text(CLOCK.now())
        async with self.session.post(
            f"{self.mesh.url}/v1/hooks/door",
            headers={"X-Api-Key": self.key},
            json={"events": [{"at": now, **event} for event in events]},
        ) as answer:
            assert answer.status == 202, await answer.text()

    async def rings(self, call: str, number: str = JANE) -> str:
        """Our id of the call."""
        began = {"event": "started", "call": call, "direction": "inbound", "caller": number}
        rings = {"event": "ringing", "call": call, "extension": "101", "caller": number}
        await self.tell({**began, "dialled": "442079460000"}, rings)
        return call_id(TENANT, "door", call)

    async def record(self, call: str) -> dict[str, Any]:
        async with self.session.get(
            f"{self.mesh.url}/v1/calls/{call}", headers={"X-Api-Key": self.key}
        ) as answer:
            return dict(await answer.json()) if answer.status == 200 else {}

    def listen(self, last_id: str | None = None) -> Any:
        headers = {"Last-Event-ID": last_id} if last_id else None
        return listening(self.session, self.mesh.url + MINE, key=self.key, headers=headers)


@asynccontextmanager
async def opened(mesh: Mesh, crm: SandboxCrm) -> AsyncIterator[Office]:
    for name in ("CALLMESH_HTTP_PORT", "CALLMESH_OPS_PORT"):
        del mesh.settings[name]  # whether it is ready is asked there
    text = site_file(crm_url=f"http://127.0.0.1:{await crm.start()}", ami_port=1)
    async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
        key = await prepare(platform, text)
    async with aiohttp.ClientSession() as session:
        office = Office(mesh, session, key.get_secret_value())
        await asyncio.to_thread(office.start)
        yield office
    await crm.stop()


async def test_after_a_kill_screens_are_what_they_were(mesh: Mesh, crm: SandboxCrm) -> None:
    async with opened(mesh, crm) as office:
        page = Page()
        async with office.listen() as before:
            talks = await office.rings("talks")
            over = await office.rings("over", STRANGER)
            await eventually(lambda: len(before.of("pop")) == 2)
            await office.tell({"event": "answered", "call": "talks", "extension": "101"})
            await before.has(lambda event: event["kind"] == "answered")
            for event in before.events:
                page.take(event)

            async def is_journaled() -> bool:
                return "answered_at" in await office.record(talks) and bool(
                    await office.record(over)
                )

            await eventually(is_journaled)
            seen = f"{mesh.url}/v1/agents/101/pops/{talks}"
            async with office.session.post(
                seen, headers={"X-Api-Key": office.key}, json={"seen": "opened"}
            ) as answer:
                assert answer.status == 202
            await before.has(lambda event: event["kind"] == "seen")
            mesh.kill("gateway")
            await eventually(lambda: before.over)
        assert set(page.calls) == {talks, over}
        assert len(page.opened) == 2

        await asyncio.to_thread(office.start)
        async with office.listen(before.last_id) as after:
            await eventually(lambda: len(after.of("pop")) == 2)
            assert after.kinds[0] == "reset"
            seen_now = {event["call_id"]: event.get("seen") for event in after.of("pop")}
            assert seen_now == {talks: "opened", over: None}
            told = {event["id"] for event in after.of("ringing") + after.of("pop")}
            assert told <= {event["id"] for event in before.events}
            await office.tell({"event": "ended", "call": "over"})
            closed = await after.has(lambda event: event["kind"] == "closed")
            assert closed["call_id"] == over
            for event in after.events:
                page.take(event)
            assert set(page.calls) == {talks}
            assert len(page.opened) == 2, "no card has opened a second time"
