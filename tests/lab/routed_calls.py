"""How the calls of calls.md are placed that go by rules which are written out below the table."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from shared.clock import SystemClock
from shared.contracts.agents import AgentStatus
from shared.contracts.routing import RouteReason
from shared.testing.waiting import eventually
from tests.lab.asterisk.sip_scripts import Caller, Phone
from tests.lab.calls import CALLS, Lab, answering, call, dialling, done, mini_phone, talking
from tests.lab.table import Row, all_of

__all__ = ["CALLS"]

#: For what goes through the PBX, the bus and back, beside other tests; sipp gives up after 90 s.
_WITHIN = 45


def talks_shortly() -> Phone:
    """Hangs up; whoever calls waits for that."""
    return Phone().rings(0.7).answers().talks(1.5).hangs_up()


def listening(row: Row) -> Caller:
    """Whoever is answered, and goes when he is hung up on."""
    return dialling(row).is_answered().is_hung_up()


@call
async def manager(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(133, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def manager_busy(lab: Lab, row: Row) -> None:
    """The second customer calls while the first talks with the manager of both."""
    first, second = all_of(row)
    async with mini_phone(lab, 134) as phone:
        colleague = await lab.sipp.phone(135, answering())
        talking_first = await lab.sipp.call(first.dialled, listening(first))
        held = await phone.taken()

        async def is_passed_over() -> bool:
            decision = await lab.mesh.would_go(second.dialled, second.caller)
            return str(decision.destination) == "extension:135"

        await eventually(is_passed_over, within=_WITHIN)
        await done(colleague, await lab.sipp.call(second.dialled, talking(second)))
        await phone.hang_up(held)
        await done(talking_first)


@call
async def manager_paused(lab: Lab, row: Row) -> None:
    """The break is set by callmesh; Asterisk tells when it has begun."""
    phone = await lab.sipp.phone(137, answering())
    await lab.mesh.set_status(136, AgentStatus.BREAK)

    async def is_passed_over() -> bool:
        decision = await lab.mesh.would_go(row.dialled, row.caller)
        return decision.reason is RouteReason.NOBODY_FREE

    await eventually(is_passed_over, within=_WITHIN)
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def greeting(lab: Lab, row: Row) -> None:
    """The caller enters his number while the recording plays, and ends it by ``#``."""
    phone = await lab.sipp.phone(138, talks_shortly())
    caller = dialling(row).is_answered().talks(1.5).presses("4").presses("2").presses("#")
    await done(phone, await lab.sipp.call(row.dialled, caller.is_hung_up()))


@call
async def greeting_silent(lab: Lab, row: Row) -> None:
    """The PBX waits for five seconds behind the recording."""
    phone = await lab.sipp.phone(139, talks_shortly())
    await done(phone, await lab.sipp.call(row.dialled, listening(row)))


@call
async def hangup_busy(lab: Lab, row: Row) -> None:
    """486: the caller's own exchange makes the tone."""
    await done(await lab.sipp.call(row.dialled, dialling(row).is_refused(486)))


@call
async def closed(lab: Lab, row: Row) -> None:
    await done(await lab.sipp.call(row.dialled, listening(row)))


@call
async def split(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(141, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def another_rule(lab: Lab, row: Row) -> None:
    phone = await lab.sipp.phone(142, answering())
    await done(phone, await lab.sipp.call(row.dialled, talking(row)))


@call
async def queue_priority(lab: Lab, row: Row) -> None:
    """Both wait while the only agent has a break; 143 then takes whoever is served first."""
    early, late = all_of(row)
    async with mini_phone(lab, 143) as phone:
        await lab.mesh.set_status(143, AgentStatus.BREAK)
        await eventually(lambda: _queue_says(lab, "paused"), within=_WITHIN)
        first = await lab.sipp.call(early.dialled, listening(early))
        await eventually(lambda: _queue_says(lab, "prio: 0"), within=_WITHIN)
        second = await lab.sipp.call(late.dialled, listening(late))
        await eventually(lambda: _queue_says(lab, "prio: 7"), within=_WITHIN)
        lab.seen[row.name] = await _queue_and_its_first(lab)
        await lab.mesh.set_status(143, AgentStatus.FREE)
        for served in (1, 2):
            held = await phone.taken()
            await _has_answered(lab, 143, calls=served)
            await SystemClock().sleep(timedelta(seconds=1))  # they talk
            await phone.hang_up(held)
        await done(first, second)


async def _has_answered(lab: Lab, extension: int, *, calls: int) -> None:
    """So many calls, as the agent's screen shows it: who hangs up sooner, Asterisk does not hear."""

    def is_shown() -> bool:
        shown = lab.mesh.screens.get(str(extension), ())
        return [event["kind"] for event in shown].count("answered") == calls

    await eventually(is_shown, within=_WITHIN)


async def _queue_says(lab: Lab, word: str) -> bool:
    return word in await _asked(lab, "queue show waiting")


async def _queue_and_its_first(lab: Lab) -> str:
    """Who waits, in order, and the channel of whoever is served first."""
    queue = await _asked(lab, "queue show waiting")
    channel = queue.partition("1. ")[2].split()[0]
    return queue + await _asked(lab, f"core show channel {channel}")


async def _asked(lab: Lab, command: str) -> str:
    return await asyncio.to_thread(lab.pbx.ask, command)
