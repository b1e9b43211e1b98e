"""What waits between a socket and a reader."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from shared.clock import ManualClock
from shared.observe.metrics import Metrics
from shared.pbx.intake import Inbox, Intake
from shared.pbx.port import Phones, Sighting


class Nothing:
    """A reader that sees nothing in anything."""

    live_calls = 0

    def know(self, phones: Phones) -> None: ...

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        return []

    def tick(self, now: datetime) -> list[Sighting]:
        return []


def an_inbox(metrics: Metrics, *, most: int | None = None) -> Inbox:
    async def see(_: Sequence[Sighting]) -> None: ...

    def keep(_: bytes) -> None: ...

    intake = Intake("wazo", Nothing(), see, keep, clock=ManualClock(), metrics=metrics)
    return Inbox(intake, most=most)


def dropped(metrics: Metrics) -> float:
    return metrics.value("callmesh_pbx_events_total", "wazo", "dropped")


async def test_long_events_are_dropped_before_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.pbx.intake.MOST_CHARACTERS", 10)
    metrics = Metrics()
    inbox = an_inbox(metrics)
    for text in ("x" * 6, "y" * 6, "z" * 4):
        inbox.put(text)

    assert dropped(metrics) == 1
    assert [await inbox.next(), inbox.has_lost(), await inbox.next()] == ["x" * 6, False, "z" * 4]
    assert [inbox.has_lost(), inbox.has_lost()] == [True, False]
    inbox.put("w" * 10)
    assert await inbox.next() == "w" * 10


async def test_more_events_than_are_held_are_dropped() -> None:
    metrics = Metrics()
    inbox = an_inbox(metrics, most=2)
    for text in "abc":
        inbox.put(text)

    assert dropped(metrics) == 1
