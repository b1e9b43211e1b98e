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
from services.gateway.access.desk import AccessDesk
from services.gateway.hooks.marks import CLICKS, MARKS, ClickBook, HookMarks
from services.gateway.http import HttpDeps, routes
from services.gateway.recordings.accesses import ACCESSES, AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.desk import ScreenDesk
from services.gateway.store import AUDIT, AuditEntry, AuditLog, Outcome
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DELIVERIES, DeliveryBook
from services.gateway.subscribers.noting import Noting
from services.gateway.subscribers.sending import Sender
from services.gateway.subscribers.subscriber import SUBSCRIBERS
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
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, KeyBook, KeyUses, Scope
from shared.http.origins import Origins
from shared.http.server import HttpServer, Mounted
from shared.http.tickets import PURPOSE as TICKETS
from shared.http.tickets import Tickets
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.recordings.links import PURPOSE, RecordingLinks
from shared.recordings.shelf import Bounds, Shelf
from shared.runtime.outbox import SpoolingPublisher
from shared.runtime.requests import RequestLog
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.site.ruleedit import RuleDesk
from shared.sqlite import SqliteFile
from shared.storage.port import Find, every
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from tests.contract.cards_kit import card_teller, module_keeper

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
        users = self.store.collection(API_USERS)
        self.keys = KeyBook(self.store.collection(API_KEYS), self.clock, users=users)
        self.uses = KeyUses(self.store.collection(KEY_USES), self.clock)
        self.access = AccessDesk(users, self.keys, self.uses, self.clock)
        self.audit = self.store.collection(AUDIT)
        self.requests = RequestLog.in_store(self.store, clock=self.clock, metrics=Metrics())
        self.audit_log = AuditLog(self.audit, self.clock, keep=timedelta(days=1))
        self.metrics = Metrics()
        self.tickets = Tickets(self.box.signing_keys(TICKETS), self.keys, self.clock)
        self.screens = ScreenDesk.over(
            self.store,
            site=self.site,
            connections=self.connections(),
            publisher=self.publisher("gateway"),
            tickets=self.tickets,
            clock=self.clock,
            metrics=self.metrics,
            bus_ready=self.bus.ready,
            ask_within=5 * SECOND,
        )
        self.subscribers = SubscriberBook(self.store.collection(SUBSCRIBERS), self.clock)
        self.deliveries = DeliveryBook(
            self.store.collection(DELIVERIES), self.clock, keep=timedelta(days=30)
        )
        self.sender = Sender(
            self.subscribers,
            self.deliveries,
            http=self.http,
            secrets=self.box,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.session: aiohttp.ClientSession
        self.server: HttpServer
        self.deps: HttpDeps
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
        """What was done; what was refused is in the log too, and not here."""
        return [
            (entry.key_name, entry.action, entry.subject)
            for entry in await self.audit_entries()
            if entry.outcome is Outcome.DONE
        ]

    async def audit_entries(self) -> list[AuditEntry]:
        await self.audit_log.settle()
        return [entry async for entry in every(self.audit, Find(order_by="at", limit=500))]

    def shelf(self) -> Shelf:
        bounds = Bounds(most_bytes=4_000_000, largest=2_000_000, keep=timedelta(days=7))
        return Shelf(self.templates / "recordings", self.clock, bounds)

    def links(self) -> RecordingLinks:
        return RecordingLinks(self.box.signing_keys(PURPOSE), public_url=self.public_url)

    def click_links(self) -> ClickLinks:
        return ClickLinks(self.box, public_url=self.public_url)

    def gateway_deps(self) -> HttpDeps:
        publisher = self.publisher("gateway")
        adapters = self.adapters()
        self.access_log = AccessLog(
            self.store.collection(ACCESSES), self.clock, keep=timedelta(days=1)
        )
        connections = self.connections()
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
            letters=self.bus.dead_letters,
            screens=self.screens,
            audit=self.audit_log,
            access=self.access,
            requests=self.requests,
            site=self.site,
            rules=self.rules,
            secrets=self.box,
            connections=connections,
            adapters=adapters,
            links=self.links(),
            click_links=self.click_links(),
            click_book=ClickBook(self.store.collection(CLICKS), self.clock),
            marks=HookMarks(self.store.collection(MARKS), self.clock, Patient(self.clock)),
            player=Player(
                adapters=adapters,
                shelf=self.shelf(),
                accesses=self.access_log,
                clock=self.clock,
                metrics=self.metrics,
                within=5 * SECOND,
            ),
            accesses=self.access_log,
            subscribers=self.subscribers,
            deliveries=self.deliveries,
            sender=self.sender,
            http=self.http,
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
            cards=card_teller(
                self.store,
                connections=connections,
                finder=finder,
                publisher=self.publisher("lookup"),
                clock=self.clock,
                metrics=self.metrics,
            ),
            modules=module_keeper(
                self.store,
                connections=connections,
                site=self.site,
                links=self.click_links(),
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
    origins: Origins = Origins(),  # noqa: B008  never changed
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
            *gateway.router.bind(
                gateway.Deps(
                    api.screens,
                    api.site,
                    api.clock,
                    Noting(api.subscribers, api.deliveries, api.sender),
                )
            ),
            *also,
        ):
            api.bus.subscribe(subscription)
        await api.bus.start()
        stack.push_async_callback(api.bus.stop, drain=SECOND)
        stack.push_async_callback(api.screens.close)
        deps = api.deps = api.gateway_deps()
        stack.push_async_callback(deps.connections.close)
        for work in (deps.spool.relay, api.subscribers.follow, api.sender.run):
            stack.callback(asyncio.create_task(work()).cancel)
        server = HttpServer(
            [Mounted(routes.operations, deps)],
            keys=api.keys,
            clock=api.clock,
            metrics=Metrics(),
            drain=SECOND,
            uses=api.uses,
            deeds=api.audit_log,
            is_tenant=lambda tenant: api.site.site(tenant) is not None,
            tickets=api.tickets,
            origins=origins,
        )
        stack.push_async_callback(api.audit_log.close)
        stack.push_async_callback(api.uses.settle)
        api.server = server
        api.origin = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
        stack.push_async_callback(server.stop)
        api.session = await stack.enter_async_context(aiohttp.ClientSession(api.origin))
        api.key = await api.a_key(*Scope)
        yield api
