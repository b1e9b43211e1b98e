"""Call events through ingest and journal: from the raw hook to the folded call."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from services.journal.store import CALLS
from shared.contracts.calls import Direction, LegOutcome
from shared.contracts.hooks import HookBatch, HookEvent, HookEventKind, HookKind, HookReceived
from shared.ids import new_id
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
from shared.sandbox.site import TENANT, site_file
from shared.secrets import new_key
from shared.testing.backends import Backends
from shared.testing.waiting import eventually

CALLS_PER_ROUND = 250
EVENTS_PER_CALL = 6
ROUNDS = 3
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
_SERVICES = ("ingest", "journal")


async def measure(backends: Backends, folder: Path) -> list[str]:
    net = NetSettings(allow="127.0.0.0/8")
    name = f"bench-{new_id().hex[:8]}"
    choices = {
        "embedded": Choice(
            MeshSettings(data_dir=folder / "journal"), AmqpSettings(), MongoSettings(), net
        ),
        "RabbitMQ and MongoDB": Choice(
            MeshSettings(
                bus=BusKind.RABBIT, store=StoreKind.MONGO, secret_keys=new_key(), data_dir=folder
            ),
            AmqpSettings(url=SecretStr(backends.amqp_url()), prefix=name),
            MongoSettings(url=SecretStr(backends.mongo_url()), database=name),
            net,
        ),
    }
    events = CALLS_PER_ROUND * EVENTS_PER_CALL
    lines = [
        f"{CALLS_PER_ROUND} calls of {EVENTS_PER_CALL} events, ingest and journal in one process"
    ]
    for title, choice in choices.items():
        found = await _rounds(choice)
        rate, cpu = median(rate for rate, _ in found), median(cpu for _, cpu in found)
        lines.append(
            f"{title:<22} {rate * events:6.0f} events/s   {cpu / events * 1e6:5.0f} us CPU each"
        )
    return lines


async def _rounds(choice: Choice) -> list[tuple[float, float]]:
    async with open_platform(choice, consumers=consumers()) as platform:
        await prepare(platform, site_file(crm_url="http://127.0.0.1:9", ami_port=1, settle_s=3600))
        async with running(
            [CATALOG[name].build for name in _SERVICES],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=timedelta(seconds=1),
        ):
            return [await _round(platform, number) for number in range(ROUNDS)]


async def _round(platform: Platform, number: int) -> tuple[float, float]:
    """Rounds a second, and CPU seconds of this process (services and publisher) a round."""
    publisher = platform.publisher("bench")
    hooks = [
        HookReceived(pbx="door", kind=HookKind.GENERIC, body=_batch(f"{number}-{call}"))
        for call in range(CALLS_PER_ROUND)
    ]
    places = asyncio.Semaphore(64)

    async def send(hook: HookReceived) -> None:
        async with places:
            await publisher.publish(hook, tenant=TENANT)

    calls = platform.store.collection(CALLS)
    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(send(hook) for hook in hooks))

    def journaled() -> bool:
        total = sum(
            platform.metrics.value("callmesh_deliveries_total", "journal", kind, "done")
            for kind in _KINDS
        )
        return total >= (number + 1) * CALLS_PER_ROUND * EVENTS_PER_CALL

    await eventually(journaled, within=300)
    took, spent = perf_counter() - began, process_time() - cpu
    assert await calls.count(tenant=TENANT) == (number + 1) * CALLS_PER_ROUND
    return 1 / took, spent


_KINDS = (
    *("calls.started.v1", "calls.ringing.v1", "calls.answered.v1"),
    *("calls.recording_ready.v1", "calls.leg_ended.v1", "calls.ended.v1"),
)


def _batch(call: str) -> str:
    at = [NOON + timedelta(seconds=second) for second in range(EVENTS_PER_CALL)]
    events = (
        HookEvent(
            event=HookEventKind.STARTED,
            call=call,
            at=at[0],
            direction=Direction.INBOUND,
            caller="+447700900123",
            dialled="442079460001",
        ),
        HookEvent(event=HookEventKind.RINGING, call=call, at=at[1], extension="101"),
        HookEvent(event=HookEventKind.ANSWERED, call=call, at=at[2], extension="101"),
        HookEvent(event=HookEventKind.RECORDING, call=call, at=at[3], recording=f"{call}.wav"),
        HookEvent(
            event=HookEventKind.LEG_ENDED,
            call=call,
            at=at[4],
            extension="101",
            outcome=LegOutcome.ANSWERED,
        ),
        HookEvent(event=HookEventKind.ENDED, call=call, at=at[5]),
    )
    return HookBatch(events=events).model_dump_json(exclude_none=True)
