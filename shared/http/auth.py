"""
API keys: 256 random bits, of which only the SHA-256 is kept. A key belongs to one tenant, has
scopes, may be bound to one agent's extension, and may end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel, ConfigDict, SecretStr

from shared.clock import Clock
from shared.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from shared.ids import Extension, Name, TenantId, new_token
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, every

_FRESH = timedelta(seconds=5)
_STALE = timedelta(minutes=15)
#: The store's time, where there is an answer without it.
_WITHIN = timedelta(milliseconds=500)
#: Keys kept in memory.
_KEPT = 10_000

#: A query parameter instead of a header, for PBXs that can only be given a URL.
KEY_PARAMETER = "key"


class Scope(StrEnum):
    """What a key may do within its tenant."""

    HOOKS_WRITE = "hooks:write"
    ROUTE_ASK = "route:ask"
    CALLS_READ = "calls:read"
    CALLS_DIAL = "calls:dial"
    CALLS_WRITE = "calls:write"
    JOURNAL_READ = "journal:read"
    JOURNAL_WRITE = "journal:write"
    CONTACTS_READ = "contacts:read"
    CRM_WRITE = "crm:write"
    POPS_READ = "pops:read"
    AGENTS_WRITE = "agents:write"
    SITE_READ = "site:read"
    SITE_WRITE = "site:write"


class ApiKey(Document):
    """``key`` is the SHA-256 of the token, in hex."""

    name: Name
    scopes: tuple[Scope, ...]
    extension: Extension | None = None
    created_at: Instant
    expires_at: Instant | None = None


API_KEYS: CollectionSpec[ApiKey] = CollectionSpec(
    name="gateway.api_keys",
    model=ApiKey,
    indexes=(Index(fields=("tenant", "name"), unique=True),),
    expires_by="expires_at",
)


class Caller(BaseModel):
    """Who asks: what a key stands for."""

    model_config = ConfigDict(frozen=True)

    tenant: TenantId
    key_name: Name
    scopes: frozenset[Scope]
    extension: Extension | None = None

    def may_act_for(self, extension: str) -> None:
        """Raises Forbidden when the key is bound to another extension."""
        if self.extension is not None and self.extension != extension:
            raise Forbidden(f"this key is for extension {self.extension} only")


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey
    #: When the store said so, and when it was last asked.
    confirmed_at: datetime
    asked_at: datetime

    def ended(self, now: datetime) -> bool:
        return self.key.expires_at is not None and self.key.expires_at <= now


class KeyBook:
    """
    A key that the store knew is believed for seconds without asking again, and for minutes while
    the store is away: a hook needs the broker alone. A revoked one is refused after those
    seconds, here at once.
    """

    def __init__(self, keys: Collection[ApiKey], clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def issue(
        self,
        *,
        tenant: str,
        name: str,
        scopes: tuple[Scope, ...],
        extension: str | None = None,
        expires_at: datetime | None = None,
        token: SecretStr | None = None,
    ) -> SecretStr:
        """
        The only time that the token is seen. *token* sets one that was made elsewhere.

        Raises: Conflict when the tenant has a key of this name.
        """
        secret = token or SecretStr(new_token("cm"))
        await self._keys.add(
            ApiKey(
                key=fingerprint(secret.get_secret_value()),
                tenant=tenant,
                name=name,
                scopes=scopes,
                extension=extension,
                created_at=self._clock.now(),
                expires_at=expires_at,
            )
        )
        return secret

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        query = Find(equals={"tenant": tenant}, order_by="name")
        return [key async for key in every(self._keys, query)]

    async def revoke(self, *, tenant: str, name: str) -> None:
        """Raises: NotFound."""
        for key in await self.list(tenant):
            if key.name == name:
                await self._keys.delete(key.key)
                self._known.pop(key.key, None)
                return
        raise NotFound(f"tenant {tenant} has no API key {name}")

    async def caller(self, token: str) -> Caller:
        """Raises: Unauthenticated, with the same words whatever is wrong; Unavailable."""
        found = await self._found(fingerprint(token))
        return Caller(
            tenant=found.tenant,
            key_name=found.name,
            scopes=frozenset(found.scopes),
            extension=found.extension,
        )

    async def _found(self, key: str) -> ApiKey:
        now = self._clock.now()
        known = self._known.get(key)
        if known is not None and (known.ended(now) or now - known.confirmed_at > _STALE):
            known = None
        if known is None or now - known.asked_at >= _FRESH:
            known = await self._asked(key, known, now)
        # To the end of the line: what goes first was not used for longest.
        self._known.pop(key, None)
        self._known[key] = known
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return known.key

    async def _asked(self, key: str, known: _Known | None, now: datetime) -> _Known:
        try:
            async with asyncio.timeout(_WITHIN.total_seconds() if known else None):
                return _Known(await self._keys.get(key), confirmed_at=now, asked_at=now)
        except NotFound:
            self._known.pop(key, None)
            raise Unauthenticated("This API key is not known, or no longer valid.") from None
        except (Unavailable, TimeoutError):
            if known is None:
                raise
            return replace(known, asked_at=now)


def fingerprint(token: str) -> str:
    # No salt and one round: the token is 256 random bits, there is nothing to guess. Odd bytes
    # in a header are lone surrogates by now.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


async def authenticate(
    request: web.Request, keys: KeyBook, *, scope: Scope, key_in_query: bool
) -> Caller:
    """Raises: Unauthenticated, Forbidden, Unavailable."""
    caller = await keys.caller(_token_in(request, key_in_query=key_in_query))
    if scope not in caller.scopes:
        raise Forbidden(f"This API key lacks the scope {scope}.")
    return caller


def _token_in(request: web.Request, *, key_in_query: bool) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if token := request.headers.get("X-Api-Key", ""):
        return token
    if key_in_query and (token := request.query.get(KEY_PARAMETER, "")):
        return token
    raise Unauthenticated(
        "Send an API key in the header `X-Api-Key`, or in `Authorization` after `Bearer`."
    )
