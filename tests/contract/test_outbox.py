"""The spooling publisher: a bus that is away, a store that is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.publisher import ServicePublisher
from shared.bus.rabbit import RabbitBus
from shared.clock import SystemClock
from shared.contracts.calls import CallStarted
from shared.contracts.envelope import Message
from shared.errors import Unavailable
from shared.observe.metrics import Metrics
from shared.runtime.outbox import Spooled, SpoolingPublisher, spool_spec
from shared.sqlite import SqliteFile
from shared.storage.port import DocumentStore, Find
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import a_call
from shared.testing.servers import free_port
from shared.testing.waiting import eventually


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    file = SqliteFile(tmp_path / "a.db")
    await file.open()
    yield file
    await file.close()


@pytest.fixture
def store(db: SqliteFile) -> DocumentStore:
    return SqliteStore(db, SystemClock())


@pytest.fixture
async def away() -> AsyncIterator[MessageBus]:
    """A broker that nobody reaches."""
    url = SecretStr(f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    bus = RabbitBus(url, clock=SystemClock(), metrics=Metrics())
    await bus.start()
    yield bus
    await bus.stop(drain=timedelta(0))


class FullForOne(EmbeddedBus):
    """As a broker whose queue for one message is at its length, and takes the others."""

    refused: UUID

    async def send(self, message: Message[Any]) -> None:
        if message.id == self.refused:
            raise Unavailable("the broker refused it")
        await super().send(message)


def outbox(
    bus: MessageBus, store: DocumentStore, metrics: Metrics | None = None
) -> SpoolingPublisher:
    clock = SystemClock()
    return SpoolingPublisher(
        ServicePublisher(bus, service="door", clock=clock),
        bus,
        store,
        service="door",
        clock=clock,
        metrics=metrics or Metrics(),
    )


async def test_what_the_bus_does_not_take_waits_in_the_store(
    away: MessageBus, store: DocumentStore
) -> None:
    message = await outbox(away, store).publish(a_call(), tenant="acme")
    waiting = (await store.collection(spool_spec("door")).page(Find())).documents
    assert [(s.key, s.tenant) for s in waiting] == [(str(message.id), "acme")]


async def test_a_repeat_of_what_waits_is_kept_once(away: MessageBus, store: DocumentStore) -> None:
    box = outbox(away, store)
    message = box.envelop(a_call(), tenant="acme", key="same")
    assert [await box.send(message), await box.send(message)] == [False, False]
    assert await store.collection(spool_spec("door")).count() == 1


async def test_how_many_wait_is_known_while_they_do(away: MessageBus, store: DocumentStore) -> None:
    for n in range(2):
        await outbox(away, store).publish(a_call(call_id=f"c{n}"), tenant="acme")
    metrics = Metrics()
    box = outbox(away, store, metrics)
    relay = asyncio.create_task(box.relay())
    await eventually(lambda: metrics.value("callmesh_spool_waiting", "door") == 2)
    await box.publish(a_call(call_id="c2"), tenant="acme")
    assert metrics.value("callmesh_spool_waiting", "door") == 3
    relay.cancel()


async def test_one_that_does_not_go_holds_nobody_up(
    store: DocumentStore, db: SqliteFile, away: MessageBus
) -> None:
    box = outbox(away, store)
    first = await box.publish(a_call(call_id="c1"), tenant="acme")
    await box.publish(a_call(call_id="c2"), tenant="acme")
    metrics = Metrics()
    bus = FullForOne(db, clock=SystemClock(), metrics=metrics)
    bus.refused = first.id
    await bus.start()
    relay = asyncio.create_task(outbox(bus, store, metrics).relay())

    async def only_the_first_waits() -> bool:
        left = (await store.collection(spool_spec("door")).page(Find())).documents
        return [s.key for s in left] == [str(first.id)]

    await eventually(only_the_first_waits)
    assert metrics.value("callmesh_spool_waiting", "door") == 1
    relay.cancel()
    await bus.stop(drain=timedelta(seconds=1))


async def test_with_the_store_away_too_the_caller_is_told(
    away: MessageBus, store: DocumentStore, db: SqliteFile
) -> None:
    await db.close()
    with pytest.raises(Unavailable):
        await outbox(away, store).publish(a_call(), tenant="acme")


async def test_what_waits_is_sent_once_the_bus_is_back_and_then_forgotten(
    away: MessageBus, store: DocumentStore, db: SqliteFile
) -> None:
    box = outbox(away, store)
    sent = [await box.publish(a_call(call_id=f"c{n}"), tenant="acme") for n in range(3)]
    await store.collection(spool_spec("door")).add(_from_another_version())
    bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
    got: list[Message[Any]] = []

    async def take(message: Message[Any]) -> None:
        got.append(message)

    bus.subscribe(Subscription(consumer=Consumer("test", CallStarted), handler=take))
    await bus.start()
    relay = asyncio.create_task(outbox(bus, store).relay())
    await eventually(lambda: len(got) == len(sent))
    assert {m.id for m in got} == {m.id for m in sent}

    async def only_the_unknown_waits() -> bool:
        left = (await store.collection(spool_spec("door")).page(Find())).documents
        return [s.key for s in left] == ["another"]

    await eventually(only_the_unknown_waits)
    relay.cancel()
    await bus.stop(drain=timedelta(seconds=1))


def _from_another_version() -> Spooled:
    """Oldest, so that the others would wait behind it if it blocked them."""
    return Spooled(
        key="another",
        tenant="acme",
        message='{"type": "calls.started", "version": 99}',
        spooled_at=SystemClock().now() - timedelta(days=1),
    )
