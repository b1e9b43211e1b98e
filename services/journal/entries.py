"""One entry per call and CRM: how far it is, what was sent, whether it is to be changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from shared.clock import Clock
from shared.contracts.calls import EntryRecord, EntryState
from shared.crm.port import JournalEntry
from shared.errors import Conflict, NotFound, Unavailable
from shared.ids import Name
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, change, every

#: Changes of one entry, and refusals of such: a PBX that tells a call's end again and again must not
#: have it written for ever.
MAX_UPDATES = 10


class EntryDocument(Document):
    """
    ``key`` is ``call/connection``. ``due_at`` says when somebody must look at it next: to try,
    to find out what became of a try whose replica died, to tell the mesh. None: all is done.
    ``content`` is what was sent: a try that may have come through is looked for, and repeated, as
    it was, whatever is known of the call by then.

    One that was sent stays so whatever becomes of its changes: ``update_due`` says that the call is
    another by now, ``shown`` what of the call ``content`` was made of
    (:func:`~services.journal.domain.shown_in_entries`; None of entries of older versions).
    """

    call_id: str
    connection: Name
    wanted_at: Instant
    content: JournalEntry | None = None
    state: EntryState = EntryState.DUE
    due_at: Instant | None
    attempts: int = 0
    maybe_sent: bool = False
    entry_id: str | None = None
    found: bool = False
    contact_id: str | None = None
    reason: str | None = None
    shown: str | None = None
    #: The mesh knows it as it is.
    told: bool = False
    update_due: bool = False
    update_wanted_at: Instant | None = None
    update_tries: int = 0
    updates: int = 0
    refusals: int = 0
    #: Somebody deleted it in the CRM.
    gone: bool = False

    @property
    def may_change(self) -> bool:
        changed_often = self.updates + self.refusals >= MAX_UPDATES
        return self.state is EntryState.SENT and not (self.gone or changed_often)

    def wanting_update(self, now: datetime, after: timedelta) -> EntryDocument:
        return self.model_copy(
            update={
                "update_due": True,
                "update_wanted_at": now,
                "update_tries": 0,
                "due_at": now + after,
            }
        )

    def record(self) -> EntryRecord:
        return EntryRecord(
            connection=self.connection,
            state=self.state,
            entry_id=self.entry_id,
            attempts=self.attempts,
            updates=self.updates,
            reason=self.reason,
        )


ENTRIES: CollectionSpec[EntryDocument] = CollectionSpec(
    name="journal.entries",
    model=EntryDocument,
    indexes=(Index(fields=("due_at",)), Index(fields=("state", "wanted_at"))),
)


class EntryBook:
    def __init__(self, entries: Collection[EntryDocument], clock: Clock) -> None:
        self._entries = entries
        self._clock = clock

    async def want(self, tenant: str, call_id: str, connection: str, *, after: timedelta) -> bool:
        """Whether it is new."""
        now = self._clock.now()
        try:
            await self._entries.add(
                EntryDocument(
                    key=f"{call_id}/{connection}",
                    tenant=tenant,
                    call_id=call_id,
                    connection=connection,
                    wanted_at=now,
                    due_at=now + after,
                )
            )
        except Conflict:
            return False
        return True

    async def call_changed(
        self, call_id: str, connection: str, *, shown: str, after: timedelta
    ) -> bool:
        """
        An entry that was sent says something else than *shown*: it is changed when *after* has
        passed, for more may come. Whether that is new. One that is on its way is looked at when it
        has been sent. Raises: Unavailable.
        """
        now = self._clock.now()
        marked = False

        def mark(entry: EntryDocument | None) -> EntryDocument | None:
            nonlocal marked
            marked = False
            if entry is None or entry.update_due or entry.shown == shown or not entry.may_change:
                return None
            marked = True
            return entry.wanting_update(now, after)

        try:
            await change(self._entries, f"{call_id}/{connection}", mark)
        except Conflict as error:
            # The writers were faster each time; the message's turn comes.
            raise Unavailable(error.message) from error
        return marked

    async def due(self) -> AsyncIterator[EntryDocument]:
        """What somebody must look at now, longest waiting first."""
        now = self._clock.now() + timedelta(milliseconds=1)
        async for entry in every(self._entries, Find(until={"due_at": now}, order_by="due_at")):
            yield entry

    async def next_due(self, *, after: datetime) -> datetime | None:
        """When the next one is due that is not due yet; None: there is none."""
        page = await self._entries.page(Find(since={"due_at": after}, order_by="due_at", limit=1))
        return page.documents[0].due_at if page.documents else None

    async def in_state(self, state: EntryState) -> AsyncIterator[EntryDocument]:
        """Oldest first."""
        find = Find(equals={"state": state.value}, order_by="wanted_at")
        async for entry in every(self._entries, find):
            yield entry

    async def retry(self, failed: EntryDocument) -> None:
        """Send it after all, with all the time of a new one. Raises: Conflict."""
        now = self._clock.now()
        await self.move(failed, state=EntryState.DUE, wanted_at=now, due_at=now)

    async def of_call(self, call_id: str, connections: Iterable[str]) -> list[EntryDocument]:
        found = []
        for name in connections:
            with suppress(NotFound):
                found.append(await self._entries.get(f"{call_id}/{name}"))
        return found

    async def move(self, entry: EntryDocument, **changes: Any) -> EntryDocument:
        """Raises: Conflict when another replica was faster."""
        return await self._entries.replace(entry.model_copy(update=changes))

    async def looked_at(
        self, entry: EntryDocument, *, shown: str | None, after: timedelta
    ) -> EntryDocument:
        """
        One whose news the mesh has: done, or wanting a change where its call shows something else
        by now. Raises: Conflict.
        """
        told = entry.model_copy(update={"told": True, "due_at": None})
        if shown is not None and shown != entry.shown and entry.may_change:
            told = told.wanting_update(self._clock.now(), after)
        return await self._entries.replace(told)
