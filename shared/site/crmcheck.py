"""Trying a CRM connection: what is wrong with it, and what to do about that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from shared.crm.connections import CrmConnections
from shared.crm.users import unmatched
from shared.errors import MeshError
from shared.pbx.port import Finding
from shared.site.accounts import account_of, seats_of
from shared.site.models import CrmConnection, Site

_WITHIN = timedelta(seconds=10)


async def check_crm(
    site: Site, crm: CrmConnection, connections: CrmConnections
) -> AsyncIterator[Finding]:
    """Sign-in and users, then each agent who should have a user there and has none."""
    try:
        connector = connections.connector(account_of(site, crm))
        await connector.check()
        users = await connector.list_users(within=_WITHIN)
    except MeshError as error:
        yield Finding(f"CRM {crm.name} ({crm.template})", error.message)
        return
    yield Finding(f"CRM {crm.name} ({crm.template})")
    # A phone that nobody said anything of needs no user.
    meant = [seat for seat in seats_of(site, crm) if seat.user_id or seat.email]
    for seat in unmatched(users, meant):
        yield Finding(f"agent {seat.extension}", f"{crm.name}: {seat.reason}, in the site file")
