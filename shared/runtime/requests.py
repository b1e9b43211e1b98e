"""
The log of requests to CRMs and PBXs: written behind, kept for a while, searched.

No call waits for it. What does not fit into its buffer, because there is too much of it or the store
is away for too long, is counted and not kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

import structlog
from pydantic import BaseModel, Field, ValidationError

from shared.clock import Clock
from shared.errors import Unavailable
from shared.faults import faults_in
from shared.ids import new_id
from shared.moments import Instant
from shared.net.requests import MOST_OF_A_BODY, AskedSide, Detail, RequestNote
from shared.observe.metrics import Metrics
from shared.storage.port import (
    AllOf,
    Collection,
    CollectionSpec,
    Condition,
    Document,
    DocumentStore,
    Find,
    Index,
    Is,
    Op,
    every,
)

log = structlog.get_logger(__name__)

#: Lines that wait: some seconds of the busiest mesh, or some minutes of a store that is away.
_MOST_WAITING = 10_000
_MOST_WAITING_CHARACTERS = 16 * 1024 * 1024
_EVERY = timedelta(seconds=1)
#: While the store is away.
_AGAIN = timedelta(seconds=5)
#: Written at once.
_AT_ONCE = 256
#: What is left gets so long at the end.
_LAST_WITHIN = timedelta(seconds=3)
_MOST_OF_A_URL, _MOST_OF_AN_ERROR, _MOST_OF_A_WORD = 2000, 500, 100
_CLASSES = range(1, 6)
_OF_A_CLASS = 100


class RequestLine(BaseModel):
    """One request, as it is shown. Secrets in it are masked; bodies are cut."""

    request_id: str
    at: Instant
    side: AskedSide
    connection: str
    operation: str = Field(
        description="What it was for: search, journal, users, session, originate, hangup, …"
    )
    method: str = Field(description="Of HTTP; of orders over a PBX's own protocol AMI or ESL.")
    url: str
    status: int | None = Field(default=None, description="None: no answer, or no HTTP.")
    took_ms: int
    sent_bytes: int
    got_bytes: int
    failed: bool
    error: str | None = None
    request: str | None = Field(
        default=None, description="The body that was sent, where it is kept."
    )
    answer: str | None = Field(default=None, description="The body that came, where it is kept.")


class RequestEntry(Document):
    """A line in the store."""

    side: AskedSide
    connection: str
    at: Instant
    operation: str
    method: str
    url: str
    status: int | None = None
    took_ms: int
    sent_bytes: int
    got_bytes: int
    failed: bool
    error: str | None = None
    request: str | None = None
    answer: str | None = None
    expires_at: Instant

    def line(self) -> RequestLine:
        told = self.model_dump(exclude={"key", "tenant", "version", "expires_at"})
        return RequestLine(request_id=self.key, **told)


REQUESTS: CollectionSpec[RequestEntry] = CollectionSpec(
    name="mesh.requests",
    model=RequestEntry,
    indexes=(Index(fields=("tenant", "at")), Index(fields=("tenant", "failed", "at"))),
    expires_by="expires_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuery:
    """
    All that is said must hold. *status_class* 4 is 400 to 499; *text* is in the URL, whatever the
    case of its ASCII letters.
    """

    side: AskedSide | None = None
    connection: str | None = None
    operations: Sequence[str] = ()
    status_class: int | None = None
    failed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    request_ids: Sequence[str] | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RequestPage:
    """The newest first."""

    requests: tuple[RequestLine, ...]
    next_cursor: str | None


class RequestLog:
    """:class:`shared.net.requests.RequestNotes`, kept in the store for *keep*."""

    def __init__(
        self,
        entries: Collection[RequestEntry],
        *,
        clock: Clock,
        metrics: Metrics,
        detail: Detail,
        keep: timedelta,
    ) -> None:
        self.detail = detail
        self._entries = entries
        self._clock = clock
        self._metrics = metrics
        self._keep = keep
        self._waiting: deque[RequestEntry] = deque()
        self._characters = 0
        self._away = False
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    def in_store(
        cls,
        store: DocumentStore,
        *,
        clock: Clock,
        metrics: Metrics,
        detail: Detail = Detail.ALL,
        keep: timedelta = timedelta(days=7),
    ) -> RequestLog:
        collection = store.collection(REQUESTS)
        return cls(collection, clock=clock, metrics=metrics, detail=detail, keep=keep)

    # -- lines come in -------------------------------------------------------------------------

    def note(self, note: RequestNote) -> None:
        failed = note.error is not None
        if not self.detail.keeps(failed=failed):
            return
        try:
            entry = self._entry(note, failed=failed)
        except ValidationError as error:
            self._metrics.count("callmesh_request_log_total", "dropped")
            log.error("request_not_kept", error=faults_in(error))  # noqa: TRY400  no traceback
            return
        size = _size(entry)
        if (
            len(self._waiting) >= _MOST_WAITING
            or self._characters + size > _MOST_WAITING_CHARACTERS
        ):
            self._metrics.count("callmesh_request_log_total", "dropped")
            return
        self._waiting.append(entry)
        self._characters += size

    def _entry(self, note: RequestNote, *, failed: bool) -> RequestEntry:
        bodies = note.brief or self.detail.keeps_bodies(failed=failed)
        return RequestEntry(
            key=str(new_id()),
            tenant=note.tenant,
            side=note.side,
            connection=note.connection,
            at=note.at,
            operation=_whole(note.operation[:_MOST_OF_A_WORD]),
            method=_whole(note.method[:_MOST_OF_A_WORD]),
            url=_whole(note.url[:_MOST_OF_A_URL]),
            status=note.status,
            took_ms=round(note.took / timedelta(milliseconds=1)),
            sent_bytes=note.sent_bytes,
            got_bytes=note.got_bytes,
            failed=failed,
            error=_cut(note.error, _MOST_OF_AN_ERROR),
            request=_cut(note.request, MOST_OF_A_BODY) if bodies else None,
            answer=_cut(note.answer, MOST_OF_A_BODY) if bodies else None,
            expires_at=note.at + self._keep,
        )

    # -- and go out behind ---------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[RequestLog]:
        """Writes while it is open; what waits at the end gets a moment."""
        work = asyncio.create_task(self._run(), name="request log")
        try:
            yield self
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._close()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(_AGAIN if self._away else _EVERY)
            await self.write()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WITHIN.total_seconds()):
                await self.write()
        except TimeoutError:
            self._away = True
        if left := len(self._waiting):
            self._metrics.count("callmesh_request_log_total", "dropped", by=left)
            log.warning("request_log_lost", lines=left)

    async def write(self) -> None:
        """All that waits at this moment, or as much as the store takes. Raises nothing."""
        async with self._one_at_a_time:
            left = len(self._waiting)
            while left > 0 and self._waiting:
                batch = list(islice(self._waiting, min(_AT_ONCE, left)))
                try:
                    # What was written, and the answer lost, is left out by the store.
                    await self._entries.add_all(batch)
                except Unavailable:
                    self._is_away()
                    return
                except Exception:
                    # Lines that cannot be kept must not be in the way of all that come later.
                    self._metrics.count("callmesh_request_log_total", "dropped", by=len(batch))
                    log.exception("requests_not_kept", lines=len(batch))
                else:
                    self._metrics.count("callmesh_request_log_total", "kept", by=len(batch))
                for entry in batch:
                    self._waiting.popleft()
                    self._characters -= _size(entry)
                left -= len(batch)
            self._away = False

    def _is_away(self) -> None:
        if not self._away:
            self._away = True
            log.warning("request_log_waits", lines=len(self._waiting))

    # -- and are looked for --------------------------------------------------------------------

    async def page(self, tenant: str, query: RequestQuery) -> RequestPage:
        """
        The newest first. What this process has not written yet is not in it.

        Raises: Unavailable; ContractError for a cursor of another query.
        """
        found = await self._entries.page(_find(tenant, query))
        return RequestPage(tuple(one.line() for one in found.documents), found.next_cursor)

    async def every(self, tenant: str, query: RequestQuery) -> AsyncIterator[RequestLine]:
        """As :meth:`page`, page by page."""
        async for entry in every(self._entries, _find(tenant, query)):
            yield entry.line()


def _find(tenant: str, query: RequestQuery) -> Find:
    equals: dict[str, object] = {"tenant": tenant}
    for name in ("side", "connection", "failed"):
        if (value := getattr(query, name)) is not None:
            equals[name] = value
    since = {"at": query.since} if query.since is not None else {}
    until = {"at": query.until} if query.until is not None else {}
    tests: list[Condition] = []
    if query.operations:
        tests.append(Is("operation", Op.IN, list(query.operations)))
    if query.request_ids is not None:
        tests.append(Is("key", Op.IN, list(query.request_ids)))
    if query.text:
        tests.append(Is("url", Op.CONTAINS, query.text))
    if query.status_class is not None:
        if query.status_class not in _CLASSES:
            raise ValueError("a class of status is 1 to 5")
        first = query.status_class * _OF_A_CLASS
        tests += [Is("status", Op.GE, first), Is("status", Op.LT, first + _OF_A_CLASS)]
    find = Find(
        equals=equals,
        since=since,
        until=until,
        order_by="at",
        descending=True,
        limit=query.limit,
        cursor=query.cursor,
    )
    return replace(find, where=AllOf(tests)) if tests else find


def _size(entry: RequestEntry) -> int:
    return sum(len(text) for text in (entry.url, entry.error, entry.request, entry.answer) if text)


def _cut(text: str | None, most: int) -> str | None:
    if text is None:
        return None
    return _whole(text if len(text) <= most else text[: most - 1] + "…")


def _whole(text: str) -> str:
    """Without halves of characters, which JSON from outside may have and no store takes."""
    return text.encode(errors="replace").decode()
