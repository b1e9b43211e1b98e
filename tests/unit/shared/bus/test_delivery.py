from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from shared.bus.delivery import (
    Dead,
    Done,
    Fate,
    Refused,
    Retry,
    delay,
    deliver,
    deliver_once,
    fate_of,
    text_of,
)
from shared.bus.port import RetryPolicy
from shared.bus.topology import RETRY_STEPS
from shared.clock import ManualClock
from shared.contracts.contacts import ContactAnswer, FindContact
from shared.contracts.envelope import Message, wrap
from shared.errors import NotFound, Rejected, Throttled, Unavailable
from shared.moments import from_ms, to_ms
from shared.observe.metrics import Metrics
from shared.testing.builders import NOON, a_call
from shared.testing.bus_contract import Seen, listening

NO_TIME = timedelta(0)
DAY = timedelta(days=1)


def seconds(fate: Retry | Dead) -> float | None:
    return fate.after.total_seconds() if isinstance(fate, Retry) else None


def test_the_waits_of_a_policy_are_the_steps_that_rabbitmq_has() -> None:
    waits = [delay(RetryPolicy(), attempt) for attempt in range(1, 9)]

    assert waits == [*RETRY_STEPS, RETRY_STEPS[-1], RETRY_STEPS[-1]]


@pytest.mark.parametrize(
    ("error", "attempt", "failing_for", "wait"),
    [
        (Rejected("no"), 1, NO_TIME, None),
        (ZeroDivisionError(), 6, DAY * 2, 256),
        (ZeroDivisionError(), 7, NO_TIME, None),
        (Unavailable("away"), 1, NO_TIME, 0.25),
        (Unavailable("away"), 300, DAY / 2, 256),
        (Unavailable("away"), 300, DAY - timedelta(seconds=9), 9),
        (Unavailable("away"), 2, DAY, None),
        (Throttled("slow", retry_after=timedelta(hours=1)), 1, NO_TIME, 3600),
        (Throttled("slow", retry_after=timedelta(days=400)), 1, NO_TIME, 86400),
    ],
)
def test_what_is_away_is_waited_for_a_day_and_a_fault_of_ours_seven_attempts(
    error: Exception, attempt: int, failing_for: timedelta, wait: float | None
) -> None:
    fate = fate_of(error, attempt=attempt, failing_for=failing_for, policy=RetryPolicy())

    assert seconds(fate) == wait


@pytest.mark.parametrize(
    ("error", "outcome", "refused"),
    [
        (NotFound("no call c1"), "refused", Refused("not_found", "no call c1")),
        (ZeroDivisionError("secret"), "failed", Refused("internal", "internal error")),
    ],
)
async def test_a_question_that_is_refused_is_no_dead_letter(
    error: Exception, outcome: str, refused: Refused
) -> None:
    metrics = Metrics()
    asked = wrap(FindContact(number="1"), source="test", occurred_at=NOON, tenant="acme")
    answering = listening(Seen(error), service="lookup", contract=FindContact)

    fate = await deliver_once(asked.encode(), answering, tenant="acme", metrics=metrics)

    assert fate == refused
    counted = {
        kind: metrics.value("callmesh_deliveries_total", "lookup", "contacts.find.v1", kind)
        for kind in ("done", "retried", "dead", "refused", "failed")
    }
    assert {kind for kind, count in counted.items() if count} == {outcome}


async def test_a_question_that_is_answered_is_done() -> None:
    async def answer(_: Message[FindContact]) -> BaseModel:
        return ContactAnswer()

    asked = wrap(FindContact(number="1"), source="test", occurred_at=NOON, tenant="acme")
    answering = listening(answer, service="lookup", contract=FindContact)

    fate = await deliver_once(asked.encode(), answering, tenant="acme", metrics=Metrics())

    assert fate == Done(ContactAnswer())


async def test_patience_is_counted_from_the_first_failure() -> None:
    clock = ManualClock()
    data = wrap(a_call(), source="test", occurred_at=NOON, tenant="acme").encode()

    async def fate(failing_since: datetime | None) -> Fate:
        return await deliver(
            data,
            listening(Seen(Unavailable("away")), retry=RetryPolicy()),
            attempt=20,
            failing_since=failing_since,
            tenant="acme",
            metrics=Metrics(),
            clock=clock,
        )

    assert isinstance(await fate(None), Retry)
    assert isinstance(await fate(clock.now() - DAY / 2), Retry)
    assert isinstance(await fate(clock.now() - DAY), Dead)


def test_the_text_of_an_error_is_short_and_has_utf8() -> None:
    assert text_of(Rejected("name \ud83d")) == "name ?"
    assert len(text_of(Rejected("x" * 200_000))) == 500


def test_milliseconds_there_and_back() -> None:
    moment = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)

    assert from_ms(to_ms(moment)) == moment
