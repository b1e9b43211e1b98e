"""Dead letters in RabbitMQ: looked at without taking them out, replayed to their own queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from shared.bus.delivery import dead_letter, letter_id
from shared.bus.port import DeadLetter
from shared.bus.topology import Topology
from shared.errors import NotFound, Unavailable

_GET_SECONDS = 5.0


class _Owner(Protocol):
    @property
    def services(self) -> list[str]: ...

    async def to_work_queue(self, consumer_queue: str, data: bytes, *, tenant: str) -> None: ...


class RabbitDeadLetters:
    """
    A look takes letters without acknowledging and closes its channel, which gives them back.
    Two looks at once would see each other's letters missing, so within a process they wait for
    each other.
    """

    def __init__(
        self,
        connection: Callable[[], Awaitable[AbstractConnection]],
        topology: Topology,
        owner: _Owner,
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._owner = owner
        self._one_look = asyncio.Lock()

    async def list(self, *, service: str | None = None, limit: int = 100) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        services = [name for name in self._owner.services if service in {None, name}]
        async with self._looking() as channel:
            for name in services:
                async for incoming in self._letters(channel, name):
                    found.append(_letter(name, incoming))
                    if len(found) >= limit:
                        break
        return sorted(found, key=lambda letter: letter.died_at)[:limit]

    async def get(self, letter_id: str) -> DeadLetter:
        async with self._looking() as channel:
            letter, _ = await self._find(channel, letter_id)
        return letter

    async def replay(self, letter_id: str) -> DeadLetter:
        async with self._looking() as channel:
            letter, incoming = await self._find(channel, letter_id)
            await self._owner.to_work_queue(
                _queue_of(incoming), incoming.body, tenant=letter.tenant or ""
            )
            await incoming.ack()
        return letter

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[AbstractChannel]:
        async with self._one_look:
            try:
                connection = await self._connection()
                channel = await connection.channel(publisher_confirms=False)
                try:
                    yield channel
                finally:
                    with suppress(AMQPError, OSError, RuntimeError):
                        await channel.close()
            except (AMQPError, OSError) as error:
                raise Unavailable(f"the broker did not show its dead letters: {error}") from error

    async def _letters(
        self, channel: AbstractChannel, service: str
    ) -> AsyncIterator[AbstractIncomingMessage]:
        queue = await channel.get_queue(self._topology.dead(service), ensure=False)
        while (incoming := await queue.get(fail=False, timeout=_GET_SECONDS)) is not None:
            yield incoming

    async def _find(
        self, channel: AbstractChannel, wanted: str
    ) -> tuple[DeadLetter, AbstractIncomingMessage]:
        for service in self._owner.services:
            async for incoming in self._letters(channel, service):
                if letter_id(_queue_of(incoming), incoming.body) == wanted:
                    return _letter(service, incoming), incoming
        raise NotFound(f"no dead letter {wanted}")


def _queue_of(incoming: AbstractIncomingMessage) -> str:
    return str(incoming.headers.get("x-queue") or _death(incoming).get("queue", ""))


def _death(incoming: AbstractIncomingMessage) -> dict[str, Any]:
    """What the broker noted when it moved the message itself: the delivery limit was reached."""
    deaths = incoming.headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else {}
    return first if isinstance(first, dict) else {}


def _letter(service: str, incoming: AbstractIncomingMessage) -> DeadLetter:
    headers, death = incoming.headers, _death(incoming)
    queue = _queue_of(incoming)
    died = _moment(headers.get("x-died-ms")) or death.get("time")
    tenant = headers.get("x-tenant")
    keys = death.get("routing-keys")
    if isinstance(keys, list) and keys and "x-queue" not in headers and death.get("exchange"):
        tenant = str(keys[0]).partition(".")[0]
    return dead_letter(
        queue=queue,
        service=service,
        contract=str(headers.get("x-type") or queue.partition(f".{service}.")[2]),
        tenant=str(tenant) if tenant else None,
        message_id=incoming.message_id,
        data=incoming.body,
        error_code=str(headers.get("x-error-code") or "crashed"),
        error=str(
            headers.get("x-error")
            or "every process that took it died, hung or lost its connection before it was done"
        ),
        attempts=_whole(headers.get("x-attempt")) or _whole(death.get("count")) or 1,
        first_failed_at=_moment(headers.get("x-first-ms")),
        died_at=died if isinstance(died, datetime) else datetime.fromtimestamp(0, UTC),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _moment(ms: Any) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if isinstance(ms, int) else None
