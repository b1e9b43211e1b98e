"""What dialer remembers of agents: what they are doing, and what is still to be said of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Collection as Collected
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from services.dialer.sides import AgentKnown
from shared.clock import Clock
from shared.contracts.agents import (
    AgentRecord,
    AgentStatusSettled,
    SetAgentStatus,
    TellCrmStatus,
)
from shared.errors import Conflict, NotFound, Unavailable
from shared.ids import Extension
from shared.moments import Instant
from shared.storage.newest import NewestOrder
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    Find,
    Index,
    Is,
    Op,
    change,
    every,
)

#: Longer than any holiday; of who has left, nothing is told any more.
_KEEP = timedelta(days=90)

#: When an agent's PBX was last told something, by extension.
STATUSES: CollectionSpec[NewestOrder] = CollectionSpec(
    name="dialer.statuses", model=NewestOrder, expires_by="expires_at"
)


class Outgoing(BaseModel):
    """One of the three, to be published under *key* as of *at*."""

    model_config = ConfigDict(frozen=True)

    key: str
    at: Instant
    order: SetAgentStatus | None = None
    crm: TellCrmStatus | None = None
    settled: AgentStatusSettled | None = None

    @property
    def body(self) -> SetAgentStatus | TellCrmStatus | AgentStatusSettled:
        found = self.order or self.crm or self.settled
        if found is None:
            raise ValueError(f"{self.key}: nothing is to be published")
        return found


class AgentDocument(Document):
    """``key`` is ``tenant/extension``; *outbox*: what was decided, and is not yet published."""

    extension: Extension
    known: AgentKnown
    outbox: tuple[Outgoing, ...] = ()
    expires_at: Instant

    @property
    def record(self) -> AgentRecord:
        known = self.known
        return AgentRecord(
            extension=self.extension,
            status=known.status,
            own=known.own,
            since=known.since,
            source=known.source,
            source_name=known.source_name,
            faults=tuple(
                f"{key.replace(':', ' ')}: {side.fault}"
                for key, side in sorted(known.sides.items())
                if side.fault is not None
            ),
        )


AGENTS: CollectionSpec[AgentDocument] = CollectionSpec(
    name="dialer.agents",
    model=AgentDocument,
    indexes=(Index(fields=("tenant", "extension")),),
    expires_by="expires_at",
)

#: What is known from now on, and what follows from it; it may be asked several times.
Decide = Callable[[AgentKnown], tuple[AgentKnown, Sequence[Outgoing]]]


class AgentBook:
    def __init__(self, agents: Collection[AgentDocument], clock: Clock) -> None:
        self._agents = agents
        self._clock = clock

    async def decide(self, tenant: str, extension: str, decide: Decide) -> Sequence[Outgoing]:
        """All that is to be published by now, also of decisions before. Raises: Unavailable."""
        key = f"{tenant}/{extension}"

        def edit(found: AgentDocument | None) -> AgentDocument | None:
            before = found.known if found else AgentKnown()
            known, outgoing = decide(before)
            if known == before and not outgoing:
                return None
            return AgentDocument(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                extension=extension,
                known=known,
                outbox=(*(found.outbox if found else ()), *outgoing),
                expires_at=self._clock.now() + _KEEP,
            )

        document = await self._change(key, edit)
        return document.outbox if document else ()

    async def published(self, tenant: str, extension: str, keys: Collected[str]) -> None:
        """Raises: Unavailable."""

        def edit(found: AgentDocument | None) -> AgentDocument | None:
            if found is None or all(one.key not in keys for one in found.outbox):
                return None
            left = tuple(one for one in found.outbox if one.key not in keys)
            return found.model_copy(update={"outbox": left})

        await self._change(f"{tenant}/{extension}", edit)

    async def note(
        self, tenant: str, extension: str, edit_known: Callable[[AgentKnown], AgentKnown]
    ) -> None:
        """For an agent of whom something is known. Raises: Unavailable."""

        def edit(found: AgentDocument | None) -> AgentDocument | None:
            known = edit_known(found.known) if found else None
            if found is None or known is None or known == found.known:
                return None
            return found.model_copy(update={"known": known})

        await self._change(f"{tenant}/{extension}", edit)

    async def known(self, tenant: str, extension: str) -> AgentKnown | None:
        """Raises: Unavailable."""
        try:
            return (await self._agents.get(f"{tenant}/{extension}")).known
        except NotFound:
            return None

    async def records(
        self, tenant: str, extensions: Sequence[str] | None
    ) -> AsyncIterator[AgentRecord]:
        """By extension; None: of all. Raises: Unavailable."""
        wanted = Is("extension", Op.IN, extensions) if extensions is not None else None
        query = Find(equals={"tenant": tenant}, where=wanted, order_by="extension", limit=500)
        async for document in every(self._agents, query):
            yield document.record

    async def _change(
        self, key: str, edit: Callable[[AgentDocument | None], AgentDocument | None]
    ) -> AgentDocument | None:
        try:
            return await change(self._agents, key, edit)
        except Conflict as error:
            # Others were faster each time; its turn comes.
            raise Unavailable(error.message) from error
