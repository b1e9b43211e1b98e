"""The sites as the services of one process see them: a snapshot in memory, kept current."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType

import structlog

from shared.clock import Clock
from shared.errors import MeshError, NotFound
from shared.site.documents import SiteDocument
from shared.site.models import Site
from shared.site.pbx import AsteriskPbx, Pbx
from shared.storage.port import Collection, Find, every

log = structlog.get_logger(__name__)


class SiteBook:
    """
    Reads of a snapshot never wait and never fail: while the store is away the last one holds,
    so calls are routed all the same.
    """

    def __init__(self, sites: Collection[SiteDocument], clock: Clock, *, poll: timedelta) -> None:
        self._sites = sites
        self._clock = clock
        self._poll = poll
        self._current: Mapping[str, Site] = MappingProxyType({})
        self._mark: tuple[object, ...] = ()
        self._changed = asyncio.Event()
        self.loaded = False

    @property
    def current(self) -> Mapping[str, Site]:
        """Tenant → site."""
        return self._current

    def site(self, tenant: str) -> Site | None:
        return self._current.get(tenant)

    def pbx(self, tenant: str, name: str) -> tuple[Site, Pbx]:
        """Raises: NotFound."""
        site = self._current.get(tenant)
        pbx = site.pbx_named(name) if site else None
        if site is None or pbx is None:
            raise NotFound(f"There is no PBX connection {name}.")
        return site, pbx

    def asterisks(self) -> Iterable[tuple[str, AsteriskPbx]]:
        """Every Asterisk of every tenant."""
        for tenant, site in self._current.items():
            for pbx in site.pbx:
                if isinstance(pbx, AsteriskPbx):
                    yield tenant, pbx

    async def refresh(self) -> bool:
        """Whether something changed. Raises: Unavailable."""
        newest = await self._sites.page(Find(order_by="changed_at", descending=True, limit=1))
        mark: tuple[object, ...] = (
            await self._sites.count(),
            *((d.key, d.version, d.changed_at) for d in newest.documents),
        )
        if self.loaded and mark == self._mark:
            return False
        documents = [document async for document in every(self._sites, Find(limit=100))]
        self._current = MappingProxyType({d.key: d.site for d in documents})
        self._mark = mark
        self.loaded = True
        log.info("site_loaded", tenants=len(self._current))
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def changed(self) -> None:
        """Returns when the next change has been read."""
        await self._changed.wait()

    async def watch(self) -> None:
        """Keep the snapshot current, for ever."""
        while True:
            await self._clock.sleep(self._poll)
            try:
                await self.refresh()
            except MeshError as error:
                log.warning("site_not_refreshed", error=error.message)
