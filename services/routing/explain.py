"""Where would a call go? Decided as for a call, but nothing is kept, and nobody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from time import perf_counter

from pydantic import JsonValue

from services.routing.asking import question_of
from services.routing.deciding import Case, Deciding, Rehearsal
from services.routing.responsible import Caller
from services.routing.shelf import Shelf, Shelves
from services.routing.standing import Standing
from services.routing.supposed import ExplainQuestion, Supposed, SupposedStaff, evidence_of
from services.routing.trace import Trace
from shared.contracts.routing import RouteDecision, RouteReason
from shared.crm.port import Priority
from shared.errors import ContractError, Forbidden, MeshError, NotFound, Rejected
from shared.phone import parse
from shared.secrets import SecretBox
from shared.site.book import SiteBook
from shared.site.drafts import check_rule, leads_elsewhere, read_draft, signs_in_anew
from shared.site.models import Site
from shared.site.rulebook import RuleBook
from shared.site.rules.rule import RoutingRule

#: A caller's record is waited for so long where no call waits: the CRM's limits may make it slow.
PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Scene:
    """The rules of a tenant, with the draft among them."""

    site: Site
    shelf: Shelf
    #: Asked whichever number is called.
    rule_name: str | None = None
    #: The draft's name.
    draft: str | None = None

    def first(self, asked: Supposed) -> Standing | None:
        """The rule that the question begins with. Raises: NotFound, ContractError."""
        name = self.rule_name
        if name is None and asked.did:
            return self.shelf.rule_for(asked.did, asked.ivr)
        if name is None and asked.ivr:
            return self.shelf.by_ivr.get((asked.ivr, None))
        if (name := name or self.draft) is None:
            raise ContractError("did: say which number is called, or `rule_name`")
        if name not in self.shelf.by_name:
            raise NotFound(f"there is no rule {name}")
        return self.shelf.by_name[name]


@dataclass(frozen=True, slots=True)
class Explained:
    """*fault* says why the caller's record could not be had."""

    decision: RouteDecision
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Explainer:
    deciding: Deciding
    shelves: Shelves
    site: SiteBook
    rules: RuleBook
    secrets: SecretBox

    async def explain(
        self, tenant: str, asked: ExplainQuestion, *, elsewhere: bool = False
    ) -> RouteDecision:
        """Raises: as :meth:`draft` with *elsewhere*, :meth:`scene`, and :meth:`decided`."""
        draft = await self.draft(tenant, asked.rule, elsewhere=elsewhere)
        scene = await self.scene(tenant, draft, name=asked.rule_name)
        return (await self.decided(scene, asked, within=asked.within)).decision

    async def draft(
        self, tenant: str, document: Mapping[str, JsonValue] | None, *, elsewhere: bool
    ) -> RoutingRule | None:
        """
        As it came over the API. *elsewhere*: whether it may lead to an address of a custom CRM that
        is not stored, or sign in to a CRM by credentials that are not.

        Raises: ContractError; Forbidden.
        """
        if document is None:
            return None
        stored = self.rules.of(tenant).get(str(document.get("name")))
        # It may have many rows, and calls are being decided here.
        rule = await asyncio.to_thread(read_draft, document, stored, secrets=self.secrets)
        if not elsewhere and leads_elsewhere(rule, stored):
            raise Forbidden(
                "custom.url: is not the stored one; an address that is new may be tried with the "
                "scope site:write"
            )
        if not elsewhere and signs_in_anew(rule, stored):
            raise Forbidden(
                "credentials: are not the stored ones, for which asterisks stand; others may be "
                "tried with the scope site:write"
            )
        return rule

    async def scene(
        self, tenant: str, draft: RoutingRule | None = None, *, name: str | None = None
    ) -> Scene:
        """
        The rules with the *draft* among them; *name*: the one to ask, whichever number is called.

        Raises: NotFound without the tenant; ContractError for a draft that could not be stored.
        """
        site = self.site.site(tenant)
        if site is None:
            raise NotFound(f"there is no tenant {tenant}")
        shelf = self.shelves.of(tenant)
        if draft is None:
            return Scene(site, shelf, name)
        others = self.rules.of(tenant).values()
        templates = self.deciding.asking.managers.connections.templates
        await asyncio.to_thread(check_rule, draft, site, others, templates)
        standing = await asyncio.to_thread(Standing.of, draft, zone=site.zone, region=site.region)
        kept = [one for key, one in shelf.by_name.items() if key != draft.name]
        return Scene(site, Shelf.of([*kept, standing]), name, draft.name)

    async def decided(
        self,
        scene: Scene,
        asked: Supposed,
        *,
        within: timedelta | None = None,
        patience: timedelta | None = None,
    ) -> Explained:
        """
        In the first rule's time budget, or in *within* where that is shorter. With *patience* the
        caller's record is asked for before, for as long as that: then no answer is the default for
        want of time alone.

        Raises: NotFound, ContractError, as :meth:`Scene.first`.
        """
        began = perf_counter()
        trace = Trace(lambda: (perf_counter() - began) * 1000)
        first = scene.first(asked)
        if first is None:
            return Explained(_no_rule(asked, trace))
        query = asked.query(first).model_copy(update={"within": within})
        caller = Caller(scene.site, query, parse(query.caller, scene.site.region))
        fault, evidence, waited = None, None, 0.0
        if not asked.asks_crm:
            evidence = evidence_of(asked, first, scene.site, caller.number)
        elif patience is not None:
            fault = await self._prefetched(scene.shelf.followed([first]), caller, patience)
            waited, began = trace.elapsed_ms, perf_counter()
        case = Case(
            site=scene.site,
            shelf=scene.shelf,
            first=first,
            asked=query,
            given=Rehearsal(evidence=evidence, now=asked.at),
            priority=Priority.SYNC,
        )
        decision = await self._deciding_with(asked).decided(case, trace)
        took_ms = round(decision.took_ms + waited, 2)
        return Explained(decision.model_copy(update={"took_ms": took_ms}), fault)

    def _deciding_with(self, asked: Supposed) -> Deciding:
        if not asked.agents:
            return self.deciding
        asking = self.deciding.asking
        staff = SupposedStaff(asking.staff, asked.agents, self.deciding.clock)
        return replace(self.deciding, asking=asking.with_staff(staff))

    async def _prefetched(
        self, standing: list[Standing], caller: Caller, patience: timedelta
    ) -> str | None:
        """Into the finder's memory, where the decision finds it; why not, where it cannot."""
        if caller.number.withheld:
            return None
        questions = [
            question_of(one, caller, priority=Priority.SYNC)
            for one in standing
            if one.wants.crm and one.rule.custom is None
        ]
        try:
            async with asyncio.timeout(patience.total_seconds()):
                for question in filter(None, questions):
                    await self.deciding.asking.finder.find(question, within=patience)
        except Rejected:
            # No module has the field, or such: the decision says so by its reason.
            return None
        except MeshError as error:
            return error.message
        except TimeoutError:
            return f"the CRM did not answer within {patience.total_seconds():g} s"
        return None


def _no_rule(asked: Supposed, trace: Trace) -> RouteDecision:
    menu = f" and menu {asked.ivr}" if asked.ivr else ""
    trace.note("rule", f"no rule for DID {asked.did}{menu}")
    return RouteDecision(
        reason=RouteReason.NO_RULE, took_ms=trace.elapsed_ms, trace=tuple(trace.steps)
    )
