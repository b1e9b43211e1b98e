"""Settings → adapters: the only place that decides which bus and which store it is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import SecretStr

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, MessageBus
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import Topology
from shared.clock import Clock, SystemClock
from shared.crm.registry import Templates
from shared.errors import BadSetting
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, KeyBook, KeyUses
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, hosts, networks
from shared.net.trust import trusting
from shared.observe.metrics import Metrics
from shared.runtime.requests import RequestLog
from shared.runtime.service import Platform
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    MeshSettings,
    MongoSettings,
    NetSettings,
    StoreKind,
)
from shared.secrets import SecretBox, key_kept_in
from shared.site.book import SiteBook
from shared.site.documents import RULES, SITES
from shared.site.rulebook import RuleBook
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Choice:
    """Everything that selects and configures adapters."""

    mesh: MeshSettings
    amqp: AmqpSettings
    mongo: MongoSettings
    net: NetSettings

    @classmethod
    def read(cls) -> Choice:
        """From the environment. Raises: BadSetting."""
        return cls(
            MeshSettings.read(), AmqpSettings.read(), MongoSettings.read(), NetSettings.read()
        )

    @property
    def uses_file(self) -> bool:
        return self.mesh.bus is BusKind.EMBEDDED or self.mesh.store is StoreKind.SQLITE

    @property
    def file(self) -> Path:
        return self.mesh.data_dir / "mesh.db"


@asynccontextmanager
async def open_platform(
    choice: Choice,
    *,
    consumers: Sequence[Consumer],
    clock: Clock | None = None,
    serving: bool = True,
) -> AsyncIterator[Platform]:
    """
    The adapters of *choice*, the bus not yet started.

    *serving* is for a process that runs services: of the embedded files there may be one.
    Commands that only look or write configuration pass False.

    Raises: BadSetting.
    """
    clock = clock or SystemClock()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        db = await _open_file(choice, stack, serving=serving) if choice.uses_file else None
        secrets = SecretBox(_keys(choice))
        store = _store(choice, db, clock)
        stack.push_async_callback(store.close)
        bus = _bus(choice, db, clock, metrics, consumers)
        guard = AddressGuard(
            networks(choice.net.allow, setting="CALLMESH_NET_ALLOW"),
            plain=hosts(choice.net.plain, setting="CALLMESH_NET_PLAIN"),
        )
        requests = await stack.enter_async_context(
            RequestLog.in_store(
                store,
                clock=clock,
                metrics=metrics,
                detail=choice.mesh.request_log,
                keep=choice.mesh.request_log_keep,
            ).writing()
        )
        yield Platform(
            bus=bus,
            store=store,
            clock=clock,
            metrics=metrics,
            secrets=secrets,
            http=await stack.enter_async_context(
                HttpClient(guard, trust=trusting(choice.net.ca_file))
            ),
            site=SiteBook(store.collection(SITES), clock, poll=choice.mesh.settings_poll),
            rules=RuleBook(store.collection(RULES), clock, poll=choice.mesh.settings_poll),
            keys=KeyBook(store.collection(API_KEYS), clock, users=store.collection(API_USERS)),
            key_uses=KeyUses(store.collection(KEY_USES), clock),
            templates=Templates(choice.mesh.templates_dir),
            public_url=choice.mesh.public_url,
            data_dir=choice.mesh.data_dir,
            requests=requests,
        )


async def _open_file(choice: Choice, stack: AsyncExitStack, *, serving: bool) -> SqliteFile:
    folder = choice.mesh.data_dir
    try:
        # Calls, numbers and the key are inside. One that is there keeps the mode it was given.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"CALLMESH_DATA_DIR: cannot use {folder}: {error.strerror}") from None
    if serving:
        stack.enter_context(_sole_owner(folder))
    db = SqliteFile(choice.file)
    await db.open()
    stack.push_async_callback(db.close)
    return db


@contextmanager
def _sole_owner(folder: Path) -> Any:
    """A lock that the system lets go with the process, however that ends."""
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BadSetting(
                f"CALLMESH_DATA_DIR: {folder} is in use by process {file.read().strip()}; "
                "stop it, or give this one another folder"
            ) from None
        _write_pid(file)
        yield


def _write_pid(file: IO[str]) -> None:
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _keys(choice: Choice) -> list[SecretStr]:
    given = choice.mesh.secret_keys
    if given is not None:
        return [SecretStr(key.strip()) for key in given.get_secret_value().split(",")]
    if choice.mesh.store is StoreKind.MONGO:
        raise BadSetting(
            "CALLMESH_SECRET_KEYS: needed with CALLMESH_STORE=mongo, the same for every service; "
            "`callmesh new-key` prints one"
        )
    return [key_kept_in(choice.mesh.data_dir / "secret.key")]


def _store(choice: Choice, db: SqliteFile | None, clock: Clock) -> DocumentStore:
    if choice.mesh.store is StoreKind.MONGO:
        return MongoStore(choice.mongo.url, database=choice.mongo.database, clock=clock)
    assert db is not None  # noqa: S101  uses_file
    return SqliteStore(db, clock)


def _bus(
    choice: Choice,
    db: SqliteFile | None,
    clock: Clock,
    metrics: Metrics,
    consumers: Sequence[Consumer],
) -> MessageBus:
    topology = Topology(choice.amqp.prefix)
    if choice.mesh.bus is BusKind.RABBIT:
        return RabbitBus(
            choice.amqp.url, clock=clock, metrics=metrics, consumers=consumers, topology=topology
        )
    assert db is not None  # noqa: S101  uses_file
    return EmbeddedBus(db, clock=clock, metrics=metrics, consumers=consumers, topology=topology)
