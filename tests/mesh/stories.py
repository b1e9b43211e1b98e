"""Calls as ingest and lookup tell the journal of them, and whether all is done about them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from services.journal.store import CALLS, ENTRIES, EntryDocument
from shared.clock import SystemClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRecord,
    EntryState,
    Party,
    RecordingReady,
)
from shared.contracts.contacts import ContactCard, ContactResolved
from shared.contracts.envelope import Event
from shared.errors import Unavailable
from shared.ids import call_id
from shared.runtime.service import Platform
from shared.sandbox.people import RECORDS
from shared.sandbox.site import CRM, PBX, TENANT
from shared.storage.port import Find, every
from shared.testing.builders import NOON, a_call
from tests.mesh.lives import End

_CLOCK = SystemClock()
_LOOK = timedelta(milliseconds=200)
_ALL = Find(equals={"tenant": TENANT}, limit=500)
_JANE = RECORDS["Contacts"][0]


class Stories:
    """
    Answered calls of one who is in the sandbox CRM, each to have an entry at each of *connections*.
    *platform* is the test's own, beside the processes that live and die. With *is_written* the
    call's recording is told, too, when that says of the call that it is in the CRM.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        connections: int = 1,
        is_written: Callable[[str], bool] | None = None,
    ) -> None:
        self._platform = platform
        self._publisher = platform.publisher("ingest")
        self._connections = connections
        self._is_written = is_written
        self._going_on: set[asyncio.Task[None]] = set()
        self.calls: list[str] = []

    async def tell(self, number: int) -> None:
        """All of it but the recording."""
        call = call_id(TENANT, PBX, f"{number}.0")
        self.calls.append(call)
        for event, second in (
            (a_call(call_id=call, pbx=PBX, pbx_call_id=f"{number}.0"), 0),
            (_resolved(call), 1),
            (CallAnswered(call_id=call, pbx=PBX, leg_id="a", callee=Party(extension="101")), 5),
            (CallEnded(call_id=call, pbx=PBX), 65),
        ):
            await self._publish(call, event, second)
        if self._is_written is not None:
            self._going_on.add(asyncio.create_task(self._tell_recording(call, self._is_written)))

    async def _tell_recording(self, call: str, is_written: Callable[[str], bool]) -> None:
        while not is_written(call):
            await _CLOCK.sleep(_LOOK)
        recording = RecordingReady(call_id=call, pbx=PBX, recording=f"{call}.wav")
        await self._publish(call, recording, 70)

    async def _publish(self, call: str, event: Event, second: int) -> None:
        """Again, under the same key, until the broker of a busy machine has confirmed it."""
        while True:
            with suppress(Unavailable):
                await self._publisher.publish(
                    event,
                    tenant=TENANT,
                    key=f"{call}/{event.contract_name}",
                    at=NOON + timedelta(seconds=second),
                )
                return
            await _CLOCK.sleep(_LOOK)

    async def heard(self) -> bool:
        """
        Whether the journal has the entries of each call, to be written or written; False, too,
        while the store has no time to say.
        """
        try:
            entries = await self._entries()
        except Unavailable:
            return False
        return all(len(entries[call]) == self._connections for call in self.calls)

    async def have_waited(self) -> None:
        """Their entries are due from now on. Nobody may live meanwhile."""
        entries = self._platform.store.collection(ENTRIES)
        async for entry in every(entries, _ALL):
            await entries.put(entry.model_copy(update={"due_at": _CLOCK.now()}))

    async def undone(self) -> list[str]:
        """Calls of which not all is done, or of whose entries their records say otherwise."""
        entries = await self._entries()
        calls = self._platform.store.collection(CALLS)
        records = {call.key: call.record async for call in every(calls, _ALL)}
        return [
            call
            for call in self.calls
            if call not in entries or not self._are_done(entries[call], records[call])
        ]

    async def _entries(self) -> dict[str, list[EntryDocument]]:
        found: dict[str, list[EntryDocument]] = defaultdict(list)
        async for entry in every(self._platform.store.collection(ENTRIES), _ALL):
            found[entry.call_id].append(entry)
        return found

    def _are_done(self, entries: list[EntryDocument], record: CallRecord) -> bool:
        # What else comes late, because a process died of it, changes an entry, too.
        are_there = all(
            entry.due_at is None
            and (entry.state is EntryState.UPDATED or (entry.state.is_there and not self._going_on))
            for entry in entries
        )
        kept = {(entry.connection, entry.entry_id, entry.state, entry.updates) for entry in entries}
        told = {
            (told.connection, told.entry_id, told.state, told.updates) for told in record.entries
        }
        return are_there and kept == told and len(entries) == self._connections

    async def all_done(self, life: asyncio.Task[End], *, within: timedelta) -> bool:
        """Whether *life* lasted until all was done. Raises AssertionError after *within*."""
        ends_at = _CLOCK.now() + within
        left = self.calls
        while not life.done():
            await asyncio.wait({life}, timeout=_LOOK.total_seconds())
            with suppress(Unavailable):  # a machine that is busy with the many calls
                left = await self.undone()
            if not left:
                return True
            assert _CLOCK.now() < ends_at, f"not done within {within}: {left}"
        return False

    async def end(self) -> None:
        for task in self._going_on:
            task.cancel()
        await asyncio.gather(*self._going_on, return_exceptions=True)


def _resolved(call: str) -> ContactResolved:
    card = ContactCard(
        connection=CRM,
        module="Contacts",
        contact_id=_JANE["id"],
        display_name=_JANE["Full_Name"],
        owner_id=_JANE["Owner"]["id"],
    )
    return ContactResolved(call_id=call, number="+447700900123", contact=card, candidates=(card,))
