"""What a mesh of a test leaves at a broker that others use, too, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import aio_pika

from shared.bus.port import Consumer
from shared.bus.topology import RETRY_STEPS, Topology


def sweep(url: str, names: Topology, consumers: Iterable[Consumer]) -> None:
    """
    Delete the durable queues and the exchanges of the mesh *names*, where there are any.

    A mesh declares some 75 quorum queues, each a process of the broker with a log. Those of all
    tests together fill its memory: it then raises its alarm, and takes nothing from anybody.
    Queues of processes and of questions go by themselves. May be called from a running loop.
    """
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _sweep(url, names, list(consumers))).result()


async def _sweep(url: str, names: Topology, consumers: list[Consumer]) -> None:
    services = {consumer.service for consumer in consumers}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for queue in (
            *map(names.work, consumers),
            *map(names.dead, services),
            *map(names.retry, RETRY_STEPS),
            names.pbx_in,
        ):
            await channel.queue_delete(queue)
        for exchange in (names.events, names.pbx, *map(names.retry, RETRY_STEPS)):
            await channel.exchange_delete(exchange)
