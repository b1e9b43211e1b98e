"""What journal remembers: calls with their events, and one entry per call and CRM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel, JsonValue

from services.journal.domain import Seen, fold
from services.journal.turns import Turns
from shared.clock import Clock
from shared.contracts.calls import (
    CallEnded,
    CallHeld,
    CallPage,
    CallRecord,
    CallResumed,
    CallRinging,
    EntryRecord,
    EntryState,
    LegEnded,
    ListCalls,
)
from shared.contracts.envelope import REGISTRY, Event, Message
from shared.crm.port import JournalEntry
from shared.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.ids import Name
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    Find,
    Index,
    change,
    every,
)

log = structlog.get_logger(__name__)

#: A queue that rings twenty phones in turn makes hundreds of events that say the same: past the
#: first bound a call takes only what happens once, past the second only its end.
MAX_REPEATS = 500
MAX_EVENTS = 1000
_REPEATS = (CallRinging, LegEnded, CallHeld, CallResumed)


class StoredEvent(BaseModel):
    id: str
    type: str
    version: int
    at: Instant
    body: dict[str, JsonValue]


class CallDocument(Document):
    """
    ``key`` is the call's id. The events are the truth, the record is what they add up to.
    ``silent_at`` says when the call will have been silent for too long; None once it has ended.
    """

    started_at: Instant
    silent_at: Instant | None = None
    record: CallRecord
    events: tuple[StoredEvent, ...] = ()


CALLS: CollectionSpec[CallDocument] = CollectionSpec(
    name="journal.calls",
    model=CallDocument,
    indexes=(Index(fields=("tenant", "started_at")), Index(fields=("silent_at",))),
)


class CallLog:
    def __init__(
        self, calls: Collection[CallDocument], clock: Clock, *, silent_after: timedelta
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._silent_after = silent_after
        self._turns = Turns()

    async def take(self, message: Message[Any], call_id: str) -> CallRecord:
        """Add an event to its call; the same event again changes nothing. Returns the call."""
        event = StoredEvent(
            id=str(message.id),
            type=message.type,
            version=message.version,
            at=message.occurred_at,
            body=message.body.model_dump(mode="json", exclude_none=True),
        )

        def add(found: CallDocument | None) -> CallDocument | None:
            if found is not None and found.tenant != message.tenant:
                raise Forbidden(f"call {call_id} is another tenant's")
            events = found.events if found else ()
            if any(known.id == event.id for known in events):
                return None
            if len(events) >= _bound(message.body):
                log.warning("call_is_full", call_id=call_id, message_type=message.type)
                return None
            together = (*events, event)
            record = fold(call_id, [_seen(one) for one in together])
            started_at = record.started_at or min(one.at for one in together)
            document = found or CallDocument(
                key=call_id, tenant=message.tenant, started_at=started_at, record=record
            )
            silent_at = self._clock.now() + self._silent_after
            return document.model_copy(
                update={
                    "events": together,
                    "record": record,
                    "started_at": started_at,
                    "silent_at": silent_at if record.ended_at is None else None,
                }
            )

        # One after the other: a group of phones makes many events of one call at once, and they
        # would only push each other aside.
        async with self._turns.of(call_id):
            try:
                document = await change(self._calls, call_id, add)
            except Conflict as error:
                # Other replicas were faster each time; the message's turn comes.
                raise Unavailable(error.message) from error
        if document is None:
            raise NotFound(f"no call {call_id}")
        return document.record

    async def get(self, tenant: str, call_id: str) -> CallRecord:
        """Raises: NotFound, also for another tenant's call."""
        document = await self._calls.get(call_id)
        if document.tenant != tenant:
            raise NotFound(f"journal.calls: no {call_id}")
        return document.record

    async def silent(self) -> AsyncIterator[CallDocument]:
        """Calls that have not ended and of which nothing was heard for too long."""
        async for document in every(self._calls, Find(until={"silent_at": self._clock.now()})):
            yield document

    async def list(self, tenant: str, asked: ListCalls) -> CallPage:
        page = await self._calls.page(
            Find(
                equals={"tenant": tenant},
                since={"started_at": asked.since} if asked.since else {},
                until={"started_at": asked.until} if asked.until else {},
                order_by="started_at",
                descending=True,
                limit=asked.limit,
                cursor=asked.cursor,
            )
        )
        return CallPage(
            calls=tuple(document.record for document in page.documents),
            next_cursor=page.next_cursor,
        )


class EntryDocument(Document):
    """
    ``key`` is ``call/connection``. ``due_at`` says when somebody must look at it next: to try,
    to find out what became of a try whose replica died, to tell the mesh. None: all is done.
    ``content`` is what was sent: a try that may have come through is looked for, and repeated, as
    it was, whatever is known of the call by then.
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

    def record(self) -> EntryRecord:
        return EntryRecord(
            connection=self.connection,
            state=self.state,
            entry_id=self.entry_id,
            attempts=self.attempts,
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


def _bound(body: Event) -> int:
    if isinstance(body, CallEnded):
        return MAX_EVENTS + 1
    return MAX_REPEATS if isinstance(body, _REPEATS) else MAX_EVENTS


def _seen(event: StoredEvent) -> Seen:
    contract = REGISTRY[event.type, event.version]
    body = contract.model_validate(event.body)
    assert isinstance(body, Event)  # noqa: S101  only events are taken
    return Seen(event.id, event.at, body)
