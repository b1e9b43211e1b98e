"""What a rule wants to know of the caller, asked of its CRM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from services.routing.custom import CustomCrmClient
from services.routing.facts import Evidence
from services.routing.responsible import Caller, Managers, login_of
from services.routing.staff import Staff
from services.routing.standing import Standing
from services.routing.trace import Trace
from shared.contracts.routing import RouteReason
from shared.crm.finder import Finder, Question
from shared.crm.port import Priority
from shared.errors import MeshError, OutOfTime, Rejected
from shared.site.accounts import question_about
from shared.site.rules.rule import CustomCrm, RoutingRule, Sent

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asking:
    """Failures become reasons and words of the trace; nothing raises."""

    finder: Finder
    custom: CustomCrmClient
    managers: Managers
    staff: Staff

    def with_staff(self, staff: Staff) -> Asking:
        """The same, of agents who do as *staff* says."""
        return replace(self, staff=staff, managers=replace(self.managers, staff=staff))

    async def evidence(
        self,
        standing: Standing,
        caller: Caller,
        *,
        within: timedelta,
        trace: Trace,
        priority: Priority = Priority.ROUTE,
    ) -> Evidence:
        rule = standing.rule
        if within <= timedelta(0):
            trace.note("contact", "no time is left to ask")
            return Evidence(failure=RouteReason.OUT_OF_TIME)
        if rule.custom is not None:
            return await self._custom(rule, rule.custom, caller, within, trace)
        question = question_of(standing, caller, priority=priority)
        if question is None:
            trace.note("contact", f"there is no CRM connection {rule.crm}")
            return Evidence(failure=RouteReason.CRM_FAILED)
        if caller.number.withheld:
            trace.note("contact", "the caller withholds the number")
            return Evidence(failure=RouteReason.NUMBER_WITHHELD)
        try:
            found = await self.finder.find(question, within=within)
        except OutOfTime as error:
            trace.note("contact", error.message)
            return Evidence(failure=RouteReason.OUT_OF_TIME)
        except Rejected as error:
            # Not one module may be asked so: the seed's "incorrect module".
            trace.note("contact", error.message)
            return Evidence(refused=(error.message,), failure=RouteReason.NO_FIELD)
        except MeshError as error:
            trace.note("contact", error.message)
            return Evidence(failure=RouteReason.CRM_FAILED)
        trace.note("contact", f"{rule.crm}: {len(found.candidates)} found ({found.source})")
        for refusal in found.refused:
            trace.note("contact", f"not asked: {refusal}")
        # Whom nobody else knows may be in the module that was not asked.
        missed = RouteReason.NO_FIELD if found.refused and not found.candidates else None
        return Evidence(candidates=found.candidates, refused=found.refused, failure=missed)

    async def _custom(
        self,
        rule: RoutingRule,
        custom: CustomCrm,
        caller: Caller,
        within: timedelta,
        trace: Trace,
    ) -> Evidence:
        field = rule.field or ""
        asked = caller.asked
        sent: Mapping[Sent, str] = {
            Sent.CALLER: caller.number.key,
            Sent.DID: asked.did,
            Sent.IVR: asked.ivr or "",
            Sent.CALL: asked.call_id or "",
        }
        try:
            value = await self.custom.value(
                custom, field=field, dtmf=asked.dtmf, sent=sent, within=within
            )
        except OutOfTime as error:
            trace.note("contact", error.message)
            return Evidence(failure=RouteReason.OUT_OF_TIME)
        except MeshError as error:
            trace.note("contact", error.message)
            return Evidence(failure=RouteReason.CRM_FAILED)
        trace.note("contact", "the custom CRM answered")
        return Evidence(fields={field: value})


def question_of(
    standing: Standing, caller: Caller, *, priority: Priority = Priority.ROUTE
) -> Question | None:
    """None where there is no such connection."""
    rule = standing.rule
    crm = caller.site.crm_named(rule.crm) if rule.crm else None
    if crm is None:
        return None
    return question_about(
        caller.number.raw,
        site=caller.site,
        crm=crm,
        modules=rule.modules,
        fields=standing.wants.fields,
        card=standing.wants.card,
        priority=priority,
        credentials=rule.credentials,
        login=login_of(rule),
    )
