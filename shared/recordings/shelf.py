"""
Copies of recordings that were fetched from elsewhere: files in one folder, bounded in bytes and in
age. What was not used for longest goes first.

A file has its name only when it is whole. Of many who ask for one recording the first fetches it,
and it goes on being fetched when that one has left.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from shared.clock import Clock
from shared.errors import MeshError, OutOfTime, Rejected, Throttled, Unavailable
from shared.ids import new_id

log = structlog.get_logger(__name__)

#: Fetches at once, per process and PBX, which has calls to carry.
_AT_ONCE = 4
#: Of one PBX, under way and waiting.
_MOST_WAITING = 16
#: Of all, that there is an end to it.
_MOST = 256
#: All of one fetch.
_LONGEST = timedelta(minutes=15)
#: What a process left behind that was killed in the middle.
_FORGOTTEN = timedelta(hours=1)
_TEND_EVERY = timedelta(minutes=15)
_AGAIN = timedelta(seconds=5)
_PART = ".part"

#: Opens the recording where it is; its pieces in order.
Fetch = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    *most_bytes*: of what is kept; what is being fetched by a process may have as many beside.
    *largest*: bytes of one recording. *keep*: since it was fetched.
    """

    most_bytes: int
    largest: int
    keep: timedelta


@dataclass(slots=True)
class _Queue:
    """Of one PBX; *length*: who has a place, or waits for one."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    length: int = 0


class Shelf:
    """``tend`` has to run as a task. Processes may share the folder."""

    def __init__(self, folder: Path, clock: Clock, bounds: Bounds) -> None:
        self._folder = folder
        self._clock = clock
        self._bounds = bounds
        self._queues: dict[str, _Queue] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._parts: set[Path] = set()
        #: Bytes in them.
        self._coming = 0

    async def open(
        self,
        pbx: str,
        recording: str,
        fetch: Fetch,
        *,
        within: timedelta,
        newer_than: datetime | None = None,
    ) -> BinaryIO:
        """
        The whole recording, to be closed by the caller. *pbx* tells it from those of all tenants.
        *newer_than*: a copy that was made before is fetched anew.

        Raises: what *fetch* does; Unavailable when it is not here *within* that time, and comes
        on behind; Rejected where it is too large; Throttled.
        """
        identity = f"{pbx}\x1f{recording}"
        name = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()
        found = await asyncio.to_thread(self._kept, name, newer_than)
        if found is not None:
            return found
        await self._wait_for(pbx, name, fetch, within)
        found = await asyncio.to_thread(self._kept, name, newer_than)
        if found is None:
            raise Unavailable("There was no room for the recording.", retry_after=_AGAIN)
        return found

    async def tend(self) -> None:
        """For ever: what has grown too old goes, whether somebody asks or not."""
        while True:
            await self._made_room()
            await self._clock.sleep(_TEND_EVERY)

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for(self, pbx: str, name: str, fetch: Fetch, within: timedelta) -> None:
        task = self._under_way.get(name)
        if task is None:
            queue = self._queues.setdefault(pbx, _Queue())
            if queue.length >= _MOST_WAITING or len(self._under_way) >= _MOST:
                raise Throttled("Too many recordings are being fetched.", retry_after=_AGAIN)
            queue.length += 1
            task = asyncio.create_task(
                self._fetched(name, fetch, queue.places), name=f"recording {name[:8]}"
            )
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._over(pbx, name, done))
        await asyncio.wait({task}, timeout=within.total_seconds())
        if not task.done():
            raise Unavailable("The recording is being fetched.", retry_after=_AGAIN)
        task.result()

    def _over(self, pbx: str, name: str, task: asyncio.Task[None]) -> None:
        del self._under_way[name]
        self._queues[pbx].length -= 1
        if not self._queues[pbx].length:
            del self._queues[pbx]
        # Also of one that nobody waits for any more.
        error = None if task.cancelled() else task.exception()
        if error is not None:
            words = error.message if isinstance(error, MeshError) else type(error).__name__
            log.info("recording_not_fetched", error=words)

    async def _fetched(self, name: str, fetch: Fetch, places: asyncio.Semaphore) -> None:
        part = self._folder / f"{name}.{new_id()}{_PART}"
        self._parts.add(part)
        try:
            async with places, asyncio.timeout(_LONGEST.total_seconds()), fetch() as pieces:
                # Not by a thread: what it opened would be nobody's to close, were we cancelled.
                with self._begun(part) as file:
                    await self._written(pieces, file)
                await asyncio.to_thread(self._finish, part, name)
        except TimeoutError:
            raise OutOfTime("the recording took too long to fetch") from None
        except OSError as error:
            raise Unavailable(f"recordings cannot be kept here: {error.strerror}") from None
        finally:
            self._parts.discard(part)
            with suppress(OSError):
                part.unlink(missing_ok=True)
        await self._made_room(besides=name)

    async def _written(self, pieces: AsyncIterator[bytes], file: BinaryIO) -> None:
        size, largest = 0, min(self._bounds.largest, self._bounds.most_bytes)
        try:
            async for piece in pieces:
                size += len(piece)
                self._coming += len(piece)
                if size > largest:
                    raise Rejected(
                        f"The recording has more than {largest} bytes; the operator can allow it "
                        "by CALLMESH_GATEWAY_RECORDING_BYTES."
                    )
                if self._coming > self._bounds.most_bytes:
                    raise Unavailable("Too much is being fetched at once.", retry_after=_AGAIN)
                await asyncio.to_thread(file.write, piece)
        finally:
            self._coming -= size

    def _begun(self, part: Path) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        return os.fdopen(os.open(part, flags, 0o600), "wb")

    def _finish(self, part: Path, name: str) -> None:
        # On the disk before it has its name: after a power cut that would be a piece of it.
        opened = os.open(part, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
        now = self._clock.now().timestamp()
        os.utime(part, (now, now))
        part.replace(self._folder / name)

    def _kept(self, name: str, newer_than: datetime | None) -> BinaryIO | None:
        path = self._folder / name
        try:
            file = path.open("rb")
        except OSError:
            return None
        made = os.fstat(file.fileno()).st_mtime
        made_at = datetime.fromtimestamp(made, UTC)
        if self._is_old(made) or (newer_than is not None and made_at < newer_than):
            file.close()
            return None
        with suppress(OSError):
            # The time of its last use, by which what goes first is chosen; of this copy, even
            # where another has just taken its name.
            os.utime(file.fileno(), (self._clock.now().timestamp(), made))
        return file

    def _is_old(self, made: float) -> bool:
        return self._clock.now().timestamp() - made > self._bounds.keep.total_seconds()

    async def _made_room(self, *, besides: str = "") -> None:
        try:
            await asyncio.to_thread(self._make_room, besides)
        except OSError as error:
            log.warning("recordings_not_tended", error=error.strerror)

    def _make_room(self, besides: str) -> None:
        """Without what is too old, then without what was not used for longest."""
        if not self._folder.is_dir():
            return
        known: list[tuple[float, int, Path]] = []
        forgotten = self._clock.now().timestamp() - _FORGOTTEN.total_seconds()
        for path in self._folder.iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # another process was faster
            if path.suffix == _PART:
                if path not in self._parts and found.st_mtime < forgotten:
                    path.unlink(missing_ok=True)
            elif self._is_old(found.st_mtime):
                path.unlink(missing_ok=True)
            else:
                last = float("inf") if path.name == besides else found.st_atime
                known.append((last, found.st_size, path))
        total = sum(size for _, size, _ in known)
        for _, size, path in sorted(known, key=lambda one: one[0]):
            if total <= self._bounds.most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
