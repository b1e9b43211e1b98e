from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractQueue
from pydantic import SecretStr

from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import DELIVERY_LIMIT, RETRY_STEPS, Topology
from shared.clock import SystemClock
from shared.contracts.calls import CallStarted
from shared.errors import Unavailable
from shared.ids import new_id
from shared.moments import to_ms
from shared.observe.metrics import Metrics
from shared.testing.builders import a_call
from shared.testing.bus_contract import (
    BusContract,
    Seen,
    listening,
    publishing,
    the_only_letter,
)
from shared.testing.patience import patient_with_rabbitmq
from shared.testing.sweeping import sweep
from shared.testing.waiting import eventually

pytestmark = pytest.mark.rabbitmq

JOURNAL = Consumer("journal", CallStarted)


class TestRabbitBus(BusContract):
    @pytest.fixture(autouse=True)
    async def place(self, amqp_url: str) -> AsyncIterator[None]:
        self.url = amqp_url
        self.names = Topology(f"test-{new_id().hex[:10]}")
        self.consumers: set[Consumer] = set()
        with patient_with_rabbitmq():
            yield
        sweep(self.url, self.names, self.consumers)

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
        await eventually(bus.ready)
        try:
            yield bus
        finally:
            await bus.stop(drain=timedelta(0))

    async def inject(self, bus: MessageBus, data: bytes, *, consumer: Consumer, to: str) -> None:
        key = self.names.routing_key(to, consumer.contract.wire_name())
        await self.put(data, {"x-tenant": "a-header-is-not-believed"}, events_key=key)

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

    async def test_headers_that_a_pbx_wrote_are_not_believed(self) -> None:
        """PBXs may write to the topic exchange, and set what they like."""
        seen = Seen(Unavailable("not yet"))
        async with self.opened(listening(seen)) as bus:
            sent = publishing(bus).envelop(a_call(), tenant="acme")
            forged = {
                "x-attempt": -5,
                "x-first-ms": 2**60,
                "x-not-before-ms": 2**60,
                "x-queue": "elsewhere",
                "x-tenant": "globex",
            }
            await self.put(sent.encode(), forged, events_key="acme.calls.started.v1")
            await eventually(lambda: len(seen) == 2)
            await self.put(b"{}", forged, events_key="acme.calls.started.v1")
            letter = await the_only_letter(bus)
        assert [m.attempt for m in seen.messages] == [1, 2]
        assert (letter.tenant, letter.attempts) == ("acme", 1)
        assert letter.first_failed_at is not None

    async def test_a_killer_with_forged_headers_goes_back_to_its_own_queue_and_tenant(self) -> None:
        seen = Seen()
        async with self.opened(consumers=[JOURNAL]) as bus:
            sent = publishing(bus).envelop(a_call(), tenant="acme")
            forged = {"x-queue": "elsewhere", "x-tenant": "globex", "x-error": "all is well"}
            await self.put(sent.encode(), forged, events_key="acme.calls.started.v1")
            for _ in range(DELIVERY_LIMIT + 1):
                async with await aio_pika.connect(self.url) as connection:
                    channel = await connection.channel()
                    queue = await channel.get_queue(self.names.work(JOURNAL), ensure=False)
                    await eventually(partial(takes, queue))
            letter = await the_only_letter(bus)
        assert (letter.tenant, letter.error_code) == ("acme", "crashed")
        assert "died, hung" in letter.error
        async with self.opened(listening(seen)) as bus:
            await bus.dead_letters.replay(letter.letter_id)
            await eventually(lambda: len(seen) == 1)

    async def test_a_wait_longer_than_any_step_is_waited_in_several(self) -> None:
        seen = Seen()
        async with self.opened(listening(seen)) as bus:
            sent = publishing(bus).envelop(a_call(), tenant="acme")
            due = SystemClock().now() + timedelta(milliseconds=1200)
            headers = {"x-tenant": "acme", "x-attempt": 3, "x-not-before-ms": to_ms(due)}
            await self.put(sent.encode(), headers, queue=self.names.work(JOURNAL))
            await eventually(lambda: len(seen) == 1)
        assert seen.at[0] >= due - RETRY_STEPS[0]
        assert [m.attempt for m in seen.messages] == [3]

    async def put(
        self, data: bytes, headers: dict[str, Any], *, events_key: str = "", queue: str = ""
    ) -> None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            events = await channel.get_exchange(self.names.events)
            exchange = events if events_key else channel.default_exchange
            await exchange.publish(aio_pika.Message(data, headers=headers), events_key or queue)


async def takes(queue: AbstractQueue) -> bool:
    """Whether a message was there, which then is its taker's; one that comes back needs a moment."""
    return await queue.get(fail=False) is not None
