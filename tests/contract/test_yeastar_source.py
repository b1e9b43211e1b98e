"""Yeastar's events over its WebSocket: kept alive, opened anew, and asked for after a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.calls import CallEnded, CallRinging, EndKnown, LegEnded
from shared.pbx.port import (
    Phones,
    Sighting,
)
from shared.testing.waiting import eventually
from tests.contract.yeastar_kit import (
    Mesh,
    a_mesh,
    advanced_until,
    let_pass,
    reading,
    ringing,
)
from tests.contract.yeastar_server import (
    FakeYeastar,
    good,
    refused,
)

SAMPLES = Path(__file__).parents[1] / "data" / "pbx" / "yeastar"


@pytest.fixture
async def mesh(clock: ManualClock) -> AsyncIterator[Mesh]:
    async with a_mesh(clock) as found:
        yield found


@pytest.fixture
def pbx(mesh: Mesh) -> FakeYeastar:
    return mesh.pbx


def records(name: str) -> list[str]:
    lines = (SAMPLES / f"{name}.jsonl").read_bytes().splitlines()
    return [orjson.dumps(orjson.loads(line)["record"]).decode() for line in lines]


async def test_events_come_over_the_websocket(pbx: FakeYeastar, mesh: Mesh) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        assert orjson.loads(pbx.heard[0]) == {
            "topic_list": [30009, 30011, 30012, 30013, 30015, 30016]
        }
        for record in records("answered"):
            await pbx.tell(record)
        await eventually(lambda: bool(found.told(CallEnded)))

    assert [body.contract_name for body in (s.body for s in found.seen)] == [
        "calls.started",
        "calls.ringing",
        "calls.answered",
        "calls.leg_ended",
        "calls.recording_ready",
        "calls.ended",
    ]
    # What was kept is read again to the same, by `callmesh replay`.
    make = mesh.adapter().reader
    assert make is not None
    again = make()
    again.know(Phones(extensions=frozenset({"1005", "1006"})))
    replayed = [s for raw in found.kept for s in again.read(raw, now=mesh.clock.now())]
    assert [s.key for s in replayed] == [s.key for s in found.seen]


async def test_garbage_between_events_is_counted_and_passed_over(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        for garbage in ("{", "[]", '{"type":30011,"msg":"{"}', "\x00"):
            await pbx.tell(garbage)
        await pbx.sockets[0].send_bytes(b"\x00\x01")
        await pbx.tell('{"type":30099,"sn":"x","msg":"{}"}')
        await pbx.tell(ringing("1.1"))
        await eventually(lambda: bool(found.told(CallRinging)))
        assert found.source.connected

    assert mesh.metrics.value("callmesh_pbx_events_total", "yeastar", "garbage") == 5
    assert mesh.metrics.value("callmesh_pbx_events_total", "yeastar", "used") == 1


async def test_a_heartbeat_goes_out_before_the_pbx_hangs_up(pbx: FakeYeastar, mesh: Mesh) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        for beats in range(1, 6):
            await eventually(lambda n=beats: pbx.heard.count("heartbeat") == n)
            await let_pass(mesh.clock, timedelta(seconds=20))
        assert pbx.opened == 1


async def test_a_frozen_link_is_noticed_and_opened_anew(pbx: FakeYeastar, mesh: Mesh) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        await eventually(lambda: "heartbeat" in pbx.heard)
        pbx.mute = True
        await eventually(lambda: advanced_until(mesh.clock, lambda: not found.source.connected))
        assert "no heartbeat" in (found.source.fault or "")
        pbx.mute = False
        await eventually(lambda: advanced_until(mesh.clock, lambda: found.source.connected))

    assert pbx.opened == 2


async def test_after_a_gap_the_pbx_is_asked_what_goes_on(pbx: FakeYeastar, mesh: Mesh) -> None:
    talking = {
        "call_id": "1.1",
        "members": [
            {"inbound": {"from": "447700900123", "to": "442", "member_status": "ANSWERED"}},
            {"extension": {"number": "1005", "member_status": "ANSWER"}},
        ],
    }

    def query(_: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        if "type" in asked:
            return refused(10002, "PARAMETER ERROR")
        return good(data=[talking] if asked["call_id"] == "1.1" else [])

    pbx.answers["call/query"] = query
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        await pbx.tell(ringing("1.1"))
        await pbx.tell(ringing("1.2"))
        await eventually(lambda: len(found.told(CallRinging)) == 2)
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: bool(found.told(CallEnded))))

    (ended,) = found.told(CallEnded)
    assert ended.known is EndKnown.RESYNC
    assert "berlin/1.2/ended/resync" in [s.key for s in found.seen]
    assert "berlin/1.1/answered/1005/" in [s.key for s in found.seen]


async def test_a_pbx_that_answers_no_question_is_not_asked_on(pbx: FakeYeastar, mesh: Mesh) -> None:
    """Events wait while it is asked, and a call's question may take seconds to fail."""
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        for number in range(20):
            await pbx.tell(ringing(f"1.{number}"))
        await eventually(lambda: len(found.told(CallRinging)) == 20)
        pbx.answers["call/query"] = lambda _, __: web.Response(status=500)
        asked = pbx.paths().count("call/query")
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: pbx.opened == 2))
        await pbx.tell(ringing("1.99"))
        await eventually(lambda: len(found.told(CallRinging)) == 21)

    assert pbx.paths().count("call/query") == asked + 1
    assert found.told(CallEnded) == []


async def test_what_is_refused_whatever_is_asked_ends_no_call(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["call/query"] = lambda _, __: refused(10003, "NO PERMISSION")
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        await pbx.tell(ringing("1.1"))
        await eventually(lambda: len(found.told(CallRinging)) == 1)
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: pbx.opened == 2))
        await pbx.tell(ringing("1.2"))
        await eventually(lambda: len(found.told(CallRinging)) == 2)

    assert found.told(CallEnded) == []


async def test_a_subscription_that_is_not_answered_is_a_fault_though_the_link_lives(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.subscription = {}
    async with reading(mesh) as found:
        await eventually(
            lambda: advanced_until(
                mesh.clock, lambda: "not answer the subscription" in (found.source.fault or "")
            )
        )
        pbx.subscription = good()
        await eventually(lambda: advanced_until(mesh.clock, lambda: found.source.connected))


async def test_a_call_that_is_over_ends_also_while_there_is_no_connection(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        for record in records("no_record"):
            await pbx.tell(record)
        await eventually(lambda: bool(found.told(LegEnded)))
        pbx.tokens.clear()
        pbx.answers["get_token"] = lambda _, __: web.Response(status=500)
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: bool(found.told(CallEnded))))
        assert not found.source.connected


async def test_a_pbx_that_cannot_be_asked_ends_no_call(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["call/query"] = lambda _, __: refused(10001, "INTERFACE NOT EXISTED")
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        await pbx.tell(ringing("1.1"))
        await eventually(lambda: bool(found.told(CallRinging)))
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: pbx.opened == 2))
        await eventually(lambda: found.source.connected)
        await pbx.tell(ringing("1.2"))
        await eventually(lambda: len(found.told(CallRinging)) == 2)

    assert found.told(CallEnded) == []


async def test_a_socket_whose_token_had_ended_is_opened_with_another(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    async with reading(mesh) as found:
        await eventually(lambda: found.source.connected)
        pbx.tokens.clear()
        await pbx.hang_up()
        await eventually(lambda: advanced_until(mesh.clock, lambda: pbx.opened == 2))
        await eventually(lambda: found.source.connected)


async def test_a_refused_subscription_says_so_and_is_tried_again(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.subscription = refused(10003, "NO PERMISSION")
    async with reading(mesh) as found:
        await eventually(lambda: "10003 NO PERMISSION" in (found.source.fault or ""))
        await eventually(lambda: advanced_until(mesh.clock, lambda: pbx.opened > 5))
        # Each login takes one of eight places, for half an hour.
        assert pbx.paths().count("get_token") == 1
        pbx.subscription = good()
        await eventually(lambda: advanced_until(mesh.clock, lambda: found.source.connected))


async def test_a_token_that_opens_no_socket_is_given_back(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["subscribe"] = lambda _, __: web.Response(status=403)
    async with reading(mesh) as found:
        await eventually(
            lambda: advanced_until(mesh.clock, lambda: pbx.paths().count("get_token") > 3)
        )
        assert "token had ended" in (found.source.fault or "")

    # One that was just had when the reading ended, at the most.
    assert 0 <= pbx.paths().count("get_token") - pbx.paths().count("del_token") <= 1


async def test_a_refused_login_is_final(pbx: FakeYeastar, mesh: Mesh) -> None:
    async with reading(mesh, client_secret=SecretStr("wrong")) as found:
        await eventually(lambda: "WRONG PASSWORD" in (found.source.fault or ""))
        for _ in range(10):
            await let_pass(mesh.clock, timedelta(minutes=1))

    assert pbx.paths() == ["get_token"]


async def test_a_reader_that_cannot_keep_up_drops_counts_and_asks(
    pbx: FakeYeastar, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pbx.intake.MOST_WAITING", 2)
    make = mesh.adapter().source
    assert make is not None
    source, goes_on = make(), asyncio.Event()
    seen: list[Sighting] = []

    async def see(sightings: Sequence[Sighting]) -> None:
        await goes_on.wait()
        seen.extend(sightings)

    def ignore(_: bytes) -> None:
        return

    def dropped() -> bool:
        return mesh.metrics.value("callmesh_pbx_events_total", "yeastar", "dropped") > 0

    task = asyncio.create_task(source.run(see, ignore))
    try:
        await eventually(lambda: source.connected)
        asked = pbx.paths().count("call/query")
        for number in range(8):
            await pbx.tell(ringing(f"1.{number}"))
        await eventually(dropped)
        goes_on.set()
        await eventually(lambda: pbx.paths().count("call/query") > asked)
        assert source.connected
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
