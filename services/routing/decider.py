"""One question, whichever way it came: decide, answer, and tell the mesh behind the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from time import perf_counter

import structlog

from services.routing.deciding import Case, Deciding
from services.routing.shelf import Shelves
from services.routing.store import DecisionLog, question_key
from services.routing.trace import Trace
from shared.bus.port import Publisher
from shared.contracts.routing import CallRouted, DecideRoute, RouteDecision, RouteReason
from shared.errors import MeshError
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook

log = structlog.get_logger(__name__)

#: Decisions that wait to be kept and told: a store that hangs must not fill the memory.
_MOST_UNTOLD = 5000


@dataclass(slots=True)
class Decider:
    """
    The PBX waits for :meth:`decide`; what is told afterwards (store, bus) is done after the
    answer, by tasks that :meth:`close` waits for.
    """

    deciding: Deciding
    shelves: Shelves
    site: SiteBook
    decisions: DecisionLog
    publisher: Publisher
    metrics: Metrics
    _after: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def decide(self, tenant: str, asked: DecideRoute, *, face: str) -> RouteDecision:
        """Never raises and never takes longer than the budget: a call is waiting."""
        began = perf_counter()
        trace = Trace(lambda: (perf_counter() - began) * 1000)
        site, shelf = self.site.site(tenant), self.shelves.of(tenant)
        first = shelf.rule_for(asked.did, asked.ivr)
        if site is None or first is None:
            menu = f" and menu {asked.ivr}" if asked.ivr else ""
            trace.note("rule", f"no rule for DID {asked.did}{menu}")
            decision = RouteDecision(
                reason=RouteReason.NO_RULE, took_ms=trace.elapsed_ms, trace=tuple(trace.steps)
            )
        else:
            case = Case(site=site, shelf=shelf, first=first, asked=asked)
            decision = await self.deciding.decided(case, trace)
        self.metrics.count("callmesh_route_decisions_total", face, decision.reason)
        self.metrics.observe(
            "callmesh_route_decision_seconds", face, seconds=perf_counter() - began
        )
        self._tell_later(tenant, asked, decision)
        return decision

    async def close(self) -> None:
        if self._after:
            await asyncio.gather(*self._after, return_exceptions=True)

    def _tell_later(self, tenant: str, asked: DecideRoute, decision: RouteDecision) -> None:
        if len(self._after) >= _MOST_UNTOLD:
            log.error(
                "decision_not_kept", call_id=asked.call_id, error="too many wait for the store"
            )
            return
        task = asyncio.create_task(self._tell(tenant, asked, decision))
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    async def _tell(self, tenant: str, asked: DecideRoute, decision: RouteDecision) -> None:
        log.info(
            "call_routed",
            tenant=tenant,
            call_id=asked.call_id,
            did=asked.did,
            caller=asked.caller,
            destination=str(decision.destination) if decision.destination else None,
            reason=decision.reason,
            took_ms=decision.took_ms,
        )
        site = self.site.site(tenant)
        region = site.region if site is not None else None
        note = self.decisions.note(tenant=tenant, asked=asked, decision=decision, region=region)
        # Store and bus fail apart.
        await asyncio.gather(
            _done(asked, note), _done(asked, self._publish(tenant, asked, decision))
        )

    async def _publish(self, tenant: str, asked: DecideRoute, decision: RouteDecision) -> None:
        if asked.call_id is None or asked.pbx is None:
            return
        routed = CallRouted(call_id=asked.call_id, pbx=asked.pbx, did=asked.did, decision=decision)
        key = f"{asked.call_id}/{question_key(asked)}"
        await self.publisher.publish(routed, tenant=tenant, key=key)


async def _done(asked: DecideRoute, telling: Awaitable[None]) -> None:
    try:
        await telling
    except MeshError as error:
        # The call is on its way; only the record of why is lost.
        log.error("decision_not_kept", call_id=asked.call_id, error=error.message)  # noqa: TRY400  no traceback
