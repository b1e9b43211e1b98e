"""What the tenants' sites say of cards, and the CRMs' pages for new contacts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.contracts.calls import Direction
from shared.crm.connections import CrmConnections
from shared.crm.port import LinksNewContacts
from shared.errors import MeshError
from shared.phone import parse
from shared.site.accounts import account_of
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, Site
from shared.site.telling import PopupPolicy, UnknownCallers

log = structlog.get_logger(__name__)

#: The pop waits so long for the address where that takes a sign-in, then it comes without.
_WITHIN = timedelta(seconds=1)
_FRESH = timedelta(minutes=10)
_KEPT = 5_000


class SiteRules:
    """The cards' rules over the sites. ``prepare`` fetches what ``new_page`` then knows."""

    def __init__(self, site: SiteBook, connections: CrmConnections | None, clock: Clock) -> None:
        """Without *connections* there are no pages for new contacts."""
        self._site = site
        self._connections = connections
        self._clock = clock
        #: By tenant, connection and number; None where there is none, or it could not be had.
        self._pages: OrderedDict[tuple[str, str, str], tuple[str | None, datetime]] = OrderedDict()

    def known(self, tenant: str, connection: str) -> PopupPolicy:
        site = self._site.site(tenant)
        crm = site.crm_named(connection) if site else None
        return crm.popup if crm else PopupPolicy()

    def unknown(self, tenant: str, direction: Direction) -> PopupPolicy | None:
        return next((crm.popup for crm in self._creating(tenant, direction)), None)

    def new_page(
        self, tenant: str, direction: Direction, number: str | None, name: str | None
    ) -> str | None:
        site = self._site.site(tenant)
        if site is None or number is None:
            return None
        key = parse(number, site.region).key
        for crm in self._creating(tenant, direction):
            page, _ = self._pages.get((tenant, crm.name, key), (None, None))
            if page is not None:
                return page
        return None

    async def prepare(self, tenant: str, number: str, name: str | None) -> None:
        """Have the pages at hand for a caller whom nobody knows; what fails costs nothing."""
        site, connections = self._site.site(tenant), self._connections
        if site is None or connections is None:
            return
        wanted = [crm for crm in site.crm if _creates(crm)]
        await asyncio.gather(
            *(self._prepare(site, crm, connections, number, name) for crm in wanted)
        )

    async def _prepare(
        self,
        site: Site,
        crm: CrmConnection,
        connections: CrmConnections,
        number: str,
        name: str | None,
    ) -> None:
        found = parse(number, site.region)
        key, now = (site.tenant, crm.name, found.key), self._clock.now()
        known = self._pages.get(key)
        if found.withheld or (known is not None and now - known[1] < _FRESH):
            return
        page: str | None = None
        modules = (crm.create.module,) if crm.create else crm.modules
        try:
            connector = connections.connector(account_of(site, crm))
            if isinstance(connector, LinksNewContacts):
                async with asyncio.timeout(_WITHIN.total_seconds()):
                    page = await connector.new_contact_page(found, name, modules, within=_WITHIN)
        except MeshError as error:
            log.warning("new_contact_page_failed", connection=crm.name, error=error.message)
        except TimeoutError:
            log.warning("new_contact_page_failed", connection=crm.name, error="it took too long")
        self._pages[key] = (page, now)
        while len(self._pages) > _KEPT:
            self._pages.popitem(last=False)

    def _creating(self, tenant: str, direction: Direction) -> list[CrmConnection]:
        site = self._site.site(tenant)
        crms = site.crm if site else ()
        return [crm for crm in crms if _creates(crm) and direction in crm.popup.directions]


def _creates(crm: CrmConnection) -> bool:
    return crm.popup.unknown is UnknownCallers.CREATE
