"""What gateway remembers beside API keys: who ordered what, and what became of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus

import structlog
from pydantic import Field

from shared.clock import Clock
from shared.errors import MeshError, Unavailable
from shared.http.deeds import Deed, current_deed
from shared.http.peers import network_of
from shared.http.problems import status_of
from shared.ids import new_id
from shared.moments import Instant
from shared.observe.logging import mask_text
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, Page, every

log = structlog.get_logger(__name__)

#: Whose an entry is that came with no key we know.
NO_TENANT = "(none)"
#: Who did it, where it was no key; no key can have such a name.
NO_KEY = "(none)"
CLI = "(cli)"
#: Of the words of one entry.
_LONGEST = 500
#: Outcomes that wait for the store; the oldest are lost first.
_MOST_WAITING = 10_000
_AGAIN_AFTER = timedelta(seconds=1)
#: At the end of the process.
_FAREWELL = timedelta(seconds=2)
#: Of refusals that are alike one is noted in this time, and no more than so many of all.
_ALIKE = timedelta(minutes=1)
_MOST_REFUSALS = 600


class Outcome(StrEnum):
    #: Under way; or what became of it could not be written: the process was killed.
    OPEN = "open"
    DONE = "done"
    #: By us: the request was wrong, or its key may not. Nothing was changed.
    REFUSED = "refused"
    #: By a fault of ours or of another system; it may have been done in part.
    FAILED = "failed"


class AuditEntry(Document):
    """One request that was to change something. No secret and no whole number is in here."""

    #: Also :data:`NO_TENANT`.
    tenant: str
    #: The key's own, where an operator's acted in another.
    home_tenant: str | None = None
    key_name: str
    user: str | None = None
    action: str
    subject: str
    operation: str = ""
    method: str = ""
    path: str = Field(default="", description="The pattern; what stood in it is in `ids`.")
    ids: dict[str, str] = Field(default_factory=dict)
    peer: str = ""
    trace: str = ""
    at: Instant
    done_at: Instant | None = None
    outcome: Outcome = Outcome.OPEN
    status: int | None = None
    code: str | None = None
    expires_at: Instant


AUDIT: CollectionSpec[AuditEntry] = CollectionSpec(
    name="gateway.audit",
    model=AuditEntry,
    indexes=(Index(fields=("tenant", "at")),),
    expires_by="expires_at",
)


class AuditLog:
    """
    The server's :class:`~shared.http.deeds.DeedLog`: one entry for each request. That it was
    begun is durable before anything is done; its words and its outcome are written behind.
    """

    def __init__(self, entries: Collection[AuditEntry], clock: Clock, *, keep: timedelta) -> None:
        self._entries = entries
        self._clock = clock
        self._keep = keep
        self._open: dict[str, AuditEntry] = {}
        self._waiting: OrderedDict[str, AuditEntry] = OrderedDict()
        self._writing: asyncio.Task[None] | None = None
        self._refusals = _Refusals()

    async def note(self, *, tenant: str, key_name: str, action: str, subject: str) -> None:
        """
        The words of the request that is answered: what it does, and to what. Whose key it is the
        server knows better, where there is one. Outside of a request, an entry of its own.

        Raises: Unavailable, when its entry could not be made: then it must not be done.
        """
        deed = current_deed()
        if deed is None or deed.is_over:
            await self._entries.add(
                self._entry(
                    Deed(operation=action, tenant=tenant, key_name=key_name),
                    action=action,
                    subject=_bounded(subject),
                )
            )
            return
        deed.action = action
        if subject not in deed.subjects:
            deed.subjects.append(subject)
        if deed.entry_id is None:
            if deed.caller is None:
                deed.tenant, deed.key_name = tenant, key_name
            await self.begin(deed)

    @asynccontextmanager
    async def doing(
        self, *, tenant: str, action: str, subject: str, key_name: str = CLI
    ) -> AsyncIterator[None]:
        """For what no request asks for: noted before and behind. Raises: Unavailable."""
        deed = Deed(operation=action, tenant=tenant, key_name=key_name, action=action)
        deed.subjects.append(subject)
        await self.begin(deed)
        status, code = int(HTTPStatus.INTERNAL_SERVER_ERROR), None
        try:
            yield
            status = HTTPStatus.OK
        except MeshError as error:
            status, code = status_of(type(error)), error.code
            raise
        finally:
            self.end(deed, status=status, code=code)
            await self.close()

    async def begin(self, deed: Deed) -> None:
        entry = self._entry(deed)
        await self._entries.add(entry)
        deed.entry_id = entry.key
        self._open[entry.key] = entry

    def end(self, deed: Deed, *, status: int, code: str | None) -> None:
        begun = self._open.pop(deed.entry_id or "", None)
        if begun is not None:
            words = {"action": _action(deed), "subject": _subject(deed)}
            self._write_behind(_ended(begun.model_copy(update=words), self._clock, status, code))

    def tell(self, deed: Deed, *, status: int, code: str | None) -> None:
        entry = _ended(self._entry(deed), self._clock, status, code)
        if entry.outcome is Outcome.DONE or self._refusals.is_news(entry, self._clock.now()):
            self._write_behind(entry)

    async def page(self, query: Find) -> Page[AuditEntry]:
        """Raises: ContractError for a cursor of another list; Unavailable."""
        return await self._entries.page(query)

    async def every(self, query: Find) -> AsyncIterator[AuditEntry]:
        async for entry in every(self._entries, query):
            yield entry

    async def settle(self) -> None:
        """Returns when nothing waits to be written."""
        while self._writing is not None and not self._writing.done():
            await self._writing

    async def close(self) -> None:
        """What waits is written, if the store is there."""
        try:
            async with asyncio.timeout(_FAREWELL.total_seconds()):
                await self.settle()
        except TimeoutError:
            # settle's waiter was cancelled, and the task it waited for with it.
            log.error("audit_outcomes_lost", entries=len(self._waiting))  # noqa: TRY400  no traceback

    def _entry(self, deed: Deed, *, action: str = "", subject: str = "") -> AuditEntry:
        now, caller = self._clock.now(), deed.caller
        deed.draft_id = deed.draft_id or str(new_id())
        return AuditEntry(
            key=deed.draft_id,
            tenant=caller.tenant if caller else deed.tenant or NO_TENANT,
            home_tenant=caller.home if caller else None,
            key_name=caller.key_name if caller else deed.key_name or NO_KEY,
            user=caller.user if caller else None,
            action=action or _action(deed),
            subject=subject or _subject(deed),
            operation=deed.operation,
            method=deed.method,
            path=deed.path,
            ids=dict(deed.ids),
            peer=deed.peer,
            trace=deed.trace,
            at=now,
            expires_at=now + self._keep,
        )

    def _write_behind(self, entry: AuditEntry) -> None:
        self._waiting[entry.key] = entry
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
            log.error("audit_outcomes_lost", entries=1)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            key, entry = next(iter(self._waiting.items()))
            try:
                await self._entries.put(entry)
            except Unavailable:
                await self._clock.sleep(_AGAIN_AFTER)
                continue
            except MeshError as error:
                log.error("audit_outcome_lost", entry=key, error=error.message)  # noqa: TRY400  no traceback
            if self._waiting.get(key) is entry:
                del self._waiting[key]


class _Refusals:
    """Whether a refusal is worth an entry: a wrong key that comes every second is one a minute."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._seen: set[tuple[str, ...]] = set()

    def is_news(self, entry: AuditEntry, now: datetime) -> bool:
        if self._since is None or not timedelta(0) <= now - self._since < _ALIKE:
            self._since, self._seen = now, set()
        alike = (
            entry.tenant,
            entry.key_name,
            network_of(entry.peer),
            entry.operation,
            str(entry.status),
        )
        if alike in self._seen or len(self._seen) >= _MOST_REFUSALS:
            return False
        self._seen.add(alike)
        return True


def _ended(entry: AuditEntry, clock: Clock, status: int, code: str | None) -> AuditEntry:
    if status < HTTPStatus.BAD_REQUEST:
        outcome = Outcome.DONE
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.FAILED
    return entry.model_copy(
        update={"done_at": clock.now(), "outcome": outcome, "status": int(status), "code": code}
    )


def _action(deed: Deed) -> str:
    return deed.action or deed.operation


def _subject(deed: Deed) -> str:
    return _bounded("; ".join(deed.subjects))


def _bounded(words: str) -> str:
    """Some have words of the request's in them."""
    clean = words.encode(errors="replace").decode().replace("\x00", "?")
    return mask_text(clean)[:_LONGEST]
