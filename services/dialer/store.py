"""What dialer remembers of orders, and how far they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from shared.clock import Clock
from shared.contracts.dialing import DialRecord, DialState, DialWanted
from shared.errors import Conflict, NotFound
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Condition,
    Document,
    Find,
    Index,
    Page,
    change,
    every,
)

#: A dial that was to be cancelled longer ago is over, or its PBX cannot end calls.
_CANCELLING = timedelta(minutes=10)


class DialDocument(Document):
    """
    ``key`` is the call's id where the PBX takes ours for it, so that an event of any other call
    misses at once; ``known_as`` the call's id where the PBX has its own.
    """

    dial_id: str
    known_as: str | None = None
    #: What the PBX calls the call, where that is not the order's reference.
    pbx_call_id: str | None = None
    record: DialRecord
    #: As it was asked for, the number without punctuation; None of an order that nobody placed.
    wanted: DialWanted | None = None
    #: Until then it may go to the PBX; None once it went, or will not.
    waits_until: Instant | None = None
    #: When the order went on its way to the PBX: from then on it is never sent again.
    ordered_at: Instant | None = None
    #: When somebody wanted it ended, and why the PBX did not.
    #: The PBX answered that it has the order; where it names the call, `pbx_call_id` says so too.
    is_taken: bool = False
    cancelled_at: Instant | None = None
    cancel_fault: str | None = None
    #: Of a begun minute, in millionths.
    price: int = 0
    #: Conversation, where the PBX tells it.
    talk_time: timedelta | None = None
    expires_at: Instant


DIALS: CollectionSpec[DialDocument] = CollectionSpec(
    name="dialer.dials",
    model=DialDocument,
    indexes=(
        Index(fields=("tenant", "dial_id"), unique=True),
        Index(fields=("known_as",)),
        Index(fields=("record.state", "ordered_at")),
        Index(fields=("record.state", "waits_until")),
        Index(fields=("cancelled_at",)),
        Index(fields=("tenant", "record.requested_at")),
        Index(fields=("tenant", "record.extension", "record.requested_at")),
        Index(fields=("tenant", "record.number", "record.requested_at")),
        Index(fields=("tenant", "record.campaign", "record.requested_at")),
    ),
    expires_by="expires_at",
)


class DialBook:
    def __init__(self, dials: Collection[DialDocument], clock: Clock, *, keep: timedelta) -> None:
        self._dials = dials
        self._clock = clock
        self._keep = keep

    async def open(
        self,
        tenant: str,
        record: DialRecord,
        *,
        key: str,
        wanted: DialWanted | None = None,
        waits_until: Instant | None = None,
        price: int = 0,
    ) -> tuple[DialDocument, bool]:
        """The dial's document, made at the first time, and whether it was that."""
        document = DialDocument(
            key=key,
            tenant=tenant,
            dial_id=record.dial_id,
            record=record,
            wanted=wanted,
            waits_until=waits_until,
            price=price,
            expires_at=self._clock.now() + self._keep,
        )
        try:
            await self._dials.add(document)
        except Conflict:
            return await self.by_dial(tenant, record.dial_id), False
        return document, True

    async def mark_ordered(self, document: DialDocument) -> DialDocument:
        """Raises: Conflict when another replica was faster, or it was cancelled."""
        changes = {"ordered_at": self._clock.now(), "waits_until": None}
        return await self._dials.replace(document.model_copy(update=changes))

    async def mark_cancelled(self, key: str) -> DialDocument | None:
        """Keep that it is to be ended. None: it is over, or was to be ended already, or unknown."""

        def mark(found: DialDocument) -> DialDocument | None:
            if found.record.state.is_final or found.cancelled_at is not None:
                return None
            changes = {"cancelled_at": self._clock.now(), "cancel_fault": None}
            return found.model_copy(update=changes)

        return await self.edit(key, mark)

    async def by_call(self, call_id: str) -> DialDocument | None:
        try:
            return await self._dials.get(call_id)
        except NotFound:
            pass
        page = await self._dials.page(Find(equals={"known_as": call_id}, limit=1))
        return page.documents[0] if page.documents else None

    async def find(self, tenant: str, dial_id: str) -> DialDocument | None:
        page = await self._dials.page(Find(equals={"tenant": tenant, "dial_id": dial_id}, limit=1))
        return page.documents[0] if page.documents else None

    async def by_dial(self, tenant: str, dial_id: str) -> DialDocument:
        """Raises: NotFound."""
        found = await self.find(tenant, dial_id)
        if found is None:
            raise NotFound(f"there is no dial {dial_id}")
        return found

    async def page(
        self, tenant: str, where: Condition, *, limit: int, cursor: str | None
    ) -> Page[DialDocument]:
        """The newest first. Raises: ContractError for a cursor that is none of these."""
        return await self._dials.page(
            Find(
                equals={"tenant": tenant},
                where=where,
                order_by="record.requested_at",
                descending=True,
                limit=limit,
                cursor=cursor,
            )
        )

    def unheard(self, *, of: timedelta) -> AsyncIterator[DialDocument]:
        """Orders that have been with their PBX for longer than *of* and came no further."""
        return self._requested("ordered_at", self._clock.now() - of)

    def unordered(self) -> AsyncIterator[DialDocument]:
        """Orders that did not get to their PBX while they were good."""
        return self._requested("waits_until", self._clock.now())

    def _requested(self, field: str, before: Instant) -> AsyncIterator[DialDocument]:
        return every(
            self._dials,
            Find(
                equals={"record.state": DialState.REQUESTED},
                until={field: before},
                order_by=field,
            ),
        )

    def being_cancelled(self) -> AsyncIterator[DialDocument]:
        """Those that somebody wants ended, and that may not have been."""
        since = {"cancelled_at": self._clock.now() - _CANCELLING}
        return every(self._dials, Find(since=since, order_by="cancelled_at"))

    async def edit(
        self, key: str, edit: Callable[[DialDocument], DialDocument | None]
    ) -> DialDocument | None:
        """The document when *edit* changed it, else None. *edit* may run several times."""
        changed = False

        def on(found: DialDocument | None) -> DialDocument | None:
            nonlocal changed
            wanted = edit(found) if found else None
            changed = wanted is not None
            return wanted

        document = await change(self._dials, key, on)
        return document if changed else None
