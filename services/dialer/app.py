"""Composition root of dialer: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.dialer.handlers import Deps, give_up_unheard, refused_by_pbx, router
from services.dialer.links import DialLinks
from services.dialer.settings import DialerSettings
from services.dialer.store import DIALS, DialBook
from shared.contracts.dialing import DialStateChanged
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.runtime.service import Entry, Platform, Service

NAME = "dialer"


@asynccontextmanager
async def build(platform: Platform) -> AsyncIterator[Service]:
    settings = DialerSettings.read()

    async def on_refusal(tenant: str, pbx: str, message: AmiMessage) -> None:
        await refused_by_pbx(deps, tenant, pbx, message)

    links = DialLinks(
        platform.site, secrets=platform.secrets, clock=platform.clock, on_refusal=on_refusal
    )
    deps = Deps(
        dials=DialBook(platform.store.collection(DIALS), platform.clock, keep=settings.keep),
        links=links,
        site=platform.site,
        publisher=platform.publisher(NAME),
        clock=platform.clock,
        metrics=platform.metrics,
        order_within=settings.order_within,
    )
    yield Service(
        name=NAME,
        subscriptions=router.bind(deps),
        tasks=(links.run, partial(give_up_unheard, deps)),
    )


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=DialerSettings,
    publishes=(DialStateChanged,),
)
