"""Deciding one case: finding out what its rules want while there is time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.routing.asking import Asking
from services.routing.domain import Around, decide, last_resort
from services.routing.facts import Evidence, Facts, ManagerFound, ManagerWanted, Wanted
from services.routing.responsible import Caller
from services.routing.shelf import Shelf
from services.routing.standing import Standing
from services.routing.trace import Trace
from shared.clock import Clock
from shared.contracts.routing import DecideRoute, RouteDecision, RouteReason
from shared.crm.port import Priority
from shared.phone import parse
from shared.site.models import Site
from shared.site.rules.rule import RoutingRule

log = structlog.get_logger(__name__)

#: Kept back of the budget for the answer's own way to the PBX.
_FOR_THE_ANSWER = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a decision without a call is given in place of the CRM's answer, the search, the clock."""

    evidence: Evidence | None = None
    manager: ManagerFound | None = None
    now: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question, and the rules that it is decided by, beginning with *first*."""

    site: Site
    shelf: Shelf
    first: Standing
    asked: DecideRoute
    given: Rehearsal = Rehearsal()
    priority: Priority = Priority.ROUTE


@dataclass(frozen=True, slots=True)
class Deciding:
    asking: Asking
    clock: Clock

    async def decided(self, case: Case, trace: Trace) -> RouteDecision:
        """
        Never raises, and never takes longer than the first rule's budget, or the question's where
        that is shorter. Nothing is kept or told.
        """
        first, asked = case.first, case.asked
        version = f" (version {first.version})" if first.version is not None else ""
        trace.note("rule", f"{first.rule.name}{version}")
        budget = first.rule.within
        if asked.within is not None:
            budget = min(asked.within, budget)
        question = _Question(
            case=case,
            asking=self.asking,
            clock=self.clock,
            trace=trace,
            caller=Caller(case.site, asked, parse(asked.caller, case.site.region)),
            within=max(budget - _FOR_THE_ANSWER, budget / 2),
        )
        try:
            return await question.decided()
        except Exception:
            # Whatever it is, a call is waiting: the log has the fault, the caller the default.
            log.exception("decision_failed", tenant=case.site.tenant, rule=first.rule.name)
            return last_resort(first, trace, RouteReason.CRM_FAILED)


@dataclass(slots=True, kw_only=True)
class _Question:
    """What is found out for one decision, rule by rule, as the rules want it."""

    case: Case
    asking: Asking
    clock: Clock
    trace: Trace
    caller: Caller
    within: timedelta
    _facts: dict[str, Facts] = field(default_factory=dict)

    async def decided(self) -> RouteDecision:
        around = Around(
            asked=self.case.asked,
            rules=self.case.shelf.by_name.get,
            facts=self._facts_of,
            trace=self.trace,
        )
        while True:
            noted = len(self.trace.steps)
            try:
                return decide(self.case.first, around)
            except Wanted as wanted:
                # What it looked at until here it will look at again.
                self.trace.back_to(noted)
                await self._find_out(wanted)

    def _facts_of(self, standing: Standing) -> Facts:
        name = standing.rule.name
        if name not in self._facts:
            case, site, staff = self.case, self.case.site, self.asking.staff
            self._facts[name] = Facts(
                standing=standing,
                asked=case.asked,
                number=self.caller.number,
                now=case.given.now or self.clock.now(),
                zone=site.zone,
                hours={hours.name: hours for hours in site.hours},
                agent=lambda extension: staff.seen(site.tenant, extension),
                evidence=case.given.evidence,
                manager=case.given.manager,
            )
        return self._facts[name]

    async def _find_out(self, wanted: Wanted) -> None:
        facts = self._facts[wanted.rule]
        if facts.evidence is None:
            facts.evidence = await self.asking.evidence(
                facts.standing,
                self.caller,
                within=self._left,
                trace=self.trace,
                priority=self.case.priority,
            )
        if isinstance(wanted, ManagerWanted):
            facts.manager = await self._manager(facts.standing.rule, facts.evidence)

    async def _manager(self, rule: RoutingRule, evidence: Evidence) -> ManagerFound:
        left = self._left
        try:
            # The store of users may be slow too.
            async with asyncio.timeout(left.total_seconds()):
                return await self.asking.managers.find(
                    rule,
                    self.caller,
                    evidence,
                    within=left,
                    trace=self.trace,
                    priority=self.case.priority,
                    # A given contact stands for what the CRM knows.
                    ask_crm=self.case.given.evidence is None,
                )
        except TimeoutError:
            return ManagerFound(None, free=False, said="no time is left to look for the manager")

    @property
    def _left(self) -> timedelta:
        return self.within - timedelta(milliseconds=self.trace.elapsed_ms)
