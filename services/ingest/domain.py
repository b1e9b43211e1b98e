"""Raw hooks → what they tell. Pure, so that a hook can be read again later."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from shared.contracts.calls import CallEnded
from shared.contracts.hooks import HookReceived
from shared.errors import ContractError
from shared.pbx.port import HookReading, PbxAdapter, Phones, RawHook, Sighting


def read_hook(
    adapter: PbxAdapter, hook: HookReceived, phones: Phones, *, received_at: datetime
) -> HookReading:
    """Raises: ContractError."""
    if adapter.hooks is None:
        raise ContractError(f"PBX {hook.pbx} tells its events otherwise than by hooks")
    raw = RawHook(
        method=hook.method,
        content_type=hook.content_type,
        query=hook.query,
        body=hook.body.encode(),
        received_at=received_at,
    )
    return adapter.hooks.read(raw, phones)


def ends_first(sightings: Iterable[Sighting]) -> list[Sighting]:
    """
    Where a whole call is told at once: that it is over before that it rang, so that no screen
    opens for it.
    """
    return sorted(sightings, key=lambda one: not isinstance(one.body, CallEnded))
