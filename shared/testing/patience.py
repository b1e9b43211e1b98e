"""For tests that are not about slow servers: stores and brokers are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.errors import Unavailable

T = TypeVar("T")

#: A server beside other tests, on a disk that is theirs too.
_A_WHILE = timedelta(minutes=1)


@contextmanager
def patient_with_mongodb() -> Iterator[None]:
    """
    Stores that are made meanwhile wait for a minute for each answer. Not for tests in which their
    server hangs: threads of the driver would.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.storage.mongo._WITHIN", _A_WHILE)
        patch.setattr("shared.storage.mongo._COMMAND_WITHIN", _A_WHILE - timedelta(seconds=1))
        yield


@contextmanager
def patient_with_rabbitmq() -> Iterator[None]:
    """Buses wait for a minute for each answer. Not for tests in which their broker hangs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "bus._CONFIRM_SECONDS",
            "bus.CONSUME_SECONDS",
            "session.CONNECT_SECONDS",
            "letters._GET_SECONDS",
        ):
            patch.setattr(f"shared.bus.rabbit.{name}", _A_WHILE.total_seconds())
        yield


@contextmanager
def patient_with_services() -> Iterator[None]:
    """Meshes that are made meanwhile wait for a minute, for servers and for services of theirs."""
    with patient_with_mongodb(), patient_with_rabbitmq(), pytest.MonkeyPatch.context() as patch:
        for setting in ("GATEWAY_ASK_WITHIN", "LOOKUP_SEARCH_WITHIN"):
            patch.setenv(f"CALLMESH_{setting}", f"{_A_WHILE.total_seconds():g}s")
        yield


class Patient(Glance):
    """
    However slow the machine is, the store is there; a store that is away is away at once, and one
    that is frozen for five seconds is away, too.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, within=timedelta(seconds=5))

    async def at(self, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            async with asyncio.timeout(self.within.total_seconds()):
                return await work
        except (Unavailable, TimeoutError):
            return None
