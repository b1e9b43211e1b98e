"""
Whose number is this? The same finder in every process that asks: its own memory, then the cache
in the store, then the CRM.

"Nobody knows it" is an answer and is kept, for less long. "Could not ask" is an error and is not.

A contact that is no longer fresh and not yet stale is given at once and asked for again behind
it; so a CRM that is away is not noticed for as long as that. In one process those who wait for a
question wait for one request to the CRM, however many they are; it keeps the priority of who asked
first. Nobody waits for what is asked behind a stale answer: that has time. Each replica may make
its own: those that begin when the first one's answer lies in the store make none.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Any

import structlog

from shared.clock import Clock
from shared.contracts.contacts import ContactCard
from shared.crm.answers import (
    ANSWERS,
    AnswerMemory,
    CachedAnswer,
    Change,
    forget_stored,
    place_of,
)
from shared.crm.candidates import distinct
from shared.crm.connections import Account, CrmConnections
from shared.crm.port import Priority
from shared.errors import MeshError, NotFound, OutOfTime
from shared.observe.metrics import Metrics
from shared.phone import PhoneNumber
from shared.storage.port import Collection, DocumentStore

log = structlog.get_logger(__name__)

#: A lookup goes on for its cache when who asked has given up, but not for ever.
_CRM_WITHIN = timedelta(seconds=10)


class Source(StrEnum):
    PROCESS = "process"
    STORE = "store"
    #: Older than fresh, from either; it is being asked again.
    STALE = "stale"
    CRM = "crm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    Asked for are *fields* by their API names and, with *card*, what a card shows. *fresh*,
    *stale* and *unknown* are ages of an answer, counted from when the CRM was asked; a *stale*
    that is not over *fresh* means that none is given while it is asked again.
    """

    account: Account
    number: PhoneNumber
    modules: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    card: bool = True
    fresh: timedelta
    stale: timedelta = timedelta(0)
    unknown: timedelta
    priority: Priority = Priority.POP

    @property
    def key(self) -> str:
        """Of what is asked, not of how urgently or how new the answer has to be."""
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
        if self.account.login:
            # Another user of the CRM may see other records, and less of them.
            parts += [self.account.login, repr(self.account.credentials)]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """*refused* names modules that the CRM would not be asked about, with its reason."""

    candidates: tuple[ContactCard, ...]
    refused: tuple[str, ...]
    source: Source


class _Standing(Enum):
    FRESH = 0
    STALE = 1
    OVER = 2


#: A question and its epoch: who asks after a change does not wait for what was asked before.
_Way = tuple[str, tuple[datetime | None, ...]]


class Finder:
    def __init__(
        self, connections: CrmConnections, store: DocumentStore, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._connections = connections
        self._glance = connections.glance
        self._answers: Collection[CachedAnswer] = store.collection(ANSWERS)
        self._clock = clock
        self._metrics = metrics
        self._memory = AnswerMemory(clock)
        #: For those who wait, and behind a stale answer.
        self._under_way: dict[_Way, asyncio.Task[Found]] = {}
        self._renewals: dict[_Way, asyncio.Task[Found]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def find(self, question: Question, *, within: timedelta) -> Found:
        """
        Raises: Unavailable when there is no answer in time (the request goes on, its answer is
        there for the next), Throttled, NeedsReconnect, Rejected where no module may be asked,
        BadSetting for a connection that does not fit its template.
        """
        key = question.key
        held = self._memory.get(key)
        standing = self._standing(held, question) if held else _Standing.OVER
        if held is not None and standing is not _Standing.OVER:
            source = Source.PROCESS
            if standing is _Standing.STALE:
                source = Source.STALE
                self._renew(question, key)
            found = Found(held.candidates, held.refused, source)
        else:
            found = await self._counted(self._shared(question, key), within)
        self._metrics.count("callmesh_contact_lookups_total", found.source)
        return found

    async def find_anew(self, question: Question, *, within: timedelta) -> Found:
        """What the CRM says now, whatever is cached and whoever asks too. Raises: as ``find``."""
        found = await self._counted(self._ask(question, question.key), within)
        self._metrics.count("callmesh_contact_lookups_total", found.source)
        return found

    async def forget(
        self,
        tenant: str,
        *,
        connection: str,
        numbers: Sequence[str] = (),
        contact_id: str | None = None,
    ) -> None:
        """
        What is cached for *numbers* (keys of PhoneNumber), and what shows the record *contact_id*,
        is no longer true, in the store and here. Without numbers it may be anybody's: then
        nobody is unknown any more. Raises: Unavailable.
        """
        self.forget_here(tenant, connection=connection, numbers=numbers, contact_id=contact_id)
        await forget_stored(self._answers, _change(tenant, connection, numbers, contact_id))

    def forget_here(
        self,
        tenant: str,
        *,
        connection: str,
        numbers: Sequence[str] = (),
        contact_id: str | None = None,
    ) -> None:
        """In the memory of this process, which will not believe the store's older answers either."""
        self._memory.forget(_change(tenant, connection, numbers, contact_id))

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = [*self._under_way.values(), *self._renewals.values(), *self._writing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _counted(self, asking: Coroutine[Any, Any, Found], within: timedelta) -> Found:
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await asking
        except TimeoutError:
            self._metrics.count("callmesh_contact_lookups_total", "failed")
            raise OutOfTime(
                f"no contact was found out within {within.total_seconds():g} s"
            ) from None
        except MeshError:
            self._metrics.count("callmesh_contact_lookups_total", "failed")
            raise

    async def _shared(self, question: Question, key: str) -> Found:
        """Goes on when its caller is cancelled."""
        way = self._way(question, key)
        task = self._under_way.get(way)
        if task is None:
            task = self._started(self._under_way, way, self._look(question, key))
        return await asyncio.shield(task)

    def _renew(self, question: Question, key: str) -> None:
        """In the background, once at a time; where it fails the next caller has it tried again."""
        way = self._way(question, key)
        if way not in self._renewals:
            unhurried = replace(question, priority=Priority.SYNC)
            _ = self._started(self._renewals, way, self._look(unhurried, key, stale_too=False))

    async def _look(self, question: Question, key: str, *, stale_too: bool = True) -> Found:
        """In the store, else at the CRM."""
        try:
            stored = await self._glance.at(self._answers.get(key))
        except NotFound:
            stored = None
        if stored is None or self._memory.is_forgotten(stored):
            return await self._ask(question, key)
        standing = self._standing(stored, question)
        if standing is _Standing.FRESH:
            self._memory.hold(stored)
            return Found(stored.candidates, stored.refused, Source.STORE)
        if standing is _Standing.STALE and stale_too:
            self._memory.hold(stored)
            self._renew(question, key)
            return Found(stored.candidates, stored.refused, Source.STALE)
        return await self._ask(question, key)

    async def _ask(self, question: Question, key: str) -> Found:
        connector = self._connections.connector(question.account)
        asked_at = self._clock.now()
        answers = await connector.search(
            question.number,
            modules=question.modules,
            fields=question.fields,
            card=question.card,
            within=_CRM_WITHIN,
            priority=question.priority,
        )
        candidates = distinct(card for answer in answers for card in answer.contacts)
        refused = tuple(f"{a.module}: {a.refused}" for a in answers if a.refused is not None)
        longest = max(question.fresh, question.stale) if candidates else question.unknown
        cached = CachedAnswer(
            key=key,
            tenant=question.account.tenant,
            connection=question.account.name,
            number=question.number.key,
            contact=place_of(candidates),
            candidates=candidates,
            refused=refused,
            asked_at=asked_at,
            expires_at=asked_at + longest,
        )
        # Where the CRM was changed while it was asked, this is the answer of who asked, no more.
        if not self._memory.is_forgotten(cached):
            self._memory.hold(cached)
            # A call rings meanwhile: it does not wait for the store.
            task = asyncio.create_task(self._written(cached))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return Found(candidates, refused, Source.CRM)

    async def _written(self, answer: CachedAnswer) -> None:
        await self._glance.at(self._answers.put(answer))
        if self._memory.is_forgotten(answer):
            # The store was cleared of it before it was there.
            await self._glance.at(self._answers.delete(answer.key))

    def _standing(self, answer: CachedAnswer, question: Question) -> _Standing:
        age = self._clock.now() - answer.asked_at
        if age < (question.fresh if answer.candidates else question.unknown):
            return _Standing.FRESH
        if answer.candidates and age < question.stale:
            return _Standing.STALE
        return _Standing.OVER

    def _way(self, question: Question, key: str) -> _Way:
        account = question.account
        return key, self._memory.epoch(account.tenant, account.name, question.number.key)

    def _started(
        self,
        tasks: dict[_Way, asyncio.Task[Found]],
        way: _Way,
        asking: Coroutine[Any, Any, Found],
    ) -> asyncio.Task[Found]:
        task = asyncio.create_task(asking)
        tasks[way] = task
        task.add_done_callback(lambda done: _over(tasks, way, done))
        return task


def _change(tenant: str, connection: str, numbers: Sequence[str], contact_id: str | None) -> Change:
    return Change(
        tenant=tenant, connection=connection, numbers=frozenset(numbers), contact_id=contact_id
    )


def _over(tasks: dict[_Way, asyncio.Task[Found]], way: _Way, done: asyncio.Task[Found]) -> None:
    tasks.pop(way, None)
    # Where everybody gave up nobody reads the error: say it, and asyncio is content.
    if not done.cancelled() and (error := done.exception()) is not None:
        log.info("lookup_failed", error=str(error))
