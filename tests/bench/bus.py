"""Publish to handled: RabbitBus beside bare aio-pika on the same broker and the same kind of queue."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import aio_pika
from pydantic import SecretStr

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, MessageBus, Subscription
from shared.bus.publisher import ServicePublisher
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import Topology
from shared.clock import SystemClock
from shared.contracts.calls import CallStarted
from shared.contracts.envelope import Message, wrap
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.testing.backends import Backends
from shared.testing.builders import a_call

MESSAGES = 3000
IN_FLIGHT = 64
ROUNDS = 5
_QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


async def measure(backends: Backends, folder: Path) -> list[str]:
    url = backends.amqp_url()
    ours, bare = [], []
    for _ in range(ROUNDS):
        bare.append(await _bare(url))
        ours.append(await _rabbit(url))
    embedded = [await _embedded(folder / f"bus-{n}.db") for n in range(ROUNDS)]
    runs = {"o": ours, "b": bare, "e": embedded}
    rates = {name: median(rate for rate, _ in found) for name, found in runs.items()}
    costs = {name: median(cpu for _, cpu in found) for name, found in runs.items()}
    return [
        f"{MESSAGES} call events, confirmed, {IN_FLIGHT} in flight, quorum queue, one process",
        f"bare aio-pika   {rates['b']:7.0f}/s   {costs['b']:5.0f} us CPU per message",
        f"RabbitBus       {rates['o']:7.0f}/s   {costs['o']:5.0f} us CPU per message",
        f"ratio           {median(o / b for (o, _), (b, _) in zip(ours, bare, strict=True)):7.2f}",
        f"EmbeddedBus     {rates['e']:7.0f}/s   {costs['e']:5.0f} us CPU per message",
    ]


async def _bare(url: str) -> tuple[float, float]:
    """What anyone would write: publish with confirm, consume, acknowledge."""
    body = b"x" * len(_a_message().encode())
    left = MESSAGES
    done = asyncio.Event()
    async with await aio_pika.connect(url) as publishing, await aio_pika.connect(url) as consuming:
        channel = await consuming.channel(publisher_confirms=False)
        await channel.set_qos(32)
        name = f"bench-{new_id().hex[:8]}"
        queue = await channel.declare_queue(name, durable=True, arguments=_QUORUM)

        async def take(incoming: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal left
            await incoming.ack()
            left -= 1
            if not left:
                done.set()

        await queue.consume(take)
        exchange = (await publishing.channel()).default_exchange
        places = asyncio.Semaphore(IN_FLIGHT)

        async def send() -> None:
            async with places:
                await exchange.publish(
                    aio_pika.Message(body, delivery_mode=2, message_id=new_id().hex), name
                )

        began, cpu = perf_counter(), process_time()
        await asyncio.gather(*(send() for _ in range(MESSAGES)))
        await done.wait()
        took, spent = perf_counter() - began, process_time() - cpu
        await queue.delete(if_unused=False, if_empty=False)
    return MESSAGES / took, spent / MESSAGES * 1e6


async def _rabbit(url: str) -> tuple[float, float]:
    bus = RabbitBus(
        SecretStr(url),
        clock=SystemClock(),
        metrics=Metrics(),
        topology=Topology(f"bench-{new_id().hex[:8]}"),
    )
    return await _through(bus)


async def _embedded(path: Path) -> tuple[float, float]:
    db = SqliteFile(path)
    await db.open()
    found = await _through(EmbeddedBus(db, clock=SystemClock(), metrics=Metrics()))
    await db.close()
    return found


async def _through(bus: MessageBus) -> tuple[float, float]:
    left = MESSAGES
    done = asyncio.Event()

    async def take(_: Message[Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    bus.subscribe(Subscription(consumer=Consumer("bench", CallStarted), handler=take))
    await bus.start()
    publisher = ServicePublisher(bus, service="bench", clock=SystemClock())
    places = asyncio.Semaphore(IN_FLIGHT)

    async def send(number: int) -> None:
        async with places:
            await publisher.publish(a_call(call_id=str(number)), tenant="acme", key=str(number))

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(send(number) for number in range(MESSAGES)))
    await done.wait()
    took, spent = perf_counter() - began, process_time() - cpu
    await bus.stop(drain=timedelta(seconds=1))
    return MESSAGES / took, spent / MESSAGES * 1e6


def _a_message() -> Message[Any]:
    return wrap(a_call(), source="bench", occurred_at=SystemClock().now(), tenant="acme")
