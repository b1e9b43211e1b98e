"""What routing remembers: every decision with its trace."""

from __future__ import annotations

from datetime import timedelta

from shared.clock import Clock
from shared.contracts.routing import RouteDecision
from shared.ids import derived_id
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Index


class DecisionDocument(Document):
    """``key`` is made from call, DID and DTMF: a question that is asked again has one answer."""

    call_id: str | None
    did: str
    caller: str
    dtmf: str = ""
    decision: RouteDecision
    decided_at: Instant
    expires_at: Instant


DECISIONS: CollectionSpec[DecisionDocument] = CollectionSpec(
    name="routing.decisions",
    model=DecisionDocument,
    indexes=(Index(fields=("tenant", "decided_at")), Index(fields=("tenant", "call_id"))),
    expires_by="expires_at",
)


class DecisionLog:
    def __init__(
        self, decisions: Collection[DecisionDocument], clock: Clock, *, keep: timedelta
    ) -> None:
        self._decisions = decisions
        self._clock = clock
        self._keep = keep

    async def note(
        self,
        *,
        tenant: str,
        call_id: str | None,
        did: str,
        caller: str,
        dtmf: str,
        decision: RouteDecision,
    ) -> None:
        now = self._clock.now()
        unique = call_id or f"{caller}/{now.isoformat()}"
        await self._decisions.put(
            DecisionDocument(
                key=str(derived_id("decision", tenant, unique, did, dtmf)),
                tenant=tenant,
                call_id=call_id,
                did=did,
                caller=caller,
                dtmf=dtmf,
                decision=decision,
                decided_at=now,
                expires_at=now + self._keep,
            )
        )
