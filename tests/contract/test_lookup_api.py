"""The API's words on contacts and users, from a real client to the service that carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.access.desk import AccessDesk
from services.gateway.hooks.marks import CLICKS, MARKS, ClickBook, HookMarks
from services.gateway.http import HttpDeps, routes
from services.gateway.recordings.accesses import ACCESSES, AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.desk import ScreenDesk
from services.gateway.store import AUDIT, AuditLog
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DELIVERIES, DeliveryBook
from services.gateway.subscribers.sending import Sender
from services.gateway.subscribers.subscriber import SUBSCRIBERS
from services.lookup.handlers import router
from shared.bus.embedded import EmbeddedBus
from shared.bus.publisher import ServicePublisher
from shared.clock import SystemClock
from shared.contracts.contacts import CrmUser
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, KeyBook, KeyUses, Scope
from shared.http.server import HttpServer, Mounted
from shared.http.tickets import PURPOSE as TICKETS
from shared.http.tickets import Tickets
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.recordings.links import PURPOSE, RecordingLinks
from shared.recordings.shelf import Bounds, Shelf
from shared.runtime.outbox import SpoolingPublisher
from shared.runtime.requests import RequestLog
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import SITES
from shared.site.ruleedit import RuleDesk
from shared.sqlite import SqliteFile
from shared.storage.port import Find
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from shared.testing.waiting import eventually
from tests.contract.lookup_kit import JANE, NOBODY, SOON, Desk, a_card, about

SECOND = timedelta(seconds=1)
LONG = "9" * 65


class Api:
    def __init__(self, desk: Desk, session: aiohttp.ClientSession) -> None:
        self.desk = desk
        self.crm = desk.crm
        self._session = session

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._session.get(path) as answer:
            return answer.status, await answer.json()

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self._session.post(path, json=body) as answer:
            return answer.status, await answer.json()

    async def audited(self) -> list[tuple[str, str]]:
        page = await self.desk.store.collection(AUDIT).page(Find(order_by="at"))
        return [(entry.action, entry.subject) for entry in page.documents]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        db = SqliteFile(None)
        await db.open()
        stack.push_async_callback(db.close)
        desk = Desk(SqliteStore(db, clock), clock)
        stack.push_async_callback(desk.close)
        site = SiteBook(desk.store.collection(SITES), clock, poll=SECOND)
        await desk.apply(
            site,
            crm=[{"name": name, "template": "zoho"} for name in ("zoho", "second")],
            agents=[{"extension": "101", "email": "ann@acme.example"}, {"extension": "102"}],
        )
        bus = EmbeddedBus(db, clock=clock, metrics=Metrics())
        for subscription in router.bind(
            desk.lookup(site, ServicePublisher(bus, service="lookup", clock=clock))
        ):
            bus.subscribe(subscription)
        await bus.start()
        stack.push_async_callback(bus.stop, drain=SECOND)
        publisher = ServicePublisher(bus, service="gateway", clock=clock)
        box = SecretBox([new_key()])
        http = HttpClient(AddressGuard())
        adapters = Adapters(secrets=box, http=http, clock=clock, metrics=Metrics())
        subscribers = SubscriberBook(desk.store.collection(SUBSCRIBERS), clock)
        deliveries = DeliveryBook(desk.store.collection(DELIVERIES), clock, keep=timedelta(days=1))
        accesses = AccessLog(desk.store.collection(ACCESSES), clock, keep=timedelta(days=1))
        shelf = Shelf(Path("not-used"), clock, Bounds(0, 0, SECOND))
        keys = KeyBook(desk.store.collection(API_KEYS), clock)
        uses = KeyUses(desk.store.collection(KEY_USES), clock)
        deps = HttpDeps(
            spool=SpoolingPublisher(
                publisher, bus, desk.store, service="gateway", clock=clock, metrics=Metrics()
            ),
            publisher=publisher,
            requester=publisher,
            letters=bus.dead_letters,
            screens=ScreenDesk.over(
                desk.store,
                site=site,
                connections=desk.connections(),
                publisher=publisher,
                tickets=Tickets(box.signing_keys(TICKETS), keys, clock),
                clock=clock,
                metrics=Metrics(),
                bus_ready=bus.ready,
                ask_within=SOON,
            ),
            audit=AuditLog(desk.store.collection(AUDIT), clock, keep=timedelta(days=1)),
            requests=RequestLog.in_store(desk.store, clock=clock, metrics=Metrics()),
            access=AccessDesk(desk.store.collection(API_USERS), keys, uses, clock),
            site=site,
            rules=RuleDesk.at(desk.store, secrets=box, clock=clock),
            secrets=box,
            connections=desk.connections(),
            adapters=adapters,
            links=RecordingLinks(box.signing_keys(PURPOSE), public_url=None),
            click_links=ClickLinks(box, public_url=None),
            click_book=ClickBook(desk.store.collection(CLICKS), clock),
            marks=HookMarks(desk.store.collection(MARKS), clock, Patient(clock)),
            player=Player(
                adapters=adapters,
                shelf=shelf,
                accesses=accesses,
                clock=clock,
                metrics=Metrics(),
                within=SOON,
            ),
            accesses=accesses,
            subscribers=subscribers,
            deliveries=deliveries,
            sender=Sender(
                subscribers,
                deliveries,
                http=http,
                secrets=box,
                clock=clock,
                metrics=Metrics(),
            ),
            http=http,
            clock=clock,
            metrics=Metrics(),
            ask_within=SOON,
            dial_within=SOON,
        )
        token = await keys.issue(tenant="acme", name="tools", scopes=(Scope.CONTACTS_READ,))
        server = HttpServer(
            [Mounted(routes.operations, deps)],
            keys=keys,
            clock=clock,
            metrics=Metrics(),
            drain=SECOND,
        )
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            )
        )
        yield Api(desk, session)


async def test_a_contact_that_is_forgotten_is_asked_for_again(api: Api) -> None:
    api.crm.cards = [a_card("1")]
    for _ in range(2):
        assert (await api.get(f"/v1/contacts?number={JANE[1:]}"))[0] == 200
    assert len(api.crm.searches) == 1
    api.crm.cards = [a_card("1", display_name="Renamed")]
    status, receipt = await api.post("/v1/contacts/forget", contact_id="1")
    assert (status, receipt) == (202, {"connections": ["zoho", "second"]})

    async def is_renamed() -> bool:
        _, found = await api.get(f"/v1/contacts?number={JANE[1:]}")
        return bool(found["candidates"][0]["display_name"] == "Renamed")

    await eventually(is_renamed)
    assert await api.audited() == [("forget_contact", "contact 1 at zoho, second")]


async def test_a_number_is_forgotten_at_one_connection(api: Api) -> None:
    await api.get(f"/v1/contacts?number={NOBODY[1:]}")
    assert len(api.crm.searches) == 2  # at both
    spelt = "07700 900999"
    status, _ = await api.post("/v1/contacts/forget", number=spelt, connection="second")
    assert status == 202

    async def is_asked_again() -> bool:
        await api.get(f"/v1/contacts?number={NOBODY[1:]}")
        return len(api.crm.searches) == 3

    await eventually(is_asked_again)
    finder = api.desk.finder()
    await finder.find(about(NOBODY), within=SOON)
    assert await api.audited() == [("forget_contact", "number …999 at second")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"connection": "zoho"}, 422),
        ({"number": "anonymous"}, 422),
        ({"number": LONG}, 422),
        ({"contact_id": ""}, 422),
        ({"contact_id": "1", "connection": "salesforce"}, 404),
        ({"contact_id": "1", "tenant": "globex"}, 422),
    ],
)
async def test_what_is_to_be_forgotten_must_be_told(
    api: Api, body: dict[str, Any], status: int
) -> None:
    assert (await api.post("/v1/contacts/forget", **body))[0] == status
    assert await api.audited() == []


async def test_users_are_read_and_told_with_the_agents_who_are_none(api: Api) -> None:
    assert await api.get("/v1/crm/zoho/users") == (200, {"users": [], "unmatched": {}})
    api.crm.users = (
        CrmUser(user_id="u1", display_name="Ann", email="Ann@Acme.example"),
        CrmUser(user_id="u2", display_name="Eve"),
    )
    assert (await api.post("/v1/crm/zoho/users/sync"))[0] == 202

    async def are_read() -> bool:
        _, found = await api.get("/v1/crm/zoho/users")
        return bool(found["users"])

    await eventually(are_read)
    _, found = await api.get("/v1/crm/zoho/users")
    assert [(user["user_id"], user.get("extension")) for user in found["users"]] == [
        ("u1", "101"),
        ("u2", None),
    ]
    assert list(found["unmatched"]) == ["102"]
    assert await api.audited() == [("sync_users", "users of zoho")]


@pytest.mark.parametrize("path", ["/v1/crm/salesforce/users", "/v1/crm/salesforce/users/sync"])
async def test_there_are_no_users_of_a_connection_that_is_not_there(api: Api, path: str) -> None:
    ask = api.post if path.endswith("sync") else api.get
    assert (await ask(path))[0] == 404
