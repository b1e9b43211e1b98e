"""Tickets: what a browser opens a stream with. They are short, bound, and nobody else's to make."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.gateway.screens.operations import _absolute
from shared.clock import ManualClock
from shared.http.auth import KeyBook, Scope, fingerprint
from shared.http.following import KEEP_ALIVE
from shared.http.tickets import LASTS, PURPOSE, Tickets
from shared.secrets import SecretBox, new_key
from shared.testing.waiting import eventually
from tests.contract.office_kit import ALL, ALL_SOCKET, CALL, MINE, MY_SOCKET, Office, office_at

TICKETS = "/v1/streams/tickets"
SECOND = timedelta(seconds=1)


@pytest.fixture
async def office(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Office]:
    async with office_at(tmp_path, clock) as found:
        yield found


async def a_ticket(office: Office, *, key: str | None = None, **body: Any) -> dict[str, Any]:
    status, found = await office.api.send("POST", TICKETS, key=key, json=body)
    assert status == 201, found
    return dict(found)


async def opens(office: Office, path: str, ticket: str) -> int:
    """The status with which a stream by *ticket* begins."""
    async with office.api.session.get(path, params={"ticket": ticket}) as response:
        return response.status


async def test_a_ticket_opens_the_streams_of_one_agent_and_nothing_else(office: Office) -> None:
    ticket = await a_ticket(office, extension="101")
    text = ticket["ticket"]
    assert ticket["events_url"] == f"{MINE}?ticket={text}"
    assert ticket["socket_url"] == f"{MY_SOCKET}?ticket={text}"
    assert await opens(office, MINE, text) == 200
    for path, status in (
        ("/v1/agents/102/events", 403),
        (ALL, 403),
        ("/v1/calls", 401),
        (f"/v1/agents/101/pops/{CALL}", 405),
    ):
        assert await opens(office, path, text) == status, path


async def test_a_stream_by_ticket_has_the_events_and_may_say_what_it_has_seen(
    office: Office,
) -> None:
    ticket = (await a_ticket(office, extension="101"))["ticket"]
    async with (
        office.listen(key=None, ticket=ticket) as heard,
        office.talk(key=None, ticket=ticket) as socket,
    ):
        await office.rings()
        for client in (heard, socket):
            await client.has(lambda event: event["kind"] == "pop")
        await socket.say(call_id=CALL, seen="dismissed")
        await heard.until("seen")


async def test_a_ticket_of_the_tenant_opens_the_streams_of_all(office: Office) -> None:
    ticket = await a_ticket(office)
    assert ticket["events_url"].startswith(f"{ALL}?ticket=")
    assert ticket["socket_url"].startswith(f"{ALL_SOCKET}?ticket=")
    assert await opens(office, ALL, ticket["ticket"]) == 200
    assert await opens(office, MINE, ticket["ticket"]) == 403


async def test_a_ticket_is_no_wider_than_its_key(office: Office) -> None:
    api = office.api
    bound = await api.a_key(Scope.POPS_READ, Scope.EVENTS_READ, extension="102")
    pops, events = await api.a_key(Scope.POPS_READ), await api.a_key(Scope.EVENTS_READ)
    neither = await api.a_key(Scope.CALLS_READ)
    for key, body, expected in (
        (bound, {"extension": "101"}, 403),
        (pops, {}, 403),
        (events, {"extension": "101"}, 403),
        (neither, {}, 403),
        (neither, {"extension": "101"}, 403),
        ("cm_nobody", {}, 401),
        (pops, {"extension": "x" * 33}, 422),
        (pops, {"extension": "101", "scope": "all"}, 422),
    ):
        status, problem = await api.send("POST", TICKETS, key=key, json=body)
        assert status == expected, (body, problem)
    # A bound key's is of its own phone, whatever it does not say.
    own = await a_ticket(office, key=bound)
    assert own["events_url"].startswith("/v1/agents/102/events?")


async def test_after_its_minute_a_ticket_opens_nothing_and_what_is_open_stays(
    office: Office, clock: ManualClock
) -> None:
    ticket = await a_ticket(office, extension="101")
    assert ticket["expires_at"].startswith("2100-01-01T00:01:00")
    async with office.listen(key=None, ticket=ticket["ticket"]) as heard:
        await clock.advance(LASTS - SECOND)
        assert await opens(office, MINE, ticket["ticket"]) == 200
        await clock.advance(SECOND)
        assert await opens(office, MINE, ticket["ticket"]) == 401
        await clock.advance(timedelta(minutes=5))
        await office.rings()
        await heard.has(lambda event: event["kind"] == "pop")


async def test_a_key_that_is_revoked_takes_its_tickets_and_their_streams_with_it(
    office: Office, clock: ManualClock
) -> None:
    key = await office.api.a_key(Scope.POPS_READ)
    ticket = (await a_ticket(office, key=key, extension="101"))["ticket"]
    async with office.listen(key=None, ticket=ticket) as heard:
        await office.api.keys.revoke(tenant="acme", name="k1")
        assert await opens(office, MINE, ticket) == 401
        for _ in range(4):
            await eventually(lambda: clock.sleepers >= 2 or heard.over)
            await clock.advance(KEEP_ALIVE)
        await eventually(lambda: heard.over)


async def test_a_ticket_ends_with_the_token_that_it_was_taken_with(office: Office) -> None:
    key = await office.api.a_key(Scope.POPS_READ)
    keys = office.api.keys
    ticket = (await a_ticket(office, key=key, extension="101"))["ticket"]
    await keys.rotate(tenant="acme", name="k1", overlap=timedelta(hours=1), expires_at=None)
    assert await opens(office, MINE, ticket) == 200
    # Who has lost a token rotates without an overlap.
    await keys.rotate(tenant="acme", name="k1", overlap=timedelta(0), expires_at=None)
    assert await opens(office, MINE, ticket) == 401


async def test_a_key_that_lost_the_right_has_no_tickets_any_more(office: Office) -> None:
    """One of the same name, made anew with less."""
    key = await office.api.a_key(Scope.POPS_READ)
    ticket = (await a_ticket(office, key=key, extension="101"))["ticket"]
    keys = office.api.keys
    await keys.revoke(tenant="acme", name="k1")
    await keys.issue(tenant="acme", name="k1", scopes=(Scope.CALLS_READ,))
    assert await opens(office, MINE, ticket) == 401
    await keys.revoke(tenant="acme", name="k1")
    await keys.issue(tenant="acme", name="k1", scopes=(Scope.POPS_READ,), extension="102")
    assert await opens(office, MINE, ticket) == 401


async def test_no_letter_of_a_ticket_can_be_another(office: Office) -> None:
    ticket = (await a_ticket(office, extension="101"))["ticket"]
    swapped = {letter: "A" if letter != "A" else "B" for letter in ticket} | {".": "x"}
    forged = [
        ticket[:place] + swapped[letter] + ticket[place + 1 :]
        for place, letter in enumerate(ticket)
    ]
    tickets = office.api.tickets
    refused = 0
    for text in forged:
        with pytest.raises(Exception, match="none of ours") as error:
            await tickets.caller(text, frozenset({Scope.POPS_READ}))
        refused += error.type.__name__ == "Unauthenticated"
    assert refused == len(ticket)


@pytest.mark.parametrize(
    "ticket", ["", ".", "a.b", "\x00", "é.é", "x" * 5000, "e30.", "..", " ", "null.null"]
)
async def test_what_is_no_ticket_is_refused_by_the_same_words(office: Office, ticket: str) -> None:
    async with office.api.session.get(MINE, params={"ticket": ticket}) as response:
        assert response.status == 401
        problem = await response.json()
    assert "none of ours" in problem["detail"]
    # Beside a good key too: who brings a ticket means it.
    headers = {"X-Api-Key": office.api.key}
    async with office.api.session.get(MINE, params={"ticket": ticket}, headers=headers) as response:
        assert response.status == 401


async def test_another_installation_s_ticket_is_none_of_ours(office: Office) -> None:
    api = office.api
    stranger = Tickets(SecretBox([new_key()]).signing_keys(PURPOSE), api.keys, api.clock)
    caller = await api.keys.caller(api.key)
    forged = stranger.issue(caller, scope=Scope.EVENTS_READ, extension=None)
    assert await opens(office, ALL, forged.text) == 401
    # Signed by our key for another purpose it is none either.
    other = Tickets(api.box.signing_keys("callmesh recording links 1"), api.keys, api.clock)
    assert (
        await opens(office, ALL, other.issue(caller, scope=Scope.EVENTS_READ, extension=None).text)
        == 401
    )


async def test_after_a_rotation_of_the_mesh_s_own_key_tickets_are_good_until_they_end(
    clock: ManualClock, office: Office
) -> None:
    old, new = new_key(), new_key()
    keys: KeyBook = office.api.keys
    caller = await keys.caller(office.api.key)
    before = Tickets(SecretBox([old]).signing_keys(PURPOSE), keys, clock)
    after = Tickets(SecretBox([new, old]).signing_keys(PURPOSE), keys, clock)
    ticket = before.issue(caller, scope=Scope.POPS_READ, extension="101")
    found = await after.caller(ticket.text, frozenset({Scope.POPS_READ}))
    assert (found.tenant, found.extension) == ("acme", "101")


async def test_a_ticket_says_nothing_that_is_secret(office: Office) -> None:
    ticket = (await a_ticket(office, extension="101"))["ticket"]
    said = json.loads(base64.urlsafe_b64decode(ticket.partition(".")[0] + "=="))
    # What the token is kept as: nothing opens by it.
    assert said.pop("token") == fingerprint(office.api.key)
    assert said == {
        "tenant": "acme",
        "key_name": "k0",
        "scope": "pops:read",
        "extension": "101",
        "ends_at": "2100-01-01T00:01:00.000Z",
    }


async def test_no_ticket_is_in_the_log_or_the_metrics(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = (await a_ticket(office, extension="101"))["ticket"]

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    with capture_logs() as logs:
        async with office.listen(key=None, ticket=ticket), office.talk(key=None, ticket=ticket):
            pass
        assert await opens(office, MINE, ticket + "x") == 401
        monkeypatch.setattr(office.api.screens.screens.board, "shown", breaks)
        assert await opens(office, MINE, ticket) == 500
    assert "request_failed" in {line["event"] for line in logs}
    for told in (str(logs), office.api.server._metrics.exposition().decode()):
        assert ticket.rpartition(".")[2] not in told


@pytest.mark.parametrize(
    ("public_url", "events", "socket"),
    [
        (None, "/v1/x", "/v1/x"),
        ("https://mesh.example", "https://mesh.example/v1/x", "wss://mesh.example/v1/x"),
        ("http://mesh:8080/at", "http://mesh:8080/at/v1/x", "ws://mesh:8080/at/v1/x"),
    ],
)
def test_addresses_are_those_by_which_the_gateway_is_reached(
    public_url: str | None, events: str, socket: str
) -> None:
    assert _absolute(public_url, "/v1/x", "http") == events
    assert _absolute(public_url, "/v1/x", "ws") == socket


async def test_an_odd_extension_stands_in_the_address_as_addresses_have_it(office: Office) -> None:
    ticket = await a_ticket(office, extension="*7#")
    assert ticket["events_url"].startswith("/v1/agents/*7%23/events?")
    async with office.listen("/v1/agents/*7%23/events", key=None, ticket=ticket["ticket"]):
        pass
