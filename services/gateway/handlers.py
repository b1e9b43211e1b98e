"""Live copies of events → the agents' screens of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.streams import Screens
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, LegEnded
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Message


@dataclass(frozen=True, slots=True)
class Deps:
    screens: Screens
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
    deps.screens.take(message.tenant, message.body, at=message.occurred_at, now=deps.clock.now())
