"""What only a real MongoDB shows: its own sweep, an outage, a freeze."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.errors import BadSetting, Conflict, ContractError, Unavailable
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
    StoreKind,
)
from shared.secrets import new_key
from shared.storage.mongo import MongoStore
from shared.storage.port import CollectionSpec, Index
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
    things = store.collection(THINGS)
    soon = SystemClock().now() + timedelta(milliseconds=100)
    await things.put(Thing(key="stays"))
    await things.put(Thing(key="goes", expires_at=soon))
    with pymongo.MongoClient[dict[str, object]](mongod.url) as client:
        raw = client["callmesh_test"][THINGS.name]
        mine = {"_id": {"$in": ["goes", "stays"]}}
        await eventually(lambda: [one["_id"] for one in raw.find(mine)] == ["stays"])
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
    await eventually(store.ready)
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
        assert SystemClock().now() - began < timedelta(seconds=60)
    finally:
        mongod.thaw()
    await eventually(store.ready)
    await store.close()


async def test_many_at_a_frozen_server_are_told_as_soon_as_one(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    things = store.collection(THINGS)
    await things.count()
    mongod.freeze()
    try:
        async with asyncio.timeout(60):
            told = await asyncio.gather(
                *(things.get("k") for _ in range(64)), return_exceptions=True
            )
    finally:
        mongod.thaw()
    assert {type(one) for one in told} == {Unavailable}
    await eventually(store.ready)
    await store.close()


async def test_a_store_is_left_in_a_moment_while_its_server_is_away(mongod: LocalMongo) -> None:
    store = store_at(mongod.url)
    await store.collection(THINGS).count()  # opens a session, which the farewell would end
    mongod.stop()
    try:
        async with asyncio.timeout(30):
            await store.close()
    finally:
        mongod.start()


async def test_a_server_that_refuses_us_is_waited_for_and_ends_only_a_start(
    mongod: LocalMongo,
) -> None:
    url = mongod.url.replace("://", "://nobody:wrong@")
    store, at_a_start = store_at(url), store_at(url)

    async def refused() -> bool:
        with pytest.raises(Unavailable) as told:
            await store.collection(THINGS).get("k")
        return "refuses" in str(told.value)

    async def ends_a_start() -> bool:
        try:
            assert not await at_a_start.ready()
        except BadSetting as told:
            return "CALLMESH_MONGO_URL" in str(told)
        return False

    # Before, a server that is slow is one that is away.
    await eventually(refused)
    await eventually(ends_a_start)
    await store.close()
    await at_a_start.close()


async def test_a_mesh_that_is_refused_does_not_start(mongod: LocalMongo) -> None:
    url = mongod.url.replace("://", "://nobody:wrong@")
    choice = Choice(
        MeshSettings(bus=BusKind.RABBIT, store=StoreKind.MONGO, secret_keys=new_key()),
        AmqpSettings(),
        MongoSettings(url=SecretStr(url)),
        NetSettings(),
    )
    async with open_platform(choice, consumers=()) as platform:
        with pytest.raises(BadSetting, match="CALLMESH_MONGO_URL"):
            async with running(
                [],
                platform,
                http=HttpSettings(port=0),
                ops=OpsSettings(port=0),
                drain=timedelta(0),
            ):
                pass


async def test_a_change_is_durable_whatever_the_url_says(mongod: LocalMongo) -> None:
    """Of an unacknowledged write nobody would learn that it clashed."""
    store = store_at(f"{mongod.url}&w=0")
    things = store.collection(THINGS)
    await things.put(Thing(key="durable"))
    with pytest.raises(Conflict):
        await things.add(Thing(key="durable"))
    await store.close()


@pytest.mark.parametrize("taken", ["by an index that is not", "by documents that share a value"])
async def test_a_unique_index_that_cannot_be_is_named(mongod: LocalMongo, taken: str) -> None:
    store = store_at(mongod.url)
    indexes = (Index(fields=("name",)),) if taken == "by an index that is not" else ()
    name = f"test.unique{len(indexes)}"
    older = store.collection(CollectionSpec(name=name, model=Thing, indexes=indexes))
    for key in ("a", "b"):
        await older.add(Thing(key=key, name="same"))

    unique = (Index(fields=("name",), unique=True),)
    newer = store.collection(CollectionSpec(name=name, model=Thing, indexes=unique))

    for call in (newer.get("a"), newer.add(Thing(key="c", name="its own"))):
        with pytest.raises(BadSetting, match=f"{name}: the index name_1"):
            await call
    await store.close()


async def test_a_store_that_is_away_at_the_start_is_used_when_it_comes(mongod: LocalMongo) -> None:
    mongod.stop()
    store = store_at(mongod.url)
    things = store.collection(THINGS)
    with pytest.raises(Unavailable):
        await things.count()
    mongod.start()
    await eventually(store.ready)
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
