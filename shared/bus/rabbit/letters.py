"""Dead letters in RabbitMQ: looked at without taking them out, replayed to their own queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Protocol

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from shared.bus.delivery import CRASHED, dead_letter, letter_id
from shared.bus.foreign import FOREIGN
from shared.bus.port import DeadLetter, WhichLetters
from shared.bus.rabbit.headers import death_of, moment, whole
from shared.bus.rabbit.session import LOST, unasked, words_of
from shared.bus.topology import Topology
from shared.errors import NotFound, Unavailable
from shared.moments import from_ms

_GET_SECONDS = 5.0
#: Ours have no expiration; a PBX that publishes by itself may give it one.
_EXPIRED = ("expired", "its sender gave it an expiration, and it was not taken by then")


class _Owner(Protocol):
    @property
    def services(self) -> list[str]: ...

    async def to_work_queue(
        self,
        consumer_queue: str,
        data: bytes,
        *,
        headers: dict[str, Any],
        message_id: str | None,
        content_type: str | None,
    ) -> None: ...


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

    async def list(
        self, which: WhichLetters | None = None, /, *, limit: int = 100
    ) -> Sequence[DeadLetter]:
        which = which or WhichLetters()
        found: list[DeadLetter] = []
        services = [name for name in self._owner.services if which.service in {None, name}]
        async with self._looking() as channel:
            for name in services:
                of_service = 0
                async with aclosing(self._letters(channel, name)) as letters:
                    async for incoming in letters:
                        letter = _letter(name, incoming)
                        if which.has(letter):
                            found.append(letter)
                            of_service += 1
                        if of_service == limit:
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
                _queue_of(incoming),
                incoming.body,
                headers={"x-tenant": letter.tenant or "", **_address_of(incoming)},
                message_id=incoming.message_id,
                content_type=incoming.content_type,
            )
            await incoming.ack()
        return letter

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[AbstractChannel]:
        async with self._one_look:
            try:
                with unasked():
                    connection = await self._connection()
                    channel = await connection.channel(publisher_confirms=False)
                    try:
                        yield channel
                    finally:
                        with suppress(*LOST):
                            await channel.close()
            except LOST as error:
                raise Unavailable(
                    f"the broker did not show its dead letters: {words_of(error)}"
                ) from error

    async def _letters(
        self, channel: AbstractChannel, service: str
    ) -> AsyncGenerator[AbstractIncomingMessage]:
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


def _ours(incoming: AbstractIncomingMessage) -> Mapping[str, Any]:
    """As ``our_headers``, by how it came into its work queue when the broker moved it on."""
    return {} if death_of(incoming).get("exchange") else incoming.headers


def _queue_of(incoming: AbstractIncomingMessage) -> str:
    # The broker's own note first: where there is one, the header is not ours.
    return str(death_of(incoming).get("queue") or _ours(incoming).get("x-queue", ""))


def _tenant_of(incoming: AbstractIncomingMessage) -> str | None:
    death = death_of(incoming)
    keys = death.get("routing-keys")
    if death.get("exchange") and isinstance(keys, list) and keys:
        return str(keys[0]).partition(".")[0] or None
    return str(_ours(incoming).get("x-tenant", "")) or None


def _address_of(incoming: AbstractIncomingMessage) -> dict[str, Any]:
    """Of what a PBX published: the routing key it came with, and when it was taken."""
    headers, keys = _ours(incoming), death_of(incoming).get("routing-keys")
    if death_of(incoming).get("exchange") and isinstance(keys, list) and keys:
        return {"x-key": str(keys[0])}
    return {name: headers[name] for name in ("x-key", "x-received-ms") if name in headers}


def _letter(service: str, incoming: AbstractIncomingMessage) -> DeadLetter:
    headers, death = _ours(incoming), death_of(incoming)
    queue = _queue_of(incoming)
    died = moment(headers, "x-died-ms") or death.get("time")
    code, error = headers.get("x-error-code"), headers.get("x-error")
    if death:
        code, error = _EXPIRED if death.get("reason") == "expired" else CRASHED
    return dead_letter(
        queue=queue,
        service=service,
        contract=str(headers.get("x-type") or queue.partition(f".{service}.")[2] or FOREIGN),
        tenant=_tenant_of(incoming),
        message_id=incoming.message_id,
        data=incoming.body,
        error_code=str(code),
        error=str(error),
        attempts=whole(headers, "x-attempt") or 1,
        first_failed_at=moment(headers, "x-first-ms"),
        died_at=died if isinstance(died, datetime) else from_ms(0),
    )
