"""What only a real RabbitMQ shows: freezes, alarms, killers, clashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import aio_pika
import pytest
from pydantic import SecretStr

from shared.bus.port import Consumer, Subscription
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import Topology
from shared.clock import SystemClock
from shared.contracts.calls import CallStarted
from shared.errors import BadSetting, Unavailable
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.testing.builders import a_call
from shared.testing.bus_contract import Seen, listening, publishing, the_only_letter
from shared.testing.servers import LocalRabbit
from shared.testing.waiting import eventually

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(120)]

JOURNAL = Consumer("journal", CallStarted)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[LocalRabbit]:
    """Our own: it is frozen and alarmed."""
    with LocalRabbit() as server:
        yield server


@pytest.fixture
def names() -> Topology:
    return Topology(f"test-{new_id().hex[:10]}")


@asynccontextmanager
async def opened(
    url: str, names: Topology, *subscriptions: Subscription, consumers: Sequence[Consumer] = ()
) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(
        SecretStr(url),
        clock=SystemClock(),
        metrics=Metrics(),
        consumers=consumers,
        topology=names,
    )
    for subscription in subscriptions:
        bus.subscribe(subscription)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop(drain=timedelta(0))


async def test_a_frozen_broker_is_unavailable_not_an_endless_wait(
    rabbit: LocalRabbit, names: Topology
) -> None:
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        rabbit.freeze()
        try:
            began = SystemClock().now()
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(), tenant="acme")
            assert SystemClock().now() - began < timedelta(seconds=8)
        finally:
            rabbit.thaw()

        async def flows() -> bool:
            try:
                await publishing(bus).publish(a_call(), tenant="acme", key="again")
            except Unavailable:
                return False
            return True

        await eventually(flows, within=60)
        await eventually(lambda: len(seen) > 0, within=30)


async def test_a_memory_alarm_blocks_publishers_and_they_are_told(
    rabbit: LocalRabbit, names: Topology
) -> None:
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        await publishing(bus).publish(a_call(call_id="before"), tenant="acme")
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(call_id="during"), tenant="acme")
        finally:
            await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")
        await publishing(bus).publish(a_call(call_id="after"), tenant="acme")
        await eventually(lambda: {m.body.call_id for m in seen.messages} >= {"before", "after"})


async def test_a_message_that_kills_its_consumers_ends_as_a_dead_letter(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """Ten processes took it and died: their connections closed without a word."""
    async with opened(rabbit.url, names, consumers=[JOURNAL]) as bus:
        sent = await publishing(bus).publish(a_call(), tenant="acme")
        for _ in range(11):
            async with await aio_pika.connect(rabbit.url) as connection:
                channel = await connection.channel()
                queue = await channel.get_queue(names.work(JOURNAL), ensure=False)
                await queue.get(fail=False)
        letter = await the_only_letter(bus)
    assert letter.message_id == str(sent.id)
    assert letter.error_code == "crashed"
    assert letter.tenant == "acme"
    assert letter.type == "calls.started.v1"
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        await bus.dead_letters.replay(letter.letter_id)
        await eventually(lambda: len(seen) == 1)


async def test_a_consumer_that_the_broker_lost_is_noticed_and_made_again(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """Somebody deletes the queue: the connection stays, nothing would come any more."""
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        async with await aio_pika.connect(rabbit.url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(names.work(JOURNAL))
        with pytest.raises(Unavailable):
            await publishing(bus).publish(a_call(), tenant="acme")

        async def flows() -> bool:
            try:
                await publishing(bus).publish(a_call(), tenant="acme")
            except Unavailable:
                return False
            return True

        await eventually(flows, within=30)
        await eventually(lambda: len(seen) == 1)


async def test_refused_credentials_stop_the_start(rabbit: LocalRabbit, names: Topology) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_AMQP_URL") as refused:
        async with opened(rabbit.url.replace("guest:guest", "guest:wr0ng"), names):
            pass
    assert "wr0ng" not in str(refused.value)


async def test_a_queue_with_other_arguments_stops_the_start(
    rabbit: LocalRabbit, names: Topology
) -> None:
    async with await aio_pika.connect(rabbit.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(names.work(JOURNAL), durable=True)
    with pytest.raises(BadSetting, match="CALLMESH_AMQP_PREFIX"):
        async with opened(rabbit.url, names, consumers=[JOURNAL]):
            pass


async def test_a_broker_that_is_away_at_the_start_is_waited_for(names: Topology) -> None:
    seen = Seen()
    server = LocalRabbit()
    try:
        async with opened(server.url, names, listening(seen)) as bus:
            assert not await bus.ready()
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(), tenant="acme")
            await asyncio.to_thread(server.start)
            await eventually(bus.ready, within=30)
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(seen) == 1)
    finally:
        server.close()
