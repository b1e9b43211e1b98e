"""Extensions over HTTP: who uses which phone, and whom each CRM knows there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from shared.http.auth import Scope
from shared.site.documents import SITES
from shared.site.models import Agent
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import Reply, ask, patch

PEOPLE = [
    {"id": "u1", "name": "Ann Agent", "mail": "ann@acme.example"},
    {"id": "u2", "name": "Bob Busy", "mail": "bob@acme.example"},
    {"id": "u3", "name": "Cy Chair", "mail": "cy@acme.example"},
]
ANN = {"name": "Ann", "email": "ann@acme.example"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply()
        yield found


async def agents(api: CrmApi) -> tuple[Agent, ...]:
    return (await api.store.collection(SITES).get("acme")).site.agents


async def test_one_is_set_up_read_changed_and_removed(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/extensions/101", json=ANN)
    assert (put.status, put.body["extension"]) == (200, "101")
    assert put.body["settings"] == {**ANN, "users": {}}
    assert (await ask(api, "GET", "/v1/extensions/101")).body == put.body

    reply = await patch(api, "/v1/extensions/101", {"name": None, "pbx_user": "77"})
    assert reply.body["settings"] == {"email": ANN["email"], "pbx_user": "77", "users": {}}
    assert reply.etag != put.etag
    assert (await agents(api))[0] == Agent(extension="101", email=ANN["email"], pbx_user="77")

    gone = await ask(api, "DELETE", "/v1/extensions/101", headers={"If-Match": reply.etag})
    assert gone.status == 200
    assert await agents(api) == ()
    for method in ("GET", "DELETE"):
        assert (await ask(api, method, "/v1/extensions/101")).status == 404
    assert (await patch(api, "/v1/extensions/101", {})).status == 404


async def test_what_was_changed_meanwhile_is_not_changed(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/extensions/101", json=ANN)
    await patch(api, "/v1/extensions/101", {"name": "Anna"})
    seen = {"If-Match": put.etag}
    for reply in (
        await patch(api, "/v1/extensions/101", {"name": "Mine"}, headers=seen),
        await ask(api, "PUT", "/v1/extensions/101", json=ANN, headers=seen),
        await ask(api, "PUT", "/v1/extensions/101", json=ANN, headers={"If-None-Match": "*"}),
        await ask(api, "DELETE", "/v1/extensions/101", headers=seen),
    ):
        assert (reply.status, reply.code) == (412, "stale")
    assert (await agents(api))[0].name == "Anna"


async def test_many_at_once_are_all_there(api: CrmApi) -> None:
    numbers = [str(n) for n in range(100, 104)]
    replies = await asyncio.gather(
        *(ask(api, "PUT", f"/v1/extensions/{number}", json={}) for number in numbers)
    )
    assert [reply.status for reply in replies] == [200] * 4
    assert {agent.extension for agent in await agents(api)} == set(numbers)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"pbx": "nowhere"}, "there is no pbx nowhere"),
        ({"users": {"nowhere": "1"}}, "there is no crm nowhere"),
        ({"email": "no address"}, "email"),
        ({"nam": "x"}, "nam"),
        ({"name": "x" * 501}, "name"),
        ({"extension": "102"}, "extension"),
    ],
)
async def test_what_cannot_be_is_refused(api: CrmApi, body: dict[str, Any], says: str) -> None:
    await ask(api, "PUT", "/v1/extensions/101", json=ANN)
    for reply in (
        await ask(api, "PUT", "/v1/extensions/101", json=body),
        await patch(api, "/v1/extensions/101", body),
    ):
        assert (reply.status, says in str(reply.body)) == (422, True), reply.body
    assert (await agents(api))[0].name == "Ann"


async def test_one_that_a_rule_needs_is_not_removed(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/extensions/101", json={})
    rule = {
        "dids": ["1"],
        "rows": [{"when": {"of": "agent.101", "value": "free"}, "destination": "extension:101"}],
        "default": "queue:a",
    }
    put = await ask(api, "PUT", "/v1/rules/main", json=rule)
    assert put.status == 200, put.body
    reply = await ask(api, "DELETE", "/v1/extensions/101")
    assert (reply.status, "main" in reply.detail) == (409, True)


@pytest.mark.parametrize("extension", ["%23101", "*9", "a.b"])
async def test_an_extension_with_odd_characters_has_its_address(
    api: CrmApi, extension: str
) -> None:
    url = URL(f"{api.origin}/v1/extensions/{extension}", encoded=True)
    assert (await ask(api, "PUT", url, json={})).status == 200
    assert (await ask(api, "GET", url)).status == 200
    assert len(await agents(api)) == 1


async def test_they_are_found_page_by_page_and_in_part(api: CrmApi) -> None:
    pbx = {"kind": "generic", "signing_secret": "long-and-random"}
    await ask(api, "PUT", "/v1/pbx/main", json=pbx)
    await ask(api, "PUT", "/v1/extensions/101", json=ANN | {"pbx": "main"})
    await ask(api, "PUT", "/v1/extensions/102", json={"name": "Bob"})
    await ask(api, "PUT", "/v1/extensions/103", json={"email": "cy@acme.example"})

    async def found(query: str) -> list[str]:
        reply = await ask(api, "GET", f"/v1/extensions?{query}")
        assert reply.status == 200, reply.body
        return [one["extension"] for one in reply.body["extensions"]]

    assert await found("") == ["101", "102", "103"]
    assert await found("search=ACME") == ["101", "103"]
    assert await found("search=10") == ["101", "102", "103"]
    assert await found("pbx=main") == ["101"]
    assert await found("ids=103,101,999") == ["101", "103"]
    first = (await ask(api, "GET", "/v1/extensions?limit=2&fields=extension")).body
    assert first["extensions"] == [{"extension": "101"}, {"extension": "102"}]
    assert await found(f"cursor={first['next_cursor']}") == ["103"]
    for query in ("limit=0", "limit=1001", "cursor=%00", "with=secrets", "fields=nothing"):
        assert (await ask(api, "GET", f"/v1/extensions?{query}")).status == 422


async def test_reading_is_not_changing_and_tenants_are_apart(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/extensions/101", json=ANN)
    reader = await api.a_key(Scope.SITE_READ)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("PUT", {"json": {}}),
        ("PATCH", {"json": {}}),
        ("DELETE", {}),
    ]
    for method, more in changes:
        assert (await ask(api, method, "/v1/extensions/101", key=reader, **more)).status == 403
    token = await api.keys.issue(tenant="globex", name="k", scopes=(Scope.SITE_READ,))
    theirs = token.get_secret_value()
    assert (await ask(api, "GET", "/v1/extensions", key=theirs)).body == {"extensions": []}
    assert (await ask(api, "GET", "/v1/extensions/101", key=theirs)).status == 404


# -- whom the CRMs know ----------------------------------------------------------------------------


async def with_users(api: CrmApi, origin: str) -> None:
    """Two CRMs: the users of one were read."""
    users = {
        "request": {"url": "{{.url}}/users"},
        "records": "users",
        "display_name": "name",
        "email": "mail",
    }
    api.template("shop", users=users)
    crm = [{"name": n, "template": "shop", "parameters": {"url": origin}} for n in ("one", "two")]
    await api.apply(
        *crm,
        agents=[
            {"extension": "101", "email": "ann@acme.example"},
            {"extension": "102", "users": {"one": "u2", "two": "u9"}},
            {"extension": "103"},
        ],
    )
    assert (await ask(api, "POST", "/v1/crm/one/users/sync")).status == 202

    async def were_read() -> bool:
        return "synced_at" in (await ask(api, "GET", "/v1/crm/one/users")).body

    await eventually(were_read)


@pytest.fixture
async def shop() -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"users": PEOPLE})

    app = web.Application()
    app.router.add_get("/users", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def in_crm(reply: Reply) -> dict[str, Any]:
    return {one["connection"]: one for one in reply.body["in_crm"]}


async def test_who_is_matched_in_each_crm_is_said_on_asking(api: CrmApi, shop: str) -> None:
    await with_users(api, shop)
    plain = await ask(api, "GET", "/v1/extensions/101")
    assert "in_crm" not in plain.body

    ann = in_crm(await ask(api, "GET", "/v1/extensions/101?with=users"))
    assert ann["one"] == {
        "connection": "one",
        "user_id": "u1",
        "display_name": "Ann Agent",
        "email": "ann@acme.example",
    }
    assert ann["two"] == {"connection": "two", "fault": "its users were not read yet"}
    bob = in_crm(await ask(api, "GET", "/v1/extensions/102?with=users"))
    assert (bob["one"]["display_name"], bob["two"]["user_id"]) == ("Bob Busy", "u9")
    nobody = in_crm(await ask(api, "GET", "/v1/extensions/103?with=users"))
    assert "no user has its e-mail" in nobody["one"]["fault"]

    listed = (await ask(api, "GET", "/v1/extensions?with=users&fields=in_crm.user_id")).body
    assert listed["extensions"][0] == {"in_crm": [{"user_id": "u1"}, {}]}
    # Whom a CRM knows is no part of what can be changed.
    assert (await ask(api, "GET", "/v1/extensions/101?with=users")).etag == plain.etag


async def test_the_users_of_a_crm_are_found_page_by_page(api: CrmApi, shop: str) -> None:
    await with_users(api, shop)

    async def found(query: str) -> list[str]:
        reply = await ask(api, "GET", f"/v1/crm/one/users?{query}")
        assert reply.status == 200, reply.body
        return [one["user_id"] for one in reply.body["users"]]

    assert await found("") == ["u1", "u2", "u3"]
    assert await found("search=BUSY") == ["u2"]
    assert await found("extension=101") == ["u1"]
    assert await found("matched=false") == ["u3"]
    assert await found("matched=true") == ["u1", "u2"]
    assert await found("ids=u3,u1,x") == ["u1", "u3"]
    first = (await ask(api, "GET", "/v1/crm/one/users?limit=1&fields=user_id,extension")).body
    assert first["users"] == [{"user_id": "u1", "extension": "101"}]
    assert list(first["unmatched"]) == ["103"]
    assert await found(f"cursor={first['next_cursor']}") == ["u2", "u3"]
