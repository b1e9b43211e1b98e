"""A gateway killed while it tells a subscriber: everything is told all the same, under one id each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.catalog import consumers
from services.cli.demo import prepare
from shared.clock import SystemClock
from shared.moments import to_text
from shared.runtime.platform import open_platform
from shared.sandbox.site import TENANT, site_file
from shared.testing.waiting import eventually
from tests.contract.webhook_kit import a_receiver
from tests.mesh.processes import Mesh

pytestmark = [pytest.mark.rabbitmq, pytest.mark.mongodb]

CALLS, KILLS = 300, 4
#: A PBX's clock that is a day off is not believed.
BEGAN = SystemClock().now() - timedelta(hours=1)


def a_record(call: int) -> dict[str, Any]:
    return {
        "event": "cdr",
        "call": f"call-{call}",
        "at": to_text(BEGAN + timedelta(minutes=1)),
        "started_at": to_text(BEGAN),
        "direction": "inbound",
        "caller": "+447700900123",
        "extension": "101",
        "disposition": "missed",
    }


async def how_many_done(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> int | None:
    """Deliveries of the subscriber at *url*; None while the store has no time."""
    done, cursor = 0, ""
    while True:
        async with session.get(
            f"{url}/deliveries?state=done&limit=200{cursor}", headers=headers
        ) as answer:
            if answer.status != 200:
                return None
            page = await answer.json()
        done += len(page["deliveries"])
        if page.get("next_cursor") is None:
            return done
        cursor = f"&cursor={page['next_cursor']}"


async def test_nothing_is_left_untold(amqp_url: str, mongo_url: str, tmp_path: Path) -> None:
    clock, chance = SystemClock(), random.Random(7)
    with Mesh(amqp_url, mongo_url, tmp_path / "mesh") as mesh:
        async with (
            open_platform(mesh.choice, consumers=consumers(), serving=False) as platform,
            a_receiver() as to,
            aiohttp.ClientSession() as session,
        ):
            key = await prepare(platform, site_file(crm_url="http://127.0.0.1:9", ami_port=9))
            headers = {"X-Api-Key": key.get_secret_value()}
            await asyncio.to_thread(mesh.start, "gateway", "ingest")
            body = {"url": f"{to.url}/x", "events": ["calls.ended"]}
            url = f"{mesh.url}/v1/subscribers/crm"
            async with session.put(url, json=body, headers=headers) as answer:
                to.secret = (await answer.json())["secret"]

            killed_under_way = 0

            async def send(call: int) -> None:
                """As a PBX does: again until it is taken."""
                while True:
                    try:
                        async with session.post(
                            f"{mesh.url}/v1/hooks/door", json=a_record(call), headers=headers
                        ) as answer:
                            if answer.status == 202:
                                return
                    except aiohttp.ClientError:
                        pass  # it is being killed; the PBX sends again
                    await clock.sleep(timedelta(milliseconds=100))

            sending = asyncio.gather(*(send(call) for call in range(CALLS)))
            for _ in range(KILLS):
                await clock.sleep(timedelta(seconds=chance.uniform(0.2, 1)))
                killed_under_way += len({told.webhook_id for told in to.told}) < CALLS
                mesh.kill("gateway")
                await asyncio.to_thread(mesh.start, "gateway")
            await sending

            def all_told() -> bool:
                return len({told.webhook_id for told in to.told}) >= CALLS

            await eventually(all_told, within=240)

            async def all_done() -> bool:
                done = await how_many_done(session, url, headers)
                if done is not None:
                    await clock.sleep(timedelta(seconds=1))
                return done == CALLS

            # The leases of the dead have to end first.
            await eventually(all_done, within=240)
    calls = Counter(told.body["data"]["pbx"] for told in to.told)
    assert set(calls) == {"door"}
    assert all(told.signed and told.body["tenant"] == TENANT for told in to.told)
    by_call = {(told.body["data"]["call_id"], told.webhook_id) for told in to.told}
    assert len(by_call) == CALLS
    assert killed_under_way
