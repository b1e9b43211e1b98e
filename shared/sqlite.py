"""
One SQLite file for bus and store of the embedded mesh: one connection, one thread, group commit.

Whatever waits when the thread is free goes into one transaction, each piece in a savepoint of
its own, and results are handed out after the commit. So a caller that got its result knows that
it is on the disk, and many callers share one flush. aiosqlite has no place to do this: it hands
the thread one statement at a time.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import BadSetting, Unavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

#: Changes when a table does that is there already: then a file of before is refused, not guessed at.
_LAYOUT = 1
#: Pieces of work in one transaction at most, so that the first does not wait for ever.
_BATCH = 256
#: Another process (a command of the CLI) may hold the write lock for so long.
_BUSY_SECONDS = 5.0


@dataclass(slots=True)
class _Piece:
    work: Work[Any]
    writes: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.future.cancelled():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, sqlite3.Error):
            failed = Unavailable(f"the embedded database failed: {self.error}")
            self.future.set_exception(failed)
        else:
            self.future.set_exception(self.error)


class SqliteFile:
    """``path`` None keeps everything in memory: for tests, nothing survives."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pieces: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        #: The thread's own; None after one that could not even roll back.
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Raises: Unavailable for what cannot be opened, BadSetting for a file of another layout."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(
            target=self._serve, args=(opened,), name="sqlite", daemon=True
        )
        self._thread.start()
        await opened

    async def read(self, work: Work[T]) -> T:
        """Raises: Unavailable after ``close``."""
        return await self._submit(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """Returns when the change is durable; all of *work* or nothing. Raises: Unavailable."""
        return await self._submit(work, writes=True)

    async def close(self) -> None:
        """Finishes what was submitted."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._pieces.put(None)
            await asyncio.to_thread(thread.join)

    async def _submit(self, work: Work[T], *, writes: bool) -> T:
        if self._thread is None:
            raise Unavailable("the embedded database is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pieces.put(_Piece(work, writes, future))
        return await future

    def _serve(self, opened: asyncio.Future[None]) -> None:
        loop = opened.get_loop()
        try:
            self._connection = self._connect()
        except BadSetting as error:
            loop.call_soon_threadsafe(opened.set_exception, error)
            return
        except sqlite3.Error as error:
            refused = Unavailable(f"cannot open {self._path}: {error}")
            loop.call_soon_threadsafe(opened.set_exception, refused)
            return
        loop.call_soon_threadsafe(opened.set_result, None)
        try:
            while (piece := self._pieces.get()) is not None:
                if not self._run_batch(piece):
                    return
        finally:
            if self._connection is not None:
                self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or ":memory:", isolation_level=None, timeout=_BUSY_SECONDS
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: an accepted message survives a power cut too, not only a crash of the process.
        connection.execute("PRAGMA synchronous = FULL")
        self._check_layout(connection)
        return connection

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        """A file without tables is new, and becomes one of ours."""
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        new = connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None
        if new:
            connection.execute(f"PRAGMA user_version = {_LAYOUT}")
        elif layout != _LAYOUT:
            connection.close()
            raise BadSetting(
                f"CALLMESH_DATA_DIR: {self._path} was made by another version of callmesh; go on "
                "with that version, or use another folder"
            )

    def _run_batch(self, first: _Piece) -> bool:
        """False when the order to stop came with it."""
        batch, go_on = [first], True
        while len(batch) < _BATCH:
            try:
                piece = self._pieces.get_nowait()
            except queue.Empty:
                break
            if piece is None:
                go_on = False
                break
            batch.append(piece)
        try:
            connection = self._connection = self._connection or self._connect()
            if any(piece.writes for piece in batch):
                self._transact(connection, batch)
            else:
                for piece in batch:
                    _run(connection, piece)
        except sqlite3.Error as error:
            self._roll_back()
            for piece in batch:
                piece.error = error
        _settle(batch)
        return go_on

    def _roll_back(self) -> None:
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None

    @staticmethod
    def _transact(connection: sqlite3.Connection, batch: list[_Piece]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for piece in batch:
            connection.execute("SAVEPOINT piece")
            _run(connection, piece)
            if isinstance(piece.error, sqlite3.Error) and not connection.in_transaction:
                # A full disk rolls all of it back by itself.
                raise piece.error
            if piece.error is not None:
                connection.execute("ROLLBACK TO piece")
            connection.execute("RELEASE piece")
        connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, piece: _Piece) -> None:
    try:
        result = piece.work(connection)
        # A cursor must die in this thread: freed in another, it spoils what runs here.
        piece.result = None if isinstance(result, sqlite3.Cursor) else result
    except Exception as error:  # noqa: BLE001  it is the caller's, raised where it waits
        piece.error = error


def _settle(batch: list[_Piece]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Piece]] = {}
    for piece in batch:
        by_loop.setdefault(piece.future.get_loop(), []).append(piece)
    for loop, pieces in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_here, pieces)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            continue


def _settle_here(pieces: list[_Piece]) -> None:
    for piece in pieces:
        piece.settle()
