"""CRMs asked whether an entry that was sent is there: gently, and "not there" only where they said so."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from services.journal.entries import EntryDocument
from shared.clock import Clock
from shared.crm.port import JournalEntry, JournalsCalls
from shared.errors import MeshError, Throttled

#: For a CRM to look for one entry.
_WITHIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Why:
    """Why a CRM was not asked; *for_good*: to ask again changes nothing."""

    connection: str
    reason: str
    for_good: bool = False


class NotSought(Exception):
    """The CRM was not asked, or did not answer."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.reason)
        self.why = why


class Seeking:
    """For one step: a CRM that does not answer is left in peace for the rest of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: set[str] = set()
        self._away: dict[str, Why] = {}
        self._first: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def is_lost(
        self, entry: EntryDocument, connection: str, connector: JournalsCalls | None
    ) -> bool:
        """
        Whether the CRM says that it has no such entry; False where that cannot be said yet.

        Raises: NotSought; Throttled, where the CRM wants a pause.
        """
        if connector is None or entry.content is None:
            raise NotSought(Why(connection, "what was sent, or to where, is not known any more"))
        if connector.knows_repeats:
            raise NotSought(Why(connection, "its template cannot look for entries", for_good=True))
        if self._clock.now() < (entry.sent_at or entry.wanted_at) + connector.settle:
            return False
        async with self._first[connection]:
            # One goes first: a CRM that was away lets no more through, one that hangs gets no more.
            if connection not in self._answers and connection not in self._away:
                return await self._ask(connector, entry.content, connection)
        if connection in self._away:
            raise NotSought(self._away[connection])
        return await self._ask(connector, entry.content, connection)

    async def _ask(self, connector: JournalsCalls, content: JournalEntry, connection: str) -> bool:
        try:
            async with asyncio.timeout(_WITHIN.total_seconds()):
                found = await connector.find_entry(content, within=_WITHIN)
        except Throttled:
            raise
        except (MeshError, TimeoutError) as error:
            said = error.message if isinstance(error, MeshError) else "no answer in time"
            raise NotSought(self._away.setdefault(connection, Why(connection, said))) from error
        self._answers.add(connection)
        return found is None
