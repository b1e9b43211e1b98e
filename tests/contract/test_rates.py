"""How often a key may ask, and how long who has none of ours is looked up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.http.auth import Scope
from shared.http.rates import Limits
from shared.storage.port import DocumentStore
from tests.contract.access_kit import MINUTE, SECOND, Api, Reply, a_store, opened

LIMITS = Limits(rate=5, traffic_rate=20, wrong_keys=3)
THERE = {"X-Forwarded-For": "203.0.113.9"}


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store("sqlite", clock, str) as found:
        yield found


@pytest.fixture
async def api(store: DocumentStore, clock: ManualClock) -> AsyncIterator[Api]:
    async with opened(store, clock, limits=LIMITS) as found:
        yield found


async def asked(api: Api, times: int, path: str = "/v1/me", **more: Any) -> list[Reply]:
    return [await api.get(path, **more) for _ in range(times)]


async def test_a_key_that_asks_too_often_is_told_to_wait_and_how_long(api: Api) -> None:
    replies = await asked(api, 21)
    assert [reply.status for reply in replies] == [200] * 20 + [429]
    refused = replies[-1]
    assert refused.code == "too_many_requests"
    assert refused.headers["Retry-After"] == "1"
    assert "5 times a second" in refused.json["detail"]

    await api.clock.advance(SECOND)
    assert [reply.status for reply in await asked(api, 6)] == [200] * 5 + [429]


async def test_every_answer_says_what_is_left(api: Api) -> None:
    first, second = await asked(api, 2)
    assert (first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == ("20", "19")
    assert second.headers["RateLimit-Remaining"] == "18"
    assert second.headers["RateLimit-Reset"] == "1"
    assert second.json["rate"] == {"limit": 20, "remaining": 18, "reset_seconds": 1}
    refused = await api.get("/v1/audit", key=await a_reader(api))
    assert (refused.status, refused.headers["RateLimit-Remaining"]) == (403, "19")


async def a_reader(api: Api, name: str = "reader", **more: Any) -> str:
    keys = api.replicas[0].keys
    issued = await keys.issue(tenant="acme", name=name, scopes=(Scope.SITE_READ,), **more)
    return issued.get_secret_value()


async def test_keys_do_not_share_what_they_may_ask(api: Api) -> None:
    await asked(api, 25)
    assert (await api.get("/v1/me", key=api.admin["globex"])).status == 200
    assert (await api.get("/v1/me", key=await a_reader(api))).status == 200


async def test_who_only_gets_refusals_has_no_more_of_them(api: Api) -> None:
    reader = await a_reader(api)
    replies = await asked(api, 21, "/v1/audit", key=reader)
    assert [reply.status for reply in replies] == [403] * 20 + [429]


async def test_tokens_of_one_key_share_what_it_may_ask(api: Api) -> None:
    await api.put_user("anna", Scope.SITE_READ)
    old = (await api.make_key("anna", "k")).json["token"]
    made = await api.ask("POST", "/v1/users/anna/keys/k/rotate", json={"overlap": "1h"})
    await asked(api, 20, key=old)
    assert (await api.get("/v1/me", key=made.json["token"])).status == 429


async def test_hooks_of_a_pbx_have_a_rate_of_their_own(api: Api) -> None:
    """A script that reads calls by the PBX's key costs no hook."""
    path = "/v1/things/a/hook"
    assert [reply.status for reply in await asked(api, 21)][-1] == 429
    statuses = [(await api.ask("POST", path)).status for _ in range(81)]
    assert statuses == [200] * 80 + [429]
    await api.clock.advance(SECOND)
    statuses = [(await api.ask("POST", path)).status for _ in range(21)]
    assert statuses == [200] * 20 + [429]


async def test_a_user_may_have_a_rate_of_his_own(api: Api) -> None:
    await api.put_user("sync", Scope.SITE_READ, rate=10, key=api.operator)
    token = (await api.make_key("sync", "k")).json["token"]
    replies = await asked(api, 41, key=token)
    assert [reply.status for reply in replies] == [200] * 40 + [429]
    await api.put_user("sync", Scope.SITE_READ, rate=1, key=api.operator)
    await api.clock.advance(100 * SECOND)
    assert [reply.status for reply in await asked(api, 5, key=token)] == [200] * 4 + [429]


async def test_an_operator_uses_up_his_own_and_not_the_tenant_s(api: Api) -> None:
    there = {"X-Callmesh-Tenant": "globex"}
    replies = await asked(api, 21, key=api.operator, headers=there)
    assert replies[-1].status == 429
    assert (await api.get("/v1/me", key=api.operator)).status == 429
    assert (await api.get("/v1/me", key=api.admin["globex"])).status == 200


# -- strangers ------------------------------------------------------------------------------


async def test_who_comes_with_wrong_keys_again_and_again_is_not_looked_up_for_a_minute(
    api: Api,
) -> None:
    reader = await a_reader(api)
    statuses = [(await api.get("/v1/me", key=f"cm_wrong{n}")).status for n in range(4)]
    assert statuses == [401, 401, 401, 429]
    refused = await api.get("/v1/me", key="cm_wrong")
    assert (refused.code, refused.headers["Retry-After"]) == ("too_many_requests", "60")
    assert (await api.get("/v1/me", key=reader)).status == 429, "not in use here yet"

    await api.clock.advance(MINUTE)
    assert (await api.get("/v1/me", key=reader)).status == 200
    assert (await api.get("/v1/me", key="cm_wrong")).status == 401


async def test_keys_in_use_are_let_in_whoever_else_comes_from_there(api: Api) -> None:
    """Behind one proxy, a stranger must not shut the PBX out."""
    assert (await api.get("/v1/me")).status == 200
    for n in range(10):
        await api.get("/v1/me", key=f"cm_wrong{n}")
    assert (await api.get("/v1/me")).status == 200
    assert (await api.ask("POST", "/v1/things/a/hook")).status == 200


async def test_no_key_at_all_and_one_that_has_ended_are_no_wrong_keys(api: Api) -> None:
    """An integration that was forgotten costs its neighbours nothing."""
    ends = await a_reader(api, "ends", expires_at=api.clock.now() + SECOND)
    await api.clock.advance(SECOND)
    for _ in range(10):
        assert (await api.get("/v1/me", key="")).status == 401
        assert (await api.get("/v1/me", key=ends)).status == 401
    assert (await api.get("/v1/me", key=await a_reader(api))).status == 200


# -- proxies --------------------------------------------------------------------------------


async def test_a_proxy_that_is_known_says_who_asks(
    store: DocumentStore, clock: ManualClock
) -> None:
    async with opened(store, clock, limits=LIMITS, proxies="127.0.0.0/8, 10.0.0.0/8") as api:
        replies = await asked(api, 4, key="cm_wrong", headers=THERE)
        assert replies[-1].status == 429
        other = {"X-Forwarded-For": "203.0.113.9, 198.51.100.1, 10.1.1.1"}
        assert (await api.get("/v1/me", key="cm_wrong", headers=other)).status == 401
        # All at one moment, so in any order.
        assert {one.peer for one in await api.entries()} == {"203.0.113.9", "198.51.100.1"}


async def test_one_that_is_not_is_not_believed(api: Api) -> None:
    statuses = [
        (
            await api.get("/v1/me", key="cm_wrong", headers={"X-Forwarded-For": f"203.0.113.{n}"})
        ).status
        for n in range(4)
    ]
    assert statuses[-1] == 429
    assert {entry.peer for entry in await api.entries()} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "told", ["", ",", "unknown", "203.0.113.9, <script>", "1" * 5000, ", ".join(["10.0.0.1"] * 500)]
)
async def test_odd_words_of_a_proxy_are_no_address(
    store: DocumentStore, clock: ManualClock, told: str
) -> None:
    async with opened(store, clock, proxies="127.0.0.0/8") as api:
        reply = await api.get("/v1/me", key="cm_wrong", headers={"X-Forwarded-For": told})
        assert reply.status == 401
        (entry,) = await api.entries()
        assert entry.peer in {"127.0.0.1", "10.0.0.1"}
