"""Orders in, their states out."""

from __future__ import annotations

from typing import Any

from services.dialer import cancelling, following, listed, ordering, placing
from services.dialer.deps import Deps
from services.dialer.whose import site_of
from shared.bus.router import Router
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, CallStarted
from shared.contracts.dialing import (
    CancelDial,
    DialNumber,
    DialPage,
    DialRecord,
    FetchDial,
    ListDials,
    PlaceDial,
)
from shared.contracts.envelope import Message

router: Router[Deps] = Router("dialer")


@router.on(PlaceDial)
async def place_dial(deps: Deps, message: Message[PlaceDial]) -> DialRecord:
    return await placing.place(deps, message.tenant, message.body)


@router.on(DialNumber)
async def dial_number(deps: Deps, message: Message[DialNumber]) -> None:
    await ordering.order(deps, message)


@router.on(CancelDial)
async def cancel_dial(deps: Deps, message: Message[CancelDial]) -> DialRecord:
    return await cancelling.cancel(deps, message.tenant, message.body)


@router.on_each(CallRinging, CallAnswered, CallEnded)
async def follow_call(deps: Deps, message: Message[Any]) -> None:
    await following.follow(deps, message)


@router.on(CallStarted)
async def know_call(deps: Deps, message: Message[CallStarted]) -> None:
    await following.know(deps, message)


@router.on(FetchDial)
async def fetch_dial(deps: Deps, message: Message[FetchDial]) -> DialRecord:
    return (await deps.dials.by_dial(message.tenant, message.body.dial_id)).record


@router.on(ListDials)
async def list_dials(deps: Deps, message: Message[ListDials]) -> DialPage:
    site = site_of(deps.site, message.tenant)
    region = site.region if site else None
    return await listed.list_dials(deps.dials, message.tenant, message.body, region=region)
