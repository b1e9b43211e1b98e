"""Routing over the sandbox CRM and an embedded store, asked without calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from services.routing import decisions_http, explain_http
from services.routing.app import deciding_of
from services.routing.decisions_http import DecisionDeps
from services.routing.explain import Explainer
from services.routing.explain_http import ExplainDeps
from services.routing.store import DECISIONS, DecisionLog
from shared.bus.embedded import EmbeddedBus
from shared.clock import SystemClock
from shared.crm.registry import Templates
from shared.http.auth import API_KEYS, KEY_USES, KeyBook, KeyUses, Scope
from shared.http.server import HttpServer, Mounted
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.runtime.requests import RequestLog
from shared.runtime.service import Platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.site import TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.apply import carry_out, plan
from shared.site.book import SiteBook
from shared.site.documents import SITES, Stored
from shared.site.file import read_site_file
from shared.site.parts import Sealing, Typed
from shared.site.rulebook import RuleBook
from shared.site.rules.rule import RoutingRule
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE

SECOND = timedelta(seconds=1)
DID = "442079460000"
#: SILVER, GOLD and nobody in the sandbox CRM; the rule `by-tier` sends them to 101, support, 102.
JANE, GRACE, NOBODY = "+447700900123", "07700900145", "+447700900999"


class ExplainDesk:
    """Made by :func:`opened`; ``key`` has every scope."""

    clock = SystemClock()

    def __init__(self, db: SqliteFile, crm: SandboxCrm) -> None:
        self.crm = crm
        store = SqliteStore(db, self.clock)
        self.platform = Platform(
            bus=EmbeddedBus(db, clock=self.clock, metrics=Metrics()),
            store=store,
            clock=self.clock,
            metrics=Metrics(),
            secrets=SecretBox([new_key()]),
            http=HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X"))),
            site=SiteBook(store.collection(SITES), self.clock, poll=SECOND),
            rules=RuleBook(Stored.in_store(store).rules, self.clock, poll=SECOND),
            keys=KeyBook(store.collection(API_KEYS), self.clock),
            key_uses=KeyUses(store.collection(KEY_USES), self.clock),
            templates=Templates(),
            requests=RequestLog.in_store(store, clock=self.clock, metrics=Metrics()),
        )
        self.desk = self.platform.rule_desk()
        self.connections = self.platform.crm_connections()
        self.finder = self.platform.finder(self.connections)
        deciding, self.shelves = deciding_of(self.platform, self.connections, self.finder)
        self.staff = deciding.asking.staff
        self.explainer = Explainer(
            deciding,
            self.shelves,
            self.platform.site,
            self.platform.rules,
            self.platform.secrets,
        )
        self.decisions = DecisionLog(
            store.collection(DECISIONS), self.clock, keep=timedelta(days=1)
        )
        self.session: aiohttp.ClientSession
        self.key = ""

    async def apply(self, text: str) -> None:
        sealing = Sealing(self.platform.secrets, {}, Path())
        sites = read_site_file(text, source="test", sealing=sealing, around=HERE)
        await carry_out(await plan(list(sites), self.desk, by="test", prune=True), self.desk)
        await self.refresh()

    async def put(self, **document: Any) -> None:
        """A rule as the API takes it."""
        rule = RoutingRule.model_validate(document, context=Typed(self.platform.secrets, {}))
        await self.desk.put_rule(TENANT, rule, by="test")
        await self.refresh()

    async def refresh(self) -> None:
        await self.platform.site.refresh()
        await self.platform.rules.refresh()
        await self.shelves.refresh()

    async def a_key(self, *scopes: Scope, tenant: str = TENANT) -> str:
        name = f"k{len(await self.platform.keys.list(tenant))}"
        token = await self.platform.keys.issue(tenant=tenant, name=name, scopes=scopes)
        return token.get_secret_value()

    async def post(self, path: str, body: Any, key: str | None = None) -> tuple[int, Any]:
        headers = {"X-Api-Key": key or self.key}
        async with self.session.post(path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, key: str | None = None, **query: str | int) -> tuple[int, Any]:
        headers = {"X-Api-Key": key or self.key}
        async with self.session.get(path, params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    async def explained(self, **asked: Any) -> Mapping[str, Any]:
        """The decision, of a call to DID from *from_*."""
        asked = {"did": DID, **asked}
        if "from_" in asked:
            asked["from"] = asked.pop("from_")
        status, answer = await self.post("/v1/routes/explain", asked)
        assert status == 200, answer
        return dict(answer)


def to(decision: Mapping[str, Any]) -> str:
    """``queue:support: row_matched``."""
    place = decision.get("destination")
    return (
        f"{place['kind']}:{place['target']}: {decision['reason']}" if place else decision["reason"]
    )


def rule(**changes: Any) -> dict[str, Any]:
    """The rule `by-tier` as the sandbox's site file has it, with *changes*."""
    known: dict[str, Any] = {
        "name": "by-tier",
        "dids": [DID],
        "crm": "zoho",
        "modules": ["Contacts"],
        "field": "Tier",
        "within": "10s",
        "rows": [{"operator": "=", "value": "GOLD", "destination": "queue:support"}],
        "default": "extension:102",
    }
    return {**known, **changes}


@asynccontextmanager
async def opened(*, batch_within: timedelta = 40 * SECOND) -> AsyncIterator[ExplainDesk]:
    async with AsyncExitStack() as stack:
        db = SqliteFile(None)
        await db.open()
        stack.push_async_callback(db.close)
        crm = SandboxCrm()
        url = f"http://127.0.0.1:{await crm.start()}"
        stack.push_async_callback(crm.stop)
        desk = ExplainDesk(db, crm)
        await stack.enter_async_context(desk.platform.http)
        stack.push_async_callback(desk.connections.close)
        stack.push_async_callback(desk.finder.close)
        await desk.apply(site_file(crm_url=url, ami_port=1, within_s=10))
        server = HttpServer(
            [
                Mounted(explain_http.routes.operations, ExplainDeps(desk.explainer, batch_within)),
                Mounted(
                    decisions_http.routes.operations,
                    DecisionDeps(desk.decisions, desk.platform.site),
                ),
            ],
            keys=desk.platform.keys,
            clock=desk.clock,
            metrics=Metrics(),
            drain=SECOND,
        )
        origin = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
        stack.push_async_callback(server.stop)
        desk.session = await stack.enter_async_context(aiohttp.ClientSession(origin))
        desk.key = await desk.a_key(*Scope)
        yield desk
