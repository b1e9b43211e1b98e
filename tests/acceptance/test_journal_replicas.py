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
from tests.acceptance.killing_kit import DONE_WITHIN, SETTINGS, assert_one_entry_each, telling
from tests.contract.retailcrm_server import KEY, RetailCrm
from tests.mesh.lives import Lives
from tests.mesh.mortal import Order
from tests.mesh.processes import Mesh

pytestmark = pytest.mark.timeout(400)

ROUNDS, CALLS, KILLS = 5, 200, 3
SHOP = """\
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{url}"}}
        credentials: {{api_key: {key}}}
        journal: {{after: 0.2s}}
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


async def test_killed_when_crms_have_taken_many_at_once_there_is_one_entry_per_call(
    mesh: Mesh, crm: SandboxCrm, tmp_path: Path
) -> None:
    """One CRM has to be asked what it took; the other knows a call that comes again."""
    retail = RetailCrm()
    mesh.settings["CALLMESH_JOURNAL_AT_ONCE"] = "1"  # what comes meanwhile goes together
    lives = Lives(mesh.environment("journal"), tmp_path / "lives.log")
    killed: list[str] = []

    @web.middleware
    async def kill_once(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        body = await request.text()
        if request.path in killed or sum(reference(call) in body for call in stories.calls) < 2:
            return answer
        killed.append(request.path)
        lives.kill()
        return answer

    async def nobody(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "customers": []})

    app = web.Application(middlewares=[kill_once])
    app.router.add_post("/api/v5/telephony/calls/upload", retail.upload)
    app.router.add_get("/{any:.*}", nobody)
    crm._app.middlewares.insert(0, kill_once)
    async with AsyncExitStack() as stack:
        shop = SHOP.format(url=await stack.enter_async_context(served(app)), key=KEY)
        stories = await stack.enter_async_context(telling(mesh, crm, more=shop, connections=2))
        await stack.enter_async_context(lives)
        for number in range(20):
            await stories.tell(number)
        while True:
            life = await lives.begin(Order(mortal=False))
            if await stories.all_done(life, within=DONE_WITHIN):
                break
            assert (await life).code == -signal.SIGKILL
        assert_one_entry_each(crm, stories.calls)
        assert {*retail.calls} == {reference(call) for call in stories.calls}
    assert len(killed) == 2
    # What the shop had taken was given to it again.
    assert sum(retail.batches) > len(stories.calls)


@pytest.mark.rabbitmq
@pytest.mark.mongodb
async def test_one_of_two_replicas_killed_at_random_there_are_as_many_entries_as_calls(
    crm: SandboxCrm, amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    clock, chance = SystemClock(), random.Random(6)
    under_way = 0
    with Mesh(amqp_url, mongo_url, tmp_path / "mesh", SETTINGS) as mesh:
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
