"""Composition root of dialer: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.dialer import statuses
from services.dialer.agents import AGENTS, STATUSES, AgentBook
from services.dialer.deps import Deps
from services.dialer.handlers import router
from services.dialer.links import Switchboards
from services.dialer.meters import METERS, MeterBook
from services.dialer.ordering import refused_by_pbx
from services.dialer.settings import DialerSettings
from services.dialer.showing import Showing
from services.dialer.statuses import StatusDeps
from services.dialer.store import DIALS, DialBook
from services.dialer.tending import tend
from services.dialer.turns import TURNS, TurnBook
from shared.bus.router import joined
from shared.contracts.agents import (
    STATUS_HOLDS,
    AgentStatusSettled,
    SetAgentStatus,
    TellCrmStatus,
)
from shared.contracts.dialing import DialNumber, DialReason, DialStateChanged
from shared.runtime.service import Entry, Platform, Service
from shared.storage.newest import NewestOrders

NAME = "dialer"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = DialerSettings.read()

    async def on_refusal(tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
        await refused_by_pbx(deps, tenant, pbx, reference, reason)

    boards = Switchboards(
        platform.site, platform.pbx_adapters(), clock=platform.clock, on_refusal=on_refusal
    )
    dials = DialBook(platform.store.collection(DIALS), platform.clock, keep=settings.keep)
    deps = Deps(
        dials=dials,
        turns=TurnBook(platform.store.collection(TURNS), dials, platform.clock),
        meters=MeterBook(platform.store.collection(METERS), platform.clock),
        boards=boards,
        site=platform.site,
        publisher=platform.publisher(NAME),
        clock=platform.clock,
        metrics=platform.metrics,
        order_within=settings.order_within,
    )
    # Only for their words: no request is made.
    connections = platform.crm_connections()
    of_statuses = StatusDeps(
        agents=AgentBook(platform.store.collection(AGENTS), platform.clock),
        orders=NewestOrders(
            platform.store.collection(STATUSES), platform.clock, keep=2 * STATUS_HOLDS
        ),
        boards=boards,
        showing=Showing(boards, connections),
        site=platform.site,
        publisher=deps.publisher,
        clock=platform.clock,
        metrics=platform.metrics,
        order_within=settings.order_within,
    )
    try:
        yield Service(
            name=NAME,
            subscriptions=[*router.bind(deps), *statuses.router.bind(of_statuses)],
            tasks=(boards.run, partial(tend, deps)),
        )
    finally:
        await connections.close()


ENTRY = Entry(
    name=NAME,
    build=build,
    router=joined(router, statuses.router),
    settings=DialerSettings,
    publishes=(DialNumber, DialStateChanged, SetAgentStatus, TellCrmStatus, AgentStatusSettled),
)
