"""What dialer remembers: orders and how far they came, and the last status of each agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.contracts.dialing import DialNumber, DialRecord, DialState, DialStep
from shared.errors import Conflict, NotFound
from shared.moments import Instant, to_instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, change, every


class DialDocument(Document):
    """
    ``key`` is the call's id where the PBX takes ours for it, so that an event of any other call
    misses at once; ``known_as`` the call's id where the PBX has its own.
    """

    dial_id: str
    known_as: str | None = None
    record: DialRecord
    #: When the order went on its way to the PBX: from then on it is never sent again.
    ordered_at: Instant | None = None
    expires_at: Instant


DIALS: CollectionSpec[DialDocument] = CollectionSpec(
    name="dialer.dials",
    model=DialDocument,
    indexes=(
        Index(fields=("tenant", "dial_id"), unique=True),
        Index(fields=("known_as",)),
        Index(fields=("record.state", "ordered_at")),
    ),
    expires_by="expires_at",
)


class DialBook:
    def __init__(self, dials: Collection[DialDocument], clock: Clock, *, keep: timedelta) -> None:
        self._dials = dials
        self._clock = clock
        self._keep = keep

    async def open(
        self, tenant: str, order: DialNumber, *, call_id: str, pbx: str | None
    ) -> DialDocument:
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

    async def know_as(self, key: str, call_id: str) -> None:
        """The PBX has an id of its own for the order's call. Raises: NotFound."""

        def edit(found: DialDocument | None) -> DialDocument | None:
            if found is None or found.known_as == call_id:
                return None
            record = found.record.model_copy(update={"call_id": call_id})
            return found.model_copy(update={"known_as": call_id, "record": record})

        await change(self._dials, key, edit)

    async def by_call(self, call_id: str) -> DialDocument | None:
        try:
            return await self._dials.get(call_id)
        except NotFound:
            pass
        page = await self._dials.page(Find(equals={"known_as": call_id}, limit=1))
        return page.documents[0] if page.documents else None

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
        key: str,
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

        document = await change(self._dials, key, edit)
        return document if changed else None


class StatusOrder(Document):
    """``key`` is ``tenant/extension``: when an agent's status was last ordered."""

    at: Instant
    expires_at: Instant


STATUSES: CollectionSpec[StatusOrder] = CollectionSpec(
    name="dialer.statuses", model=StatusOrder, expires_by="expires_at"
)


class StatusBook:
    """Messages have no order: an older status that is tried again must not undo a newer one."""

    def __init__(self, orders: Collection[StatusOrder], clock: Clock, *, keep: timedelta) -> None:
        self._orders = orders
        self._clock = clock
        self._keep = keep

    async def is_last(self, tenant: str, extension: str, at: datetime) -> bool:
        """Whether nothing newer was ordered of this agent than what was *at*."""
        key, ordered_at = f"{tenant}/{extension}", to_instant(at)

        def edit(found: StatusOrder | None) -> StatusOrder | None:
            if found is not None and found.at >= ordered_at:
                return None
            return StatusOrder(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                at=ordered_at,
                expires_at=self._clock.now() + self._keep,
            )

        last = await change(self._orders, key, edit)
        return last is None or last.at <= ordered_at
