"""All that the agents' screens need, together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from services.gateway.screens.catching import CatchingUp
from services.gateway.screens.following import Following, Wants
from services.gateway.screens.rules import SiteRules
from services.gateway.screens.seen import SEEN_POPS, SeenPops
from services.gateway.screens.streams import Screens
from shared.bus.publisher import ServicePublisher
from shared.clock import Clock
from shared.contracts.calls import CallAnswered, CallRinging, CallStarted
from shared.contracts.contacts import ContactUnknown
from shared.contracts.envelope import Message
from shared.crm.connections import CrmConnections
from shared.http.tickets import Tickets
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook
from shared.storage.port import DocumentStore


@dataclass(frozen=True, slots=True)
class ScreenDesk:
    """``run`` for as long as the process; ``close`` at its end."""

    screens: Screens
    rules: SiteRules
    seen: SeenPops
    catching: CatchingUp
    tickets: Tickets
    site: SiteBook
    clock: Clock

    @classmethod
    def over(
        cls,
        store: DocumentStore,
        *,
        site: SiteBook,
        connections: CrmConnections,
        publisher: ServicePublisher,
        tickets: Tickets,
        clock: Clock,
        metrics: Metrics,
        bus_ready: Callable[[], Awaitable[bool]],
        ask_within: timedelta,
    ) -> ScreenDesk:
        rules = SiteRules(site, connections, clock)
        screens = Screens(rules, clock, metrics)
        seen = SeenPops(
            pops=store.collection(SEEN_POPS),
            screens=screens,
            publisher=publisher,
            requester=publisher,
            clock=clock,
            ask_within=ask_within,
        )
        catching = CatchingUp(
            screens=screens,
            rules=rules,
            seen=seen,
            requester=publisher,
            site=site,
            clock=clock,
            bus_ready=bus_ready,
        )
        return cls(screens, rules, seen, catching, tickets, site, clock)

    async def take(self, message: Message[Any]) -> None:
        """A live copy of an event."""
        body, tenant = message.body, message.tenant
        if self._is_of_another_phone(tenant, body):
            return
        if isinstance(body, ContactUnknown):
            name = self.screens.board.caller_name(tenant, body.call_id)
            await self.rules.prepare(tenant, body.number, name)
        self.screens.take(tenant, body, at=message.occurred_at, now=self.clock.now())

    async def follow(self, tenant: str, wants: Wants, last_id: str | None) -> Following:
        """What there is now and what comes; with *last_id* what came after it."""
        await self.catching.caught_up(tenant)
        following = self.screens.follow(tenant, wants, last_id)
        if wants.extension is not None:
            following.mark = partial(self.seen.mark, tenant, wants.extension)
        return following

    async def run(self) -> None:
        await self.catching.run()

    async def close(self) -> None:
        await self.catching.close()

    def _is_of_another_phone(self, tenant: str, body: Any) -> bool:
        """An agent's number at another PBX than the agent's."""
        match body:
            case CallRinging() | CallAnswered():
                extension = body.callee.extension
            case CallStarted():
                extension = body.caller.extension
            case _:
                return False
        site = self.site.site(tenant)
        if site is None or extension is None or site.agent_at(extension) is None:
            return False
        return site.agent_at(extension, body.pbx) is None
