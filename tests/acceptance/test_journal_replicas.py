"""Journals killed while they send many entries at once: every call has exactly one all the same."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from shared.clock import SystemClock
from shared.ids import reference
from shared.sandbox.crm import SandboxCrm
from shared.testing.waiting import eventually
from tests.acceptance.killing_kit import DONE_WITHIN, SETTINGS, assert_one_entry_each, telling
from tests.contract.retailcrm_server import KEY, RetailCrm
from tests.mesh.lives import Lives
from tests.mesh.mortal import Order
from tests.mesh.processes import Mesh

pytestmark = pytest.mark.timeout(1200)

ROUNDS, CALLS, KILLS = 5, 200, 3
#: Not the short time of the steps: two replicas and their servers share a busy machine here.
PATIENT = SETTINGS | {"CALLMESH_JOURNAL_WRITE_WITHIN": "3s"}
#: Long enough to hear of all calls first.
AFTER_S = 300
SHOP = """\
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{url}"}}
        credentials: {{api_key: {key}}}
        journal: {{after: {after_s}s}}
"""


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("killing", ["zoho", "shop"])
async def test_killed_when_a_crm_has_taken_many_at_once_there_is_one_entry_per_call(
    mesh: Mesh, crm: SandboxCrm, tmp_path: Path, killing: str
) -> None:
    """The one CRM has to be asked what it took; the other knows a call that comes again."""
    retail = RetailCrm()
    lives = Lives(mesh.environment("journal"), tmp_path / "lives.log")
    killed = False

    @web.middleware
    async def kill_once(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal killed
        answer = await handler(request)
        body = await request.text()
        if not killed and sum(reference(call) in body for call in stories.calls) > 1:
            killed = True
            lives.kill()
        return answer

    async def nobody(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "customers": []})

    app = web.Application(middlewares=[kill_once] if killing == "shop" else [])
    app.router.add_post("/api/v5/telephony/calls/upload", retail.upload)
    app.router.add_get("/{any:.*}", nobody)
    if killing == "zoho":
        crm._app.middlewares.insert(0, kill_once)
    async with AsyncExitStack() as stack:
        shop = SHOP.format(
            url=await stack.enter_async_context(served(app)), key=KEY, after_s=AFTER_S
        )
        stories = await stack.enter_async_context(
            telling(mesh, crm, after_s=AFTER_S, more=shop, connections=2)
        )
        await stack.enter_async_context(lives)
        for number in range(20):
            await stories.tell(number)
        life = await lives.begin(Order(mortal=False))
        await eventually(stories.heard, within=AFTER_S)
        lives.kill()
        await life
        # The next life begins with all of them in one request.
        await stories.have_waited()
        while True:
            life = await lives.begin(Order(mortal=False))
            if await stories.all_done(life, within=DONE_WITHIN):
                break
            assert (await life).code == -signal.SIGKILL
        assert_one_entry_each(crm, stories.calls)
        assert {*retail.calls} == {*stories.calls}
    assert killed
    # What the shop had taken was given to it again.
    assert killing != "shop" or sum(retail.batches) > len(stories.calls)


@pytest.mark.rabbitmq
@pytest.mark.mongodb
async def test_one_of_two_replicas_killed_at_random_there_are_as_many_entries_as_calls(
    crm: SandboxCrm, amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    clock, chance = SystemClock(), random.Random(6)
    under_way = 0
    with Mesh(amqp_url, mongo_url, tmp_path / "mesh", PATIENT) as mesh:
        one, other = (
            Lives(mesh.environment("journal"), tmp_path / f"{name}.log")
            for name in ("one", "other")
        )
        async with telling(mesh, crm) as stories, one, other:
            lives = {replica: await replica.begin(Order(mortal=False)) for replica in (one, other)}
            for number in range(ROUNDS):
                known = number * CALLS
                calls = asyncio.gather(*(stories.tell(known + call) for call in range(CALLS)))
                for _ in range(KILLS):
                    await clock.sleep(timedelta(seconds=chance.uniform(0.1, 1.5)))
                    victim = chance.choice((one, other))
                    under_way += len(crm.records("Calls")) < known + CALLS
                    victim.kill()
                    assert (await lives[victim]).code == -signal.SIGKILL
                    lives[victim] = await victim.begin(Order(mortal=False))
                await calls
            assert await stories.all_done(lives[one], within=DONE_WITHIN)
            assert_one_entry_each(crm, stories.calls)
            for replica, life in lives.items():
                replica.kill(signal.SIGTERM)
                assert (await life).code == os.EX_OK
    assert len(stories.calls) == ROUNDS * CALLS
    assert under_way > 0
