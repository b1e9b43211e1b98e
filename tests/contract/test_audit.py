"""The audit log: one entry for each request that was to change something, before it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from services.gateway.http import routes as gateway
from services.gateway.store import AUDIT, AuditEntry, AuditLog, Outcome
from shared.clock import ManualClock
from shared.errors import Conflict, Forbidden, Rejected, Unavailable
from shared.http.auth import API_KEYS, KeyBook, Scope
from shared.http.routes import Operation
from shared.http.server import HttpServer, Mounted
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.port import DocumentStore, Find, every
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.contract.access_kit import DAY, MINUTE, SECOND, Api, a_store, opened

CANARY = "s3cr3t-c4n4ry"


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store(
        request.param, clock, lambda: str(request.getfixturevalue("mongo_url"))
    ) as found:
        yield found


@pytest.fixture
async def api(store: DocumentStore, clock: ManualClock) -> AsyncIterator[Api]:
    async with opened(store, clock) as found:
        yield found


async def put(api: Api, thing: str = "a", **more: Any) -> int:
    body = more.pop("json", {})
    return (await api.ask("PUT", f"/v1/things/{thing}", json=body, **more)).status


async def the_entry(api: Api) -> AuditEntry:
    (entry,) = await api.entries()
    return entry


# -- one entry ------------------------------------------------------------------------------


async def test_an_entry_says_who_did_what_when_from_where_and_what_became_of_it(api: Api) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    token = await api.a_user_with_a_key("anna", Scope.SITE_WRITE)
    await api.clock.advance(SECOND)
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert await put(api, "boat", key=token, headers=headers) == 200

    entry = (await api.entries())[-1]
    assert entry.model_dump(exclude={"key", "version", "expires_at"}) == {
        "tenant": "acme",
        "home_tenant": None,
        "key_name": "anna-key",
        "user": "anna",
        "action": "do",
        "subject": "thing boat",
        "operation": "put_thing",
        "method": "PUT",
        "path": "/v1/things/{thing}",
        "ids": {"thing": "boat"},
        "peer": "127.0.0.1",
        "trace": trace,
        "at": api.clock.now(),
        "done_at": api.clock.now(),
        "outcome": Outcome.DONE,
        "status": 200,
        "code": None,
    }


async def test_it_is_there_before_anything_is_done(api: Api) -> None:
    await put(api)
    assert api.replicas[0].deps.done == [("acme", 1)]


async def test_what_a_handler_does_not_name_is_there_by_its_operation(api: Api) -> None:
    assert await put(api, params={"noted": "false"}) == 200
    entry = await the_entry(api)
    assert (entry.action, entry.subject, entry.ids) == ("put_thing", "", {"thing": "a"})


@pytest.mark.parametrize(
    ("error", "status", "outcome", "code"),
    [
        (Conflict("it moved"), 409, Outcome.REFUSED, "conflict"),
        (Forbidden("not yours"), 403, Outcome.REFUSED, "forbidden"),
        (Rejected("the PBX said no"), 502, Outcome.FAILED, "rejected"),
        (Unavailable("away"), 503, Outcome.FAILED, "unavailable"),
        (ValueError("ours"), 500, Outcome.FAILED, "mesh_error"),
    ],
)
async def test_what_fails_is_noted_once_with_how(
    api: Api, error: Exception, status: int, outcome: Outcome, code: str
) -> None:
    api.replicas[0].deps.error = error
    assert await put(api) == status
    entry = await the_entry(api)
    assert (entry.status, entry.outcome, entry.code) == (status, outcome, code)
    assert entry.subject == "thing a"


async def test_a_request_that_is_not_understood_is_noted_once(api: Api) -> None:
    assert await put(api, json={"colour": "red"}) == 422
    entry = await the_entry(api)
    assert (entry.outcome, entry.status, entry.code) == (Outcome.REFUSED, 422, "invalid_request")
    assert entry.key_name == "admin"
    assert not api.replicas[0].deps.done


async def test_reading_and_a_pbx_s_traffic_leave_none(api: Api) -> None:
    await api.get("/v1/things/a")
    await api.get("/v1/audit")
    await api.ask("POST", "/v1/things/a/hook")
    assert await api.entries() == []


async def test_many_at_once_have_their_own(api: Api) -> None:
    names = [f"t{n}" for n in range(40)]
    await asyncio.gather(*(put(api, name) for name in names))
    entries = await api.entries()
    assert sorted(entry.subject for entry in entries) == sorted(f"thing {name}" for name in names)
    assert all(entry.subject == f"thing {entry.ids['thing']}" for entry in entries)
    assert {entry.outcome for entry in entries} == {Outcome.DONE}


async def test_over_one_connection_each_request_has_its_own(api: Api) -> None:
    await put(api, "a")
    await put(api, "b", params={"noted": "false"})
    assert {(entry.action, entry.subject) for entry in await api.entries()} == {
        ("do", "thing a"),
        ("put_thing", ""),
    }


# -- without a note nothing is done ---------------------------------------------------------


async def test_what_cannot_be_noted_is_not_done_and_said_afterwards(clock: ManualClock) -> None:
    db = SqliteFile(None)
    await db.open()
    async with opened(SqliteStore(db, clock), clock) as api:
        assert await put(api) == 200
        await db.close()
        assert await put(api, "lost") == 503
        assert api.replicas[0].deps.done == [("acme", 1)]
        await db.open()
    await db.close()


async def test_an_outcome_waits_for_the_store_to_come_back(
    clock: ManualClock, tmp_path: Any
) -> None:
    """It goes away while the request is carried out."""
    db = SqliteFile(tmp_path / "mesh.db")
    await db.open()
    store = SqliteStore(db, clock)
    log = AuditLog(store.collection(AUDIT), clock, keep=DAY)
    async with log.doing(tenant="acme", action="first", subject="a"):
        pass
    work = log.doing(tenant="acme", action="apply", subject="site.yaml")
    await work.__aenter__()
    await db.close()
    ending = asyncio.create_task(work.__aexit__(None, None, None))
    await eventually(lambda: clock.sleepers > 0)
    await db.open()
    await clock.advance(SECOND)
    await ending
    entries = [entry async for entry in every(store.collection(AUDIT), Find(order_by="at"))]
    assert {(e.action, e.outcome) for e in entries} == {
        ("first", Outcome.DONE),
        ("apply", Outcome.DONE),
    }
    await db.close()


async def test_what_was_under_way_when_the_process_died_is_open(store: DocumentStore) -> None:
    clock = ManualClock()
    log = AuditLog(store.collection(AUDIT), clock, keep=DAY)
    dying = log.doing(tenant="acme", action="apply", subject="site.yaml")
    await dying.__aenter__()
    (entry,) = [one async for one in every(store.collection(AUDIT), Find())]
    assert (entry.outcome, entry.key_name, entry.subject) == (Outcome.OPEN, "(cli)", "site.yaml")
    del dying


async def test_work_that_fails_outside_of_a_request_is_noted_too(store: DocumentStore) -> None:
    log = AuditLog(store.collection(AUDIT), ManualClock(), keep=DAY)
    with pytest.raises(Conflict):
        async with log.doing(tenant="acme", action="apply", subject="site.yaml"):
            raise Conflict("it moved")
    (entry,) = [one async for one in every(store.collection(AUDIT), Find())]
    assert (entry.outcome, entry.code) == (Outcome.REFUSED, "conflict")


# -- refused --------------------------------------------------------------------------------


async def test_a_key_that_may_not_is_noted_also_where_it_would_only_read(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    assert await put(api, key=token) == 403
    assert (await api.get("/v1/things/a", key=token)).status == 403
    entries = [entry for entry in await api.entries() if entry.key_name == "anna-key"]
    assert {(e.key_name, e.operation, e.status, e.outcome) for e in entries} == {
        ("anna-key", "put_thing", 403, Outcome.REFUSED),
        ("anna-key", "read_thing", 403, Outcome.REFUSED),
    }


async def test_a_stranger_is_noted_where_only_an_operator_sees_it(api: Api) -> None:
    assert await put(api, key=f"cm_{CANARY}") == 401
    entry = await the_entry(api)
    assert (entry.tenant, entry.key_name, entry.code) == ("(none)", "(none)", "unauthenticated")
    for tenant in ("acme", "globex"):
        seen = await api.get("/v1/audit", key=api.admin[tenant])
        assert seen.json["entries"] == []
    refused = await api.get("/v1/audit?unattributed=true")
    assert refused.status == 403
    shown = await api.get("/v1/audit?unattributed=true", key=api.operator)
    assert [one["operation"] for one in shown.json["entries"]] == ["put_thing"]


async def test_a_key_that_has_ended_is_noted_as_whose_it_was(api: Api) -> None:
    await api.put_user("anna", Scope.SITE_WRITE)
    token = (await api.make_key("anna", "k", expires_in="1h")).json["token"]
    await api.clock.advance(60 * MINUTE)
    assert await put(api, key=token) == 401
    entry = (await api.entries())[-1]
    assert (entry.tenant, entry.key_name, entry.status) == ("acme", "k", 401)


async def test_refusals_that_are_alike_are_one_a_minute(api: Api) -> None:
    for n in range(50):
        await put(api, key=f"cm_{n}")
    assert len(await api.entries()) == 1
    await api.clock.advance(MINUTE)
    await put(api, key="cm_x")
    assert len(await api.entries()) == 2


async def test_no_flood_of_different_refusals_fills_the_log(store: DocumentStore) -> None:
    async with opened(store, ManualClock(), proxies="127.0.0.0/8") as api:
        for n in range(700):
            headers = {"X-Forwarded-For": f"198.51.{n // 250}.{n % 250}"}
            assert await put(api, key="cm_wrong", headers=headers) == 401
        assert len(await api.entries()) == 600
        assert await put(api) == 200
        assert len(await api.entries()) == 601, "what is done is always noted"


# -- what authenticates itself --------------------------------------------------------------


async def test_who_has_no_key_is_noted_by_what_its_handler_found_out(api: Api) -> None:
    assert (await api.ask("POST", "/v1/clicks/acme-s3cr3t-token", key="")).status == 200
    entry = await the_entry(api)
    assert (entry.tenant, entry.key_name, entry.action) == ("acme", "(click)", "click")
    assert entry.outcome is Outcome.DONE
    assert "s3cr3t" not in entry.model_dump_json()


async def test_a_forged_address_is_noted_without_itself(api: Api) -> None:
    api.replicas[0].deps.error = Forbidden("no")
    reply = await api.ask("POST", f"/v1/clicks/{CANARY}", key="")
    assert reply.status == 403
    entry = await the_entry(api)
    assert (entry.tenant, entry.operation, entry.ids) == ("(none)", "click", {})
    assert CANARY not in entry.model_dump_json()


# -- no secrets, no odd text ----------------------------------------------------------------


async def test_no_secret_of_a_request_is_in_its_entry(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.SITE_WRITE)
    replies = [
        await put(api, key=token, json={"secret": CANARY}, params={"token": CANARY}),
        await put(api, json={"secret": 1, CANARY: CANARY}, headers={"X-Secret": CANARY}),
        await put(api, key=f"cm_{CANARY}", headers={"Authorization": f"Bearer {CANARY}"}),
    ]
    assert replies == [200, 422, 401]
    made = await api.make_key("anna", "second")
    text = "".join(entry.model_dump_json() for entry in await api.entries())
    for secret in (CANARY, token, made.json["token"], api.admin["acme"], api.operator):
        assert secret not in text


@pytest.mark.parametrize(
    "thing", ["%00", "%ED%A0%80", "a%0d%0ab", "x" * 2000, "%F0%9F%92%A9", "password=hunter2"]
)
async def test_odd_text_in_a_path_breaks_nothing(api: Api, thing: str) -> None:
    status = await put(api, thing, params={"noted": "true"})
    assert status in {200, 400, 422}
    entry = await the_entry(api)
    assert len(entry.ids.get("thing", "")) <= 128
    assert "hunter2" not in entry.subject
    assert (await api.get("/v1/audit")).status == 200


# -- the list -------------------------------------------------------------------------------


async def names(api: Api, query: str = "", **more: Any) -> list[str]:
    page = await api.get(f"/v1/audit?{query}", **more)
    assert page.status == 200, page.json
    return [one["subject"] for one in page.json["entries"]]


async def test_the_log_is_searched_by_what_people_know(api: Api) -> None:
    start = api.clock.now()
    token = await api.a_user_with_a_key("anna", Scope.SITE_WRITE)
    await api.clock.advance(MINUTE)
    await put(api, "boat", key=token)
    await api.clock.advance(MINUTE)
    await put(api, "BOOT")
    api.replicas[0].deps.error = Conflict("no")
    await api.clock.advance(MINUTE)
    await api.ask("DELETE", "/v1/things/boat")
    await api.entries()

    at = f"{start + MINUTE:%Y-%m-%dT%H:%M:%SZ}"
    for query, found in {
        f"since={at}": ["thing boat", "thing BOOT", "thing boat"],
        f"until={at}&action=make_key": ["key anna-key of anna: all he may"],
        f"until={at}&action=do": [],
        "user=anna": ["thing boat"],
        "key=anna-key": ["thing boat"],
        "key=(cli)": [],
        "operation=delete_thing": ["thing boat"],
        "action=do&outcome=done": ["thing BOOT", "thing boat"],
        "outcome=refused": ["thing boat"],
        "text=boot": ["thing BOOT"],
        "text=thing&limit=1": ["thing boat"],
    }.items():
        assert await names(api, query) == found, query
    whole = (await api.get("/v1/audit")).json["entries"]
    ids = ",".join(one["id"] for one in whole[:2])
    assert [one["id"] for one in (await api.get(f"/v1/audit?ids={ids},x")).json["entries"]] == [
        one["id"] for one in whole[:2]
    ]


async def test_the_log_is_read_page_by_page(api: Api) -> None:
    for n in range(7):
        await put(api, f"t{n}")
        await api.clock.advance(SECOND)
    await api.entries()
    found: list[str] = []
    cursor = ""
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = (await api.get(f"/v1/audit?limit=3{more}")).json
        found += [one["subject"] for one in page["entries"]]
        if (cursor := page.get("next_cursor", "")) == "":
            break
    assert found == [f"thing t{n}" for n in reversed(range(7))]


async def test_a_tenant_sees_nothing_of_another(api: Api) -> None:
    await put(api, "ours")
    await put(api, "theirs", key=api.admin["globex"])
    await api.entries()
    assert await names(api) == ["thing ours"]
    assert await names(api, key=api.admin["globex"]) == ["thing theirs"]
    theirs = (await api.get("/v1/audit", key=api.admin["globex"])).json["entries"][0]["id"]
    assert await names(api, f"ids={theirs}") == []


async def test_an_operator_s_acts_are_seen_where_they_were_done(api: Api) -> None:
    there = {"X-Callmesh-Tenant": "globex"}
    assert await put(api, "b", key=api.operator, headers=there) == 200
    await api.entries()
    (seen,) = (await api.get("/v1/audit", key=api.admin["globex"])).json["entries"]
    assert (seen["key"], seen["home_tenant"]) == ("ops", "acme")
    assert await names(api) == []
    assert await names(api, key=api.operator, headers=there) == ["thing b"]


async def test_entries_go_when_their_time_is_over(api: Api) -> None:
    await put(api)
    await api.entries()
    await api.clock.advance(30 * DAY)
    assert await names(api) == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "cursor=x", "since=yesterday", "outcome=fine", f"text={'x' * 101}"],
)
async def test_what_is_no_question_is_refused(api: Api, query: str) -> None:
    assert (await api.get(f"/v1/audit?{query}")).status == 422


# -- every operation there is ---------------------------------------------------------------

CHANGES = [operation for operation in gateway.operations if operation.is_change]


@pytest.mark.parametrize("operation", CHANGES, ids=lambda operation: operation.operation_id)
async def test_each_operation_that_changes_something_leaves_one_entry_however_it_ends(
    clock: ManualClock, operation: Operation[Any]
) -> None:
    """
    Nothing stands behind the operations here, so that every handler that is reached breaks: the log
    is the server's own affair.
    """
    async with a_store("sqlite", clock, str) as store:
        keys = KeyBook(store.collection(API_KEYS), clock)
        log = AuditLog(store.collection(AUDIT), clock, keep=DAY)
        good = await keys.issue(tenant="acme", name="good", scopes=tuple(Scope))
        poor = await keys.issue(tenant="acme", name="poor", scopes=())
        server = HttpServer(
            [Mounted([operation], object())],
            keys=keys,
            clock=clock,
            metrics=Metrics(),
            drain=SECOND,
            deeds=log,
        )
        port = await server.start("127.0.0.1", 0)
        try:
            path = operation.path
            for part in path.split("{")[1:]:
                path = path.replace("{" + part.split("}")[0] + "}", "a1")
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                for token in (good, poor):
                    headers = {"X-Api-Key": token.get_secret_value()}
                    async with session.request(
                        operation.method, path, json={}, headers=headers
                    ) as answer:
                        status = answer.status
                    await log.settle()
                    assert status >= 400
                    entries = [one async for one in every(store.collection(AUDIT), Find())]
                    assert [one.status for one in entries] == [status]
                    assert entries[0].operation == operation.operation_id
                    if operation.scope is not None:
                        name = "good" if token is good else "poor"
                        assert (entries[0].tenant, entries[0].key_name) == ("acme", name)
                    await store.collection(AUDIT).delete(entries[0].key)
                    await clock.advance(MINUTE)
        finally:
            await server.stop()
            await log.close()


def test_there_are_operations_that_change_something() -> None:
    assert {"dial_call", "put_pbx", "put_rule", "put_user", "make_key"} <= {
        operation.operation_id for operation in CHANGES
    }
