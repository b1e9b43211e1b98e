"""What journal remembers: calls with their events; and, see entries, one entry per call and CRM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel, JsonValue

from services.journal.book import EntryBook
from services.journal.domain import Seen, fold
from services.journal.entries import ENTRIES, EntryDocument
from services.journal.rows import row_of
from services.journal.turns import Turns
from shared.clock import Clock
from shared.contracts.calls import (
    CallEnded,
    CallHeld,
    CallPage,
    CallRecord,
    CallResumed,
    CallRinging,
    LegEnded,
    ListCalls,
)
from shared.contracts.envelope import REGISTRY, Event, Message
from shared.contracts.history import CallRow
from shared.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    Find,
    Index,
    Page,
    change,
    every,
)

__all__ = ["CALLS", "ENTRIES", "CallLog", "EntryBook", "EntryDocument"]

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
    ``row`` is the record as it is searched. Documents of versions that had none are listed all the
    same, and found by their fields once they change, or after ``callmesh calls refresh``.
    """

    started_at: Instant
    silent_at: Instant | None = None
    record: CallRecord
    row: CallRow | None = None
    events: tuple[StoredEvent, ...] = ()


CALLS: CollectionSpec[CallDocument] = CollectionSpec(
    name="journal.calls",
    model=CallDocument,
    indexes=(
        Index(fields=("tenant", "started_at")),
        Index(fields=("tenant", "row.number", "started_at")),
        Index(fields=("silent_at",)),
        Index(fields=("tenant", "record.pbx", "silent_at")),
    ),
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
                    "row": row_of(record, started_at=started_at),
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

    async def open_at(
        self, tenant: str, pbx: str, *, before: datetime
    ) -> AsyncIterator[CallDocument]:
        """
        Calls of that PBX that have not ended, and of which nothing has come since *before*. By our
        clock: the PBX's, by which its events are dated, may be behind.
        """
        goes_on = Find(
            equals={"tenant": tenant, "record.pbx": pbx},
            since={"silent_at": self._clock.now()},
            until={"silent_at": before + self._silent_after},
            order_by="silent_at",
        )
        async for document in every(self._calls, goes_on):
            yield document

    async def number_in(self, tenant: str, since: datetime, until: datetime) -> int:
        """How many calls :meth:`began_in` gives."""
        return await self._calls.count(
            Find(
                equals={"tenant": tenant},
                since={"started_at": since},
                until={"started_at": until},
            )
        )

    async def began_in(
        self, tenant: str, since: datetime, until: datetime, *, limit: int, cursor: str | None
    ) -> Page[CallDocument]:
        """The tenant's calls that started at or after *since* and before *until*, oldest first."""
        return await self._calls.page(
            Find(
                equals={"tenant": tenant},
                since={"started_at": since},
                until={"started_at": until},
                order_by="started_at",
                limit=limit,
                cursor=cursor,
            )
        )

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


def _bound(body: Event) -> int:
    if isinstance(body, CallEnded):
        return MAX_EVENTS + 1
    return MAX_REPEATS if isinstance(body, _REPEATS) else MAX_EVENTS


def _seen(event: StoredEvent) -> Seen:
    contract = REGISTRY[event.type, event.version]
    body = contract.model_validate(event.body)
    assert isinstance(body, Event)  # noqa: S101  only events are taken
    return Seen(event.id, event.at, body)
