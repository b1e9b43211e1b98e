"""Orders to a real Asterisk, without the mesh: what the customer sees, and how a call is cancelled."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.dialing import DialReason
from shared.errors import Rejected
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.adapter import AsteriskSettings, asterisk_adapter
from shared.pbx.port import (
    AgentAt,
    DialRequest,
    HangUp,
    PbxAdapter,
    Phones,
    Sighting,
    Switchboard,
)
from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.priority import going_first
from tests.lab.asterisk.server import AMI_PORT, SECRET, Asterisk
from tests.lab.asterisk.sip_scripts import Phone
from tests.lab.asterisk.sipp import Playing, Sipp

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

WITHIN = timedelta(seconds=5)
#: The sample's `CM_NUMBER`.
_OWN, _CUSTOMER = "442079460000", "+447700900777"
#: In queue `waiting` of the lab, and nowhere else.
_IN_A_QUEUE = "143"

#: No call comes in.
_NOBODY_IS_ASKED = {
    "AGI": "127.0.0.1:9",
    "URL": "http://127.0.0.1:9",
    "KEY": "none",
    "TENANT": "acme",
    "NAME": "berlin",
}


@dataclass
class Desk:
    """The switchboard and the events of one PBX connection."""

    pbx: Asterisk
    sipp: Sipp
    adapter: PbxAdapter
    board: Switchboard
    told: list[Sighting]
    refused: list[tuple[str, DialReason]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def dial(self, extension: str, **more: Any) -> HangUp:
        """What it is cancelled by."""
        reference = f"lab-order-{next(self._numbers)}"
        order = DialRequest(
            reference=reference,
            extension=extension,
            number=_CUSTOMER,
            ring_for=timedelta(seconds=20),
            **more,
        )
        await self.board.dial(order, within=WITHIN)
        return HangUp(reference=reference, extension=extension)

    async def cancelled(self, call: HangUp, *ends: Playing) -> None:
        """Nobody is left in it, and each end was told."""
        await self.board.hang_up(call, within=WITHIN)
        await asyncio.gather(*(end.done() for end in ends))
        await eventually(lambda: "0 active channels" in self.pbx.ask("core show channels"))

    @asynccontextmanager
    async def logged_in_without(self, right: str) -> AsyncIterator[Switchboard]:
        """Rights are those of the moment of the login."""
        file = self.pbx.folder / "etc" / "manager.conf"
        text = file.read_text()
        assert text.count(f",{right},") == 1
        file.write_text(text.replace(f",{right},", ","))
        self.pbx.ask("manager reload")
        assert self.adapter.switchboard is not None
        board = self.adapter.switchboard()
        running = asyncio.create_task(board.run(self.refuse))
        try:
            await eventually(lambda: board.fault is None)
            yield board
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            file.write_text(text)
            self.pbx.ask("manager reload")

    async def refuse(self, reference: str, reason: DialReason) -> None:
        self.refused.append((reference, reason))

    async def statuses(self, number: int) -> list[AgentStatusChanged]:
        """As many as that, and no more."""
        await eventually(
            lambda: len([s for s in self.told if isinstance(s.body, AgentStatusChanged)]) >= number
        )
        found = [s.body for s in self.told if isinstance(s.body, AgentStatusChanged)]
        assert len(found) == number
        return found


def an_adapter(network: LoopbackNetwork, **more: Any) -> PbxAdapter:
    settings = AsteriskSettings(
        host=network.pbx,
        port=AMI_PORT,
        username="callmesh",
        secret=SecretStr(SECRET),
        **more,
    )
    return asterisk_adapter(
        settings, tenant="acme", pbx="berlin", clock=SystemClock(), metrics=Metrics()
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(asterisk_lab: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    with going_first(), LoopbackNetwork() as network:
        async with AsyncExitStack() as stack:
            pbx = Asterisk(network, _NOBODY_IS_ASKED)
            stack.callback(pbx.close)
            await asyncio.to_thread(pbx.start)
            sipp = Sipp(network, tmp_path_factory.mktemp("orders"))
            stack.push_async_callback(sipp.close)
            made = an_adapter(network, statuses={AgentStatus.BREAK: "coffee"})
            assert made.switchboard is not None
            assert made.source is not None
            found = Desk(pbx, sipp, made, made.switchboard(), [])
            source = made.source()
            source.know(Phones(extensions=frozenset({_IN_A_QUEUE})))

            async def see(sightings: Any) -> None:
                found.told.extend(sightings)

            works = [
                asyncio.create_task(found.board.run(found.refuse)),
                asyncio.create_task(source.run(see, lambda _: None)),
            ]
            await eventually(lambda: found.board.fault is None and source.connected)
            yield found
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


def agent(seconds: float = 0.3) -> Phone:
    """Sees whom the call is for."""
    return Phone(shown=None).rings(seconds).answers().is_hung_up()


# -- what the customer sees ------------------------------------------------------------------------


@pytest.mark.parametrize(("caller_id", "shown"), [(None, _OWN), ("+442079460123", "442079460123")])
async def test_the_customer_sees_the_number_of_the_order_or_that_of_the_pbx(
    desk: Desk, caller_id: str | None, shown: str
) -> None:
    phone = await desk.sipp.phone(101, agent())
    customer = await desk.sipp.outside(Phone(shown=shown).rings(0.3).answers().is_hung_up())

    call = await desk.dial("101", caller_id=caller_id)
    await eventually(lambda: desk.pbx.talking == 2)

    await desk.cancelled(call, phone, customer)


# -- cancelling ------------------------------------------------------------------------------------


async def test_a_call_that_rings_at_the_agent_is_cancelled(desk: Desk) -> None:
    phone = await desk.sipp.phone(102, Phone().rings(0).is_cancelled())
    call = await desk.dial("102")
    await eventually(lambda: desk.pbx.ringing == 1)

    await desk.cancelled(call, phone)


async def test_an_order_of_this_moment_is_cancelled(desk: Desk) -> None:
    """Asterisk takes it before there is a channel."""
    phone = await desk.sipp.phone(103, Phone().rings(0).is_cancelled())
    call = await desk.dial("103")

    await desk.cancelled(call, phone)


async def test_a_call_that_rings_at_the_customer_is_cancelled(desk: Desk) -> None:
    phone = await desk.sipp.phone(104, agent())
    customer = await desk.sipp.outside(Phone().rings(0).is_cancelled())
    call = await desk.dial("104")
    await eventually(lambda: desk.pbx.ringing == 1 and desk.pbx.up == 1)

    await desk.cancelled(call, phone, customer)


async def test_a_talk_is_ended_at_both_sides(desk: Desk) -> None:
    phone = await desk.sipp.phone(105, agent())
    customer = await desk.sipp.outside(Phone().rings(0.3).answers().is_hung_up())
    call = await desk.dial("105")
    await eventually(lambda: desk.pbx.talking == 2)

    await desk.cancelled(call, phone, customer)


async def test_a_call_that_the_agent_has_passed_on_is_ended_where_it_is(desk: Desk) -> None:
    first = await desk.sipp.phone(106, Phone().rings(0.3).answers().talks(1).transfers("107"))
    second = await desk.sipp.phone(107, agent())
    customer = await desk.sipp.outside(Phone().rings(0.1).answers().is_hung_up())
    call = await desk.dial("106")
    await first.done()
    await eventually(lambda: desk.pbx.talking == 2)

    await desk.cancelled(call, second, customer)


async def test_a_call_that_is_over_is_cancelled_without_a_fault(desk: Desk) -> None:
    call = HangUp(reference="lab-order-of-yesterday", extension="101")

    await desk.board.hang_up(call, within=WITHIN)


async def test_other_calls_go_on(desk: Desk) -> None:
    talking = await desk.sipp.phone(108, agent())
    customer = await desk.sipp.outside(Phone().rings(0.1).answers().is_hung_up())
    kept = await desk.dial("108")
    await eventually(lambda: desk.pbx.talking == 2)
    ringing = await desk.sipp.phone(110, Phone().rings(0).is_cancelled())
    cancelled = await desk.dial("110")
    await eventually(lambda: desk.pbx.ringing == 1)

    await desk.board.hang_up(cancelled, within=WITHIN)
    await ringing.done()

    assert desk.pbx.talking == 2
    await desk.cancelled(kept, talking, customer)


@pytest.mark.parametrize("lacks", ["call", "reporting"])
async def test_without_a_right_it_is_said_what_to_change_or_done_with_what_is_left(
    desk: Desk, lacks: str
) -> None:
    """Who may not list channels ends the agent's, and with it the call."""
    phone = await desk.sipp.phone(111, Phone().rings(0).is_cancelled())
    call = await desk.dial("111")
    await eventually(lambda: desk.pbx.ringing == 1)
    async with desk.logged_in_without(lacks) as board:
        if lacks == "call":
            with pytest.raises(Rejected, match="needs call in write"):
                await board.hang_up(call, within=WITHIN)
        else:
            await board.hang_up(call, within=WITHIN)
            await phone.done()

    await desk.cancelled(call, phone)


# -- statuses --------------------------------------------------------------------------------------


async def test_what_is_set_is_heard_as_it_was_said_it_would_be(desk: Desk) -> None:
    """Each status once; the word of the site, a person's own, and that Asterisk has none for free."""
    agent_there = AgentAt(_IN_A_QUEUE)
    ordered = [
        (AgentStatus.DINNER, None, "dinner"),
        (AgentStatus.BREAK, None, "coffee"),
        (AgentStatus.BREAK, "smoke, outside", "smoke, outside"),
        (AgentStatus.BUSY, None, "busy"),
        (AgentStatus.OFFLINE, None, "offline"),
        (AgentStatus.FREE, None, None),
    ]
    before = len(await desk.statuses(1))
    for number, (status, own, said) in enumerate(ordered, start=before + 1):
        await desk.board.set_status(agent_there, status, own=own, within=WITHIN)
        heard = (await desk.statuses(number))[-1]

        assert (heard.status, heard.own) == (desk.board.heard_as(status, own), said)
        assert heard.source_name == "berlin"
        assert heard.status is status
