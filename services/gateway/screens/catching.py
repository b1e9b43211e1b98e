"""What went on before this process heard of it, out of the journal: a restart loses no open pop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.gateway.domain.events import AgentEventKind
from services.gateway.domain.rebuilding import events_in
from services.gateway.domain.telling import CARD_STAYS
from services.gateway.screens.rules import SiteRules
from services.gateway.screens.seen import SeenPops
from services.gateway.screens.streams import Screens
from shared.bus.port import Requester
from shared.clock import Clock
from shared.contracts.calls import CallPage, CallRecord
from shared.contracts.columns import Operator
from shared.contracts.contacts import ContactUnknown
from shared.contracts.history import MAX_ROWS, CallFilter, FindCalls, WhichCalls
from shared.contracts.screens import PopSeen
from shared.errors import MeshError
from shared.moments import to_text
from shared.site.book import SiteBook
from shared.site.telling import PopMoment

log = structlog.get_logger(__name__)

#: A screen that connects waits so long for it; what comes later is told then.
_WAITED_FOR = timedelta(seconds=2)
_ASKED_WITHIN = timedelta(seconds=5)
_LOOKS = timedelta(seconds=1)
#: Looks between tries, where the journal does not answer.
_TRIES_EVERY = 5
#: Looks between those at calls of which nothing was heard for long: their end may have been lost.
_TENDS_EVERY = 30
_SILENT = timedelta(minutes=2)
#: The bus keeps a process's live copies for a minute while that is cut off.
_KEPT_BY_BUS = timedelta(seconds=45)
_MOST_CALLS = 2_000
#: What screens are told of a call that is over.
_OVER = frozenset({AgentEventKind.CLOSED, AgentEventKind.POP})
_NOTHING: frozenset[AgentEventKind] = frozenset()


@dataclass(slots=True)
class CatchingUp:
    """``caught_up`` before a tenant's first screen is shown; ``run`` for as long as the process."""

    screens: Screens
    rules: SiteRules
    seen: SeenPops
    requester: Requester
    site: SiteBook
    clock: Clock
    #: Whether every live copy comes.
    bus_ready: Callable[[], Awaitable[bool]]
    _reading: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _deaf_since: datetime | None = None

    async def caught_up(self, tenant: str) -> None:
        reading = self._read(tenant)
        if not reading.done():
            await asyncio.wait({reading}, timeout=_WAITED_FOR.total_seconds())

    async def run(self) -> None:
        heard_until, looks = self.clock.now(), 0
        while True:
            await self.clock.sleep(_LOOKS)
            looks += 1
            if await self._hears():
                if self._deaf_since is not None:
                    self._is_back()
                heard_until = self.clock.now()
            elif self._deaf_since is None:
                self._deaf_since = heard_until
                self.screens.hears(until=heard_until)
            followed = self.screens.tenants_followed()
            for tenant in followed if looks % _TRIES_EVERY == 0 else ():
                _ = self._read(tenant)
            if looks % _TENDS_EVERY == 0:
                for tenant in followed:
                    await self._tend(tenant)

    async def close(self) -> None:
        for reading in self._reading.values():
            reading.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    async def _hears(self) -> bool:
        try:
            return await self.bus_ready()
        except MeshError:
            return False

    def _is_back(self) -> None:
        """What ended meanwhile, and what began, is read again."""
        now, since = self.clock.now(), self._deaf_since
        if since is not None and now - since >= _KEPT_BY_BUS:
            self.screens.missed_something()
        self._deaf_since = None
        self.screens.hears(until=None)
        for tenant, reading in list(self._reading.items()):
            if reading.done():
                del self._reading[tenant]

    def _read(self, tenant: str) -> asyncio.Task[None]:
        """Once, and again where it failed."""
        reading = self._reading.get(tenant)
        if reading is None or (reading.done() and (reading.cancelled() or reading.exception())):
            reading = self._reading[tenant] = asyncio.create_task(self._catch_up(tenant))
        return reading

    async def _catch_up(self, tenant: str) -> None:
        """Raises: MeshError."""
        try:
            async for pop in self.seen.of_tenant(tenant):
                told = PopSeen(
                    call_id=pop.call_id,
                    extension=pop.extension,
                    seen=pop.seen,
                    pop_id=pop.pop_id,
                )
                now = self.clock.now()
                self.screens.take(tenant, told, at=pop.at, now=now, only=_NOTHING)
            for which in self._wanted(tenant):
                await self._take_all(tenant, which)
            await self._take_silent(tenant, self.clock.now())
        except MeshError as error:
            log.warning("screens_not_caught_up", tenant=tenant, error=error.message)
            raise

    def _wanted(self, tenant: str) -> list[WhichCalls]:
        under_way = CallFilter(field="ended_at", operator=Operator.IS_NULL, value=True)
        found = [WhichCalls(filter=under_way)]
        site = self.site.site(tenant)
        if site and any(crm.popup.moment is PopMoment.ENDED for crm in site.crm):
            since = to_text(self.clock.now() - CARD_STAYS)
            ended = CallFilter(field="ended_at", operator=Operator.GE, value=since)
            found.append(WhichCalls(filter=ended))
        return found

    async def _tend(self, tenant: str) -> None:
        try:
            await self._take_silent(tenant, self.clock.now() - _SILENT)
        except MeshError as error:
            log.info("silent_calls_not_asked_for", tenant=tenant, error=error.message)

    async def _take_silent(self, tenant: str, since: datetime) -> None:
        """Calls on screens whose end was not heard."""
        silent = self.screens.board.silent_calls(tenant, since=since)[:_MOST_CALLS]
        for begin in range(0, len(silent), MAX_ROWS):
            which = WhichCalls(call_ids=tuple(silent[begin : begin + MAX_ROWS]))
            await self._take_all(tenant, which)

    async def _take_all(self, tenant: str, which: WhichCalls) -> None:
        """In the order in which they began."""
        found: list[CallRecord] = []
        cursor: str | None = None
        while len(found) < _MOST_CALLS:
            page: CallPage = await self.requester.request(
                FindCalls(which=which, limit=MAX_ROWS, cursor=cursor),
                within=_ASKED_WITHIN,
                tenant=tenant,
            )
            found += page.calls
            cursor = page.next_cursor
            if cursor is None:
                break
        for call in reversed(found):
            await self._take(tenant, call)

    async def _take(self, tenant: str, call: CallRecord) -> None:
        only = _OVER if call.ended_at is not None else None
        for body, at in events_in(call):
            if isinstance(body, ContactUnknown):
                name = call.caller.name if call.caller else None
                await self.rules.prepare(tenant, body.number, name)
            now = self.clock.now()
            # The PBX's clock may be ahead of ours; what comes live is newer all the same.
            moment = min(at, now)
            self.screens.take(tenant, body, at=moment, now=now, was_live=False, only=only)
