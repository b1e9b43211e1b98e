"""What an administrator would ask of a FreeSWITCH connection that does not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

from shared.clock import Clock
from shared.errors import ContractError, MeshError, Rejected, Unavailable
from shared.ids import new_id
from shared.pbx.freeswitch.channels import from_micros
from shared.pbx.freeswitch.esl_client import EslAddress, EslSession, esl_session
from shared.pbx.freeswitch.esl_wire import Event, json_object, read_event
from shared.pbx.freeswitch.reader import WANTED
from shared.pbx.port import Finding

#: In every sample configuration, so everybody's.
_DEFAULT_PASSWORD = "ClueCon"  # noqa: S105  it is warned of
_WITHIN = timedelta(seconds=5)
_TOO_FAR = timedelta(seconds=5)
_SOCKET = "event socket"


async def check(address: EslAddress, *, clock: Clock) -> AsyncIterator[Finding]:
    """Raises nothing."""
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(esl_session(address, clock=clock))
        except MeshError as error:
            yield Finding(_SOCKET, error.message)
            return
        yield Finding(_SOCKET)
        yield _password(address)
        yield await _events(session)
        yield await _channels(session)
        async for finding in _job(session, clock):
            yield finding


def _password(address: EslAddress) -> Finding:
    fault = None
    if address.username is None and address.password.get_secret_value() == _DEFAULT_PASSWORD:
        fault = (
            "it is the one of every sample: change it in event_socket.conf.xml, and set listen-ip "
            "to an address that only callmesh reaches"
        )
    return Finding("password", fault)


async def _events(session: EslSession) -> Finding:
    try:
        await session.subscribe([*WANTED[:-2], "BACKGROUND_JOB", *WANTED[-2:]])
    except MeshError as error:
        return Finding(
            "events", f"{error.message}; the user needs esl-allowed-events, see deploy/freeswitch"
        )
    return Finding("events")


async def _channels(session: EslSession) -> Finding:
    try:
        json_object((await session.api("show channels as json", within=_WITHIN)).encode())
    except MeshError as error:
        return Finding(
            "list of channels",
            f"{error.message}; without it calls that end while the connection is lost stay open: "
            "load mod_commands, and allow `show` in esl-allowed-api",
        )
    return Finding("list of channels")


async def _job(session: EslSession, clock: Clock) -> AsyncIterator[Finding]:
    """A background command: its event shows that they come, what time it is, what is loaded."""
    job = str(new_id())
    try:
        await session.command("bgapi module_exists mod_callcenter", {"Job-UUID": job})
        async with asyncio.timeout(_WITHIN.total_seconds()):
            event = await _event_of(session, job)
    except Rejected as error:
        yield Finding(
            "click-to-call",
            f"{error.message}; allow `originate`, `module_exists` and `callcenter_config` in "
            "esl-allowed-api",
        )
    except (MeshError, TimeoutError):
        yield Finding("click-to-call", "no BACKGROUND_JOB came: allow it in esl-allowed-events")
    else:
        yield Finding("click-to-call")
        yield _clock(event, clock)
        # Optional: without it there are no queues, and no agents' statuses.
        loaded = event.get("_body", "").strip() == "true"
        yield Finding("mod_callcenter" if loaded else "mod_callcenter (not loaded: no queues)")


async def _event_of(session: EslSession, job: str) -> Event:
    async for record in session.events():
        try:
            event = read_event(record)
        except ContractError:
            continue
        if event.get("Job-UUID") == job:
            return event
    raise Unavailable("the connection was lost")


def _clock(event: Event, clock: Clock) -> Finding:
    try:
        ahead = from_micros(event.get("Event-Date-Timestamp", "")) - clock.now()
    except ContractError:
        return Finding("clock", "its events tell no time (Event-Date-Timestamp)")
    if abs(ahead) < _TOO_FAR:
        return Finding("clock")
    word = "ahead" if ahead > timedelta(0) else "behind"
    return Finding(
        "clock",
        f"FreeSWITCH's is {abs(ahead).total_seconds():.0f} s {word} of ours: run chrony or ntpd on "
        "both, then `fsctl sync_clock`",
    )
