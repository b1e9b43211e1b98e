"""When each key was last used, and from where: roughly, and never on a request's way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import MeshError
from shared.http.callers import Caller
from shared.ids import Name
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, every

log = structlog.get_logger(__name__)

#: A key that is used all the time is written so often.
_EVERY = timedelta(minutes=1)
#: Of a key that was removed nothing is left in the end.
_KEPT = timedelta(days=400)
#: Keys whose last write is remembered here.
_REMEMBERED = 10_000


class KeyUse(Document):
    """``key`` is ``tenant/name`` of an API key."""

    name: Name
    at: Instant
    #: As the server saw it: behind a proxy that it does not know, the proxy's.
    peer: str
    expires_at: Instant


KEY_USES: CollectionSpec[KeyUse] = CollectionSpec(
    name="gateway.key_uses", model=KeyUse, expires_by="expires_at"
)


class KeyUses:
    """What is not written when the process ends, or while the store is away, is lost."""

    def __init__(self, uses: Collection[KeyUse], clock: Clock) -> None:
        self._uses = uses
        self._clock = clock
        self._written: OrderedDict[str, datetime] = OrderedDict()
        self._waiting: dict[str, KeyUse] = {}
        self._writing: asyncio.Task[None] | None = None

    def touch(self, caller: Caller, peer: str) -> None:
        """At once: the write is behind."""
        key = f"{caller.home_tenant}/{caller.key_name}"
        now = self._clock.now()
        last = self._written.get(key)
        if last is not None and now - last < _EVERY:
            return
        self._written[key] = now
        self._written.move_to_end(key)
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
        self._waiting[key] = KeyUse(
            key=key,
            tenant=caller.home_tenant,
            name=caller.key_name,
            at=now,
            peer=peer[:64],
            expires_at=now + _KEPT,
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def of(self, tenant: str) -> dict[str, KeyUse]:
        """By the name of the key."""
        query = Find(equals={"tenant": tenant}, limit=500)
        return {use.name: use async for use in every(self._uses, query)}

    async def forget(self, tenant: str, name: str) -> None:
        """The key was removed."""
        key = f"{tenant}/{name}"
        self._waiting.pop(key, None)
        self._written.pop(key, None)
        await self._uses.delete(key)

    async def settle(self) -> None:
        """Returns when nothing waits to be written."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            _, use = self._waiting.popitem()
            try:
                await self._uses.put(use)
            except MeshError as error:
                log.debug("key_use_not_written", error=error.message)
