"""Live copies of events → the agents' screens of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.screens.desk import ScreenDesk
from services.gateway.subscribers.noting import Noting
from services.gateway.subscribers.public import PUBLIC
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.agents import AgentStatusSettled
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    LegEnded,
)
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Message
from shared.contracts.screens import PopSeen
from shared.site.book import SiteBook


@dataclass(frozen=True, slots=True)
class Deps:
    screens: ScreenDesk
    site: SiteBook
    clock: Clock
    noting: Noting


router: Router[Deps] = Router("gateway")


@router.on_each(
    CallStarted,
    CallRinging,
    CallAnswered,
    CallTransferred,
    LegEnded,
    CallEnded,
    ContactResolved,
    ContactUnknown,
    DialStateChanged,
    AgentStatusSettled,
    PopSeen,
    live=True,
)
async def show(deps: Deps, message: Message[Any]) -> None:
    await deps.screens.take(message)


@router.on_each(*PUBLIC)
async def tell_subscribers(deps: Deps, message: Message[Any]) -> None:
    await deps.noting.note(message)
