"""Who listened to a recording, as each store keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pymongo
import pytest
from pydantic import SecretStr

from services.gateway.recordings.accesses import ACCESSES, Access, AccessLog
from shared.clock import ManualClock
from shared.errors import ContractError
from shared.ids import new_id
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


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
        client["callmesh_test"].drop_collection(prefix + ACCESSES.name)


@pytest.fixture
def logs(store: DocumentStore, clock: ManualClock) -> list[AccessLog]:
    """Of two replicas."""
    return [AccessLog(store.collection(ACCESSES), clock, keep=DAY) for _ in range(2)]


def an_access(**changes: object) -> Access:
    known: dict[str, object] = {
        "tenant": "acme",
        "call_id": "c1",
        "recording": "a.wav",
        "peer": "192.0.2.1",
        "key_name": None,
        "range": "bytes 0-9/100",
        "status": 206,
        "sent_bytes": 10,
    }
    return Access(**(known | changes))  # type: ignore[arg-type]  # by name


async def test_all_who_listen_at_once_by_one_proxy_are_counted(logs: list[AccessLog]) -> None:
    """As many as the gateway takes, at both."""
    await asyncio.gather(*(log.note(an_access()) for log in logs for _ in range(128)))
    (noted,) = (await logs[0].of_call("acme", "c1", limit=50, cursor=None)).documents
    assert (noted.requests, noted.sent_bytes) == (256, 2560)


async def test_calls_tenants_and_minutes_are_kept_apart(
    logs: list[AccessLog], clock: ManualClock
) -> None:
    log, _ = logs
    for access in (
        an_access(),
        an_access(key_name="crm"),
        an_access(call_id="c2"),
        an_access(tenant="globex"),
    ):
        await log.note(access)
    await clock.advance(MINUTE)
    await log.note(an_access(peer="192.0.2.2"))

    first = await log.of_call("acme", "c1", limit=2, cursor=None)
    second = await log.of_call("acme", "c1", limit=2, cursor=first.next_cursor)
    found = [*first.documents, *second.documents]
    assert found[0].peer == "192.0.2.2"
    assert {(one.peer, one.key_name) for one in found[1:]} == {
        ("192.0.2.1", None),
        ("192.0.2.1", "crm"),
    }
    assert second.next_cursor is None
    with pytest.raises(ContractError):
        await log.of_call("acme", "c2", limit=2, cursor="no cursor")
