"""Which PBX an order is for, as the site says."""

from __future__ import annotations

from shared.errors import Unavailable
from shared.site.book import SiteBook
from shared.site.models import Agent, Site
from shared.site.pbx import Pbx


def site_of(book: SiteBook, tenant: str) -> Site | None:
    """Raises: Unavailable before it is known which there are."""
    if not book.loaded:
        raise Unavailable("the sites are not loaded yet")
    return book.site(tenant)


def pbx_of(site: Site | None, wanted: str | None) -> Pbx | None:
    """The one of that name, else the only one that takes orders."""
    taking = [pbx for pbx in site.pbx if pbx.takes_orders] if site else []
    if wanted is not None:
        return next((pbx for pbx in taking if pbx.name == wanted), None)
    return taking[0] if len(taking) == 1 else None


def pbx_of_agent(site: Site | None, agent: Agent | None) -> Pbx | None:
    """Which PBX is told what the agent does; None: none can be."""
    return pbx_of(site, agent.pbx) if agent is not None else None
