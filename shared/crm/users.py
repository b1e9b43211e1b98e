"""
The CRM's users as last read, and whose phone is whose: as the site says, else by e-mail, else by
the extension that the CRM has for a user.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from shared.clock import Clock
from shared.contracts.contacts import CrmUser
from shared.errors import NotFound
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document

log = structlog.get_logger(__name__)

#: Of users that are alike, in a reason.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """An agent's phone, and by what a CRM may know who sits there; *user_id* is the site's word."""

    extension: str
    user_id: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A phone whose calls nobody in the CRM will own, and why."""

    extension: str
    reason: str


class UserList(Document):
    """``key`` is ``tenant/connection``; the users are as the CRM says them."""

    users: tuple[CrmUser, ...] = ()
    synced_at: Instant


USERS: CollectionSpec[UserList] = CollectionSpec(name="lookup.users", model=UserList)


class Directory:
    """Users by what a seat may know them by: of 10,000 each seat's is found at once."""

    def __init__(self, users: Iterable[CrmUser]) -> None:
        self._by_email: defaultdict[str, set[str]] = defaultdict(set)
        self._by_extension: defaultdict[str, set[str]] = defaultdict(set)
        for user in users:
            if email := _folded(user.email):
                self._by_email[email].add(user.user_id)
            if user.extension is not None:
                self._by_extension[user.extension].add(user.user_id)

    def match(self, seat: Seat) -> str | Unmatched:
        """
        The id of the seat's user. The site's word holds, whether the user was read or not; two
        users with one e-mail or one extension are a fault in the CRM that no guess mends.
        """
        if seat.user_id is not None:
            return seat.user_id
        for what, fitting in (
            ("e-mail", self._by_email.get(_folded(seat.email))),
            ("extension", self._by_extension.get(seat.extension)),
        ):
            ids = sorted(fitting or ())
            if len(ids) == 1:
                return ids[0]
            if ids:
                some = ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
                return Unmatched(
                    seat.extension,
                    f"the users {some} have the same {what}: name one of them under `users`",
                )
        return Unmatched(
            seat.extension,
            "no user has its e-mail or its extension: name the user under `users`, or its `email`",
        )


def matched(users: Sequence[CrmUser], seats: Iterable[Seat]) -> tuple[CrmUser, ...]:
    """*users*, each with the first phone that is matched to it and no other."""
    phones = phones_of(users, seats)
    return tuple(_at(user, phones.get(user.user_id)) for user in users)


def phones_of(users: Iterable[CrmUser], seats: Iterable[Seat]) -> dict[str, str]:
    """
    The id of a user → the first phone that is matched to it; also of users whom the site names and
    the CRM does not list. Who asks often keeps it as long as both are the same.
    """
    phones: dict[str, str] = {}
    directory = Directory(users)
    for seat in seats:
        found = directory.match(seat)
        if isinstance(found, str):
            phones.setdefault(found, seat.extension)
    return phones


def unmatched(users: Sequence[CrmUser], seats: Iterable[Seat]) -> tuple[Unmatched, ...]:
    """The phones without a user, and those whose user the CRM does not list."""
    listed = {user.user_id for user in users}
    directory = Directory(users)
    found: list[Unmatched] = []
    for seat in seats:
        user = directory.match(seat)
        if isinstance(user, Unmatched):
            found.append(user)
        elif listed and user not in listed:
            # An empty list is that of a CRM without one.
            found.append(
                Unmatched(seat.extension, f"user {user} is none of the CRM's active users")
            )
    return tuple(found)


class UserBook:
    """Written by ``lookup``, read by whoever needs to know who owns a call."""

    def __init__(self, users: Collection[UserList], clock: Clock) -> None:
        self._users = users
        self._clock = clock

    async def read(self, tenant: str, connection: str) -> UserList | None:
        """None: never read. Raises: Unavailable."""
        try:
            return await self._users.get(f"{tenant}/{connection}")
        except NotFound:
            return None

    async def synced_at(self, tenant: str, connection: str) -> datetime | None:
        """None: never. Raises: Unavailable."""
        known = await self.read(tenant, connection)
        return known.synced_at if known else None

    async def keep(self, tenant: str, connection: str, users: tuple[CrmUser, ...]) -> None:
        """Raises: Unavailable."""
        await self._users.put(
            UserList(
                key=f"{tenant}/{connection}",
                tenant=tenant,
                users=users,
                synced_at=self._clock.now(),
            )
        )

    async def owner_of(self, tenant: str, connection: str, seat: Seat) -> str | None:
        """The id of the seat's user; None where nobody is, or nobody can tell. Raises: Unavailable."""
        if seat.user_id is not None:
            return seat.user_id
        known = await self.read(tenant, connection)
        found = Directory(known.users if known else ()).match(seat)
        if isinstance(found, str):
            return found
        log.info(
            "agent_without_user",
            connection=connection,
            extension=seat.extension,
            reason=found.reason,
        )
        return None


def _at(user: CrmUser, phone: str | None) -> CrmUser:
    return user if user.extension == phone else user.model_copy(update={"extension": phone})


def _folded(email: str | None) -> str:
    return (email or "").strip().casefold()
