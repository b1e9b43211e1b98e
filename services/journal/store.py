"""What journal remembers: calls with their events, and one entry per call and CRM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from collections.abc import Collection as Keys
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, JsonValue

from services.journal.domain import Seen, fold
from shared.clock import Clock
from shared.contracts.calls import CallEnded, CallPage, CallRecord, EntryState, ListCalls
from shared.contracts.envelope import REGISTRY, Event, Message
from shared.errors import Conflict, NotFound
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

#: A call has some tens of events; what has more is a fault of its PBX and takes no more.
MAX_EVENTS = 500


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
                raise Conflict(f"call {call_id} is another tenant's")
            events = found.events if found else ()
            # One that is full still has an end.
            full = len(events) >= MAX_EVENTS and not isinstance(message.body, CallEnded)
            if full or any(known.id == event.id for known in events):
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

        document = await change(self._calls, call_id, add)
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
    """

    call_id: str
    connection: Name
    state: EntryState = EntryState.DUE
    due_at: Instant | None
    attempts: int = 0
    maybe_sent: bool = False
    entry_id: str | None = None
    found: bool = False
    contact_id: str | None = None
    reason: str | None = None


ENTRIES: CollectionSpec[EntryDocument] = CollectionSpec(
    name="journal.entries", model=EntryDocument, indexes=(Index(fields=("due_at",)),)
)


class EntryBook:
    def __init__(self, entries: Collection[EntryDocument], clock: Clock) -> None:
        self._entries = entries
        self._clock = clock

    async def want(self, tenant: str, call_id: str, connection: str, *, after: timedelta) -> bool:
        """Whether it is new."""
        try:
            await self._entries.add(
                EntryDocument(
                    key=f"{call_id}/{connection}",
                    tenant=tenant,
                    call_id=call_id,
                    connection=connection,
                    due_at=self._clock.now() + after,
                )
            )
        except Conflict:
            return False
        return True

    async def due(self, *, limit: int) -> Sequence[EntryDocument]:
        """What somebody must look at now, longest waiting first."""
        now = self._clock.now() + timedelta(milliseconds=1)
        page = await self._entries.page(Find(until={"due_at": now}, order_by="due_at", limit=limit))
        return page.documents

    async def next_due(self, *, besides: Keys[str] = ()) -> datetime | None:
        """When something is due that is not among the keys *besides*; None: nothing is."""
        limit = len(besides) + 1
        page = await self._entries.page(Find(order_by="due_at", limit=limit))
        return next((e.due_at for e in page.documents if e.key not in besides), None)

    async def move(self, entry: EntryDocument, **changes: Any) -> EntryDocument:
        """Raises: Conflict when another replica was faster."""
        return await self._entries.replace(entry.model_copy(update=changes))


def _seen(event: StoredEvent) -> Seen:
    contract = REGISTRY[event.type, event.version]
    body = contract.model_validate(event.body)
    assert isinstance(body, Event)  # noqa: S101  only events are taken
    return Seen(event.id, event.at, body)
