"""What an administrator would ask of an Asterisk before the first call: tried, not assumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.errors import ContractError, MeshError, Rejected, Unavailable
from shared.ids import new_id
from shared.pbx.asterisk.ami_client import AmiSession, ami_session
from shared.pbx.asterisk.ami_connect import AmiAddress, NotTrusted, fingerprint_of
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import CHECK_ENDPOINT
from shared.pbx.asterisk.tracker import stamp
from shared.pbx.port import Finding, LoginRefused

#: In real time: an answer that takes longer is none, whatever the mesh's clock says.
_HEARD_WITHIN = 3.0
_CLOCK_OFF = timedelta(seconds=5)
#: Action, right, what it is for.
_RIGHTS = (
    ("Originate", "originate", "click-to-call"),
    ("Hangup", "call", "cancelling a click-to-call"),
    ("CoreShowChannels", "reporting", "what goes on after a connection was lost"),
    ("QueuePause", "agent", "an agent's break, where there are queues"),
)
_READ = "manager.conf: the user needs read = call,agent"
_STAMPS = "manager.conf: set timestampevents = yes in [general], then `manager reload`"


async def check_asterisk(
    address: AmiAddress, *, technology: str, clock: Clock
) -> AsyncIterator[Finding]:
    """Takes some seconds at most; makes no call, and none of our readers sees one."""
    at = f"{address.host}:{address.port}"
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(
                ami_session(address, wanted=("OriginateResponse",), clock=clock)
            )
        except LoginRefused as error:
            yield Finding(f"AMI answers at {at}")
            yield Finding(f"login as {address.username}", error.message)
            return
        except NotTrusted as error:
            yield Finding(f"AMI answers at {at}", await _certificate(error, address))
            return
        except (Unavailable, ContractError) as error:
            yield Finding(f"AMI answers at {at}", f"{error.message}; {_reach(address)}")
            return
        yield Finding(f"AMI answers at {at}")
        yield Finding(f"login as {address.username}")
        try:
            async for finding in _logged_in(session, technology, clock):
                yield finding
        except MeshError as error:
            yield Finding("the AMI session holds", error.message)


async def _logged_in(session: AmiSession, technology: str, clock: Clock) -> AsyncIterator[Finding]:
    may = await _permitted(session)
    for action, right, purpose in _RIGHTS:
        if may is not None:
            missing = f"manager.conf: the user needs {right} in write =, for {purpose}"
            yield Finding(f"right to {action}", None if action in may else missing)
    # A Pong has the time whatever timestampevents says.
    theirs = stamp(await session.action("Ping"))
    if may is None or "Originate" in may:
        what = "events of calls come"
        try:
            heard = await _outcome(session, technology)
        except Rejected as error:
            yield Finding(what, f"{error.message}: it could not be tried")
        else:
            yield Finding(what, None if heard else _READ)
            if heard is not None:
                yield Finding("events say when they happened", None if stamp(heard) else _STAMPS)
                theirs = stamp(heard) or theirs
    if theirs is not None:
        yield _clock_finding(theirs, clock.now())


async def _permitted(session: AmiSession) -> frozenset[str] | None:
    """The actions that this user may do: Asterisk lists no others. None: it does not list them."""
    try:
        return frozenset((await session.action("ListCommands")).headers)
    except Rejected:
        return None


async def _outcome(session: AmiSession, technology: str) -> AmiMessage | None:
    """
    An order for a phone that there is not fails at once, and its failure is an event. None: that
    did not come. Raises: Rejected.
    """
    reference = f"{CHECK_ENDPOINT}-{new_id().hex[:12]}"
    fields: dict[str, str | list[str]] = {
        "Channel": f"{technology}/{CHECK_ENDPOINT}",
        "ChannelId": reference,
        "Application": "Hangup",
        "Timeout": "1000",
        "Async": "true",
    }
    await session.action("Originate", fields, action_id=reference)
    try:
        async with asyncio.timeout(_HEARD_WITHIN):
            async for event in session.events():
                if event.action_id == reference:
                    return event
    except TimeoutError:
        pass
    return None


def _clock_finding(theirs: datetime, ours: datetime) -> Finding:
    what = "the PBX's clock agrees with ours"
    ahead = theirs - ours
    if abs(ahead) <= _CLOCK_OFF:
        return Finding(what)
    side = "ahead of" if ahead > timedelta(0) else "behind"
    seconds = abs(ahead).total_seconds()
    return Finding(what, f"it is {seconds:.0f} s {side} ours: set both by NTP; calls get its times")


async def _certificate(error: NotTrusted, address: AmiAddress) -> str:
    """Also the certificate by which it could be trusted, once a person has compared it."""
    if address.fingerprint is not None:
        return f"{error.message}; if it was renewed, put that into `fingerprint`"
    try:
        shown = await fingerprint_of(address)
    except Unavailable:
        return error.message
    return (
        f"{error.message}; it has SHA-256 {shown}: compare that with `openssl x509 -noout "
        "-fingerprint -sha256 -in FILE` at the PBX, and put it into `fingerprint`"
    )


def _reach(address: AmiAddress) -> str:
    if address.tls:
        return (
            "manager.conf needs tlsenable, tlsbindaddr and tlscertfile; TLS has a port of its "
            "own, usually 5039"
        )
    return (
        "manager.conf needs enabled = yes, and a bindaddr and port that this machine reaches; a "
        "port with TLS needs `tls: true`"
    )
