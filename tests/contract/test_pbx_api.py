"""PBX connections as documents, over HTTP: set up, shown without secrets, tried, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.http.auth import Scope
from shared.net.guard import AddressGuard, GuardedResolver
from shared.sandbox.pbx import SECRET, USERNAME, SandboxPbx
from shared.site.documents import SITES
from shared.site.models import Site
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.inner_service import inner_service
from tests.contract.rest_kit import ask, patch

KEPT = "********"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply()
        yield found


def asterisk(**changes: Any) -> dict[str, Any]:
    known = {
        "kind": "asterisk",
        "host": "127.0.0.1",
        "port": 5038,
        "username": USERNAME,
        "secret": SECRET,
        "trunks": ["trunk"],
    }
    return known | changes


def freeswitch(**changes: Any) -> dict[str, Any]:
    known = {"kind": "freeswitch", "host": "127.0.0.1", "password": SECRET, "trunks": ["trunk"]}
    return known | changes


async def stored(api: CrmApi) -> Site:
    return (await api.store.collection(SITES).get("acme")).site


async def secret_of(api: CrmApi, pbx: str) -> str:
    found = (await stored(api)).pbx_named(pbx)
    return api.box.open(found.secret).get_secret_value()  # type: ignore[union-attr]  # an asterisk


async def test_one_that_is_put_is_there_with_its_secret_sealed(api: CrmApi) -> None:
    status, put = await api.send("PUT", "/v1/pbx/main", json=asterisk())

    assert status == 200, put
    assert put["settings"]["secret"] == KEPT
    assert await secret_of(api, "main") == SECRET
    document = (await api.store.collection(SITES).get("acme")).model_dump_json()
    assert SECRET not in document
    status, listed = await api.send("GET", "/v1/pbx")
    assert status == 200
    assert [(one["name"], one["kind"]) for one in listed["connections"]] == [("main", "asterisk")]
    assert SECRET not in str(listed)


@pytest.mark.parametrize("said", [{"secret": KEPT}, {"secret": None}, {}])
async def test_a_secret_that_is_not_said_again_stays(api: CrmApi, said: dict[str, Any]) -> None:
    await api.send("PUT", "/v1/pbx/main", json=asterisk())
    body = {k: v for k, v in asterisk(technology="SIP").items() if k != "secret"} | said
    status, put = await api.send("PUT", "/v1/pbx/main", json=body)

    assert status == 200, put
    assert put["settings"]["technology"] == "SIP"
    assert await secret_of(api, "main") == SECRET


async def test_a_stored_secret_is_not_sent_to_another_host(api: CrmApi) -> None:
    """It cannot be read here; whoever may change the host could have it sent to one of his."""
    await api.send("PUT", "/v1/pbx/main", json=asterisk())
    status, problem = await api.send(
        "PUT", "/v1/pbx/main", json=asterisk(host="pbx.example", secret=KEPT)
    )
    assert status == 422
    assert "say secret again" in problem["detail"]
    _, shown = await api.send("GET", "/v1/pbx/main")
    assert shown["settings"]["host"] == "127.0.0.1"

    status, _ = await api.send("PUT", "/v1/pbx/main", json=asterisk(host="pbx.example"))
    assert status == 200


async def test_a_secret_is_never_a_place_on_the_server(api: CrmApi) -> None:
    """What a site file may say, who calls the API may not: it would read the server's files."""
    for secret in ({"file": "/etc/hostname"}, {"env": "HOME"}, "sealed:abc", ""):
        status, problem = await api.send("PUT", "/v1/pbx/main", json=asterisk(secret=secret))
        assert status == 422, secret
        assert "secret" in problem["detail"]


async def test_the_secret_of_another_kind_does_not_come_along(api: CrmApi) -> None:
    await api.send("PUT", "/v1/pbx/main", json=asterisk())
    body = {"kind": "freeswitch", "host": "127.0.0.1", "trunks": ["t"], "password": KEPT}
    status, problem = await api.send("PUT", "/v1/pbx/main", json=body)

    assert status == 422
    assert "password" in problem["detail"]


async def test_a_secret_of_blanks_and_a_zone_that_is_none_are_refused(api: CrmApi) -> None:
    """What is stored is started everywhere, so it has to be found here."""
    generic = {"kind": "generic", "signing_secret": "  "}
    yeastar = {"kind": "yeastar", "url": "https://pbx.example", "client_id": "c"}
    for body, word in (
        (generic, "empty"),
        (yeastar | {"client_secret": "s", "zone": "Nowhere/City"}, "no time zone"),
        (yeastar | {"client_secret": "s", "zone": "../../etc/passwd"}, "no time zone"),
    ):
        status, problem = await api.send("PUT", "/v1/pbx/main", json=body)
        assert status == 422, body
        assert word in problem["detail"]
    assert not (await stored(api)).pbx


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": "abacus"}, "kind"),
        ({"port": 70000}, "port"),
        ({"trunks": []}, "trunks"),
        ({"colour": "red"}, "colour"),
        ({"fingerprint": "abc"}, "64 hexadecimal digits"),
        ({"senders": ["everybody"]}, "senders"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(
    api: CrmApi, changes: dict[str, Any], word: str
) -> None:
    status, problem = await api.send("PUT", "/v1/pbx/main", json=asterisk(**changes))
    assert status == 422
    assert word in problem["detail"]
    assert SECRET not in str(problem)
    assert not (await stored(api)).pbx


async def test_one_that_a_phone_is_at_is_not_removed(api: CrmApi) -> None:
    await api.apply(
        pbx=[{"kind": "generic", "name": "door"}], agents=[{"extension": "101", "pbx": "door"}]
    )
    status, problem = await api.send("DELETE", "/v1/pbx/door")
    assert (status, "101" in problem["detail"]) == (409, True)

    await api.apply(pbx=[{"kind": "generic", "name": "door"}])
    assert (await api.send("DELETE", "/v1/pbx/door"))[0] == 200
    assert (await api.send("GET", "/v1/pbx/door"))[0] == 404


async def test_two_that_change_the_site_at_once_both_do(api: CrmApi) -> None:
    puts = [api.send("PUT", f"/v1/pbx/p{n}", json={"kind": "generic"}) for n in range(4)]
    assert [status for status, _ in await asyncio.gather(*puts)] == [200] * 4
    assert {pbx.name for pbx in (await stored(api)).pbx} == {"p0", "p1", "p2", "p3"}


async def test_it_is_tried_and_what_is_wrong_is_said(api: CrmApi) -> None:
    pbx = SandboxPbx()
    port = await pbx.start()
    try:
        await api.send("PUT", "/v1/pbx/main", json=asterisk(port=port, secret="a wrong one"))
        status, refused = await api.send("POST", "/v1/pbx/main/check")
    finally:
        await pbx.stop()
    assert status == 200
    assert not refused["well"]
    assert "secret" in str(refused["findings"])
    assert "a wrong one" not in str(refused)

    _, closed = await api.send("POST", "/v1/pbx/main/check")
    assert not closed["well"]
    assert f"127.0.0.1:{port}" in str(closed["findings"])


async def test_reading_is_not_changing(api: CrmApi) -> None:
    reader = await api.a_key(Scope.SITE_READ)
    assert (await api.send("GET", "/v1/pbx", key=reader))[0] == 200
    assert (await api.send("PUT", "/v1/pbx/x", key=reader, json={"kind": "generic"}))[0] == 403
    assert (await api.send("DELETE", "/v1/pbx/x", key=reader))[0] == 403
    stranger = await api.a_key(Scope.CALLS_READ)
    assert (await api.send("GET", "/v1/pbx", key=stranger))[0] == 403


async def test_who_changed_what_is_in_the_audit_log(api: CrmApi) -> None:
    await api.send("PUT", "/v1/pbx/main", json={"kind": "generic"})
    await api.send("DELETE", "/v1/pbx/main")
    assert [(action, subject) for _, action, subject in await api.audited()] == [
        ("put_pbx", "pbx main"),
        ("delete_pbx", "pbx main"),
    ]


# -- in part, and bound to what was seen -----------------------------------------------------------


async def test_a_part_is_changed_and_the_secret_stays(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/pbx/main", json=asterisk(technology="SIP"))
    reply = await patch(api, "/v1/pbx/main", {"technology": None, "ring_agent": "20s"})

    assert reply.status == 200, reply.body
    assert reply.body["settings"]["technology"] == "PJSIP"
    assert reply.body["settings"]["ring_agent"] == "PT20S"
    assert reply.body["settings"]["secret"] == KEPT
    assert await secret_of(api, "main") == SECRET
    assert "" != put.etag != reply.etag == (await ask(api, "GET", "/v1/pbx/main")).etag
    assert (await patch(api, "/v1/pbx/none", {})).status == 404


async def test_a_part_that_sends_the_secret_elsewhere_is_refused(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/pbx/main", json=asterisk())
    for moved in ({"host": "pbx.example"}, {"host": "pbx.example", "secret": KEPT}):
        reply = await patch(api, "/v1/pbx/main", moved)
        assert (reply.status, "say secret again" in reply.detail) == (422, True)
    said = {"host": "pbx.example", "secret": "another"}
    assert (await patch(api, "/v1/pbx/main", said)).status == 200
    assert await secret_of(api, "main") == "another"


async def test_a_secret_that_is_not_needed_is_removed_by_null(api: CrmApi) -> None:
    body = {"kind": "generic", "signing_secret": "long-and-random"}
    await ask(api, "PUT", "/v1/pbx/branch", json=body)
    kept = await ask(api, "PUT", "/v1/pbx/branch", json={"kind": "generic"})
    assert kept.body["settings"]["signing_secret"] == KEPT

    gone = await patch(api, "/v1/pbx/branch", {"signing_secret": None})
    assert gone.status == 200, gone.body
    assert "signing_secret" not in gone.body["settings"]
    needed = await ask(api, "PUT", "/v1/pbx/main", json=asterisk())
    assert needed.status == 200
    reply = await patch(api, "/v1/pbx/main", {"secret": None})
    assert (reply.status, "secret" in reply.detail) == (422, True)
    assert await secret_of(api, "main") == SECRET


async def test_what_was_changed_meanwhile_is_not_changed(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/pbx/main", json=asterisk())
    # To say the secret anew is a change that nothing else shows.
    await patch(api, "/v1/pbx/main", {"secret": "another"})
    seen = {"If-Match": put.etag}
    for reply in (
        await patch(api, "/v1/pbx/main", {"technology": "SIP"}, headers=seen),
        await ask(api, "PUT", "/v1/pbx/main", json=asterisk(), headers=seen),
        await ask(api, "PUT", "/v1/pbx/main", json=asterisk(), headers={"If-None-Match": "*"}),
        await ask(api, "DELETE", "/v1/pbx/main", headers=seen),
    ):
        assert (reply.status, reply.code) == (412, "stale")
    assert await secret_of(api, "main") == "another"
    now = await ask(api, "GET", "/v1/pbx/main")
    same = await ask(api, "GET", "/v1/pbx/main", headers={"If-None-Match": now.etag})
    assert (same.status, same.body) == (304, "")
    gone = await ask(api, "DELETE", "/v1/pbx/main", headers={"If-Match": now.etag})
    assert gone.status == 200


async def test_they_are_listed_page_by_page_by_kind_and_in_part(api: CrmApi) -> None:
    for name in ("a", "b"):
        await ask(api, "PUT", f"/v1/pbx/{name}", json=asterisk())
    await ask(api, "PUT", "/v1/pbx/c", json={"kind": "generic"})

    async def names(query: str) -> list[str]:
        reply = await ask(api, "GET", f"/v1/pbx?{query}")
        assert reply.status == 200, reply.body
        return [one["name"] for one in reply.body["connections"]]

    assert await names("kind=asterisk") == ["a", "b"]
    assert await names("ids=c,a,x") == ["a", "c"]
    first = (await ask(api, "GET", "/v1/pbx?limit=2&fields=name,settings.host")).body
    assert first["connections"][1] == {"name": "b", "settings": {"host": "127.0.0.1"}}
    assert await names(f"cursor={first['next_cursor']}") == ["c"]
    one = await ask(api, "GET", "/v1/pbx/a?fields=kind")
    assert one.body == {"kind": "asterisk"}


# -- where it may lead -----------------------------------------------------------------------------


async def check(api: CrmApi, pbx: str = "main") -> str:
    status, found = await api.send("POST", f"/v1/pbx/{pbx}/check")
    assert status == 200, found
    return str(found["findings"])


@pytest.mark.parametrize("host", ["10.0.0.5", "169.254.169.254", "::ffff:10.0.0.5", "0x7f000001"])
async def test_a_host_in_the_operators_network_is_refused(api: CrmApi, host: str) -> None:
    for body in (asterisk(host=host), freeswitch(host=host)):
        status, problem = await api.send("PUT", "/v1/pbx/main", json=body)
        assert (status, problem["detail"].startswith(f"host: {host} ")) == (422, True)
        assert "site file" in problem["detail"]
    assert not (await stored(api)).pbx

    await api.send("PUT", "/v1/pbx/main", json=asterisk())
    reply = await patch(api, "/v1/pbx/main", {"host": host, "secret": SECRET})
    assert (reply.status, "host: " in reply.detail) == (422, True)


@pytest.mark.parametrize("body", [asterisk, freeswitch])
async def test_a_name_that_means_the_operators_network_later_is_not_connected_to(
    api: CrmApi, body: Any
) -> None:
    async with inner_service() as (port, heard):
        put = await ask(api, "PUT", "/v1/pbx/main", json=body(host="localhost", port=port))
        assert put.status == 200, put.body
        api.http.names = GuardedResolver(AddressGuard())

        assert "127.0.0.1 is not a public address" in await check(api)
        assert heard == []


async def test_what_a_site_file_says_is_connected_to_wherever_it_is(api: CrmApi) -> None:
    api.http.names = GuardedResolver(AddressGuard())
    async with inner_service() as (port, heard):
        sealed = api.box.seal(SecretStr(SECRET))
        await api.apply(pbx=[asterisk(name="main", port=port, secret=sealed)])
        await check(api)
        assert heard == ["127.0.0.1"]

        kept = await patch(api, "/v1/pbx/main", {"technology": "SIP"})
        assert (kept.status, kept.body["settings"]["guarded"]) == (200, False)
        await check(api)
        assert len(heard) == 2


async def test_another_port_of_the_same_host_is_another_place(api: CrmApi) -> None:
    """Else one connection of a site file opens all ports of its machine."""
    sealed = api.box.seal(SecretStr(SECRET))
    await api.apply(pbx=[asterisk(name="main", host="10.0.0.5", secret=sealed)])
    for more in ({}, {"guarded": False}):
        reply = await patch(api, "/v1/pbx/main", {"port": 22, **more})
        assert (reply.status, "host: 10.0.0.5 " in reply.detail) == (422, True)


async def test_whether_it_is_guarded_is_not_what_is_sent(api: CrmApi) -> None:
    put = await ask(api, "PUT", "/v1/pbx/main", json=asterisk(guarded=False))
    assert put.body["settings"]["guarded"] is True
    again = await patch(api, "/v1/pbx/main", {"guarded": False})
    assert again.body["settings"]["guarded"] is True


# -- who may ask -----------------------------------------------------------------------------------


async def test_askers_of_one_tenant_do_not_take_in_those_of_another(api: CrmApi) -> None:
    """Where two fit, plain `route` is nobody's: calls of the other would go by the dialplan."""
    mine = asterisk(askers=["198.51.100.7/32", "2001:db8::/64"])
    assert (await ask(api, "PUT", "/v1/pbx/main", json=mine)).status == 200
    await ask(api, "PUT", "/v1/tenants/mallory", json={})
    headers = {"X-Callmesh-Tenant": "mallory"}

    for wide in ("0.0.0.0/0", "198.51.100.0/24", "198.51.100.7/32", "::/0"):
        body = asterisk(askers=["203.0.113.5/32", wide])
        reply = await ask(api, "PUT", "/v1/pbx/evil", json=body, headers=headers)
        assert (reply.status, f"asks from {wide}" in reply.detail) == (422, True)
    own = asterisk(askers=["203.0.113.5/32"])
    assert (await ask(api, "PUT", "/v1/pbx/evil", json=own, headers=headers)).status == 200
    # One tenant's own may overlap: nobody else is harmed.
    assert (await ask(api, "PUT", "/v1/pbx/branch", json=mine)).status == 200


async def test_askers_that_the_operator_applied_stay_with_other_changes(api: CrmApi) -> None:
    await ask(api, "PUT", "/v1/tenants/globex", json={})
    headers = {"X-Callmesh-Tenant": "globex"}
    theirs = asterisk(askers=["10.0.0.0/24"])
    assert (await ask(api, "PUT", "/v1/pbx/main", json=theirs, headers=headers)).status == 200
    sealed = api.box.seal(SecretStr(SECRET))
    await api.apply(pbx=[asterisk(name="main", askers=["10.0.0.0/8"], secret=sealed)])

    reply = await patch(api, "/v1/pbx/main", {"technology": "SIP"})
    assert reply.status == 200, reply.body
    wider = await patch(api, "/v1/pbx/main", {"askers": ["10.0.0.0/8", "10.0.0.0/16"]})
    assert (wider.status, "asks from 10.0.0.0/16" in wider.detail) == (422, True)
