"""A gateway, a lookup and a journal in one process, over a CRM that its test writes as a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr
from yarl import URL

from services.gateway import handlers as gateway
from services.gateway.http import HttpDeps, routes
from services.gateway.recordings.accesses import ACCESSES, AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.streams import Screens
from services.gateway.store import AUDIT, AuditLog
from services.journal import handlers as journal
from services.journal.store import CALLS, CallLog
from services.lookup import handlers as lookup
from services.lookup.making import ContactMaker
from services.lookup.store import CALLERS, MAKINGS, CallerBook, MakingBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import Clock, SystemClock
from shared.contracts.envelope import Message
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.registry import Templates
from shared.crm.users import USERS, UserBook
from shared.errors import Unavailable
from shared.http.auth import API_KEYS, KeyBook, Scope
from shared.http.server import HttpServer, Mounted
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.recordings.links import PURPOSE, RecordingLinks
from shared.recordings.shelf import Bounds, Shelf
from shared.runtime.outbox import SpoolingPublisher
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.site.ruleedit import RuleDesk
from shared.sqlite import SqliteFile
from shared.storage.port import Find
from shared.storage.sqlite import SqliteStore

SECOND = timedelta(seconds=1)
SECRET = "a secret of both sides"
#: As the template of the tutorial, by number alone.
SHOP: dict[str, Any] = {
    "schema": 2,
    "title": "Corner Shop",
    "quality": "declared",
    "sources": ["this file"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url"}],
    "credentials": [{"name": "hook_secret", "title": "Secret", "required": False}],
    "phone_formats": ["e164"],
    "search": [
        {
            "request": {"url": "{{.url}}/people", "query": {"phone": "{{.Phone}}"}},
            "records": "people",
        }
    ],
    "contacts": {
        "People": {
            "phone_fields": ["phone"],
            "map": {"id": "id", "display_name": "name", "phones": ["phone"]},
        }
    },
    "check": {"url": "{{.url}}/me"},
}


class Broker(EmbeddedBus):
    """Goes away and comes back as its test says."""

    is_away = False

    async def send(self, message: Message[Any]) -> None:
        if self.is_away:
            raise Unavailable("the broker is away")
        await super().send(message)


class CrmApi:
    """Made by :func:`opened`; ``session`` has a key with every scope."""

    public_url: str | None = None

    def __init__(self, db: SqliteFile, templates: Path, clock: Clock) -> None:
        self.clock = clock
        self.templates = templates
        self.store = SqliteStore(db, self.clock)
        self.box = SecretBox([new_key()])
        self.site = SiteBook(self.store.collection(SITES), self.clock, poll=SECOND)
        self.rules = RuleDesk.at(self.store, secrets=self.box, clock=self.clock)
        self.bus = Broker(db, clock=SystemClock(), metrics=Metrics())
        self.http = HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
        self.keys = KeyBook(self.store.collection(API_KEYS), self.clock)
        self.audit = self.store.collection(AUDIT)
        self.metrics = Metrics()
        self.screens = Screens(Metrics())
        self.session: aiohttp.ClientSession
        self.access_log: AccessLog
        self.key = ""
        self.origin = ""

    def template(self, name: str, **parts: Any) -> None:
        """SHOP with *parts* under this name. JSON is YAML."""
        text = json.dumps({**SHOP, "name": name, **parts})
        (self.templates / f"{name}.yaml").write_text(text)

    async def apply(self, *crm: Mapping[str, Any], **parts: Any) -> None:
        """The site of ``acme``, in Britain; credentials of *crm* are plain here."""
        sealed = [
            {
                **one,
                "credentials": {
                    name: self.box.seal(SecretStr(text))
                    for name, text in one.get("credentials", {}).items()
                },
            }
            for one in crm
        ]
        site = Site.model_validate({"tenant": "acme", "region": "GB", "crm": sealed, **parts})
        await self.store.collection(SITES).put(
            SiteDocument(
                key="acme",
                tenant="acme",
                site=site,
                changed_at=self.clock.now(),
                changed_by="test",
            )
        )
        self.site.loaded = False
        await self.site.refresh()
        await self.rules.book.refresh()

    def connections(self) -> CrmConnections:
        return CrmConnections(
            self.store,
            http=self.http,
            secrets=self.box,
            clock=self.clock,
            metrics=Metrics(),
            templates=Templates(self.templates),
        )

    def adapters(self) -> Adapters:
        return Adapters(secrets=self.box, http=self.http, clock=self.clock, metrics=self.metrics)

    def publisher(self, service: str) -> ServicePublisher:
        return ServicePublisher(self.bus, service=service, clock=self.clock)

    async def send(
        self, method: str, path: str | URL, *, key: str | None = None, **more: Any
    ) -> tuple[int, Any]:
        """Status, and the answer as JSON or text."""
        headers = {"X-Api-Key": key or self.key, **more.pop("headers", {})}
        async with self.session.request(method, path, headers=headers, **more) as answer:
            is_json = answer.content_type.endswith("json")
            return answer.status, await (answer.json() if is_json else answer.text())

    async def a_key(self, *scopes: Scope, extension: str | None = None) -> str:
        name = f"k{len(await self.keys.list('acme'))}"
        token = await self.keys.issue(tenant="acme", name=name, scopes=scopes, extension=extension)
        return token.get_secret_value()

    async def audited(self) -> list[tuple[str, str, str]]:
        page = await self.audit.page(Find(order_by="at"))
        return [(entry.key_name, entry.action, entry.subject) for entry in page.documents]

    def shelf(self) -> Shelf:
        bounds = Bounds(most_bytes=4_000_000, largest=2_000_000, keep=timedelta(days=7))
        return Shelf(self.templates / "recordings", self.clock, bounds)

    def links(self) -> RecordingLinks:
        return RecordingLinks(self.box.signing_keys(PURPOSE), public_url=self.public_url)

    def gateway_deps(self) -> HttpDeps:
        publisher = self.publisher("gateway")
        adapters = self.adapters()
        self.access_log = AccessLog(
            self.store.collection(ACCESSES), self.clock, keep=timedelta(days=1)
        )
        return HttpDeps(
            spool=SpoolingPublisher(
                publisher,
                self.bus,
                self.store,
                service="gateway",
                clock=self.clock,
                metrics=self.metrics,
            ),
            publisher=publisher,
            requester=publisher,
            screens=self.screens,
            audit=AuditLog(self.audit, self.clock, keep=timedelta(days=1)),
            site=self.site,
            rules=self.rules,
            secrets=self.box,
            connections=self.connections(),
            adapters=adapters,
            links=self.links(),
            player=Player(
                adapters=adapters,
                shelf=self.shelf(),
                accesses=self.access_log,
                clock=self.clock,
                metrics=self.metrics,
                within=5 * SECOND,
            ),
            accesses=self.access_log,
            clock=self.clock,
            metrics=self.metrics,
            ask_within=5 * SECOND,
            dial_within=5 * SECOND,
            public_url=self.public_url,
        )

    def lookup_deps(self, connections: CrmConnections, finder: Finder) -> lookup.Deps:
        users = UserBook(self.store.collection(USERS), self.clock)
        return lookup.Deps(
            finder=finder,
            connections=connections,
            users=users,
            callers=CallerBook(self.store.collection(CALLERS), self.clock),
            maker=ContactMaker(
                finder=finder,
                connections=connections,
                users=users,
                makings=MakingBook(self.store.collection(MAKINGS), self.clock),
                clock=self.clock,
            ),
            site=self.site,
            rules=self.rules.book,
            publisher=self.publisher("lookup"),
            clock=self.clock,
            search_within=5 * SECOND,
        )


@asynccontextmanager
async def opened(
    templates: Path,
    *,
    public_url: str | None = None,
    also: Sequence[Subscription] = (),
    clock: Clock | None = None,
) -> AsyncIterator[CrmApi]:
    """*also* hear what goes over the bus, which has the system's clock always."""
    async with AsyncExitStack() as stack:
        db = SqliteFile(None)
        await db.open()
        stack.push_async_callback(db.close)
        api = CrmApi(db, templates, clock or SystemClock())
        api.public_url = public_url
        await stack.enter_async_context(api.http)
        connections = api.connections()
        stack.push_async_callback(connections.close)
        finder = Finder(connections, api.store, clock=api.clock, metrics=Metrics())
        stack.push_async_callback(finder.close)
        calls = CallLog(api.store.collection(CALLS), api.clock, silent_after=SECOND)
        for subscription in (
            *lookup.router.bind(api.lookup_deps(connections, finder)),
            *journal.router.bind(
                journal.Deps.over(
                    api.store,
                    calls=calls,
                    site=api.site,
                    connections=connections,
                    finder=finder,
                    publisher=api.publisher("journal"),
                    clock=api.clock,
                )
            ),
            *gateway.router.bind(gateway.Deps(api.screens, api.site, api.clock)),
            *also,
        ):
            api.bus.subscribe(subscription)
        await api.bus.start()
        stack.push_async_callback(api.bus.stop, drain=SECOND)
        deps = api.gateway_deps()
        stack.push_async_callback(deps.connections.close)
        relaying = asyncio.create_task(deps.spool.relay())
        stack.callback(relaying.cancel)
        server = HttpServer(
            [Mounted(routes.operations, deps)],
            keys=api.keys,
            clock=api.clock,
            metrics=Metrics(),
            drain=SECOND,
        )
        api.origin = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
        stack.push_async_callback(server.stop)
        api.session = await stack.enter_async_context(aiohttp.ClientSession(api.origin))
        api.key = await api.a_key(*Scope)
        yield api
