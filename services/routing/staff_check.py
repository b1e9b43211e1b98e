"""
Conversations are the journal's: it is asked for those under way when this process begins, and for
one that goes on for long, as an end that did not reach us would keep somebody busy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

import structlog

from services.routing.staff import Staff
from shared.bus.port import Requester
from shared.clock import Clock
from shared.contracts.calls import FetchCall, ListCalls
from shared.errors import MeshError, TransientError

log = structlog.get_logger(__name__)

#: A call that somebody is in is asked about after so long without news.
ASK_AFTER = timedelta(minutes=2)
#: How often it is looked for such, and how many are asked about then: the journal has other work.
LOOK_EVERY = timedelta(seconds=10)
MOST_AT_ONCE = 50
#: What began before is over but for a few, which pass for over.
LOOK_BACK = timedelta(hours=1)
_PAGE, _MOST_PAGES = 100, 20
_WITHIN = timedelta(seconds=5)


class StaffCheck:
    """*tenants*: those whose rules ask what agents are doing."""

    def __init__(
        self,
        staff: Staff,
        requester: Requester,
        clock: Clock,
        *,
        tenants: Callable[[], Iterable[str]],
    ) -> None:
        self._staff = staff
        self._requester = requester
        self._clock = clock
        self._tenants = tenants
        #: Whose calls under way were read, and how often those of others could not be.
        self._begun: set[str] = set()
        self._failures: Counter[str] = Counter()

    async def run(self) -> None:
        """For ever. While the journal is away, what was heard holds."""
        away = False
        while True:
            try:
                await self.look()
                away = False
            except TransientError as error:
                if not away:
                    log.warning("staff_not_checked", error=error.message)
                away = True
            await self._clock.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """
        Once. Raises: TransientError when the journal does not answer; what it did not answer has
        its next turn after all else, as that may be of one tenant alone.
        """
        for tenant, call_id in self._staff.unchecked(since=ASK_AFTER)[:MOST_AT_ONCE]:
            await self._ask(tenant, call_id)
        waiting = [tenant for tenant in self._tenants() if tenant not in self._begun]
        for tenant in sorted(waiting, key=self._failures.__getitem__):
            await self._begin(tenant)

    async def _begin(self, tenant: str) -> None:
        asked = ListCalls(since=self._clock.now() - LOOK_BACK, limit=_PAGE)
        for _ in range(_MOST_PAGES):
            try:
                page = await self._requester.request(asked, within=_WITHIN, tenant=tenant)
            except TransientError:
                self._failures[tenant] += 1
                raise
            except MeshError as error:
                log.warning("calls_under_way_not_read", tenant=tenant, error=error.message)
                break
            for record in page.calls:
                if record.ended_at is None:
                    self._staff.learn(tenant, record)
            if page.next_cursor is None:
                break
            asked = asked.model_copy(update={"cursor": page.next_cursor})
        self._begun.add(tenant)

    async def _ask(self, tenant: str, call_id: str) -> None:
        try:
            record = await self._requester.request(
                FetchCall(call_id=call_id), within=_WITHIN, tenant=tenant
            )
        except TransientError:
            self._staff.checked(tenant, call_id)
            raise
        except MeshError:
            # It does not know that call, or cannot say what it knows.
            self._staff.checked(tenant, call_id)
        else:
            self._staff.learn(tenant, record)
