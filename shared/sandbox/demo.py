"""
The demo from outside: plays recorded calls on the sandbox PBX and watches, by the public HTTP API
alone, what the mesh makes of them. It does not matter whether that mesh is one process or six.

A round of calls has its time and ids from a file. One that was broken off (``kill -9``) is played
again with the same ids, as a PBX would send the same events again: every call is completed, and
none has a second entry in the CRM.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel

from shared.clock import Clock, SystemClock
from shared.contracts.calls import CallRecord, EntryState
from shared.contracts.dialing import DialRecord
from shared.ids import call_id
from shared.moments import Instant
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT

#: Recording, caller, the name that the trunk shows.
SCRIPT: tuple[tuple[str, str, str], ...] = (
    ("answered", "447700900123", "JANE"),
    ("queue_ringall", "447700900145", "GRACE"),
    ("busy", "447700900167", "BOB"),
    ("missed", "447700900168", "MIA"),
    ("route_default", "447700900189", "NORA"),
    ("route_default", "447700900199", "WITHOUT CRM"),
)
#: Behind them, an agent clicks on a number.
CLICK = ("101", "+447700900145")
#: Calls of a round.
CALLS = len(SCRIPT) + 1
_APART = timedelta(seconds=0.7)
#: A CRM's answers, the wait for late events and the search's lag fit in here many times, and what
#: a write that ``kill -9`` broke off keeps others from.
_WITHIN = timedelta(minutes=5)
_POLL = timedelta(milliseconds=200)

Say = Callable[[str], None]


class Round(BaseModel):
    """When the calls of a round took place; with their numbers that makes their ids."""

    started_at: Instant
    finished: bool = False


class MeshApi:
    """The public API, as any other client has it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(self, wanted: str) -> CallRecord | None:
        """None: not known yet."""
        async with self._session.get(
            f"{self._url}/v1/calls/{wanted}", headers=self._headers
        ) as response:
            if response.status != HTTPStatus.OK:
                return None
            return CallRecord.model_validate_json(await response.read())

    async def dial(self, extension: str, number: str, *, idempotency_key: str) -> str:
        """The id of the dial; the same for the same key. Raises: ClientResponseError."""
        async with self._session.post(
            f"{self._url}/v1/calls",
            headers={**self._headers, "Idempotency-Key": idempotency_key},
            json={"extension": extension, "number": number},
            raise_for_status=True,
        ) as response:
            receipt = await response.json()
            return str(receipt["dial_id"])

    async def dialled(self, wanted: str) -> DialRecord | None:
        """None: not known yet."""
        async with self._session.get(
            f"{self._url}/v1/dials/{wanted}", headers=self._headers
        ) as response:
            if response.status != HTTPStatus.OK:
                return None
            return DialRecord.model_validate_json(await response.read())

    async def screen(self, extension: str) -> AsyncIterator[dict[str, Any]]:
        """What an agent's screen is told, until the server ends it."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with self._session.get(
            f"{self._url}/v1/agents/{extension}/events", headers=self._headers, timeout=timeout
        ) as response:
            async for line in response.content:
                if (
                    line.startswith(b"data: ")
                    and (event := json.loads(line[6:]))["kind"] != "alive"
                ):
                    yield event


@asynccontextmanager
async def mesh_api(url: str, key: str) -> AsyncIterator[MeshApi]:
    async with aiohttp.ClientSession() as session:
        yield MeshApi(session, url, key)


def open_round(file: Path, now: datetime) -> Round:
    """The round that was broken off, else a new one."""
    with suppress(OSError, ValueError):
        found = Round.model_validate_json(file.read_bytes())
        if not found.finished:
            return found
    fresh = Round(started_at=now)
    _keep(file, fresh)
    return fresh


def close_round(file: Path, found: Round) -> None:
    _keep(file, found.model_copy(update={"finished": True}))


def _keep(file: Path, found: Round) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(found.model_dump_json())
    fresh.replace(file)


async def play_round(
    pbx: SandboxPbx, api: MeshApi, what: Round, *, say: Say, clock: Clock | None = None
) -> Sequence[CallRecord]:
    """
    Play the script and return what the mesh says when every call has its entry in the CRM.

    Raises: TimeoutError when that does not come about.
    """
    clock = clock or SystemClock()
    screens = [asyncio.create_task(_watch(api, phone, say)) for phone in ("101", "102")]
    try:
        async with asyncio.timeout(_WITHIN.total_seconds()):
            return await asyncio.gather(
                *(
                    _one(pbx, api, what, place, clock=clock, say=say)
                    for place in range(len(SCRIPT))
                ),
                _click(pbx, api, what, clock=clock, say=say),
            )
    finally:
        for screen in screens:
            screen.cancel()
        await asyncio.gather(*screens, return_exceptions=True)


async def _one(
    pbx: SandboxPbx, api: MeshApi, what: Round, place: int, *, clock: Clock, say: Say
) -> CallRecord:
    name, caller, shown = SCRIPT[place]
    await clock.sleep(_APART * place)
    cast = Cast(
        started_at=what.started_at + _APART * place,
        serial=place + 1,
        caller=caller,
        caller_name=shown,
    )
    say(f"call   {caller} rings  [{name}]")
    await pbx.play(name, cast)
    return await _journaled(api, cast.linkedid, clock=clock, say=say)


async def _click(
    pbx: SandboxPbx, api: MeshApi, what: Round, *, clock: Clock, say: Say
) -> CallRecord:
    began = clock.now()
    await clock.sleep(_APART * len(SCRIPT))
    extension, number = CLICK
    say(f"click  {extension} dials {number}")
    dial_id = await api.dial(extension, number, idempotency_key=f"demo {what.started_at}")
    while (dial := await api.dialled(dial_id)) is None:
        await clock.sleep(_POLL)
    if dial.requested_at < began:
        # Ordered before the round was broken off, by which the PBX was cut off too.
        await pbx.play_click("originate_ami", dial_id, phone=extension, number=number)
    return await _journaled(api, dial_id, clock=clock, say=say)


async def _journaled(api: MeshApi, linkedid: str, *, clock: Clock, say: Say) -> CallRecord:
    identity = call_id(TENANT, PBX, linkedid)
    while True:
        record = await api.call(identity)
        if record is not None and is_settled(record):
            say(f"entry  {record.outside_number}: {record.entries[0].entry_id}")
            return record
        await clock.sleep(_POLL)


def is_settled(record: CallRecord) -> bool:
    """Whether its entry is in the CRM, or will not get there by itself."""
    return any(e.state.is_there or e.state is EntryState.DEAD for e in record.entries)


async def _watch(api: MeshApi, extension: str, say: Say) -> None:
    callers: dict[str, str] = {}
    with suppress(aiohttp.ClientError):
        async for event in api.screen(extension):
            words = _words(event, callers)
            if words:
                say(f"screen {extension}: {words}")


def _words(event: dict[str, Any], callers: dict[str, str]) -> str:
    contact, call = event.get("contact") or {}, event.get("call_id", "")
    match event["kind"]:
        case "ringing":
            callers[call] = event.get("caller_number") or "withheld"
            known = contact.get("display_name") or event.get("caller_name") or "unknown"
            return f"rings: {callers[call]} ({known})"
        case "outgoing":
            callers[call] = event.get("caller_number") or "somebody"
            return f"calls {callers[call]}"
        case "pop":
            opened = event.get("page_url") or event.get("create_url")
            whose = "choose whose" if event.get("candidates") else "of nobody whom the CRM knows"
            return f"opens {opened}" if opened else f"opens a card {whose}"
        case "contact":
            company = f", {contact['company']}" if contact.get("company") else ""
            whom = callers.get(call, "")
            return f"{whom} is {contact['display_name']}{company}" if contact else ""
        case "answered":
            return f"answered {callers.get(call, '')}"
        case "closed":
            return f"closed {callers.get(call, '')} ({event.get('reason')})"
        case "dial":
            return f"dial: {event.get('dial_state')}"
        case _:
            return ""
