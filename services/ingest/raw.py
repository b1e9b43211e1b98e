"""What came from PBXs, on its way to the store."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import structlog

from services.ingest.store import RawBook, RawKind
from shared.clock import Clock
from shared.errors import MeshError, TransientError

log = structlog.get_logger(__name__)

_EVERY = timedelta(seconds=1)
#: Of one PBX in one document. 50 calls a second are 350 KB of wanted events.
_MOST_BYTES = 2 * 1024 * 1024
#: What waits while the store is away, of all PBXs; what comes then is let go.
_MOST_WAITING = 32 * 1024 * 1024


class RawTape:
    """
    ``keep`` never waits and never fails: the reading of calls must not hang on a copy of them.
    Run :meth:`run` as a task; what is on the tape when the process is killed is lost.
    """

    def __init__(self, book: RawBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._waiting: dict[tuple[str, str, RawKind], list[tuple[datetime, bytes]]] = defaultdict(
            list
        )
        self._bytes = 0
        #: Records since there was room for one.
        self.let_go = 0

    def keep(
        self,
        tenant: str,
        pbx: str,
        record: bytes,
        *,
        what: RawKind = RawKind.RECORDS,
        at: datetime | None = None,
    ) -> None:
        """*at*: when it came, if not now."""
        if self._bytes + len(record) > _MOST_WAITING:
            if not self.let_go:
                log.warning("raw_records_not_kept", error="the store is away for too long")
            self.let_go += 1
            return
        if self.let_go:
            log.warning("raw_records_kept_again", let_go=self.let_go)
            self.let_go = 0
        self._waiting[tenant, pbx, what].append((at or self._clock.now(), record))
        self._bytes += len(record)

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await self._clock.sleep(_EVERY)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """What waits, as far as the store takes it."""
        for (tenant, pbx, what), records in list(self._waiting.items()):
            while records:
                part = _first(records)
                try:
                    await self._book.add_records(tenant=tenant, pbx=pbx, records=part, what=what)
                except TransientError:
                    return  # they wait on
                except MeshError as error:
                    # They would hold up all that comes after them.
                    log.error("raw_records_not_kept", error=error.message)  # noqa: TRY400  no traceback
                del records[: len(part)]
                self._bytes -= sum(len(record) for _, record in part)
            del self._waiting[tenant, pbx, what]


def _first(records: list[tuple[datetime, bytes]]) -> list[tuple[datetime, bytes]]:
    """As many as one document holds, at least one."""
    size = 0
    for number, (_, record) in enumerate(records):
        size += len(record)
        if size > _MOST_BYTES and number:
            return records[:number]
    return list(records)
