"""What routing remembers: every decision with its trace."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.clock import Clock
from shared.contracts.routing import DecideRoute, RouteDecision, RouteReason
from shared.errors import NotFound
from shared.ids import derived_id
from shared.moments import Instant
from shared.phone import parse
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, Page


class DecisionDocument(Document):
    """``key`` is made of the call and :func:`question_key`: what is asked again has one answer."""

    call_id: str | None
    pbx: str | None = None
    did: str
    ivr: str | None = None
    caller: str
    dtmf: str = ""
    #: One text per number, whatever its spelling; the DID without its plus sign.
    number: str | None = None
    line: str | None = None
    decision: RouteDecision
    decided_at: Instant
    expires_at: Instant


DECISIONS: CollectionSpec[DecisionDocument] = CollectionSpec(
    name="routing.decisions",
    model=DecisionDocument,
    indexes=(
        Index(fields=("tenant", "decided_at")),
        Index(fields=("tenant", "call_id")),
        Index(fields=("tenant", "number", "decided_at")),
        Index(fields=("tenant", "line", "decided_at")),
    ),
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
        asked: DecideRoute,
        decision: RouteDecision,
        region: str | None = None,
    ) -> None:
        """*region* is the tenant's. Raises: Unavailable."""
        now = self._clock.now()
        unique = asked.call_id or f"{asked.caller}/{now.isoformat()}"
        await self._decisions.put(
            DecisionDocument(
                key=str(derived_id("decision", tenant, unique, question_key(asked))),
                tenant=tenant,
                call_id=asked.call_id,
                pbx=asked.pbx,
                did=asked.did,
                ivr=asked.ivr,
                caller=asked.caller,
                dtmf=asked.dtmf,
                number=parse(asked.caller, region).key or None,
                line=_line(asked.did),
                decision=decision,
                decided_at=now,
                expires_at=now + self._keep,
            )
        )

    async def get(self, tenant: str, key: str) -> DecisionDocument:
        """Raises: NotFound, also for one of another tenant."""
        try:
            found = await self._decisions.get(key)
        except NotFound:
            found = None
        if found is None or found.tenant != tenant:
            raise NotFound("There is no such decision.")
        return found

    async def page(
        self,
        tenant: str,
        *,
        call_id: str | None = None,
        did: str | None = None,
        caller: str | None = None,
        region: str | None = None,
        rule: str | None = None,
        reason: RouteReason | None = None,
        after: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DecisionDocument]:
        """
        Newest first. None: whatever it is; an empty *caller*: withheld. Raises: ContractError for
        a *cursor* of no such page.
        """
        asked = {
            "call_id": call_id,
            "line": _line(did) if did is not None else None,
            "decision.rule": rule,
            "decision.reason": reason,
        }
        wanted: dict[str, str | None] = {"tenant": tenant}
        wanted |= {k: v for k, v in asked.items() if v is not None}
        if caller is not None:
            wanted["number"] = parse(caller, region).key or None
        return await self._decisions.page(
            Find(
                equals=wanted,
                since={"decided_at": after} if after is not None else {},
                order_by="decided_at",
                descending=True,
                limit=limit,
                cursor=cursor,
            )
        )


def question_key(asked: DecideRoute) -> str:
    """The same for a question that is asked again: of one call there are several with menus."""
    digits = asked.dtmf or ("-" if asked.collected else "")
    return f"{asked.did}/{asked.ivr or ''}/{digits}"


def _line(did: str) -> str:
    return did.lstrip("+")
