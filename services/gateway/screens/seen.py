"""Pops that were opened or dismissed: kept for who connects later, told to who is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from services.gateway.screens.streams import Screens
from shared.bus.port import Publisher, Requester
from shared.clock import Clock
from shared.contracts.calls import FetchCall
from shared.contracts.screens import PopSeen, Seen
from shared.ids import Extension, derived_id
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, every

#: As long as a call is remembered by screens.
_KEPT = timedelta(hours=6)


class SeenPop(Document):
    call_id: str
    extension: Extension
    seen: Seen
    pop_id: str | None = None
    at: Instant
    expires_at: Instant


SEEN_POPS: CollectionSpec[SeenPop] = CollectionSpec(
    name="gateway.pops_seen",
    model=SeenPop,
    indexes=(Index(fields=("tenant", "at")),),
    expires_by="expires_at",
)


@dataclass(frozen=True, slots=True)
class SeenPops:
    pops: Collection[SeenPop]
    screens: Screens
    publisher: Publisher
    requester: Requester
    clock: Clock
    ask_within: timedelta

    async def mark(
        self, tenant: str, extension: str, call_id: str, seen: Seen, pop_id: str | None = None
    ) -> None:
        """
        *pop_id*: which of the call's pops; else the last. Raises: NotFound for a call that nobody
        knows; Unavailable.
        """
        if not self.screens.board.knows(tenant, call_id):
            # It may ring here in a moment, or another replica has shown it.
            await self.requester.request(
                FetchCall(call_id=call_id), within=self.ask_within, tenant=tenant
            )
        pop_id = pop_id or self.screens.board.card_id(tenant, call_id, extension)
        now = self.clock.now()
        pop = SeenPop(
            key=str(derived_id("seen", tenant, call_id, extension)),
            tenant=tenant,
            call_id=call_id,
            extension=extension,
            seen=seen,
            pop_id=pop_id,
            at=now,
            expires_at=now + _KEPT,
        )
        await self.pops.put(pop)
        told = PopSeen(call_id=call_id, extension=extension, seen=seen, pop_id=pop_id)
        await self.publisher.publish(told, tenant=tenant, at=now)

    async def of_tenant(self, tenant: str) -> AsyncIterator[SeenPop]:
        """Raises: Unavailable."""
        async for pop in every(
            self.pops, Find(equals={"tenant": tenant}, order_by="at", limit=500)
        ):
            yield pop
