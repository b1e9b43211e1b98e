"""The PBXs that orders go to: one switchboard each, as the site says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.dialing import DialReason
from shared.errors import BadSetting, Unavailable
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, Switchboard
from shared.site.adapters import Adapters, PbxSettings
from shared.site.book import SiteBook
from shared.site.following import run_for_each
from shared.site.models import Site
from shared.site.pbx import Pbx

log = structlog.get_logger(__name__)

#: A switchboard that failed by a fault of ours begins anew after so long.
_AFTER_A_FAULT = timedelta(seconds=10)

#: Tenant, PBX, the order's reference, and why the PBX could not carry it out after all.
OnRefusal = Callable[[str, str, str, DialReason], Awaitable[None]]


class Switchboards:
    def __init__(
        self, site: SiteBook, adapters: Adapters, *, clock: Clock, on_refusal: OnRefusal
    ) -> None:
        self._site = site
        self._clock = clock
        self._adapters = adapters
        self._on_refusal = on_refusal
        self._boards: dict[tuple[str, str], Switchboard] = {}

    async def run(self) -> None:
        """For ever."""
        await run_for_each(self._site, self._wanted, self._keep)

    async def dial(
        self, tenant: str, pbx: str, order: DialRequest, *, within: timedelta
    ) -> DialReceipt:
        """Raises as :meth:`Switchboard.dial`."""
        return await self._board(tenant, pbx).dial(order, within=within)

    async def hang_up(self, tenant: str, pbx: str, call: HangUp, *, within: timedelta) -> None:
        """Raises as :meth:`Switchboard.hang_up`."""
        await self._board(tenant, pbx).hang_up(call, within=within)

    async def set_status(
        self,
        tenant: str,
        pbx: str,
        agent: AgentAt,
        status: AgentStatus,
        *,
        own: str | None,
        within: timedelta,
    ) -> None:
        """Raises as :meth:`Switchboard.set_status`."""
        await self._board(tenant, pbx).set_status(agent, status, own=own, within=within)

    def takes_orders(self, site: Site, pbx: Pbx) -> bool:
        """Whether the PBX is of a kind that does, and can be used."""
        try:
            return self._adapters.of(site, pbx).switchboard is not None
        except BadSetting:
            return False

    def board(self, tenant: str, pbx: str) -> Switchboard:
        """Also while it has no connection. Raises: Unavailable before it is set up."""
        board = self._boards.get((tenant, pbx))
        if board is None:
            raise Unavailable(f"PBX {pbx} is not set up yet")
        return board

    def _board(self, tenant: str, pbx: str) -> Switchboard:
        board = self._boards.get((tenant, pbx))
        fault = "not set up yet" if board is None else board.fault
        if board is None or fault is not None:
            raise Unavailable(f"no connection to PBX {pbx}: {fault}", sent=False)
        return board

    def _wanted(self) -> dict[tuple[str, str], PbxSettings]:
        return self._adapters.wanted(self._site)

    async def _keep(self, key: tuple[str, str], settings: PbxSettings) -> None:
        tenant, name = key
        structlog.contextvars.bind_contextvars(service="dialer", tenant=tenant, pbx=name)
        make = self._adapters.make(tenant, name, settings).switchboard
        if make is None:
            await asyncio.Event().wait()  # this kind takes no orders
            return

        async def on_refusal(reference: str, reason: DialReason) -> None:
            await self._on_refusal(tenant, name, reference, reason)

        while True:
            board = self._boards[key] = make()
            try:
                await board.run(on_refusal)
            except Exception:
                # What one PBX answered must not end the orders to all others.
                log.exception("switchboard_failed")
            finally:
                del self._boards[key]
            await self._clock.sleep(_AFTER_A_FAULT)
