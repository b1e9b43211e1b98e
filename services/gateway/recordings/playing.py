"""A recording as its listener gets it: found at the PBX, looked at, noted, then given."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import BinaryIO, TypeVar

import structlog

from services.gateway.recordings.accesses import Access, AccessLog
from shared.clock import Clock
from shared.contracts.calls import CallRecord
from shared.errors import (
    BadSetting,
    ContractError,
    Forbidden,
    NotFound,
    OutOfTime,
    Rejected,
    TransientError,
    Unavailable,
)
from shared.http.files import FileAnswer, FilePart, part_of
from shared.http.routes import RawRequest
from shared.observe.metrics import Metrics
from shared.recordings.audio import HEAD_BYTES, UNKNOWN, file_name, holds_sound, type_of
from shared.recordings.folder import RecordingFolder, open_in
from shared.recordings.shelf import Shelf
from shared.site.adapters import Adapters
from shared.site.models import Site

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: After the end of a call its recording may be written still, converted, or uploaded.
LATE = timedelta(minutes=5)
_AGAIN = timedelta(seconds=15)
#: A copy that was made meanwhile is believed for so long.
_YOUNG = timedelta(seconds=30)
_TAIL_BYTES = 64 * 1024
#: Their own: a mount whose server is gone holds them for ever, and nobody else's.
_THREADS = 8
#: As a document of its own it can do nothing but play.
_POLICY = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox"


@dataclass(frozen=True, slots=True)
class _Looks:
    """What is seen of a file without reading all of it."""

    size: int
    head: bytes
    #: Of name, size, beginning and end: the same at every replica, another when it has grown.
    etag: str


class Player:
    def __init__(
        self,
        *,
        adapters: Adapters,
        shelf: Shelf,
        accesses: AccessLog,
        clock: Clock,
        metrics: Metrics,
        within: timedelta,
    ) -> None:
        """*within*: how long a listener waits for what has to be fetched, or opened."""
        self._adapters = adapters
        self._shelf = shelf
        self._accesses = accesses
        self._clock = clock
        self._metrics = metrics
        self._within = within
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="recordings")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def play(
        self,
        site: Site,
        call: CallRecord,
        recording: str,
        request: RawRequest,
        *,
        key_name: str | None,
    ) -> FileAnswer:
        """
        *key_name*: None by a link. Raises: NotFound; Unavailable, also while it may still come and
        where the access cannot be noted; Rejected, Throttled.
        """
        file = await self._opened(site, call, recording)
        # Not closed where that fails: a thread may still be reading it, and closing waits for that.
        looks = await self._in_time(partial(_look, file, recording))
        try:
            self._check_sound(looks, call)
            part = part_of(
                looks.size, method=request.method, headers=request.headers, etag=looks.etag
            )
            await self._accesses.note(
                Access(
                    tenant=site.tenant,
                    call_id=call.call_id,
                    recording=recording,
                    peer=request.peer,
                    key_name=key_name,
                    range=part.headers.get("Content-Range"),
                    status=part.status,
                    sent_bytes=part.length if request.method == "GET" else 0,
                )
            )
        except BaseException:
            file.close()
            raise
        self._metrics.count("callmesh_recordings_total", "given")
        return _answer(site.tenant, file, part, looks, recording)

    async def _opened(self, site: Site, call: CallRecord, recording: str) -> BinaryIO:
        pbx = site.pbx_named(call.pbx or "")
        if pbx is None:
            raise NotFound("The PBX of this call is gone.")
        if call.ended_at is None:
            raise Unavailable("The call goes on.", retry_after=_AGAIN)
        try:
            source = self._adapters.recordings(site, pbx) or _NoSource()
            if isinstance(source, RecordingFolder):
                return await self._in_time(partial(open_in, source.path, recording))
            return await self._shelf.open(
                f"{site.tenant}/{pbx.name}",
                recording,
                partial(source.fetch, recording),
                within=self._within,
                newer_than=self._newer_than(call.ended_at),
            )
        except NotFound as error:
            log.info("recording_not_there", pbx=pbx.name, error=error.message)
            raise self._nothing(call) from None
        except TransientError as error:
            log.warning("recording_not_given", pbx=pbx.name, error=error.message)
            raise Unavailable(
                "The recording cannot be had now.", retry_after=error.retry_after or _AGAIN
            ) from None
        except (Rejected, Forbidden, ContractError, BadSetting) as error:
            # Where the PBX is, and what it says, is nothing for who only has a link.
            log.warning("recording_refused", pbx=pbx.name, error=error.message)
            raise Rejected(
                "The PBX does not give the recording; the gateway's log says why."
            ) from None

    def _check_sound(self, looks: _Looks, call: CallRecord) -> None:
        if not holds_sound(looks.size, looks.head):
            raise self._nothing(call)

    async def _in_time(self, work: Callable[[], T]) -> T:
        """Raises: Unavailable for what cannot be read, or not in time; what *work* does."""
        try:
            async with asyncio.timeout(self._within.total_seconds()):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise OutOfTime(
                "the folder of recordings does not answer", retry_after=_AGAIN
            ) from None
        except OSError as error:
            raise Unavailable(
                f"the recording cannot be read: {error.strerror}", retry_after=_AGAIN
            ) from None

    def _nothing(self, call: CallRecord) -> NotFound | Unavailable:
        """None is there: while it may be late, that is no last word."""
        if call.ended_at is not None and self._clock.now() < call.ended_at + LATE:
            return Unavailable("The PBX does not have the recording yet.", retry_after=_AGAIN)
        return NotFound("The PBX does not have this recording.")

    def _newer_than(self, ended_at: datetime) -> datetime:
        """Copies from before may be a part of it."""
        now, settled = self._clock.now(), ended_at + LATE
        return settled if now >= settled else now - _YOUNG


class _NoSource:
    """A PBX that is not set up to give its recordings."""

    def fetch(self, recording: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise NotFound("This PBX is not set up to give its recordings.")


def _look(file: BinaryIO, recording: str) -> _Looks:
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(max(size - _TAIL_BYTES, 0))
    digest = hashlib.sha256(recording.encode(errors="surrogatepass"))
    digest.update(f"\x1f{size}\x1f".encode() + head + file.read(_TAIL_BYTES))
    return _Looks(size, head, f'"{digest.hexdigest()[:32]}"')


def _answer(
    tenant: str, file: BinaryIO, part: FilePart, looks: _Looks, recording: str
) -> FileAnswer:
    kind = type_of(looks.head, recording)
    # What is no sound that we know shall not be shown by a browser as whatever it takes it for.
    shown = "attachment" if kind == UNKNOWN else "inline"
    return FileAnswer(
        tenant=tenant,
        file=file,
        part=part,
        headers={
            "Content-Type": kind,
            "Content-Disposition": f'{shown}; filename="{file_name(recording, kind)}"',
            "ETag": looks.etag,
            "Cache-Control": "private",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
        },
    )
