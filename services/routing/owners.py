"""At which phone a CRM's user sits, as decisions look it up: read now and then, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.crm.users import UserBook, phones_of
from shared.site.accounts import seats_of
from shared.site.models import CrmConnection, Site

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
    _known: dict[tuple[str, str], _Known] = field(default_factory=dict)

    async def phone_of(self, site: Site, crm: CrmConnection, user_id: str) -> str | None:
        """None: no phone of the site is that user's. While the store is away as it was known last."""
        key, now = (site.tenant, crm.name), self.clock.now()
        known = self._known.get(key)
        if known is None or known.site is not site or now >= known.until:
            read = await self.glance.at(self.users.read(site.tenant, crm.name))
            if read is not None or known is None or known.site is not site:
                phones = phones_of(read.users if read else (), seats_of(site, crm))
                known = self._known[key] = _Known(phones, site, now + _FRESH)
        return known.phones.get(user_id)
