"""Telephony modules that the site does not want any more are switched off in the CRM, once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.lookup.module_book import ModuleBook, ModuleDocument, Registered
from services.lookup.module_told import module_of, telephony_of
from shared.clock import Clock
from shared.crm.connections import CrmConnections
from shared.errors import BadSetting, MeshError
from shared.observe.logging import mask_text
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickAddresses, ClickLinks
from shared.site.models import CrmConnection

log = structlog.get_logger(__name__)

_SWEEP = timedelta(minutes=1)
#: One request, and it with time to note what became of it.
_WITHIN, _LEASE = timedelta(seconds=20), timedelta(minutes=1)
#: For so long it is tried.
_OFF_WITHIN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class ModuleSweeper:
    connections: CrmConnections
    site: SiteBook
    book: ModuleBook
    links: ClickLinks
    clock: Clock

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.sweep()
            except MeshError as error:
                log.warning("modules_not_looked_through", error=error.message)
            await self._waited()

    async def sweep(self) -> None:
        """All that is registered and not wanted, however long ago it was. Raises: Unavailable."""
        if not self.site.loaded:
            return
        unwanted = [one async for one in self.book.all() if self._is_unwanted(one)]
        if unwanted:
            # What this process knows of the sites may be older than what is registered.
            await self.site.refresh()
        for document in unwanted:
            if self._is_unwanted(document):
                await self._end(document)

    async def _waited(self) -> None:
        """A while, or until the site changes."""
        waiting = [
            asyncio.create_task(self.clock.sleep(_SWEEP)),
            asyncio.create_task(self.site.changed()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def switch_off(
        self, mine: ModuleDocument, there: Registered, addresses: ClickAddresses
    ) -> None:
        """As it was registered, but not active. Raises: MeshError."""
        # A connector of its own: that of the connection may be one of another account by now.
        connector = self.connections.open(there.account(mine.tenant, mine.connection))
        telephony = telephony_of(connector)
        if telephony is None:
            return
        module = module_of(
            there.policy, addresses, codes=dict(there.codes), shops=dict(there.shops), active=False
        )
        await telephony.register_module(module, within=_WITHIN)
        log.info(
            "module_switched_off",
            tenant=mine.tenant,
            connection=mine.connection,
            code=there.policy.code,
        )

    def _is_unwanted(self, document: ModuleDocument) -> bool:
        crm = self._crm_of(document)
        return document.registered is not None and not (crm and crm.telephony.registered)

    def _crm_of(self, document: ModuleDocument) -> CrmConnection | None:
        site = self.site.site(document.tenant)
        return site.crm_named(document.connection) if site else None

    async def _end(self, document: ModuleDocument) -> None:
        now = self.clock.now()
        if document.fault and document.again_at is not None and now < document.again_at:
            return
        mine = await self.book.claim(document.tenant, document.connection, lease=_LEASE)
        if mine is None:
            return
        there, addresses = mine.registered, self.links.addresses(mine.tenant, mine.connection)
        if there is not None:
            try:
                if addresses is None:
                    raise BadSetting("CALLMESH_PUBLIC_URL: it is not set any more")
                await self.switch_off(mine, there, addresses)
            except MeshError as error:
                fault = mask_text(error.message)
                fault = addresses.taken_out_of(fault) if addresses else fault
                if mine.failed_at is None or now - mine.failed_at < _OFF_WITHIN:
                    log.warning("module_not_switched_off", connection=mine.connection, error=fault)
                    await self.book.failed(mine, fault)
                    return
                log.error(  # noqa: TRY400  no traceback
                    "module_left_registered",
                    tenant=mine.tenant,
                    connection=mine.connection,
                    code=there.policy.code,
                    error=fault,
                )
        if self._crm_of(mine) is None:
            await self.book.forget(mine)
        else:
            await self.book.fine(mine, registered=None, differs=(), unknown=())
