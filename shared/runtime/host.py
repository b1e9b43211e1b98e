"""
Run one service, or all of them, until a signal. The order:

1. health endpoint up (alive, not ready); services entered; subscriptions made
2. bus started, HTTP up, background tasks running: ready
3. a signal, or a task that fails
4. not ready; HTTP stops taking, streams end; tasks cancelled; the bus drains
5. services left in reverse; exit 0. A second signal ends the process at once: exit 130.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

import structlog

from shared.errors import BadSetting, MeshError, Unavailable
from shared.http.openapi import build as build_openapi
from shared.http.origins import Origins
from shared.http.rates import Limits
from shared.http.server import HttpServer
from shared.net.guard import networks
from shared.runtime.ops import OpsServer
from shared.runtime.service import Build, Platform, Service
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.runtime.version import VERSION

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
#: What a shell reports for a process that SIGINT ended.
EXIT_ABORTED = 130


@dataclass(slots=True)
class Running:
    """What is up, for who started it: the bound ports, and the order to stop."""

    http_port: int = 0
    ops_port: int = 0
    services: list[Service] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    #: The background task that failed, if that is why it stops.
    failed: BaseException | None = None


@asynccontextmanager
async def running(
    builds: Sequence[Build],
    platform: Platform,
    *,
    http: HttpSettings,
    ops: OpsSettings,
    drain: timedelta,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Running]:
    """Everything up between entering and leaving. Raises: BadSetting."""
    state = Running(stop=stop or asyncio.Event())
    async with AsyncExitStack() as stack:
        ready = _Readiness(platform, state)
        ops_server = OpsServer(platform.metrics, ready=ready.check)
        state.ops_port = await _listen(ops_server.start, ops.host, ops.port, "CALLMESH_OPS_PORT")
        stack.push_async_callback(ops_server.stop)
        await _load_site(platform)
        for build in builds:
            service = await stack.enter_async_context(build(platform))
            state.services.append(service)
            for subscription in service.subscriptions:
                platform.bus.subscribe(subscription)
            if service.door is not None:
                platform.bus.open_door(service.door)
        await platform.bus.start()
        stack.push_async_callback(platform.bus.stop, drain=drain)
        tasks = _tasks(state, platform)
        stack.push_async_callback(_cancel, tasks)
        server = _http_server(state, platform, http, drain)
        state.http_port = await _listen(server.start, http.host, http.port, "CALLMESH_HTTP_PORT")
        stack.push_async_callback(server.stop)
        for service in state.services:
            if service.stop_listening is not None:
                stack.push_async_callback(service.stop_listening)
        ready.open = True
        stack.callback(ready.close)
        # What is there now stays: a full collection need not look at it again. It stopped the
        # process for 60 to 170 ms (measured), and a ringing call with it.
        gc.collect()
        gc.freeze()
        log.info(
            "ready",
            services=[service.name for service in state.services],
            http=f"{http.host}:{state.http_port}",
            ops=f"{ops.host}:{state.ops_port}",
        )
        yield state
        log.info("stopping", drain_s=drain.total_seconds())
    log.info("stopped")


async def run_until_signal(
    builds: Sequence[Build],
    platform: Platform,
    *,
    http: HttpSettings,
    ops: OpsSettings,
    drain: timedelta,
) -> int:
    """The exit code of the process."""
    stop = asyncio.Event()
    # From the first moment on: a signal during the start ends it as soon as it is complete.
    with stopping_on_signals(stop):
        async with running(builds, platform, http=http, ops=ops, drain=drain, stop=stop) as state:
            await stop.wait()
    return EXIT_FAILED if state.failed else EXIT_OK


@contextmanager
def stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT sets *stop*, the second ends the process."""
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            log.warning("aborted")
            sys.stdout.flush()
            # What was accepted survives kill -9; to unwind would wait for what hangs.
            os._exit(EXIT_ABORTED)
        asked = True
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class _Readiness:
    def __init__(self, platform: Platform, state: Running) -> None:
        self._platform = platform
        self._state = state
        self.open = False

    def close(self) -> None:
        self.open = False

    async def check(self) -> dict[str, bool]:
        checks: dict[str, Callable[[], Awaitable[bool]]] = {
            "bus": self._platform.bus.ready,
            "store": self._platform.store.ready,
        }
        checks |= {service.name: service.ready for service in self._state.services if service.ready}
        site = self._platform.site.loaded and self._platform.rules.loaded
        found = {"started": self.open, "site": site}
        for name, check in checks.items():
            try:
                found[name] = await check()
            except MeshError:
                found[name] = False
        return found


async def _load_site(platform: Platform) -> None:
    """Raises: BadSetting for a store that refuses us; one that does so later is waited for."""
    try:
        if not await platform.store.ready():
            raise Unavailable("the store does not answer")
        await platform.site.refresh()
        await platform.rules.refresh()
    except BadSetting:
        raise
    except MeshError as error:
        # Not fatal: it is looked for again every second, and readiness says what is missing.
        log.warning("site_not_loaded", error=error.message)


def _tasks(state: Running, platform: Platform) -> list[asyncio.Task[None]]:
    async def watched(name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            if state.stop.is_set():
                return
            raise MeshError("it ended, and shall run until the stop")  # noqa: TRY301  told like any other
        except BaseException as error:
            if _cancelled():
                raise
            log.exception("task_failed", task=name)
            state.failed = error
            state.stop.set()

    works: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("site", platform.site.watch),
        ("rules", platform.rules.watch),
    ]
    works += [(service.name, task) for service in state.services for task in service.tasks]
    return [asyncio.create_task(watched(name, work), name=name) for name, work in works]


def _cancelled() -> bool:
    """Whether it is us who are cancelled: what we wait for may be, and tells it the same way."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _http_server(
    state: Running, platform: Platform, http: HttpSettings, drain: timedelta
) -> HttpServer:
    """Raises: BadSetting."""
    mounted = [part for service in state.services for part in service.mounted]
    operations = [operation for part in mounted for operation in part.operations]

    # Once: half a megabyte takes 0.25 s to make, and anybody may ask for it.
    @cache
    def openapi() -> bytes:
        import orjson

        return orjson.dumps(build_openapi("callmesh", VERSION, operations))

    return HttpServer(
        mounted,
        keys=platform.keys,
        clock=platform.clock,
        metrics=platform.metrics,
        drain=drain,
        documents={"/openapi.json": openapi},
        limits=Limits(rate=http.rate, traffic_rate=http.traffic_rate, wrong_keys=http.wrong_keys),
        uses=platform.key_uses,
        deeds=next((found.deeds for found in state.services if found.deeds is not None), None),
        is_tenant=lambda tenant: platform.site.site(tenant) is not None,
        proxies=networks(http.proxies, setting="CALLMESH_HTTP_PROXIES"),
        tickets=platform.stream_tickets(),
        origins=Origins.named(
            http.origins, public_url=platform.public_url, setting="CALLMESH_HTTP_ORIGINS"
        ),
    )


async def _listen(
    start: Callable[[str, int], Awaitable[int]], host: str, port: int, setting: str
) -> int:
    try:
        return await start(host, port)
    except OSError as error:
        raise BadSetting(f"{setting}: cannot listen on {host}:{port}: {error.strerror}") from None
