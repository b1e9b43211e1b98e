"""A headless Chromium, driven over its DevTools protocol: open a page, look at it, click."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from shared.testing.waiting import eventually

#: Debian's package of that name.
PROGRAM = "chromium"
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--mute-audio", "--no-proxy-server", "--remote-debugging-port=0"),
)
_MAX_MESSAGE = 64 * 1024 * 1024


def missing() -> str | None:
    """Why there is no browser; None: there is."""
    if shutil.which(PROGRAM) is None:
        return "no chromium: `deploy/scripts/ensure-tools.sh chromium` installs it, as root"
    return None


class Browser:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        #: What pages wrote to their consoles.
        self.said: list[str] = []

    async def listen(self) -> None:
        async for message in self._ws:
            found = json.loads(message.data)
            if (asked := self._asked.pop(found.get("id", 0), None)) is not None:
                asked.set_result(found)
            elif found.get("method") == "Runtime.consoleAPICalled":
                self.said += [str(arg.get("value")) for arg in found["params"]["args"]]
            elif found.get("method") == "Runtime.exceptionThrown":
                self.said.append(str(found["params"]["exceptionDetails"]))

    async def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Raises: RuntimeError for what the browser refuses."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        asked = {"id": number, "method": method, "params": params}
        await self._ws.send_json(asked | ({"sessionId": session} if session else {}))
        found = await asyncio.wait_for(answer, 120)
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']['message']}")
        return found["result"]

    async def page(self, url: str) -> Tab:
        """A window of its own, with nothing of the others."""
        context = (await self.ask("Target.createBrowserContext"))["browserContextId"]
        target = await self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        tab = Tab(self, attached["sessionId"])
        await tab.ask("Runtime.enable")
        await tab.ask("Page.enable")
        await tab.ask("Page.navigate", url=url)
        await eventually(lambda: tab.is_true("document.readyState === 'complete'"))
        return tab


class Tab:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def ask(self, method: str, **params: Any) -> Any:
        return await self._browser.ask(method, self._session, **params)

    async def value(self, expression: str) -> Any:
        """Of a JavaScript expression, a promise's when it is kept. Raises: RuntimeError."""
        found = await self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    async def is_true(self, expression: str) -> bool:
        return bool(await self.value(expression))

    async def comes_true(self, expression: str, *, within: float = 60) -> None:
        async def holds() -> bool:
            return await self.is_true(expression)

        try:
            await eventually(holds, within=within)
        except AssertionError as error:
            shown = await self.value("document.body.innerText")
            raise AssertionError(f"{expression}: {shown}; {self._browser.said}") from error

    async def click(self, selector: str) -> None:
        """With the mouse, in its middle."""
        place = await self.value(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    async def screenshot(self, file: Path) -> None:
        found = await self.ask("Page.captureScreenshot", format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(found["data"]))


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """*folder*: for its profile and its log."""
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", stdout=log, stderr=log
        )
    port_file = folder / "profile" / "DevToolsActivePort"
    try:
        await eventually(
            lambda: port_file.exists() and port_file.read_text().count("\n") > 0, within=120
        )
        port, path = port_file.read_text().split("\n")[:2]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}{path}", max_msg_size=_MAX_MESSAGE) as ws,
        ):
            browser = Browser(ws)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
    finally:
        process.terminate()
        await process.wait()
