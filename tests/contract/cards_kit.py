"""
What of lookup tells CRMs of calls and keeps their telephony modules: over any store, and with a
retailCRM that is a stand-in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pymongo
from pydantic import SecretStr

from services.lookup.card_sending import CardSender
from services.lookup.cards import CARDS, CardTeller
from services.lookup.module_book import MODULES, ModuleBook
from services.lookup.module_ends import ModuleSweeper
from services.lookup.modules import ModuleKeeper
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Publisher, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import Clock
from shared.contracts.cards import CardTold
from shared.contracts.contacts import CrmUser
from shared.contracts.envelope import Event, Message, wrap
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import USERS, UserBook
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm

PUBLIC_URL = "https://mesh.example"
SECOND = timedelta(seconds=1)


def card_teller(
    store: DocumentStore,
    *,
    connections: CrmConnections,
    finder: Finder,
    publisher: Publisher,
    clock: Clock,
    metrics: Metrics | None = None,
) -> CardTeller:
    metrics = metrics or Metrics()
    return CardTeller(
        sender=CardSender(
            connections=connections,
            finder=finder,
            users=UserBook(store.collection(USERS), clock),
            modules=ModuleBook(store.collection(MODULES), clock),
            clock=clock,
            metrics=metrics,
        ),
        cards=store.collection(CARDS),
        publisher=publisher,
        clock=clock,
        metrics=metrics,
    )


def module_keeper(
    store: DocumentStore,
    *,
    connections: CrmConnections,
    site: SiteBook,
    links: ClickLinks,
    clock: Clock,
) -> ModuleKeeper:
    """Its ``ends`` is the sweeper."""
    book = ModuleBook(store.collection(MODULES), clock)
    return ModuleKeeper(
        connections=connections,
        site=site,
        users=UserBook(store.collection(USERS), clock),
        book=book,
        links=links,
        ends=ModuleSweeper(connections=connections, site=site, book=book, links=links, clock=clock),
        clock=clock,
    )


@dataclass
class Replica:
    """One process of lookup, as far as it has to do with a CRM's own telephony."""

    connections: CrmConnections
    finder: Finder
    site: SiteBook
    cards: CardTeller
    modules: ModuleKeeper


@dataclass
class RetailShop:
    """Tenant ``acme`` with the connection ``retail``; any number of replicas over one store."""

    crm: RetailCrm
    store: DocumentStore
    clock: Clock
    http: HttpClient
    bus: EmbeddedBus
    box: SecretBox
    metrics: Metrics = field(default_factory=Metrics)
    told: list[CardTold] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    public_url: str | None = PUBLIC_URL

    @property
    def links(self) -> ClickLinks:
        return ClickLinks(self.box, public_url=self.public_url)

    async def replica(self) -> Replica:
        connections = CrmConnections(
            self.store,
            http=self.http,
            secrets=self.box,
            clock=self.clock,
            metrics=self.metrics,
            glance=Patient(self.clock),
        )
        finder = Finder(connections, self.store, clock=self.clock, metrics=self.metrics)
        site = SiteBook(self.store.collection(SITES), self.clock, poll=SECOND)
        await site.refresh()
        made = Replica(
            connections,
            finder,
            site,
            card_teller(
                self.store,
                connections=connections,
                finder=finder,
                publisher=ServicePublisher(self.bus, service="lookup", clock=self.clock),
                clock=self.clock,
                metrics=self.metrics,
            ),
            module_keeper(
                self.store,
                connections=connections,
                site=site,
                links=self.links,
                clock=self.clock,
            ),
        )
        self.replicas.append(made)
        return made

    def connection(self, **parts: Any) -> dict[str, Any]:
        """Of the site, to the stand-in."""
        return {
            "name": "retail",
            "template": "retailcrm",
            "parameters": {"api_url": self.crm.url, **parts.pop("parameters", {})},
            "credentials": {"api_key": self.box.seal(SecretStr(KEY))},
            **parts,
        }

    async def apply(self, *crm: dict[str, Any], **parts: Any) -> Site:
        """The site of ``acme``, in Russia; every replica knows it at once."""
        site = Site.model_validate({"tenant": "acme", "region": "RU", "crm": crm, **parts})
        document = SiteDocument(
            key="acme",
            tenant="acme",
            site=site,
            changed_at=self.clock.now(),
            changed_by="test",
        )
        await self.store.collection(SITES).put(document)
        for replica in self.replicas:
            replica.site.loaded = False
            await replica.site.refresh()
        return site

    async def users_are(self, *users: CrmUser, connection: str = "retail") -> None:
        """As lookup has read them."""
        book = UserBook(self.store.collection(USERS), self.clock)
        await book.keep("acme", connection, users)

    def message(self, event: Event, at: datetime | None = None, key: str = "") -> Message[Any]:
        """The same event at the same time is the same message."""
        at = at or self.clock.now()
        identity = f"{event.model_dump_json()}/{at.isoformat()}/{key}"
        return wrap(event, source="ingest", occurred_at=at, tenant="acme", key=identity)

    async def _note(self, message: Message[CardTold]) -> None:
        self.told.append(message.body)


@asynccontextmanager
async def retail_shop(
    kind: str, clock: Clock, mongo_url: str | None = None
) -> AsyncIterator[RetailShop]:
    """*kind* is sqlite or mongo."""
    async with AsyncExitStack() as stack:
        db = SqliteFile(None)
        await db.open()
        stack.push_async_callback(db.close)
        store: DocumentStore = SqliteStore(db, clock)
        if kind == "mongo":
            assert mongo_url is not None
            name = f"t{new_id().hex[:10]}"
            store = MongoStore(SecretStr(mongo_url), database=name, clock=clock)
            stack.callback(_drop, mongo_url, name)
            stack.push_async_callback(store.close)
        http = await stack.enter_async_context(
            HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
        )
        shop = RetailShop(
            crm=await stack.enter_async_context(retail_crm()),
            store=store,
            clock=clock,
            http=http,
            bus=EmbeddedBus(db, clock=clock, metrics=Metrics()),
            box=SecretBox([new_key()]),
        )
        hears = Subscription(consumer=Consumer("test", CardTold), handler=shop._note)
        shop.bus.subscribe(hears)
        await shop.bus.start()
        stack.push_async_callback(shop.bus.stop, drain=SECOND)
        yield shop
        for replica in shop.replicas:
            await replica.finder.close()
            await replica.connections.close()


def _drop(mongo_url: str, name: str) -> None:
    with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
        client.drop_database(name)
