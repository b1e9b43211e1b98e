"""What tests of sessions stand on: a store that can go away, a CRM that writes down what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pymongo
from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from shared.clock import Clock, SystemClock
from shared.crm.form.access import Auth
from shared.crm.rendering import Scope
from shared.crm.sessions.consent import CONSENTS, Connected
from shared.crm.sessions.keeper import SESSIONS, Session, SessionDocument, SessionKeeper
from shared.crm.sessions.session import fingerprint, session_key
from shared.errors import Unavailable
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SandboxCrm
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import Collection, Condition, DocumentStore, Find, Page
from shared.storage.sqlite import SqliteStore
from shared.testing.patience import Patient

T = TypeVar("T")

#: As the Zoho template has it, with consent or without.
OAUTH: dict[str, Any] = {
    "grant": "refresh_token",
    "authorize_url": "{{.url}}/oauth/v2/auth",
    "token_url": "{{.url}}/oauth/v2/token",
    "take": {"api_base": "api_domain"},
}


class Sessions(Collection[SessionDocument]):
    """The real collection, from which a test takes the store away."""

    def __init__(self, real: Collection[SessionDocument]) -> None:
        self._real = real
        self.is_away = False
        #: Writes that carry a refresh token fail, as they do when the store goes away just then.
        self.keeps_no_tokens = False
        #: Of real time, for a write: a disk that is slow.
        self.writes_in = timedelta()

    def _check(self, document: SessionDocument | None = None) -> None:
        if self.is_away:
            raise Unavailable("the store is away")
        if self.keeps_no_tokens and document is not None and document.refresh_token is not None:
            raise Unavailable("the store is away")

    async def get(self, key: str) -> SessionDocument:
        self._check()
        return await self._real.get(key)

    async def add(self, document: SessionDocument) -> None:
        self._check(document)
        await self._real.add(document)

    async def add_all(self, documents: Sequence[SessionDocument]) -> None:
        self._check()
        await self._real.add_all(documents)

    async def put(self, document: SessionDocument) -> None:
        self._check(document)
        await self._real.put(document)

    async def replace(self, document: SessionDocument) -> SessionDocument:
        self._check(document)
        await SystemClock().sleep(self.writes_in)
        return await self._real.replace(document)

    async def delete(self, key: str) -> bool:
        self._check()
        return await self._real.delete(key)

    async def page(self, query: Find) -> Page[SessionDocument]:
        self._check()
        return await self._real.page(query)

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        self._check()
        return await self._real.count(what, **equals)


class World:
    """One store, one CRM; replicas of a keeper over them."""

    def __init__(self, store: DocumentStore, crm: SandboxCrm, url: str, clock: Clock) -> None:
        self.store = store
        self.crm = crm
        self.url = url
        self.clock = clock
        self.box = SecretBox([new_key()])
        self.http = HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
        self.sessions = Sessions(store.collection(SESSIONS))
        self.keepers: list[SessionKeeper] = []

    def connected(
        self, auth: Mapping[str, Any] | None = None, *, name: str | None = None, **own: str | None
    ) -> Connected:
        """A connection by *auth*, or by OAUTH and what *own* says of its credentials."""
        values = {
            "url": self.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
            **own,
        }
        known = {name: value for name, value in values.items() if value is not None}
        return Connected(
            tenant="acme",
            connection=name or "crm",
            auth=Auth.model_validate(auth if auth is not None else {"oauth2": OAUTH}),
            scope=Scope(known),
            grant=fingerprint(known),
        )

    def replica(
        self, connected: Connected | None = None, *, sessions: Sessions | None = None
    ) -> SessionKeeper:
        """Another process with the same store, or with *sessions*, and a memory of its own."""
        of = connected or self.connected()
        keeper = SessionKeeper(
            of.auth,
            tenant=of.tenant,
            connection=of.connection,
            scope=of.scope,
            grant=of.grant,
            sessions=sessions or self.sessions,
            glance=Patient(self.clock),
            http=self.http,
            secrets=self.box,
            clock=self.clock,
        )
        self.keepers.append(keeper)
        return keeper

    def another_store_client(self) -> Sessions:
        return Sessions(self.store.collection(SESSIONS))

    async def document(self, connected: Connected | None = None) -> SessionDocument:
        of = connected or self.connected()
        key = session_key(of.tenant, of.connection, of.auth, of.scope)
        return await self.store.collection(SESSIONS).get(key)

    async def accepts(self, session: Session) -> bool:
        """Whether the sandbox takes the session's token."""
        answer = await self.http.send(
            "GET",
            URL(f"{self.url}/crm/v2/users"),
            within=timedelta(seconds=5),
            headers={"Authorization": f"Zoho-oauthtoken {session.variables['AccessToken']}"},
        )
        return answer.status == 200


@asynccontextmanager
async def a_store(
    kind: str, clock: Clock, mongo_url: Callable[[], str]
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
        for spec in (SESSIONS.name, CONSENTS.name):
            client["callmesh_test"].drop_collection(prefix + spec)


@asynccontextmanager
async def a_world(store: DocumentStore, clock: Clock) -> AsyncIterator[World]:
    crm = SandboxCrm(clock=clock)
    world = World(store, crm, f"http://127.0.0.1:{await crm.start()}", clock)
    async with world.http:
        yield world
        await asyncio.gather(*(keeper.close() for keeper in world.keepers))
    await crm.stop()


@dataclass(frozen=True, slots=True)
class Got:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    form: dict[str, str]
    json: Any


@dataclass
class Scripted:
    """A CRM that answers as its test says, and remembers what it was asked."""

    answer: Callable[[Got], Any | Awaitable[Any]]
    got: list[Got] = field(default_factory=list)
    url: str = ""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        is_json = request.content_type == "application/json"
        form = {} if is_json else {n: str(v) for n, v in (await request.post()).items()}
        got = Got(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            form,
            await request.json() if is_json and request.can_read_body else None,
        )
        self.got.append(got)
        found = self.answer(got)
        if isinstance(found, Awaitable):
            found = await found
        return found if isinstance(found, web.StreamResponse) else web.json_response(found)


@asynccontextmanager
async def scripted(answer: Callable[[Got], Any | Awaitable[Any]]) -> AsyncIterator[Scripted]:
    crm = Scripted(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", crm._handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield crm
    finally:
        await runner.cleanup()
