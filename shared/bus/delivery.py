"""The one place where a message meets its handler and its fate is decided."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel

from shared.bus import stray
from shared.bus.port import DeadLetter, RetryPolicy, Subscription
from shared.clock import Clock
from shared.contracts.envelope import Message, decode
from shared.errors import MeshError, PermanentError, TransientError, by_code
from shared.ids import derived_id
from shared.observe import tracing
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)


#: What the letter of a message says that ended its process as often as is borne.
CRASHED = (
    "crashed",
    "every process that took it died, hung or lost its connection before it was done",
)


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


@dataclass(frozen=True, slots=True)
class Refused:
    """An error as it crosses to whoever asked: bounded, and silent about faults of ours."""

    code: str
    text: str
    retry_after: timedelta | None = None

    def error(self) -> MeshError:
        kind = by_code(self.code)
        if issubclass(kind, TransientError):
            return kind(self.text, retry_after=self.retry_after)
        return kind(self.text)


Fate = Done | Retry | Dead


def delay(policy: RetryPolicy, attempt: int) -> timedelta:
    """How long to wait after failed attempt number *attempt* (from 1)."""
    # Over 4^15 no delay is under any ceiling; the bound keeps the number small.
    return min(policy.base * (1 << 2 * min(attempt - 1, 15)), policy.ceiling)


def fate_of(
    error: Exception, *, attempt: int, failing_for: timedelta, policy: RetryPolicy
) -> Retry | Dead:
    """
    A permanent error is the end, a transient one after the policy's patience, a fault of ours
    after its attempts; until then it is tried again.
    """
    wait = delay(policy, attempt)
    if not isinstance(error, TransientError):
        last = isinstance(error, PermanentError) or attempt >= policy.attempts
        return Dead(error) if last else Retry(wait, error)
    left = policy.patience - failing_for
    if left <= timedelta(0):
        return Dead(error)
    return Retry(min(max(wait, error.retry_after or wait), left), error)


async def deliver(
    data: bytes,
    subscription: Subscription,
    *,
    attempt: int,
    failing_since: datetime | None,
    tenant: str,
    metrics: Metrics,
    clock: Clock,
) -> Fate:
    """
    Read *data*, addressed to *tenant*, and give it to the handler.

    Raises nothing that the handler raised; a cancellation of this task leaves the message undone.
    """
    ran = await _run(data, subscription, attempt=attempt, tenant=tenant, metrics=metrics)
    if ran.error is None:
        _count(subscription, "done", metrics)
        return Done(ran.answer)
    failing_for = clock.now() - failing_since if failing_since else timedelta(0)
    fate = fate_of(ran.error, attempt=attempt, failing_for=failing_for, policy=subscription.retry)
    say = _about(ran, ran.error, subscription).bind(attempt=attempt)
    if isinstance(fate, Retry):
        say.warning("message_retried", after_s=fate.after.total_seconds(), exc_info=_bug(ran.error))
        _count(subscription, "retried", metrics)
    else:
        say.error("message_dead", exc_info=_bug(ran.error))
        _count(subscription, "dead", metrics)
    return fate


async def deliver_once(
    data: bytes, subscription: Subscription, *, tenant: str, metrics: Metrics
) -> Done | Refused:
    """As ``deliver``, for questions and live copies: what fails is neither retried nor kept."""
    ran = await _run(data, subscription, attempt=1, tenant=tenant, metrics=metrics)
    if ran.error is None:
        _count(subscription, "done", metrics)
        return Done(ran.answer)
    say = _about(ran, ran.error, subscription)
    if isinstance(ran.error, MeshError):
        say.info("message_refused")
        _count(subscription, "refused", metrics)
        after = ran.error.retry_after if isinstance(ran.error, TransientError) else None
        return Refused(code_of(ran.error), text_of(ran.error), after)
    say.error("message_failed", exc_info=ran.error)
    _count(subscription, "failed", metrics)
    return Refused(code_of(ran.error), "internal error")


@dataclass(frozen=True, slots=True)
class _Ran:
    answer: BaseModel | None = None
    error: Exception | None = None
    #: None when it could not be read.
    message: Message[Any] | None = None


async def _run(
    data: bytes, subscription: Subscription, *, attempt: int, tenant: str, metrics: Metrics
) -> _Ran:
    name = subscription.contract.wire_name()
    service = subscription.service
    message: Message[Any] | None = None
    try:
        message = decode(data, subscription.contract, tenant=tenant)
        if attempt > 1:
            message = message.model_copy(update={"attempt": attempt})
        with (
            stray.as_error(RuntimeError, "what the handler waited for was cancelled"),
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
        return _Ran(error=error, message=message)
    return _Ran(answer, message=message)


def _count(subscription: Subscription, outcome: str, metrics: Metrics) -> None:
    metrics.count(
        "callmesh_deliveries_total",
        subscription.service,
        subscription.contract.wire_name(),
        outcome,
    )


def _about(ran: _Ran, error: Exception, subscription: Subscription) -> Any:
    return log.bind(
        service=subscription.service,
        message_type=subscription.contract.wire_name(),
        message_id=str(ran.message.id) if ran.message else None,
        tenant=ran.message.tenant if ran.message else None,
        error=text_of(error),
        error_code=code_of(error),
    )


def _bug(error: Exception) -> Exception | None:
    """A fault of ours comes with its traceback; an error raised on purpose says it all."""
    return None if isinstance(error, MeshError) else error


def code_of(error: BaseException) -> str:
    return error.code if isinstance(error, MeshError) else "internal"


def text_of(error: BaseException) -> str:
    """Short, with its type where it is no error of ours, and without credentials."""
    text = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
    # A lone surrogate, out of odd JSON, goes into no header and no database.
    return mask_text(text.encode(errors="replace").decode())[:500]


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
