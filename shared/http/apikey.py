"""
API keys as they are kept: 256 random bits, of which only the SHA-256 is. A key belongs to one
tenant, has scopes, may be a user's, may be bound to one agent's extension, and may end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import SecretStr, StringConstraints

from shared.http.callers import Caller, Scope
from shared.http.users import ApiUser
from shared.ids import Extension, Name
from shared.moments import Instant
from shared.storage.port import CollectionSpec, Document, Index

#: Of a key that ends at all: longer is as good as for ever, and no date of the calendar.
LONGEST_LIFE = timedelta(days=3650)
#: Who comes with a key that has ended is told so for as long; then it is one that nobody knows.
_REMEMBERED = timedelta(days=30)
#: Between a key's name and what a token of it that was replaced is told apart by.
OF_OLD = "~"


class ApiKey(Document):
    """``key`` is the SHA-256 of the token, in hex."""

    #: Of a token that was replaced: the name, ``~``, and the beginning of its hash.
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(~[0-9a-f]{12})?$")]
    scopes: tuple[Scope, ...]
    extension: Extension | None = None
    #: Whose it is, and the ``user_id`` of just that one.
    user: Name | None = None
    user_id: str | None = None
    created_at: Instant
    rotated_at: Instant | None = None
    expires_at: Instant | None = None
    #: Somewhat longer than it is good for.
    kept_until: Instant | None = None

    @property
    def called(self) -> str:
        """The key's name, also of a token that was replaced."""
        return self.name.partition(OF_OLD)[0]

    @property
    def is_old(self) -> bool:
        return OF_OLD in self.name

    def ended(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def ending(self, at: datetime | None) -> ApiKey:
        kept = at + _REMEMBERED if at is not None else None
        return self.model_copy(update={"expires_at": at, "kept_until": kept})


API_KEYS: CollectionSpec[ApiKey] = CollectionSpec(
    name="gateway.api_keys",
    model=ApiKey,
    indexes=(Index(fields=("tenant", "name"), unique=True),),
    expires_by="kept_until",
)


@dataclass(frozen=True, slots=True)
class Issued:
    """The only time that the token is seen."""

    token: SecretStr
    key: ApiKey


def caller_by(key: ApiKey, user: ApiUser | None) -> Caller:
    """*user*: whose it is, if it is somebody's."""
    scopes = frozenset(key.scopes)
    return Caller(
        tenant=key.tenant,
        key_name=key.called,
        scopes=scopes & frozenset(user.scopes) if user else scopes,
        # Also where it was made for another phone: the user has this one now.
        extension=(user.extension if user else None) or key.extension,
        user=key.user,
        expires_at=key.expires_at,
        rate=user.rate if user else None,
        token=key.key,
    )


def fingerprint(token: str) -> str:
    # No salt and one round: the token is 256 random bits, there is nothing to guess. Odd bytes
    # in a header are lone surrogates by now.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
