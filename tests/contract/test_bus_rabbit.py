from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import aio_pika
import pytest
from pydantic import SecretStr

from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import RETRY_STEPS, Topology
from shared.clock import SystemClock
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.testing.builders import a_call
from shared.testing.bus_contract import BusContract, Seen, listening, publishing
from shared.testing.waiting import eventually

pytestmark = pytest.mark.rabbitmq


class TestRabbitBus(BusContract):
    @pytest.fixture(autouse=True)
    async def place(self, amqp_url: str) -> AsyncIterator[None]:
        self.url = amqp_url
        self.names = Topology(f"test-{new_id().hex[:10]}")
        self.consumers: set[Consumer] = set()
        yield
        await self.swept()

    @asynccontextmanager
    async def opened(
        self, *subscriptions: Subscription, consumers: Sequence[Consumer] = ()
    ) -> AsyncIterator[MessageBus]:
        bus = RabbitBus(
            SecretStr(self.url),
            clock=SystemClock(),
            metrics=Metrics(),
            consumers=consumers,
            topology=self.names,
        )
        for subscription in subscriptions:
            bus.subscribe(subscription)
        self.consumers |= {*consumers, *(s.consumer for s in subscriptions)}
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop(drain=timedelta(0))

    async def inject(self, bus: MessageBus, data: bytes, *, consumer: Consumer, to: str) -> None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            events = await channel.get_exchange(self.names.events)
            await events.publish(
                aio_pika.Message(data, headers={"x-tenant": "a-header-is-not-believed"}),
                self.names.routing_key(to, consumer.contract.wire_name()),
            )

    async def swept(self) -> None:
        names = self.names
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            for consumer in self.consumers:
                await channel.queue_delete(names.work(consumer))
                await channel.queue_delete(names.dead(consumer.service))
                await channel.queue_delete(names.asks(consumer.contract.wire_name()))
            for step in RETRY_STEPS:
                await channel.queue_delete(names.retry(step))
                await channel.exchange_delete(names.retry(step))
            await channel.exchange_delete(names.events)

    async def test_replicas_share_the_work_and_each_has_its_screens(self) -> None:
        """What one process cannot show: a copy per service, but a live copy per process."""
        work_a, work_b, screen_a, screen_b = Seen(), Seen(), Seen(), Seen()

        def screen(seen: Seen) -> Subscription:
            return listening(seen, service="gateway", live=True)

        async with (
            self.opened(listening(work_a), screen(screen_a)) as bus,
            self.opened(listening(work_b), screen(screen_b)),
        ):
            for number in range(10):
                await publishing(bus).publish(a_call(call_id=f"c{number}"), tenant="acme")
            await eventually(lambda: len(screen_a) == len(screen_b) == 10)
            await eventually(lambda: len(work_a) + len(work_b) == 10)
        assert work_a.messages
        assert work_b.messages
