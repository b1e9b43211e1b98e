"""What routing remembers of agents: the last status of each, for the replicas that begin later."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from services.routing.staff import Staff, StatusWord, word_in
from shared.clock import Clock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, AgentStatusSettled
from shared.contracts.envelope import Message
from shared.errors import Conflict, MeshError, Unavailable
from shared.ids import Extension
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, change, every

log = structlog.get_logger(__name__)

#: Longer than any holiday; of who has left, nothing is told any more.
KEEP = timedelta(days=90)
#: Live messages are best effort: what one replica missed it finds here so much later.
READ_EVERY = timedelta(seconds=5)
#: Clocks of replicas differ, and a write takes a while.
_OVERLAP = timedelta(seconds=30)


class AgentDocument(Document):
    """``key`` is ``tenant/extension``; *at* is when it was said, *changed_at* when it was kept."""

    extension: Extension
    status: AgentStatus
    at: Instant
    settled: bool = False
    changed_at: Instant
    expires_at: Instant

    @property
    def word(self) -> StatusWord:
        return StatusWord(self.status, self.at, self.settled)


AGENTS: CollectionSpec[AgentDocument] = CollectionSpec(
    name="routing.agents",
    model=AgentDocument,
    indexes=(Index(fields=("changed_at",)),),
    expires_by="expires_at",
)


class StaffBook:
    def __init__(self, agents: Collection[AgentDocument], clock: Clock) -> None:
        self._agents = agents
        self._clock = clock
        self._read_at: datetime | None = None

    async def keep(
        self, message: Message[AgentStatusChanged] | Message[AgentStatusSettled]
    ) -> None:
        """
        For one replica. An older word, told or tried again later, does not win.

        Raises: Unavailable.
        """
        tenant, body, now = message.tenant, message.body, self._clock.now()
        key, word = f"{tenant}/{body.extension}", word_in(message, now)
        if word is None:
            return

        def edit(found: AgentDocument | None) -> AgentDocument | None:
            if not word.counts_after(found.word if found else None):
                return None
            return AgentDocument(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                extension=body.extension,
                status=word.status,
                at=word.at,
                settled=word.settled,
                changed_at=now,
                expires_at=now + KEEP,
            )

        try:
            await change(self._agents, key, edit)
        except Conflict as error:
            # Others were faster each time; its turn comes.
            raise Unavailable(error.message) from error

    async def read(self, staff: Staff) -> None:
        """All at the first time, then what has changed since. Raises: Unavailable."""
        began = self._clock.now()
        since = {"changed_at": self._read_at - _OVERLAP} if self._read_at is not None else {}
        async for known in every(self._agents, Find(since=since, order_by="changed_at", limit=500)):
            staff.told(known.tenant, known.extension, known.word)
        self._read_at = began

    async def follow(self, staff: Staff) -> None:
        """For ever; what was missed while the store was away is read when it is back."""
        away = False
        while True:
            try:
                await self.read(staff)
                away = False
            except MeshError as error:
                if not away:
                    log.warning("staff_not_read", error=error.message)
                away = True
            await self._clock.sleep(READ_EVERY)
