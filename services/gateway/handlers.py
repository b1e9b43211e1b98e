"""Live copies of events → the agents' screens of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.screens.streams import Screens
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, LegEnded
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Message
from shared.site.book import SiteBook


@dataclass(frozen=True, slots=True)
class Deps:
    screens: Screens
    site: SiteBook
    clock: Clock


router: Router[Deps] = Router("gateway")


@router.on_each(
    CallRinging,
    CallAnswered,
    LegEnded,
    CallEnded,
    ContactResolved,
    ContactUnknown,
    DialStateChanged,
    live=True,
)
async def show(deps: Deps, message: Message[Any]) -> None:
    body, site = message.body, deps.site.site(message.tenant)
    if isinstance(body, CallRinging) and body.callee.extension and site is not None:
        extension = body.callee.extension
        if site.agent_at(extension) and not site.agent_at(extension, body.pbx):
            return  # the agent's number at another PBX is another phone
    deps.screens.take(message.tenant, message.body, at=message.occurred_at, now=deps.clock.now())
