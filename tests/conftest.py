"""Servers and clocks for every lane."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shared.clock import ManualClock
from shared.observe.logging import LogFormat, configure
from shared.testing.backends import Backends


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """In the form that an operator reads; pytest shows those of a test that failed."""
    configure(form=LogFormat.CONSOLE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def backends() -> Iterator[Backends]:
    """RabbitMQ and MongoDB, started at their first use and kept for the session."""
    with ExitStack() as stack:
        yield Backends(os.environ, stack)  # noqa: TID251  tests are told by the environment


@pytest.fixture(scope="session")
def amqp_url(backends: Backends) -> str:
    return backends.amqp_url()


@pytest.fixture(scope="session")
def mongo_url(backends: Backends) -> str:
    return backends.mongo_url()
