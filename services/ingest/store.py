"""
What ingest remembers: how its PBX connections are, what came over them in the last day, and of
which calls more is to be asked.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import TypeAdapter

from shared.clock import Clock
from shared.contracts.pbx import LinkRecord
from shared.errors import Conflict
from shared.ids import Name, new_id
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    Find,
    Index,
    change,
    every,
)

#: A replica says again that it is there this often; what is older than three is gone.
SAY_EVERY = timedelta(seconds=30)
#: How long it is known until when a PBX was heard, after the last replica is gone.
_REMEMBER = timedelta(days=7)


class LinkState(Document):
    """One replica's connection to one PBX. ``key`` is ``tenant/pbx/instance``."""

    pbx: Name
    kind: str
    instance: str
    connected: bool
    fault: str | None = None
    seen_at: Instant
    #: When it was last known to be connected.
    heard_until: Instant | None = None
    #: How far the PBX's clock is ahead of ours; None: it does not tell its time.
    clock_ahead_seconds: float | None = None
    expires_at: Instant


LINKS: CollectionSpec[LinkState] = CollectionSpec(
    name="ingest.links",
    model=LinkState,
    indexes=(Index(fields=("tenant", "pbx")),),
    expires_by="expires_at",
)


class LinkBook:
    def __init__(self, links: Collection[LinkState], clock: Clock) -> None:
        self._links = links
        self._clock = clock
        self._instance = new_id().hex[:8]

    async def say(
        self, *, tenant: str, pbx: str, kind: str, fault: str | None, ahead: timedelta | None = None
    ) -> None:
        now = self._clock.now()
        key = f"{tenant}/{pbx}/{self._instance}"

        def edit(found: LinkState | None) -> LinkState:
            heard = now if fault is None else (found.heard_until if found else None)
            return LinkState(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                pbx=pbx,
                kind=kind,
                instance=self._instance,
                connected=fault is None,
                fault=fault,
                seen_at=now,
                heard_until=heard,
                clock_ahead_seconds=None if ahead is None else round(ahead.total_seconds(), 1),
                expires_at=now + _REMEMBER,
            )

        await change(self._links, key, edit)

    async def links(self, tenant: str, pbx: str | None) -> list[LinkRecord]:
        """Of replicas that are there."""
        equals = {"tenant": tenant} | ({"pbx": pbx} if pbx else {})
        since = self._clock.now() - 3 * SAY_EVERY
        return [
            LinkRecord.model_validate(state.model_dump(include=set(LinkRecord.model_fields)))
            async for state in every(self._links, Find(equals=equals))
            if state.seen_at >= since
        ]

    async def heard_until(self, tenant: str, pbx: str) -> datetime | None:
        """Until when any replica, also one that is gone, was connected to it."""
        heard = [
            state.heard_until
            async for state in every(self._links, Find(equals={"tenant": tenant, "pbx": pbx}))
            if state.heard_until is not None
        ]
        return max(heard, default=None)


class RawKind(StrEnum):
    RECORDS = "records"  # of a connection, as its reader takes them
    HOOKS = "hooks"  # HookReceived, as JSON


class RawInput(Document):
    """What came from a PBX, as it came."""

    pbx: Name
    what: RawKind
    #: Of several replicas each keeps what it read; a reader reads one of them.
    instance: str
    came_at: Instant
    data: str
    expires_at: Instant


RAW: CollectionSpec[RawInput] = CollectionSpec(
    name="ingest.raw",
    model=RawInput,
    indexes=(Index(fields=("tenant", "pbx", "came_at")),),
    expires_by="expires_at",
)

#: When each record came, in milliseconds since 1970, and the record.
_Records = TypeAdapter(list[tuple[int, str]])


class RawBook:
    """Raw input, kept for *keep* so that it can be read again (``callmesh replay``)."""

    def __init__(self, raw: Collection[RawInput], clock: Clock, *, keep: timedelta) -> None:
        self._raw = raw
        self._clock = clock
        self._keep = keep
        self._instance = new_id().hex[:8]
        #: What came in one millisecond stays in its order.
        self._serial = itertools.count()

    async def add_records(
        self,
        *,
        tenant: str,
        pbx: str,
        records: Sequence[tuple[datetime, bytes]],
        what: RawKind = RawKind.RECORDS,
    ) -> None:
        """When each came, and what; there is at least one."""
        rows = [(round(at.timestamp() * 1000), record.decode("latin-1")) for at, record in records]
        now = self._clock.now()
        await self._raw.add(
            RawInput(
                key=f"{self._instance}/{next(self._serial):012}",
                tenant=tenant,
                pbx=pbx,
                what=what,
                instance=self._instance,
                came_at=min(at for at, _ in records),
                data=base64.b64encode(zlib.compress(_Records.dump_json(rows))).decode(),
                expires_at=now + self._keep,
            )
        )

    def between(
        self, tenant: str, pbx: str, *, since: datetime, until: datetime
    ) -> AsyncIterator[RawInput]:
        """In the order in which it came."""
        return every(
            self._raw,
            Find(
                equals={"tenant": tenant, "pbx": pbx},
                since={"came_at": since},
                until={"came_at": until},
                order_by="came_at",
            ),
        )


def records_in(raw: RawInput) -> list[tuple[int, bytes]]:
    """When each came, in milliseconds since 1970, and the record."""
    rows = _Records.validate_json(zlib.decompress(base64.b64decode(raw.data)))
    return [(at, record.encode("latin-1")) for at, record in rows]


class ReportDue(Document):
    """``key`` is ``tenant/pbx/call``: a call of which the PBX will tell more."""

    pbx: Name
    pbx_call_id: str
    ended_at: Instant
    due_at: Instant
    attempts: int = 0
    expires_at: Instant


REPORTS: CollectionSpec[ReportDue] = CollectionSpec(
    name="ingest.reports",
    model=ReportDue,
    indexes=(Index(fields=("due_at",)),),
    expires_by="expires_at",
)


class ReportBook:
    def __init__(self, reports: Collection[ReportDue], clock: Clock) -> None:
        self._reports = reports
        self._clock = clock

    async def want(
        self, *, tenant: str, pbx: str, pbx_call_id: str, ended_at: datetime, within: timedelta
    ) -> None:
        """Once a call. *within*: it is given up after so long."""
        now = self._clock.now()
        due = ReportDue(
            key=f"{tenant}/{pbx}/{pbx_call_id}",
            tenant=tenant,
            pbx=pbx,
            pbx_call_id=pbx_call_id,
            ended_at=ended_at,
            due_at=now + REPORT_WAITS[0],
            expires_at=now + within,
        )
        try:
            await self._reports.add(due)
        except Conflict:
            return

    async def due(self) -> list[ReportDue]:
        """The longest due of them, a hundred: each that is taken makes room for another."""
        page = await self._reports.page(
            Find(until={"due_at": self._clock.now()}, order_by="due_at", limit=100)
        )
        return page.documents

    async def take(self, due: ReportDue) -> ReportDue:
        """For this replica, until its next time. Raises: Conflict, NotFound: another has it."""
        wait = REPORT_WAITS[min(due.attempts + 1, len(REPORT_WAITS) - 1)]
        return await self._reports.replace(
            due.model_copy(
                update={"attempts": due.attempts + 1, "due_at": self._clock.now() + wait}
            )
        )

    async def done(self, due: ReportDue) -> None:
        await self._reports.delete(due.key)


#: A report lags behind its call by seconds, now and then by minutes.
REPORT_WAITS = tuple(timedelta(seconds=s) for s in (4, 8, 20, 60, 300, 900))
