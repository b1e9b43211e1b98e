"""CRM connections as documents, over HTTP: set up, shown without secrets, tried, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.crm.sessions.session import SESSIONS, Refusal, SessionDocument, session_key
from shared.errors import NotFound
from shared.http.auth import Scope
from shared.site.accounts import account_of
from shared.site.documents import SITES
from shared.site.models import CrmConnection, Site
from shared.storage.port import Find
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import KEPT, ask, patch

SECRET = "a-secret-of-the-shop"
OTHER = "another-secret-of-the-shop"
PARAMETERS = [
    {"name": "url", "title": "Address", "kind": "url", "https": False},
    {"name": "tier", "title": "Tier", "options": ["a", "b"], "default": "a"},
    {"name": "test", "title": "Test system", "kind": "switch", "default": "no"},
    {"name": "path", "title": "Path", "default": "x"},
]
CREDENTIALS = [
    {"name": "api_key", "title": "Key"},
    {"name": "hook_secret", "title": "Secret", "required": False},
]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        found.template("shop", parameters=PARAMETERS, credentials=CREDENTIALS)
        found.template("mall", parameters=PARAMETERS, credentials=CREDENTIALS)
        await found.apply(agents=[{"extension": "101"}])
        yield found


def shop(**changes: Any) -> dict[str, Any]:
    known = {
        "template": "shop",
        "parameters": {"url": "https://shop.example"},
        "credentials": {"api_key": SECRET},
    }
    return known | changes


async def stored(api: CrmApi) -> Site:
    return (await api.store.collection(SITES).get("acme")).site


async def crm(api: CrmApi) -> CrmConnection:
    found = (await stored(api)).crm_named("shop")
    assert found is not None
    return found


async def secret(api: CrmApi, name: str = "api_key") -> str:
    return api.box.open((await crm(api)).credentials[name]).get_secret_value()


async def test_one_that_is_put_is_there_with_its_secret_sealed(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/crm/shop", json=shop())
    shown = await ask(api, "GET", "/v1/crm/shop")
    listed = await ask(api, "GET", "/v1/crm")

    assert put.status == 200, put.body
    assert put.body["settings"]["credentials"] == {"api_key": KEPT}
    assert await secret(api) == SECRET
    assert shown.body == put.body == listed.body["connections"][0]
    assert shown.etag == put.etag
    for reply in (put, shown, listed):
        assert SECRET not in str(reply.body)
        assert "sealed:" not in str(reply.body)
    assert SECRET not in (await api.store.collection(SITES).get("acme")).model_dump_json()
    # What was read can be said as it is: nothing changes by it.
    again = await ask(api, "PUT", "/v1/crm/shop", json=shown.body["settings"])
    assert (again.status, again.etag) == (200, put.etag)


@pytest.mark.parametrize("said", [{}, {"credentials": {}}, {"credentials": {"api_key": KEPT}}])
async def test_a_secret_that_is_not_said_again_stays(api: CrmApi, said: dict[str, Any]) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    body = {k: v for k, v in shop(fresh="1m").items() if k != "credentials"} | said
    put = await ask(api, "PUT", "/v1/crm/shop", json=body)

    assert put.status == 200, put.body
    assert await secret(api) == SECRET
    assert (await crm(api)).fresh == timedelta(minutes=1)


async def test_a_part_is_changed_and_the_rest_stays(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop(modules=["People"]))
    reply = await patch(
        api, "/v1/crm/shop", {"journal": {"after": "10s"}, "parameters": {"tier": "b"}}
    )

    assert reply.status == 200, reply.body
    found = await crm(api)
    assert found.modules == ("People",)
    assert found.journal.after == timedelta(seconds=10)
    assert found.parameters == {"url": "https://shop.example", "tier": "b"}
    assert await secret(api) == SECRET


async def test_a_secret_is_changed_added_and_removed_by_a_patch(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    await patch(api, "/v1/crm/shop", {"credentials": {"hook_secret": "h", "api_key": OTHER}})
    assert (await secret(api), await secret(api, "hook_secret")) == (OTHER, "h")

    reply = await patch(api, "/v1/crm/shop", {"credentials": {"hook_secret": None}})
    assert reply.body["settings"]["credentials"] == {"api_key": KEPT}
    assert "hook_secret" not in (await crm(api)).credentials
    assert await secret(api) == OTHER

    needed = await patch(api, "/v1/crm/shop", {"credentials": {"api_key": None}})
    assert (needed.status, "needs the credential api_key" in needed.detail) == (422, True)
    assert await secret(api) == OTHER


# -- secrets go nowhere else -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"parameters": {"url": "https://thief.example"}},
        {"parameters": {"path": "/thief"}},
        {"template": "mall"},
    ],
)
async def test_a_stored_secret_is_not_sent_elsewhere(
    api: CrmApi, elsewhere: dict[str, Any]
) -> None:
    """It cannot be read here; whoever may change the address could have it sent to one of his."""
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    moved = shop(**{"parameters": {"url": "https://shop.example"}, **elsewhere})
    moved["parameters"] = {"url": "https://shop.example", **moved["parameters"]}
    for reply in (
        await patch(api, "/v1/crm/shop", elsewhere),
        await ask(api, "PUT", "/v1/crm/shop", json=moved | {"credentials": {"api_key": KEPT}}),
    ):
        assert (reply.status, "credentials.api_key" in reply.detail) == (422, True), reply.body
    assert (await crm(api)).parameters == {"url": "https://shop.example"}

    said = {**elsewhere, "credentials": {"api_key": OTHER}}
    assert (await patch(api, "/v1/crm/shop", said)).status == 200
    assert await secret(api) == OTHER


@pytest.mark.parametrize("harmless", [{"tier": "b"}, {"test": "yes"}])
async def test_what_the_template_itself_lists_leads_nowhere_else(
    api: CrmApi, harmless: dict[str, str]
) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    assert (await patch(api, "/v1/crm/shop", {"parameters": harmless})).status == 200
    assert await secret(api) == SECRET


async def test_the_stored_secret_of_another_template_does_not_come_along(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    body = shop(template="mall") | {"credentials": {}}
    reply = await ask(api, "PUT", "/v1/crm/shop", json=body)
    assert (reply.status, "needs the credential api_key" in reply.detail) == (422, True)


@pytest.mark.parametrize(
    "said",
    [
        {"env": "HOME"},
        {"file": "/etc/passwd"},
        "sealed:gAAAAABp",
        "  ",
        "",
        5,
        ["x"],
    ],
)
async def test_a_secret_is_a_text_and_never_a_place_on_the_server(api: CrmApi, said: Any) -> None:
    reply = await ask(api, "PUT", "/v1/crm/shop", json=shop(credentials={"api_key": said}))
    assert reply.status == 422
    assert (await stored(api)).crm == ()


async def test_the_seal_of_another_connection_is_no_secret_of_this_one(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/other", json=shop())
    seal = (await stored(api)).crm[0].credentials["api_key"]
    reply = await ask(api, "PUT", "/v1/crm/shop", json=shop(credentials={"api_key": seal}))
    assert reply.status == 422
    reply = await ask(api, "PUT", "/v1/crm/shop", json=shop(credentials={"api_key": KEPT}))
    assert (reply.status, "none is stored" in reply.detail) == (422, True)


# -- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"template": "nothing"}, "there is no template nothing"),
        ({"parameters": {}}, "needs the parameter url"),
        ({"parameters": {"url": "https://a.example", "x": "1"}}, "no parameter x"),
        ({"parameters": {"url": "no address"}}, "url is an address"),
        ({"parameters": {"url": "https://a.example", "tier": "c"}}, "one of a, b"),
        ({"modules": ["Things"]}, "no contact type Things"),
        ({"create": {"module": "People"}}, "cannot create People"),
        ({"journal": {"subject": "{{.Nothing}}"}}, "Nothing"),
        ({"credentials": {"api_key": "x", "more": "y"}}, "no credential more"),
        ({"credentials": "x"}, "credentials"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"phone_formats": ["x"]}, "neither digits"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(
    api: CrmApi, changes: dict[str, Any], says: str
) -> None:
    reply = await ask(api, "PUT", "/v1/crm/shop", json=shop(**changes))
    assert (reply.status, says in reply.detail) == (422, True), reply.body
    assert SECRET not in str(reply.body)
    assert (await stored(api)).crm == ()


async def test_another_name_in_the_body_renames_nothing(api: CrmApi) -> None:
    reply = await ask(api, "PUT", "/v1/crm/shop", json=shop(name="other"))
    assert (reply.status, "is not renamed" in reply.detail) == (422, True)
    assert (await ask(api, "PUT", "/v1/crm/shop", json=shop(name="shop"))).status == 200


async def test_one_that_was_changed_meanwhile_is_not_changed(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/crm/shop", json=shop())
    # A secret alone is a change too.
    await patch(api, "/v1/crm/shop", {"credentials": {"api_key": OTHER}})
    seen = {"If-Match": put.etag}
    for reply in (
        await patch(api, "/v1/crm/shop", {"fresh": "5s"}, headers=seen),
        await ask(api, "PUT", "/v1/crm/shop", json=shop(), headers=seen),
        await ask(api, "DELETE", "/v1/crm/shop", headers=seen),
        await ask(api, "PUT", "/v1/crm/shop", json=shop(), headers={"If-None-Match": "*"}),
    ):
        assert (reply.status, reply.code) == (412, "stale")
    assert await secret(api) == OTHER


async def test_two_that_change_connections_at_once_both_do(api: CrmApi) -> None:
    names = ("one", "two", "three")
    replies = await asyncio.gather(
        *(ask(api, "PUT", f"/v1/crm/{name}", json=shop()) for name in names)
    )
    assert [reply.status for reply in replies] == [200] * 3
    assert {one.name for one in (await stored(api)).crm} == set(names)


# -- removed ---------------------------------------------------------------------------------------


async def test_one_that_is_removed_takes_its_users_along(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    await ask(api, "PUT", "/v1/crm/other", json=shop())
    await patch(api, "/v1/extensions/101", {"users": {"shop": "u1", "other": "u2"}})
    gone = await ask(api, "DELETE", "/v1/crm/shop")

    assert (gone.status, gone.etag) == (200, "")
    site = await stored(api)
    assert [one.name for one in site.crm] == ["other"]
    assert site.agents[0].users == {"other": "u2"}
    for method in ("GET", "DELETE"):
        assert (await ask(api, method, "/v1/crm/shop")).status == 404
    assert (await patch(api, "/v1/crm/shop", {})).status == 404


async def test_one_that_a_rule_needs_is_not_removed(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    rule = {
        "dids": ["442079460000"],
        "crm": "shop",
        "field": "Tier",
        "rows": [{"operator": "=", "value": "GOLD", "destination": "queue:vip"}],
        "default": "queue:all",
    }
    assert (await ask(api, "PUT", "/v1/rules/main", json=rule)).status == 200

    reply = await ask(api, "DELETE", "/v1/crm/shop")
    assert (reply.status, "main" in reply.detail) == (409, True)


# -- how it is -------------------------------------------------------------------------------------


async def test_it_is_tried_and_what_is_wrong_is_said(api: CrmApi) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=200 if "good" in request.path else 401, text="{}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for path, well in (("good", True), ("bad", False)):
            put = await ask(
                api, "PUT", "/v1/crm/shop", json=shop(parameters={"url": f"{origin}/{path}"})
            )
            assert put.status == 200, put.body
            reply = await ask(api, "POST", "/v1/crm/shop/check")
            assert (reply.status, reply.body["well"]) == (200, well), reply.body
            assert SECRET not in str(reply.body)
            fault = reply.body["findings"][0].get("fault", "")
            assert ("401" in fault) is not well
    finally:
        await runner.cleanup()
    assert (await ask(api, "POST", "/v1/crm/nothing/check")).status == 404


OAUTH = {
    "oauth2": {
        "grant": "authorization_code",
        "authorize_url": "{{.url}}/authorize",
        "token_url": "{{.url}}/token",
    }
}


async def test_how_the_sign_in_is_stands_beside_it(api: CrmApi) -> None:
    credentials = [{"name": name, "title": name} for name in ("client_id", "client_secret")]
    api.template("signed", parameters=PARAMETERS, credentials=credentials, auth=OAUTH)
    body = shop(template="signed", credentials={"client_id": "id", "client_secret": SECRET})
    put = await ask(api, "PUT", "/v1/crm/shop", json=body)
    assert put.body["session"] == {"state": "not_connected"}

    account_tag = put.etag
    sessions = api.store.collection(SESSIONS)
    deps = api.gateway_deps()
    site = await stored(api)
    connected = deps.connections.connected(account_of(site, site.crm[0]))
    key = session_key("acme", "shop", connected.auth, connected.scope)
    now = api.clock.now()
    document = SessionDocument(
        key=key,
        tenant="acme",
        grant=connected.grant,
        refresh_token=api.box.seal(SecretStr("r")),
        variables=api.box.seal(SecretStr("{}")),
        fetched_at=now,
        good_until=now + timedelta(hours=1),
        consented_at=now,
    )
    await sessions.put(document)
    shown = await ask(api, "GET", "/v1/crm/shop")
    assert shown.body["session"]["state"] == "good"
    refusal = Refusal(
        throttled=False,
        reason="invalid_grant client_secret=abcdef",
        times=2,
        since=now,
        until=now + timedelta(minutes=5),
    )
    await sessions.put(document.model_copy(update={"refusal": refusal, "variables": None}))
    shown = await ask(api, "GET", "/v1/crm/shop")
    assert shown.body["session"]["state"] == "needs_reconnect"
    assert "invalid_grant" in shown.body["session"]["reason"]
    assert "abcdef" not in str(shown.body)
    # How it is is no part of what can be changed.
    assert shown.etag == account_tag
    # A session of another grant is none.
    await patch(api, "/v1/crm/shop", {"credentials": {"client_secret": OTHER}})
    shown = await ask(api, "GET", "/v1/crm/shop")
    assert shown.body["session"]["state"] == "none"
    assert (await sessions.page(Find())).documents


async def test_one_whose_template_is_gone_says_so(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    (api.templates / "shop.yaml").unlink()
    shown = await ask(api, "GET", "/v1/crm/shop")
    assert (shown.status, "no template shop" in shown.body["fault"]) == (200, True)


async def test_they_are_listed_page_by_page_by_template_and_in_part(api: CrmApi) -> None:
    for name, template in (("a", "shop"), ("b", "mall"), ("c", "shop")):
        await ask(api, "PUT", f"/v1/crm/{name}", json=shop(template=template))

    async def names(query: str) -> list[Any]:
        reply = await ask(api, "GET", f"/v1/crm?{query}")
        assert reply.status == 200, reply.body
        return [one["name"] for one in reply.body["connections"]]

    assert await names("template=shop") == ["a", "c"]
    assert await names("ids=c,b,x") == ["b", "c"]
    first = (await ask(api, "GET", "/v1/crm?limit=2&fields=name,settings.parameters")).body
    assert first["connections"][0] == {
        "name": "a",
        "settings": {"parameters": {"url": "https://shop.example"}},
    }
    assert await names(f"cursor={first['next_cursor']}") == ["c"]
    reply = await ask(api, "GET", "/v1/crm?fields=nam")
    assert (reply.status, "there are: fault, name" in reply.detail) == (422, True)


async def test_reading_is_not_changing_and_tenants_are_apart(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    reader = await api.a_key(Scope.SITE_READ)
    for method, more in (("PUT", {"json": shop()}), ("PATCH", {"json": {}}), ("DELETE", {})):
        assert (await ask(api, method, "/v1/crm/shop", key=reader, **more)).status == 403
    assert (await ask(api, "GET", "/v1/crm/shop", key=reader)).status == 200
    issued = await api.keys.issue(
        tenant="globex", name="k", scopes=(Scope.SITE_READ, Scope.SITE_WRITE)
    )
    theirs = issued.get_secret_value()
    assert (await ask(api, "GET", "/v1/crm", key=theirs)).body == {"connections": []}
    assert (await ask(api, "GET", "/v1/crm/shop", key=theirs)).status == 404
    assert (await ask(api, "PUT", "/v1/crm/shop", json=shop(), key=theirs)).status == 404
    with pytest.raises(NotFound):
        await api.store.collection(SITES).get("globex")


async def test_who_changed_what_is_in_the_audit_log(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/crm/shop", json=shop())
    await patch(api, "/v1/crm/shop", {"credentials": {"api_key": OTHER}})
    await ask(api, "DELETE", "/v1/crm/shop")
    audited = await api.audited()
    assert [action for _, action, _ in audited] == ["put_crm", "patch_crm", "delete_crm"]
    assert all(subject == "connection shop" for _, _, subject in audited)
    assert SECRET not in str(audited)
    assert OTHER not in str(audited)
