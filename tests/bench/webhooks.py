"""Events of the bus to the gateway's memory of who is to be told, and on to the subscriber."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time

from aiohttp import web
from pydantic import SecretStr

from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DELIVERIES, DeliveryBook
from services.gateway.subscribers.noting import Noting
from services.gateway.subscribers.sending import Sender
from services.gateway.subscribers.subscriber import (
    SUBSCRIBERS,
    SubscriberDocument,
    SubscriberSettings,
)
from shared.clock import SystemClock
from shared.contracts.calls import CallEnded, Disposition
from shared.contracts.envelope import wrap
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.backends import Backends

EVENTS = 2000
SUBSCRIBED = (0, 1, 10)


async def measure(backends: Backends, folder: Path) -> list[str]:
    lines = [f"{EVENTS} events, told or not; one process", f"{'':<22}{'noted/s':>10}{'told/s':>10}"]
    for name in ("SQLite", "MongoDB"):
        for count in SUBSCRIBED:
            async with AsyncExitStack() as stack:
                store = await stack.enter_async_context(_store(name, backends, folder))
                noted, told = await _run(store, count, stack)
            shown = f"{told:>10,.0f}" if count else f"{'-':>10}"
            label = f"{name}, {count} subscribers"
            lines.append(f"{label:<22}{noted:>10,.0f}{shown}")
    return lines


@asynccontextmanager
async def _store(name: str, backends: Backends, folder: Path) -> AsyncIterator[DocumentStore]:
    if name == "SQLite":
        db = SqliteFile(folder / f"webhooks-{new_id().hex[:6]}.db")
        await db.open()
        yield SqliteStore(db, SystemClock())
        await db.close()
        return
    url = SecretStr(backends.mongo_url())
    store = MongoStore(url, database=f"bench-{new_id().hex[:8]}", clock=SystemClock())
    yield store
    await store.close()


async def _run(store: DocumentStore, count: int, stack: AsyncExitStack) -> tuple[float, float]:
    """Events a second noted, and webhooks a second told."""
    clock, metrics, box = SystemClock(), Metrics(), SecretBox([new_key()])
    left = EVENTS * count
    done = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        nonlocal left
        await request.read()
        left -= 1
        if not left:
            done.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/x", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/x"
    http = await stack.enter_async_context(
        HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X")))
    )
    book = SubscriberBook(store.collection(SUBSCRIBERS), clock)
    for number in range(count):
        await store.collection(SUBSCRIBERS).add(_a_subscriber(number, url, box))
    await book.refresh()
    deliveries = DeliveryBook(store.collection(DELIVERIES), clock, keep=timedelta(days=1))
    sender = Sender(book, deliveries, http=http, secrets=box, clock=clock, metrics=metrics)
    noting = Noting(book, deliveries, sender)
    events = [
        wrap(
            CallEnded(call_id=f"c{n}", pbx="main", disposition=Disposition.ANSWERED),
            source="bench",
            occurred_at=clock.now(),
            tenant="acme",
        )
        for n in range(EVENTS)
    ]
    began, cpu = perf_counter(), process_time()
    places = asyncio.Semaphore(32)

    async def note(number: int) -> None:
        async with places:
            await noting.note(events[number])

    await asyncio.gather(*map(note, range(EVENTS)))
    noted = EVENTS / (perf_counter() - began if count else process_time() - cpu)
    if not count:
        return noted, 0
    began = perf_counter()
    running = asyncio.create_task(sender.run())
    try:
        await done.wait()
    finally:
        running.cancel()
    return noted, EVENTS * count / (perf_counter() - began)


def _a_subscriber(number: int, url: str, box: SecretBox) -> SubscriberDocument:
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    now = SystemClock().now()
    return SubscriberDocument(
        key=f"acme/s{number}",
        tenant="acme",
        name=f"s{number}",
        uid=str(new_id()),
        settings=SubscriberSettings(url=url, events=("*",)),
        secret=box.seal(SecretStr(secret)),
        created_at=now,
        changed_at=now,
        changed_by="bench",
    )
