"""The host: start order, readiness, failing tasks, the way down."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.bus.port import Consumer, Subscription
from shared.contracts.calls import CallStarted
from shared.contracts.envelope import Message
from shared.errors import BadSetting, MeshError, Unavailable
from shared.runtime import host
from shared.runtime.host import Running, running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Build, Platform, Service
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
)
from shared.testing.builders import a_call
from shared.testing.waiting import eventually

STARTED = Consumer("test", CallStarted)


async def test_the_api_s_description_is_made_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def build(*of: Any) -> dict[str, Any]:
        made.append(of)
        return {}

    monkeypatch.setattr(host, "build_openapi", build)
    async with up(platform, a_service("test")) as state, aiohttp.ClientSession() as session:
        for _ in range(2):
            url = f"http://127.0.0.1:{state.http_port}/openapi.json"
            async with session.get(url) as answer:
                assert answer.status == 200
    assert len(made) == 1


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    choice = Choice(MeshSettings(data_dir=tmp_path), AmqpSettings(), MongoSettings(), NetSettings())
    async with open_platform(choice, consumers=()) as found:
        yield found


def up(
    platform: Platform, *builds: Build, http: int = 0, ops: int = 0
) -> AbstractAsyncContextManager[Running]:
    return running(
        builds,
        platform,
        http=HttpSettings(port=http),
        ops=OpsSettings(port=ops),
        drain=timedelta(seconds=2),
    )


def a_service(
    name: str = "test",
    *,
    story: list[str] | None = None,
    ready: Callable[[], Awaitable[bool]] | None = None,
    task: Callable[[], Awaitable[None]] | None = None,
    handler: Callable[[Message[Any]], Awaitable[None]] | None = None,
    stop_listening: Callable[[], Awaitable[None]] | None = None,
) -> Build:
    told = story if story is not None else []

    @asynccontextmanager
    async def build(_: Platform) -> AsyncIterator[Service]:
        told.append(f"{name} in")
        subscription = Subscription(consumer=STARTED, handler=handler) if handler else None
        yield Service(
            name=name,
            subscriptions=[subscription] if subscription else [],
            tasks=[task] if task else [],
            ready=ready,
            stop_listening=stop_listening,
        )
        told.append(f"{name} out")

    return build


async def ops(state: Running, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{state.ops_port}{path}") as found,
    ):
        text = path == "/metrics"
        return found.status, await (found.text() if text else found.json())


async def test_services_are_left_in_reverse_order(platform: Platform) -> None:
    story: list[str] = []
    async with up(platform, a_service("a", story=story), a_service("b", story=story)):
        story.append("up")
    assert story == ["a in", "b in", "up", "b out", "a out"]


async def test_ready_when_every_check_holds(platform: Platform) -> None:
    async with up(platform) as state:
        status, found = await ops(state, "/ready")
        assert (status, found["ready"]) == (200, True)
        assert await ops(state, "/live") == (200, {"live": True})


async def test_a_service_that_is_not_ready_or_cannot_tell_is_named(platform: Platform) -> None:
    async def no() -> bool:
        return False

    async def broken() -> bool:
        raise Unavailable("gone")

    async with up(platform, a_service("a", ready=no), a_service("b", ready=broken)) as state:
        status, found = await ops(state, "/ready")
        assert status == 503
        assert {name for name, holds in found["checks"].items() if not holds} == {"a", "b"}


async def test_metrics_are_prometheus_text(platform: Platform) -> None:
    async with up(platform) as state:
        status, text = await ops(state, "/metrics")
        assert status == 200
        assert "# TYPE callmesh_deliveries_total counter" in text


async def test_a_task_that_fails_stops_the_process_and_says_why(platform: Platform) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async with up(platform, a_service(task=fail)) as state:
        await asyncio.wait_for(state.stop.wait(), 30)
        assert isinstance(state.failed, ValueError)


async def test_a_task_that_is_cancelled_by_nobody_of_ours_has_failed(platform: Platform) -> None:
    async def wait_for_what_is_cancelled() -> None:
        other = asyncio.create_task(asyncio.Event().wait())
        other.cancel()
        await other

    async with up(platform, a_service(task=wait_for_what_is_cancelled)) as state:
        await asyncio.wait_for(state.stop.wait(), 30)
        assert isinstance(state.failed, asyncio.CancelledError)


async def test_a_task_that_ends_before_the_stop_has_failed(platform: Platform) -> None:
    async def end() -> None:
        return

    async with up(platform, a_service(task=end)) as state:
        await asyncio.wait_for(state.stop.wait(), 30)
        assert isinstance(state.failed, MeshError)


async def test_a_task_that_ends_by_the_stop_has_not(platform: Platform) -> None:
    states: list[Running] = []

    async def until_the_stop() -> None:
        await eventually(lambda: bool(states))
        await states[0].stop.wait()

    async with up(platform, a_service(task=until_the_stop)) as state:
        states.append(state)
        state.stop.set()
        await platform.clock.sleep(timedelta(milliseconds=50))
    assert state.failed is None


async def test_a_handler_that_runs_at_the_stop_may_finish(platform: Platform) -> None:
    began, done = asyncio.Event(), asyncio.Event()

    async def slow(_: Message[Any]) -> None:
        began.set()
        await platform.clock.sleep(timedelta(seconds=0.3))
        done.set()

    async with up(platform, a_service(handler=slow)):
        await platform.publisher("test").publish(a_call(), tenant="acme")
        await asyncio.wait_for(began.wait(), 30)
    assert done.is_set()


async def test_what_the_last_guest_leaves_behind_is_still_published(platform: Platform) -> None:
    handled = asyncio.Event()

    async def handle(_: Message[Any]) -> None:
        handled.set()

    async def last_guest() -> None:
        await platform.publisher("test").publish(a_call(), tenant="acme")
        await asyncio.wait_for(handled.wait(), 30)

    async with up(platform, a_service(handler=handle, stop_listening=last_guest)):
        assert not handled.is_set()
    assert handled.is_set()


async def test_not_ready_from_the_moment_it_stops(platform: Platform) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    seen: list[int] = []
    states: list[Running] = []

    async def wait(_: Message[Any]) -> None:
        began.set()
        await go.wait()

    async def look() -> None:
        await eventually(lambda: bool(states))
        status = 200
        while status == 200:
            status, _ = await ops(states[0], "/ready")
        seen.append(status)
        go.set()

    looking = asyncio.create_task(look())
    async with up(platform, a_service(handler=wait)) as state:
        await platform.publisher("test").publish(a_call(), tenant="acme")
        await asyncio.wait_for(began.wait(), 30)
        states.append(state)
    await looking
    assert seen == [503]


@pytest.mark.parametrize("name", ["HTTP", "OPS"])
async def test_a_port_that_is_taken_is_a_wrong_setting(platform: Platform, name: str) -> None:
    taken = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    with pytest.raises(BadSetting, match=f"CALLMESH_{name}_PORT: cannot listen"):
        async with up(platform, **{name.lower(): port}):
            pass
    taken.close()


async def test_the_folder_made_for_the_data_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    choice = Choice(MeshSettings(data_dir=folder), AmqpSettings(), MongoSettings(), NetSettings())
    async with open_platform(choice, consumers=()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
