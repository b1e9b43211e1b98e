"""Composition root of routing: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from services.routing import pbx_http
from services.routing.decider import Decider
from services.routing.faces import FastAgiFace
from services.routing.handlers import Deps, router
from services.routing.http import HttpDeps, routes
from services.routing.pbx_http import FaceDeps
from services.routing.settings import RoutingSettings
from services.routing.store import DECISIONS, DecisionLog
from shared.contracts.routing import CallRouted
from shared.errors import BadSetting
from shared.http.server import Mounted
from shared.pbx.asterisk.fastagi import FastAgiServer
from shared.runtime.service import Entry, Platform, Service

log = structlog.get_logger(__name__)

NAME = "routing"
#: A question under way at the stop is answered; none takes longer than a rule's budget.
_DRAIN = timedelta(seconds=2)


@asynccontextmanager
async def build(
    platform: Platform, settings: RoutingSettings | None = None
) -> AsyncIterator[Service]:
    """*settings* None: those of the environment. Raises: BadSetting for a port that is taken."""
    settings = settings or RoutingSettings.read()
    publisher = platform.spooling_publisher(NAME)
    connections = platform.crm_connections()
    finder = platform.finder(connections)
    decisions = DecisionLog(
        platform.store.collection(DECISIONS), platform.clock, keep=settings.keep_decisions
    )
    decider = Decider(
        finder=finder,
        site=platform.site,
        decisions=decisions,
        publisher=publisher,
        metrics=platform.metrics,
    )
    faces = FaceDeps(
        decider=decider,
        finder=finder,
        site=platform.site,
        adapters=platform.pbx_adapters(),
        clock=platform.clock,
    )
    face = FastAgiFace(decider, platform.site)
    agi = FastAgiServer(face.decide, may_ask=face.may_ask)
    try:
        port = await agi.start(settings.agi_host, settings.agi_port)
    except OSError as error:
        raise BadSetting(
            f"CALLMESH_ROUTING_AGI_PORT: cannot listen on {settings.agi_host}:"
            f"{settings.agi_port}: {error.strerror}"
        ) from None

    async def stop_listening() -> None:
        await agi.stop(drain=_DRAIN)
        await decider.close()

    log.info("fastagi_listening", host=settings.agi_host, port=port)
    try:
        yield Service(
            name=NAME,
            subscriptions=router.bind(Deps(decider, finder, platform.site)),
            mounted=(
                Mounted(routes.operations, HttpDeps(decider)),
                Mounted(pbx_http.routes.operations, faces),
            ),
            tasks=(publisher.relay,),
            stop_listening=stop_listening,
            ports={"fastagi": port},
        )
    finally:
        await stop_listening()
        await finder.close()
        await connections.close()


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=RoutingSettings,
    publishes=(CallRouted,),
    operations=(*routes.operations, *pbx_http.routes.operations),
)
