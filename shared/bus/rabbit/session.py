"""A pair of connections with the mesh's topology declared: what is opened again after a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aio_pika import Connection, ExchangeType
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from shared.bus import stray
from shared.bus.port import Consumer, ForeignDoor
from shared.bus.rabbit.frames import ForgivingTransport
from shared.bus.topology import DELIVERY_LIMIT, RETRY_STEPS, Topology
from shared.errors import BadSetting
from shared.observe.logging import mask_text

#: A dead peer is noticed after three of these; the default of 60 s would mean three minutes.
HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 5.0
#: A quorum queue whose leader is not there yet (a broker that just came back) leaves a consumer
#: waiting, and may never answer it (seen on 3.10): then the whole session is opened anew.
CONSUME_SECONDS = 5.0
#: A queue that grew to this is a consumer that was forgotten; publishers are told.
_MAX_LENGTH = 1_000_000
#: What PBXs publish while nobody takes it must not fill the broker's disk, which would stop all.
_FOREIGN_BYTES = 256 * 1024 * 1024
_KEPT_WITHOUT_CONSUMER = timedelta(seconds=60)

#: What a lost connection raises, besides a CancelledError that nobody asked for: aiormq answers
#: so to whatever waited for a broker that froze. ``unasked`` makes it one of these.
LOST = (AMQPError, OSError, RuntimeError, TimeoutError)

_QUORUM: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-dead-letter-exchange": "",
}


def unasked() -> AbstractContextManager[None]:
    """Around all that waits for the broker."""
    return stray.as_error(ConnectionError, "the connection to the broker was lost")


def words_of(reason: object) -> str:
    return mask_text(str(reason)) or "no answer in time"


@dataclass(slots=True)
class Session:
    """
    What lives as long as one pair of connections.

    It is lost as a whole: with a connection, with any channel or consumer that was to live as
    long, or with a queue that should be there. Opening all of it anew is the one way back.
    """

    publishing: AbstractConnection
    consuming: AbstractConnection
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    #: Why it was lost.
    reason: str = ""
    confirmed: AbstractChannel = field(init=False)
    unconfirmed: AbstractChannel = field(init=False)
    consumers: list[tuple[AbstractChannel, str]] = field(default_factory=list)
    #: Every subscription is being served.
    complete: bool = False

    def lose(self, reason: object) -> None:
        if not self.lost.is_set():
            self.reason = words_of(reason)
            self.lost.set()

    def watch(self, end: AbstractConnection | AbstractChannel) -> None:
        end.close_callbacks.add(lambda _, reason: self.lose(reason))

    async def open_channel(self, *, prefetch: int) -> AbstractChannel:
        """To consume on."""
        channel = await self.consuming.channel(publisher_confirms=False)
        self.watch(channel)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self.lose("a queue of ours is gone"))
        await channel.set_qos(prefetch_count=prefetch)
        return channel

    async def take_no_more(self) -> None:
        """What was delivered can still be acknowledged."""

        async def cancel(channel: AbstractChannel, tag: str) -> None:
            underlay = await channel.get_underlay_channel()
            await underlay.basic_cancel(tag)

        cancelling = asyncio.gather(
            *(cancel(channel, tag) for channel, tag in self.consumers), return_exceptions=True
        )
        # All at once: a broker that hangs would be waited for once per consumer.
        await asyncio.wait({cancelling}, timeout=CONNECT_SECONDS)
        cancelling.cancel()

    async def while_it_lasts(self, work: Coroutine[Any, Any, None]) -> None:
        """Raises one of ``LOST`` as soon as the session is lost, whether *work* ends or not."""
        end = asyncio.create_task(self.lost.wait())
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({end, task}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionError(self.reason)
            await task
        finally:
            end.cancel()
            task.cancel()

    async def confirm(
        self, message: AmqpMessage, *, exchange: str, routing_key: str, mandatory: bool = True
    ) -> None:
        """Publishes, and returns once the broker has confirmed. Raises: one of ``LOST``."""
        with unasked():
            # While an alarm blocks publishers this waits; nothing is sent that could come later.
            if self.publishing.transport is not None:
                await self.publishing.transport.ready()
            target = (
                await self.confirmed.get_exchange(exchange, ensure=False)
                if exchange
                else self.confirmed.default_exchange
            )
            await target.publish(message, routing_key, mandatory=mandatory)

    async def close(self) -> None:
        self.lose("closed by us")
        await asyncio.gather(
            _close(self.consuming), _close(self.publishing), return_exceptions=True
        )


async def open_session(
    url: URL,
    topology: Topology,
    consumers: Sequence[Consumer],
    *,
    instance: str,
    door: ForeignDoor | None = None,
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
            consuming = await _connect(url, f"callmesh consume {instance}", reads_others=True)
            undo.push_async_callback(_close, consuming)
            session = Session(publishing, consuming)
            await _declare(consuming, topology, consumers, door)
            session.confirmed = await publishing.channel(on_return_raises=True)
            session.unconfirmed = await publishing.channel(publisher_confirms=False)
            for end in (publishing, consuming, session.confirmed, session.unconfirmed):
                session.watch(end)
            undo.pop_all()
            return session
    except (ProbableAuthenticationError, InvalidFrameError):
        # It closes the connection where a vhost should be opened; aiormq does not say with what.
        raise BadSetting(
            "CALLMESH_AMQP_URL: the broker refuses the user, its password or the vhost"
        ) from None
    except ChannelPreconditionFailed as error:
        raise BadSetting(
            "CALLMESH_AMQP_PREFIX: a queue or exchange of this name has other arguments "
            f"({error.reason}); delete it when it is empty, or set another prefix"
        ) from None


async def _connect(url: URL, name: str, *, reads_others: bool = False) -> AbstractConnection:
    """*reads_others*: messages that somebody else made; the rest are confirms and our own."""
    connection = Connection(url, client_properties={"connection_name": name})
    if reads_others:
        connection.kwargs["transport_factory"] = ForgivingTransport()
    try:
        await connection.connect(timeout=CONNECT_SECONDS)
    except BaseException:
        # Left alone, it closes itself when it is collected, when there may be no loop any more.
        await connection.close()
        raise
    return connection


async def _close(connection: AbstractConnection) -> None:
    with suppress(*LOST), unasked():
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.close()
    if not connection.is_closed:
        # The first call took its transport away, so that this one only notes the end.
        await connection.close()


async def _declare(
    connection: AbstractConnection,
    names: Topology,
    consumers: Sequence[Consumer],
    door: ForeignDoor | None,
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
    services = {consumer.service for consumer in consumers} | ({door.service} if door else set())
    for service in sorted(services):
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
            arguments=_work(dead=names.dead(consumer.service)),
        )
        await queue.bind(events, names.binding_key(consumer.contract.wire_name()))
    if door is not None:
        published = await channel.declare_exchange(names.pbx, ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(
            names.pbx_in,
            durable=True,
            arguments=_work(dead=names.dead(door.service)) | {"x-max-length-bytes": _FOREIGN_BYTES},
        )
        await queue.bind(published, "#")
    await channel.close()


def _work(*, dead: str) -> dict[str, Any]:
    """Arguments of a queue that is worked off."""
    return {
        **_QUORUM,
        "x-dead-letter-routing-key": dead,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": _MAX_LENGTH,
    }


def transient(*, max_length: int | None = None) -> dict[str, Any]:
    """
    Arguments of a queue that goes by itself some time after its process.

    Named and kept for a while, not exclusive: after a cut, the broker may still hold the old
    connection's exclusive queue and would refuse the new one.
    """
    kept = round(_KEPT_WITHOUT_CONSUMER / timedelta(milliseconds=1))
    bounds: dict[str, Any] = {"x-expires": kept, "x-message-ttl": kept}
    return bounds | ({"x-max-length": max_length} if max_length else {})
