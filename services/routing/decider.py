"""One question, whichever way it came: find the caller within the budget, decide, tell the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter

import structlog

from services.routing.domain import Evidence, Trace, decide
from services.routing.store import DecisionLog
from shared.bus.port import Publisher
from shared.contracts.routing import CallRouted, DecideRoute, RouteDecision, RouteReason
from shared.crm.finder import Finder
from shared.crm.port import Priority
from shared.errors import MeshError, OutOfTime, Rejected
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.site.accounts import question_about
from shared.site.book import SiteBook
from shared.site.models import RoutingRule, Site

log = structlog.get_logger(__name__)

#: Kept back of the budget for the answer's own way to the PBX.
_FOR_THE_ANSWER = timedelta(milliseconds=50)
#: Decisions that wait to be kept and told: a store that hangs must not fill the memory.
_MOST_UNTOLD = 5000


@dataclass(slots=True)
class Decider:
    """
    The PBX waits for :meth:`decide`; what is told afterwards (store, bus) is done after the
    answer, by tasks that :meth:`close` waits for.
    """

    finder: Finder
    site: SiteBook
    decisions: DecisionLog
    publisher: Publisher
    metrics: Metrics
    _after: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def decide(self, tenant: str, asked: DecideRoute, *, face: str) -> RouteDecision:
        """Never raises and never takes longer than the budget: a call is waiting."""
        began = perf_counter()
        trace = Trace(lambda: (perf_counter() - began) * 1000)
        site = self.site.site(tenant)
        rule = site.rule_for(asked.did) if site else None
        if site is None or rule is None:
            trace.note("rule", f"no rule for DID {asked.did}")
            decision = RouteDecision(reason=RouteReason.NO_RULE, trace=tuple(trace.steps))
        else:
            trace.note("rule", rule.name)
            evidence = await self._evidence(site, rule, asked, trace)
            decision = decide(rule, evidence, trace)
        took = perf_counter() - began
        self.metrics.count("callmesh_route_decisions_total", face, decision.reason)
        self.metrics.observe("callmesh_route_decision_seconds", face, seconds=took)
        self._tell_later(tenant, asked, decision)
        return decision

    async def close(self) -> None:
        if self._after:
            await asyncio.gather(*self._after, return_exceptions=True)

    async def _evidence(
        self, site: Site, rule: RoutingRule, asked: DecideRoute, trace: Trace
    ) -> Evidence:
        crm = site.crm_named(rule.crm)
        if crm is None:
            trace.note("contact", f"there is no CRM connection {rule.crm}")
            return Evidence(failure=RouteReason.CRM_FAILED)
        if parse(asked.caller, site.region).withheld:
            trace.note("contact", "the caller withholds the number")
            return Evidence(failure=RouteReason.NUMBER_WITHHELD)
        question = question_about(
            asked.caller,
            site=site,
            crm=crm,
            modules=rule.modules,
            fields=(rule.field,),
            card=rule.caller_name,
            priority=Priority.ROUTE,
        )
        budget = min(asked.within, rule.within) if asked.within else rule.within
        within = max(budget - _FOR_THE_ANSWER, budget / 2)
        try:
            found = await self.finder.find(question, within=within)
        except OutOfTime as error:
            trace.note("contact", error.message)
            return Evidence(failure=RouteReason.OUT_OF_TIME)
        except MeshError as error:
            trace.note("contact", error.message)
            # No module has such a field: the seed's "wrong module", which is "no value".
            refused = isinstance(error, Rejected)
            return Evidence(failure=RouteReason.NO_VALUE if refused else RouteReason.CRM_FAILED)
        trace.note("contact", f"{len(found.candidates)} found ({found.source})")
        return Evidence(found.candidates, found.refused)

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
        note = self.decisions.note(
            tenant=tenant,
            call_id=asked.call_id,
            did=asked.did,
            caller=asked.caller,
            dtmf=asked.dtmf,
            decision=decision,
        )
        # Store and bus fail apart.
        await asyncio.gather(
            _done(asked, note), _done(asked, self._publish(tenant, asked, decision))
        )

    async def _publish(self, tenant: str, asked: DecideRoute, decision: RouteDecision) -> None:
        if asked.call_id is None or asked.pbx is None:
            return
        routed = CallRouted(call_id=asked.call_id, pbx=asked.pbx, did=asked.did, decision=decision)
        key = f"{asked.call_id}/{asked.did}/{asked.dtmf}"
        await self.publisher.publish(routed, tenant=tenant, key=key)


async def _done(asked: DecideRoute, telling: Awaitable[None]) -> None:
    try:
        await telling
    except MeshError as error:
        # The call is on its way; only the record of why is lost.
        log.error("decision_not_kept", call_id=asked.call_id, error=error.message)  # noqa: TRY400  no traceback
