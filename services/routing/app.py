"""Composition root of routing: the only file that names concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import structlog

from services.routing import decisions_http, explain_http, pbx_http
from services.routing.asking import Asking
from services.routing.custom import CustomCrmClient
from services.routing.decider import Decider
from services.routing.deciding import Deciding
from services.routing.decisions_http import DecisionDeps
from services.routing.explain import Explainer
from services.routing.explain_http import ExplainDeps
from services.routing.faces import FastAgiFace
from services.routing.handlers import Deps, router
from services.routing.http import HttpDeps, routes
from services.routing.owners import OwnerPhones
from services.routing.pbx_http import FaceDeps
from services.routing.prefetch import Prefetch
from services.routing.responsible import Managers
from services.routing.settings import RoutingSettings
from services.routing.shelf import Shelves
from services.routing.staff import Staff
from services.routing.staff_check import StaffCheck
from services.routing.staff_store import AGENTS, StaffBook
from services.routing.store import DECISIONS, DecisionLog
from shared.contracts.routing import CallRouted
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import USERS, UserBook
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
    deciding, shelves = deciding_of(platform, connections, finder)
    await shelves.refresh()
    staff = deciding.asking.staff
    book = StaffBook(platform.store.collection(AGENTS), platform.clock)
    check = StaffCheck(
        staff, platform.publisher(NAME), platform.clock, tenants=shelves.that_want_staff
    )
    decisions = DecisionLog(
        platform.store.collection(DECISIONS), platform.clock, keep=settings.keep_decisions
    )
    decider = Decider(
        deciding=deciding,
        shelves=shelves,
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
    deps = Deps(
        decider=decider,
        finder=finder,
        site=platform.site,
        prefetch=Prefetch(finder, platform.site, shelves, platform.clock),
        staff=staff,
        staff_book=book,
    )
    explainer = Explainer(deciding, shelves, platform.site, platform.rules, platform.secrets)
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
            subscriptions=router.bind(deps),
            mounted=(
                Mounted(routes.operations, HttpDeps(decider)),
                Mounted(pbx_http.routes.operations, faces),
                Mounted(explain_http.routes.operations, ExplainDeps(explainer)),
                Mounted(decisions_http.routes.operations, DecisionDeps(decisions, platform.site)),
            ),
            tasks=(publisher.relay, shelves.follow, partial(book.follow, staff), check.run),
            stop_listening=stop_listening,
            ports={"fastagi": port},
        )
    finally:
        await stop_listening()
        await finder.close()
        await connections.close()


def deciding_of(
    platform: Platform, connections: CrmConnections, finder: Finder
) -> tuple[Deciding, Shelves]:
    """What decides, with calls and without; the shelves are empty until they are refreshed."""
    users = UserBook(platform.store.collection(USERS), platform.clock)
    staff = Staff(platform.clock)
    phones = OwnerPhones(users, connections.glance, platform.clock)
    asking = Asking(
        finder=finder,
        custom=CustomCrmClient(platform.http, platform.secrets, platform.clock),
        managers=Managers(connections, phones, staff),
        staff=staff,
    )
    return Deciding(asking, platform.clock), Shelves(platform.rules, platform.site)


ENTRY = Entry(
    name=NAME,
    build=build,
    router=router,
    settings=RoutingSettings,
    publishes=(CallRouted,),
    operations=(
        *routes.operations,
        *pbx_http.routes.operations,
        *explain_http.routes.operations,
        *decisions_http.routes.operations,
    ),
)
