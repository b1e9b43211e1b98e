"""Composition root of lookup: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from services.lookup.handlers import Deps, read_users, router
from services.lookup.making import ContactMaker
from services.lookup.polling import POLLS, Poller
from services.lookup.settings import LookupSettings
from services.lookup.store import CALLERS, MAKINGS, CallerBook, MakingBook
from shared.contracts.contacts import (
    ContactChanged,
    ContactCreated,
    ContactResolved,
    ContactUnknown,
    CreateContact,
    UsersSynced,
)
from shared.crm.users import USERS, UserBook
from shared.errors import MeshError
from shared.runtime.service import Entry, Platform, Service

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
        site=platform.site,
        rules=platform.rules,
        publisher=platform.publisher(NAME),
        clock=clock,
        search_within=settings.search_within,
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
        yield Service(name=NAME, subscriptions=router.bind(deps), tasks=(keep_users, poller.run))
    finally:
        await finder.close()
        await connections.close()


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
    router=router,
    settings=LookupSettings,
    publishes=(
        ContactResolved,
        ContactUnknown,
        ContactChanged,
        CreateContact,
        ContactCreated,
        UsersSynced,
    ),
)
