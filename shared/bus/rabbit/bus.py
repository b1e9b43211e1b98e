"""Publishing, consuming and asking over a session that may be lost at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import PublishError
from pydantic import SecretStr

from shared.bus.delivery import (
    Done,
    Fate,
    Refused,
    deliver,
    deliver_once,
)
from shared.bus.foreign import FOREIGN, address_in, deliver_foreign
from shared.bus.port import Consumer, ForeignDoor, Subscription
from shared.bus.rabbit.fates import Fates, Place
from shared.bus.rabbit.forms import amqp_of, broker_of, headers_of, kept, refused_by
from shared.bus.rabbit.headers import our_headers, whole
from shared.bus.rabbit.letters import RabbitDeadLetters
from shared.bus.rabbit.session import (
    CONSUME_SECONDS,
    LOST,
    Session,
    open_session,
    transient,
    unasked,
    words_of,
)
from shared.bus.topology import Topology
from shared.clock import Clock
from shared.contracts.envelope import Message, Query
from shared.errors import BadSetting, OutOfTime, Unavailable
from shared.ids import new_id
from shared.moments import from_ms, to_ms
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: A broker that hangs does not refuse, it just does not confirm.
_CONFIRM_SECONDS = 5.0
#: More confirms in flight only add waiting (measured).
_IN_FLIGHT = 64
_RECONNECT = (0.2, 0.5, 1.0, 2.0, 5.0)

#: A handler of a question that returned nothing.
_NO_ANSWER = Refused("internal", "internal error")

_Work = Callable[[Session, AbstractIncomingMessage], Coroutine[Any, Any, None]]


class RabbitBus:
    """
    *consumers* are all durable subscriptions of the mesh: their queues are declared here too.

    ``start`` raises BadSetting when the broker refuses the credentials, or holds a queue of one
    of our names with other arguments. A broker that is away is waited for.
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        clock: Clock,
        metrics: Metrics,
        consumers: Sequence[Consumer] = (),
        topology: Topology | None = None,
    ) -> None:
        self._url = broker_of(url)
        self._clock = clock
        self._metrics = metrics
        self._consumers = list(consumers)
        self._topology = topology or Topology()
        self._fates = Fates(self._topology, clock)
        self._instance = new_id().hex[:12]
        self._subscriptions: list[Subscription] = []
        self._door: ForeignDoor | None = None
        self._session: Session | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self._running: set[asyncio.Task[None]] = set()
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self.dead_letters = RabbitDeadLetters(self._consuming_connection, self._topology, self)

    @property
    def services(self) -> list[str]:
        """Every service that may have dead letters."""
        at_door = {self._door.service} if self._door else set()
        return sorted({consumer.service for consumer in self._consumers} | at_door)

    def subscribe(self, subscription: Subscription) -> None:
        if self._supervisor is not None:
            raise RuntimeError("subscribe before start")
        if subscription.durable and subscription.consumer not in self._consumers:
            self._consumers.append(subscription.consumer)
        self._subscriptions.append(subscription)

    def open_door(self, door: ForeignDoor) -> None:
        if self._supervisor is not None or self._door is not None:
            raise RuntimeError("open one door, and before start")
        self._door = door

    async def start(self) -> None:
        session = await self._opened()
        self._supervisor = asyncio.create_task(self._supervise(session), name="rabbit supervisor")

    async def stop(self, *, drain: timedelta) -> None:
        # A session that is opened from now on, for handlers to publish, takes nothing.
        self._stopping = True
        if self._session is not None:
            await self._session.take_no_more()
        if self._running:
            await asyncio.wait(set(self._running), timeout=drain.total_seconds())
        for task in set(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        # One that ended before its first step has closed nothing.
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ready(self) -> bool:
        session = self._session
        return session is not None and session.complete and not session.lost.is_set()

    async def send(self, message: Message[Any]) -> None:
        contract = type(message.body)
        name = contract.wire_name()
        try:
            await self._publish(
                amqp_of(message, DeliveryMode.PERSISTENT),
                exchange=self._topology.events,
                routing_key=self._topology.routing_key(message.tenant, name),
                # An event without a consumer is nobody's loss; one whose queue is gone would be.
                # The broker tells when it reached no queue at all, not when one of several.
                mandatory=any(consumer.contract is contract for consumer in self._consumers),
            )
        except Unavailable:
            self._metrics.count("callmesh_published_total", name, "refused")
            raise
        self._metrics.count("callmesh_published_total", name, "accepted")

    async def ask(self, message: Message[Any], *, within: timedelta) -> bytes:
        name = type(message.body).wire_name()
        seconds = within.total_seconds()
        correlation = new_id().hex
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[correlation] = answer
        request = amqp_of(message, DeliveryMode.NOT_PERSISTENT)
        request.reply_to = self._topology.answers(self._instance)
        request.correlation_id = correlation
        request.expiration = within
        try:
            async with asyncio.timeout(seconds):
                await self._publish(
                    request, exchange="", routing_key=self._topology.asks(name), mandatory=True
                )
                return await answer
        except TimeoutError:
            raise OutOfTime(f"no answer to {name} within {seconds:g} s") from None
        finally:
            del self._asked[correlation]

    async def to_work_queue(
        self,
        consumer_queue: str,
        data: bytes,
        *,
        headers: dict[str, Any],
        message_id: str | None,
        content_type: str | None,
    ) -> None:
        """
        Give *data* to one consumer alone, as a first attempt; *headers* say whose it is.

        Raises: Unavailable.
        """
        message = kept(data, headers, message_id, content_type)
        await self._publish(message, exchange="", routing_key=consumer_queue, mandatory=True)

    # -- the session -------------------------------------------------------------------------

    async def _supervise(self, session: Session | None) -> None:
        """Keep a session open; *session* is what the start has opened, if the broker was there."""
        failures = 0
        while True:
            if session is not None:
                failures = 0
                try:
                    await session.lost.wait()
                finally:
                    self._session = None
                    await session.close()
                log.warning("broker_lost", error=session.reason)
            await self._clock.sleep(
                timedelta(seconds=_RECONNECT[min(failures, len(_RECONNECT) - 1)])
            )
            failures += 1
            session = await self._opened_again()

    async def _opened_again(self) -> Session | None:
        try:
            return await self._opened()
        except BadSetting as error:
            log.error("broker_refused_us", error=error.message)  # noqa: TRY400  no traceback
        except Exception:
            # Whatever it is: if this ends, nobody opens a session any more.
            log.exception("session_not_opened")
        return None

    async def _opened(self) -> Session | None:
        """None while the broker is away. Raises: BadSetting."""
        try:
            with unasked():
                session = await self._open()
        except LOST as error:
            log.warning("broker_away", error=words_of(error))
            return None
        log.info("broker_connected", queues=len(self._consumers))
        return session

    async def _open(self) -> Session:
        session = await open_session(
            self._url,
            self._topology,
            self._consumers,
            instance=self._instance,
            door=self._door,
        )
        # Before the first delivery: its handler may publish.
        self._session = session
        try:
            await self._consume_answers(session)
            for subscription in self._subscriptions:
                if not self._stopping:
                    await self._consume(session, subscription)
            if self._door is not None and not self._stopping:
                await self._consume_foreign(session, self._door)
            if self._stopping:
                await session.take_no_more()
        except BaseException:
            self._session = None
            await session.close()
            raise
        session.complete = not self._stopping
        return session

    # -- consuming ---------------------------------------------------------------------------

    async def _consume(self, session: Session, subscription: Subscription) -> None:
        channel = await session.open_channel(prefetch=subscription.prefetch)
        names = self._topology
        name = subscription.contract.wire_name()
        work: _Work = partial(self._handle, subscription)
        if issubclass(subscription.contract, Query):
            queue = await channel.declare_queue(names.asks(name), durable=True)
            work = partial(self._answer, subscription)
        elif subscription.live:
            queue = await channel.declare_queue(
                names.live(subscription.consumer, self._instance),
                durable=True,
                arguments=transient(max_length=10_000),
            )
            await queue.bind(names.events, names.binding_key(name))
            work = partial(self._handle_live, subscription)
        else:
            queue = await channel.get_queue(names.work(subscription.consumer), ensure=False)
        await self._take(session, channel, queue, work, durable=subscription.durable)

    async def _consume_foreign(self, session: Session, door: ForeignDoor) -> None:
        channel = await session.open_channel(prefetch=door.prefetch)
        queue = await channel.get_queue(self._topology.pbx_in, ensure=False)
        await self._take(session, channel, queue, partial(self._handle_foreign, door), durable=True)

    async def _take(
        self,
        session: Session,
        channel: AbstractChannel,
        queue: AbstractQueue,
        work: _Work,
        *,
        durable: bool,
    ) -> None:
        """Messages of *queue*, from now on. *durable*: what is not done is to come again."""

        async def take(incoming: AbstractIncomingMessage) -> None:
            # A task of ours: aiormq cancels its own when the connection is lost, and a handler
            # should not die in the middle of an effect for that.
            settling = self._settle(session, queue.name, incoming, work, durable=durable)
            task = asyncio.create_task(settling)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        try:
            tag = await queue.consume(take, timeout=CONSUME_SECONDS)
        except TimeoutError:
            raise ConnectionError(f"queue {queue.name} does not answer; has it a leader?") from None
        session.consumers.append((channel, tag))

    async def _settle(
        self,
        session: Session,
        queue: str,
        incoming: AbstractIncomingMessage,
        work: _Work,
        *,
        durable: bool,
    ) -> None:
        """Whatever happens, the message does not stay with us."""
        try:
            with unasked():
                await work(session, incoming)
        except Exception:
            log.exception("message_undecided", queue=queue)
            done = False
        else:
            done = True
        if not session.lost.is_set():
            # Lost in this moment: the broker delivers it again.
            with suppress(*LOST), unasked():
                if done:
                    await incoming.ack()
                else:
                    # The delivery limit ends it; ``nack`` would not count on 4.3.
                    await incoming.reject(requeue=durable)

    async def _handle(
        self, subscription: Subscription, session: Session, incoming: AbstractIncomingMessage
    ) -> None:
        tenant = _tenant_of(incoming)

        async def attempt(number: int, failing_since: datetime | None) -> Fate:
            return await deliver(
                incoming.body,
                subscription,
                attempt=number,
                failing_since=failing_since,
                tenant=tenant,
                metrics=self._metrics,
                clock=self._clock,
            )

        place = Place(
            queue=self._topology.work(subscription.consumer),
            service=subscription.service,
            type=subscription.contract.wire_name(),
            address={"x-tenant": tenant},
        )
        await self._fates.decide(session, incoming, place, attempt)

    async def _handle_foreign(
        self, door: ForeignDoor, session: Session, incoming: AbstractIncomingMessage
    ) -> None:
        ours = our_headers(incoming)
        key = incoming.routing_key or "" if incoming.exchange else str(ours.get("x-key", ""))
        received = whole(ours, "x-received-ms") or to_ms(self._clock.now())

        async def attempt(number: int, failing_since: datetime | None) -> Fate:
            return await deliver_foreign(
                incoming.body,
                door,
                key=key,
                content_type=incoming.content_type or "",
                received_at=from_ms(received),
                attempt=number,
                failing_since=failing_since,
                metrics=self._metrics,
                clock=self._clock,
            )

        tenant, _ = address_in(key) or ("", "")
        place = Place(
            queue=self._topology.pbx_in,
            service=door.service,
            type=FOREIGN,
            address={"x-tenant": tenant, "x-key": key, "x-received-ms": received},
            content_type=incoming.content_type,
        )
        await self._fates.decide(session, incoming, place, attempt)

    async def _handle_live(
        self, subscription: Subscription, _session: Session, incoming: AbstractIncomingMessage
    ) -> None:
        await self._once(subscription, incoming)

    async def _answer(
        self, subscription: Subscription, session: Session, incoming: AbstractIncomingMessage
    ) -> None:
        fate = await self._once(subscription, incoming)
        body, headers = b"", {}
        if isinstance(fate, Done) and fate.answer is not None:
            body = fate.answer.model_dump_json().encode()
        else:
            headers = headers_of(fate if isinstance(fate, Refused) else _NO_ANSWER)
        reply = AmqpMessage(
            body,
            headers=headers,
            correlation_id=incoming.correlation_id,
            delivery_mode=DeliveryMode.NOT_PERSISTENT,
        )
        # Not mandatory: who asked may be gone.
        with suppress(*LOST), unasked():
            await session.unconfirmed.default_exchange.publish(
                reply, incoming.reply_to or "", mandatory=False
            )

    async def _once(
        self, subscription: Subscription, incoming: AbstractIncomingMessage
    ) -> Done | Refused:
        return await deliver_once(
            incoming.body, subscription, tenant=_tenant_of(incoming), metrics=self._metrics
        )

    async def _consume_answers(self, session: Session) -> None:
        channel = await session.open_channel(prefetch=0)
        queue = await channel.declare_queue(
            self._topology.answers(self._instance), durable=True, arguments=transient()
        )

        async def take(incoming: AbstractIncomingMessage) -> None:
            waiting = self._asked.get(incoming.correlation_id or "")
            if waiting is None or waiting.done():
                return  # too late: its question has been given up
            if "x-error-code" in incoming.headers:
                waiting.set_exception(refused_by(incoming.headers).error())
            else:
                waiting.set_result(incoming.body)

        await queue.consume(take, no_ack=True, timeout=CONSUME_SECONDS)

    # -- publishing --------------------------------------------------------------------------

    async def _publish(
        self, message: AmqpMessage, *, exchange: str, routing_key: str, mandatory: bool
    ) -> None:
        """Returns once the broker has confirmed. Raises: Unavailable."""
        session = self._session
        if session is None or session.lost.is_set():
            raise Unavailable("the broker is away")
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS), self._in_flight:
                await session.confirm(
                    message,
                    exchange=exchange,
                    routing_key=routing_key,
                    mandatory=mandatory,
                )
        except LOST as error:
            if exchange and isinstance(error, PublishError):
                session.lose(f"a queue of ours is gone: {error}")
            raise Unavailable(f"the broker did not confirm: {words_of(error)}") from error

    async def _consuming_connection(self) -> AbstractConnection:
        if self._session is None:
            raise Unavailable("the broker is away")
        return self._session.consuming


def _tenant_of(incoming: AbstractIncomingMessage) -> str:
    """By the address: the header where it is ours, else the routing key."""
    if incoming.exchange:
        return (incoming.routing_key or "").partition(".")[0]
    return str(our_headers(incoming).get("x-tenant", ""))
