"""Subscribers by HTTP, and what they are told: from an event on the bus to a request at their server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.gateway.subscribers.delivery import DELIVERIES, DeliveryState
from services.gateway.subscribers.retrying import DELAYS
from services.gateway.subscribers.sending import Sender
from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.http.auth import Scope
from shared.moments import to_text
from shared.testing.waiting import eventually
from tests.contract.webhook_kit import KEPT, Mesh, a_mesh, a_receiver, ended, started

TOKEN = "a-token-of-theirs-0001"


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with a_mesh(tmp_path) as found:
        yield found


@pytest.fixture
async def slow(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Mesh]:
    """By a clock that stands still."""
    async with a_mesh(tmp_path, clock=clock) as found:
        await eventually(lambda: clock.sleepers > 0)
        yield found


# -- what is told --------------------------------------------------------------------------------


async def test_an_event_comes_signed_and_whole(mesh: Mesh) -> None:
    made = await mesh.subscribe()
    assert made["secret"].startswith("whsec_")
    await mesh.tell(started())
    await eventually(lambda: len(mesh.to.told) == 1)
    (told,) = mesh.to.told
    assert told.signed
    assert told.headers["Content-Type"] == "application/json"
    assert told.body["type"] == "calls.started"
    assert told.body["tenant"] == "acme"
    assert told.body["data"]["caller"]["number"] == "+447700900123"
    await mesh.settled("done")
    (one,) = await mesh.deliveries()
    assert one["webhook_id"] == told.webhook_id
    assert [(a["status"], a.get("error")) for a in one["attempts"]] == [(200, None)]
    # The secret is shown once.
    _, shown = await mesh.api.send("GET", "/v1/subscribers/crm")
    assert "secret" not in shown
    assert shown["last_done_at"] is not None


async def test_the_same_message_twice_is_one_delivery(mesh: Mesh) -> None:
    await mesh.subscribe()
    for _ in range(3):
        await mesh.tell(started(), key="same")
    await mesh.tell(ended(), key="other")
    await mesh.settled("done", "done")
    assert sorted(mesh.to.types) == ["calls.ended", "calls.started"]


async def test_only_what_is_wanted_is_told(mesh: Mesh) -> None:
    missed = {"field": "data.disposition", "value": "missed"}
    await mesh.subscribe(events=["calls.ended"], filter=missed)
    for call, disposition in (("c1", Disposition.ANSWERED), ("c2", Disposition.MISSED)):
        await mesh.tell(started(call))
        await mesh.tell(ended(call, disposition))
    await mesh.settled("done")
    assert [told.body["data"]["call_id"] for told in mesh.to.told] == ["c2"]


async def test_nothing_crosses_between_tenants(mesh: Mesh) -> None:
    await mesh.subscribe()
    await mesh.tell(started("c9"), tenant="other")
    await mesh.tell(started("c1"))
    await mesh.settled("done")
    assert [told.body["tenant"] for told in mesh.to.told] == ["acme"]


async def test_address_and_body_are_filled_and_escaped(mesh: Mesh) -> None:
    await mesh.subscribe(
        url=f"{mesh.to.url}/calls/{{{{.CallId}}}}?from={{{{.CallerNumber}}}}",
        method="PUT",
        events=["calls.started"],
        body={
            "type": "{{.Type}}",
            "text": "Call from {{.CallerName}}",
            "who": "{{.CallerNumber}}",
            "none": "{{.DialId}}",
            "all": "{{.Data}}",
        },
    )
    await mesh.tell(started("../../admin"))
    await mesh.settled("done")
    (told,) = mesh.to.told
    assert told.signed
    assert told.query == "from=%2B447700900123"
    assert told.path == "/calls/../../admin"  # as one segment: the server unquoted it
    assert told.body["text"] == 'Call from O"Neil <b>'
    assert "none" not in told.body
    assert told.body["all"]["direction"] == "inbound"


async def test_a_subscribers_headers_go_along_and_are_shown_to_nobody(mesh: Mesh) -> None:
    mesh.to.answer = lambda told: web.Response(
        status=500, text=f"bad token: {told.headers['Authorization']}, {told.headers['X-Own']}"
    )
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Own": TOKEN}
    made = await mesh.subscribe(headers=headers)
    assert made["headers"] == {"Authorization": KEPT, "X-Own": KEPT}
    await mesh.tell(started())

    async def was_tried() -> bool:
        return any(one["attempts"] for one in await mesh.deliveries())

    await eventually(was_tried)
    assert mesh.to.told[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(await mesh.deliveries())
    assert TOKEN not in str([one.model_dump_json() for one in await mesh.stored()])
    _, shown = await mesh.api.send("GET", "/v1/subscribers")
    assert TOKEN not in str(shown)
    assert "whsec_" not in str(shown)


# -- what goes wrong -----------------------------------------------------------------------------


async def test_ten_tries_and_no_more(slow: Mesh, clock: ManualClock) -> None:
    slow.to.answer = lambda _: web.Response(status=503, text="come back later")
    await slow.subscribe()
    await slow.tell(started())
    for tries in range(1, 11):
        await slow.was_told(tries, clock=clock)
        await slow.settled("waiting" if tries < 10 else "dead")
        await clock.advance(timedelta(minutes=2))  # what holds the lane
        if tries < 10:
            await clock.advance(1.1 * DELAYS[tries - 1] + timedelta(seconds=2))
    assert len({told.webhook_id for told in slow.to.told}) == 1
    stamps = [int(told.headers["webhook-timestamp"]) for told in slow.to.told]
    assert stamps == sorted(set(stamps))
    assert all(told.signed for told in slow.to.told)
    await clock.advance(timedelta(days=2))
    await asyncio.sleep(0)  # noqa: TID251  lets what would go wrong go wrong
    assert len(slow.to.told) == 10
    (one,) = await slow.deliveries()
    assert [a["status"] for a in one["attempts"]] == [503] * 10
    assert one["attempts"][0]["answer"] == "come back later"


async def test_what_failed_comes_through_later(slow: Mesh, clock: ManualClock) -> None:
    statuses = iter([500, 302, 404, 200])
    slow.to.answer = lambda _: web.Response(status=next(statuses), headers={"Location": "/x"})
    await slow.subscribe()
    await slow.tell(started())
    for tries in range(1, 5):
        await slow.was_told(tries, clock=clock)
        await slow.settled("waiting" if tries < 4 else "done")
        await clock.advance(timedelta(minutes=4))
    (one,) = await slow.deliveries()
    assert [a["status"] for a in one["attempts"]] == [500, 302, 404, 200]
    assert [told.path for told in slow.to.told] == ["/hook"] * 4  # the redirect led nowhere


async def test_it_is_waited_as_long_as_the_subscriber_says(slow: Mesh, clock: ManualClock) -> None:
    slow.to.answer = lambda _: web.Response(status=429, headers={"Retry-After": "3600"})
    await slow.subscribe()
    await slow.tell(started())

    async def has_tried() -> bool:
        # It waits before it, too.
        return any(one.attempts for one in await slow.stored())

    await eventually(has_tried)
    (one,) = await slow.stored()
    assert one.due_at is not None
    assert one.due_at - clock.now() == timedelta(hours=1)


async def test_who_answers_410_is_told_no_more(mesh: Mesh) -> None:
    mesh.to.answer = lambda _: web.Response(status=410)
    await mesh.subscribe()
    await mesh.tell(started("c1"))
    await mesh.settled("ended")
    _, shown = await mesh.api.send("GET", "/v1/subscribers/crm")
    assert shown["off"] == "gone"
    await mesh.tell(started("c2"))
    await mesh.subscribe("second", events=["calls.started"])
    mesh.to.answer = lambda _: web.Response()
    await mesh.tell(started("c3"))
    await mesh.settled("done", name="second")
    assert await mesh.states() == ["ended"]
    # Putting it again switches it on; nothing of the pause is told.
    await mesh.subscribe()
    _, shown = await mesh.api.send("GET", "/v1/subscribers/crm")
    assert "off" not in shown


async def test_one_that_nothing_comes_through_to_is_switched_off(
    slow: Mesh, clock: ManualClock
) -> None:
    slow.to.answer = lambda _: web.Response(status=500)
    await slow.subscribe()
    await slow.tell(started("c1"))

    async def shows(name: str, value: Any) -> None:
        async def so() -> bool:
            _, shown = await slow.api.send("GET", "/v1/subscribers/crm")
            return bool(shown.get(name) == value)

        await slow.comes_true(so, later)

    later: ManualClock | None = None
    await shows("failing_since", to_text(clock.now()))
    later = clock
    await clock.advance(timedelta(days=3, seconds=1))
    await shows("off", "failing")


async def test_one_that_hangs_holds_up_nobody(mesh: Mesh) -> None:
    async with a_receiver() as other:
        await mesh.subscribe("hanging", timeout="30s")
        mesh.to.hangs = asyncio.Event()
        body = {"url": f"{other.url}/x", "events": ["calls.*"]}
        assert (await mesh.api.send("PUT", "/v1/subscribers/well", json=body))[0] == 200
        for n in range(100):
            await mesh.tell(started(f"c{n}"))
        await eventually(lambda: len(other.told) == 100)
        assert len(mesh.to.told) == 2


async def test_a_text_that_an_event_cannot_fill_is_dead_with_its_reason(mesh: Mesh) -> None:
    await mesh.subscribe(events=["calls.started"], body={"n": "{{.CallerName | number}}"})
    await mesh.tell(started())
    await mesh.settled("dead")
    (one,) = await mesh.deliveries()
    assert "number is needed" in one["attempts"][0]["error"]
    assert not mesh.to.told


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "0x7f.1", "[fe80::1]", "192.168.1.1"],
)
async def test_an_address_inside_is_never_asked(mesh: Mesh, host: str) -> None:
    await mesh.subscribe(url=f"https://{host}/latest/meta-data")
    await mesh.tell(started())

    async def was_tried() -> bool:
        return any(one["attempts"] for one in await mesh.deliveries())

    await eventually(was_tried)
    (one,) = await mesh.deliveries()
    error = one["attempts"][0]["error"]
    assert "not a public address" in error or "looks like an address" in error


async def test_an_answer_without_end_is_cut(mesh: Mesh) -> None:
    mesh.to.answer = lambda _: web.Response(body=b"x" * 3_000_000)
    await mesh.subscribe()
    await mesh.tell(started())

    async def was_tried() -> bool:
        return any(one["attempts"] for one in await mesh.deliveries())

    await eventually(was_tried)
    (one,) = await mesh.deliveries()
    assert "answered more than" in one["attempts"][0]["error"]


# -- crashes and replicas ------------------------------------------------------------------------


async def test_a_try_that_was_broken_off_is_made_again(slow: Mesh, clock: ManualClock) -> None:
    """The process died between the request and the note of it: the lease ends, it goes again."""
    slow.to.answer = lambda _: web.Response()
    await slow.subscribe()
    await slow.tell(started())
    await slow.settled("done")
    (one,) = await slow.stored()
    broken = one.model_copy(
        update={"state": DeliveryState.SENDING, "due_at": clock.now() + timedelta(seconds=45)}
    )
    await slow.api.store.collection(DELIVERIES).put(broken)
    await clock.advance(timedelta(seconds=44))
    assert len(slow.to.told) == 1
    await slow.was_told(2, clock=clock)
    await slow.settled("done")
    assert len({told.webhook_id for told in slow.to.told}) == 1


async def test_two_replicas_send_each_once(mesh: Mesh) -> None:
    second = Sender(
        mesh.api.subscribers,
        mesh.api.deliveries,
        http=mesh.api.http,
        secrets=mesh.api.box,
        clock=mesh.api.clock,
        metrics=mesh.api.metrics,
    )
    running = asyncio.create_task(second.run())
    try:
        await mesh.subscribe(events=["calls.started"])
        (uid,) = mesh.api.subscribers.uids
        for n in range(200):
            await mesh.tell(started(f"c{n}"))
            second.wake(uid)
        await eventually(lambda: len({t.webhook_id for t in mesh.to.told}) == 200)
        await mesh.api.send("GET", "/v1/subscribers")
        assert len(mesh.to.told) == 200
    finally:
        running.cancel()


# -- set up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"url": "ftp://example.com/"}, "needs https://"),
        ({"url": "https://{{.CallId}}.example.com/"}, "without placeholders"),
        ({"url": "https://user:pw@example.com/"}, "user and password"),
        ({"url": "https://example.com\\@evil.example/"}, "needs https://"),
        ({"url": "http://example.com/"}, "CALLMESH_NET_PLAIN"),
        ({"url": "https://example.com/{{.Nobody}}"}, "there is no variable"),
        ({"events": ["calls.endet"]}, "did you mean"),
        ({"events": []}, "at least 1 item"),
        ({"events": ["hooks.received"]}, "no event is"),
        ({"body": {"x": "{{.Oops}}"}}, "there is no variable"),
        ({"body": {"x": "{{.CallId"}}, "url or body"),
        ({"body": {"x": "y" * 30_000}}, "over 20000 characters"),
        ({"headers": {"Webhook-Id": "x"}}, "is set by callmesh"),
        ({"headers": {"Host": "x"}}, "is set by callmesh"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "match pattern"),
        ({"headers": {"X-A": KEPT}}, "none is stored"),
        ({"secret": "short"}, "24 to 64 bytes"),
        ({"timeout": "10m"}, "at most 60s"),
        ({"filter": {"field": "data.nix", "value": 1}}, "no event that is subscribed to"),
        ({"colour": "red"}, "unknown key"),
    ],
)
async def test_what_cannot_be_is_refused(mesh: Mesh, said: dict[str, Any], words: str) -> None:
    body = {"url": f"{mesh.to.url}/", "events": ["calls.*"], **said}
    status, problem = await mesh.api.send("PUT", "/v1/subscribers/x", json=body)
    assert status == 422, problem
    assert words in str(problem)
    assert (await mesh.api.send("GET", "/v1/subscribers/x"))[0] == 404


async def test_a_stored_header_is_not_sent_to_another_host(mesh: Mesh) -> None:
    await mesh.subscribe(headers={"Authorization": TOKEN})
    kept = {"events": ["*"], "headers": {"Authorization": KEPT}}
    status, problem = await mesh.api.send(
        "PUT", "/v1/subscribers/crm", json={**kept, "url": "https://evil.example/"}
    )
    assert status == 422
    assert "say headers.Authorization again" in problem["detail"]
    moved = {**kept, "url": f"{mesh.to.url}/elsewhere"}
    assert (await mesh.api.send("PUT", "/v1/subscribers/crm", json=moved))[0] == 200
    await mesh.tell(started())
    await mesh.settled("done")
    assert mesh.to.told[0].headers["Authorization"] == TOKEN
    assert mesh.to.told[0].signed  # the secret stayed as well


async def test_a_secret_is_replaced_with_an_overlap(slow: Mesh, clock: ManualClock) -> None:
    made = await slow.subscribe()
    old = made["secret"]
    status, rotated = await slow.api.send(
        "POST", "/v1/subscribers/crm/rotate-secret", json={"overlap": "1h"}
    )
    assert status == 200
    assert rotated["secret"] != old
    await slow.tell(started("c1"))
    await slow.settled("done")
    assert slow.to.told[0].signed  # by the old one, which the receiver still has
    slow.to.secret = rotated["secret"]
    await clock.advance(timedelta(hours=1))
    await slow.tell(started("c2"))
    await slow.settled("done", "done")
    assert slow.to.told[1].signed
    assert len(slow.to.told[1].headers["webhook-signature"].split(" ")) == 1


async def test_deliveries_are_replayed_under_their_id(slow: Mesh, clock: ManualClock) -> None:
    slow.to.answer = lambda _: web.Response(status=500)
    await slow.subscribe(body={"id": "{{.Id}}"})
    await slow.tell(started("c1"))
    await slow.tell(started("c2"))
    for _ in range(40):
        await clock.advance(timedelta(hours=1))
        await asyncio.sleep(0.02)  # noqa: TID251  a real request is under way
    await slow.settled("dead", "dead", clock=clock)
    before = {told.webhook_id for told in slow.to.told}
    slow.to.answer = lambda _: web.Response()
    ids = [one["delivery_id"] for one in await slow.deliveries()]
    status, replayed = await slow.api.send(
        "POST", "/v1/subscribers/crm/replay", json={"delivery_ids": ids[:1]}
    )
    assert (status, replayed["replayed"]) == (200, 1)
    await slow.settled("dead", "done", clock=clock)
    status, replayed = await slow.api.send("POST", "/v1/subscribers/crm/replay", json={})
    assert (status, replayed["replayed"]) == (200, 1)
    await slow.settled("done", "done", clock=clock)
    assert {told.webhook_id for told in slow.to.told} == before


async def test_a_ping_goes_out_whatever_the_filter_says(mesh: Mesh) -> None:
    await mesh.subscribe(events=["calls.ended"], filter={"field": "data.cause", "value": 99})
    status, made = await mesh.api.send("POST", "/v1/subscribers/crm/ping")
    assert status == 202
    assert made["event"]["type"] == "ping"
    await mesh.settled("done")
    assert mesh.to.types == ["ping"]
    status, shown = await mesh.api.send(
        "GET", f"/v1/subscribers/crm/deliveries/{made['delivery_id']}"
    )
    assert (status, shown["attempts"][0]["status"]) == (200, 200)


async def test_what_is_removed_is_told_no_more(slow: Mesh, clock: ManualClock) -> None:
    slow.to.answer = lambda _: web.Response(status=500)
    await slow.subscribe()
    await slow.tell(started())
    await eventually(lambda: len(slow.to.told) == 1)
    assert (await slow.api.send("DELETE", "/v1/subscribers/crm"))[0] == 200
    await clock.advance(timedelta(hours=1))

    async def has_ended() -> bool:
        return [one.state for one in await slow.stored()] == ["ended"]

    await slow.comes_true(has_ended, clock)
    assert len(slow.to.told) == 1
    # One of its name is another.
    await slow.subscribe()
    assert await slow.deliveries() == []


async def test_who_may(mesh: Mesh) -> None:
    await mesh.subscribe()
    reader = await mesh.api.a_key(Scope.SUBSCRIBERS_READ)
    bound = await mesh.api.a_key(Scope.SUBSCRIBERS_READ, Scope.SUBSCRIBERS_WRITE, extension="101")
    body = {"url": f"{mesh.to.url}/", "events": ["*"]}
    assert (await mesh.api.send("GET", "/v1/subscribers", key=reader))[0] == 200
    assert (await mesh.api.send("PUT", "/v1/subscribers/x", key=reader, json=body))[0] == 403
    assert (await mesh.api.send("GET", "/v1/subscribers", key=bound))[0] == 403
    assert (await mesh.api.send("PUT", "/v1/subscribers/x", key=bound, json=body))[0] == 403
    assert ("k0", "put_subscriber", "subscriber crm") in await mesh.api.audited()


async def test_deliveries_by_state_type_and_page(mesh: Mesh) -> None:
    await mesh.subscribe(events=["calls.*"])
    for n in range(5):
        await mesh.tell(started(f"c{n}"))
    await mesh.tell(ended())
    await mesh.settled(*["done"] * 6)
    assert len(await mesh.deliveries(query="?type=calls.ended")) == 1
    assert await mesh.deliveries(query="?state=dead") == []
    _, first = await mesh.api.send("GET", "/v1/subscribers/crm/deliveries?limit=4")
    _, rest = await mesh.api.send(
        "GET", f"/v1/subscribers/crm/deliveries?limit=4&cursor={first['next_cursor']}"
    )
    ids = [one["delivery_id"] for one in (*first["deliveries"], *rest["deliveries"])]
    assert len(set(ids)) == 6
    status, _ = await mesh.api.send("GET", "/v1/subscribers/crm/deliveries/nothing")
    assert status == 422
