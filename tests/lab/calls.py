"""
How calls of calls.md are placed: those that are about calls, in ``routed_calls.py`` those that are
about rules. What becomes of them is not looked at here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from shared.clock import SystemClock
from shared.testing.waiting import eventually
from tests.lab.asterisk.miniphone import MiniPhone
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.server import SIP_PORT, Asterisk
from tests.lab.asterisk.sip_scripts import Caller, Phone
from tests.lab.asterisk.sipp import Playing, Sipp
from tests.lab.mesh import LabMesh
from tests.lab.table import Row


@dataclass(frozen=True, slots=True)
class Lab:
    network: LoopbackNetwork
    sipp: Sipp
    mesh: LabMesh
    pbx: Asterisk
    #: By name of the call, what Asterisk said of it while it was under way.
    seen: dict[str, str] = field(default_factory=dict)
    #: Of those who are called outside there is one at a time.
    outside: asyncio.Lock = field(default_factory=asyncio.Lock)


Place = Callable[[Lab, Row], Awaitable[None]]
CALLS: dict[str, Place] = {}


def call(place: Place) -> Place:
    CALLS[place.__name__] = place
    return place


async def done(*playing: Playing) -> None:
    await asyncio.gather(*(one.done() for one in playing))


def answering() -> Phone:
    return Phone().rings(0.7).answers().is_hung_up()


def dialling(row: Row) -> Caller:
    return Caller(row.caller, row.shown_name).dials()


def talking(row: Row, seconds: float = 1.5) -> Caller:
    return dialling(row).is_answered().talks(seconds).hangs_up()


def leaving_a_message(row: Row) -> Caller:
    """``#`` ends the greeting."""
    return dialling(row).is_answered().talks(1.5).presses("#").talks(4).hangs_up()


@call
async def answered(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(103, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def agent_hangs_up(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(104, Phone().rings(0.7).answers().talks(1.5).hangs_up())
    caller = dialling(row).is_answered().is_hung_up()
    await done(phone, await lab.sipp.call(row.dialled, caller))


@call
async def missed(lab: Lab, row: Row) -> None:
    """For as long as the sample dialplan rings: 20 s."""
    phone = await lab.sipp.phone(105, Phone().rings(0).is_cancelled())
    await done(phone, await lab.sipp.call(row.dialled, dialling(row).is_refused(480)))


@call
async def gave_up(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(106, Phone().rings(0).is_cancelled())
    await done(phone, await lab.sipp.call(row.dialled, dialling(row).gives_up(after=1.5)))


@call
async def busy(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(107, Phone().refuses("486 Busy Here"))
    await done(phone, await lab.sipp.call(row.dialled, dialling(row).is_refused(486)))


@call
async def phone_off(lab: Lab, row: Row) -> None:
    await done(await lab.sipp.call(row.dialled, dialling(row).is_refused(480)))


@call
async def group(lab: Lab, row: Row) -> None:
    """Both ring, 102 answers."""
    one = await lab.sipp.phone(101, Phone().rings(0).is_cancelled())
    two = await lab.sipp.phone(102, Phone().rings(1.5).answers().is_hung_up())
    await done(one, two, await lab.sipp.call(row.dialled, talking(row)))


@call
async def queue(lab: Lab, row: Row) -> None:
    """Both agents ring, 112 answers."""
    one = await lab.sipp.phone(111, Phone().rings(0).is_cancelled())
    two = await lab.sipp.phone(112, Phone().rings(1.5).answers().is_hung_up())
    # The queue itself answers at once.
    await done(one, two, await lab.sipp.call(row.dialled, talking(row, 6)))


@call
async def queue_second_agent(lab: Lab, row: Row) -> None:
    """113 does not pick up, the queue goes on to 114."""
    one = await lab.sipp.phone(113, Phone().rings(0).is_cancelled())
    two = await lab.sipp.phone(114, Phone().rings(0.7).answers().talks(1.5).hangs_up())
    caller = dialling(row).is_answered().is_hung_up()
    await done(one, two, await lab.sipp.call(row.dialled, caller))


@call
async def transfer_blind(lab: Lab, row: Row) -> None:
    """115 answers and sends the caller on to 116 (REFER)."""
    one = await lab.sipp.phone(115, Phone().rings(0.5).answers().talks(1).transfers("116"))
    two = await lab.sipp.phone(116, answering())
    await done(one, two, await lab.sipp.call(row.dialled, talking(row, 6)))


@call
async def transfer_attended(lab: Lab, row: Row) -> None:
    """121 answers, asks 122 on a second line, and joins the two (REFER with Replaces)."""
    async with mini_phone(lab, 121) as phone:
        other = await lab.sipp.phone(122, answering())
        caller = await lab.sipp.call(row.dialled, talking(row, 6))
        held = await phone.taken()
        asked = await phone.call("122")
        await SystemClock().sleep(timedelta(seconds=1))  # they talk
        await phone.join(held, asked)
        await phone.hang_up(held)
        await eventually(lambda: phone.was_hung_up(asked))
        await done(other, caller)


@asynccontextmanager
async def mini_phone(lab: Lab, number: int) -> AsyncIterator[MiniPhone]:
    address = (lab.network.host(number), SIP_PORT)
    phone = await MiniPhone(str(number), address, (lab.network.pbx, SIP_PORT)).open()
    try:
        yield phone
    finally:
        phone.close()


@call
async def voicemail(lab: Lab, row: Row) -> None:
    """109 is not picked up for 3 s."""
    phone = await lab.sipp.phone(109, Phone().rings(0).is_cancelled())
    await done(phone, await lab.sipp.call(row.dialled, leaving_a_message(row)))


@call
async def voicemail_at_once(lab: Lab, row: Row) -> None:
    await done(await lab.sipp.call(row.dialled, leaving_a_message(row)))


@call
async def announcement(lab: Lab, row: Row) -> None:
    await done(await lab.sipp.call(row.dialled, dialling(row).is_answered().is_hung_up()))


@call
async def menu(lab: Lab, row: Row) -> None:
    """The caller presses 2, by which the dialplan asks a second time."""
    phone = await lab.sipp.phone(110, answering())
    caller = dialling(row).is_answered().talks(1.5).presses("2").talks(4).hangs_up()
    await done(phone, await lab.sipp.call(row.dialled, caller))


@call
async def unknown(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(118, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def withheld(lab: Lab, row: Row) -> None:
    """No number comes with the call."""
    phone = await lab.sipp.phone(131, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def hostile_name(lab: Lab, row: Row) -> None:
    """What a caller's line says is made to end a text, a command, and to be taken for a variable."""
    phone = await lab.sipp.phone(132, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def asked_by_http(lab: Lab, row: Row) -> None:
    """The dialplan asks by CURL, not by AGI."""
    phone = await lab.sipp.phone(120, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def no_rule(lab: Lab, row: Row) -> None:
    """The dialplan's own default."""
    phone = await lab.sipp.phone(123, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def click(lab: Lab, row: Row) -> None:
    """The agent's phone first, then the customer."""
    async with lab.outside:
        agent = await lab.sipp.phone(124, Phone().rings(0.7).answers().talks(3).hangs_up())
        customer = await lab.sipp.outside(answering())
        await lab.mesh.api.dial("124", row.dialled, idempotency_key=row.name)
        await done(agent, customer)


@call
async def click_busy(lab: Lab, row: Row) -> None:
    async with lab.outside:
        agent = await lab.sipp.phone(125, Phone().rings(0.7).answers().is_hung_up())
        customer = await lab.sipp.outside(Phone().refuses("486 Busy Here"))
        await lab.mesh.api.dial("125", row.dialled, idempotency_key=row.name)
        await done(agent, customer)


@call
async def click_not_taken(lab: Lab, row: Row) -> None:
    """The agent does not pick up the own phone for the 4 s that the site gives."""
    agent = await lab.sipp.phone(126, Phone().rings(0).is_cancelled())
    await lab.mesh.api.dial("126", row.dialled, idempotency_key=row.name)
    await done(agent)


@call
async def dialled_by_hand(lab: Lab, row: Row) -> None:
    async with lab.outside:
        customer = await lab.sipp.outside(answering())
        await done(customer, await lab.sipp.call(row.dialled, talking(row), phone=127))


@call
async def internal(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(129, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row), phone=128))
