"""A UIS account on a port of this machine: documented JSON-RPC, and what a test wants it to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.pbx.port import PbxAdapter, Phones
from shared.pbx.uis.adapter import UisSettings, uis_adapter

A_WHILE = timedelta(seconds=5)
NOW = datetime(2026, 3, 4, 7, 16, tzinfo=UTC)
TOKEN = "a-key-of-the-account"
LIMITS = {
    "day_limit": 1000,
    "day_remaining": 900,
    "day_reset": 60340,
    "minute_limit": 250,
    "minute_remaining": 249,
    "minute_reset": 42,
}
PHONES = Phones(extensions=frozenset({"101", "102"}), users={"25": "101", "26": "102"})

LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))

#: The parameters of a request → ``result`` or ``error``, or a response as it is.
Method = Callable[[dict[str, Any]], dict[str, Any] | web.Response]


def result(data: Any) -> dict[str, Any]:
    return {"result": {"data": data, "metadata": {"limits": LIMITS}}}


def error(code: int, mnemonic: str, message: str = "No", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "data": {"mnemonic": mnemonic, **more}}}


class Account:
    """Takes what is well formed JSON-RPC 2.0 with the right token; *methods* say the answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.clock = NOW
        self.port = 0
        self.methods: dict[str, Method] = {
            "get.account": lambda _: result([{"app_id": 1, "timezone": "Europe/Moscow"}]),
            "get.employees": lambda _: result(
                [{"id": 25, "full_name": "Anna Agent"}, {"id": 26, "full_name": "Ben Agent"}]
            ),
            "list.calls": lambda _: result([]),
            "start.employee_call": lambda _: result({"call_session_id": 237859081}),
            "update.employees": lambda _: result({"success": True}),
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/json; charset=UTF-8"
        asked = await request.json()
        assert asked["jsonrpc"] == "2.0"
        params = asked["params"]
        token = params.pop("access_token")
        self.asked.append((request.path, asked["method"], params))
        found: dict[str, Any] | web.Response
        if token != TOKEN:
            found = error(-32001, "access_token_invalid", f"Access token {token} is invalid")
        else:
            found = self.methods[asked["method"]](params)
        if isinstance(found, web.Response):
            return found
        document = {"jsonrpc": "2.0", "id": asked["id"], **found}
        headers = {"Date": format_datetime(self.clock, usegmt=True)}
        return web.json_response(document, headers=headers)


@asynccontextmanager
async def an_account() -> AsyncIterator[Account]:
    found = Account()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def settings(port: int, **more: Any) -> UisSettings:
    known: dict[str, Any] = {
        "call_api": f"http://127.0.0.1:{port}/call/v4.0",
        "data_api": f"http://127.0.0.1:{port}/data/v2.0",
        "access_token": SecretStr(TOKEN),
        "virtual_number": "+74993720692",
    }
    return UisSettings(**(known | more))


def adapter(http: HttpClient, port: int, phones: Phones | None = None, **more: Any) -> PbxAdapter:
    return uis_adapter(
        settings(port, **more),
        tenant="acme",
        pbx="uis",
        http=http,
        clock=ManualClock(NOW),
        phones=phones,
    )
