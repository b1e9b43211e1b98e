"""A gateway whose clock is moved by hand, a call that has ended, and a web server with recordings."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from shared.clock import ManualClock
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, Party, RecordingReady
from shared.recordings.links import RecordingLinks
from shared.sandbox.tone import write_tone
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened

PUBLIC = "https://mesh.example"
CALL = "6f2d3a8e-6a53-5d0e-9a52-9d1c1f0c3a11"
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Listener:
    """*api* and what is asked of its recordings."""

    def __init__(self, api: CrmApi, clock: ManualClock) -> None:
        self.api = api
        self.clock = clock
        self.ended_at = clock.now()

    @property
    def links(self) -> RecordingLinks:
        return self.api.links()

    async def a_call(self, *recordings: str, pbx: str = "main", call: str = CALL) -> None:
        """Answered at 101, over now, and heard of by the journal."""
        publisher = self.api.publisher("ingest")
        callee = Party(extension="101")
        events = (
            a_call(call_id=call, pbx=pbx),
            CallRinging(call_id=call, pbx=pbx, leg_id="1", callee=callee, caller=Party(number="1")),
            CallAnswered(call_id=call, pbx=pbx, leg_id="1", callee=callee),
            *(RecordingReady(call_id=call, pbx=pbx, recording=name) for name in recordings),
            CallEnded(call_id=call, pbx=pbx),
        )
        for event in events:
            await self.clock.advance(timedelta(seconds=1))
            await publisher.publish(event, tenant="acme", at=self.clock.now())
        self.ended_at = self.clock.now()

        async def is_known() -> bool:
            status, found = await self.api.send("GET", f"/v1/calls/{call}")
            known = found.get("recordings", []) if status == 200 else []
            return len(known) == len(recordings) and "ended_at" in found

        await eventually(is_known)

    def link(self, recording: str, *, tenant: str = "acme", call: str = CALL) -> str:
        """Its path at this gateway."""
        found = self.links.link(
            tenant=tenant,
            call_id=call,
            recording=recording,
            ended_at=self.ended_at,
            lasts=DAY,
        )
        assert found is not None
        return found.removeprefix(PUBLIC)

    async def get(
        self, path: str, *, method: str = "GET", key: str | None = None, **headers: str
    ) -> Heard:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"X-Api-Key": key} if key else {}
        async with self.api.session.request(method, path, headers=sent) as answer:
            return Heard(answer.status, answer.headers, await answer.read())

    async def accesses(self) -> list[dict[str, Any]]:
        status, found = await self.api.send("GET", f"/v1/calls/{CALL}/recordings/accesses")
        assert status == 200
        return list(found["accesses"])


class Heard:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.body[:200]!r}"

    @property
    def seconds(self) -> float:
        """How long it plays, if it is a WAV file."""
        with wave.open(io.BytesIO(self.body)) as sound:
            length: float = sound.getnframes() / sound.getframerate()
            return length


@asynccontextmanager
async def a_listener(folder: Path, **pbx: Any) -> AsyncIterator[Listener]:
    """The gateway of a site with one PBX, ``main``."""
    clock = ManualClock()
    async with opened(folder, public_url=PUBLIC, clock=clock) as api:
        await api.apply(pbx=[{"name": "main", "kind": "generic", **pbx}])
        yield Listener(api, clock)


class Web:
    """A server with recordings. *asked*: paths with queries, and the headers of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def has(self, path: str, body: bytes, kind: str = "audio/wav") -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            await self.gate.wait()
            return web.Response(body=body, content_type=kind)

        self.answers[path] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        self.headers.append(dict(request.headers))
        answer = self.answers.get(request.path)
        return await answer(request) if answer else web.Response(status=404)


@asynccontextmanager
async def a_web_server() -> AsyncIterator[Web]:
    server = Web()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def tone(folder: Path) -> bytes:
    """Two seconds of sound, as a WAV file."""
    file = folder / "tone.wav"
    write_tone(file)
    return file.read_bytes()
