"""
Users of the API and their keys, changed by one who is himself one of them: nobody hands on what he
has not, and nobody touches who has more than he.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from services.gateway.access.wanted import (
    Draft,
    KeyHeld,
    Terms,
    check_phone,
    extension_for,
    makes_keys,
    use_of,
)
from shared.clock import Clock
from shared.errors import Conflict, ContractError, Forbidden, NotFound
from shared.http.apikey import LONGEST_LIFE, ApiKey, Issued
from shared.http.callers import Caller, Scope, in_words
from shared.http.keys import KeyBook
from shared.http.users import ApiUser, user_key
from shared.http.uses import KeyUses
from shared.ids import new_id
from shared.storage.port import Collection, Find, every

#: Of one tenant, and keys of one user.
MOST_USERS = 2000
MOST_KEYS = 50


class AccessDesk:
    def __init__(
        self, users: Collection[ApiUser], keys: KeyBook, uses: KeyUses, clock: Clock
    ) -> None:
        self._users = users
        self._keys = keys
        self._uses = uses
        self._clock = clock

    async def users(self, tenant: str) -> Sequence[ApiUser]:
        query = Find(equals={"tenant": tenant}, order_by="name", limit=500)
        return [user async for user in every(self._users, query)]

    async def user(self, tenant: str, name: str) -> ApiUser:
        """Raises: NotFound."""
        try:
            return await self._users.get(user_key(tenant, name))
        except NotFound:
            raise NotFound(f"There is no user {name}.") from None

    async def put_user(
        self,
        caller: Caller,
        name: str,
        draft: Draft,
        *,
        only_if: Callable[[ApiUser | None], None],
        confirmed: bool = False,
    ) -> ApiUser:
        """
        *only_if* is asked with what is there. *confirmed*: also where nobody could make keys then.

        Raises: Forbidden, ContractError, Conflict, and what *only_if* raises.
        """
        there = await self._users_document(caller.tenant, name)
        only_if(there)
        if there is not None:
            caller.may_hand_on(there.scopes, extension=there.extension)
        caller.may_hand_on(draft.scopes, extension=draft.extension)
        check_phone(draft.scopes, draft.extension)
        is_new_rate = draft.rate != (there.rate if there else None)
        if is_new_rate and Scope.TENANTS_WRITE not in caller.scopes:
            raise Forbidden("body.rate: the operator sets it, for it is about all tenants.")
        wanted = self._user(caller.tenant, name, draft, there)
        if not confirmed and makes_keys(there) and not makes_keys(wanted):
            await self._leaves_a_way_in(caller, user=wanted)
        stored = await self._store(wanted, there)
        self._keys.forget_user(caller.tenant, name)
        return stored

    async def delete_user(
        self,
        caller: Caller,
        name: str,
        *,
        only_if: Callable[[ApiUser | None], None],
        confirmed: bool = False,
    ) -> ApiUser:
        """With all his keys. Raises: NotFound, Forbidden, Conflict, and what *only_if* raises."""
        user = await self.user(caller.tenant, name)
        only_if(user)
        caller.may_hand_on(user.scopes, extension=user.extension)
        if not confirmed and makes_keys(user):
            gone = user.model_copy(update={"disabled": True})
            await self._leaves_a_way_in(caller, user=gone)
        # First: without him no key of his is good, whatever becomes of the rest.
        await self._users.delete(user.key)
        self._keys.forget_user(caller.tenant, name)
        for key in await self._keys.list(caller.tenant):
            if key.user == name:
                with suppress(NotFound):
                    await self._keys.revoke(tenant=caller.tenant, name=key.called)
                await self._uses.forget(caller.tenant, key.called)
        return user

    async def remove_all(self, tenant: str) -> None:
        """Every user and key of a tenant that is no more."""
        for user in await self.users(tenant):
            await self._users.delete(user.key)
            self._keys.forget_user(tenant, user.name)
        for name in {key.called for key in await self._keys.every_token(tenant)}:
            with suppress(NotFound):
                await self._keys.revoke(tenant=tenant, name=name)
            await self._uses.forget(tenant, name)

    async def keys(self, tenant: str, user: str | None = None) -> Sequence[KeyHeld]:
        """All of the tenant's, or those of one user. Raises: NotFound for a user."""
        if user is not None:
            await self.user(tenant, user)
        uses = await self._uses.of(tenant)
        now = self._clock.now()
        old_until: dict[str, datetime] = {}
        tokens = await self._keys.every_token(tenant)
        for token in tokens:
            if token.is_old and token.expires_at is not None and token.expires_at > now:
                known = old_until.get(token.called, token.expires_at)
                old_until[token.called] = max(known, token.expires_at)
        return [
            KeyHeld(key, use_of(key, uses), old_until.get(key.called))
            for key in tokens
            if not key.is_old and (user is None or key.user == user)
        ]

    async def issue(self, caller: Caller, user_name: str, name: str, terms: Terms) -> Issued:
        """Raises: NotFound, Forbidden, ContractError, Conflict."""
        user = await self.user(caller.tenant, user_name)
        caller.may_hand_on(user.scopes, extension=user.extension)
        extension = extension_for(user, terms.extension)
        scopes = frozenset(user.scopes) if terms.scopes is None else terms.scopes
        if lacking := scopes - frozenset(user.scopes):
            raise Forbidden(f"The user {user.name} lacks: {in_words(lacking)}.")
        caller.may_hand_on(scopes, extension=extension)
        check_phone(scopes, extension)
        self._check_end(terms.expires_at)
        held = [key for key in await self._keys.list(caller.tenant) if key.user == user.name]
        if len(held) >= MOST_KEYS:
            raise Conflict(f"The user {user.name} has {MOST_KEYS} keys; revoke one first.")
        try:
            token = await self._keys.issue(
                tenant=caller.tenant,
                name=name,
                scopes=tuple(sorted(scopes)),
                extension=extension,
                expires_at=terms.expires_at,
                user=user,
            )
        except Conflict:
            raise Conflict(
                f"There is a key {name}; revoke or rotate it, or take another name."
            ) from None
        return Issued(token, await self._keys.fetch(caller.tenant, name))

    async def rotate(
        self,
        caller: Caller,
        name: str,
        *,
        user: str | None,
        overlap: timedelta,
        expires_at: datetime | None,
    ) -> Issued:
        """
        Without *expires_at* the new token lives as long as the last was made to.

        Raises: NotFound, Forbidden, ContractError, Conflict.
        """
        key = await self._touchable(caller, name, user=user)
        self._check_end(expires_at)
        if expires_at is None and key.expires_at is not None:
            lifetime = key.expires_at - (key.rotated_at or key.created_at)
            expires_at = self._clock.now() + min(lifetime, LONGEST_LIFE)
        try:
            return await self._keys.rotate(
                tenant=caller.tenant, name=name, overlap=overlap, expires_at=expires_at
            )
        except Conflict:
            raise Conflict(
                f"Somebody rotates the key {name} just now; look, then ask again."
            ) from None

    async def revoke(
        self, caller: Caller, name: str, *, user: str | None, confirmed: bool
    ) -> ApiKey:
        """*user* None: whoever's it is. Raises: NotFound, Forbidden, Conflict."""
        key = await self._touchable(caller, name, user=user)
        if not confirmed and Scope.KEYS_WRITE in key.scopes:
            await self._leaves_a_way_in(caller, revoked=key.called)
        await self._keys.revoke(tenant=caller.tenant, name=key.called)
        await self._uses.forget(caller.tenant, key.called)
        return key

    async def _touchable(self, caller: Caller, name: str, *, user: str | None) -> ApiKey:
        """A key of *user*'s, or of anybody's, that *caller* may rotate and revoke."""
        missing = NotFound(f"There is no key {name}{f' of {user}' if user else ''}.")
        tokens = await self._keys.every_token(caller.tenant, name)
        if not tokens or (user is not None and tokens[0].user != user):
            raise missing
        # What is written in it, also where its user may less just now: he may get it back.
        for key in tokens:
            caller.may_hand_on(key.scopes, extension=key.extension)
        owner = await self._users_document(caller.tenant, tokens[0].user or "")
        if owner is not None:
            caller.may_hand_on(owner.scopes, extension=owner.extension)
        return next((key for key in tokens if not key.is_old), tokens[0])

    async def _users_document(self, tenant: str, name: str) -> ApiUser | None:
        try:
            return await self._users.get(user_key(tenant, name))
        except NotFound:
            return None

    def _user(self, tenant: str, name: str, draft: Draft, there: ApiUser | None) -> ApiUser:
        now = self._clock.now()
        return ApiUser(
            key=user_key(tenant, name),
            tenant=tenant,
            version=there.version if there else 0,
            name=name,
            user_id=there.user_id if there else str(new_id()),
            title=draft.title,
            email=draft.email,
            scopes=tuple(sorted(draft.scopes)),
            extension=draft.extension,
            disabled=draft.disabled,
            rate=draft.rate,
            created_at=there.created_at if there else now,
            changed_at=now,
        )

    async def _store(self, wanted: ApiUser, there: ApiUser | None) -> ApiUser:
        try:
            if there is not None:
                return await self._users.replace(wanted)
            if await self._users.count(tenant=wanted.tenant) >= MOST_USERS:
                raise Conflict(f"There are {MOST_USERS} users; remove one first.")
            await self._users.add(wanted)
        except NotFound:
            raise Conflict(f"The user {wanted.name} was removed meanwhile.") from None
        return wanted

    async def _leaves_a_way_in(
        self, caller: Caller, *, user: ApiUser | None = None, revoked: str | None = None
    ) -> None:
        """Whether somebody can make keys once *user* is so, or a key is gone. Raises: Conflict."""
        if caller.home is not None:
            return  # an operator has his own way in
        users = {one.name: one for one in await self.users(caller.tenant)}
        if user is not None:
            users[user.name] = user
        now = self._clock.now()
        for key in await self._keys.list(caller.tenant):
            owner = users.get(key.user) if key.user else None
            is_good = key.user is None or (
                owner is not None and owner.user_id == key.user_id and makes_keys(owner)
            )
            if (
                is_good
                and key.called != revoked
                and not key.ended(now)
                and Scope.KEYS_WRITE in key.scopes
            ):
                return
        raise Conflict(
            "Then no API key of this tenant has keys:write, and only the operator can make one. To "
            "do it all the same, say the name again: ?confirm=NAME."
        )

    def _check_end(self, expires_at: datetime | None) -> None:
        if expires_at is None:
            return
        now = self._clock.now()
        if expires_at <= now:
            raise ContractError("body.expires_at: that is over already")
        if expires_at > now + LONGEST_LIFE:
            raise ContractError(
                f"body.expires_at: at most {LONGEST_LIFE.days} days from now; for longer, give no end"
            )
