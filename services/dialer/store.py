"""What dialer remembers: orders and how far they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from shared.clock import Clock
from shared.contracts.dialing import DialNumber, DialRecord, DialState, DialStep
from shared.errors import Conflict, NotFound
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, change, every


class DialDocument(Document):
    """``key`` is the call's id, so that an event of any other call misses at once."""

    dial_id: str
    record: DialRecord
    #: When the order went on its way to the PBX: from then on it is never sent again.
    ordered_at: Instant | None = None
    expires_at: Instant


DIALS: CollectionSpec[DialDocument] = CollectionSpec(
    name="dialer.dials",
    model=DialDocument,
    indexes=(
        Index(fields=("tenant", "dial_id"), unique=True),
        Index(fields=("record.state", "ordered_at")),
    ),
    expires_by="expires_at",
)


class DialBook:
    def __init__(self, dials: Collection[DialDocument], clock: Clock, *, keep: timedelta) -> None:
        self._dials = dials
        self._clock = clock
        self._keep = keep

    async def open(self, tenant: str, order: DialNumber, *, call_id: str, pbx: str) -> DialDocument:
        """The order's document, made at the first time."""
        now = self._clock.now()
        document = DialDocument(
            key=call_id,
            tenant=tenant,
            dial_id=order.dial_id,
            record=DialRecord(
                dial_id=order.dial_id,
                extension=order.extension,
                number=order.number,
                requested_at=order.requested_at,
                pbx=pbx,
                call_id=call_id,
                state=DialState.REQUESTED,
                changed_at=now,
            ),
            expires_at=now + self._keep,
        )
        try:
            await self._dials.add(document)
        except Conflict:
            return await self._dials.get(call_id)
        return document

    async def mark_ordered(self, document: DialDocument) -> None:
        """Raises: Conflict when another replica was faster."""
        await self._dials.replace(document.model_copy(update={"ordered_at": self._clock.now()}))

    async def by_call(self, call_id: str) -> DialDocument | None:
        try:
            return await self._dials.get(call_id)
        except NotFound:
            return None

    async def by_dial(self, tenant: str, dial_id: str) -> DialDocument:
        """Raises: NotFound."""
        page = await self._dials.page(Find(equals={"tenant": tenant, "dial_id": dial_id}, limit=1))
        if not page.documents:
            raise NotFound(f"there is no dial {dial_id}")
        return page.documents[0]

    def unheard(self, *, of: timedelta) -> AsyncIterator[DialDocument]:
        """Orders that have been with their PBX for longer than *of* and came no further."""
        return every(
            self._dials,
            Find(
                equals={"record.state": DialState.REQUESTED},
                until={"ordered_at": self._clock.now() - of},
                order_by="ordered_at",
            ),
        )

    async def advance(
        self,
        call_id: str,
        next_step: Callable[[DialRecord], DialStep | None],
    ) -> DialDocument | None:
        """The document when *next_step* changed it, else None."""
        changed = False

        def edit(found: DialDocument | None) -> DialDocument | None:
            nonlocal changed
            changed = False
            wanted = next_step(found.record) if found else None
            if found is None or wanted is None:
                return None
            changed = True
            record = found.record.model_copy(
                update={
                    "state": wanted[0],
                    "reason": wanted[1],
                    "changed_at": self._clock.now(),
                }
            )
            return found.model_copy(update={"record": record})

        document = await change(self._dials, call_id, edit)
        return document if changed else None
