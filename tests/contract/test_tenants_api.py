"""Tenants over HTTP, by the operator; and what a tenant says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from shared.errors import NotFound, Unauthenticated
from shared.http.auth import Scope
from shared.site.documents import SITES
from shared.site.models import Site
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import ask, patch

ROW = {"when": {"of": "caller.country", "value": "GB"}, "destination": "queue:b"}
HOURS = {"name": "office", "open": {"mon-fri": ["09:00-17:00"]}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply(title="Acme")
        yield found


async def stored(api: CrmApi, tenant: str = "acme") -> Site:
    return (await api.store.collection(SITES).get(tenant)).site


async def key_of(api: CrmApi, tenant: str) -> SecretStr:
    return await api.keys.issue(tenant=tenant, name="theirs", scopes=(Scope.SITE_READ,))


# -- one's own -------------------------------------------------------------------------------------


async def test_a_tenant_reads_and_says_its_own_settings(api: CrmApi) -> None:
    before = await ask(api, "GET", "/v1/site")
    said = {"title": "Acme Ltd", "region": "GB", "zone": "Europe/London", "hours": [HOURS]}
    put = await ask(api, "PUT", "/v1/site", json=said)
    after = await ask(api, "GET", "/v1/site")

    assert (before.status, put.status) == (200, 200)
    assert before.body["tenant"] == "acme"
    assert put.body == after.body
    assert {k: after.body["settings"][k] for k in ("title", "region", "zone")} == {
        k: said[k] for k in ("title", "region", "zone")
    }
    assert before.etag != put.etag == after.etag
    assert (await stored(api)).hours[0].name == "office"
    # What was read can be said as it is.
    assert (await ask(api, "PUT", "/v1/site", json=after.body["settings"])).etag == after.etag


async def test_to_say_the_settings_leaves_connections_and_agents_as_they_are(api: CrmApi) -> None:
    api.template("shop")
    await api.apply(
        {"name": "shop", "template": "shop", "parameters": {"url": "https://shop.example"}},
        agents=[{"extension": "101"}],
        pbx=[{"kind": "generic", "name": "main", "signing_secret": api.box.seal(SecretStr("x"))}],
    )
    assert (await ask(api, "PUT", "/v1/site", json={"zone": "UTC"})).status == 200

    site = await stored(api)
    assert (len(site.crm), len(site.agents), len(site.pbx)) == (1, 1, 1)
    assert site.region is None


async def test_a_part_of_the_settings_is_changed(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/site", json={"title": "Acme", "region": "GB", "hours": [HOURS]})
    reply = await patch(
        api,
        "/v1/site",
        {"title": None, "dialing": {"international": False, "block": ["+4490*"]}},
    )

    assert reply.status == 200, reply.body
    site = await stored(api)
    assert (site.title, site.region) == (None, "GB")
    assert site.hours[0].name == "office"
    assert (site.dialing.international, site.dialing.block) == (False, ("+4490*",))
    # Within an object name by name.
    await patch(api, "/v1/site", {"dialing": {"block": None}})
    site = await stored(api)
    assert (site.dialing.international, site.dialing.block) == (False, ())


async def test_a_limit_that_was_lifted_stays_so_when_something_else_changes(api: CrmApi) -> None:
    lifted = {"per_minute": None, "agent_per_minute": None}
    await ask(api, "PUT", "/v1/site", json={"dialing": {"limits": lifted}})
    shown = await ask(api, "GET", "/v1/site")
    assert shown.body["settings"]["dialing"]["limits"] == lifted
    assert (await patch(api, "/v1/site", {"title": "Acme"})).status == 200
    assert (await stored(api)).dialing.limits.per_minute is None
    # What is read can be sent back.
    shown = await ask(api, "GET", "/v1/site")
    assert (await ask(api, "PUT", "/v1/site", json=shown.body["settings"])).status == 200
    assert (await stored(api)).dialing.limits.agent_per_minute is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"region": "UK"}, "the United Kingdom is GB"),
        ({"zone": "Mars/Olympus"}, "no time zone"),
        ({"titel": "x"}, "did you mean `title`"),
        ({"hours": [HOURS, HOURS]}, "office is there twice"),
        ({"dialing": {"limits": {"cost_per_day": "5"}}}, "without `prices`"),
        ({"crm": []}, "unknown key"),
    ],
)
async def test_what_cannot_be_is_refused_either_way(
    api: CrmApi, body: dict[str, Any], says: str
) -> None:
    before = await stored(api)
    for reply in (await ask(api, "PUT", "/v1/site", json=body), await patch(api, "/v1/site", body)):
        assert reply.status == 422
        assert says in str(reply.body) or "unknown key" in str(reply.body)
    assert await stored(api) == before


async def test_hours_that_a_rule_needs_stay(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/site", json={"hours": [HOURS]})
    rule = {
        "dids": ["442079460000"],
        "rows": [{"when": {"of": "hours.office", "value": "closed"}, "destination": "queue:x"}],
        "default": "queue:y",
    }
    assert (await ask(api, "PUT", "/v1/rules/main", json=rule)).status == 200

    reply = await patch(api, "/v1/site", {"hours": []})
    assert (reply.status, "office" in reply.detail) == (422, True)


# -- bound to what somebody saw --------------------------------------------------------------------


async def test_a_change_of_what_was_not_seen_is_refused(api: CrmApi) -> None:
    seen = await ask(api, "GET", "/v1/site")
    other = await patch(api, "/v1/site", {"title": "By another"})
    for reply in (
        await patch(api, "/v1/site", {"title": "Mine"}, headers={"If-Match": seen.etag}),
        await ask(api, "PUT", "/v1/site", json={}, headers={"If-Match": seen.etag}),
        await ask(api, "PUT", "/v1/site", json={}, headers={"If-None-Match": "*"}),
    ):
        assert (reply.status, reply.code) == (412, "stale")
    assert (await stored(api)).title == "By another"

    mine = await patch(api, "/v1/site", {"title": "Mine"}, headers={"If-Match": other.etag})
    assert mine.status == 200


async def test_of_many_who_saw_the_same_one_changes_it(api: CrmApi) -> None:
    seen = await ask(api, "GET", "/v1/site")
    replies = await asyncio.gather(
        *(
            patch(api, "/v1/site", {"title": f"T{n}"}, headers={"If-Match": seen.etag})
            for n in range(8)
        )
    )
    assert sorted(reply.status for reply in replies) == [200] + [412] * 7


async def test_what_was_seen_is_not_sent_again(api: CrmApi) -> None:
    seen = await ask(api, "GET", "/v1/site")
    again = await ask(api, "GET", "/v1/site", headers={"If-None-Match": f'"x", W/{seen.etag}'})
    assert (again.status, again.body, again.etag) == (304, "", seen.etag)

    await patch(api, "/v1/site", {"title": "Another"})
    assert (await ask(api, "GET", "/v1/site", headers={"If-None-Match": seen.etag})).status == 200


@pytest.mark.parametrize("header", ["x" * 1001, "ä"])
async def test_a_header_that_is_no_list_of_tags_is_refused(api: CrmApi, header: str) -> None:
    assert (await patch(api, "/v1/site", {}, headers={"If-Match": header})).status == 422


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null"])
async def test_a_patch_is_an_object(api: CrmApi, body: bytes) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    assert (await ask(api, "PATCH", "/v1/site", data=body, headers=headers)).status == 422


async def test_a_patch_comes_as_a_merge_patch_or_as_json(api: CrmApi) -> None:
    for kind, status in (
        ("application/merge-patch+json", 200),
        ("application/json", 200),
        ("application/json-patch+json", 415),
        ("text/plain", 415),
    ):
        headers = {"Content-Type": kind}
        reply = await ask(api, "PATCH", "/v1/site", data=b'{"title": "x"}', headers=headers)
        assert reply.status == status, kind
    # Of what is put a patch is no form.
    headers = {"Content-Type": "application/merge-patch+json"}
    assert (await ask(api, "PUT", "/v1/site", data=b"{}", headers=headers)).status == 415


# -- the operator's --------------------------------------------------------------------------------


async def test_a_tenant_is_made_read_changed_and_removed(api: CrmApi) -> None:
    made = await ask(api, "PUT", "/v1/tenants/globex", json={"title": "Globex", "region": "US"})
    assert made.status == 200, made.body
    assert (await ask(api, "GET", "/v1/tenants/globex")).etag == made.etag
    assert (await patch(api, "/v1/tenants/globex", {"zone": "America/New_York"})).status == 200
    site = await stored(api, "globex")
    assert (site.title, site.region, site.zone) == ("Globex", "US", "America/New_York")

    token = (await key_of(api, "globex")).get_secret_value()
    assert (await ask(api, "GET", "/v1/site", key=token)).status == 200
    gone = await ask(api, "DELETE", "/v1/tenants/globex?confirm=globex")
    assert (gone.status, gone.body["settings"]["title"]) == (200, "Globex")
    with pytest.raises(NotFound):
        await stored(api, "globex")
    assert (await ask(api, "GET", "/v1/tenants/globex")).status == 404
    # Nobody gets into a tenant of the same name by a key of before.
    await ask(api, "PUT", "/v1/tenants/globex", json={})
    assert (await ask(api, "GET", "/v1/site", key=token)).status == 401
    with pytest.raises(Unauthenticated):
        await api.keys.caller(token)


async def test_a_tenant_that_is_to_be_new_is_not_made_over_one_that_is_there(api: CrmApi) -> None:
    new = {"If-None-Match": "*"}
    first, second = await asyncio.gather(
        *(ask(api, "PUT", "/v1/tenants/globex", json={}, headers=new) for _ in range(2))
    )
    assert sorted([first.status, second.status]) == [200, 412]
    gone = await ask(api, "PUT", "/v1/tenants/nobody", json={}, headers={"If-Match": "*"})
    assert gone.status == 412
    assert (await ask(api, "GET", "/v1/tenants/nobody")).status == 404


async def test_a_tenant_with_something_set_up_is_not_removed(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/tenants/globex", json={})
    headers = {"X-Callmesh-Tenant": "globex"}
    pbx = {"kind": "generic", "signing_secret": "long-and-random"}
    assert (await ask(api, "PUT", "/v1/pbx/main", json=pbx, headers=headers)).status == 200
    rule = {"dids": ["1"], "rows": [ROW], "default": "queue:a"}
    assert (await ask(api, "PUT", "/v1/rules/one", json=rule, headers=headers)).status == 200

    for left in ("PBX connection main, rule one", "rule one"):
        reply = await ask(api, "DELETE", "/v1/tenants/globex?confirm=globex")
        assert (reply.status, reply.detail) == (409, f"Remove first what it has: {left}.")
        await ask(api, "DELETE", "/v1/pbx/main", headers=headers)
    await ask(api, "DELETE", "/v1/rules/one?confirm=one", headers=headers)
    assert (await ask(api, "DELETE", "/v1/tenants/globex?confirm=globex")).status == 200


@pytest.mark.parametrize("query", ["", "?confirm=acme", "?confirm=GLOBEX"])
async def test_a_tenant_is_removed_only_when_its_name_is_said_again(
    api: CrmApi, query: str
) -> None:
    await ask(api, "PUT", "/v1/tenants/globex", json={})
    reply = await ask(api, "DELETE", f"/v1/tenants/globex{query}")
    assert (reply.status, "confirm=globex" in reply.detail) == (422, True)


async def test_nobody_removes_the_tenant_of_his_own_key(api: CrmApi) -> None:
    reply = await ask(api, "DELETE", "/v1/tenants/acme?confirm=acme")
    assert (reply.status, "of this tenant" in reply.detail) == (409, True)


async def test_tenants_are_listed_page_by_page_and_found(api: CrmApi) -> None:
    for name, region in (("globex", "US"), ("initech", "US"), ("umbrella", "DE")):
        await ask(api, "PUT", f"/v1/tenants/{name}", json={"region": region, "title": name.title()})

    async def names(query: str) -> list[str]:
        body = (await ask(api, "GET", f"/v1/tenants?{query}")).body
        return [one["tenant"] for one in body["tenants"]]

    assert await names("") == ["acme", "globex", "initech", "umbrella"]
    assert await names("region=US") == ["globex", "initech"]
    assert await names("search=UMBR") == ["umbrella"]
    assert await names("ids=umbrella,nobody,acme") == ["acme", "umbrella"]
    first = (await ask(api, "GET", "/v1/tenants?limit=3&fields=tenant,rules")).body
    assert first["tenants"][0] == {"tenant": "acme", "rules": 0}
    assert await names(f"limit=3&cursor={first['next_cursor']}") == ["umbrella"]


async def test_only_the_operator_sees_tenants(api: CrmApi) -> None:
    theirs = await api.a_key(*(set(Scope) - {Scope.TENANTS_READ, Scope.TENANTS_WRITE}))
    reading = await api.a_key(Scope.TENANTS_READ)
    for method, path, body in (
        ("GET", "/v1/tenants", None),
        ("GET", "/v1/tenants/acme", None),
        ("PUT", "/v1/tenants/globex", {}),
        ("PATCH", "/v1/tenants/acme", {}),
        ("DELETE", "/v1/tenants/acme?confirm=acme", None),
    ):
        more: dict[str, Any] = {} if body is None else {"json": body}
        assert (await ask(api, method, path, key=theirs, **more)).status == 403
        expected = 200 if method == "GET" else 403
        assert (await ask(api, method, path, key=reading, **more)).status == expected


@pytest.mark.parametrize("name", ["Globex", "a" * 41, "-a", "a.b", "%00", "%FF", "%ED%A0%80"])
async def test_a_name_that_is_none_is_refused(api: CrmApi, name: str) -> None:
    path = URL(f"{api.origin}/v1/tenants/{name}", encoded=True)
    assert (await ask(api, "PUT", path, json={})).status == 422


async def test_who_changed_what_is_in_the_audit_log(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/tenants/globex", json={})
    await patch(api, "/v1/site", {"title": "x"})
    subjects = [(action, subject) for _, action, subject in await api.audited()]
    assert ("put_tenant", "tenant globex") in subjects
    assert ("patch_site", "tenant acme") in subjects
