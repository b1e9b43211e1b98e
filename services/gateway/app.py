"""Composition root of gateway: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.gateway.handlers import Deps, router
from services.gateway.http import HttpDeps, routes
from services.gateway.recordings.accesses import ACCESSES, AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.streams import Screens
from services.gateway.settings import GatewaySettings
from services.gateway.store import AUDIT, AuditLog
from shared.contracts.agents import SetAgentStatus
from shared.contracts.calls import CallSummarised
from shared.contracts.contacts import ContactChanged, ContactResolved, SyncUsers
from shared.contracts.dialing import DialNumber
from shared.contracts.hooks import CrmHookReceived, HookReceived
from shared.http.server import Mounted
from shared.recordings.shelf import Bounds, Shelf
from shared.runtime.service import Entry, Platform, Service

NAME = "gateway"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = GatewaySettings.read()
    publisher = platform.publisher(NAME)
    spool = platform.spooling_publisher(NAME)
    screens = Screens(platform.metrics)
    connections = platform.crm_connections()
    adapters = platform.pbx_adapters()
    accesses = AccessLog(
        platform.store.collection(ACCESSES), platform.clock, keep=settings.keep_audit
    )
    shelf = Shelf(
        settings.recordings_dir or platform.data_dir / "recordings",
        platform.clock,
        Bounds(
            most_bytes=settings.recordings_bytes,
            largest=settings.recording_bytes,
            keep=settings.recordings_keep,
        ),
    )
    player = Player(
        adapters=adapters,
        shelf=shelf,
        accesses=accesses,
        clock=platform.clock,
        metrics=platform.metrics,
        within=settings.recording_within,
    )
    deps = HttpDeps(
        spool=spool,
        publisher=publisher,
        requester=publisher,
        screens=screens,
        audit=AuditLog(platform.store.collection(AUDIT), platform.clock, keep=settings.keep_audit),
        site=platform.site,
        connections=connections,
        adapters=adapters,
        links=platform.recording_links(),
        player=player,
        accesses=accesses,
        rules=platform.rule_desk(),
        secrets=platform.secrets,
        clock=platform.clock,
        metrics=platform.metrics,
        ask_within=settings.ask_within,
        dial_within=settings.dial_within,
        public_url=platform.public_url,
    )
    try:
        yield Service(
            name=NAME,
            subscriptions=router.bind(Deps(screens, platform.site, platform.clock)),
            mounted=(Mounted(routes.operations, deps),),
            tasks=(spool.relay, shelf.tend),
        )
    finally:
        await shelf.close()
        player.close()
        await connections.close()


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=GatewaySettings,
    publishes=(
        DialNumber,
        HookReceived,
        CrmHookReceived,
        ContactChanged,
        ContactResolved,
        CallSummarised,
        SetAgentStatus,
        SyncUsers,
    ),
    operations=routes.operations,
)
