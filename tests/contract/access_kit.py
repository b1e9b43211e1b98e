"""
The API's users, keys and audit log behind a real server, beside a few operations of this test's:
two tenants, an administrator's key of each, and replicas over one store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import pymongo
import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from services.gateway.access import audit, keys, me, requests, users
from services.gateway.access.desk import AccessDesk
from services.gateway.store import AUDIT, AuditEntry, AuditLog
from shared.clock import ManualClock
from shared.errors import MeshError
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, Caller, KeyBook, KeyUses, Scope
from shared.http.rates import Limits
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.http.server import HttpServer, Mounted
from shared.ids import new_id
from shared.net.guard import networks
from shared.observe.metrics import Metrics
from shared.runtime.requests import REQUESTS, RequestLog
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import Collection, DocumentStore, Find, every
from shared.storage.sqlite import SqliteStore

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
TENANTS = ("acme", "globex")
#: All that an administrator of a tenant may.
ADMIN = tuple(scope for scope in Scope if not scope.startswith("tenants:"))


@dataclass
class Deps:
    access: AccessDesk
    audit: AuditLog
    clock: ManualClock
    requests: RequestLog
    #: What was done, and how many entries the log had then.
    done: list[tuple[str, int]] = field(default_factory=list)
    entries: Collection[AuditEntry] | None = None
    error: Exception | None = None


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    secret: str = ""


class OfThing(BaseModel):
    caller: FromKey[Caller]
    thing: FromPath[str]
    noted: FromQuery[bool] = True


class PutThing(OfThing):
    body: FromBody[Thing]


class Done(BaseModel):
    tenant: str


class Shown(BaseModel):
    thing: str


routes: Routes[Deps] = Routes(tag="things")


async def _do(deps: Deps, asked: OfThing) -> Done:
    if asked.noted:
        await deps.audit.note(
            tenant=asked.caller.tenant,
            key_name=asked.caller.key_name,
            action="do",
            subject=f"thing {asked.thing}",
        )
    there = await deps.entries.count() if deps.entries else 0
    deps.done.append((asked.caller.tenant, there))
    if deps.error is not None:
        raise deps.error
    return Done(tenant=asked.caller.tenant)


@routes("PUT", "/v1/things/{thing}", scope=Scope.SITE_WRITE)
async def put_thing(deps: Deps, asked: PutThing) -> Done:
    """Change it."""
    return await _do(deps, asked)


@routes("DELETE", "/v1/things/{thing}", scope=Scope.SITE_WRITE)
async def delete_thing(deps: Deps, asked: OfThing) -> Done:
    """Remove it."""
    return await _do(deps, asked)


@routes("POST", "/v1/things/{thing}/hook", scope=Scope.HOOKS_WRITE, key_in_query=True)
async def hook_thing(deps: Deps, asked: OfThing) -> Done:
    """What a PBX sends."""
    return Done(tenant=asked.caller.tenant)


@routes("GET", "/v1/things/{thing}", scope=Scope.SITE_READ)
async def read_thing(_: Deps, asked: OfThing) -> Shown:
    """Look at it."""
    return Shown(thing=asked.thing)


class Click(BaseModel):
    token: FromPath[str]


@routes("POST", "/v1/clicks/{token}", scope=None)
async def click(deps: Deps, asked: Click) -> Done:
    """By an address that is a secret."""
    if asked.token != "acme-s3cr3t-token":
        raise deps.error or MeshError("who?")
    await deps.audit.note(tenant="acme", key_name="(click)", action="click", subject="a number")
    return Done(tenant="acme")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    json: Any

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Replica:
    """One gateway."""

    def __init__(
        self,
        store: DocumentStore,
        clock: ManualClock,
        *,
        limits: Limits = Limits(),  # noqa: B008  frozen
        proxies: str = "",
    ) -> None:
        users_ = store.collection(API_USERS)
        self.keys = KeyBook(store.collection(API_KEYS), clock, users=users_)
        self.uses = KeyUses(store.collection(KEY_USES), clock)
        self.audit = AuditLog(store.collection(AUDIT), clock, keep=30 * DAY)
        self.deps = Deps(
            AccessDesk(users_, self.keys, self.uses, clock),
            self.audit,
            clock,
            RequestLog.in_store(store, clock=clock, metrics=Metrics()),
            entries=store.collection(AUDIT),
        )
        tables = [part.routes.operations for part in (users, keys, me, audit, requests)]
        self.operations = [*(one for table in tables for one in table), *routes.operations]
        self.server = HttpServer(
            [Mounted(self.operations, self.deps)],
            keys=self.keys,
            clock=clock,
            metrics=Metrics(),
            drain=SECOND,
            limits=limits,
            uses=self.uses,
            deeds=self.audit,
            is_tenant=lambda tenant: tenant in TENANTS,
            proxies=networks(proxies, setting="X"),
        )
        self.origin = ""


class Api:
    def __init__(
        self, store: DocumentStore, clock: ManualClock, session: aiohttp.ClientSession
    ) -> None:
        self.store = store
        self.clock = clock
        self.session = session
        self.replicas: list[Replica] = []
        #: By tenant: may all that an administrator may.
        self.admin: dict[str, str] = {}
        self.operator = ""

    async def ask(
        self, method: str, path: str, *, key: str | None = None, replica: int = 0, **more: Any
    ) -> Reply:
        headers = {"X-Api-Key": self.admin["acme"] if key is None else key}
        if not headers["X-Api-Key"]:
            headers = {}
        headers |= more.pop("headers", {})
        url = self.replicas[replica].origin + path
        async with self.session.request(method, url, headers=headers, **more) as answer:
            is_json = answer.content_type.endswith("json")
            return Reply(answer.status, answer.headers, await answer.json() if is_json else None)

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.ask("GET", path, **more)

    async def put_user(self, name: str, *scopes: Scope, **more: Any) -> Reply:
        asked = {word: more.pop(word) for word in ("key", "headers", "replica") if word in more}
        body = {"scopes": list(scopes), **more}
        return await self.ask("PUT", f"/v1/users/{name}", json=body, **asked)

    async def make_key(self, user: str, name: str, **more: Any) -> Reply:
        asked = {word: more.pop(word) for word in ("key", "headers", "replica") if word in more}
        path = f"/v1/users/{user}/keys"
        return await self.ask("POST", path, json={"name": name, **more}, **asked)

    async def a_user_with_a_key(self, name: str, *scopes: Scope, **more: Any) -> str:
        """The token."""
        assert (await self.put_user(name, *scopes, **more)).status == 200
        made = await self.make_key(name, f"{name}-key")
        assert made.status == 201, made.json
        token: str = made.json["token"]
        return token

    async def scopes_of(self, token: str, *, replica: int = 0) -> set[str]:
        me = await self.get("/v1/me", key=token, replica=replica)
        return set(me.json["scopes"]) if me.status == 200 else set()

    async def entries(self) -> list[AuditEntry]:
        """Of the audit log, the oldest first."""
        for replica in self.replicas:
            await replica.audit.settle()
        found = self.store.collection(AUDIT)
        return [entry async for entry in every(found, Find(order_by="at", limit=500))]


@asynccontextmanager
async def a_store(
    kind: str, clock: ManualClock, mongo_url: Callable[[], str]
) -> AsyncIterator[DocumentStore]:
    if kind == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, prefix = mongo_url(), f"t{new_id().hex[:10]}."
    store = MongoStore(SecretStr(url), database="callmesh_test", clock=clock, prefix=prefix)
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        for spec in (API_KEYS, API_USERS, KEY_USES, AUDIT, REQUESTS):
            client["callmesh_test"].drop_collection(prefix + spec.name)


@asynccontextmanager
async def opened(
    store: DocumentStore,
    clock: ManualClock,
    *,
    replicas: int = 1,
    limits: Limits = Limits(),  # noqa: B008  frozen
    proxies: str = "",
) -> AsyncIterator[Api]:
    async with AsyncExitStack() as stack:
        # A key that is known is believed where the store is slow; here the store is asked.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("shared.http.keys._WITHIN", timedelta(minutes=1))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        api = Api(store, clock, session)
        for _ in range(replicas):
            one = Replica(store, clock, limits=limits, proxies=proxies)
            one.origin = f"http://127.0.0.1:{await one.server.start('127.0.0.1', 0)}"
            stack.push_async_callback(one.uses.settle)
            stack.push_async_callback(one.audit.close)
            stack.push_async_callback(one.server.stop)
            api.replicas.append(one)
        book = api.replicas[0].keys
        for tenant in TENANTS:
            token = await book.issue(tenant=tenant, name="admin", scopes=ADMIN)
            api.admin[tenant] = token.get_secret_value()
        ops = await book.issue(tenant="acme", name="ops", scopes=tuple(Scope))
        api.operator = ops.get_secret_value()
        yield api
