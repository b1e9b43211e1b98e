"""How the replicas of ingest say that they hear a PBX, and until when one did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pymongo
import pytest
from pydantic import SecretStr

from services.ingest.store import LINKS, SAY_EVERY, LinkBook
from shared.clock import ManualClock
from shared.ids import new_id
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore

MINUTE = timedelta(minutes=1)


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
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client["callmesh_test"].drop_collection(prefix + LINKS.name)


class Replicas:
    def __init__(self, store: DocumentStore, clock: ManualClock) -> None:
        self.clock = clock
        self.a, self.b = (LinkBook(store.collection(LINKS), clock) for _ in range(2))

    async def up(self, book: LinkBook, *, pbx: str = "main", tenant: str = "acme") -> None:
        await book.say(tenant=tenant, pbx=pbx, kind="asterisk", fault=None)

    async def down(self, book: LinkBook, fault: str = "closed by the PBX") -> None:
        await book.say(tenant="acme", pbx="main", kind="asterisk", fault=fault)


@pytest.fixture
def replicas(store: DocumentStore, clock: ManualClock) -> Replicas:
    return Replicas(store, clock)


async def test_it_was_heard_until_the_last_replica_lost_it(replicas: Replicas) -> None:
    began = replicas.clock.now()
    assert await replicas.a.heard_until("acme", "main") is None
    await replicas.up(replicas.a)
    await replicas.up(replicas.b)
    await replicas.clock.advance(MINUTE)
    await replicas.down(replicas.a)
    assert await replicas.b.heard_until("acme", "main") == began

    await replicas.clock.advance(MINUTE)
    await replicas.up(replicas.b)
    await replicas.clock.advance(MINUTE)
    await replicas.down(replicas.b)
    for book in (replicas.a, replicas.b):
        assert await book.heard_until("acme", "main") == began + 2 * MINUTE


async def test_a_replica_that_never_heard_it_says_nothing_of_that(replicas: Replicas) -> None:
    await replicas.down(replicas.a, "no route to host")
    assert await replicas.b.heard_until("acme", "main") is None


async def test_one_that_is_gone_is_not_listed_and_what_it_heard_is_known(
    replicas: Replicas,
) -> None:
    began = replicas.clock.now()
    await replicas.up(replicas.a)
    await replicas.clock.advance(3 * SAY_EVERY)
    await replicas.down(replicas.b)
    links = await replicas.b.links("acme", "main")
    assert {link.connected: link.fault for link in links} == {
        True: None,
        False: "closed by the PBX",
    }
    await replicas.clock.advance(timedelta(seconds=1))
    links = await replicas.b.links("acme", "main")
    assert [(link.connected, link.fault) for link in links] == [(False, "closed by the PBX")]

    await replicas.clock.advance(timedelta(days=6))
    assert await replicas.b.heard_until("acme", "main") == began
    await replicas.clock.advance(timedelta(days=1))
    assert await replicas.b.heard_until("acme", "main") is None


async def test_pbxs_and_tenants_are_told_apart(replicas: Replicas) -> None:
    await replicas.up(replicas.a)
    await replicas.up(replicas.a, pbx="other")
    await replicas.up(replicas.b, tenant="globex")
    assert [link.pbx for link in await replicas.b.links("acme", "main")] == ["main"]
    assert {link.pbx for link in await replicas.b.links("acme", None)} == {"main", "other"}
    assert await replicas.a.heard_until("globex", "other") is None


async def test_how_far_the_pbx_s_clock_is_off_comes_along(replicas: Replicas) -> None:
    ahead = timedelta(seconds=-61.26)
    await replicas.a.say(tenant="acme", pbx="main", kind="asterisk", fault=None, ahead=ahead)
    (link,) = await replicas.b.links("acme", "main")
    assert link.clock_ahead_seconds == -61.3
