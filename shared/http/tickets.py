"""
Tickets: a browser opens a stream by an address alone, and a key in an address ends up in logs.

A ticket is good for a minute, for one stream's worth of a key's rights: the screens of one phone,
or the tenant's events. It is signed with HMAC-SHA256 by a key that is derived from the mesh's own,
so every replica knows it, and what it stands for is read back from its key, which may be gone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from shared.clock import Clock
from shared.errors import Forbidden, Unauthenticated
from shared.http.callers import Caller, Scope
from shared.http.keys import KeyBook
from shared.ids import Extension, Name, TenantId
from shared.moments import Instant

#: What the signing keys are derived for.
PURPOSE = "callmesh stream tickets 1"
#: The query parameter.
TICKET_PARAMETER = "ticket"
#: For connecting; the stream lasts as long as the key is good.
LASTS = timedelta(seconds=60)
_LONGEST = 1000
_REFUSED = "This ticket is none of ours, or its minute is over: take another."


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: TenantId
    home: TenantId | None = None
    key_name: Name
    scope: Scope
    extension: Extension | None = None
    #: SHA-256 of the key's token; to make the token of it is to guess 256 random bits.
    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    ends_at: Instant


@dataclass(frozen=True, slots=True)
class Ticket:
    text: str
    ends_at: datetime


class Tickets:
    """*signing*: 32 bytes each; the first signs, all vouch."""

    def __init__(self, signing: Sequence[bytes], keys: KeyBook, clock: Clock) -> None:
        self._signing = tuple(signing)
        self._keys = keys
        self._clock = clock

    def issue(self, caller: Caller, *, scope: Scope, extension: str | None) -> Ticket:
        """For *extension*'s screens, or without one for those of the whole tenant."""
        said = _Said(
            tenant=caller.tenant,
            home=caller.home,
            key_name=caller.key_name,
            scope=scope,
            extension=extension,
            token=caller.token,
            ends_at=self._clock.now() + LASTS,
        )
        text = _text(said.model_dump_json(exclude_none=True).encode())
        return Ticket(f"{text}.{_signature(self._signing[0], text)}", said.ends_at)

    async def caller(self, ticket: str, scopes: frozenset[Scope]) -> Caller:
        """
        Who comes with it: its key, with no more rights than the ticket has. One of *scopes* is
        asked for.

        Raises: Unauthenticated, with the same words whatever is wrong with it; Forbidden;
        Unavailable.
        """
        said = self._read(ticket)
        if said.scope not in scopes:
            raise Forbidden("This ticket is for another stream.")
        asked = Caller(
            tenant=said.tenant,
            home=said.home,
            key_name=said.key_name,
            scopes=frozenset({said.scope}),
            extension=said.extension,
            token=said.token,
        )
        if not await is_still_good(asked, self._keys):
            raise Unauthenticated(_REFUSED)
        return asked

    def _read(self, ticket: str) -> _Said:
        text, _, signature = ticket.partition(".")
        if len(ticket) > _LONGEST or not ticket.isascii() or not self._is_ours(text, signature):
            raise Unauthenticated(_REFUSED)
        try:
            said = _Said.model_validate_json(
                base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            )
        except (ValidationError, binascii.Error):
            raise Unauthenticated(_REFUSED) from None
        if said.ends_at <= self._clock.now():
            raise Unauthenticated(_REFUSED)
        return said

    def _is_ours(self, text: str, signature: str) -> bool:
        # Every key is tried: how long it takes does not tell which one it was.
        fits = [hmac.compare_digest(signature, _signature(key, text)) for key in self._signing]
        return any(fits)


async def is_still_good(caller: Caller, keys: KeyBook) -> bool:
    """Whether the key that *caller* came with may still what he may. Raises: Unavailable."""
    try:
        now = await keys.again(caller)
    except Unauthenticated:
        return False
    return caller.scopes <= now.scopes and now.extension in {None, caller.extension}


def _signature(key: bytes, signed: str) -> str:
    return _text(hmac.digest(key, signed.encode(), "sha256"))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
