"""
Hooks of PBXs accepted and durable, beside the least that anyone would write: an aiohttp handler
that publishes with a confirm and answers. Each is a process of its own; requests come at a rate,
and each is timed from when it was due, so that what waits behind a slow one counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import aio_pika
import aiohttp
from aiohttp import web
from pydantic import SecretStr

from services.catalog import consumers
from services.cli.demo import prepare
from shared.runtime.platform import open_platform
from shared.sandbox.site import site_file
from shared.testing.backends import Backends
from tests.mesh.processes import EmbeddedMesh, Mesh

RATES = (50, 200, 500)
SECONDS, WARM = 5, 100
#: For the rate that it can do: as many senders, each with one hook at a time.
SENDERS, HOOKS = 32, 4000
_CELL = 22
#: A number → the body of a hook: each is another call, as one that comes twice costs less.
Body = Callable[[int], bytes]


async def measure(backends: Backends, folder: Path) -> list[str]:
    amqp_url = backends.amqp_url()
    rates = "".join(f"{rate}/s".rjust(_CELL) for rate in RATES)
    lines = [
        f"ms from due to 202, p50 and p99 (-refused), {SECONDS} s at each rate; {SENDERS} senders",
        f"{'':<30}{rates}{'hooks/s':>12}",
    ]
    async with _bare(amqp_url) as url:
        lines.append(await _timed("bare aiohttp and aio-pika", url, {}))
    with Mesh(amqp_url, backends.mongo_url(), folder / "hooks-mesh") as mesh:
        lines.append(await _gateway("gateway, RabbitMQ and MongoDB", mesh))
    with EmbeddedMesh(folder / "hooks-embedded") as mesh:
        lines.append(await _gateway("gateway, embedded", mesh))
    async with _bare(amqp_url) as url:
        lines.append(await _timed("bare, again", url, {}))
    return lines


async def _gateway(name: str, mesh: Mesh) -> str:
    async with open_platform(mesh.choice, consumers=consumers(), serving=False) as platform:
        site = site_file(crm_url="http://127.0.0.1:9", ami_port=9)
        key: SecretStr = await prepare(platform, site)
    mesh.settings["CALLMESH_HTTP_RATE"] = "100000"
    await asyncio.to_thread(mesh.start, "gateway")
    headers = {"X-Api-Key": key.get_secret_value()}
    return await _timed(name, f"{mesh.url}/v1/hooks/door", headers)


async def _timed(name: str, url: str, headers: Mapping[str, str]) -> str:
    connector = aiohttp.TCPConnector(limit=0)
    said = {**headers, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=said) as session:
        run = iter(range(1, 100))
        await _at_rate(session, url, _bodies(next(run)), rate=RATES[0], count=WARM)
        cells = []
        for rate in RATES:
            took = await _at_rate(session, url, _bodies(next(run)), rate=rate, count=rate * SECONDS)
            cells.append(_cell(took, refused=rate * SECONDS - len(took)).rjust(_CELL))
        most = await _most(session, url, _bodies(next(run)))
    return f"{name:<30}{''.join(cells)}{most:>12,.0f}"


def _cell(took: Sequence[float], *, refused: int) -> str:
    """Where a machine cannot do that rate, the gateway refuses what is over, and the sender repeats."""
    if len(took) < refused:
        return "refused"
    cuts = quantiles(took, n=100)
    shown = f"{cuts[49]:.1f} {cuts[98]:.1f}"
    return f"{shown} -{refused}" if refused else shown


def _bodies(run: int) -> Body:
    def body(number: int) -> bytes:
        return json.dumps(
            {
                "event": "started",
                "call": f"bench-{run}-{number}",
                "at": "2026-11-21T09:00:00Z",
                "direction": "inbound",
                "caller": "+447700900123",
                "dialled": "442079460000",
            }
        ).encode()

    return body


async def _at_rate(
    session: aiohttp.ClientSession, url: str, body: Body, *, rate: int, count: int
) -> Sequence[float]:
    """Of those that were taken."""
    begin = perf_counter() + 0.01

    async def one(number: int) -> float | None:
        if not await _send(session, url, body(number)):
            return None
        return (perf_counter() - begin - number / rate) * 1000

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            wait = begin + number / rate - perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)  # noqa: TID251  it measures real time
            tasks.append(group.create_task(one(number)))
    return [took for task in tasks if (took := task.result()) is not None]


async def _most(session: aiohttp.ClientSession, url: str, body: Body) -> float:
    numbers, taken = iter(range(HOOKS)), 0

    async def sender() -> None:
        nonlocal taken
        for number in numbers:
            is_taken = await _send(session, url, body(number))
            taken += is_taken  # behind the wait: others count meanwhile

    began = perf_counter()
    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return taken / (perf_counter() - began)


async def _send(session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
    """Whether it was taken, and not refused as one too many."""
    async with session.post(url, data=body) as answer:
        text = await answer.text()
        if answer.status == 503:
            return False
        if answer.status != 202:
            raise RuntimeError(f"{answer.status}: {text[:500]}")
        return True


# -- the bare one ----------------------------------------------------------------------------------


@asynccontextmanager
async def _bare(amqp_url: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, amqp_url), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/hook"
    finally:
        process.terminate()
        await process.wait()


async def _serve_bare(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        name = "bench-bare-hooks"
        queue = await channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 10_000}
        )
        await queue.purge()

        async def take(request: web.Request) -> web.Response:
            body = json.dumps(json.loads(await request.read())).encode()
            await channel.default_exchange.publish(
                aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), name
            )
            return web.json_response({"accepted": 1}, status=202)

        app = web.Application()
        app.router.add_post("/hook", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_bare(sys.argv[1]))
