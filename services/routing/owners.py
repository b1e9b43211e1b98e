"""At which phone a CRM's user sits, as decisions look it up: read now and then, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.crm.users import UserBook, UserList, phones_of
from shared.errors import MeshError
from shared.site.accounts import seat_of
from shared.site.models import CrmConnection, Site

log = structlog.get_logger(__name__)

#: `lookup` reads the users of a CRM every hour or less often.
_FRESH = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _Known:
    phones: Mapping[str, str]
    site: Site
    until: datetime


@dataclass(frozen=True, slots=True)
class OwnerPhones:
    users: UserBook
    glance: Glance
    clock: Clock
    _known: dict[tuple[str, str, str | None], _Known] = field(default_factory=dict)

    async def phone_of(
        self, site: Site, crm: CrmConnection, user_id: str, *, pbx: str | None
    ) -> str | None:
        """
        None: no phone of the site is that user's; those of another PBX than *pbx* are none that a
        call there can be sent to. While the store is away as it was known last.
        """
        key, now = (site.tenant, crm.name, pbx), self.clock.now()
        known = self._known.get(key)
        if known is None or known.site is not site or now >= known.until:
            read = await self._read(site.tenant, crm.name)
            if read is not None or known is None or known.site is not site:
                seats = (
                    seat_of(one, crm)
                    for one in site.agents
                    if pbx is None or one.pbx in {None, pbx}
                )
                phones = phones_of(read.users if read else (), seats)
                known = self._known[key] = _Known(phones, site, now + _FRESH)
        return known.phones.get(user_id)

    async def _read(self, tenant: str, crm: str) -> UserList | None:
        try:
            return await self.glance.at(self.users.read(tenant, crm))
        except MeshError as error:
            log.warning("users_not_read", tenant=tenant, connection=crm, error=error.message)
            return None
