"""Questions over the bus in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass

from services.routing.decider import Decider
from shared.bus.router import Router
from shared.contracts.contacts import ContactChanged
from shared.contracts.envelope import Message
from shared.contracts.routing import DecideRoute, RouteDecision
from shared.crm.finder import Finder
from shared.site.accounts import keys_of
from shared.site.book import SiteBook


@dataclass(frozen=True, slots=True)
class Deps:
    decider: Decider
    finder: Finder
    site: SiteBook


router: Router[Deps] = Router("routing")


@router.on(DecideRoute)
async def decide_route(deps: Deps, message: Message[DecideRoute]) -> RouteDecision:
    return await deps.decider.decide(message.tenant, message.body, face="bus")


@router.on(ContactChanged, live=True)
async def forget_contact_here(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the memory of every replica; ``lookup`` clears the store."""
    site, change = deps.site.site(message.tenant), message.body
    deps.finder.forget_here(
        message.tenant,
        connection=change.connection,
        numbers=keys_of(change.numbers, site),
        contact_id=change.contact_id,
    )
