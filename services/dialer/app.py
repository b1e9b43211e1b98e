"""Composition root of dialer: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.dialer.handlers import (
    STATUS_HOLDS,
    Deps,
    give_up_unheard,
    refused_by_pbx,
    router,
)
from services.dialer.links import Switchboards
from services.dialer.settings import DialerSettings
from services.dialer.store import DIALS, STATUSES, DialBook, StatusBook
from shared.contracts.dialing import DialReason, DialStateChanged
from shared.runtime.service import Entry, Platform, Service

NAME = "dialer"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = DialerSettings.read()

    async def on_refusal(tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
        await refused_by_pbx(deps, tenant, pbx, reference, reason)

    boards = Switchboards(
        platform.site, platform.pbx_adapters(), clock=platform.clock, on_refusal=on_refusal
    )
    deps = Deps(
        dials=DialBook(platform.store.collection(DIALS), platform.clock, keep=settings.keep),
        # Until the newest that could overtake an older one is too old itself.
        statuses=StatusBook(
            platform.store.collection(STATUSES), platform.clock, keep=2 * STATUS_HOLDS
        ),
        boards=boards,
        site=platform.site,
        publisher=platform.publisher(NAME),
        clock=platform.clock,
        metrics=platform.metrics,
        order_within=settings.order_within,
    )
    yield Service(
        name=NAME,
        subscriptions=router.bind(deps),
        tasks=(boards.run, partial(give_up_unheard, deps)),
    )


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=DialerSettings,
    publishes=(DialStateChanged,),
)
