"""A pair of connections with the mesh's topology declared: what is opened again after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aio_pika import ExchangeType, connect
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelPreconditionFailed,
    ProbableAuthenticationError,
)

from shared.bus.port import Consumer
from shared.bus.topology import RETRY_STEPS, Topology
from shared.errors import BadSetting

#: A dead peer is noticed after three of these; the default of 60 s would mean three minutes.
HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 5.0
#: A quorum queue whose leader is not there yet (a broker that just came back) leaves a consumer
#: waiting, and may never answer it (seen on 3.10): then the whole session is opened anew.
CONSUME_SECONDS = 5.0
#: Deliveries of one message before the broker takes it for a killer of processes.
_DELIVERY_LIMIT = 10
#: A queue that grew to this is a consumer that was forgotten; publishers are told.
_MAX_LENGTH = 1_000_000
_KEPT_WITHOUT_CONSUMER = timedelta(seconds=60)

#: What a lost connection raises, besides a CancelledError that nobody asked for.
LOST = (AMQPError, OSError, RuntimeError, TimeoutError)

_QUORUM: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "",
}


@dataclass(slots=True)
class Session:
    """What lives as long as one pair of connections."""

    publishing: AbstractConnection
    consuming: AbstractConnection
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    confirmed: AbstractChannel = field(init=False)
    unconfirmed: AbstractChannel = field(init=False)
    consumers: list[tuple[AbstractChannel, str]] = field(default_factory=list)
    #: Every subscription is being served.
    complete: bool = False

    def watch_for_loss(self) -> None:
        for connection in (self.publishing, self.consuming):
            connection.close_callbacks.add(lambda *_: self.lost.set())

    async def close(self) -> None:
        self.lost.set()
        for connection in (self.consuming, self.publishing):
            await _close(connection)


async def open_session(
    url: str, topology: Topology, consumers: Sequence[Consumer], *, instance: str
) -> Session:
    """
    Connect twice and declare everything, idempotently.

    Raises BadSetting when trying again cannot help, else one of ``LOST``.
    """
    try:
        async with AsyncExitStack() as undo:
            # Two, so that a blocked publisher never stops an acknowledgement.
            publishing = await _connect(url, f"callmesh publish {instance}")
            undo.push_async_callback(_close, publishing)
            consuming = await _connect(url, f"callmesh consume {instance}")
            undo.push_async_callback(_close, consuming)
            session = Session(publishing, consuming)
            session.watch_for_loss()
            await _declare(session.consuming, topology, consumers)
            session.confirmed = await session.publishing.channel(on_return_raises=True)
            session.unconfirmed = await session.publishing.channel(publisher_confirms=False)
            undo.pop_all()
            return session
    except ProbableAuthenticationError:
        raise BadSetting(
            "CALLMESH_AMQP_URL: the broker refuses the user, its password or the vhost"
        ) from None
    except ChannelPreconditionFailed as error:
        raise BadSetting(
            f"CALLMESH_AMQP_PREFIX: a queue of this name has other arguments ({error.reason}); "
            "delete it when it is empty, or set another prefix"
        ) from None


async def _connect(url: str, name: str) -> AbstractConnection:
    return await connect(url, timeout=CONNECT_SECONDS, client_properties={"connection_name": name})


async def _close(connection: AbstractConnection) -> None:
    with suppress(*LOST):
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.close()


async def _declare(
    connection: AbstractConnection, names: Topology, consumers: Sequence[Consumer]
) -> None:
    """On a channel of its own: a clash closes the channel for all on it."""
    channel = await connection.channel()
    events = await channel.declare_exchange(names.events, ExchangeType.TOPIC, durable=True)
    for step in RETRY_STEPS:
        # The routing key is the work queue's name; the expired message goes back by it.
        fan = await channel.declare_exchange(names.retry(step), ExchangeType.FANOUT, durable=True)
        waiting = await channel.declare_queue(
            names.retry(step),
            durable=True,
            arguments={**_QUORUM, "x-message-ttl": round(step / timedelta(milliseconds=1))},
        )
        await waiting.bind(fan)
    for service in sorted({consumer.service for consumer in consumers}):
        await channel.declare_queue(
            names.dead(service),
            durable=True,
            # Looking at a letter counts as a delivery; 4.x would drop it after 20 looks.
            arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000},
        )
    for consumer in consumers:
        queue = await channel.declare_queue(
            names.work(consumer),
            durable=True,
            arguments={
                **_QUORUM,
                "x-dead-letter-routing-key": names.dead(consumer.service),
                "x-delivery-limit": _DELIVERY_LIMIT,
                "x-max-length": _MAX_LENGTH,
            },
        )
        await queue.bind(events, names.binding_key(consumer.contract.wire_name()))
    await channel.close()


def transient(*, max_length: int | None = None) -> dict[str, Any]:
    """
    Arguments of a queue that goes by itself some time after its process.

    Named and kept for a while, not exclusive: after a cut, the broker may still hold the old
    connection's exclusive queue and would refuse the new one.
    """
    kept = round(_KEPT_WITHOUT_CONSUMER / timedelta(milliseconds=1))
    bounds: dict[str, Any] = {"x-expires": kept, "x-message-ttl": kept}
    return bounds | ({"x-max-length": max_length} if max_length else {})
