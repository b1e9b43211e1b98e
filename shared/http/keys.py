"""The API keys of the mesh: made, believed, rotated, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import SecretStr

from shared.clock import Clock
from shared.errors import Conflict, NotFound, Unauthenticated, Unavailable
from shared.http.apikey import OF_OLD, ApiKey, Issued, caller_by, fingerprint
from shared.http.callers import Caller, Scope
from shared.http.users import ApiUser, user_key
from shared.ids import new_token
from shared.storage.port import (
    AnyOf,
    Collection,
    Find,
    Is,
    Op,
    every,
)

_FRESH = timedelta(seconds=5)
_STALE = timedelta(minutes=15)
#: The store's time, where there is an answer without it.
_WITHIN = timedelta(milliseconds=500)
#: Keys kept in memory.
_KEPT = 10_000

UNKNOWN = "This API key is not known, or no longer valid."


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey
    #: None: it is good for nothing, and *refusal* says why.
    caller: Caller | None
    refusal: str
    #: When the store said so, and when it was last asked.
    confirmed_at: datetime
    asked_at: datetime


class KeyBook:
    """
    A key that the store knew is believed for seconds without asking again, and for minutes while
    the store is away: a hook needs the broker alone. One that was revoked, and one whose user lost
    a right, is refused after those seconds, here at once.

    *users*: without them, no key that is a user's is good.
    """

    def __init__(
        self,
        keys: Collection[ApiKey],
        clock: Clock,
        *,
        users: Collection[ApiUser] | None = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._users = users
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
        user: ApiUser | None = None,
    ) -> SecretStr:
        """
        The only time that the token is seen. *token* sets one that was made elsewhere.

        Raises: Conflict when the tenant has a key of this name that has not ended.
        """
        secret = token or SecretStr(new_token("cm"))
        key = ApiKey(
            key=fingerprint(secret.get_secret_value()),
            tenant=tenant,
            name=name,
            scopes=scopes,
            extension=extension,
            user=user.name if user else None,
            user_id=user.user_id if user else None,
            created_at=self._clock.now(),
        ).ending(expires_at)
        try:
            await self._keys.add(key)
        except Conflict:
            old = await self._current(tenant, name)
            if old is None or not old.ended(self._clock.now()):
                raise
            await self._drop(old)
            await self._keys.add(key)
        return secret

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """Those that have ended too, for a while; without tokens that were replaced."""
        return [key for key in await self.every_token(tenant) if not key.is_old]

    async def every_token(self, tenant: str, name: str | None = None) -> Sequence[ApiKey]:
        """Of one key, or of all, by name; tokens of before too."""
        of_name = (Is("name", Op.EQ, name), Is("name", Op.BEGINS, f"{name}{OF_OLD}"))
        query = Find(
            equals={"tenant": tenant},
            where=AnyOf(of_name) if name is not None else None,
            order_by="name",
        )
        return [key async for key in every(self._keys, query)]

    async def fetch(self, tenant: str, name: str) -> ApiKey:
        """Raises: NotFound."""
        found = await self._current(tenant, name)
        if found is None:
            raise NotFound(f"Tenant {tenant} has no API key {name}.")
        return found

    async def rotate(
        self, *, tenant: str, name: str, overlap: timedelta, expires_at: datetime | None
    ) -> Issued:
        """
        A new token at once, which ends at *expires_at*; those of before are good for *overlap*.

        What broke off in the middle leaves a token good, and is mended by rotating again.

        Raises: NotFound; Conflict when somebody else rotates it.
        """
        tokens = await self.every_token(tenant, name)
        if not tokens:
            raise NotFound(f"Tenant {tenant} has no API key {name}.")
        # Where it broke off, none has the name: the youngest had it.
        old = max(tokens, key=lambda key: (not key.is_old, key.rotated_at or key.created_at))
        if not old.is_old:
            old = await self._keys.replace(
                old.model_copy(update={"name": f"{name}{OF_OLD}{old.key[:12]}"})
            )
        now = self._clock.now()
        secret = SecretStr(new_token("cm"))
        new = old.model_copy(
            update={
                "key": fingerprint(secret.get_secret_value()),
                "name": name,
                "version": 0,
                "rotated_at": now,
            }
        ).ending(expires_at)
        await self._keys.add(new)
        if await self._is_gone(old):
            # Revoked meanwhile: who did that has seen to it that no token is left.
            await self._drop(new)
            raise NotFound(f"Tenant {tenant} has no API key {name}.")
        for before in await self.every_token(tenant, name):
            if before.is_old:
                await self._end(before, now + overlap)
        return Issued(secret, new)

    async def revoke(self, *, tenant: str, name: str) -> None:
        """Every token of it. Raises: NotFound."""
        found = await self.every_token(tenant, name)
        if not found:
            raise NotFound(f"Tenant {tenant} has no API key {name}.")
        while found:
            for key in found:
                await self._drop(key)
            # Who rotated it meanwhile has made another, and looks no more.
            found = await self.every_token(tenant, name)

    def forget_user(self, tenant: str, user: str) -> None:
        """What is known of a user's keys is asked again at their next request."""
        for known in list(self._known.values()):
            if (known.key.tenant, known.key.user) == (tenant, user):
                del self._known[known.key.key]

    def knows(self, token: str) -> bool:
        """Whether it was good when it was last heard of here: the store is not asked."""
        known = self._known.get(fingerprint(token))
        return known is not None and known.caller is not None

    async def caller(self, token: str) -> Caller:
        """
        Raises: Unauthenticated, with ``tenant`` and ``key_name`` among its details where the key
        is one that has ended, or whose user may not; Unavailable.
        """
        return self._good(await self._found(fingerprint(token)))

    async def again(self, caller: Caller) -> Caller:
        """
        Who *caller* is now, by the token that he came with, in the same tenant: for what lasts
        longer than a request.

        Raises: Unauthenticated; Unavailable.
        """
        if caller.token is None:
            raise Unauthenticated(UNKNOWN)
        now = self._good(await self._found(caller.token))
        if caller.home is not None:
            if not now.is_operator:
                raise Unauthenticated("This API key is no operator's any more.")
            return now.model_copy(update={"tenant": caller.tenant, "home": caller.home})
        return now

    def _good(self, known: _Known) -> Caller:
        ended = known.key.ended(self._clock.now())
        if known.caller is None or ended:
            refusal = known.refusal
            if ended:
                refusal = f"This API key ended on {known.key.expires_at:%Y-%m-%d %H:%M} UTC."
            raise Unauthenticated(refusal, tenant=known.key.tenant, key_name=known.key.called)
        return known.caller

    async def _found(self, key: str) -> _Known:
        now = self._clock.now()
        known = self._known.get(key)
        if known is not None and now - known.confirmed_at > _STALE:
            known = None
        if known is None or now - known.asked_at >= _FRESH:
            known = await self._asked(key, known, now)
        # To the end of the line: what goes first was not used for longest.
        self._known.pop(key, None)
        self._known[key] = known
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return known

    async def _asked(self, key: str, known: _Known | None, now: datetime) -> _Known:
        try:
            async with asyncio.timeout(_WITHIN.total_seconds() if known else None):
                return await self._read(await self._keys.get(key), now)
        except NotFound:
            self._known.pop(key, None)
            raise Unauthenticated(UNKNOWN) from None
        except (Unavailable, TimeoutError):
            if known is None:
                raise
            return replace(known, asked_at=now)

    async def _read(self, key: ApiKey, now: datetime) -> _Known:
        user: ApiUser | None = None
        refusal = ""
        if key.user is not None:
            user = await self._user_of(key)
            if user is None:
                refusal = "The user of this API key was removed."
            elif user.disabled:
                refusal = "The user of this API key is disabled."
        caller = None if refusal else caller_by(key, user)
        return _Known(key, caller, refusal, confirmed_at=now, asked_at=now)

    async def _user_of(self, key: ApiKey) -> ApiUser | None:
        if self._users is None or key.user is None:
            return None
        try:
            user = await self._users.get(user_key(key.tenant, key.user))
        except NotFound:
            return None
        return user if user.user_id == key.user_id else None

    async def _current(self, tenant: str, name: str) -> ApiKey | None:
        page = await self._keys.page(Find(equals={"tenant": tenant, "name": name}, limit=1))
        return page.documents[0] if page.documents else None

    async def _is_gone(self, key: ApiKey) -> bool:
        try:
            await self._keys.get(key.key)
        except NotFound:
            return True
        return False

    async def _end(self, old: ApiKey, at: datetime) -> None:
        """At once, where *at* is now."""
        if at <= self._clock.now():
            await self._drop(old)
        elif old.expires_at is None or old.expires_at > at:
            # Gone or changed meanwhile: by who revokes it, or rotates it too, and ends it himself.
            with suppress(NotFound, Conflict):
                await self._keys.replace(old.ending(at))
            self._known.pop(old.key, None)

    async def _drop(self, key: ApiKey) -> None:
        await self._keys.delete(key.key)
        self._known.pop(key.key, None)
