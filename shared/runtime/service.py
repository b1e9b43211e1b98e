"""What the host needs to know of a service, and what a service gets from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.bus.port import ForeignDoor, MessageBus, Subscription
from shared.bus.publisher import ServicePublisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.envelope import Contract
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.registry import Templates
from shared.http.auth import KeyBook, KeyUses
from shared.http.deeds import DeedLog
from shared.http.routes import Operation
from shared.http.server import Mounted
from shared.http.tickets import PURPOSE as TICKETS
from shared.http.tickets import Tickets
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.recordings.links import PURPOSE, RecordingLinks
from shared.runtime.outbox import SpoolingPublisher
from shared.runtime.requests import RequestLog
from shared.runtime.settings import Settings
from shared.secrets import SecretBox
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import Stored
from shared.site.rulebook import RuleBook
from shared.site.ruleedit import RuleDesk
from shared.storage.port import DocumentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The adapters that all services of one process share."""

    bus: MessageBus
    store: DocumentStore
    clock: Clock
    metrics: Metrics
    secrets: SecretBox
    http: HttpClient
    site: SiteBook
    rules: RuleBook
    keys: KeyBook
    key_uses: KeyUses
    templates: Templates
    requests: RequestLog
    #: As others reach the gateway, without a slash at the end.
    public_url: str | None = None
    #: For files of a service's own.
    data_dir: Path = Path("callmesh-data")

    def publisher(self, service: str) -> ServicePublisher:
        return ServicePublisher(self.bus, service=service, clock=self.clock)

    def spooling_publisher(self, service: str) -> SpoolingPublisher:
        """For what must not be lost while the bus is away; its ``relay`` has to run as a task."""
        return SpoolingPublisher(
            self.publisher(service),
            self.bus,
            self.store,
            service=service,
            clock=self.clock,
            metrics=self.metrics,
        )

    def crm_connections(self, templates: Templates | None = None) -> CrmConnections:
        return CrmConnections(
            self.store,
            http=self.http,
            secrets=self.secrets,
            clock=self.clock,
            metrics=self.metrics,
            templates=templates or self.templates,
            notes=self.requests,
        )

    def pbx_adapters(self) -> Adapters:
        return Adapters(
            secrets=self.secrets,
            http=self.http,
            clock=self.clock,
            metrics=self.metrics,
            notes=self.requests,
        )

    def recording_links(self) -> RecordingLinks:
        return RecordingLinks(self.secrets.signing_keys(PURPOSE), public_url=self.public_url)

    def stream_tickets(self) -> Tickets:
        return Tickets(self.secrets.signing_keys(TICKETS), self.keys, self.clock)

    def click_links(self) -> ClickLinks:
        return ClickLinks(self.secrets, public_url=self.public_url)

    def rule_desk(self) -> RuleDesk:
        return RuleDesk(
            Stored.in_store(self.store),
            self.rules,
            secrets=self.secrets,
            clock=self.clock,
            templates=self.templates,
        )

    def finder(self, connections: CrmConnections) -> Finder:
        return Finder(connections, self.store, clock=self.clock, metrics=self.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    *tasks* run from the start to the stop; one that ends before, however, ends the process.
    *ready* is asked beside the bus's own readiness. *stop_listening* is called first of all when
    the process stops, while the bus still carries what the last guests leave behind.
    """

    name: str
    subscriptions: Sequence[Subscription] = ()
    #: Where PBXs publish by themselves.
    door: ForeignDoor | None = None
    mounted: Sequence[Mounted] = ()
    #: Where the process notes who changes what by HTTP; without one, nothing may be changed by it.
    deeds: DeedLog | None = None
    tasks: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    ready: Callable[[], Awaitable[bool]] | None = None
    stop_listening: Callable[[], Awaitable[None]] | None = None
    #: Listeners of the service's own, as bound.
    ports: Mapping[str, int] = field(default_factory=dict)


Build = Callable[[Platform], AbstractAsyncContextManager[Service]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A service as the catalogue lists it: all that can be known of it before it runs."""

    name: str
    build: Build
    router: Router[Any]
    settings: type[Settings]
    publishes: Sequence[type[Contract]]
    operations: Sequence[Operation[Any]] = ()
