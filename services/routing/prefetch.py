"""The caller's record, asked for at the first ring, for rules that are asked later: menus above all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.routing.asking import question_of
from services.routing.responsible import Caller
from services.routing.shelf import Shelf, Shelves
from services.routing.standing import Standing
from shared.clock import Clock
from shared.contracts.calls import CallStarted, Direction
from shared.contracts.envelope import Message
from shared.contracts.routing import DecideRoute
from shared.crm.finder import Finder, Question
from shared.crm.port import Priority
from shared.errors import MeshError
from shared.phone import parse
from shared.site.book import SiteBook
from shared.site.models import Site
from shared.site.pbx import AsteriskPbx, FreeSwitchPbx

log = structlog.get_logger(__name__)

_WITHIN = timedelta(seconds=5)
#: A call that began longer ago is routed by now, or over; of one that is to begin, a clock is off.
_RECENT = timedelta(seconds=20)
#: Of one call, where a tenant has many menus: most of them nobody comes to, and the CRM has limits.
MOST_ASKED = 5


@dataclass(frozen=True, slots=True)
class Prefetch:
    finder: Finder
    site: SiteBook
    shelves: Shelves
    clock: Clock

    async def at_first_ring(self, message: Message[CallStarted]) -> None:
        """Only a help: what goes wrong is asked again by the decision, and said there."""
        call, site = message.body, self.site.site(message.tenant)
        recent = abs(self.clock.now() - message.occurred_at) < _RECENT
        if site is None or not recent or call.direction is not Direction.INBOUND:
            return
        questions = self._questions(site, call)[:MOST_ASKED]
        await asyncio.gather(*(self._ask(call, question) for question in questions))

    async def _ask(self, call: CallStarted, question: Question) -> None:
        try:
            await self.finder.find(question, within=_WITHIN)
        except MeshError as error:
            log.info("not_prefetched", call_id=call.call_id, error=error.message)

    def _questions(self, site: Site, call: CallStarted) -> list[Question]:
        number = parse(call.caller.number or "", site.region)
        if number.withheld or call.dialled is None:
            return []
        asked = DecideRoute(did=call.dialled, caller=call.caller.number or "")
        caller = Caller(site, asked, number)
        found: dict[str, Question] = {}
        for standing in self._rules(site, self.shelves.of(site.tenant), call):
            if standing.wants.crm and standing.rule.custom is None:
                question = question_of(standing, caller, priority=Priority.POP)
                if question is not None:
                    found.setdefault(question.key, question)
        return list(found.values())

    @staticmethod
    def _rules(site: Site, shelf: Shelf, call: CallStarted) -> list[Standing]:
        """Those that are asked soonest come first."""
        number = (call.dialled or "").lstrip("+")
        first = [shelf.by_did.get(number)]
        if isinstance(site.pbx_named(call.pbx), AsteriskPbx | FreeSwitchPbx):
            # These ask before anything else, in the very moment of the ring.
            first.clear()
        for of in (number, None):
            first += [one for (_, did), one in shelf.by_ivr.items() if did == of]
        return shelf.followed(one for one in first if one is not None)
