"""
Whose number is this? The same finder in every process that asks: its own memory, then the cache
in the store, then the CRM; one request for many callers at once.

"Nobody knows it" is an answer and is kept, for less long. "Could not ask" is an error and is not.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from shared.clock import Clock
from shared.contracts.contacts import ContactCard
from shared.crm.connections import Account, CrmConnections
from shared.errors import NotFound, OutOfTime
from shared.moments import Instant
from shared.observe.metrics import Metrics
from shared.phone import PhoneNumber
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    DocumentStore,
    Find,
    Index,
    every,
)

log = structlog.get_logger(__name__)

#: Answers held in memory, one is about a kilobyte; and numbers that were forgotten.
_HELD = 10_000
#: A lookup goes on for its cache when who asked has given up, but not for ever.
_CRM_WITHIN = timedelta(seconds=10)


class Source(StrEnum):
    PROCESS = "process"
    STORE = "store"
    CRM = "crm"


class CachedAnswer(Document):
    """``key`` is a digest of the question; the number is kept for invalidation."""

    connection: str
    number: str
    candidates: tuple[ContactCard, ...]
    refused: tuple[str, ...] = ()
    asked_at: Instant
    expires_at: Instant


ANSWERS: CollectionSpec[CachedAnswer] = CollectionSpec(
    name="crm.answers",
    model=CachedAnswer,
    indexes=(Index(fields=("tenant", "connection", "number")),),
    expires_by="expires_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Asked for are *fields* by their API names and, with *card*, what a card shows."""

    account: Account
    number: PhoneNumber
    modules: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    card: bool = True
    fresh: timedelta
    unknown: timedelta

    @property
    def key(self) -> str:
        parts = [
            self.account.tenant,
            self.account.name,
            self.account.template,
            repr(self.account.parameters),
            repr(self.account.phone_formats),
            self.number.key,
            repr(self.modules),
            repr(self.fields),
            repr(self.card),
        ]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """*refused* names modules that the CRM would not be asked about, with its reason."""

    candidates: tuple[ContactCard, ...]
    refused: tuple[str, ...]
    source: Source


class Finder:
    def __init__(
        self, connections: CrmConnections, store: DocumentStore, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._connections = connections
        self._glance = connections.glance
        self._answers: Collection[CachedAnswer] = store.collection(ANSWERS)
        self._clock = clock
        self._metrics = metrics
        self._held: OrderedDict[str, CachedAnswer] = OrderedDict()
        #: By tenant, connection and number: what was asked before is not true any more.
        self._forgotten: OrderedDict[tuple[str, str, str], datetime] = OrderedDict()
        #: Who asks after a number was forgotten does not wait for what was asked before.
        self._under_way: dict[tuple[str, datetime | None], asyncio.Task[Found]] = {}

    async def find(self, question: Question, *, within: timedelta) -> Found:
        """
        Raises: Unavailable when there is no answer in time (the request goes on, its answer is
        there for the next), Throttled, NeedsReconnect, Rejected where no module may be asked,
        BadSetting for a connection that does not fit its template.
        """
        key = question.key
        if (held := self._in_memory(key)) is not None:
            self._metrics.count("callmesh_contact_lookups_total", Source.PROCESS)
            return Found(held.candidates, held.refused, Source.PROCESS)
        account = question.account
        place = (account.tenant, account.name, question.number.key)
        way = (key, self._forgotten.get(place))
        task = self._under_way.get(way)
        if task is None:
            task = asyncio.create_task(self._look(question, key))
            self._under_way[way] = task
            task.add_done_callback(lambda done: self._over(way, done))
        try:
            async with asyncio.timeout(within.total_seconds()):
                found = await asyncio.shield(task)
        except TimeoutError:
            raise OutOfTime(
                f"no contact was found out within {within.total_seconds():g} s"
            ) from None
        self._metrics.count("callmesh_contact_lookups_total", found.source)
        return found

    async def forget(self, tenant: str, *, connection: str, numbers: Sequence[str]) -> None:
        """
        What is cached for *numbers* (keys of PhoneNumber) is no longer true, in the store and
        here. Raises: Unavailable.
        """
        self.forget_here(tenant, connection=connection, numbers=numbers)
        for number in set(numbers):
            equals = {"tenant": tenant, "connection": connection, "number": number}
            async for answer in every(self._answers, Find(equals=equals)):
                await self._answers.delete(answer.key)

    def forget_here(self, tenant: str, *, connection: str, numbers: Sequence[str]) -> None:
        """In the memory of this process, which will not believe the store's older answers either."""
        gone = set(numbers)
        for key, held in list(self._held.items()):
            if held.tenant == tenant and held.connection == connection and held.number in gone:
                del self._held[key]
        for number in gone:
            place = (tenant, connection, number)
            self._forgotten[place] = self._clock.now()
            self._forgotten.move_to_end(place)
        while len(self._forgotten) > _HELD:
            self._forgotten.popitem(last=False)

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _in_memory(self, key: str) -> CachedAnswer | None:
        held = self._held.get(key)
        if held is None:
            return None
        if held.expires_at <= self._clock.now():
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return held

    async def _look(self, question: Question, key: str) -> Found:
        try:
            stored = await self._glance.at(self._answers.get(key))
        except NotFound:
            stored = None
        if stored is None or self._is_forgotten(stored):
            return await self._ask(question, key)
        self._hold(stored)
        return Found(stored.candidates, stored.refused, Source.STORE)

    async def _ask(self, question: Question, key: str) -> Found:
        connector = self._connections.connector(question.account)
        asked_at = self._clock.now()
        answers = await connector.search(
            question.number,
            modules=question.modules,
            fields=question.fields,
            card=question.card,
            within=_CRM_WITHIN,
        )
        candidates = tuple(card for answer in answers for card in answer.contacts)
        refused = tuple(f"{a.module}: {a.refused}" for a in answers if a.refused is not None)
        now = self._clock.now()
        cached = CachedAnswer(
            key=key,
            tenant=question.account.tenant,
            connection=question.account.name,
            number=question.number.key,
            candidates=candidates,
            refused=refused,
            asked_at=asked_at,
            expires_at=now + (question.fresh if candidates else question.unknown),
        )
        # Where the CRM was changed while it was asked, this is the answer of who asked, no more.
        if not self._is_forgotten(cached):
            self._hold(cached)
            await self._glance.at(self._answers.put(cached))
        return Found(candidates, refused, Source.CRM)

    def _is_forgotten(self, answer: CachedAnswer) -> bool:
        forgotten = self._forgotten.get((answer.tenant, answer.connection, answer.number))
        return forgotten is not None and answer.asked_at < forgotten

    def _hold(self, answer: CachedAnswer) -> None:
        self._held[answer.key] = answer
        self._held.move_to_end(answer.key)
        while len(self._held) > _HELD:
            self._held.popitem(last=False)

    def _over(self, way: tuple[str, datetime | None], done: asyncio.Task[Found]) -> None:
        self._under_way.pop(way, None)
        # Where everybody gave up nobody reads the error: say it, and asyncio is content.
        if not done.cancelled() and (error := done.exception()) is not None:
            log.info("lookup_failed", error=str(error))
