"""A gateway as an operator sets it up: rates, proxies, the audit log, in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from services.catalog import consumers
from services.gateway import app as gateway
from services.gateway.store import AUDIT, Outcome
from shared.errors import BadSetting
from shared.http.auth import KEY_USES, Scope
from shared.runtime.host import running
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
from shared.storage.port import Find, every
from shared.testing.waiting import eventually

SECOND = timedelta(seconds=1)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    choice = Choice(MeshSettings(data_dir=tmp_path), AmqpSettings(), MongoSettings(), NetSettings())
    async with open_platform(choice, consumers=consumers()) as found:
        yield found


async def test_what_is_set_is_heeded(platform: Platform) -> None:
    token = await platform.keys.issue(tenant="acme", name="all", scopes=tuple(Scope))
    headers = {"X-Api-Key": token.get_secret_value()}
    http = HttpSettings(port=0, rate=2, wrong_keys=2, proxies="127.0.0.0/8")
    async with (
        running([gateway.build], platform, http=http, ops=OpsSettings(port=0), drain=SECOND) as up,
        aiohttp.ClientSession(f"http://127.0.0.1:{up.http_port}") as session,
    ):

        async def status(method: str, path: str, **headers: str) -> int:
            async with session.request(method, path, headers=headers) as answer:
                return answer.status

        assert await status("DELETE", "/v1/users/nobody", **headers) == 404
        asked = [await status("GET", "/v1/me", **headers) for _ in range(12)]
        assert asked[0] == 200
        assert asked[-1] == 429
        there = {"X-Api-Key": "cm_wrong", "X-Forwarded-For": "203.0.113.9"}
        assert [await status("GET", "/v1/me", **there) for _ in range(3)] == [401, 401, 429]

        async def is_noted() -> bool:
            found = [one async for one in every(platform.store.collection(AUDIT), Find())]
            return {(one.operation, one.outcome, one.peer) for one in found} == {
                ("delete_user", Outcome.REFUSED, "127.0.0.1"),
                ("read_me", Outcome.REFUSED, "203.0.113.9"),
            }

        await eventually(is_noted)
        await eventually(lambda: _is_used(platform))


async def _is_used(platform: Platform) -> bool:
    return await platform.store.collection(KEY_USES).count(tenant="acme", name="all") == 1


async def test_a_network_that_is_none_stops_the_start(platform: Platform) -> None:
    http = HttpSettings(port=0, proxies="10.0.0.0/33")
    with pytest.raises(BadSetting, match="CALLMESH_HTTP_PROXIES"):
        async with running(
            [gateway.build], platform, http=http, ops=OpsSettings(port=0), drain=SECOND
        ):
            pass
