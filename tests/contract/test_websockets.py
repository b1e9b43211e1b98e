"""Live streams on WebSockets: the same events, what a client may say, and how a socket ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from shared.clock import ManualClock
from shared.contracts.screens import PopSeen, Seen
from shared.http.auth import Scope
from shared.http.following import KEEP_ALIVE
from shared.http.sockets import UNAUTHENTICATED
from shared.moments import to_ms
from shared.testing.waiting import eventually
from tests.contract.office_kit import (
    ALL_SOCKET,
    CALL,
    MY_SOCKET,
    OTHER,
    PAGE,
    Office,
    office_at,
)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with office_at(tmp_path) as found:
        yield found


async def test_the_same_events_come_as_messages(office: Office) -> None:
    async with office.listen() as heard, office.talk() as socket:
        await office.rings()
        for client in (heard, socket):
            await client.has(lambda event: event["kind"] == "pop")
        await office.jane.ends(CALL)
        for client in (heard, socket):
            await client.has(lambda event: event["kind"] == "closed")
        assert socket.events == heard.events
        assert socket.of("pop")[0]["page_url"] == PAGE


async def test_a_socket_goes_on_by_query_and_by_message(office: Office) -> None:
    async with office.talk() as before:
        await office.rings()
        await before.has(lambda event: event["kind"] == "pop")
    last = before.events[-1]["id"]
    await office.jane.answers(CALL)
    async with office.talk(last_event_id=last) as by_query:
        await by_query.has(lambda event: event["kind"] == "answered")
        await office.jane.ends(CALL)
        await by_query.has(lambda event: event["kind"] == "closed")
    assert "reset" not in by_query.kinds
    async with office.talk() as by_message:
        assert by_message.events == []
        await by_message.say(resume=last)
        await by_message.has(lambda event: event["kind"] == "closed")
        await by_message.say(resume="nothing-that-we-know")
        await by_message.until("reset")


async def test_a_pop_that_was_seen_is_said_on_the_socket_and_told_to_all_devices(
    office: Office,
) -> None:
    async with office.talk() as desk, office.talk() as phone, office.listen() as page:
        await office.rings()
        devices = (desk, phone, page)
        for device in devices:
            await device.has(lambda event: event["kind"] == "pop")
        await phone.say(call_id=CALL, seen="opened")
        for device in devices:
            (event,) = await device.until("seen")
            assert (event["call_id"], event["seen"], event["extension"]) == (CALL, "opened", "101")


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "[]",
        "no json",
        '{"resume": "x", "seen": "opened", "call_id": "c"}',
        '{"seen": "opened"}',
        '{"call_id": "c"}',
        '{"seen": "stolen", "call_id": "c"}',
        '{"resume": "../etc"}',
        '{"resume": 5}',
        '{"resume": "' + "x" * 100 + '"}',
        '{"resume": "a\\u0000"}',
        '{"what": 1, "resume": "a"}',
        "1" * 4000,
        "[" * 4000,
        '"\\ud800"',
    ],
)
async def test_what_is_no_word_of_ours_is_told_so_and_the_socket_stays(
    office: Office, said: str
) -> None:
    async with office.talk() as socket:
        assert socket.ws is not None
        await socket.ws.send_str(said)
        (told,) = await socket.until("error")
        assert told["code"] == "invalid_request"
        assert len(told["detail"]) < 500
        await office.rings()
        await socket.has(lambda event: event["kind"] == "pop")


async def test_a_pop_of_a_call_that_nobody_knows_cannot_be_seen(office: Office) -> None:
    async with office.talk() as socket:
        await socket.say(call_id=OTHER, seen="opened")
        (told,) = await socket.until("error")
        assert told["code"] == "not_found"


async def test_who_follows_the_tenant_sees_no_pops_away(office: Office) -> None:
    async with office.talk(ALL_SOCKET) as socket:
        await socket.say(call_id=CALL, seen="opened")
        (told,) = await socket.until("error")
        assert told["code"] == "invalid_request"
        await office.rings()
        event = await socket.has(lambda event: event["kind"] == "pop")
        assert event["extension"] == "101"
        await socket.say(resume=event["id"])
        await office.jane.ends(CALL)
        await socket.has(lambda event: event["kind"] == "closed")


async def test_a_message_that_is_too_large_ends_the_socket(office: Office) -> None:
    async with office.talk() as socket:
        assert socket.ws is not None
        await socket.ws.send_str('{"resume": "' + "x" * 5000 + '"}')
        await eventually(lambda: socket.over)
        assert socket.close_code == 1009


async def test_bytes_end_the_socket(office: Office) -> None:
    async with office.talk() as socket:
        assert socket.ws is not None
        await socket.ws.send_bytes(b'{"resume": "x"}')
        await eventually(lambda: socket.over)
        assert socket.close_code == 1003


async def test_too_many_messages_end_the_socket(office: Office) -> None:
    async with office.talk() as socket:
        for _ in range(11):
            await socket.say(resume="at-1")
        await eventually(lambda: socket.over)
        assert socket.close_code == 1008


async def test_the_client_may_leave(office: Office) -> None:
    async with office.talk() as socket:
        assert socket.ws is not None
        await socket.ws.close()
        assert socket.close_code == 1000
    await eventually(lambda: office.api.screens.screens.tenants_followed() == set())


async def test_a_client_that_is_cut_off_leaves_nothing_behind(office: Office) -> None:
    session = aiohttp.ClientSession(office.api.origin)
    await session.ws_connect(MY_SOCKET, headers={"X-Api-Key": office.api.key})
    await eventually(lambda: office.api.screens.screens.tenants_followed() == {"acme"})
    await session.close()
    await eventually(lambda: office.api.screens.screens.tenants_followed() == set())


async def test_what_does_not_ask_for_a_socket_is_told_how(office: Office) -> None:
    status, problem = await office.api.send("GET", MY_SOCKET)
    assert (status, problem["code"]) == (426, "upgrade_required")


async def test_without_the_right_no_socket_opens(office: Office) -> None:
    api = office.api
    bound = await api.a_key(Scope.POPS_READ, extension="102")
    events = await api.a_key(Scope.EVENTS_READ)
    for path, key, expected in (
        (MY_SOCKET, bound, 403),
        (MY_SOCKET, events, 403),
        (ALL_SOCKET, bound, 403),
        (MY_SOCKET, "cm_nobody", 401),
        (MY_SOCKET, "", 401),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.session.ws_connect(path, headers={"X-Api-Key": key})
        assert refused.value.status == expected, (path, key)


async def test_in_silence_a_message_says_from_where_to_go_on(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with office_at(tmp_path, clock) as office, office.talk() as socket:
        first = socket.last_id
        await eventually(lambda: clock.sleepers >= 2)
        await clock.advance(KEEP_ALIVE)
        await eventually(lambda: socket.last_id != first)
        assert socket.last_id == f"at-{to_ms(clock.now())}"


async def test_a_key_that_is_revoked_closes_its_sockets_within_a_minute(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with office_at(tmp_path, clock) as office:
        key = await office.api.a_key(Scope.POPS_READ)
        async with office.talk(key=key) as socket:
            await office.api.keys.revoke(tenant="acme", name="k1")
            for _ in range(4):
                await eventually(lambda: clock.sleepers >= 2 or socket.over)
                await clock.advance(KEEP_ALIVE)
            await eventually(lambda: socket.over)
            assert socket.close_code == UNAUTHENTICATED


async def test_who_does_not_keep_up_is_closed_with_a_hint(office: Office) -> None:
    """Its own connection is full: what comes live waits until there is too much of it."""
    api = office.api
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(api.origin.rpartition(":")[2]), limit=1024
    )
    head = (
        f"GET {MY_SOCKET} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.key}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        "AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    writer.write(head.encode())
    await eventually(lambda: api.screens.screens.tenants_followed() == {"acme"})
    now = api.clock.now()

    async def is_cut() -> bool:
        for number in range(200):
            told = PopSeen(call_id=f"c{number}", extension="101", seen=Seen.OPENED)
            api.screens.screens.take("acme", told, at=now + timedelta(number), now=now)
        return api.screens.screens.tenants_followed() == set()

    await eventually(is_cut)
    heard = b""
    while not heard.endswith(b"connect again with the last id"):
        heard += await asyncio.wait_for(reader.read(65536), 30)
    assert b'"kind":"behind"' in heard
    writer.transport.abort()


async def test_a_stop_closes_sockets_and_says_to_come_again(office: Office) -> None:
    async with office.talk() as socket:
        await asyncio.wait_for(office.api.server.stop(), 30)
        await eventually(lambda: socket.over)
        assert socket.close_code == 1012
