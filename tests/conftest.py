"""Servers and clocks for every lane."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from shared.clock import ManualClock
from shared.observe.logging import LogFormat, configure
from shared.testing.backends import Backends
from shared.testing.stalls import PatientLoop

# As Hypothesis itself has it in CI: how long an example takes is the machine's affair.
settings.register_profile(
    "mesh", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mesh")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], PatientLoop]]:
    """For every test: no limit of the product's passes while the machine is elsewhere."""
    return {"patient": PatientLoop}


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
