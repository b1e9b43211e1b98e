"""The page of a CRM that agents keep open, served from an origin of its own, and the mesh behind."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.moments import to_text
from shared.runtime.host import Running, running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
)
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.site import site_file
from shared.testing.servers import free_port
from shared.testing.waiting import eventually
from tests.scenario.conftest import has_begun

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "how-to" / "screen-pops.md"


def guide_functions() -> str:
    """What a reader of the guide would copy into a page."""
    return "\n".join(re.findall(r"^```js\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))


class PageServer:
    """``url`` serves the page; its server has the API key and takes tickets for it."""

    def __init__(self, gateway: str, *, port: int = 0) -> None:
        self.gateway = gateway
        self.key: SecretStr | None = None
        self.url = ""
        self.tickets = 0
        self._port = port
        self._runner: web.AppRunner | None = None

    def at(self, extension: str, by: str) -> str:
        query = {"extension": extension, "by": by, "gateway": self.gateway}
        return str(URL(self.url).with_query(query))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_post("/ticket", self._ticket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        page = (HERE / "page.html").read_text()
        page = page.replace('"the functions of the guide";', guide_functions())
        return web.Response(text=page, content_type="text/html")

    async def _ticket(self, request: web.Request) -> web.Response:
        assert self.key is not None
        headers = {"X-Api-Key": self.key.get_secret_value()}
        extension = request.query["extension"]
        wanted = {"extension": extension} if extension else {}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{self.gateway}/v1/streams/tickets", headers=headers, json=wanted
                ) as answer,
            ):
                self.tickets += 1
                return web.json_response(await answer.json(), status=answer.status)
        except aiohttp.ClientError:
            return web.json_response({"detail": "the gateway is away"}, status=503)


@dataclass
class Desk:
    """A mesh on embedded backends, whose gateway keeps its address over restarts."""

    choice: Choice
    crm: SandboxCrm
    pbx: SandboxPbx
    pages: PageServer
    port: int
    platform: Platform | None = None
    state: Running | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        platform = await self._stack.enter_async_context(
            open_platform(self.choice, consumers=consumers())
        )
        if self.pages.key is None:
            text = site_file(
                crm_url=f"http://127.0.0.1:{await self.crm.start()}",
                ami_port=await self.pbx.start(),
                settle_s=0.1,
            )
            self.pages.key = await prepare(platform, text)
        self.platform = platform
        self.state = await self._stack.enter_async_context(
            running(
                [entry.build for entry in CATALOG.values()],
                platform,
                http=HttpSettings(port=self.port, origins=self.pages.url),
                ops=OpsSettings(port=0),
                drain=timedelta(seconds=1),
            )
        )
        await has_begun(platform)
        await eventually(lambda: self.pbx.listeners == 2)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def tell(self, *events: dict[str, Any]) -> None:
        """By the JSON hook: such a call goes on until its end is told."""
        assert self.pages.key is not None
        assert self.platform is not None
        now = to_text(self.platform.clock.now())
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.pages.gateway}/v1/hooks/door",
                headers={"X-Api-Key": self.pages.key.get_secret_value()},
                json={"events": [{"at": now, **event} for event in events]},
            ) as answer,
        ):
            assert answer.status == 202, await answer.text()

    def metric(self, name: Any) -> float:
        return self.platform.metrics.value(name) if self.platform is not None else 0.0


@asynccontextmanager
async def desk_at(folder: Path, choice: Choice | None = None) -> AsyncIterator[Desk]:
    embedded = Choice(
        MeshSettings(data_dir=folder / "mesh", drain=timedelta(seconds=1)),
        AmqpSettings(),
        MongoSettings(),
        NetSettings(allow="127.0.0.0/8"),
    )
    port = free_port()
    pages = PageServer(f"http://127.0.0.1:{port}")
    await pages.start()
    crm, pbx = SandboxCrm(folder / "crm.db"), SandboxPbx(speed=2)
    desk = Desk(choice or embedded, crm, pbx, pages, port)
    try:
        await desk.start()
        yield desk
    finally:
        await desk.stop()
        await pages.stop()
        await pbx.stop()
        await crm.stop()
