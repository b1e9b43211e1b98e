"""A server that speaks the documented Open API of a Yeastar P-Series."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

CLIENT_ID, SECRET = "UEnH9Dmv6uBJEXsYcag1trNfQThYexam", "ZLcXl63S9EtMnYoHUnjbVo6sA8Cbexam"
BASE = "/openapi/v1.0"

Answer = Callable[[web.Request, dict[str, Any]], dict[str, Any] | web.Response]


def good(**more: object) -> dict[str, Any]:
    return {"errcode": 0, "errmsg": "SUCCESS", **more}


def refused(errcode: int, errmsg: str) -> dict[str, Any]:
    return {"errcode": errcode, "errmsg": errmsg}


@dataclass(eq=False)
class FakeYeastar:
    """
    *most_tokens*: how many may live at once; one more ends the oldest, as older firmware does.
    *answers*: by path, in place of its own. *asked*: path, query without token, body.
    """

    url: str = ""
    most_tokens: int = 8
    lives_for: int = 1800
    takes_refresh: bool = True
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    made: int = 0
    agents: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    opened: int = 0
    subscription: dict[str, Any] = field(default_factory=good)
    mute: bool = False
    #: Takes a request and never answers it.
    silent: bool = False

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    def made_token(self) -> dict[str, Any]:
        self.made += 1
        self.tokens.append(f"token-{self.made}")
        del self.tokens[: -self.most_tokens]
        return good(
            access_token=self.tokens[-1],
            access_token_expire_time=self.lives_for,
            refresh_token=f"refresh-{self.made}",
            refresh_token_expire_time=86400,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(f"{BASE}/")
        self.agents.append(request.headers.get("User-Agent", ""))
        query = dict(request.query)
        token = query.pop("access_token", None)
        body: Any = await request.json() if request.can_read_body else None
        if path != "subscribe":
            self.asked.append((path, query, body))
        if self.silent:
            await asyncio.Event().wait()
        own = self.answers.get(path)
        if path in {"get_token", "refresh_token"}:
            said = own(request, body) if own else self._login(path, body)
        elif token not in self.tokens:
            if path == "subscribe":
                return web.Response(status=403)
            said = refused(10004, "TOKEN EXPIRED")
        elif path == "subscribe" and not own:
            return await self._subscribe(request)
        else:
            said = own(request, body or query) if own else good()
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)

    def _login(self, path: str, body: Any) -> dict[str, Any]:
        if path == "refresh_token":
            known = body["refresh_token"] == f"refresh-{self.made}" and self.takes_refresh
            if not known:
                return refused(10005, "REFRESH FAILED")
            del self.tokens[-1:]
            return self.made_token()
        if body == {"username": CLIENT_ID, "password": SECRET}:
            return self.made_token()
        return refused(20003, "WRONG PASSWORD")

    async def _subscribe(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened += 1
        self.sockets.append(socket)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            self.heard.append(message.data)
            if self.mute:
                continue
            if message.data == "heartbeat":
                await socket.send_str("heartbeat response")
            else:
                await socket.send_json(self.subscription)
        self.sockets.remove(socket)
        return socket

    async def tell(self, text: str) -> None:
        for socket in list(self.sockets):
            await socket.send_str(text)

    async def hang_up(self) -> None:
        for socket in list(self.sockets):
            await socket.close()


@asynccontextmanager
async def a_yeastar(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeYeastar]:
    pbx = FakeYeastar()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pbx.handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    pbx.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield pbx
    finally:
        await pbx.hang_up()
        await runner.cleanup()
