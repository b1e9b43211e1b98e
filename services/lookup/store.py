"""What lookup remembers: the users of each CRM."""

from __future__ import annotations

from datetime import datetime

from shared.clock import Clock
from shared.contracts.contacts import CrmUser
from shared.errors import NotFound
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document


class UserList(Document):
    """``key`` is ``tenant/connection``."""

    users: tuple[CrmUser, ...] = ()
    synced_at: Instant


USERS: CollectionSpec[UserList] = CollectionSpec(name="lookup.users", model=UserList)


class UserBook:
    def __init__(self, users: Collection[UserList], clock: Clock) -> None:
        self._users = users
        self._clock = clock

    async def synced_at(self, tenant: str, connection: str) -> datetime | None:
        """None: never."""
        try:
            return (await self._users.get(f"{tenant}/{connection}")).synced_at
        except NotFound:
            return None

    async def keep(self, tenant: str, connection: str, users: tuple[CrmUser, ...]) -> None:
        await self._users.put(
            UserList(
                key=f"{tenant}/{connection}",
                tenant=tenant,
                users=users,
                synced_at=self._clock.now(),
            )
        )
