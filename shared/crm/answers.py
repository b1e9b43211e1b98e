"""Answers of a CRM as they are kept: in the store for all, in memory for one process."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from shared.clock import Clock
from shared.contracts.contacts import ContactCard
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, every

#: Answers held in memory, one is about a kilobyte; and things that were forgotten.
_HELD = 10_000

#: The place of an answer with several candidates in the index by contact.
SEVERAL = ""


class CachedAnswer(Document):
    """
    ``key`` is a digest of the question; number and contact are kept for invalidation. ``contact``
    is the only candidate's id, empty where there are several, None where nobody was found.
    """

    connection: str
    number: str
    contact: str | None = None
    candidates: tuple[ContactCard, ...]
    refused: tuple[str, ...] = ()
    asked_at: Instant
    expires_at: Instant

    @property
    def contact_ids(self) -> frozenset[str]:
        return frozenset(card.contact_id for card in self.candidates)


ANSWERS: CollectionSpec[CachedAnswer] = CollectionSpec(
    name="crm.answers",
    model=CachedAnswer,
    indexes=(
        Index(fields=("tenant", "connection", "number")),
        Index(fields=("tenant", "connection", "contact")),
    ),
    expires_by="expires_at",
)


def place_of(candidates: tuple[ContactCard, ...]) -> str | None:
    """Under which contact an answer is found again."""
    ids = {card.contact_id for card in candidates}
    if not ids:
        return None
    return ids.pop() if len(ids) == 1 else SEVERAL


class _Kind(Enum):
    NUMBER = "number"
    CONTACT = "contact"
    UNKNOWN = "unknown"


_Mark = tuple[str, str, _Kind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    Something in the CRM is not as it was: the records of *numbers* (keys of PhoneNumber), the
    record *contact_id*. Where no numbers are told it may have any: nobody is unknown any more.
    """

    tenant: str
    connection: str
    numbers: frozenset[str]
    contact_id: str | None

    @property
    def tells_numbers(self) -> bool:
        return bool(self.numbers)

    def touches(self, answer: CachedAnswer) -> bool:
        return not set(self.marks()).isdisjoint(_marks_of(answer))

    def marks(self) -> Iterator[_Mark]:
        for number in self.numbers:
            yield self.tenant, self.connection, _Kind.NUMBER, number
        if self.contact_id is not None:
            yield self.tenant, self.connection, _Kind.CONTACT, self.contact_id
        if not self.tells_numbers:
            yield self.tenant, self.connection, _Kind.UNKNOWN, ""


class AnswerMemory:
    """
    Of one process; the oldest goes when it is full. A ringing call waits for this event loop, and
    a CRM may tell of thousands of changes: each costs what it touches, not what is held.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: OrderedDict[str, CachedAnswer] = OrderedDict()
        #: The keys of what is held, by all that a change may name it by.
        self._marked: defaultdict[_Mark, set[str]] = defaultdict(set)
        #: What was asked before these moments is not true any more.
        self._forgotten: OrderedDict[_Mark, datetime] = OrderedDict()

    def get(self, key: str) -> CachedAnswer | None:
        held = self._held.get(key)
        if held is None:
            return None
        if held.expires_at <= self._clock.now():
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return held

    def hold(self, answer: CachedAnswer) -> None:
        """A newer one stays."""
        held = self._held.get(answer.key)
        if held is None or held.asked_at <= answer.asked_at:
            self._drop(answer.key)
            self._held[answer.key] = answer
            for mark in _marks_of(answer):
                self._marked[mark].add(answer.key)
        self._held.move_to_end(answer.key)
        while len(self._held) > _HELD:
            self._drop(next(iter(self._held)))

    def forget(self, change: Change) -> None:
        """What is held, and what was asked before and comes later."""
        now = self._clock.now()
        for mark in change.marks():
            for key in tuple(self._marked.get(mark, ())):
                self._drop(key)
            self._forgotten[mark] = now
            self._forgotten.move_to_end(mark)
        while len(self._forgotten) > _HELD:
            self._forgotten.popitem(last=False)

    def is_forgotten(self, answer: CachedAnswer) -> bool:
        return any(
            (forgotten := self._forgotten.get(mark)) is not None and answer.asked_at < forgotten
            for mark in _marks_of(answer)
        )

    def epoch(self, tenant: str, connection: str, number: str) -> tuple[datetime | None, ...]:
        """Two questions of the same epoch may share an answer."""
        whose = tenant, connection
        return (
            self._forgotten.get((*whose, _Kind.NUMBER, number)),
            self._forgotten.get((*whose, _Kind.UNKNOWN, "")),
        )

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        for mark in _marks_of(held):
            self._marked[mark].discard(key)
            if not self._marked[mark]:
                del self._marked[mark]


def _marks_of(answer: CachedAnswer) -> Iterator[_Mark]:
    """By what a change may name it."""
    whose = answer.tenant, answer.connection
    yield *whose, _Kind.NUMBER, answer.number
    for contact_id in answer.contact_ids:
        yield *whose, _Kind.CONTACT, contact_id
    if not answer.candidates:
        yield *whose, _Kind.UNKNOWN, ""


async def forget_stored(answers: Collection[CachedAnswer], change: Change) -> None:
    """Raises: Unavailable."""
    whose: dict[str, str | None] = {"tenant": change.tenant, "connection": change.connection}
    finds = [{**whose, "number": number} for number in change.numbers]
    if change.contact_id is not None:
        finds += [{**whose, "contact": place} for place in (change.contact_id, SEVERAL)]
    if not change.tells_numbers:
        finds.append({**whose, "contact": None})
    for equals in _once(finds):
        async for answer in every(answers, Find(equals=equals)):
            if change.touches(answer):
                await answers.delete(answer.key)


def _once(finds: Iterable[dict[str, str | None]]) -> list[dict[str, str | None]]:
    return [dict(pairs) for pairs in dict.fromkeys(tuple(find.items()) for find in finds)]
