"""Questions over the bus in, decisions out; and what decisions have to know of calls and agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.routing.decider import Decider
from services.routing.prefetch import Prefetch
from services.routing.staff import HEARD, Staff
from services.routing.staff_store import StaffBook
from shared.bus.router import Router
from shared.contracts.agents import AgentStatusChanged, AgentStatusSettled, Side
from shared.contracts.calls import CallStarted
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
    prefetch: Prefetch
    staff: Staff
    staff_book: StaffBook


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


@router.on(CallStarted)
async def prefetch_caller(deps: Deps, message: Message[CallStarted]) -> None:
    """By one replica: the others find it in the store."""
    await deps.prefetch.at_first_ring(message)


@router.on_each(*HEARD, live=True)
async def hear_of_staff(deps: Deps, message: Message[Any]) -> None:
    """By every replica: who is on a call, and who is away."""
    if not _is_of_somebody_else(deps, message):
        deps.staff.hear(message)


@router.on_each(AgentStatusChanged, AgentStatusSettled)
async def keep_status(deps: Deps, message: Message[Any]) -> None:
    """By one, for those that begin later."""
    if not _is_of_somebody_else(deps, message):
        await deps.staff_book.keep(message)


def _is_of_somebody_else(deps: Deps, message: Message[Any]) -> bool:
    """Of a phone with an agent's number at another PBX than the agent's."""
    said, site = message.body, deps.site.site(message.tenant)
    if not isinstance(said, AgentStatusChanged) or said.source is not Side.PBX or site is None:
        return False
    is_agent = site.agent_at(said.extension) is not None
    return is_agent and site.agent_at(said.extension, said.source_name) is None
