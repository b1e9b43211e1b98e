"""
A publisher that loses nothing while the broker is away: what it cannot send goes into the store
and is sent later. Where an event comes in by HTTP or from a PBX there is nobody to send it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from shared.bus.port import MessageBus
from shared.bus.publisher import ServicePublisher
from shared.clock import Clock
from shared.contracts.envelope import Command, Event, Message, decode_known
from shared.errors import Conflict, ContractError, Unavailable
from shared.moments import Instant
from shared.observe.metrics import Metrics
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    DocumentStore,
    Find,
    Index,
    every,
)

log = structlog.get_logger(__name__)

_LOOK = timedelta(seconds=1)
#: Between tries while the broker stays away, in seconds.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0


class Spooled(Document):
    """``key`` is the message's id: one that is spooled twice is kept once."""

    message: str
    spooled_at: Instant


def spool_spec(service: str) -> CollectionSpec[Spooled]:
    return CollectionSpec(
        name=f"{service}.spool", model=Spooled, indexes=(Index(fields=("spooled_at",)),)
    )


class SpoolingPublisher:
    """
    ``publish`` returns when the message is durable: at the broker, else in the store.

    It raises Unavailable only when both are away. The service runs :meth:`relay` as a task.
    """

    def __init__(
        self,
        publisher: ServicePublisher,
        bus: MessageBus,
        store: DocumentStore,
        *,
        service: str,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._bus = bus
        self._spool: Collection[Spooled] = store.collection(spool_spec(service))
        self._service = service
        self._clock = clock
        self._metrics = metrics
        #: Makes a message as ``publish`` would, for :meth:`send`.
        self.envelop = publisher.envelop

    async def publish(
        self,
        body: Event | Command,
        *,
        tenant: str | None = None,
        cause: Message[Any] | None = None,
        key: str | None = None,
        at: datetime | None = None,
    ) -> Message[Any]:
        message = self.envelop(body, tenant=tenant, cause=cause, key=key, at=at)
        await self.send(message)
        return message

    async def send(self, message: Message[Any]) -> bool:
        """Whether the broker has it; False: it is in the store. Raises: Unavailable."""
        try:
            await self._bus.send(message)
        except Unavailable as error:
            log.warning("message_spooled", message_id=str(message.id), error=error.message)
        else:
            return True
        spooled = Spooled(
            key=str(message.id),
            tenant=message.tenant,
            message=message.encode().decode(),
            spooled_at=self._clock.now(),
        )
        try:
            await self._spool.add(spooled)
        except Conflict:
            return False  # a repeat of one that waits already
        self._metrics.count("callmesh_spooled_total", self._service)
        self._metrics.count("callmesh_spool_waiting", self._service)
        return False

    async def relay(self) -> None:
        """Send what waits, oldest first, for ever."""
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Unavailable),
                wait=wait_exponential_jitter(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
                sleep=_sleeper(self._clock),
            ):
                with attempt:
                    await self._relay_all()
            await self._clock.sleep(_LOOK)

    async def _relay_all(self) -> None:
        """
        One that does not go holds nobody up while the bus takes others: its queue alone may be
        full. Raises Unavailable when there was one.
        """
        self._metrics.set("callmesh_spool_waiting", self._service, to=await self._spool.count())
        refused: Unavailable | None = None
        async for spooled in every(self._spool, Find(order_by="spooled_at")):
            try:
                message = decode_known(spooled.message)
            except ContractError as error:
                # Another version wrote it; it stays until one that knows it runs again.
                log.error("spooled_message_unknown", error=error.message)  # noqa: TRY400  says it all
                continue
            try:
                await self._bus.send(message)
            except Unavailable as error:
                refused = error
                if not await self._bus.ready():
                    break
                continue
            await self._spool.delete(spooled.key)
            self._metrics.count("callmesh_spool_waiting", self._service, by=-1)
        if refused is not None:
            raise refused


def _sleeper(clock: Clock) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        await clock.sleep(timedelta(seconds=seconds))

    return sleep
