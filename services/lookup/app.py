"""Composition root of lookup: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from services.lookup import statuses
from services.lookup.card_sending import CardSender
from services.lookup.cards import CARDS, CardTeller
from services.lookup.handlers import Deps, read_users, router
from services.lookup.making import ContactMaker
from services.lookup.module_book import MODULES, ModuleBook
from services.lookup.module_ends import ModuleSweeper
from services.lookup.modules import ModuleKeeper
from services.lookup.polling import POLLS, Poller
from services.lookup.settings import LookupSettings
from services.lookup.statuses import STATUSES, StatusDeps
from services.lookup.store import CALLERS, MAKINGS, CallerBook, MakingBook
from shared.bus.router import joined
from shared.contracts.agents import STATUS_HOLDS, CrmStatusTold
from shared.contracts.cards import CardTold
from shared.contracts.contacts import (
    ContactChanged,
    ContactCreated,
    ContactResolved,
    ContactUnknown,
    CreateContact,
    UsersSynced,
)
from shared.crm.connections import CrmConnections
from shared.crm.users import USERS, UserBook
from shared.errors import MeshError
from shared.runtime.service import Entry, Platform, Service
from shared.storage.newest import NewestOrders

log = structlog.get_logger(__name__)

NAME = "lookup"
_LOOK = timedelta(minutes=1)


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = LookupSettings.read()
    connections = platform.crm_connections()
    finder = platform.finder(connections)
    store, clock = platform.store, platform.clock
    users = UserBook(store.collection(USERS), clock)
    publisher, modules = platform.publisher(NAME), module_keeper(platform, connections)
    cards = CardTeller(
        sender=CardSender(
            connections=connections,
            finder=finder,
            users=users,
            modules=modules.book,
            clock=clock,
            metrics=platform.metrics,
        ),
        cards=store.collection(CARDS),
        publisher=publisher,
        clock=clock,
        metrics=platform.metrics,
    )
    deps = Deps(
        finder=finder,
        connections=connections,
        users=users,
        callers=CallerBook(store.collection(CALLERS), clock),
        maker=ContactMaker(
            finder=finder,
            connections=connections,
            users=users,
            makings=MakingBook(store.collection(MAKINGS), clock),
            clock=clock,
        ),
        cards=cards,
        modules=modules,
        site=platform.site,
        rules=platform.rules,
        publisher=publisher,
        clock=clock,
        search_within=settings.search_within,
    )

    of_statuses = StatusDeps(
        connections=connections,
        users=users,
        orders=NewestOrders(store.collection(STATUSES), clock, keep=2 * STATUS_HOLDS),
        site=platform.site,
        publisher=publisher,
        clock=clock,
        metrics=platform.metrics,
    )
    poller = Poller(
        connections=connections,
        site=platform.site,
        polls=store.collection(POLLS),
        publisher=deps.publisher,
        clock=clock,
    )

    async def keep_users() -> None:
        """Read every CRM's users when they are older than the setting says."""
        while True:
            for tenant, site in platform.site.current.items():
                for crm in site.crm:
                    await _read_if_old(deps, tenant, crm.name, settings.users_every)
            await clock.sleep(_LOOK)

    try:
        yield Service(
            name=NAME,
            subscriptions=[*router.bind(deps), *statuses.router.bind(of_statuses)],
            tasks=(keep_users, poller.run, modules.run, modules.ends.run),
        )
    finally:
        await finder.close()
        await connections.close()


def module_keeper(platform: Platform, connections: CrmConnections) -> ModuleKeeper:
    """Needs no bus."""
    store, clock, links = platform.store, platform.clock, platform.click_links()
    book = ModuleBook(store.collection(MODULES), clock)
    return ModuleKeeper(
        connections=connections,
        site=platform.site,
        users=UserBook(store.collection(USERS), clock),
        book=book,
        links=links,
        ends=ModuleSweeper(
            connections=connections, site=platform.site, book=book, links=links, clock=clock
        ),
        clock=clock,
    )


async def _read_if_old(deps: Deps, tenant: str, name: str, every: timedelta) -> None:
    try:
        last = await deps.users.synced_at(tenant, name)
        if last is None or deps.clock.now() - last >= every:
            await read_users(deps, tenant, name)
    except MeshError as error:
        log.warning("users_not_read", tenant=tenant, connection=name, error=error.message)


ENTRY = Entry(
    name=NAME,
    build=build,
    router=joined(router, statuses.router),
    settings=LookupSettings,
    publishes=(
        CardTold,
        CrmStatusTold,
        ContactResolved,
        ContactUnknown,
        ContactChanged,
        CreateContact,
        ContactCreated,
        UsersSynced,
    ),
)
