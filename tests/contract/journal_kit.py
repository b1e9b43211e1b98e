"""The journal's parts over one store, with a sandbox CRM; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
from pydantic import SecretStr

from services.journal.handlers import Deps, fetch_call, take_event
from services.journal.settings import JournalSettings
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook, EntryDocument
from services.journal.writer import EntryWriter, Tools
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallEnded, CallRecord, EntryState, FetchCall
from shared.contracts.envelope import Event, Message, wrap
from shared.contracts.journal import CallJournaled
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.registry import Templates
from shared.crm.users import USERS as USER_LISTS
from shared.crm.users import UserBook
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.sandbox.people import USERS
from shared.sandbox.site import CRM, TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.apply import carry_out, plan
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.site.ruleedit import RuleDesk
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE, NOON, a_call

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Journal:
    """
    The journal's parts over one store, its handler's and its writers'; one CRM, or two with one
    connection each. *templates*: others than those that ship.
    """

    def __init__(
        self,
        db: SqliteFile,
        clock: ManualClock,
        *,
        store: DocumentStore | None = None,
        templates: Templates | None = None,
    ) -> None:
        self.clock = clock
        self.store = store or SqliteStore(db, clock)
        self.templates = templates
        self.box = SecretBox([new_key()])
        self.http = HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
        self.site = SiteBook(self.store.collection(SITES), clock, poll=SECOND)
        self.calls = CallLog(self.store.collection(CALLS), clock, silent_after=12 * HOUR)
        self.entries = EntryBook(self.store.collection(ENTRIES), clock)
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        #: What the journal tells of its entries, which it hears itself.
        self.told: list[Message[CallJournaled]] = []
        self.bus.subscribe(
            Subscription(consumer=Consumer("journal", CallJournaled), handler=self._take_told)
        )
        self.metrics = Metrics()
        self.url = ""
        connections = self.connections()
        self._deps = Deps.over(
            self.store,
            calls=self.calls,
            site=self.site,
            connections=connections,
            finder=Finder(connections, self.store, clock=clock, metrics=Metrics()),
            publisher=self.publisher(),
            clock=clock,
        )
        self.operating, self.reconciling = self._deps.operating, self._deps.reconciling

    def publisher(self) -> ServicePublisher:
        return ServicePublisher(self.bus, service="journal", clock=self.clock)

    def connections(self) -> CrmConnections:
        return CrmConnections(
            self.store,
            http=self.http,
            secrets=self.box,
            clock=self.clock,
            metrics=Metrics(),
            templates=self.templates,
        )

    async def apply(self, *urls: str, owner: str | None = None, settle_s: float = 0) -> None:
        """
        A connection to each of *urls*: ``zoho``, ``zoho2``…; *owner* is who sits at 101, entries
        wait *settle_s* for more.
        """
        text = site_file(crm_url=urls[0], ami_port=1, settle_s=settle_s)
        text = text.replace(USERS[0]["id"], owner or USERS[0]["id"])
        sealing = Sealing(self.box, {}, Path())
        (site,) = read_site_file(text, source="test", sealing=sealing, around=HERE)
        first = site.crm[0]
        more = [
            first.model_copy(
                update={
                    "name": f"{first.name}{number}",
                    "parameters": {**first.parameters, "api_url": url, "accounts_url": url},
                }
            )
            for number, url in enumerate(urls[1:], start=2)
        ]
        site = site.model_copy(update={"crm": (first, *more)})
        desk = RuleDesk.at(self.store, secrets=self.box, clock=self.clock)
        await carry_out(await plan([site], desk, by="test", prune=True), desk)
        await self.site.refresh()

    async def change_site(self, **changes: Any) -> None:
        """After :meth:`apply`."""
        kept = self.store.collection(SITES)
        stored = await kept.get(TENANT)
        site = stored.site.model_copy(update=changes)
        now = self.clock.now()
        await kept.replace(stored.model_copy(update={"site": site, "changed_at": now}))
        await self.site.refresh()

    def writer(self) -> EntryWriter:
        """Another replica."""
        return EntryWriter(self.tools())

    def tools(self) -> Tools:
        """A replica's own."""
        connections = self.connections()
        return Tools(
            calls=self.calls,
            entries=self.entries,
            site=self.site,
            connections=connections,
            finder=Finder(connections, self.store, clock=self.clock, metrics=Metrics()),
            publisher=self.publisher(),
            clock=self.clock,
            metrics=self.metrics,
            settings=JournalSettings(),
            users=UserBook(self.store.collection(USER_LISTS), self.clock),
        )

    async def hear(self, *events: Event, after: float = 0) -> None:
        """As the bus brings them; *after*: seconds since noon."""
        for event in events:
            at = NOON + timedelta(seconds=after)
            message = wrap(event, source="test", occurred_at=at, tenant=TENANT)
            await self.hear_message(message)

    async def hear_message(self, message: Message[Any]) -> None:
        await take_event(self._deps, message)

    async def ask(self, call: str = "c1") -> CallRecord:
        """The call as the journal shows it."""
        now = self.clock.now()
        asked = wrap(FetchCall(call_id=call), source="test", occurred_at=now, tenant=TENANT)
        return await fetch_call(self._deps, asked)

    async def _take_told(self, message: Message[Any]) -> None:
        # At least once: the same word may come again, by the same id.
        if message.id not in {known.id for known in self.told}:
            self.told.append(message)
        await self.hear_message(message)

    async def a_missed_call(self, call: str = "c1", connection: str = CRM) -> EntryDocument:
        await self.hear(a_call(call_id=call), CallEnded(call_id=call, pbx="sandbox"))
        return await self.entry(call, connection)

    async def entry(self, call: str = "c1", connection: str = CRM) -> EntryDocument:
        known = await self.entries.of_call(call)
        (found,) = [entry for entry in known if entry.connection == connection]
        return found

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.writer().run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, state: EntryState, *, step: timedelta = SECOND, call: str = "c1") -> None:
        """Let time pass, step by step, until the entry is in *state*."""

        async def is_there() -> bool:
            return (await self.entry(call)).state is state

        await self.until_true(is_there, step=step)

    async def until_true(
        self,
        check: Callable[[], Awaitable[bool]],
        *,
        step: timedelta = SECOND,
        within: float = 300,
    ) -> None:
        """*within*: real seconds."""
        async with asyncio.timeout(within):
            while not await check():
                await self.clock.advance(step)
                await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it

    async def until_done(self, call: str = "c1") -> EntryDocument:
        """Until nothing is to be done about the entry any more."""

        async def is_done() -> bool:
            return (await self.entry(call)).due_at is None

        await self.until_true(is_done)
        return await self.entry(call)

    async def pass_time(self, span: timedelta, *, step: timedelta = SECOND) -> None:
        ends_at = self.clock.now() + span

        async def is_over() -> bool:
            return self.clock.now() >= ends_at

        await self.until_true(is_over, step=step)


@asynccontextmanager
async def a_journal_on(kind: str, mongo_url: Callable[[], str]) -> AsyncIterator[Journal]:
    """*kind* is sqlite or mongo."""
    if kind == "sqlite":
        async with a_journal() as found:
            yield found
        return
    clock, url, database = ManualClock(), mongo_url(), f"test-{new_id().hex[:10]}"
    store = MongoStore(SecretStr(url), database=database, clock=clock)
    with ExitStack() as stack:
        client = stack.enter_context(pymongo.MongoClient[dict[str, object]](url))
        stack.callback(client.drop_database, database)
        async with a_journal(store=store, clock=clock) as found:
            yield found
        await store.close()


@asynccontextmanager
async def a_journal(
    *,
    store: DocumentStore | None = None,
    clock: ManualClock | None = None,
    templates: Templates | None = None,
) -> AsyncIterator[Journal]:
    db = SqliteFile(None)
    await db.open()
    found = Journal(db, clock or ManualClock(), store=store, templates=templates)
    await found.bus.start()
    async with found.http:
        yield found
    await found.bus.stop(drain=SECOND)
    await db.close()
