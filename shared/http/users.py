"""
Users of the API: the people and programs of a tenant. Not the users of its CRM, not its phones.
A user's keys may never do more than the user.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.http.callers import Scope
from shared.ids import Extension, Name
from shared.moments import Instant
from shared.storage.port import CollectionSpec, Document, Index

#: Of one user a second: what the traffic of a PBX may be.
MOST_PER_SECOND = 1000

Title = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
#: A place to write to, no proof of who reads it.
Email = Annotated[
    str,
    StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,189}$"),
]


class ApiUser(Document):
    """``key`` is ``tenant/name``."""

    name: Name
    #: Drawn when it was made: keys of a user who was removed are none of one of the same name.
    user_id: str
    title: Title = ""
    email: Email | None = None
    scopes: tuple[Scope, ...]
    extension: Extension | None = None
    disabled: bool = False
    rate: Annotated[int, Field(ge=1, le=MOST_PER_SECOND)] | None = None
    created_at: Instant
    changed_at: Instant


API_USERS: CollectionSpec[ApiUser] = CollectionSpec(
    name="gateway.api_users",
    model=ApiUser,
    indexes=(Index(fields=("tenant", "name"), unique=True),),
)


def user_key(tenant: str, name: str) -> str:
    return f"{tenant}/{name}"
