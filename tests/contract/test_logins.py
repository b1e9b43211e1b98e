"""Two users of one CRM connection: the connection's own, and one whom a routing rule brings."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from yarl import URL

from shared.clock import ManualClock
from shared.contracts.contacts import ContactCard
from shared.crm.connections import Account, CrmConnections
from shared.crm.engine.connector import TemplateConnector
from shared.crm.finder import Finder, Source
from shared.crm.port import Priority
from shared.crm.registry import Templates
from shared.crm.sessions.keeper import SESSIONS
from shared.crm.turns.breaker import FAILURES
from shared.errors import BadSetting, NeedsReconnect, Throttled, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SandboxCrm
from shared.secrets import SecretBox, new_key
from shared.site.accounts import account_of, question_about
from shared.site.models import CrmConnection, Site
from shared.sqlite import SqliteFile
from shared.storage.port import Find, every
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient
from tests.contract.scripted_crm import Asked, scripted

SOON = timedelta(seconds=5)
JANE = "+447700900123"
SITE = Site(tenant="acme", region="GB")
RULE = "vip-line"
CALLBACK = "https://mesh.example/back"
AN_HOUR = 6
#: A shop that shows each of its users other fields.
SHOP: dict[str, Any] = {
    "schema": 2,
    "name": "shop",
    "title": "Shop",
    "quality": "declared",
    "sources": ["this test"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url", "https": False}],
    "credentials": [{"name": "username", "title": "User"}, {"name": "password", "title": "Word"}],
    "auth": {"basic": "{{.username}}:{{.password}}"},
    "limits": {"rates": [{"requests": AN_HOUR, "per": "1h"}]},
    "phone_formats": ["e164"],
    "contacts": {
        "People": {
            "search": [{"request": {"url": "{{.url}}/p?q={{.Phone}}"}, "records": "people"}],
            "map": {"display_name": "name", "phones": ["phone"]},
        }
    },
    "check": {"url": "{{.url}}/me"},
}


class World:
    """One process over one store."""

    def __init__(self, db: SqliteFile, http: HttpClient, clock: ManualClock, folder: Path) -> None:
        self.clock = clock
        self.box = SecretBox([new_key()])
        self.store = SqliteStore(db, clock)
        self.connections = CrmConnections(
            self.store,
            http=http,
            secrets=self.box,
            clock=clock,
            metrics=Metrics(),
            templates=Templates(folder),
            glance=Patient(clock),
        )
        self.finder = Finder(self.connections, self.store, clock=clock, metrics=Metrics())

    def sealed(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: self.box.seal(SecretStr(value)) for name, value in values.items()}

    async def tier(self, crm: CrmConnection, **whose: Any) -> tuple[Any, Source]:
        """The caller's field as that user sees it."""
        asked = question_about(JANE, site=SITE, crm=crm, fields=("tier", "name"), **whose)
        found = await self.finder.find(asked, within=SOON)
        (card,) = found.candidates
        return card.fields["tier"], found.source

    async def sessions(self) -> list[str]:
        documents = self.store.collection(SESSIONS)
        return sorted([document.key async for document in every(documents, Find())])


@pytest.fixture
async def world(clock: ManualClock, tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(SHOP, sort_keys=False))
    db = SqliteFile(None)
    await db.open()
    async with HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X"))) as http:
        made = World(db, http, clock, tmp_path)
        yield made
        await made.finder.close()
        await made.connections.close()
    await db.close()


# -- basic authentication --------------------------------------------------------------------


def user_of(asked: Asked) -> str:
    return base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()


def shop_answers(asked: Asked) -> Any:
    tiers = {"clerk:c-1": None, "boss:b-1": "GOLD"}
    person = {"id": "1", "name": "Jane", "phone": JANE, "tier": tiers[user_of(asked)]}
    return {"people": [person]}


@asynccontextmanager
async def a_shop(world: World, answers: Any = shop_answers) -> AsyncIterator[tuple[Any, Any, Any]]:
    """The CRM, the connection of the clerk, and the boss as a rule has him."""
    async with scripted(answers) as crm:
        own = world.sealed({"username": "clerk", "password": "c-1"})
        connection = CrmConnection(
            name="shop", template="shop", parameters={"url": crm.url}, credentials=own
        )
        credentials = world.sealed({"username": "boss", "password": "b-1"})
        yield crm, connection, {"credentials": credentials, "login": RULE}


async def test_each_login_sees_its_own_answers(world: World) -> None:
    async with a_shop(world) as (crm, shop, boss):
        assert await world.tier(shop) == (None, Source.CRM)
        assert await world.tier(shop, **boss) == ("GOLD", Source.CRM)
        assert await world.tier(shop) == (None, Source.PROCESS)
        assert await world.tier(shop, **boss) == ("GOLD", Source.PROCESS)
        assert [user_of(asked) for asked in crm.asked] == ["clerk:c-1", "boss:b-1"]


async def test_a_rule_with_other_credentials_does_not_get_the_answers_before(world: World) -> None:
    async with a_shop(world) as (_, shop, boss):
        assert await world.tier(shop, **boss) == ("GOLD", Source.CRM)
        clerk = world.sealed({"username": "clerk", "password": "c-1"})
        assert await world.tier(shop, credentials=clerk, login=RULE) == (None, Source.CRM)


async def test_a_rule_may_bring_a_part_of_the_credentials(world: World) -> None:
    def answers(asked: Asked) -> Any:
        return {"people": [{"id": "1", "name": "Jane", "phone": JANE, "tier": user_of(asked)}]}

    async with a_shop(world, answers) as (_, shop, _boss):
        half = world.sealed({"password": "b-2"})
        assert (await world.tier(shop, credentials=half, login=RULE))[0] == "clerk:b-2"


async def test_a_card_belongs_to_the_connection_whoever_signed_in(world: World) -> None:
    async with a_shop(world) as (_, shop, boss):
        asked = question_about(parse(JANE, "GB"), site=SITE, crm=shop, **boss)
        found = await world.finder.find(asked, within=SOON)
    assert [card.connection for card in found.candidates] == ["shop"]


@pytest.mark.parametrize("change", [{"numbers": [JANE]}, {"contact_id": "1"}])
async def test_a_change_in_the_crm_is_one_for_every_login(
    world: World, change: dict[str, Any]
) -> None:
    async with a_shop(world) as (_, shop, boss):
        assert await world.tier(shop) == (None, Source.CRM)
        assert await world.tier(shop, **boss) == ("GOLD", Source.CRM)
        # An answer is of the moment before the request.
        await world.clock.advance(timedelta(hours=1))
        await world.finder.forget("acme", connection="shop", **change)

        assert await world.tier(shop) == (None, Source.CRM)
        assert await world.tier(shop, **boss) == ("GOLD", Source.CRM)


async def test_the_limits_of_a_connection_are_those_of_all_its_logins(world: World) -> None:
    async with a_shop(world) as (crm, shop, boss):
        ours = world.connections.connector(account_of(SITE, shop))
        theirs = world.connections.connector(account_of(SITE, shop, **boss))
        for connector in (ours, theirs) * (AN_HOUR // 2):
            assert await found(connector)
        with pytest.raises(Throttled):
            await found(theirs)
        assert len(crm.asked) == AN_HOUR


async def test_a_crm_that_is_down_for_one_login_is_left_alone_by_the_other(world: World) -> None:
    async with a_shop(world, lambda _: None) as (crm, shop, boss):
        ours = world.connections.connector(account_of(SITE, shop))
        theirs = world.connections.connector(account_of(SITE, shop, **boss))
        for _ in range(FAILURES):
            with pytest.raises(Unavailable, match="599"):
                await found(ours)
        with pytest.raises(Unavailable, match="left alone"):
            await found(theirs)
        assert len(crm.asked) == FAILURES


async def found(connector: TemplateConnector) -> list[ContactCard]:
    modules = list(connector.manifest.contacts)[:1]
    (answer,) = await connector.search(
        parse(JANE, "GB"),
        modules=modules,
        fields=(),
        card=True,
        within=SOON,
        priority=Priority.ROUTE,
    )
    return list(answer.contacts)


async def test_both_connectors_stay_open(world: World) -> None:
    async with a_shop(world) as (_, shop, boss):
        ours, theirs = account_of(SITE, shop), account_of(SITE, shop, **boss)
        first, second = (world.connections.connector(account) for account in (ours, theirs))
        assert first is not second
        assert world.connections.connector(ours) is first
        assert world.connections.connector(theirs) is second


# -- OAuth -----------------------------------------------------------------------------------


class Zoho:
    """The sandbox, a connection by its first refresh token and a rule by another consent."""

    def __init__(self, world: World, crm: SandboxCrm, url: str, second: str) -> None:
        secrets = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        self.crm = crm
        self.connection = CrmConnection(
            name="zoho",
            template="zoho",
            parameters={"accounts_url": url, "api_url": url, "web_url": url},
            credentials=world.sealed({**secrets, "refresh_token": REFRESH_TOKEN}),
            modules=("Contacts",),
        )
        self.ours = account_of(SITE, self.connection)
        self.theirs = account_of(
            SITE, self.connection, credentials=world.sealed({"refresh_token": second}), login=RULE
        )
        #: Who brings a credential that is no grant.
        self.without = account_of(
            SITE, self.connection, credentials=world.sealed({"client_id": CLIENT_ID}), login="other"
        )


@pytest.fixture
async def zoho(world: World, clock: ManualClock) -> AsyncIterator[Zoho]:
    crm = SandboxCrm(clock=clock)
    url = f"http://127.0.0.1:{await crm.start()}"
    async with HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X"))) as http:
        second = await _another_grant(http, url)
    crm.faults.rotate_refresh_tokens = True
    yield Zoho(world, crm, url, second)
    await crm.stop()


async def _another_grant(http: HttpClient, url: str) -> str:
    """A refresh token of a consent that was given by hand, as an administrator has it."""
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "approve": "1",
    }
    back = await http.send("GET", URL(f"{url}/oauth/v2/auth").with_query(query), within=SOON)
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uri": CALLBACK,
        "code": URL(back.headers["location"]).query["code"],
    }
    address = URL(f"{url}/oauth/v2/token").with_query(form)
    answer = await http.send("POST", address, within=SOON)
    token = yaml.safe_load(answer.body)["refresh_token"]
    assert isinstance(token, str)
    return token


async def asks(world: World, account: Account) -> bool:
    """Whether the CRM answers that login."""
    return len(await found(world.connections.connector(account))) > 0


async def test_two_logins_have_two_sessions_that_are_renewed_apart(
    world: World, zoho: Zoho
) -> None:
    """Each refresh ends the refresh token before it, and one that is used twice ends its family."""
    for _ in range(3):
        for account in (zoho.ours, zoho.theirs):
            assert await asks(world, account)
        zoho.crm.forget_tokens()
        await world.clock.advance(timedelta(minutes=20))
    keys = await world.sessions()
    assert [key.rsplit("/", 1)[0] for key in keys] == ["acme/zoho", f"acme/zoho@{RULE}"]


async def test_a_login_without_a_grant_does_not_spend_the_connections(
    world: World, zoho: Zoho
) -> None:
    with pytest.raises(NeedsReconnect, match="give it the credential refresh_token"):
        await asks(world, zoho.without)
    assert await asks(world, zoho.ours)


async def test_a_session_that_is_over_is_forgotten_alone(world: World, zoho: Zoho) -> None:
    for account in (zoho.ours, zoho.theirs):
        assert await asks(world, account)
    await world.connections.forget(zoho.theirs)
    (key,) = await world.sessions()
    assert key.startswith("acme/zoho/")


async def test_a_consent_is_that_of_the_connection(world: World, zoho: Zoho) -> None:
    assert world.connections.connected(zoho.ours).connection == "zoho"
    with pytest.raises(BadSetting, match="credentials of its own"):
        world.connections.connected(zoho.theirs)
