"""A lookup beside a bare GET of the same answer; and what a thousand callers at once cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time

import aiohttp
from aiohttp import web

from shared.clock import SystemClock
from shared.crm.connections import Account, CrmConnections
from shared.crm.finder import Finder, Question
from shared.crm.registry import Templates
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.backends import Backends

ASKED = 1500
WARM = 200
CALLERS = 1000
WITHIN = timedelta(seconds=10)
_TEMPLATES = Path(__file__).parents[1] / "data" / "templates" / "own"


async def measure(_: Backends, folder: Path) -> list[str]:
    lines = [
        f"{ASKED} lookups one after the other, each of another number; ms, and CPU of all of it"
    ]
    async with AsyncExitStack() as stack:
        asked, url = await stack.enter_async_context(_crm())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        finder, connections, account = await stack.enter_async_context(_finder(folder, url))
        connector = connections.connector(account)

        async def bare(number: str) -> None:
            async with session.get(f"{url}/people", params={"phone": number}) as answer:
                assert len((await answer.json())["people"]) == 1

        async def engine(number: str) -> None:
            (found,) = await connector.search(
                parse(number, "GB"), modules=(), fields=("shop",), card=True, within=WITHIN
            )
            assert found.contacts[0].fields == {"shop": "Lee & Co"}

        async def find(number: str) -> None:
            assert (await finder.find(_question(account, number), within=WITHIN)).candidates

        async def again(_: str) -> None:
            assert (await finder.find(_question(account, _number(1)), within=WITHIN)).candidates

        lines.append(await _timed("bare aiohttp GET and json", bare))
        lines.append(await _timed("engine: render, send, map", engine))
        lines.append(await _timed("finder: the same, and caches", find))
        lines.append(await _timed("finder: cached", again))
        lines.append(await _timed("bare aiohttp GET, again", bare))
        before = asked[0]
        crowd = _question(account, "+442079469999")
        began = perf_counter()
        await asyncio.gather(*(finder.find(crowd, within=WITHIN) for _ in range(CALLERS)))
        took = (perf_counter() - began) * 1000
        lines.append(
            f"{CALLERS} calls from one number at once: {asked[0] - before} CRM request(s), {took:.0f} ms"
        )
    return lines


async def _timed(name: str, ask: Callable[[str], Awaitable[None]]) -> str:
    took, cpu = [], 0.0
    for place in range(WARM + ASKED):
        began, spent = perf_counter(), process_time()
        await ask(_number(place))
        took.append((perf_counter() - began) * 1000)
        cpu += (process_time() - spent) * 1e6 if place >= WARM else 0.0
    cuts = quantiles(took[WARM:], n=100)
    return f"{name:<30} p50 {cuts[49]:6.2f}   p99 {cuts[98]:6.2f}   CPU {cpu / ASKED:5.0f} us"


def _number(place: int) -> str:
    return f"+44207{9460000 + place}"


def _question(account: Account, number: str) -> Question:
    return Question(
        account=account,
        number=parse(number, "GB"),
        fields=("shop",),
        fresh=timedelta(minutes=10),
        unknown=timedelta(minutes=1),
    )


@asynccontextmanager
async def _finder(folder: Path, url: str) -> AsyncIterator[tuple[Finder, CrmConnections, Account]]:
    clock, metrics = SystemClock(), Metrics()
    db = SqliteFile(folder / "lookup.db")
    await db.open()
    store, box = SqliteStore(db, clock), SecretBox([new_key()])
    account = Account(
        tenant="acme",
        name="crm",
        template="corner-shop",
        region="GB",
        parameters=(("url", url),),
        credentials=(("api_key", box.seal(new_key())),),
        phone_formats=("e164",),
    )
    async with HttpClient(AddressGuard(networks("127.0.0.0/8", setting="bench"))) as http:
        connections = CrmConnections(
            store,
            http=http,
            secrets=box,
            clock=clock,
            metrics=metrics,
            templates=Templates(_TEMPLATES),
        )
        finder = Finder(connections, store, clock=clock, metrics=metrics)
        yield finder, connections, account
        await finder.close()
        await connections.close()
    await db.close()


@asynccontextmanager
async def _crm() -> AsyncIterator[tuple[list[int], str]]:
    """A CRM that knows everybody; how often it was asked, and its address."""
    asked = [0]

    async def people(request: web.Request) -> web.Response:
        asked[0] += 1
        person = {
            "id": 7,
            "first": "Ann",
            "last": "Lee",
            "shop": "Lee & Co",
            "seller": 3,
            "phone": request.query["phone"],
            "more": ["something else that CRMs send"] * 20,
        }
        return web.Response(text=json.dumps({"people": [person]}), content_type="application/json")

    app = web.Application()
    app.router.add_get("/people", people)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield asked, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
