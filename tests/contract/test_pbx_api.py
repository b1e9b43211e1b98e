"""PBX connections as documents, over HTTP: set up, shown without secrets, tried, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.http.auth import Scope
from shared.sandbox.pbx import SECRET, USERNAME, SandboxPbx
from shared.site.documents import SITES
from shared.site.models import Site
from tests.contract.crm_api_kit import CrmApi, opened
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
        "PUT", "/v1/pbx/main", json=asterisk(host="192.0.2.1", secret=KEPT)
    )
    assert status == 422
    assert "say secret again" in problem["detail"]
    _, shown = await api.send("GET", "/v1/pbx/main")
    assert shown["settings"]["host"] == "127.0.0.1"

    status, _ = await api.send("PUT", "/v1/pbx/main", json=asterisk(host="192.0.2.1"))
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
    for moved in ({"host": "192.0.2.1"}, {"host": "192.0.2.1", "secret": KEPT}):
        reply = await patch(api, "/v1/pbx/main", moved)
        assert (reply.status, "say secret again" in reply.detail) == (422, True)
    said = {"host": "192.0.2.1", "secret": "another"}
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
