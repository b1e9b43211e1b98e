"""A CRM that is a list of cards, and replicas of what asks it, over either store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pymongo
from pydantic import SecretStr

from services.lookup.handlers import Deps
from services.lookup.making import ContactMaker
from services.lookup.store import CALLERS, MAKINGS, CallerBook, MakingBook
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.contacts import ContactCard, CrmUser
from shared.crm.connections import Account, CrmConnections
from shared.crm.engine.connector import TemplateConnector
from shared.crm.finder import Finder, Question
from shared.crm.port import JournalEntry, ModuleAnswer, NewContact, Priority
from shared.crm.users import USERS, UserBook
from shared.errors import MeshError
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.phone import PhoneNumber, parse, same_number
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import RULES, SITES, SiteDocument
from shared.site.models import Site
from shared.site.rulebook import RuleBook
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from tests.contract.cards_kit import card_teller, module_keeper

SOON = timedelta(seconds=5)
FRESH, STALE, UNKNOWN = timedelta(minutes=10), timedelta(hours=24), timedelta(minutes=1)
JANE, NOBODY = "+447700900123", "+447700900999"


class PaperCrm:
    """
    Keeps the promises of shared.crm.port. *failure* is raised by every request, *lost* so many
    answers of writes; who asks waits while *open* is not set; what is written is found only
    when :meth:`index` was called, where *lags*.
    """

    def __init__(self) -> None:
        self.cards: list[ContactCard] = []
        self.users: tuple[CrmUser, ...] = ()
        self.searches: list[tuple[str, Priority]] = []
        self.created: list[NewContact] = []
        self.entries: list[JournalEntry] = []
        self.failure: MeshError | None = None
        self.refused: str | None = None
        self.lost: MeshError | None = None
        self.lags = False
        self.creates = True
        self.open = asyncio.Event()
        self.open.set()
        self._written: list[ContactCard] = []

    def index(self) -> None:
        self.cards += self._written
        self._written.clear()

    async def check(self) -> None:
        await self._answer()

    async def search(
        self,
        number: PhoneNumber,
        *,
        modules: Sequence[str],
        fields: Sequence[str],
        card: bool,
        within: timedelta,
        priority: Priority = Priority.POP,
    ) -> list[ModuleAnswer]:
        self.searches.append((number.key, priority))
        hits = tuple(
            one for one in self.cards if any(same_number(p, number.raw, "GB") for p in one.phones)
        )
        await self._answer()
        return [ModuleAnswer("Contacts", hits), ModuleAnswer("Leads", (), self.refused)]

    async def list_users(self, *, within: timedelta) -> tuple[CrmUser, ...]:
        await self._answer()
        return self.users

    def can_create(self, module: str) -> bool:
        return self.creates

    async def create_contact(self, new: NewContact, *, within: timedelta) -> ContactCard:
        await self._answer()
        self.created.append(new)
        made = a_card(
            f"new{len(self.created)}",
            phones=(new.number.key,),
            display_name=new.display_name or new.number.key,
            owner_id=new.owner_id,
        )
        self._written.append(made)
        if not self.lags:
            self.index()
        if self.lost is not None:
            raise self.lost
        return made

    @property
    def settle(self) -> timedelta:
        return timedelta(0)

    @property
    def batch(self) -> int:
        return 1

    @property
    def knows_repeats(self) -> bool:
        return False

    async def write_entry(self, entry: JournalEntry, *, within: timedelta) -> str:
        self.entries.append(entry)
        return f"e{len(self.entries)}"

    async def find_entry(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        return None

    async def _answer(self) -> None:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure


class PaperConnections(CrmConnections):
    """Every connection leads to one CRM."""

    def __init__(self, crm: PaperCrm, store: DocumentStore, clock: Clock) -> None:
        super().__init__(
            store,
            http=HttpClient(AddressGuard()),
            secrets=SecretBox([new_key()]),
            clock=clock,
            metrics=Metrics(),
        )
        self._crm = crm
        self.glance = Patient(clock)

    def connector(self, account: Account) -> TemplateConnector:
        return self._crm  # type: ignore[return-value]  # keeps the port's promises


class Desk:
    """One store, one CRM, any number of replicas."""

    def __init__(self, store: DocumentStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.crm = PaperCrm()
        self.metrics = Metrics()
        self.finders: list[Finder] = []
        self.rules = RuleBook(store.collection(RULES), clock, poll=SOON)

    def connections(self) -> PaperConnections:
        return PaperConnections(self.crm, self.store, self.clock)

    def finder(self, connections: PaperConnections | None = None) -> Finder:
        """Another replica: the same store, a memory of its own."""
        known = connections or self.connections()
        made = Finder(known, self.store, clock=self.clock, metrics=self.metrics)
        self.finders.append(made)
        return made

    def lookup(self, site: SiteBook, publisher: Publisher) -> Deps:
        """What a replica of the service lookup works with."""
        connections = self.connections()
        finder = self.finder(connections)
        users = UserBook(self.store.collection(USERS), self.clock)
        return Deps(
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
                publisher=publisher,
                clock=self.clock,
            ),
            modules=module_keeper(
                self.store,
                connections=connections,
                site=site,
                links=ClickLinks(SecretBox([new_key()]), public_url=None),
                clock=self.clock,
            ),
            site=site,
            rules=self.rules,
            publisher=publisher,
            clock=self.clock,
            search_within=SOON,
        )

    async def apply(self, book: SiteBook, **parts: object) -> None:
        """The site of ``acme``, in Britain, with these *parts*."""
        site = Site.model_validate({"tenant": "acme", "region": "GB", **parts})
        await self.store.collection(SITES).put(
            SiteDocument(
                key="acme",
                tenant="acme",
                site=site,
                changed_at=self.clock.now(),
                changed_by="test",
            )
        )
        book.loaded = False
        await book.refresh()
        await self.rules.refresh()

    async def close(self) -> None:
        for finder in self.finders:
            await finder.close()


def a_card(contact_id: str = "1", **changes: object) -> ContactCard:
    known: dict[str, object] = {
        "connection": "zoho",
        "module": "Contacts",
        "contact_id": contact_id,
        "display_name": f"Person {contact_id}",
        "phones": (JANE,),
    }
    return ContactCard.model_validate(known | changes)


def an_account(**changes: str) -> Account:
    return Account(
        tenant=changes.get("tenant", "acme"),
        name=changes.get("name", "zoho"),
        template="zoho",
        region="GB",
        parameters=(),
        credentials=(),
        phone_formats=(),
    )


def about(number: str = JANE, *, priority: Priority = Priority.POP, **changes: str) -> Question:
    return Question(
        account=an_account(**changes),
        number=parse(number, "GB"),
        fresh=FRESH,
        stale=STALE,
        unknown=UNKNOWN,
        priority=priority,
    )


@asynccontextmanager
async def desk_on(kind: str, clock: Clock, mongo_url: str | None) -> AsyncIterator[Desk]:
    """*kind* is sqlite or mongo."""
    if kind == "sqlite":
        db = SqliteFile(None)
        await db.open()
        desk = Desk(SqliteStore(db, clock), clock)
        yield desk
        await desk.close()
        await db.close()
        return
    assert mongo_url is not None
    name = f"t{new_id().hex[:10]}"
    store = MongoStore(SecretStr(mongo_url), database=name, clock=clock)
    desk = Desk(store, clock)
    try:
        yield desk
        await desk.close()
    finally:
        await store.close()
        with pymongo.MongoClient[dict[str, object]](mongo_url) as client:
            client.drop_database(name)
