"""The routing rules as the services of one process see them: unread documents, kept current."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from types import MappingProxyType

import structlog

from shared.clock import Clock
from shared.errors import MeshError
from shared.site.documents import RuleDocument
from shared.storage.port import Collection, Find, every

__all__ = ["RuleBook", "RuleDocument"]

log = structlog.get_logger(__name__)

#: A rule may have eight megabytes, and a page of them has to come within the store's time for a call.
_PAGE = 4
_DIGITS = 12


class RuleBook:
    """
    Reads never wait and never fail: while the store is away what was there last holds.

    Every change of a rule, over all tenants, has a later :attr:`serial` than the one before, which
    can be read by then, and a deletion is a change like others. So reading on from the last one
    misses none, whatever clocks say, and reads nothing twice.
    """

    def __init__(self, rules: Collection[RuleDocument], clock: Clock, *, poll: timedelta) -> None:
        self._rules = rules
        self._clock = clock
        self._poll = poll
        self._known: dict[str, RuleDocument] = {}
        self._current: Mapping[str, Mapping[str, RuleDocument]] = MappingProxyType({})
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last: RuleDocument | None = None
        self.loaded = False

    @property
    def serial(self) -> int:
        """Of the last change that was read."""
        return int(self._last.serial) if self._last is not None else 0

    @property
    def current(self) -> Mapping[str, Mapping[str, RuleDocument]]:
        """Tenant → name of the rule → its document."""
        return self._current

    def of(self, tenant: str) -> Mapping[str, RuleDocument]:
        return self._current.get(tenant, MappingProxyType({}))

    def last(self, tenant: str, name: str) -> RuleDocument | None:
        """Also of a rule that was deleted."""
        return self._known.get(key_of(tenant, name))

    def numbers(self, tenant: str) -> Mapping[str, int]:
        """Version of each of the tenant's rules by its name, also of those that were deleted."""
        return {one.name: one.number for one in self._known.values() if one.tenant == tenant}

    def dids(self, tenant: str) -> tuple[str, ...]:
        """All numbers of the tenant's rules, as they are written there."""
        return tuple(did for document in self.of(tenant).values() for did in document.dids)

    async def refresh(self) -> bool:
        """Whether something changed. Raises: Unavailable."""
        async with self._reading:
            changed = {document.key: document async for document in self._after(self.serial)}
            known = self._known | changed
            if await self._is_another(known, changed):
                # Not by us: a backup was played back, or somebody deleted by hand.
                known = changed = {document.key: document async for document in self._after(0)}
            elif self.loaded and not changed:
                return False
            self._take(known)
            log.info("rules_loaded", changed=len(changed), rules=len(known))
            return True

    async def changed(self) -> None:
        """Returns when the next change has been read."""
        await self._changed.wait()

    async def watch(self) -> None:
        """Keep the book current, for ever."""
        while True:
            await self._clock.sleep(self._poll)
            try:
                await self.refresh()
            except MeshError as error:
                log.warning("rules_not_refreshed", error=error.message)

    def _after(self, serial: int) -> AsyncIterator[RuleDocument]:
        since = {"serial": serial_text(serial + 1)}
        return every(self._rules, Find(since=since, order_by="serial", limit=_PAGE))

    async def _is_another(
        self, known: Mapping[str, RuleDocument], changed: Mapping[str, RuleDocument]
    ) -> bool:
        """Whether the store is not the one that was read before."""
        if await self._rules.count() != len(known):
            return True
        last = self._last
        if last is None or last.key in changed:
            return False
        return not await self._rules.count(serial=last.serial, changed_at=last.changed_at)

    def _take(self, known: dict[str, RuleDocument]) -> None:
        tenants: dict[str, dict[str, RuleDocument]] = defaultdict(dict)
        for document in sorted(known.values(), key=lambda document: document.name):
            if not document.deleted:
                tenants[document.tenant][document.name] = document
        self._known = known
        self._current = MappingProxyType(
            {tenant: MappingProxyType(rules) for tenant, rules in tenants.items()}
        )
        self._last = max(known.values(), key=lambda document: document.serial, default=None)
        self.loaded = True
        self._changed.set()
        self._changed = asyncio.Event()


def key_of(tenant: str, name: str) -> str:
    return f"{tenant}/{name}"


def serial_text(serial: int) -> str:
    """Texts that sort as the numbers do: unique indexes are over texts."""
    return f"{serial:0{_DIGITS}d}"
