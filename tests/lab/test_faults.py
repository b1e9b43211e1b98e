"""callmesh as processes that freeze, end and are killed, under calls of a real Asterisk."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio

from services.catalog import consumers
from services.cli.demo import prepare
from shared.bus.port import Consumer, Subscription
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRecord,
    CallRinging,
    CallStarted,
    LegEnded,
)
from shared.contracts.envelope import Message
from shared.runtime.platform import open_platform
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import is_settled
from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.priority import going_first
from tests.lab.asterisk.server import Asterisk
from tests.lab.asterisk.sip_scripts import Caller, Phone
from tests.lab.asterisk.sipp import Sipp
from tests.lab.calls import answering, done
from tests.lab.mesh import MANAGERS, LabMesh, people, site, switched_on
from tests.lab.table import Row, as_cells
from tests.mesh.processes import Mesh

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.mongodb,
    pytest.mark.asyncio(loop_scope="module"),
]

REPLICAS = ("first", "second")
#: Where the dialplan sends calls by itself.
_DEFAULT_PHONE = 123
#: Per replica that is killed: calls that are talking, ringing, and not there yet.
_CALLS = 12
_THIRD = _CALLS // 3
_STORY = (CallStarted, CallRinging, CallAnswered, LegEnded, CallEnded)


def a_row(name: str, number: int, rule: str) -> Row:
    """*number*: the last three digits of the caller's number and of the one dialled."""
    return Row(
        {
            "call": name,
            "caller": f"447700901{number}",
            "known as": f"Caller {name.title()}",
            "dialled": f"442079461{number}",
            "rule": rule,
        }
    )


FROZEN, GONE = a_row("frozen", 103, "extension:103"), a_row("gone", 104, "extension:104")
#: By replica; call 131 is the one to phone 131.
KILLS = {
    replica: [a_row(f"{replica}{n}", first + n, f"extension:{first + n}") for n in range(_CALLS)]
    for replica, first in zip(REPLICAS, (125, 138), strict=True)
}


@dataclass(frozen=True, slots=True)
class Faulty:
    """The mesh as processes, with a second ingest; what is in it can be killed."""

    network: LoopbackNetwork
    pbx: Asterisk
    mesh: LabMesh
    processes: Mesh
    #: Each a process group of its own, whose ingest is one of the two.
    replicas: dict[str, Mesh]
    sipp: Sipp
    #: By call and kind of event, the ids of all messages that were on the bus.
    seen: dict[tuple[str, type[CallEvent]], set[str]]

    async def record(self, row: Row) -> CallRecord:
        """Of the one call of that caller, when its entry is settled."""
        found: list[CallRecord] = []

        async def settled() -> bool:
            found[:] = [
                record
                for record in await self.mesh.calls()
                if record.caller and record.caller.number == row.caller
            ]
            return bool(found) and all(is_settled(record) for record in found)

        await eventually(settled)
        (record,) = found
        return record


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faulty(
    asterisk_lab: None, amqp_url: str, mongo_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Faulty]:
    folder = tmp_path_factory.mktemp("lab-faults")
    rows = [FROZEN, GONE, *(row for calls in KILLS.values() for row in calls)]
    seen: dict[tuple[str, type[CallEvent]], set[str]] = defaultdict(set)
    crm = SandboxCrm(folder / "crm.db")
    people(crm, rows)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(crm.stop)
        stack.enter_context(going_first())
        network = stack.enter_context(LoopbackNetwork())
        processes = stack.enter_context(Mesh(amqp_url, mongo_url, folder / "mesh"))
        second = stack.enter_context(
            Mesh(amqp_url, mongo_url, folder / "second", name=processes.name)
        )
        second._key = processes._key
        text = site(rows, crm_port=await crm.start(), pbx_host=network.pbx)
        async with open_platform(
            processes.choice, consumers=consumers(), serving=False
        ) as platform:
            key = await prepare(platform, text)
        agi = f"127.0.0.1:{processes.agi_port}"
        pbx = await stack.enter_async_context(
            switched_on(network, agi=agi, http="http://127.0.0.1:1", key=key)
        )
        await asyncio.gather(
            asyncio.to_thread(processes.start), asyncio.to_thread(second.start, "ingest")
        )
        await stack.enter_async_context(listening(processes, seen))
        await eventually(lambda: pbx.managers == MANAGERS + 1)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        sipp = Sipp(network, folder)
        stack.push_async_callback(sipp.close)
        mesh = LabMesh(crm, session, processes.url, key)
        replicas = dict(zip(REPLICAS, (processes, second), strict=True))
        yield Faulty(network, pbx, mesh, processes, replicas, sipp, seen)


@asynccontextmanager
async def listening(
    processes: Mesh, seen: dict[tuple[str, type[CallEvent]], set[str]]
) -> AsyncIterator[None]:
    """At the bus itself: the fold of a call would hide that an event was told twice."""

    async def note(message: Message[CallEvent]) -> None:
        seen[message.body.call_id, type(message.body)].add(str(message.id))

    async with open_platform(processes.choice, consumers=consumers(), serving=False) as platform:
        for contract in _STORY:
            platform.bus.subscribe(
                Subscription(consumer=Consumer("lab", contract), handler=note, live=True)
            )
        await platform.bus.start()
        yield
        await platform.bus.stop(drain=timedelta(seconds=2))


async def test_while_routing_is_frozen_calls_go_to_the_default_of_the_dialplan(
    faulty: Faulty,
) -> None:
    """It takes the connection and says nothing: the dialplan's timer takes the call out of it."""
    phone = await faulty.sipp.phone(_DEFAULT_PHONE, answering())
    routing = faulty.processes.processes["routing"]
    routing.send_signal(signal.SIGSTOP)
    try:
        caller = Caller(FROZEN.caller).dials().is_answered().talks(1).hangs_up()
        await done(phone, await faulty.sipp.call(FROZEN.dialled, caller))
    finally:
        routing.send_signal(signal.SIGCONT)

    record = await faulty.record(FROZEN)
    cells = as_cells(record, {}, faulty.mesh.entry(record))
    assert "T@crm-ask:1" in faulty.pbx.log
    assert cells["decided"] == "-"
    assert cells["phones"] == "123 answered"
    assert cells["CRM entry"] == "Inbound, Caller Frozen, Agent 123, Ben Agent"


async def test_when_routing_is_gone_calls_go_to_the_default_of_the_dialplan(
    faulty: Faulty,
) -> None:
    phone = await faulty.sipp.phone(_DEFAULT_PHONE, answering())
    await asyncio.to_thread(faulty.processes.kill, "routing")
    try:
        caller = Caller(GONE.caller).dials().is_answered().talks(1).hangs_up()
        await done(phone, await faulty.sipp.call(GONE.dialled, caller))
    finally:
        await asyncio.to_thread(faulty.processes.start, "routing")

    record = await faulty.record(GONE)
    cells = as_cells(record, {}, faulty.mesh.entry(record))
    assert cells["decided"] == "-"
    assert cells["phones"] == "123 answered"
    assert cells["CRM entry"] == "Inbound, Caller Gone, Agent 123, Ben Agent"


@pytest.mark.parametrize("victim", REPLICAS)
async def test_a_killed_replica_of_ingest_loses_nothing_and_doubles_nothing(
    faulty: Faulty, victim: str
) -> None:
    rows = KILLS[victim]
    entries_before = len(faulty.mesh.crm.records("Calls"))
    replica = faulty.replicas[victim]
    await eventually(lambda: faulty.pbx.managers == MANAGERS + 1)

    talking = [asyncio.create_task(place(faulty, row, talks=30)) for row in rows[:_THIRD]]
    await eventually(lambda: faulty.pbx.talking == 2 * _THIRD)
    ringing = [
        asyncio.create_task(place(faulty, row, rings=15)) for row in rows[_THIRD : 2 * _THIRD]
    ]
    await eventually(lambda: faulty.pbx.ringing == _THIRD)
    await asyncio.to_thread(replica.kill, "ingest")
    later = [asyncio.create_task(place(faulty, row)) for row in rows[2 * _THIRD :]]
    await asyncio.gather(*talking, *ringing, *later)
    records = [await faulty.record(row) for row in rows]
    await asyncio.to_thread(replica.start, "ingest")

    for row, record in zip(rows, records, strict=True):
        cells = as_cells(record, {}, faulty.mesh.entry(record))
        extension = row.dialled[-3:]
        assert cells["becomes"] == "inbound answered, talked, ended by caller", row.name
        assert cells["phones"] == f"{extension} answered", row.name
        assert cells["CRM entry"].startswith(f"Inbound, {row.contact}, Agent {extension}"), row.name
        told = {kind.__name__: len(faulty.seen[record.call_id, kind]) for kind in _STORY}
        assert told == {kind.__name__: 1 for kind in _STORY}, row.name
    assert len(faulty.mesh.crm.records("Calls")) - entries_before == len(rows)


async def place(faulty: Faulty, row: Row, *, rings: float = 2, talks: float = 6) -> None:
    """In seconds; the sample dialplan rings for 20, sipp goes after 90."""
    phone = Phone().rings(rings).answers().is_hung_up()
    called = await faulty.sipp.phone(int(row.dialled[-3:]), phone)
    caller = Caller(row.caller).dials().is_answered().talks(talks).hangs_up()
    await done(called, await faulty.sipp.call(row.dialled, caller))
