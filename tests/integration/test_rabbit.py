"""What only a real RabbitMQ shows: freezes, alarms, killers, clashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue
from pydantic import SecretStr

from shared.bus.port import Consumer, Subscription
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import Topology
from shared.clock import SystemClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallRinging,
    CallStarted,
)
from shared.contracts.contacts import ContactAnswer, FindContact
from shared.contracts.envelope import Message, wrap
from shared.errors import BadSetting, Unavailable
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.testing.builders import a_call
from shared.testing.bus_contract import Seen, listening, publishing, the_only_letter
from shared.testing.patience import patient_with_rabbitmq
from shared.testing.servers import LocalRabbit
from shared.testing.waiting import eventually

pytestmark = [pytest.mark.rabbitmq]

JOURNAL = Consumer("journal", CallStarted)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[LocalRabbit]:
    """Our own: it is frozen and alarmed."""
    with LocalRabbit() as server:
        yield server


@pytest.fixture
def patience() -> Iterator[None]:
    """For a start that ends by what the broker says, and not by its saying nothing for a while."""
    with patient_with_rabbitmq():
        yield


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


@asynccontextmanager
async def at_broker(rabbit: LocalRabbit) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(rabbit.url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def alarm(rabbit: LocalRabbit) -> AsyncIterator[None]:
    await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "absolute", "1GB")


async def publishes(bus: RabbitBus, call_id: str = "again") -> bool:
    try:
        await publishing(bus).publish(a_call(call_id=call_id), tenant="acme", key="again")
    except Unavailable:
        return False
    return True


def a_question() -> Message[FindContact]:
    now = SystemClock().now()
    return wrap(FindContact(number="1"), source="test", occurred_at=now, tenant="acme")


async def is_not_ready(bus: RabbitBus) -> bool:
    return not await bus.ready()


async def test_a_frozen_broker_is_unavailable_not_an_endless_wait(
    rabbit: LocalRabbit, names: Topology
) -> None:
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        rabbit.freeze()
        try:
            # By our limit: its heartbeat would take minutes.
            with pytest.raises(Unavailable, match="did not confirm: no answer in time"):
                await publishing(bus).publish(a_call(), tenant="acme")
        finally:
            rabbit.thaw()
        await eventually(lambda: publishes(bus))
        await eventually(lambda: len(seen) > 0)


async def test_a_broker_that_was_given_up_is_connected_to_again_when_it_is_back(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """Whatever waits for it is then cancelled by aiormq; nothing of ours may end by that."""
    seen = Seen()
    async with opened(f"{rabbit.url}?heartbeat=1", names, listening(seen)) as bus:
        rabbit.freeze()
        try:
            # Within 6 s by that heartbeat.
            await eventually(lambda: is_not_ready(bus))
        finally:
            rabbit.thaw()
        await eventually(bus.ready)
        await eventually(lambda: publishes(bus))
        await eventually(lambda: len(seen) > 0)
        rabbit.freeze()
        try:
            began = SystemClock().now()
            await bus.stop(drain=timedelta(0))
            assert SystemClock().now() - began < timedelta(minutes=1)
        finally:
            rabbit.thaw()


async def test_a_channel_that_waits_when_its_broker_freezes_is_unavailable(
    rabbit: LocalRabbit, names: Topology
) -> None:
    seen = Seen()
    async with opened(f"{rabbit.url}?heartbeat=1", names, listening(seen)) as bus:
        rabbit.freeze()
        try:
            with pytest.raises(Unavailable):
                await bus.dead_letters.list()
        finally:
            rabbit.thaw()


async def test_stop_does_not_wait_for_a_frozen_broker_once_per_subscription(
    rabbit: LocalRabbit, names: Topology
) -> None:
    contracts = (CallStarted, CallQueued, CallRinging, CallAnswered, CallHeld, CallEnded)
    async with opened(
        rabbit.url, names, *(listening(Seen(), contract=contract) for contract in contracts)
    ) as bus:
        rabbit.freeze()
        try:
            began = SystemClock().now()
            await bus.stop(drain=timedelta(0))
            # One after the other they would take 40.
            assert SystemClock().now() - began < timedelta(seconds=30)
        finally:
            rabbit.thaw()


async def test_a_broker_that_comes_back_during_the_drain_brings_nothing_new(
    rabbit: LocalRabbit, names: Topology
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    seen = Seen()

    async def slow(message: Message[Any]) -> None:
        await seen(message)
        begun.set()
        await go.wait()

    other = Seen()
    async with opened(rabbit.url, names, listening(slow)) as bus:
        await publishing(bus).publish(a_call(), tenant="acme")
        await begun.wait()
        stopping = asyncio.create_task(bus.stop(drain=timedelta(minutes=5)))
        await asyncio.to_thread(rabbit.ctl, "close_all_connections", "test")

        # What is running may still publish; what it publishes is for the next process.
        await eventually(lambda: publishes(bus, call_id="more"))
        async with opened(rabbit.url, names, listening(other)):
            await eventually(lambda: {m.body.call_id for m in other.messages} >= {"more"})
        go.set()
        await stopping
    assert len(seen) == 1


async def test_a_message_whose_fate_waits_for_an_alarm_is_passed_on_once(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """Each publish into a blocked connection would be one more copy when it is unblocked."""
    begun, go = asyncio.Event(), asyncio.Event()
    seen = Seen(Unavailable("not yet"))

    async def slow(message: Message[Any]) -> None:
        begun.set()
        await go.wait()
        await seen(message)

    async with opened(rabbit.url, names, listening(slow)) as bus:
        await publishing(bus).publish(a_call(), tenant="acme")
        await begun.wait()
        async with alarm(rabbit):
            go.set()
            # Long enough for whoever would try again after five seconds.
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await bus.ask(a_question(), within=timedelta(seconds=6))
        await eventually(lambda: len(seen) == 2)
        await asyncio.sleep(1)  # noqa: TID251  for a third to show
    assert [m.attempt for m in seen.messages] == [1, 2]


async def test_a_memory_alarm_blocks_publishers_and_all_are_told_in_time(
    rabbit: LocalRabbit, names: Topology
) -> None:
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:

        async def refused(number: int) -> None:
            with pytest.raises(Unavailable):
                await publishing(bus).publish(a_call(call_id=f"during{number}"), tenant="acme")

        await publishing(bus).publish(a_call(call_id="before"), tenant="acme")
        async with alarm(rabbit):
            began = SystemClock().now()
            await asyncio.gather(*(refused(number) for number in range(200)))
            # One lot of those that are sent at once after the other would take 20.
            assert SystemClock().now() - began < timedelta(seconds=18)
        await eventually(lambda: publishes(bus, call_id="after"))
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
                await eventually(partial(takes, queue))
        letter = await the_only_letter(bus)
    assert letter.message_id == str(sent.id)
    assert letter.error_code == "crashed"
    assert letter.tenant == "acme"
    assert letter.type == "calls.started.v1"
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        await bus.dead_letters.replay(letter.letter_id)
        await eventually(lambda: len(seen) == 1)


async def test_a_queue_that_was_deleted_is_made_again_and_every_replica_consumes_from_it(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """The connections stay; nothing would come any more."""
    one, other = Seen(), Seen()
    async with (
        opened(rabbit.url, names, listening(one, prefetch=1)) as bus,
        opened(rabbit.url, names, listening(other, prefetch=1)),
    ):
        async with at_broker(rabbit) as channel:
            await channel.queue_delete(names.work(JOURNAL))

        async def both_consume() -> bool:
            with suppress(Unavailable):
                await publishing(bus).publish(a_call(), tenant="acme")
            return bool(len(one) and len(other))

        await eventually(both_consume)


async def test_a_publishing_channel_that_the_broker_closed_is_opened_again(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """As it does for an exchange that is not there, or a message over its limit."""
    seen = Seen()
    async with opened(rabbit.url, names, listening(seen)) as bus:
        async with at_broker(rabbit) as channel:
            await channel.exchange_delete(names.events)
        with pytest.raises(Unavailable):
            await publishing(bus).publish(a_call(), tenant="acme")
        await eventually(lambda: publishes(bus))
        await eventually(lambda: len(seen) >= 1)  # one that was not confirmed may have come, too


async def test_a_queue_of_a_service_that_is_away_is_made_again_when_it_is_missed(
    rabbit: LocalRabbit, names: Topology
) -> None:
    async with opened(rabbit.url, names, consumers=[JOURNAL]) as bus:
        async with at_broker(rabbit) as channel:
            await channel.queue_delete(names.work(JOURNAL))
        with pytest.raises(Unavailable):
            await publishing(bus).publish(a_call(), tenant="acme")
        await eventually(lambda: publishes(bus))


async def test_questions_find_their_way_again_when_their_queues_were_deleted(
    rabbit: LocalRabbit, names: Topology
) -> None:
    async def answer(_: Message[Any]) -> ContactAnswer:
        return ContactAnswer()

    lookup = listening(answer, service="lookup", contract=FindContact)
    async with opened(rabbit.url, names, lookup), opened(rabbit.url, names) as asking:

        async def answered() -> bool:
            try:
                await asking.ask(a_question(), within=timedelta(seconds=1))
            except Unavailable:
                return False
            return True

        for queue in (names.answers(asking._instance), names.asks("contacts.find.v1")):
            async with at_broker(rabbit) as channel:
                await channel.queue_delete(queue)
            await eventually(answered)


@pytest.mark.usefixtures("patience")
async def test_refused_credentials_stop_the_start(rabbit: LocalRabbit, names: Topology) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_AMQP_URL") as refused:
        async with opened(rabbit.url.replace("guest:guest", "guest:wr0ng"), names):
            pass
    assert "wr0ng" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:5672", "http://guest:s3cret@127.0.0.1/", "amqp:///", "amqp://rabbit..local/"],
)
def test_what_is_no_address_of_a_broker_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_AMQP_URL") as refused:
        RabbitBus(SecretStr(url), clock=SystemClock(), metrics=Metrics())
    assert "s3cret" not in str(refused.value)


@pytest.mark.usefixtures("patience")
async def test_a_vhost_that_is_not_there_stops_the_start(
    rabbit: LocalRabbit, names: Topology
) -> None:
    with pytest.raises(BadSetting, match="vhost"):
        async with opened(f"{rabbit.url}nosuch", names):
            pass


@pytest.mark.usefixtures("patience")
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
            await eventually(bus.ready)
            await publishing(bus).publish(a_call(), tenant="acme")
            await eventually(lambda: len(seen) == 1)
    finally:
        server.close()


async def takes(queue: AbstractQueue) -> bool:
    """Whether a message was there, which then is its taker's; one that comes back needs a moment."""
    return await queue.get(fail=False) is not None
