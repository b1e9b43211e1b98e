from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.topology import Topology
from shared.clock import SystemClock
from shared.contracts.calls import CallStarted
from shared.contracts.envelope import Message
from shared.errors import Unavailable
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.testing.builders import a_call
from shared.testing.bus_contract import BusContract, Seen, listening, publishing
from shared.testing.waiting import eventually

NAMES = Topology("test")


class TestEmbeddedBus(BusContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mesh.db"

    @asynccontextmanager
    async def opened(
        self, *subscriptions: Subscription, consumers: Sequence[Consumer] = ()
    ) -> AsyncIterator[MessageBus]:
        db = SqliteFile(self.path)
        await db.open()
        bus = EmbeddedBus(
            db, clock=SystemClock(), metrics=Metrics(), consumers=consumers, topology=NAMES
        )
        for subscription in subscriptions:
            bus.subscribe(subscription)
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop(drain=timedelta(0))
            await db.close()

    async def inject(self, bus: MessageBus, data: bytes, *, consumer: Consumer, to: str) -> None:
        assert isinstance(bus, EmbeddedBus)
        row = (NAMES.work(consumer), consumer.service, consumer.contract.wire_name(), to, "x", data)
        await bus._db.write(
            lambda db: db.execute(
                "INSERT INTO bus_deliveries (queue, service, type, tenant, message_id, data,"
                " due_ms) VALUES (?, ?, ?, ?, ?, ?, 0)",
                row,
            )
        )

    async def test_a_database_that_was_locked_for_long_does_not_end_the_work(self) -> None:
        """By another process, for longer than is waited: first at the take, then at the delete."""
        async with self.opened(consumers=[Consumer("journal", CallStarted)]) as bus:
            await publishing(bus).publish(a_call(), tenant="acme")
        other = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        seen = Seen()

        async def let_go(message: Message[Any]) -> None:
            await seen(message)
            if message.body.call_id == "second":
                other.execute("BEGIN IMMEDIATE")

        async with self.opened(listening(let_go)) as bus:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(call_id="lost"), tenant="acme")
            other.execute("ROLLBACK")
            await eventually(lambda: len(seen) == 1)
            assert await bus.ready()
            await publishing(bus).publish(a_call(call_id="second"), tenant="acme")
            await eventually(lambda: len(seen) == 2)
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(call_id="lost"), tenant="acme")
            other.execute("ROLLBACK")
            await eventually(lambda: self.waiting() == 0)
        other.close()
        assert len(seen) == 2

    def waiting(self) -> int:
        with closing(sqlite3.connect(self.path, timeout=60)) as db:
            found: int = db.execute("SELECT count(*) FROM bus_deliveries").fetchone()[0]
        return found
