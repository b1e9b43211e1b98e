"""The HTTP room: a small table of operations behind a real server, asked by a real client."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from typing import Annotated, Any

import aiohttp
import openapi_spec_validator
import pytest
import structlog
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    RootModel,
    SecretStr,
    StringConstraints,
    Tag,
)

from shared.clock import ManualClock
from shared.errors import (
    BadSetting,
    Conflict,
    ContractError,
    Forbidden,
    MeshError,
    NeedsReconnect,
    NotFound,
    OutOfTime,
    PermanentError,
    Rejected,
    Throttled,
    TransientError,
    Unauthenticated,
    Unavailable,
)
from shared.http import openapi
from shared.http.auth import API_KEYS, Caller, KeyBook, Scope
from shared.http.patience import PATIENCE
from shared.http.reading import MAX_BODY_BYTES, MAX_RAW_BYTES
from shared.http.routes import (
    FromBody,
    FromHeader,
    FromKey,
    FromPath,
    FromQuery,
    FromRequest,
    RawAnswer,
    RawRequest,
    Routes,
)
from shared.http.server import HttpServer, Mounted
from shared.http.underway import MAX_AT_ONCE, MAX_STRANGERS_OF_ONE, MAX_STREAMS
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

# -- the operations -------------------------------------------------------------------------


@dataclass
class Deps:
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    news: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    listeners: int = 0
    error: Exception = field(default_factory=lambda: MeshError("none set"))
    came: RawRequest | None = None


routes: Routes[Deps] = Routes(tag="things")


class Empty(BaseModel):
    pass


class OrderIn(BaseModel):
    """What to order."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{2,20}$")]
    note: JsonValue = None


class PlaceOrder(BaseModel):
    caller: FromKey[Caller]
    item_id: FromPath[Annotated[str, StringConstraints(max_length=20)]]
    limit: FromQuery[int] = Field(default=10, ge=1, le=500, description="How many.")
    from_: FromQuery[str | None] = Field(default=None, alias="from")
    idempotency_key: FromHeader[str | None] = Field(default=None, max_length=20)
    body: FromBody[OrderIn]


class Placed(BaseModel):
    tenant: str
    item_id: str
    limit: int
    from_: str | None
    idempotency_key: str | None
    number: str


@routes("POST", "/v1/items/{item_id}/orders", scope=Scope.CALLS_DIAL, status=202)
async def place_order(_: Deps, asked: PlaceOrder) -> Placed:
    """Order an item.

    Twice the same is once.
    """
    return Placed(
        tenant=asked.caller.tenant,
        item_id=asked.item_id,
        limit=asked.limit,
        from_=asked.from_,
        idempotency_key=asked.idempotency_key,
        number=asked.body.number,
    )


class Orders(BaseModel):
    orders: tuple[OrderIn, ...]


class OneOrMany(RootModel[Any]):
    root: Annotated[
        Annotated[Orders, Tag("many")] | Annotated[OrderIn, Tag("number")],
        Discriminator(lambda body: "many" if "orders" in body else "number"),
    ]


class PlaceSome(BaseModel):
    body: FromBody[OneOrMany]


@routes("POST", "/v1/orders", scope=None)
async def place_some(_: Deps, asked: PlaceSome) -> Empty:
    """Order one or many."""
    return Empty()


class AskWho(BaseModel):
    caller: FromKey[Caller]


class Who(BaseModel):
    tenant: str
    key: str
    extension: str | None


def who_is(caller: Caller) -> Who:
    return Who(tenant=caller.tenant, key=caller.key_name, extension=caller.extension)


@routes("GET", "/v1/me", scope=Scope.CALLS_READ, errors=(NotFound,))
async def read_me(_: Deps, asked: AskWho) -> Who:
    """Whose key this is."""
    return who_is(asked.caller)


@routes("GET", "/v1/hook", scope=Scope.CALLS_READ, key_in_query=True)
async def read_hook(_: Deps, asked: AskWho) -> Who:
    """The same, for who can only be given a URL."""
    return who_is(asked.caller)


class Said(BaseModel):
    words: str

    def as_text(self) -> str:
        return self.words


@routes("GET", "/v1/words", scope=None, text=True)
async def read_words(_: Deps, asked: Empty) -> Said:
    """Something to read."""
    return Said(words="extension:101")


@routes("GET", "/v1/fails", scope=None)
async def fail(deps: Deps, _: Empty) -> Said:
    """Raises what it is told to."""
    raise deps.error


@routes("GET", "/v1/ours", scope=None)
async def fail_by_a_model(_: Deps, asked: Empty) -> Said:
    """A fault of ours that looks like one of the request."""
    return Said.model_validate({"words": {"internal": 1}})


@routes("GET", "/v1/slow", scope=None)
async def read_slowly(deps: Deps, _: Empty) -> Said:
    """Waits."""
    deps.waiting += 1
    try:
        await deps.go_on.wait()
    finally:
        deps.waiting -= 1
    return Said(words="done")


class AskAsIAm(BaseModel):
    caller: FromKey[Caller]
    name: FromPath[Annotated[str, StringConstraints(max_length=8)]]
    request: FromRequest[RawRequest]


@routes("POST", "/v1/forms/{name}", scope=Scope.ROUTE_ASK, key_in_query=True, errors=(NotFound,))
async def ask_in_another_form(deps: Deps, asked: AskAsIAm) -> RawAnswer:
    """Asked and answered in a form that somebody else has laid down."""
    deps.came = asked.request
    if asked.request.body == b"unreadable":
        raise ContractError("no form: ?token=abc123")
    if asked.name == "nobody":
        raise NotFound("There is no such form.")
    return RawAnswer(
        content_type="text/xml; charset=koi8-r", body="<да/>".encode("koi8-r"), status=203
    )


@routes("GET", "/v1/forms/{name}", scope=Scope.ROUTE_ASK, key_in_query=True)
async def ask_by_url(deps: Deps, asked: AskAsIAm) -> RawAnswer:
    """The same, by a URL alone."""
    deps.came = asked.request
    return RawAnswer(content_type="text/plain", body=b"")


class SignedOrder(BaseModel):
    request: FromRequest[RawRequest]
    body: FromBody[OrderIn]


@routes("POST", "/v1/signed", scope=None, status=202)
async def place_signed(deps: Deps, asked: SignedOrder) -> Said:
    """An order whose bytes are signed."""
    deps.came = asked.request
    if asked.body.number == "13":
        raise ContractError("body.number: nobody has that")
    return Said(words=asked.body.number)


class Bound(BaseModel):
    variables: dict[str, str]


@routes("GET", "/v1/log-context", scope=None)
async def read_log_context(_: Deps, asked: Empty) -> Bound:
    """What a log line of this request would carry."""
    return Bound(variables=structlog.contextvars.get_contextvars())


class News(BaseModel):
    headline: str
    more: str | None = None

    @property
    def event_name(self) -> str:
        return "news"


class Follow(BaseModel):
    caller: FromKey[Caller]
    topic: FromPath[str]


@routes.stream("/v1/news/{topic}", scope=Scope.POPS_READ, errors=(NotFound,))
async def follow_news(deps: Deps, asked: Follow) -> AsyncIterator[News]:
    """News, as they happen."""
    if asked.topic == "nothing":
        raise NotFound("There is no such topic.")
    return _news(deps)


async def _news(deps: Deps) -> AsyncIterator[News]:
    deps.listeners += 1
    try:
        while (headline := await deps.news.get()) is not None:
            if headline == "crash":
                raise ValueError("the source broke")
            yield News(headline=headline)
    finally:
        deps.listeners -= 1


# -- the server -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Api:
    url: str
    port: int
    keys: KeyBook
    clock: ManualClock
    deps: Deps
    metrics: Metrics
    server: HttpServer
    db: SqliteFile
    store: SqliteStore
    session: aiohttp.ClientSession
    token: str

    async def ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Reply:
        """*key* None: the good one; empty: none at all."""
        token = self.token if key is None else key
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})
        async with self.session.request(method, self.url + path, headers=headers, **more) as found:
            return Reply(found.status, found.headers, await found.text())

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.ask("GET", path, **more)

    async def order(self, **more: Any) -> Reply:
        known: dict[str, Any] = {} if "data" in more else {"json": {"number": "4420"}}
        return await self.ask("POST", "/v1/items/7/orders", **(known | more))

    async def raw(self, data: bytes, content_type: str = "application/json") -> Reply:
        return await self.order(data=data, headers={"Content-Type": content_type})


@asynccontextmanager
async def opened(clock: ManualClock, drain: timedelta) -> AsyncIterator[Api]:
    db = SqliteFile(None)
    await db.open()
    store = SqliteStore(db, clock)
    keys = KeyBook(store.collection(API_KEYS), clock)
    token = await keys.issue(tenant="acme", name="all", scopes=tuple(Scope), extension="101")
    deps, metrics = Deps(), Metrics()
    server = HttpServer(
        [Mounted(routes.operations, deps)],
        keys=keys,
        clock=clock,
        metrics=metrics,
        drain=drain,
        documents={"/openapi.json": lambda: b'{"openapi": "3.1.0"}'},
    )
    port = await server.start("127.0.0.1", 0)
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Api(
                url=f"http://127.0.0.1:{port}",
                port=port,
                keys=keys,
                clock=clock,
                deps=deps,
                metrics=metrics,
                server=server,
                db=db,
                store=store,
                session=session,
                token=token.get_secret_value(),
            )
    finally:
        deps.go_on.set()
        await server.stop()
        await db.close()


@pytest.fixture
async def api(clock: ManualClock) -> AsyncIterator[Api]:
    async with opened(clock, timedelta(seconds=1)) as found:
        yield found


def assert_problem(reply: Reply, status: int, code: str) -> None:
    assert reply.status == status
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert (reply.json["status"], reply.json["code"]) == (status, code)
    assert reply.json["type"] == f"urn:callmesh:problem:{code}"
    assert reply.json["title"]
    assert reply.json["detail"]


def where(reply: Reply) -> set[str]:
    return {fault["where"] for fault in reply.json["errors"]}


# -- keys -----------------------------------------------------------------------------------


async def test_without_a_key_a_stranger_is_told_how_to_send_one(api: Api) -> None:
    reply = await api.get("/v1/me", key="")

    assert_problem(reply, 401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert "X-Api-Key" in reply.json["detail"]
    assert "***" not in reply.json["detail"]


async def test_an_unknown_and_a_revoked_key_are_answered_alike_and_an_expired_one_is_told(
    api: Api,
) -> None:
    """Who has the token may know that it has ended; of a revoked one nothing is kept."""
    soon = api.clock.now() + timedelta(minutes=1)
    read = (Scope.CALLS_READ,)
    expired = await api.keys.issue(tenant="acme", name="old", scopes=read, expires_at=soon)
    revoked = await api.keys.issue(tenant="acme", name="gone", scopes=read)
    for key in (expired, revoked):
        assert (await api.get("/v1/me", key=key.get_secret_value())).status == 200

    await api.clock.advance(timedelta(minutes=1))
    await api.keys.revoke(tenant="acme", name="gone")
    keys = ["cm_unknown", revoked.get_secret_value(), expired.get_secret_value()]
    unknown, gone, ended = [await api.get("/v1/me", key=key) for key in keys]

    assert (gone.status, gone.text) == (401, unknown.text)
    assert_problem(unknown, 401, "unauthenticated")
    assert_problem(ended, 401, "unauthenticated")
    assert f"ended on {soon:%Y-%m-%d %H:%M}" in ended.json["detail"]


@pytest.mark.parametrize(
    "header",
    [
        lambda token: {"Authorization": f"Bearer {token}"},
        lambda token: {"Authorization": f"bearer  {token} "},
        lambda token: {"X-Api-Key": token},
    ],
    ids=["Bearer", "bearer", "X-Api-Key"],
)
async def test_a_key_may_come_in_either_header(
    api: Api, header: Callable[[str], dict[str, str]]
) -> None:
    reply = await api.get("/v1/me", key="", headers=header(api.token))

    assert reply.json == {"tenant": "acme", "key": "all", "extension": "101"}


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dTpw", "x" * 500])
async def test_a_header_without_a_key_is_no_key(api: Api, value: str) -> None:
    reply = await api.get("/v1/me", key="", headers={"Authorization": value})

    assert reply.status == 401


async def test_a_key_of_odd_bytes_is_no_key(api: Api) -> None:
    for line in (b"Authorization: Bearer \xff\xfe", b"X-Api-Key: \xff"):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        async with asyncio.timeout(30):
            assert b"401" in await reader.readline()
        writer.close()


async def test_a_known_key_is_believed_for_minutes_while_the_store_is_away(api: Api) -> None:
    soon = api.clock.now() + timedelta(minutes=10)
    ends = await api.keys.issue(tenant="acme", name="ends", scopes=tuple(Scope), expires_at=soon)
    keys = {"all": api.token, "ends": ends.get_secret_value(), "never seen": "cm_unknown"}
    for name in ("all", "ends"):
        assert (await api.get("/v1/me", key=keys[name])).status == 200

    async def statuses() -> dict[str, int]:
        return {name: (await api.get("/v1/me", key=key)).status for name, key in keys.items()}

    await api.db.close()
    assert await statuses() == {"all": 200, "ends": 200, "never seen": 503}
    await api.clock.advance(timedelta(minutes=10))
    assert await statuses() == {"all": 200, "ends": 401, "never seen": 503}
    await api.clock.advance(timedelta(minutes=6))
    assert await statuses() == {"all": 503, "ends": 503, "never seen": 503}
    await api.db.open()


async def test_a_store_that_hangs_does_not_hold_up_a_known_key(api: Api) -> None:
    await api.get("/v1/me")
    await api.clock.advance(timedelta(seconds=5))
    go_on = threading.Event()
    hanging = asyncio.create_task(api.db.read(lambda _: go_on.wait(60)))
    try:
        async with asyncio.timeout(30):
            statuses = [(await api.get("/v1/me")).status for _ in range(20)]
    finally:
        go_on.set()
        await hanging

    assert statuses == [200] * 20


async def test_a_key_that_was_revoked_elsewhere_is_refused_after_seconds(api: Api) -> None:
    await api.get("/v1/me")
    await KeyBook(api.store.collection(API_KEYS), api.clock).revoke(tenant="acme", name="all")
    await api.clock.advance(timedelta(seconds=5))

    assert (await api.get("/v1/me")).status == 401


async def test_a_key_in_the_url_counts_only_where_it_is_allowed(api: Api) -> None:
    allowed = await api.get("/v1/hook", key="", params={"key": api.token})
    elsewhere = await api.get("/v1/me", key="", params={"key": api.token})

    assert (allowed.status, elsewhere.status) == (200, 401)


async def test_a_key_without_the_scope_is_forbidden_and_told_which(api: Api) -> None:
    token = await api.keys.issue(tenant="acme", name="reader", scopes=(Scope.CALLS_READ,))

    reply = await api.order(key=token.get_secret_value())

    assert_problem(reply, 403, "forbidden")
    assert "calls:dial" in reply.json["detail"]


async def test_a_stranger_learns_nothing_of_what_would_be_valid(api: Api) -> None:
    wrong: list[dict[str, Any]] = [
        {"json": {}},
        {"params": {"limit": "x"}},
        {"data": b"{"},
        {"data": b"x" * 10**6},
    ]
    for more in wrong:
        assert (await api.order(key="", **more)).status == 401


async def test_a_key_belongs_to_its_tenant(api: Api) -> None:
    other = await api.keys.issue(tenant="other", name="all", scopes=tuple(Scope))

    assert (await api.get("/v1/me", key=other.get_secret_value())).json["tenant"] == "other"


async def test_two_keys_of_a_tenant_do_not_share_a_name(api: Api) -> None:
    with pytest.raises(Conflict):
        await api.keys.issue(tenant="acme", name="all", scopes=())
    await api.keys.issue(tenant="other", name="all", scopes=())


async def test_a_key_that_was_made_elsewhere_works(api: Api) -> None:
    await api.keys.issue(
        tenant="acme", name="given", scopes=(Scope.CALLS_READ,), token=SecretStr("from-outside")
    )

    assert (await api.get("/v1/me", key="from-outside")).json["key"] == "given"


async def test_of_a_key_only_its_fingerprint_is_kept(api: Api) -> None:
    (kept,) = await api.keys.list("acme")

    assert api.token not in kept.model_dump_json()


async def test_a_key_for_one_extension_acts_for_no_other() -> None:
    bound = Caller(tenant="acme", key_name="k", scopes=frozenset(), extension="101")
    bound.may_act_for("101")
    Caller(tenant="acme", key_name="k", scopes=frozenset()).may_act_for("102")

    with pytest.raises(Forbidden):
        bound.may_act_for("102")


async def test_the_tenant_of_one_request_is_not_in_the_log_of_the_next(api: Api) -> None:
    """Behind a proxy, requests of many tenants come over one connection."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(api.url, connector=connector) as session:
        async with session.get("/v1/me", headers={"X-Api-Key": api.token}) as first:
            assert first.status == 200
            await first.read()
        async with session.get("/v1/log-context") as second:
            assert (await second.json())["variables"] == {}


# -- paths and methods ----------------------------------------------------------------------


async def test_where_nothing_is_there_is_a_problem(api: Api) -> None:
    assert_problem(await api.get("/v1/nothing"), 404, "not_found")


async def test_a_method_that_a_path_does_not_take_is_named_with_those_it_takes(api: Api) -> None:
    reply = await api.ask("DELETE", "/v1/me")

    assert_problem(reply, 405, "method_not_allowed")
    assert "GET" in reply.headers["Allow"]


async def test_a_document_may_be_read_by_anyone(api: Api) -> None:
    reply = await api.get("/openapi.json", key="")

    assert (reply.status, reply.json) == (200, {"openapi": "3.1.0"})


# -- what is asked --------------------------------------------------------------------------


async def test_every_place_of_a_request_is_read(api: Api) -> None:
    reply = await api.ask(
        "POST",
        "/v1/items/a%2Fb/orders",
        params={"limit": "20", "from": "447700900123"},
        headers={"Idempotency-Key": "once"},
        json={"number": "+4420"},
    )

    assert reply.status == 202
    assert reply.json == {
        "tenant": "acme",
        "item_id": "a/b",
        "limit": 20,
        "from_": "447700900123",
        "idempotency_key": "once",
        "number": "+4420",
    }


async def test_what_is_left_out_has_its_default(api: Api) -> None:
    reply = await api.order(params={"from_": "the name that Python uses"})

    assert (reply.status, reply.json["limit"]) == (202, 10)
    assert {"from_", "idempotency_key"} & set(reply.json) == set()


async def test_a_request_cannot_say_who_it_is(api: Api) -> None:
    reply = await api.order(params={"caller": '{"tenant": "other"}'})

    assert reply.json["tenant"] == "acme"


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"json": {"number": "SECRET"}}, "body.number"),
        ({"json": {}}, "body.number"),
        ({"json": {"number": "4420", "numbre": "SECRET"}}, "body.numbre"),
        ({"json": ["SECRET"]}, "body"),
        ({"json": "SECRET"}, "body"),
        ({"params": {"limit": "SECRET"}}, "query.limit"),
        ({"params": {"limit": "0"}}, "query.limit"),
    ],
    ids=str,
)
async def test_a_fault_of_a_request_is_named_by_its_place_and_never_by_its_value(
    api: Api, more: dict[str, Any], place: str
) -> None:
    reply = await api.order(**more)

    assert_problem(reply, 422, "invalid_request")
    assert where(reply) == {place}
    assert all(fault["what"] for fault in reply.json["errors"])
    assert "SECRET" not in reply.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/items/" + "S" * 30 + "/orders", {}),
        ("/v1/items/7/orders", {"Idempotency-Key": "S" * 30}),
    ],
    ids=["path", "header"],
)
async def test_a_fault_in_path_or_header_does_not_repeat_it_either(
    api: Api, path: str, headers: dict[str, str]
) -> None:
    reply = await api.ask("POST", path, headers=headers, json={"number": "4420"})

    assert_problem(reply, 422, "invalid_request")
    assert "SSS" not in reply.text


async def test_all_faults_are_told_at_once(api: Api) -> None:
    reply = await api.order(params={"limit": "x"}, json={"number": "x", "y": 1})

    assert len(reply.json["errors"]) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{'number': 1}",
        b'{"number": "4420"} x',
        b'{"number": NaN}',
        b'{"number": "4420", "note": Infinity}',
        b'{"number": "4420", "note": -Infinity}',
        b'{"number": "\xe9"}',
        b'{"number": "44\n20"}',
        b"[" * 100_000,
        b'{"number": ' + b"9" * 5000 + b"}",
        b"\x00",
    ],
    ids=[
        *("empty", "blank", "open", "quotes", "more", "NaN", "Infinity", "-Infinity"),
        *("Latin-1", "line break", "deep", "huge number", "NUL"),
    ],
)
async def test_a_body_that_is_no_json_is_unreadable(api: Api, data: bytes) -> None:
    assert_problem(await api.raw(data), 400, "unreadable_body")


async def test_json_in_another_encoding_is_unreadable(api: Api) -> None:
    """JSON between systems is UTF-8 (RFC 8259), and the answer says so."""
    assert_problem(await api.raw('{"number": "4420"}'.encode("utf-16")), 400, "unreadable_body")


@pytest.mark.parametrize(
    "note",
    [
        '"\\ud800"',
        '{"\\ud800": 1}',
        "[" * 500 + "]" * 500,
        "1" * 400,
        "-0.0",
        "1e400",
        '{"a": 1, "a": 2}',
    ],
    ids=["half a character", "half a key", "nested", "long number", "zero", "huge", "twice"],
)
async def test_odd_json_is_taken_or_refused_and_never_a_fault_of_ours(api: Api, note: str) -> None:
    reply = await api.raw(f'{{"number": "4420", "note": {note}}}'.encode())

    assert reply.status in {202, 400, 422}


async def test_half_a_character_as_the_name_of_a_field_is_no_fault_of_ours(api: Api) -> None:
    reply = await api.raw(b'{"number": "4420", "\\ud800": 1}')

    assert_problem(reply, 422, "invalid_request")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
async def test_a_body_of_another_kind_is_refused(api: Api, content_type: str) -> None:
    reply = await api.raw(b'{"number": "4420"}', content_type)

    assert_problem(reply, 415, "unsupported_media_type")


async def test_json_may_say_its_charset(api: Api) -> None:
    reply = await api.raw(b'{"number": "4420"}', "application/json; charset=utf-8")

    assert reply.status == 202


async def test_a_body_over_the_bound_is_too_large_also_when_its_length_is_not_told(
    api: Api,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 2):
            yield b" " * 1024

    assert_problem(await api.raw(b" " * (MAX_BODY_BYTES + 1)), 413, "request_entity_too_large")
    streamed = await api.order(data=pieces(), headers={"Content-Type": "application/json"})
    assert_problem(streamed, 413, "request_entity_too_large")


async def send_half(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose body does not come to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = (
        "POST /v1/items/7/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"X-Api-Key: {api.token}\r\nContent-Length: 100\r\n\r\n"
    )
    writer.write(head.encode() + b'{"number"')
    return reader, writer


async def test_strangers_who_send_no_body_keep_nobody_out_who_has_a_key(api: Api) -> None:
    head = (
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\n"
    )
    writers = []
    for _ in range(MAX_STRANGERS_OF_ONE):
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(head)
        writers.append(writer)
    await eventually(lambda: api.clock.sleepers == MAX_STRANGERS_OF_ONE)

    assert (await api.get("/v1/me")).status == 200
    assert_problem(await api.ask("POST", "/v1/orders", key="", json={}), 503, "unavailable")
    for writer in writers:
        writer.close()
    await eventually(lambda: api.clock.sleepers == 0)
    assert (await api.ask("POST", "/v1/orders", key="", json=[])).status == 422


async def test_a_body_that_does_not_come_is_not_waited_for_long(api: Api) -> None:
    reader, writer = await send_half(api)
    await eventually(lambda: api.clock.sleepers == 1)
    await api.clock.advance(PATIENCE)

    async with asyncio.timeout(30):
        assert b"408" in await reader.readline()
    writer.close()


async def test_a_client_that_breaks_its_upload_off_is_no_fault_of_ours(api: Api) -> None:
    _, writer = await send_half(api)
    await eventually(lambda: api.clock.sleepers == 1)
    with structlog.testing.capture_logs() as logs:
        writer.transport.abort()
        await eventually(lambda: api.clock.sleepers == 0)

        def count(status: str) -> float:
            operation = "/v1/items/{item_id}/orders"
            return api.metrics.value("callmesh_http_requests_total", operation, status)

        await eventually(lambda: count("400") == 1)
    assert logs == []


async def test_a_body_at_the_bound_is_read(api: Api) -> None:
    body = b'{"number": "4420"}'

    assert (await api.raw(body + b" " * (MAX_BODY_BYTES - len(body)))).status == 202


@pytest.mark.parametrize(
    ("body", "place", "what"),
    [
        ({}, "body.number", "Field required"),
        ({"number": "44", "note_": 1}, "body.note_", "unknown key; did you mean `note`?"),
        ({"orders": [{"number": "44"}, {}]}, "body.orders.1.number", "Field required"),
    ],
)
async def test_a_body_that_may_be_one_of_several_is_told_of_by_its_own_places(
    api: Api, body: Any, place: str, what: str
) -> None:
    reply = await api.ask("POST", "/v1/orders", json=body)

    assert_problem(reply, 422, "invalid_request")
    assert reply.json["errors"] == [{"where": place, "what": what}]


# -- requests and answers in somebody else's form ---------------------------------------------


async def test_a_request_comes_whole_and_its_answer_goes_out_as_it_is(api: Api) -> None:
    body = bytes(range(256))
    reply = await api.ask(
        "POST",
        f"/v1/forms/x?key={api.token}&a=1%202&a=3&b=%D0%B4",
        key="",
        data=body,
        headers={"Content-Type": "text/odd", "X-Sign": "abc"},
    )

    assert (reply.status, reply.headers["Content-Type"]) == (203, "text/xml; charset=koi8-r")
    assert reply.text == "<да/>"
    assert reply.headers["X-Trace-Id"]
    came = api.deps.came
    assert came is not None
    assert (came.method, came.peer, came.body) == ("POST", "127.0.0.1", body)
    assert (came.headers["x-sign"], came.headers["content-type"]) == ("abc", "text/odd")
    assert came.origin == f"http://127.0.0.1:{api.port}"
    assert came.target == f"/v1/forms/x?key={api.token}&a=1%202&a=3&b=%D0%B4"
    assert {**came.query} == {"key": api.token, "a": "3", "b": "д"}


async def test_what_a_request_held_is_not_in_its_repr(api: Api) -> None:
    await api.ask("POST", "/v1/forms/x?secret=in-the-url", data=b"in-the-body")
    shown = repr(api.deps.came)
    assert "in-the" not in shown
    assert api.token not in shown


async def test_a_request_by_url_alone_is_one(api: Api) -> None:
    reply = await api.get("/v1/forms/x?a=1")
    assert (reply.status, reply.text) == (200, "")
    assert api.deps.came is not None
    assert (api.deps.came.method, api.deps.came.body) == ("GET", b"")


async def test_of_a_head_that_comes_twice_the_first_counts(api: Api) -> None:
    """As for whoever checks a signature: a second one must not be read in its place."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = (
        f"GET /v1/forms/x HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.token}\r\n"
        "X-Sign: one\r\nx-sign: two\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    assert b"200" in await reader.readline()
    await reader.read()
    writer.close()
    assert api.deps.came is not None
    assert api.deps.came.headers["x-sign"] == "one"


async def test_odd_bytes_in_a_head_and_a_url_break_nothing(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = (
        f"GET /v1/forms/x?a=%ff&b=\xfe HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.token}\r\n"
        "X-Odd: \xe9\xff\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode("latin-1"))
    status = await reader.readline()
    await reader.read()
    writer.close()
    assert b"500" not in status
    if api.deps.came is not None:
        api.deps.came.model_dump_json(exclude={"body"})  # it can be kept


async def test_what_its_handler_cannot_read_is_a_body_that_cannot_be_read(api: Api) -> None:
    reply = await api.ask("POST", "/v1/forms/x", data=b"unreadable")
    assert_problem(reply, 400, "unreadable_body")
    assert "abc123" not in reply.text
    assert_problem(await api.ask("POST", "/v1/forms/nobody", data=b""), 404, "not_found")
    assert_problem(await api.ask("POST", "/v1/forms/too-long-a-name"), 422, "invalid_request")


async def test_a_stranger_s_body_is_not_read(api: Api) -> None:
    reply = await api.ask("POST", "/v1/forms/x", key="", data=BytesIO(b"x" * (MAX_RAW_BYTES + 1)))
    assert_problem(reply, 401, "unauthenticated")
    assert api.deps.came is None


@pytest.mark.parametrize(
    ("path", "bound"), [("/v1/forms/x", MAX_RAW_BYTES), ("/v1/signed", MAX_BODY_BYTES)]
)
async def test_a_whole_request_has_a_bound(api: Api, path: str, bound: int) -> None:
    body = b'{"number": "4420"}'
    json_head = {"Content-Type": "application/json"}
    there = body + b" " * (bound - len(body))
    assert (await api.ask("POST", path, data=BytesIO(there), headers=json_head)).status < 300
    over = await api.ask("POST", path, data=BytesIO(there + b" "), headers=json_head)
    assert_problem(over, 413, "request_entity_too_large")


async def test_a_signed_body_is_checked_as_any_and_there_as_it_came(api: Api) -> None:
    data = b'{"number":   "4420"}'
    reply = await api.ask(
        "POST", "/v1/signed", data=data, headers={"Content-Type": "application/json"}
    )
    assert (reply.status, reply.json) == (202, {"words": "4420"})
    assert api.deps.came is not None
    assert api.deps.came.body == data


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "unreadable_body"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "application/json", 422, "invalid_request"),
        # The handler has a model of it: a fault is one of the request, not of its form.
        (b'{"number": "13"}', "application/json", 422, "contract_violation"),
    ],
)
async def test_a_signed_body_that_is_wrong_is_told_as_any(
    api: Api, data: bytes, content_type: str, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type}
    reply = await api.ask("POST", "/v1/signed", data=data, headers=headers)
    assert_problem(reply, status, code)


# -- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthenticated("Say who you are."), 401),
        (Forbidden("Not you."), 403),
        (NotFound("There is no such thing."), 404),
        (Conflict("It was changed meanwhile."), 409),
        (ContractError("body.number: no number."), 422),
        (Rejected("The CRM refused it."), 502),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
async def test_an_error_is_answered_by_its_class(api: Api, error: MeshError, status: int) -> None:
    api.deps.error = error

    reply = await api.get("/v1/fails")

    assert_problem(reply, status, error.code)
    assert reply.json["detail"] == error.message
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Unavailable("The broker is away."), None),
        (OutOfTime("No answer."), None),
        (TransientError("Later."), None),
        (NeedsReconnect("Connect it again."), None),
        (Throttled("Slow down.", retry_after=timedelta(seconds=7.2)), "8"),
        (Unavailable("Soon.", retry_after=timedelta(milliseconds=1)), "1"),
    ],
    ids=lambda value: getattr(value, "code", str(value)),
)
async def test_what_may_work_later_says_when(api: Api, error: MeshError, wait: str | None) -> None:
    api.deps.error = error

    reply = await api.get("/v1/fails")

    assert_problem(reply, 503, error.code)
    assert int(reply.headers["Retry-After"]) > 0
    assert wait in {None, reply.headers["Retry-After"]}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret internals"),
        KeyError("secret internals"),
        TimeoutError("secret internals"),
        PermanentError("secret internals"),
        BadSetting("secret internals"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_fault_of_ours_shows_nothing_but_its_trace(api: Api, error: Exception) -> None:
    api.deps.error = error

    reply = await api.get("/v1/fails")

    assert reply.status == 500
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert "internals" not in reply.text
    assert reply.headers["X-Trace-Id"]


async def test_a_model_that_we_fill_wrongly_is_a_fault_of_ours(api: Api) -> None:
    reply = await api.get("/v1/ours")

    assert reply.status == 500
    assert "words" not in reply.text


async def test_a_credential_in_an_error_is_blotted_out(api: Api) -> None:
    api.deps.error = Rejected("https://user:hunter2@crm.example?token=abc123 refused")

    reply = await api.get("/v1/fails")

    assert "hunter2" not in reply.text
    assert "abc123" not in reply.text


async def test_requests_are_counted_by_the_pattern_of_their_path(api: Api) -> None:
    """Ids in a label would make a metric without end."""
    await api.order()
    await api.get("/v1/nothing/at/all")

    def count(operation: str, status: str) -> float:
        return api.metrics.value("callmesh_http_requests_total", operation, status)

    assert count("/v1/items/{item_id}/orders", "202") == 1
    assert count("unknown", "404") == 1


# -- traces ---------------------------------------------------------------------------------

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/v1/me", None, 200),
        ("/v1/me", "", 401),
        ("/v1/nothing", None, 404),
        ("/v1/fails", "", 500),
    ],
)
async def test_every_answer_has_a_trace_id_of_its_own(
    api: Api, path: str, key: str | None, status: int
) -> None:
    first, second = [await api.get(path, key=key) for _ in range(2)]

    assert (first.status, second.status) == (status, status)
    ids = {reply.headers["X-Trace-Id"] for reply in (first, second)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", trace) for trace in ids)


async def test_a_trace_that_the_client_began_is_followed(api: Api) -> None:
    reply = await api.get("/v1/me", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})

    assert reply.headers["X-Trace-Id"] == TRACE


@pytest.mark.parametrize(
    "header", ["", "x", f"00-{TRACE}", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{TRACE}-x-01"]
)
async def test_a_broken_trace_breaks_nothing(api: Api, header: str) -> None:
    reply = await api.get("/v1/me", headers={"traceparent": header})

    assert reply.status == 200
    assert reply.headers["X-Trace-Id"] not in {TRACE, "0" * 32}


# -- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "extension:101"),
        ("text/plain", "extension:101"),
        ("text/html", "extension:101"),
        ("application/json", '{"words":"extension:101"}'),
        ("application/json, text/plain;q=0.5", '{"words":"extension:101"}'),
    ],
)
async def test_a_text_is_json_for_who_asks_for_json(api: Api, accept: str, expected: str) -> None:
    """A dialplan's CURL() accepts anything and reads the text as it is."""
    reply = await api.get("/v1/words", headers={"Accept": accept})

    assert reply.text == expected


# -- streams --------------------------------------------------------------------------------


@dataclass
class Stream:
    response: aiohttp.ClientResponse

    async def frame(self) -> bytes:
        """The next event; empty at the end."""
        async with asyncio.timeout(30):
            found = b""
            while line := await self.response.content.readline():
                found += line
                if line == b"\n":
                    break
            return found


@asynccontextmanager
async def following(api: Api, topic: str = "phones") -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.session.get(f"{api.url}/v1/news/{topic}", headers=headers) as response:
        assert response.status == 200
        yield Stream(response)


async def test_a_stream_sends_each_event_as_a_frame_and_ends_with_its_source(api: Api) -> None:
    async with following(api) as stream:
        for headline in ("first", "line\nbreak", "Анна"):
            api.deps.news.put_nowait(headline)
        api.deps.news.put_nowait(None)

        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert await stream.frame() == b'event: news\ndata: {"headline":"first"}\n\n'
        assert await stream.frame() == b'event: news\ndata: {"headline":"line\\nbreak"}\n\n'
        assert "Анна" in (await stream.frame()).decode()
        assert await stream.frame() == b""
    await eventually(lambda: api.deps.listeners == 0)


async def test_an_event_comes_while_the_stream_is_open(api: Api) -> None:
    async with following(api) as stream:
        for headline in ("one", "two"):
            api.deps.news.put_nowait(headline)
            assert headline.encode() in await stream.frame()


async def test_a_stream_that_is_refused_is_a_problem_like_any_other(api: Api) -> None:
    assert_problem(await api.get("/v1/news/nothing"), 404, "not_found")
    assert_problem(await api.get("/v1/news/phones", key=""), 401, "unauthenticated")


async def test_when_the_client_goes_away_the_source_is_closed(api: Api) -> None:
    async with following(api) as stream:
        await eventually(lambda: api.deps.listeners == 1)
        assert api.metrics.value("callmesh_live_streams") == 1
        stream.response.close()

    async def closed() -> bool:
        api.deps.news.put_nowait("is anybody there?")
        return api.deps.listeners == 0

    await eventually(closed)
    await eventually(lambda: api.metrics.value("callmesh_live_streams") == 0)


async def test_a_source_that_breaks_ends_its_stream_and_sends_no_second_answer(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"GET /v1/news/phones HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.token}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    for headline in ("fine", "crash"):
        api.deps.news.put_nowait(headline)
    async with asyncio.timeout(30):
        heard = await reader.read()
    writer.close()

    assert b"fine" in heard
    assert heard.count(b"HTTP/1.1") == 1
    assert api.deps.listeners == 0


async def test_a_stop_ends_streams_at_once_however_long_requests_may_drain(
    clock: ManualClock,
) -> None:
    async with opened(clock, timedelta(minutes=1)) as api, following(api) as stream:
        await eventually(lambda: api.deps.listeners == 1)
        async with asyncio.timeout(30):
            await api.server.stop()

        assert await stream.frame() == b""
        assert api.deps.listeners == 0


@asynccontextmanager
async def one_that_does_not_read(api: Api) -> AsyncIterator[None]:
    """Its stream is full up to the brim: news wait for their way out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1024)
    head = f"GET /v1/news/phones HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.token}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(100):
        api.deps.news.put_nowait("x" * 10**6)
    await eventually(lambda: 0 < api.deps.news.qsize() < 100)
    # Each write waits with a clock of its own; one that stays is one that is stuck.
    waiting = -1

    async def stuck() -> bool:
        nonlocal waiting
        before, waiting = waiting, api.deps.news.qsize()
        # Beside it the stream's next beat, and the next look at its key.
        return before == waiting and api.clock.sleepers == 3

    await eventually(stuck)
    yield
    writer.transport.abort()
    del reader


async def test_a_client_that_does_not_read_is_cut_off(api: Api) -> None:
    async def is_cut_off() -> bool:
        # The system's buffers may grow once more, and then it is the next write that waits.
        await api.clock.advance(PATIENCE)
        return api.deps.listeners == 0

    async with one_that_does_not_read(api):
        await eventually(is_cut_off)
        await eventually(lambda: api.metrics.value("callmesh_live_streams") == 0)


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(clock: ManualClock) -> None:
    async with opened(clock, timedelta(minutes=1)) as api, one_that_does_not_read(api):
        async with asyncio.timeout(30):
            await api.server.stop()

        assert api.deps.listeners == 0


async def test_a_key_has_so_many_streams_and_no_more(api: Api) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS):
            await stack.enter_async_context(following(api))

        assert_problem(await api.get("/v1/news/phones"), 503, "throttled")
        other = await api.keys.issue(tenant="other", name="all", scopes=tuple(Scope))
        headers = {"X-Api-Key": other.get_secret_value()}
        async with api.session.get(f"{api.url}/v1/news/phones", headers=headers) as response:
            assert response.status == 200

        for _ in range(MAX_STREAMS + 1):
            api.deps.news.put_nowait(None)
        await eventually(lambda: api.metrics.value("callmesh_live_streams") == 0)
        async with following(api):
            pass


# -- stop and overload ----------------------------------------------------------------------


async def test_a_stop_lets_a_request_finish_and_takes_no_new_one(clock: ManualClock) -> None:
    async with opened(clock, timedelta(seconds=30)) as api:
        asked = asyncio.create_task(api.get("/v1/slow"))
        await eventually(lambda: api.deps.waiting == 1)
        stopping = asyncio.create_task(api.server.stop())

        async def refuses() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            except OSError:
                return True
            writer.close()
            return False

        await eventually(refuses)
        api.deps.go_on.set()

        assert (await asked).json == {"words": "done"}
        await stopping


async def test_a_stop_waits_no_longer_than_its_drain(clock: ManualClock) -> None:
    async with opened(clock, timedelta(seconds=1)) as api:
        asked = asyncio.create_task(api.get("/v1/slow"))
        await eventually(lambda: api.deps.waiting == 1)
        async with asyncio.timeout(30):
            await api.server.stop()

        with pytest.raises(aiohttp.ClientError):
            await asked


async def test_more_requests_than_are_taken_at_once_are_told_to_come_back(api: Api) -> None:
    under_way = [asyncio.create_task(api.get("/v1/slow")) for _ in range(MAX_AT_ONCE)]
    await eventually(lambda: api.deps.waiting == MAX_AT_ONCE)

    refused = await api.get("/v1/me")
    api.deps.go_on.set()
    done = await asyncio.gather(*under_way)

    assert_problem(refused, 503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert {reply.status for reply in done} == {200}
    assert (await api.get("/v1/me")).status == 200


async def test_streams_are_not_among_the_requests_under_way(api: Api) -> None:
    async with following(api):
        await eventually(lambda: api.deps.listeners == 1)
        under_way = [asyncio.create_task(api.get("/v1/slow")) for _ in range(MAX_AT_ONCE)]
        await eventually(lambda: api.deps.waiting == MAX_AT_ONCE)
        api.deps.go_on.set()

        assert {reply.status for reply in await asyncio.gather(*under_way)} == {200}


# -- OpenAPI --------------------------------------------------------------------------------


def the_document() -> Any:
    return openapi.build("things", "1.0.0", routes.operations)


def operation(path: str, method: str = "get") -> Any:
    return the_document()["paths"][path][method]


def test_the_document_is_openapi_3_1() -> None:
    document = json.loads(json.dumps(the_document()))

    openapi_spec_validator.validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "things"


def test_the_document_has_every_operation_under_its_own_name() -> None:
    document = the_document()
    found = {
        (path, method, described["operationId"])
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }

    assert found == {(o.path, o.method.lower(), o.operation_id) for o in routes.operations}


def test_the_document_names_the_scope_that_a_key_needs() -> None:
    described = operation("/v1/items/{item_id}/orders", "post")

    assert described["summary"] == "Order an item."
    assert described["description"].startswith("Twice the same is once.")
    assert "`calls:dial`" in described["description"]
    assert described["security"] == [{"bearer": []}, {"header": []}]


def test_the_document_allows_a_key_in_the_url_only_where_it_is_taken() -> None:
    assert {"query": []} in operation("/v1/hook")["security"]
    assert {"query": []} not in operation("/v1/me")["security"]
    assert "security" not in operation("/v1/words")


def test_the_document_tells_each_parameter_by_the_name_that_is_sent() -> None:
    described = operation("/v1/items/{item_id}/orders", "post")
    found = {p["name"]: (p["in"], p["required"]) for p in described["parameters"]}

    assert found == {
        "item_id": ("path", True),
        "limit": ("query", False),
        "from": ("query", False),
        "Idempotency-Key": ("header", False),
    }
    limit = next(p for p in described["parameters"] if p["name"] == "limit")
    assert (limit["schema"]["type"], limit["schema"]["maximum"]) == ("integer", 500)
    assert limit["description"] == "How many."
    assert described["requestBody"]["required"] is True


def test_the_document_tells_what_may_go_wrong() -> None:
    order = operation("/v1/items/{item_id}/orders", "post")["responses"]
    me = operation("/v1/me")["responses"]

    assert set(order) == {*("202", "400", "401", "403", "408", "413", "415", "422", "429", "503")}
    assert {"401", "403", "404", "503"} <= set(me)
    assert "not_found" in me["404"]["description"]
    assert list(me["404"]["content"]) == ["application/problem+json"]


def test_the_document_tells_the_kinds_of_an_answer() -> None:
    def kinds(path: str) -> set[str]:
        return set(operation(path)["responses"]["200"]["content"])

    assert kinds("/v1/me") == {"application/json"}
    assert kinds("/v1/words") == {"text/plain", "application/json"}
    assert kinds("/v1/news/{topic}") == {"text/event-stream"}
    assert kinds("/v1/forms/{name}") == {"*/*"}
    assert "RawAnswer" not in the_document()["components"]["schemas"]


def test_the_document_tells_what_may_be_sent_where_the_form_is_somebody_else_s() -> None:
    form, by_url = operation("/v1/forms/{name}", "post"), operation("/v1/forms/{name}")
    signed = operation("/v1/signed", "post")

    assert form["requestBody"] == {"content": {"*/*": {}}}
    assert "requestBody" not in by_url
    assert list(signed["requestBody"]["content"]) == ["application/json"]
    assert {p["name"] for p in form["parameters"]} == {"name"}
    assert set(form["responses"]) == {
        *("200", "400", "401", "403", "404", "408", "413", "422", "429", "503")
    }
    assert set(by_url["responses"]) == {"200", "400", "401", "403", "422", "429", "503"}
    assert set(signed["responses"]) == {"202", "400", "408", "413", "415", "422"}
