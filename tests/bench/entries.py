"""Entries into the sandbox CRM: what it takes of a bare client, and what the journal gets into it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time

import aiohttp
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from services.journal.entries import ENTRIES
from services.journal.settings import JournalSettings
from shared.contracts.calls import CallEnded, CallStarted, Direction, Party
from shared.ids import call_id, new_id, reference
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
    StoreKind,
)
from shared.sandbox.oauth import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import new_key
from shared.site.documents import SITES
from shared.site.journal import JournalPolicy, Upload
from shared.storage.port import Find, every
from shared.testing.backends import Backends
from shared.testing.servers import free_port
from shared.testing.waiting import eventually

CALLS = 400
LATENCIES_MS = (0, 50)
#: Calls in a request, as the Zoho template allows.
BATCHES = (1, 100)
AT_ONCE = JournalSettings().at_once
_HOUR = timedelta(hours=1)
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Crm:
    """In a process of its own, so that it has no part of the core that is measured."""

    url: str
    session: aiohttp.ClientSession
    headers: dict[str, str]

    async def wait(self, latency_ms: int) -> None:
        async with self.session.put(
            f"{self.url}/sandbox/faults", json={"latency_ms": latency_ms}
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def take(self, records: Sequence[dict[str, str]]) -> None:
        async with self.session.post(
            f"{self.url}/crm/v2/Calls", json={"data": records}, headers=self.headers
        ) as answer:
            assert len((await answer.json())["data"]) == len(records)


@dataclass(frozen=True, slots=True)
class Round:
    #: Calls a second.
    rate: float
    #: CPU seconds of this process for a call.
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:6.0f} calls/s  {self.cpu * 1e6:6.0f} us CPU each"


async def measure(backends: Backends, folder: Path) -> list[str]:
    how = f"sandbox CRM in its own process, {AT_ONCE} requests at once"
    lines = [f"{CALLS} calls, {how}; the journal: from due to sent, told and heard"]
    async with _crm(folder) as crm:
        bare = {
            (latency, batch): await _bare(crm, latency, batch)
            for latency in LATENCIES_MS
            for batch in BATCHES
        }
        found = {title: await _journaled(crm, one) for title, one in _choices(backends, folder)}
    for (latency, batch), limit in bare.items():
        calls = "one call" if batch == 1 else f"up to {batch} calls"
        lines.append(f"CRM answers after {latency} ms, {calls} a request")
        lines.append(f"  bare client             {limit}")
        for title, rounds in found.items():
            this = rounds[latency, batch]
            lines.append(
                f"  {title:<22}  {this}  ratio {this.rate / limit.rate:4.2f}   "
                f"{1 / this.cpu:5.0f} calls/s a core"
            )
    return lines


def _choices(backends: Backends, folder: Path) -> list[tuple[str, Choice]]:
    net = NetSettings(allow="127.0.0.0/8")
    name = f"bench-{new_id().hex[:8]}"
    embedded = MeshSettings(data_dir=folder / "entries")
    servers = MeshSettings(
        bus=BusKind.RABBIT, store=StoreKind.MONGO, secret_keys=new_key(), data_dir=folder
    )
    amqp = AmqpSettings(url=SecretStr(backends.amqp_url()), prefix=name)
    mongo = MongoSettings(url=SecretStr(backends.mongo_url()), database=name)
    return [
        ("embedded", Choice(embedded, AmqpSettings(), MongoSettings(), net)),
        ("RabbitMQ and MongoDB", Choice(servers, amqp, mongo, net)),
    ]


# -- the CRM ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _crm(folder: Path) -> AsyncIterator[Crm]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ("-m", "services", "sandbox-crm", "--port", str(port))
    with (folder / "crm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=log)
    try:
        async with aiohttp.ClientSession() as session:
            token = await _token(session, url)
            yield Crm(url, session, {"Authorization": f"Zoho-oauthtoken {token}"})
    finally:
        process.terminate()
        await process.wait()


async def _token(session: aiohttp.ClientSession, url: str) -> str:
    """When it is up."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH_TOKEN,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    found: list[str] = []

    async def is_there() -> bool:
        with suppress(aiohttp.ClientConnectorError):
            async with session.post(f"{url}/oauth/v2/token", data=form) as answer:
                found.append((await answer.json())["access_token"])
        return bool(found)

    await eventually(is_there)
    return found[0]


async def _bare(crm: Crm, latency_ms: int, batch: int) -> Round:
    """Bodies as the journal sends them, by a client that does nothing else."""
    await crm.wait(latency_ms)
    records = [
        {
            "Subject": f"Missed call +447700900123 {reference(_call(f'bare{batch}', number))}",
            "Call_Type": "Missed",
            "Call_Start_Time": "2026-11-21T12:00:00+00:00",
            "Call_Duration": "00:00",
            "Description": "No agent - dialled 442079460000",
        }
        for number in range(CALLS)
    ]
    places = asyncio.Semaphore(AT_ONCE)

    async def send(some: Sequence[dict[str, str]]) -> None:
        async with places:
            await crm.take(some)

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(send(records[at : at + batch]) for at in range(0, CALLS, batch)))
    return Round(CALLS / (perf_counter() - began), (process_time() - cpu) / CALLS)


# -- the journal -----------------------------------------------------------------------------------


async def _journaled(crm: Crm, choice: Choice) -> dict[tuple[int, int], Round]:
    """By latency and calls in a request."""
    variants = [(latency, batch) for latency in LATENCIES_MS for batch in BATCHES]
    async with open_platform(choice, consumers=consumers()) as platform:
        await prepare(
            platform, site_file(crm_url=crm.url, ami_port=1, settle_s=_HOUR.total_seconds())
        )
        async with _running(platform):
            await _tell(platform, [_call(str(v), n) for v in variants for n in range(CALLS)])
    found = {}
    for latency, batch in variants:
        await crm.wait(latency)
        async with open_platform(choice, consumers=consumers()) as platform:
            await _release(platform, {_call(str((latency, batch)), n) for n in range(CALLS)}, batch)
            found[latency, batch] = await _round(platform)
    return found


def _call(of: str, number: int) -> str:
    return call_id(TENANT, PBX, f"{of}/{number}")


@asynccontextmanager
async def _running(platform: Platform) -> AsyncIterator[None]:
    async with running(
        [CATALOG["journal"].build],
        platform,
        http=HttpSettings(port=0),
        ops=OpsSettings(port=0),
        drain=timedelta(seconds=2),
    ):
        yield


async def _tell(platform: Platform, calls: Sequence[str]) -> None:
    """Until all have their entry, due in an hour."""
    publisher = platform.publisher("ingest")
    places = asyncio.Semaphore(64)

    async def tell(call: str) -> None:
        started = CallStarted(
            call_id=call,
            pbx=PBX,
            pbx_call_id=call,
            direction=Direction.INBOUND,
            caller=Party(number="447700900123"),
            dialled="442079460000",
        )
        async with places:
            await publisher.publish(started, tenant=TENANT)
            await publisher.publish(CallEnded(call_id=call, pbx=PBX), tenant=TENANT)

    await asyncio.gather(*(tell(call) for call in calls))
    entries = platform.store.collection(ENTRIES)

    async def all_are_there() -> bool:
        return await entries.count() == len(calls)

    await eventually(all_are_there, within=120)


async def _release(platform: Platform, calls: set[str], batch: int) -> None:
    """Their entries are due now, *batch* in a request."""
    sites = platform.store.collection(SITES)
    stored = await sites.get(TENANT)
    upload = Upload(every=timedelta(minutes=1), at_most=batch)
    policy = JournalPolicy(after=_HOUR, upload=upload)
    crm = tuple(one.model_copy(update={"journal": policy}) for one in stored.site.crm)
    site = stored.site.model_copy(update={"crm": crm})
    now = platform.clock.now()
    await sites.replace(stored.model_copy(update={"site": site, "changed_at": now}))
    entries = platform.store.collection(ENTRIES)
    waiting = [entry async for entry in every(entries, Find()) if entry.call_id in calls]
    await asyncio.gather(
        *(entries.replace(entry.model_copy(update={"due_at": now})) for entry in waiting)
    )


async def _round(platform: Platform) -> Round:
    async with _running(platform):
        began, cpu = perf_counter(), process_time()
        async with asyncio.timeout(120):
            while _heard(platform) < CALLS:  # noqa: ASYNC110  the journal must not be changed
                await asyncio.sleep(_POLL_S)  # noqa: TID251  a poll is no wait for the clock
        took, spent = perf_counter() - began, process_time() - cpu
    assert platform.metrics.value("callmesh_journal_entries_total", "sent") == CALLS
    return Round(CALLS / took, spent / CALLS)


def _heard(platform: Platform) -> float:
    return platform.metrics.value(
        "callmesh_deliveries_total", "journal", "journal.written.v1", "done"
    )
