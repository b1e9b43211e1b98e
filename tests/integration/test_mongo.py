"""What only a real MongoDB shows: its own sweep, an outage, a freeze."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.errors import BadSetting, ContractError, Unavailable
from shared.storage.mongo import MongoStore
from shared.testing.servers import LocalMongo
from shared.testing.storage_contract import THINGS, Thing
from shared.testing.waiting import eventually

pytestmark = pytest.mark.mongodb


@pytest.fixture(scope="module")
def mongod() -> Iterator[LocalMongo]:
    """One of our own: it is killed and frozen."""
    with LocalMongo() as server:
        yield server


def store_at(url: str) -> MongoStore:
    return MongoStore(SecretStr(url), database="callmesh_test", clock=SystemClock())


async def test_expired_documents_are_deleted_by_the_server(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    soon = SystemClock().now() + timedelta(milliseconds=100)
    await store.collection(THINGS).put(Thing(key="k", expires_at=soon))
    with pymongo.MongoClient[dict[str, object]](mongod.url) as client:
        raw = client["callmesh_test"][THINGS.name]
        assert raw.count_documents({}) == 1
        await eventually(lambda: raw.count_documents({}) == 0, within=15)
    await store.close()


async def test_an_outage_is_unavailable_and_over_when_it_is_over(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    things = store.collection(THINGS)
    await things.put(Thing(key="kept", size=7))
    mongod.kill()
    with pytest.raises(Unavailable):
        await things.get("kept")
    assert not await store.ready()
    mongod.start()
    await eventually(store.ready, within=30)
    assert (await things.get("kept")).size == 7
    await store.close()


async def test_a_frozen_server_is_given_up_after_seconds_not_hours(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    things = store.collection(THINGS)
    await things.count()
    mongod.freeze()
    try:
        began = SystemClock().now()
        with pytest.raises(Unavailable):
            await things.get("k")
        assert SystemClock().now() - began < timedelta(seconds=10)
    finally:
        mongod.thaw()
    await eventually(store.ready, within=30)
    await store.close()


async def test_a_store_that_is_away_at_the_start_is_used_when_it_comes(mongod: LocalMongo) -> None:
    mongod.stop()
    store = store_at(mongod.url)
    things = store.collection(THINGS)
    with pytest.raises(Unavailable):
        await things.count()
    mongod.start()
    await things.put(Thing(key="k"))
    await store.close()


async def test_a_number_over_64_bits_is_refused(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    with pytest.raises(ContractError):
        await store.collection(THINGS).add(Thing(key="k", more={"big": 2**70}))
    await store.close()


@pytest.mark.parametrize("url", ["mongo://x", "mongodb://", "mongodb://h:port/"])
def test_a_url_that_is_none_names_its_setting(url: str) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_MONGO_URL"):
        store_at(url)
