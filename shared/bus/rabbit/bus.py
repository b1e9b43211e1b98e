"""Publishing, consuming and asking over a session that may be lost at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from pydantic import SecretStr
from yarl import URL

from shared.bus.delivery import Dead, Done, Fate, Retry, code_of, deliver, text_of
from shared.bus.port import Consumer, Subscription
from shared.bus.rabbit.letters import RabbitDeadLetters
from shared.bus.rabbit.session import (
    CONNECT_SECONDS,
    CONSUME_SECONDS,
    HEARTBEAT_SECONDS,
    LOST,
    Session,
    open_session,
    transient,
)
from shared.bus.topology import Topology, retry_step
from shared.clock import Clock
from shared.contracts.envelope import Message, Query
from shared.errors import BadSetting, MeshError, OutOfTime, Unavailable, by_code
from shared.ids import new_id
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: A blocked broker (memory or disk alarm) does not refuse, it just does not confirm.
_CONFIRM_SECONDS = 5.0
#: More confirms in flight only add waiting (measured).
_IN_FLIGHT = 64
_RECONNECT = (0.2, 0.5, 1.0, 2.0, 5.0)
_WATCH = timedelta(seconds=10)

_Work = Callable[[Session, Subscription, AbstractIncomingMessage], Coroutine[Any, Any, None]]


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
        self._url = str(URL(url.get_secret_value()).update_query(heartbeat=str(HEARTBEAT_SECONDS)))
        self._clock = clock
        self._metrics = metrics
        self._consumers = list(consumers)
        self._topology = topology or Topology()
        self._instance = new_id().hex[:12]
        self._subscriptions: list[Subscription] = []
        self._session: Session | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._first_try: asyncio.Future[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self.dead_letters = RabbitDeadLetters(self._consuming_connection, self._topology, self)

    @property
    def services(self) -> list[str]:
        """Every service that may have dead letters."""
        return sorted({consumer.service for consumer in self._consumers})

    def subscribe(self, subscription: Subscription) -> None:
        if self._supervisor is not None:
            raise RuntimeError("subscribe before start")
        durable = not subscription.live and not issubclass(subscription.contract, Query)
        if durable and subscription.consumer not in self._consumers:
            self._consumers.append(subscription.consumer)
        self._subscriptions.append(subscription)

    async def start(self) -> None:
        self._first_try = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(), name="rabbit supervisor")
        await self._first_try

    async def stop(self, *, drain: timedelta) -> None:
        session = self._session
        if session is not None:
            for channel, tag in session.consumers:
                with suppress(*LOST):
                    underlay = await channel.get_underlay_channel()
                    await underlay.basic_cancel(tag, timeout=CONNECT_SECONDS)
        if self._running:
            await asyncio.wait(set(self._running), timeout=drain.total_seconds())
        for task in set(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._session = None

    async def ready(self) -> bool:
        session = self._session
        return session is not None and session.complete and not session.lost.is_set()

    async def send(self, message: Message[Any]) -> None:
        contract = type(message.body)
        name = contract.wire_name()
        try:
            await self._publish(
                self._amqp(message, DeliveryMode.PERSISTENT),
                exchange=self._topology.events,
                routing_key=self._topology.routing_key(message.tenant, name),
                # An event without a consumer is nobody's loss; one whose queue is gone would be.
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
        request = self._amqp(message, DeliveryMode.NOT_PERSISTENT)
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

    async def to_work_queue(self, consumer_queue: str, data: bytes, *, tenant: str) -> None:
        """Give *data* to one consumer alone, as a first attempt. Raises: Unavailable."""
        message = AmqpMessage(
            data, delivery_mode=DeliveryMode.PERSISTENT, headers={"x-tenant": tenant}
        )
        await self._publish(message, exchange="", routing_key=consumer_queue, mandatory=True)

    # -- the session -------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Keep a session open; the first outcome is what ``start`` returns or raises."""
        failures = 0
        while True:
            try:
                session = await self._open()
            except BadSetting as error:
                if self._first_try is not None and not self._first_try.done():
                    self._first_try.set_exception(error)
                    return
                log.error("broker_refused_us", error=error.message)  # noqa: TRY400  no traceback
            except LOST as error:
                log.warning("broker_away", error=mask_text(str(error)))
            else:
                failures = 0
                self._report_first_try()
                log.info("broker_connected", queues=len(self._consumers))
                try:
                    await self._stay(session)
                finally:
                    self._session = None
                    await session.close()
                log.warning("broker_lost")
            self._report_first_try()
            await self._clock.sleep(
                timedelta(seconds=_RECONNECT[min(failures, len(_RECONNECT) - 1)])
            )
            failures += 1

    def _report_first_try(self) -> None:
        if self._first_try is not None and not self._first_try.done():
            self._first_try.set_result(None)

    async def _open(self) -> Session:
        session = await open_session(
            self._url, self._topology, self._consumers, instance=self._instance
        )
        # Before the first delivery: its handler may publish.
        self._session = session
        try:
            await self._consume_answers(session)
            for subscription in self._subscriptions:
                await self._consume(session, subscription)
        except BaseException:
            self._session = None
            await session.close()
            raise
        session.complete = True
        return session

    async def _stay(self, session: Session) -> None:
        """Until the session is lost, or the broker no longer knows one of our consumers."""
        while not session.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH.total_seconds()):
                    await session.lost.wait()
            if not session.lost.is_set() and not await self._served(session):
                log.error("consumer_vanished")
                return

    async def _served(self, session: Session) -> bool:
        try:
            channel = await session.consuming.channel()
            for subscription in self._subscriptions:
                if not subscription.live and not issubclass(subscription.contract, Query):
                    queue = await channel.declare_queue(
                        self._topology.work(subscription.consumer), passive=True
                    )
                    if not queue.declaration_result.consumer_count:
                        return False
            await channel.close()
        except LOST:
            return False
        return True

    # -- consuming ---------------------------------------------------------------------------

    async def _consume(self, session: Session, subscription: Subscription) -> None:
        channel = await session.consuming.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=subscription.prefetch)
        names = self._topology
        name = subscription.contract.wire_name()
        work: _Work = self._handle
        if issubclass(subscription.contract, Query):
            queue = await channel.declare_queue(names.asks(name), durable=True)
            work = self._answer
        elif subscription.live:
            queue = await channel.declare_queue(
                names.live(subscription.consumer, self._instance),
                durable=True,
                arguments=transient(max_length=10_000),
            )
            await queue.bind(names.events, names.binding_key(name))
            work = self._handle_live
        else:
            queue = await channel.get_queue(names.work(subscription.consumer), ensure=False)

        async def take(incoming: AbstractIncomingMessage) -> None:
            # A task of ours: aiormq cancels its own when the connection is lost, and a handler
            # should not die in the middle of an effect for that.
            task = asyncio.create_task(work(session, subscription, incoming))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        try:
            tag = await queue.consume(take, timeout=CONSUME_SECONDS)
        except TimeoutError:
            raise ConnectionError(f"queue {queue.name} does not answer; has it a leader?") from None
        session.consumers.append((channel, tag))

    async def _handle(
        self, session: Session, subscription: Subscription, incoming: AbstractIncomingMessage
    ) -> None:
        attempt = _whole(incoming, "x-attempt") or 1
        fate = await deliver(
            incoming.body,
            subscription,
            attempt=attempt,
            tenant=_tenant_of(incoming),
            metrics=self._metrics,
        )
        if isinstance(fate, Retry | Dead):
            await self._pass_on(session, subscription, incoming, fate)
        if not session.lost.is_set():
            # Lost in this moment: the broker delivers it again.
            with suppress(*LOST):
                await incoming.ack()

    async def _pass_on(
        self,
        session: Session,
        subscription: Subscription,
        incoming: AbstractIncomingMessage,
        fate: Retry | Dead,
    ) -> None:
        """Confirmed in its next queue before the original is acknowledged."""
        now = round(self._clock.now().timestamp() * 1000)
        attempt = _whole(incoming, "x-attempt") or 1
        queue = self._topology.work(subscription.consumer)
        headers: dict[str, Any] = {
            "x-tenant": _tenant_of(incoming),
            "x-first-ms": _whole(incoming, "x-first-ms") or now,
        }
        if isinstance(fate, Retry):
            exchange, routing_key = self._topology.retry(retry_step(fate.after)), queue
            headers["x-attempt"] = attempt + 1
        else:
            exchange, routing_key = "", self._topology.dead(subscription.service)
            headers |= {
                "x-attempt": attempt,
                "x-queue": queue,
                "x-type": subscription.contract.wire_name(),
                "x-died-ms": now,
                "x-error-code": code_of(fate.error),
                "x-error": text_of(fate.error),
            }
        copy = AmqpMessage(
            incoming.body,
            headers=headers,
            message_id=incoming.message_id,
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        while not session.lost.is_set():
            try:
                await self._publish(
                    copy, exchange=exchange, routing_key=routing_key, mandatory=True
                )
            except Unavailable as error:
                log.warning("fate_not_stored", queue=queue, error=error.message)
                await self._clock.sleep(timedelta(seconds=1))
            else:
                return

    async def _handle_live(
        self, _session: Session, subscription: Subscription, incoming: AbstractIncomingMessage
    ) -> None:
        with suppress(*LOST):
            await incoming.ack()
        await self._once(subscription, incoming)

    async def _answer(
        self, session: Session, subscription: Subscription, incoming: AbstractIncomingMessage
    ) -> None:
        with suppress(*LOST):
            await incoming.ack()
        fate = await self._once(subscription, incoming)
        headers: dict[str, Any] = {}
        if isinstance(fate, Done) and fate.answer is not None:
            body = fate.answer.model_dump_json().encode()
        else:
            error = fate.error if isinstance(fate, Dead | Retry) else MeshError("internal error")
            text = error.message if isinstance(error, MeshError) else "internal error"
            body = b""
            headers = {"x-error-code": code_of(error), "x-error": text}
        reply = AmqpMessage(
            body,
            headers=headers,
            correlation_id=incoming.correlation_id,
            delivery_mode=DeliveryMode.NOT_PERSISTENT,
        )
        # Not mandatory: who asked may be gone.
        with suppress(*LOST):
            await session.unconfirmed.default_exchange.publish(
                reply, incoming.reply_to or "", mandatory=False
            )

    async def _once(self, subscription: Subscription, incoming: AbstractIncomingMessage) -> Fate:
        return await deliver(
            incoming.body,
            subscription,
            attempt=subscription.retry.attempts,
            tenant=_tenant_of(incoming),
            metrics=self._metrics,
        )

    async def _consume_answers(self, session: Session) -> None:
        channel = await session.consuming.channel(publisher_confirms=False)
        queue = await channel.declare_queue(
            self._topology.answers(self._instance), durable=True, arguments=transient()
        )

        async def take(incoming: AbstractIncomingMessage) -> None:
            waiting = self._asked.get(incoming.correlation_id or "")
            if waiting is None or waiting.done():
                return  # too late: its question has been given up
            code = incoming.headers.get("x-error-code")
            if code is None:
                waiting.set_result(incoming.body)
            else:
                text = str(incoming.headers.get("x-error"))
                waiting.set_exception(by_code(str(code))(text))

        await queue.consume(take, no_ack=True, timeout=CONSUME_SECONDS)

    # -- publishing --------------------------------------------------------------------------

    def _amqp(self, message: Message[Any], mode: DeliveryMode) -> AmqpMessage:
        headers: dict[str, Any] = {"x-tenant": message.tenant}
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        return AmqpMessage(
            message.encode(),
            headers=headers,
            message_id=str(message.id),
            type=type(message.body).wire_name(),
            app_id=message.source,
            content_type="application/json",
            delivery_mode=mode,
        )

    async def _publish(
        self, message: AmqpMessage, *, exchange: str, routing_key: str, mandatory: bool
    ) -> None:
        """Returns once the broker has confirmed. Raises: Unavailable."""
        session = self._session
        if session is None or session.lost.is_set():
            raise Unavailable("the broker is away")
        try:
            async with self._in_flight, asyncio.timeout(_CONFIRM_SECONDS):
                channel = session.confirmed
                target = (
                    await channel.get_exchange(exchange, ensure=False)
                    if exchange
                    else channel.default_exchange
                )
                await target.publish(message, routing_key, mandatory=mandatory)
        except asyncio.CancelledError:
            # aiormq cancels the publisher's task when the connection dies; a cancellation that
            # somebody asked for is counted by the task.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unavailable("the broker was lost while publishing") from None
        except LOST as error:
            raise Unavailable(f"the broker did not confirm: {mask_text(str(error))}") from error

    async def _consuming_connection(self) -> AbstractConnection:
        if self._session is None:
            raise Unavailable("the broker is away")
        return self._session.consuming


def _tenant_of(incoming: AbstractIncomingMessage) -> str:
    """
    By the address. The header is ours alone where the message came through the default exchange,
    to which no PBX may write; from the topic exchange only the routing key counts.
    """
    if incoming.exchange:
        return (incoming.routing_key or "").partition(".")[0]
    return str(incoming.headers.get("x-tenant", ""))


def _whole(incoming: AbstractIncomingMessage, header: str) -> int | None:
    value = incoming.headers.get(header)
    return value if isinstance(value, int) else None
