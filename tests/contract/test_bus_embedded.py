from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.topology import Topology
from shared.clock import SystemClock
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.testing.bus_contract import BusContract

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
