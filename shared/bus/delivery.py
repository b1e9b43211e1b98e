"""The one place where a message meets its handler and its fate is decided."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel

from shared.bus.port import DeadLetter, RetryPolicy, Subscription
from shared.contracts.envelope import Message, decode
from shared.errors import MeshError, PermanentError, TransientError
from shared.ids import derived_id
from shared.observe import tracing
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    answer: BaseModel | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    after: timedelta
    error: Exception


@dataclass(frozen=True, slots=True)
class Dead:
    error: Exception


Fate = Done | Retry | Dead


def delay(policy: RetryPolicy, attempt: int) -> timedelta:
    """How long to wait after failed attempt number *attempt* (from 1)."""
    # Over 4^15 no delay is under any ceiling; the bound keeps the number small.
    return min(policy.base * (1 << 2 * min(attempt - 1, 15)), policy.ceiling)


def fate_of(error: Exception, *, attempt: int, policy: RetryPolicy) -> Retry | Dead:
    """A permanent error, or the last attempt, is the end; anything else is tried again."""
    if isinstance(error, PermanentError) or attempt >= policy.attempts:
        return Dead(error)
    wait = delay(policy, attempt)
    if isinstance(error, TransientError) and error.retry_after is not None:
        wait = max(wait, error.retry_after)
    return Retry(wait, error)


async def deliver(
    data: bytes, subscription: Subscription, *, attempt: int, tenant: str, metrics: Metrics
) -> Fate:
    """
    Read *data*, addressed to *tenant*, and give it to the handler.

    Never raises but for cancellation, which leaves the message undone.
    """
    name = subscription.contract.wire_name()
    service = subscription.service
    message: Message[Any] | None = None
    try:
        message = decode(data, subscription.contract, tenant=tenant)
        if attempt > 1:
            message = message.model_copy(update={"attempt": attempt})
        with (
            structlog.contextvars.bound_contextvars(
                service=service,
                tenant=message.tenant,
                message_type=name,
                message_id=str(message.id),
                correlation=str(message.correlation),
                attempt=attempt,
            ),
            tracing.span(f"handle {name}", parent=message.traceparent, service=service),
            metrics.timed("callmesh_handling_seconds", service, name),
        ):
            answer = await subscription.handler(message)
    except Exception as error:  # noqa: BLE001  whatever a handler raises decides only its message
        fate = fate_of(error, attempt=attempt, policy=subscription.retry)
        _report(fate, error, message, subscription, attempt)
        outcome = "retried" if isinstance(fate, Retry) else "dead"
        metrics.count("callmesh_deliveries_total", service, name, outcome)
        return fate
    metrics.count("callmesh_deliveries_total", service, name, "done")
    return Done(answer)


def _report(
    fate: Retry | Dead,
    error: Exception,
    message: Message[Any] | None,
    subscription: Subscription,
    attempt: int,
) -> None:
    # A fault of ours comes with its traceback; an error raised on purpose says it all.
    bug = None if isinstance(error, MeshError) else error
    say = log.bind(
        service=subscription.service,
        message_type=subscription.contract.wire_name(),
        message_id=str(message.id) if message else None,
        tenant=message.tenant if message else None,
        error=text_of(error),
        error_code=code_of(error),
        attempt=attempt,
    )
    if isinstance(fate, Retry):
        say.warning("message_retried", after_s=fate.after.total_seconds(), exc_info=bug)
    else:
        say.error("message_dead", exc_info=bug)


def code_of(error: BaseException) -> str:
    return error.code if isinstance(error, MeshError) else "internal"


def text_of(error: BaseException) -> str:
    """Short, with its type where it is no error of ours, and without credentials."""
    text = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
    return mask_text(text)[:500]


def letter_id(queue: str, data: bytes) -> str:
    """The same message in the same queue has the same letter."""
    return str(derived_id("letter", queue, hashlib.sha256(data).hexdigest()))[:13]


def dead_letter(
    *,
    queue: str,
    service: str,
    contract: str,
    tenant: str | None,
    data: bytes,
    error_code: str,
    error: str,
    attempts: int,
    first_failed_at: datetime | None,
    died_at: datetime,
    message_id: str | None,
) -> DeadLetter:
    return DeadLetter(
        letter_id=letter_id(queue, data),
        service=service,
        type=contract,
        tenant=tenant,
        message_id=message_id,
        error_code=error_code,
        error=error,
        attempts=attempts,
        first_failed_at=first_failed_at,
        died_at=died_at,
        message=data.decode(errors="replace"),
    )
