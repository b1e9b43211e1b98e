"""The six services as six processes over RabbitMQ and MongoDB, without containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pymongo
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from shared.bus.topology import Topology
from shared.ids import new_id
from shared.runtime.platform import Choice
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    MeshSettings,
    MongoSettings,
    NetSettings,
    StoreKind,
)
from shared.secrets import new_key
from shared.testing.servers import free_port
from shared.testing.sweeping import sweep

_READY_WITHIN = 180.0


@dataclass
class Mesh:
    """
    Use as a context manager. Every mesh has a database and a prefix of its own, so several can
    share one pair of servers.
    """

    amqp_url: str
    mongo_url: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"mesh-{new_id().hex[:8]}")
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ops_ports = {name: free_port() for name in CATALOG}
        self.http_ports = {name: free_port() for name in CATALOG}
        self.agi_port = free_port()
        self._key = new_key()

    @property
    def url(self) -> str:
        """The gateway's."""
        return f"http://127.0.0.1:{self.http_ports['gateway']}"

    @property
    def choice(self) -> Choice:
        """For commands against this mesh, from this process."""
        return Choice(
            MeshSettings(bus=BusKind.RABBIT, store=StoreKind.MONGO, secret_keys=self._key),
            AmqpSettings(url=SecretStr(self.amqp_url), prefix=self.name),
            MongoSettings(url=SecretStr(self.mongo_url), database=self.name),
            NetSettings(allow="127.0.0.0/8"),
        )

    def environment(self, service: str) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("CALLMESH_")},  # noqa: TID251  a child's
            **self.backends(),
            "CALLMESH_NET_ALLOW": "127.0.0.0/8",
            "CALLMESH_HTTP_PORT": str(self.http_ports[service]),
            "CALLMESH_OPS_PORT": str(self.ops_ports[service]),
            "CALLMESH_ROUTING_AGI_PORT": str(self.agi_port),
            **self.settings,
        }

    def backends(self) -> dict[str, str]:
        """What names them to a service."""
        return {
            "CALLMESH_BUS": "rabbit",
            "CALLMESH_STORE": "mongo",
            "CALLMESH_AMQP_URL": self.amqp_url,
            "CALLMESH_AMQP_PREFIX": self.name,
            "CALLMESH_MONGO_URL": self.mongo_url,
            "CALLMESH_MONGO_DATABASE": self.name,
            "CALLMESH_SECRET_KEYS": self._key.get_secret_value(),
        }

    def start(self, *names: str) -> None:
        """All services, or those named; returns when they are ready."""
        for name in names or tuple(CATALOG):
            log = (self.folder / f"{name}.log").open("ab")
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "services", "run", name],
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            log.close()
        self.wait_ready(*names)

    def wait_ready(self, *names: str) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        for name in names or tuple(self.processes):
            while not self.ready(name):
                if self.processes[name].poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} is not ready: {self.log(name)[-2000:]}")
                time.sleep(0.05)

    def ready(self, name: str) -> bool:
        try:
            url = f"http://127.0.0.1:{self.ops_ports[name]}/ready"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self, name: str) -> None:
        """As a crash: no drain."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, *names: str) -> dict[str, int]:
        """By SIGTERM; the exit codes."""
        wanted = names or tuple(self.processes)
        for name in wanted:
            if self.processes[name].poll() is None:
                self.processes[name].send_signal(signal.SIGTERM)
        return {name: self.processes[name].wait(120) for name in wanted}

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        sweep(self.amqp_url, Topology(self.name), consumers())
        with pymongo.MongoClient[dict[str, object]](self.mongo_url) as client:
            client.drop_database(self.name)


class EmbeddedMesh(Mesh):
    """Services on the embedded backends in a folder; one process of them at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__("", "", folder)

    @property
    def choice(self) -> Choice:
        return Choice(
            MeshSettings(data_dir=self.folder),
            AmqpSettings(),
            MongoSettings(),
            NetSettings(allow="127.0.0.0/8"),
        )

    def backends(self) -> dict[str, str]:
        return {"CALLMESH_DATA_DIR": str(self.folder)}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
