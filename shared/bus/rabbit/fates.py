"""What becomes of a message after its handler: it is done, comes again, or is a dead letter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import PublishError

from shared.bus.delivery import Done, Fate, Retry, code_of, text_of
from shared.bus.rabbit.forms import kept
from shared.bus.rabbit.headers import moment, our_headers, whole
from shared.bus.rabbit.session import LOST, Session, words_of
from shared.bus.topology import RETRY_STEPS, Topology, retry_step
from shared.clock import Clock
from shared.moments import to_ms

log = structlog.get_logger(__name__)

#: The number of the attempt, and since when the ones before it failed.
Try = Callable[[int, datetime | None], Awaitable[Fate]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is taken from, and the headers that say whose it is when it comes again."""

    queue: str
    service: str
    type: str
    address: dict[str, Any]
    content_type: str | None = "application/json"


class Fates:
    def __init__(self, topology: Topology, clock: Clock) -> None:
        self._topology = topology
        self._clock = clock

    async def decide(
        self, session: Session, incoming: AbstractIncomingMessage, place: Place, attempt_it: Try
    ) -> None:
        """Done, or confirmed in the queue of its retry or of the dead letters."""
        found = our_headers(incoming)
        now = to_ms(self._clock.now())
        attempt = max(whole(found, "x-attempt") or 1, 1)
        first = whole(found, "x-first-ms")
        headers: dict[str, Any] = {**place.address, "x-attempt": attempt}
        not_before = whole(found, "x-not-before-ms") or now
        early = timedelta(milliseconds=not_before - now)
        if early >= RETRY_STEPS[0]:
            # A wait that no step is long enough for takes several, and none counts as an attempt.
            headers |= {"x-first-ms": first, "x-not-before-ms": not_before}
            await self._wait(session, place, incoming, headers, early)
            return
        fate = await attempt_it(attempt, moment(found, "x-first-ms"))
        if isinstance(fate, Done):
            return
        now = to_ms(self._clock.now())
        headers["x-first-ms"] = first or now
        if isinstance(fate, Retry):
            headers["x-attempt"] = attempt + 1
            if fate.after > RETRY_STEPS[-1]:
                headers["x-not-before-ms"] = now + round(fate.after / timedelta(milliseconds=1))
            await self._wait(session, place, incoming, headers, fate.after)
            return
        headers |= {
            "x-queue": place.queue,
            "x-type": place.type,
            "x-died-ms": now,
            "x-error-code": code_of(fate.error),
            "x-error": text_of(fate.error),
        }
        await self._pass_on(
            session,
            kept(incoming.body, headers, incoming.message_id, place.content_type),
            exchange="",
            routing_key=self._topology.dead(place.service),
        )

    async def _wait(
        self,
        session: Session,
        place: Place,
        incoming: AbstractIncomingMessage,
        headers: dict[str, Any],
        wait: timedelta,
    ) -> None:
        await self._pass_on(
            session,
            kept(incoming.body, headers, incoming.message_id, place.content_type),
            exchange=self._topology.retry(retry_step(wait)),
            routing_key=place.queue,
        )

    async def _pass_on(
        self, session: Session, copy: AmqpMessage, *, exchange: str, routing_key: str
    ) -> None:
        """
        Confirmed in its next queue before the original is acknowledged.

        Nobody waits for it, so it is published once and waits for its confirm as long as the
        session lasts: each repeat in a memory alarm would be one more copy.
        """
        while not session.lost.is_set():
            try:
                await session.while_it_lasts(
                    session.confirm(copy, exchange=exchange, routing_key=routing_key)
                )
            except PublishError as error:
                session.lose(f"a queue of ours is gone: {error}")
            except LOST as error:
                log.warning("fate_not_stored", queue=routing_key, error=words_of(error))
                await self._clock.sleep(timedelta(seconds=1))
            else:
                return
