"""
Where tests get RabbitMQ and MongoDB from, in this order: the URLs of the environment
(``CALLMESH_TEST_AMQP_URL``, ``CALLMESH_TEST_MONGO_URL``), containers where Docker answers, local
binaries. What cannot be had is an error that says what to do, never a skip.

``python -m shared.testing.backends COMMAND …`` starts both, hands their URLs to COMMAND by the
environment and ends them after it: parallel test processes then share one pair.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.testing.servers import LocalMongo, LocalRabbit, make_replica_set

AMQP = "CALLMESH_TEST_AMQP_URL"
MONGO = "CALLMESH_TEST_MONGO_URL"
_RABBIT_IMAGE = "rabbitmq:4-alpine"
_MONGO_IMAGE = "mongo:7"
_MONGO_PORT = 27017
#: How much lower the tests' priority is than that of the servers that they share: a tenth.
_POLITE = 10


class Backends:
    """*stack* ends what was started."""

    def __init__(self, environment: Mapping[str, str], stack: ExitStack) -> None:
        self._environment = environment
        self._stack = stack

    @cached_property
    def _docker(self) -> bool:
        return _docker_answers()

    def amqp_url(self) -> str:
        if url := self._environment.get(AMQP):
            return url
        if self._docker:
            return self._rabbit_container()
        return self._stack.enter_context(LocalRabbit()).url

    def mongo_url(self) -> str:
        if url := self._environment.get(MONGO):
            return url
        if self._docker:
            return self._mongo_container()
        return self._stack.enter_context(LocalMongo()).url

    def _rabbit_container(self) -> str:
        from testcontainers.community.rabbitmq import RabbitMqContainer

        container = self._stack.enter_context(RabbitMqContainer(_RABBIT_IMAGE))
        where = container.get_connection_params()
        return f"amqp://guest:guest@{where.host}:{where.port}/"

    def _mongo_container(self) -> str:
        """Not the ready-made module: that one starts a standalone, which loses writes."""
        from testcontainers.core.container import DockerContainer

        container = self._stack.enter_context(
            DockerContainer(_MONGO_IMAGE)
            .with_command("--replSet rs0 --bind_ip_all --setParameter ttlMonitorSleepSecs=1")
            .with_exposed_ports(_MONGO_PORT)
        )
        host, port = container.get_container_host_ip(), container.get_exposed_port(_MONGO_PORT)
        url = f"mongodb://{host}:{port}/?directConnection=true"
        make_replica_set(url, member=f"127.0.0.1:{_MONGO_PORT}")
        return url


def _docker_answers() -> bool:
    # Looked for first: a client that finds no socket leaves one of its own unclosed.
    told = "DOCKER_HOST" in os.environ  # noqa: TID251  Docker's own setting, not one of ours
    if not told and not Path("/var/run/docker.sock").exists():
        return False
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=2)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


def main(command: list[str]) -> int:
    # The servers are in sessions of their own, so that nobody else ends them.
    signal.signal(signal.SIGTERM, _end)
    with ExitStack() as stack:
        environment = dict(os.environ)  # noqa: TID251  handed on to the tests
        backends = Backends(environment, stack)
        environment[AMQP] = backends.amqp_url()
        environment[MONGO] = backends.mongo_url()
        # The tests use up every core, and all of them wait for these two: whoever is behind them in
        # the queue for a core would wait for seconds.
        os.nice(_POLITE)
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
