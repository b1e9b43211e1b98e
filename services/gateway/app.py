"""Composition root of gateway: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.gateway.access.desk import AccessDesk
from services.gateway.handlers import Deps, router
from services.gateway.hooks.marks import CLICKS, MARKS, ClickBook, HookMarks
from services.gateway.http import HttpDeps, routes
from services.gateway.recordings.accesses import ACCESSES, AccessLog
from services.gateway.recordings.playing import Player
from services.gateway.screens.desk import ScreenDesk
from services.gateway.settings import GatewaySettings
from services.gateway.store import AUDIT, AuditLog
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import DELIVERIES, DeliveryBook
from services.gateway.subscribers.noting import Noting
from services.gateway.subscribers.sending import Sender
from services.gateway.subscribers.subscriber import SUBSCRIBERS
from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import CallSummarised
from shared.contracts.contacts import ContactChanged, ContactResolved, SyncUsers
from shared.contracts.hooks import CrmHookReceived, HookReceived
from shared.contracts.screens import PopSeen
from shared.http.auth import API_USERS
from shared.http.server import Mounted
from shared.recordings.shelf import Bounds, Shelf
from shared.runtime.service import Entry, Platform, Service

NAME = "gateway"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = GatewaySettings.read()
    publisher = platform.publisher(NAME)
    spool = platform.spooling_publisher(NAME)
    connections = platform.crm_connections()
    screens = ScreenDesk.over(
        platform.store,
        site=platform.site,
        connections=connections,
        publisher=publisher,
        tickets=platform.stream_tickets(),
        clock=platform.clock,
        metrics=platform.metrics,
        bus_ready=platform.bus.ready,
        ask_within=settings.ask_within,
    )
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
    subscribers = SubscriberBook(platform.store.collection(SUBSCRIBERS), platform.clock)
    deliveries = DeliveryBook(
        platform.store.collection(DELIVERIES), platform.clock, keep=settings.keep_deliveries
    )
    sender = Sender(
        subscribers,
        deliveries,
        http=platform.http,
        secrets=platform.secrets,
        clock=platform.clock,
        metrics=platform.metrics,
    )
    audit = AuditLog(platform.store.collection(AUDIT), platform.clock, keep=settings.keep_audit)
    deps = HttpDeps(
        spool=spool,
        publisher=publisher,
        requester=publisher,
        letters=platform.bus.dead_letters,
        screens=screens,
        audit=audit,
        requests=platform.requests,
        access=AccessDesk(
            platform.store.collection(API_USERS), platform.keys, platform.key_uses, platform.clock
        ),
        site=platform.site,
        connections=connections,
        adapters=adapters,
        links=platform.recording_links(),
        click_links=platform.click_links(),
        click_book=ClickBook(platform.store.collection(CLICKS), platform.clock),
        marks=HookMarks(platform.store.collection(MARKS), platform.clock, connections.glance),
        player=player,
        accesses=accesses,
        subscribers=subscribers,
        deliveries=deliveries,
        sender=sender,
        http=platform.http,
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
            subscriptions=router.bind(
                Deps(
                    screens,
                    platform.site,
                    platform.clock,
                    Noting(subscribers, deliveries, sender),
                )
            ),
            mounted=(Mounted(routes.operations, deps),),
            deeds=audit,
            tasks=(
                spool.relay,
                screens.run,
                shelf.tend,
                subscribers.follow,
                sender.run,
                sender.count,
            ),
        )
    finally:
        await screens.close()
        await audit.close()
        await shelf.close()
        player.close()
        await connections.close()


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=GatewaySettings,
    publishes=(
        HookReceived,
        CrmHookReceived,
        ContactChanged,
        ContactResolved,
        CallSummarised,
        AgentStatusChanged,
        SyncUsers,
        PopSeen,
    ),
    operations=routes.operations,
)
