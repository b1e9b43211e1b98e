"""Replicas that use one connection know of each other by the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.crm.glance import Glance
from shared.crm.turns.replicas import BEAT, DEAD_AFTER, REPLICAS, Replicas
from shared.ids import new_id
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

T = TypeVar("T")


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, prefix = request.getfixturevalue("mongo_url"), f"t{new_id().hex[:10]}."
    store = MongoStore(SecretStr(url), database="callmesh_test", clock=clock, prefix=prefix)
    # Its indexes are made at the first use, which takes longer than a glance.
    await store.collection(REPLICAS).count()
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client["callmesh_test"].drop_collection(prefix + REPLICAS.name)


class Patient(Glance):
    """These tests are about what the store holds, however slow the machine is."""

    async def at(self, work: Coroutine[Any, Any, T]) -> T | None:
        return await work


class Mesh:
    def __init__(self, store: DocumentStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    def replica(self, glance: Glance | None = None) -> Replicas:
        return Replicas(self.store, glance=glance or Patient(self.clock), clock=self.clock)

    async def count(self) -> int:
        return await self.store.collection(REPLICAS).count()


@pytest.fixture
async def mesh(store: DocumentStore, clock: ManualClock) -> Mesh:
    return Mesh(store, clock)


async def counted(*replicas: Replicas, tenant: str = "acme", connection: str = "zoho") -> list[int]:
    """What each says, one after the other, with the beat that was due behind it."""
    shares = []
    for replica in replicas:
        replica.share(tenant, connection)
        if (beating := replica._known[tenant, connection].beating) is not None:
            await beating
        shares.append(replica.share(tenant, connection))
    return shares


async def test_two_count_two_and_one_when_the_other_is_dead(mesh: Mesh, clock: ManualClock) -> None:
    here, dies = mesh.replica(), mesh.replica()
    assert await counted(here, dies) == [1, 2]

    for _ in range(2):
        await clock.advance(BEAT)
        assert await counted(here) == [2]
    await clock.advance(timedelta(seconds=15) - 2 * BEAT)
    assert await counted(here) == [1]
    await here.close()


async def test_the_number_is_read_at_once_and_counted_behind_it(
    mesh: Mesh, clock: ManualClock
) -> None:
    here, there = mesh.replica(), mesh.replica()
    await counted(here, there)
    await clock.advance(BEAT)
    assert here.share("acme", "zoho") == 1, "as it was known"
    await eventually(lambda: here.share("acme", "zoho") == 2)
    for replica in (here, there):
        await replica.close()


async def test_one_that_stops_in_good_order_is_out_with_the_next_beat(
    mesh: Mesh, clock: ManualClock
) -> None:
    here, leaves = mesh.replica(), mesh.replica()
    assert await counted(leaves, here) == [1, 2]
    await leaves.close()
    await clock.advance(BEAT)
    assert await counted(leaves, here) == [1, 1], "and does not come back"

    await here.close()
    assert await mesh.count() == 0


async def test_connections_and_tenants_are_counted_apart(mesh: Mesh) -> None:
    here, there = mesh.replica(), mesh.replica()
    assert await counted(here) == [1]
    assert await counted(there, connection="odoo") == [1]
    assert await counted(there, tenant="globex") == [1]
    assert await mesh.count() == 3
    for replica in (here, there):
        await replica.close()


async def test_a_beat_goes_out_every_five_seconds_however_often_it_is_used(
    mesh: Mesh, clock: ManualClock
) -> None:
    here, there = mesh.replica(), mesh.replica()
    assert await counted(here, there) == [1, 2]
    await clock.advance(BEAT - timedelta(milliseconds=1))
    assert await counted(*[here] * 100) == [1] * 100
    await clock.advance(timedelta(milliseconds=1))
    assert await counted(here) == [2]
    for replica in (here, there):
        await replica.close()


async def test_while_the_store_is_away_the_last_number_holds(clock: ManualClock) -> None:
    db = SqliteFile(None)
    await db.open()
    mesh = Mesh(SqliteStore(db, clock), clock)
    here, there = mesh.replica(), mesh.replica(Glance(clock, within=timedelta(seconds=30)))
    assert await counted(here, there) == [1, 2]
    await db.close()

    for _ in range(5):
        await clock.advance(DEAD_AFTER)
        assert await counted(there) == [2]
    await there.close()
