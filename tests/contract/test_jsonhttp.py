"""The JSON APIs of PBXs: refusals, and what a hostile one can answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared.clock import ManualClock
from shared.errors import Rejected, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.pbx.jsonhttp import JsonHttp
from shared.pbx.kept import Kept
from shared.testing.waiting import eventually

NOW = datetime(2026, 3, 4, 7, 16, tzinfo=UTC)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))


class Pbx:
    """Answers whatever is asked with *answer*."""

    def __init__(self) -> None:
        self.answer: tuple[int, str] = (200, "{}")
        self.date = ""
        self.port = 0

    async def serve(self, request: web.Request) -> web.Response:
        status, text = self.answer
        return web.Response(status=status, text=text, headers={"Date": self.date})


@pytest.fixture
async def pbx() -> AsyncIterator[Pbx]:
    found = Pbx()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.serve)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def api(pbx: Pbx) -> AsyncIterator[JsonHttp]:
    async with HttpClient(LOOPBACK) as http:
        yield JsonHttp(
            "Wazo",
            f"http://127.0.0.1:{pbx.port}",
            http=http,
            clock=ManualClock(NOW),
            fingerprint=None,
            no_access="",
        )


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        "Mon, 01 Jan 2026 00:00:00 -0000",
        "Mon, 01 Jan 2026 00:00:00",
        "yesterday",
        "",
    ],
)
async def test_a_date_that_is_none_is_no_clock_and_no_reason_to_break_off(
    pbx: Pbx, api: JsonHttp, date: str
) -> None:
    pbx.date = date

    assert api.read(await api.send("GET", ("x",), headers={})) == {}
    assert api.clock_finding().fault is None


async def test_to_be_asked_to_slow_down_is_no_refusal(pbx: Pbx, api: JsonHttp) -> None:
    """Who reads events tries again; of an order nothing was done."""
    pbx.answer = 429, "slow down"

    with pytest.raises(Unavailable, match="slow down") as caught:
        api.read(await api.send("GET", ("x",), headers={}))

    assert caught.value.details["sent"] is False


async def test_words_of_a_refusal_move_no_cursor(pbx: Pbx, api: JsonHttp) -> None:
    pbx.answer = 422, json.dumps({"message": "no\x1b[2J\x00\nphone\ud800 " + "x" * 500})

    with pytest.raises(Rejected) as caught:
        api.read(await api.send("GET", ("x",), headers={}))

    assert "no [2J phone? xxx" in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("part", ["", ".", "..", "a/../../connect", "/"])
async def test_an_id_is_one_part_of_an_address(api: JsonHttp, part: str) -> None:
    with pytest.raises(Rejected, match="part of an address"):
        await api.send("GET", ("users", part), headers={})


async def test_what_breaks_one_connection_is_said_and_it_is_tried_again() -> None:
    clock, tries = ManualClock(), 0

    async def serve() -> None:
        nonlocal tries
        tries += 1
        raise ValueError("what a PBX sent")

    kept = Kept(host="pbx.example", clock=clock)
    with capture_logs() as logs:
        task = asyncio.create_task(kept.run(serve))
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(timedelta(seconds=1))
        await eventually(lambda: tries >= 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert "broke callmesh" in (kept.fault or "")
    assert "what a PBX sent" not in (kept.fault or "")
    assert {line["event"] for line in logs} == {"pbx_session_failed"}
