"""
What of dialer, lookup and routing carries agents' statuses, over a real bus and any store, between a
UIS account and a retailCRM that stand on ports of this machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr

from services.dialer import statuses as of_dialer
from services.dialer.agents import AGENTS, STATUSES, AgentBook
from services.dialer.links import Switchboards
from services.dialer.showing import Showing
from services.lookup import statuses as of_lookup
from services.routing.staff import Staff
from services.routing.staff_store import AGENTS as ROUTED
from services.routing.staff_store import StaffBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import Clock, SystemClock
from shared.contracts.agents import (
    STATUS_HOLDS,
    AgentRecord,
    AgentStatus,
    AgentStatusChanged,
    AgentStatusSettled,
    ListAgents,
    SetAgentStatus,
    Side,
    TellCrmStatus,
)
from shared.contracts.dialing import DialReason
from shared.contracts.envelope import Contract, Message, wrap
from shared.crm.connections import CrmConnections
from shared.crm.users import USERS, UserBook
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.models import Site
from shared.site.parts import Sealing
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.newest import NewestOrders
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE
from shared.testing.waiting import eventually
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm
from tests.contract.uis_kit import LOOPBACK, TOKEN, Account, an_account

SECOND = timedelta(seconds=1)
TENANT = "acme"
SITE = """\
version: 1
tenants:
  - tenant: acme
    region: RU
    zone: Europe/Moscow
    pbx:
      - name: uis
        kind: uis
        call_api: http://127.0.0.1:{uis}/call/v4.0
        data_api: http://127.0.0.1:{uis}/data/v2.0
        access_token: {token}
        virtual_number: "+74993720692"
{uis_more}
      - {{name: door, kind: generic}}
    crm:
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{crm}"}}
        credentials: {{api_key: {key}}}
        status: {status}
    agents:
      - {{extension: "101", pbx: uis, pbx_user: "25", users: {{shop: "24"}}}}
      - {{extension: "102", pbx: uis, pbx_user: "26"}}
      - {{extension: "103", pbx: door}}
"""


@dataclass
class Replica:
    """One of each service, over the store and the bus of all."""

    boards: Switchboards
    dialer: of_dialer.StatusDeps
    lookup: of_lookup.StatusDeps
    staff: Staff
    staff_book: StaffBook


@dataclass
class Mesh:
    uis: Account
    crm: RetailCrm
    store: DocumentStore
    db: SqliteFile
    clock: Clock
    box: SecretBox
    http: HttpClient
    bus: EmbeddedBus
    site: SiteBook
    metrics: Metrics = field(default_factory=Metrics)
    replicas: list[Replica] = field(default_factory=list)
    heard: list[Message[Any]] = field(default_factory=list)
    settled: list[AgentStatusSettled] = field(default_factory=list)
    #: Whether the account tells of a change that it was told; and its tellings on their way.
    echoes: bool = True
    echoing: set[asyncio.Task[None]] = field(default_factory=set)

    # -- what is there -----------------------------------------------------------------------

    async def apply(self, *, status: str = "{tell: true}", uis_more: str = "") -> Site:
        text = SITE.format(
            uis=self.uis.port,
            token=TOKEN,
            crm=self.crm.url,
            key=KEY,
            status=status,
            uis_more=uis_more,
        )
        sealing = Sealing(self.box, {}, Path())
        (site,) = read_site_file(text, source="test", sealing=sealing, around=HERE)
        now = self.clock.now()
        document = SiteDocument(
            key=TENANT, tenant=TENANT, site=site.stored, changed_at=now, changed_by="test"
        )
        await self.store.collection(SITES).put(document)
        await self.site.refresh()
        return site.stored

    def add_replica(self) -> Replica:
        connections = CrmConnections(
            self.store, http=self.http, secrets=self.box, clock=self.clock, metrics=self.metrics
        )
        adapters = Adapters(
            secrets=self.box, http=self.http, clock=self.clock, metrics=self.metrics
        )
        boards = Switchboards(self.site, adapters, clock=self.clock, on_refusal=_no_refusal)
        store, clock = self.store, self.clock
        keep = 2 * STATUS_HOLDS
        found = Replica(
            boards=boards,
            dialer=of_dialer.StatusDeps(
                agents=AgentBook(store.collection(AGENTS), clock),
                orders=NewestOrders(store.collection(STATUSES), clock, keep=keep),
                boards=boards,
                showing=Showing(boards, connections),
                site=self.site,
                publisher=ServicePublisher(self.bus, service="dialer", clock=clock),
                clock=clock,
                metrics=self.metrics,
                order_within=timedelta(seconds=5),
            ),
            lookup=of_lookup.StatusDeps(
                connections=connections,
                users=UserBook(store.collection(USERS), clock),
                orders=NewestOrders(store.collection(of_lookup.STATUSES), clock, keep=keep),
                site=self.site,
                publisher=ServicePublisher(self.bus, service="lookup", clock=clock),
                clock=clock,
                metrics=self.metrics,
            ),
            staff=Staff(clock),
            staff_book=StaffBook(store.collection(ROUTED), clock),
        )
        self.replicas.append(found)
        return found

    @property
    def dialer(self) -> of_dialer.StatusDeps:
        return self.replicas[0].dialer

    # -- what sides do -----------------------------------------------------------------------

    def message(
        self,
        status: AgentStatus,
        source: Side,
        name: str | None,
        *,
        extension: str = "101",
        own: str | None = None,
        ago: timedelta = timedelta(0),
        key: str | None = None,
    ) -> Message[AgentStatusChanged]:
        said = AgentStatusChanged(
            extension=extension, status=status, source=source, source_name=name, own=own
        )
        at = self.clock.now() - ago
        return wrap(said, source="test", occurred_at=at, tenant=TENANT, key=key)

    async def says(self, status: AgentStatus, source: Side, name: str, **more: Any) -> None:
        await self.bus.send(self.message(status, source, name, **more))

    async def pbx_says(self, status: AgentStatus, **more: Any) -> None:
        await self.says(status, Side.PBX, "uis", **more)

    async def crm_says(self, status: AgentStatus, **more: Any) -> None:
        await self.says(status, Side.CRM, "shop", own=str(status), **more)

    async def person_says(self, status: AgentStatus, **more: Any) -> None:
        await self.says(status, Side.API, "a-key", **more)

    # -- what became of it -------------------------------------------------------------------

    @property
    def told_uis(self) -> list[tuple[int, str | bool]]:
        """Employee, and status or flag."""
        return [
            (asked["id"], asked["status"] if "status" in asked else asked["calls_available"])
            for _, method, asked in self.uis.asked
            if method == "update.employees"
        ]

    @property
    def told_crm(self) -> list[tuple[int, str]]:
        return self.crm.told

    async def record(self, extension: str = "101") -> AgentRecord:
        asked = ListAgents(extensions=(extension,))
        message = wrap(asked, source="test", occurred_at=self.clock.now(), tenant=TENANT)
        page = await of_dialer.list_agents(self.dialer, message)
        return page.agents[0] if page.agents else AgentRecord(extension=extension)

    async def doing(self, status: AgentStatus, extension: str = "101") -> None:
        """Until the agent is known to do that."""

        async def does() -> bool:
            return (await self.record(extension)).status is status

        await eventually(does)

    async def quiet(self) -> None:
        """Until nothing is on its way any more: all is handled, and all echoes have come."""

        def waiting(db: sqlite3.Connection) -> int:
            asked = "SELECT count(*) FROM bus_deliveries WHERE died_ms IS NULL"
            found: int = db.execute(asked).fetchone()[0]
            return found

        async def is_quiet() -> bool:
            return not self.echoing and await self.db.read(waiting) == 0

        await eventually(is_quiet)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        found = {}
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == name:
                    found[tuple(sample.labels.values())] = sample.value
        return found

    def listen(self) -> None:
        """Every service hears what it consumes; the account and the CRM say back what they are told."""
        first = self.replicas[0]
        for sub in (
            *of_dialer.router.bind(first.dialer),
            *of_lookup.router.bind(first.lookup),
        ):
            self.bus.subscribe(sub)

        async def to_staff(message: Message[Any]) -> None:
            self.heard.append(message)
            if isinstance(message.body, AgentStatusSettled):
                self.settled.append(message.body)
            for replica in self.replicas:
                replica.staff.hear(message)

        for contract in (AgentStatusChanged, AgentStatusSettled, SetAgentStatus, TellCrmStatus):
            self._spy(contract, to_staff)

    def _spy(self, contract: type[Contract], handler: Any) -> None:
        consumer = Consumer("routing", contract)
        self.bus.subscribe(Subscription(consumer=consumer, handler=handler))


async def _no_refusal(tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
    raise AssertionError((tenant, pbx, reference, reason))


#: As it is shown of an agent.
NOBODY = "none of its users has this phone: see `callmesh crm users`"


def an_order(
    mesh: Mesh, status: AgentStatus, *, ago: timedelta = timedelta(0)
) -> Message[SetAgentStatus]:
    said = SetAgentStatus(extension="101", status=status)
    return wrap(said, source="dialer", occurred_at=mesh.clock.now() - ago, tenant=TENANT)


async def set_up_anew(mesh: Mesh) -> None:
    """Until the switchboard is that of the site as it is now."""
    boards = mesh.replicas[0].boards
    known = boards._boards[TENANT, "uis"]
    await eventually(lambda: boards._boards.get((TENANT, "uis")) not in {known, None})


#: The account's words, and what ingest makes of them.
WORDS = {
    "available": AgentStatus.FREE,
    "do_not_disturb": AgentStatus.BUSY,
    "break": AgentStatus.BREAK,
    "not_at_workplace": AgentStatus.DINNER,
    "not_at_work": AgentStatus.OFFLINE,
}


@asynccontextmanager
async def a_store(request: pytest.FixtureRequest, db: SqliteFile) -> AsyncIterator[DocumentStore]:
    """*request* of a fixture with the parameters ``sqlite`` and ``mongo``."""
    clock = SystemClock()
    if request.param == "sqlite":
        yield SqliteStore(db, clock)
        return
    url, database = request.getfixturevalue("mongo_url"), f"test-{new_id().hex[:10]}"
    found = MongoStore(SecretStr(url), database=database, clock=clock)
    yield found
    await found.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client.drop_database(database)


@asynccontextmanager
async def a_mesh(store: DocumentStore, db: SqliteFile) -> AsyncIterator[Mesh]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        uis = await stack.enter_async_context(an_account())
        crm = await stack.enter_async_context(retail_crm())
        http = await stack.enter_async_context(HttpClient(LOOPBACK))
        bus = EmbeddedBus(db, clock=clock, metrics=Metrics())
        mesh = Mesh(
            uis=uis,
            crm=crm,
            store=store,
            db=db,
            clock=clock,
            box=SecretBox([new_key()]),
            http=http,
            bus=bus,
            site=SiteBook(store.collection(SITES), clock, poll=SECOND),
        )
        await mesh.apply()
        replica = mesh.add_replica()
        mesh.listen()
        await bus.start()
        stack.push_async_callback(bus.stop, drain=SECOND)
        running = asyncio.create_task(replica.boards.run())
        stack.push_async_callback(_ended, running)
        await eventually(lambda: (TENANT, "uis") in replica.boards._boards)
        answer = uis.methods["update.employees"]
        flags = {True: AgentStatus.FREE, False: AgentStatus.BUSY}

        def updates(asked: dict[str, Any]) -> Any:
            answered = answer(asked)
            word = asked.get("status")
            flag = asked.get("calls_available")
            status = WORDS.get(word or "") or (flags[flag] if flag is not None else None)
            if mesh.echoes and status is not None and "result" in answered:
                extension = {25: "101", 26: "102"}[asked["id"]]
                task = asyncio.create_task(mesh.pbx_says(status, extension=extension, own=word))
                mesh.echoing.add(task)
                task.add_done_callback(mesh.echoing.discard)
            return answered

        uis.methods["update.employees"] = updates
        yield mesh
        for one in mesh.replicas:
            await one.lookup.connections.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
