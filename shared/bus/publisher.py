"""The two ends of the bus that a service holds, in its own name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.bus.port import MessageBus
from shared.clock import Clock
from shared.contracts.envelope import Command, Event, Message, Query, wrap
from shared.errors import ContractError
from shared.faults import faults_in
from shared.observe import tracing

A = TypeVar("A", bound=BaseModel)


class ServicePublisher:
    """Publisher and Requester over a bus."""

    def __init__(self, bus: MessageBus, *, service: str, clock: Clock) -> None:
        self._bus = bus
        self._service = service
        self._clock = clock

    def envelop(
        self,
        body: Event | Command,
        *,
        tenant: str | None = None,
        cause: Message[Any] | None = None,
        key: str | None = None,
        at: datetime | None = None,
    ) -> Message[Any]:
        return wrap(
            body,
            source=self._service,
            occurred_at=at or self._clock.now(),
            tenant=tenant,
            cause=cause,
            key=key,
            traceparent=tracing.traceparent(),
        )

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
        await self._bus.send(message)
        return message

    async def request(self, query: Query[A], *, within: timedelta, tenant: str | None = None) -> A:
        message = wrap(
            query,
            source=self._service,
            occurred_at=self._clock.now(),
            tenant=tenant,
            traceparent=tracing.traceparent(),
        )
        raw = await self._bus.ask(message, within=within)
        try:
            answer = query.answer_model.model_validate_json(raw)
        except ValidationError as error:
            raise ContractError(faults_in(error), query=query.wire_name()) from None
        return answer  # type: ignore[return-value]  # answer_model is A's class by registration
