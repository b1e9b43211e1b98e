"""Subscribers as documents: read in part, patched, bound to what they were; and odd input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.gateway.subscribers.lanes import SLOW_AT_ONCE
from shared.contracts.calls import CallSummarised
from shared.http.auth import Scope
from shared.testing.waiting import eventually
from tests.contract.webhook_kit import KEPT, Mesh, a_mesh, a_receiver, ended, started

PATH = "/v1/subscribers/crm"
TOKEN = "a-token-of-theirs-0001"


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with a_mesh(tmp_path) as found:
        yield found


async def tag(mesh: Mesh) -> str:
    async with mesh.api.session.get(PATH, headers={"X-Api-Key": mesh.api.key}) as answer:
        assert answer.status == 200
        return answer.headers["ETag"]


async def patch(mesh: Mesh, body: Any, **headers: str) -> tuple[int, Any]:
    return await mesh.api.send("PATCH", PATH, json=body, headers=headers)


# -- a part of it ----------------------------------------------------------------------------------


async def test_a_patch_changes_what_it_says_alone(mesh: Mesh) -> None:
    await mesh.subscribe(
        description="theirs",
        events=["calls.started", "calls.ended"],
        filter={"field": "data.call_id", "operator": "starts_with", "value": "c"},
        body={"id": "{{.CallId}}", "kind": "{{.Type}}"},
        headers={"Authorization": TOKEN, "X-Old": "yes"},
    )
    status, found = await patch(
        mesh, {"events": ["calls.started"], "body": {"kind": None}, "headers": {"X-Old": None}}
    )
    assert status == 200, found
    assert found["settings"]["events"] == ["calls.started"]
    assert found["settings"]["body"] == {"id": "{{.CallId}}"}
    assert found["settings"]["description"] == "theirs"
    assert found["settings"]["filter"]["value"] == "c"
    assert found["headers"] == {"Authorization": KEPT}
    assert "secret" not in found
    await mesh.tell(started("c1"))
    await mesh.tell(started("x2"))
    await mesh.tell(ended("c3"))
    await mesh.settled("done")
    (told,) = mesh.to.told
    assert told.body == {"id": "c1"}
    assert told.headers["Authorization"] == TOKEN
    assert "X-Old" not in told.headers
    assert told.signed  # the secret stayed
    assert ("k0", "patch_subscriber", "subscriber crm") in await mesh.api.audited()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"url": "https://evil.example/"}, "say headers.Authorization again"),
        ({"url": "http://example.com/", "headers": {"Authorization": "new"}}, "CALLMESH_NET_PLAIN"),
        ({"url": None}, "url"),
        ({"events": None}, "events"),
        ({"events": ["calls.nothing"]}, "no event is"),
        ({"headers": {"X-New": KEPT}}, "none is stored"),
        ({"headers": {"webhook-id": "x"}}, "is set by callmesh"),
        ({"secret": "short"}, "24 to 64 bytes"),
        ({"name": "other"}, "unknown key"),
    ],
)
async def test_a_patch_is_checked_as_a_put_is(mesh: Mesh, said: Any, words: str) -> None:
    await mesh.subscribe(headers={"Authorization": TOKEN})
    before = await tag(mesh)
    status, problem = await patch(mesh, said)
    assert status == 422, problem
    assert words in str(problem)
    assert await tag(mesh) == before


async def test_a_patch_makes_nobody(mesh: Mesh) -> None:
    assert (await patch(mesh, {"active": False}))[0] == 404
    assert (await mesh.api.send("GET", PATH))[0] == 404


async def test_who_was_switched_off_is_on_after_a_patch(mesh: Mesh) -> None:
    mesh.to.answer = lambda _: web.Response(status=410)
    await mesh.subscribe()
    await mesh.tell(started())
    await mesh.settled("ended")
    mesh.to.answer = lambda _: web.Response()
    status, found = await patch(mesh, {"description": "mended"})
    assert (status, found.get("off")) == (200, None)
    await mesh.tell(started("c2"))
    await mesh.settled("done", "ended")


# -- bound to what it was ----------------------------------------------------------------------------


async def test_nobody_changes_what_he_has_not_seen(mesh: Mesh) -> None:
    await mesh.subscribe()
    seen = await tag(mesh)
    assert (await patch(mesh, {"description": "one"}, **{"If-Match": seen}))[0] == 200
    for method, body in (
        ("PUT", {"url": f"{mesh.to.url}/", "events": ["*"]}),
        ("PATCH", {"description": "two"}),
        ("DELETE", None),
    ):
        status, problem = await mesh.api.send(method, PATH, json=body, headers={"If-Match": seen})
        assert (status, problem["code"]) == (412, "stale"), problem
    _, shown = await mesh.api.send("GET", PATH)
    assert shown["settings"]["description"] == "one"
    assert (await mesh.api.send("DELETE", PATH, headers={"If-Match": await tag(mesh)}))[0] == 200


async def test_only_if_it_is_new(mesh: Mesh) -> None:
    body = {"url": f"{mesh.to.url}/", "events": ["*"]}
    new = {"If-None-Match": "*"}
    assert (await mesh.api.send("PUT", PATH, json=body, headers=new))[0] == 200
    assert (await mesh.api.send("PUT", PATH, json=body, headers=new))[0] == 412
    assert (await mesh.api.send("GET", PATH, headers={"If-None-Match": await tag(mesh)}))[0] == 304


async def test_of_two_who_saw_the_same_one_is_refused(mesh: Mesh) -> None:
    await mesh.subscribe()
    seen = {"If-Match": await tag(mesh)}
    done = await asyncio.gather(*(patch(mesh, {"description": f"d{n}"}, **seen) for n in range(8)))
    assert sorted(status for status, _ in done) == [200] + [412] * 7


async def test_the_tag_is_of_what_was_set_up(mesh: Mesh) -> None:
    """Who is about to change it is not told that another webhook came through."""
    await mesh.subscribe()
    seen = await tag(mesh)
    await mesh.tell(started())
    await mesh.settled("done")
    assert await tag(mesh) == seen
    await mesh.api.send("POST", f"{PATH}/rotate-secret", json={})
    assert await tag(mesh) != seen


# -- lists -------------------------------------------------------------------------------------------


async def test_some_fields_of_some(mesh: Mesh) -> None:
    for name in ("a", "b", "c"):
        await mesh.subscribe(name)
    _, found = await mesh.api.send(
        "GET", "/v1/subscribers?ids=a,c,nobody&fields=name,settings.events"
    )
    assert found == {
        "subscribers": [{"name": n, "settings": {"events": ["*"]}} for n in ("a", "c")]
    }
    _, first = await mesh.api.send("GET", "/v1/subscribers?limit=2&fields=name")
    _, rest = await mesh.api.send(
        "GET", f"/v1/subscribers?limit=2&fields=name&cursor={first['next_cursor']}"
    )
    assert [s["name"] for s in (*first["subscribers"], *rest["subscribers"])] == ["a", "b", "c"]
    assert await mesh.api.send("GET", "/v1/subscribers/b?fields=name") == (200, {"name": "b"})
    status, problem = await mesh.api.send("GET", "/v1/subscribers/b?fields=secrets")
    assert status == 422
    assert "settings" in problem["detail"]


async def test_deliveries_by_kind_and_id(mesh: Mesh) -> None:
    await mesh.subscribe()
    await mesh.tell(started())
    await mesh.tell(ended())
    await mesh.api.send("POST", f"{PATH}/ping")
    await mesh.settled("done", "done", "done")
    for kind, wanted in (
        ("ping", ["ping"]),
        ("calls.*", ["calls.ended", "calls.started"]),
        ("calls.ended", ["calls.ended"]),
        ("calls.e", []),
        ("*", ["calls.ended", "calls.started", "ping"]),
    ):
        found = await mesh.deliveries(query=f"?type={kind}")
        assert sorted(one["type"] for one in found) == wanted, kind
    ids = [one["delivery_id"] for one in await mesh.deliveries()]
    two = await mesh.deliveries(query=f"?ids={ids[0]},{ids[2]}&fields=delivery_id")
    assert sorted(one["delivery_id"] for one in two) == sorted([ids[0], ids[2]])
    assert list(two[0]) == ["delivery_id"]
    assert await mesh.deliveries(query="?ids=") == []


# -- odd input ---------------------------------------------------------------------------------------


def deep(depth: int) -> Any:
    found: Any = "x"
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "said",
    [
        {"url": "https://example.com:99999/"},
        {"url": "https://:443/"},
        {"url": "https://[::1/"},
        {"url": "https://[::1]x/"},
        {"url": "https://xn--zzzzz---/"},
        {"url": "https://127.0.0.1%2f.example.com/"},
        {"url": "https:///hook"},
        {"url": "https://example.com\n/"},
        {"url": "https://example.com/\x00"},
        {"body": deep(51)},
        {"body": {"n": 2**63}},
        {"body": {"n": 10**4000}},
        {"body": {"x": "\ud800"}},
        {"filter": {"field": "data.cause", "value": 2**80}},
        {"headers": {"X-A": "\x00"}},
        {"headers": {"X-A": "\ud800"}},
        {"headers": {"Expect": "100-continue"}},
        {"headers": {"Content-Encoding": "gzip"}},
        {"headers": {"": "x"}},
        {"secret": "whsec_" + "A" * 500},
        {"secret": "whsec_\ud800"},
        {"description": "\ud800"},
    ],
)
async def test_odd_input_is_refused_and_nothing_breaks(mesh: Mesh, said: dict[str, Any]) -> None:
    body = {"url": f"{mesh.to.url}/", "events": ["calls.*"], **said}
    status, problem = await mesh.api.send("PUT", PATH, json=body)
    assert status in {400, 422}, problem
    await mesh.subscribe()
    status, problem = await patch(mesh, said)
    assert status in {400, 422}, problem


async def test_large_and_odd_bodies_are_kept_as_they_are(mesh: Mesh) -> None:
    body = {"$set": {"a.b": 1}, "": [2**63 - 1, -1.5, None, True], "deep": deep(40), "ü\x01": "x"}
    await mesh.subscribe(events=["calls.started"], body=body)
    _, shown = await mesh.api.send("GET", f"{PATH}?fields=settings.body")
    assert shown["settings"]["body"] == body
    await mesh.tell(started())
    await mesh.settled("done")
    assert mesh.to.told[0].body == body


@pytest.mark.parametrize("text", ["{{.Event}}", "{{.Data | json}}", "{{.Transcription}}"])
async def test_a_body_that_would_grow_beyond_measure_is_dead(mesh: Mesh, text: str) -> None:
    body = {f"k{n}": text for n in range(700)}
    await mesh.subscribe(events=["calls.summarised"], body=body)
    said = CallSummarised(call_id="c1", pbx="main", transcription='"' * 100_000)
    await mesh.tell(said)
    await mesh.settled("dead")
    (one,) = await mesh.deliveries()
    assert "characters of the event" in one["attempts"][0]["error"]
    # A large one is no fault.
    assert (await patch(mesh, {"body": {f"k{n}": None for n in range(1, 700)}}))[0] == 200
    await mesh.api.send("POST", f"{PATH}/replay", json={})
    await mesh.settled("done")


async def test_a_body_that_comes_out_too_large_is_dead(mesh: Mesh) -> None:
    body = {f"k{n}": "{{.Data | json}}" for n in range(4)}
    await mesh.subscribe(events=["calls.summarised"], body=body)
    await mesh.tell(CallSummarised(call_id="c1", pbx="main", transcription='"' * 100_000))
    await mesh.settled("dead")
    (one,) = await mesh.deliveries()
    assert "bytes" in one["attempts"][0]["error"]


async def test_many_that_hang_hold_up_nobody_who_is_known(mesh: Mesh) -> None:
    async with a_receiver() as other:
        body = {"url": f"{other.url}/x", "events": ["calls.*"]}
        assert (await mesh.api.send("PUT", "/v1/subscribers/well", json=body))[0] == 200
        await mesh.tell(started("c0"))
        await mesh.settled("done", name="well")
        mesh.to.hangs = asyncio.Event()
        for number in range(40):
            await mesh.subscribe(f"h{number}", timeout="30s")
        for number in range(1, 11):
            await mesh.tell(started(f"c{number}"))
        await eventually(lambda: len(other.told) == 11)
        assert len(mesh.to.told) <= SLOW_AT_ONCE


async def test_who_may_patch(mesh: Mesh) -> None:
    await mesh.subscribe()
    reader = await mesh.api.a_key(Scope.SUBSCRIBERS_READ)
    bound = await mesh.api.a_key(Scope.SUBSCRIBERS_WRITE, extension="101")
    for key in (reader, bound):
        status, _ = await mesh.api.send("PATCH", PATH, json={"active": False}, key=key)
        assert status == 403


async def test_those_of_a_tenant_go_with_it(mesh: Mesh) -> None:
    """Whoever has its name next would have his calls told to them."""
    there = {"X-Callmesh-Tenant": "globex"}
    assert (await mesh.api.send("PUT", "/v1/tenants/globex", json={}))[0] == 200
    body = {"url": f"{mesh.to.url}/theirs", "events": ["*"]}
    assert (await mesh.api.send("PUT", PATH, json=body, headers=there))[0] == 200
    await mesh.subscribe()
    status, _ = await mesh.api.send("DELETE", "/v1/tenants/globex?confirm=globex")
    assert status == 200
    assert (await mesh.api.send("PUT", "/v1/tenants/globex", json={}))[0] == 200
    assert (await mesh.api.send("GET", PATH, headers=there))[0] == 404
    await mesh.tell(started("c1"), tenant="globex")
    await mesh.tell(started("c2"))
    await mesh.settled("done")
    assert [told.path for told in mesh.to.told] == ["/hook"]
