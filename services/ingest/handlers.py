"""Hooks in, call events out."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.ingest.domain import sightings_in
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.contracts.envelope import Message
from shared.contracts.hooks import HookReceived

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    publisher: Publisher


router: Router[Deps] = Router("ingest")


@router.on(HookReceived)
async def read_hook(deps: Deps, message: Message[HookReceived]) -> None:
    seen = sightings_in(message)
    for one in seen:
        # Not as consequences of the hook: the same event in two hooks is one event.
        await deps.publisher.publish(one.body, tenant=message.tenant, key=one.key, at=one.at)
    log.info("hook_read", pbx=message.body.pbx, events=len(seen))
