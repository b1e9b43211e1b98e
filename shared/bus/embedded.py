"""
The bus inside one process, kept in an SQLite file: for one machine, and for every fast test.

The same promises as RabbitBus. A message is a row per consuming service, written in one
transaction before ``send`` returns and deleted when its handler is done, so that what was
accepted survives ``kill -9``. One process owns the file at a time; other processes may look at
its dead letters and replay them.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from shared.bus.delivery import (
    CRASHED,
    Dead,
    Done,
    Refused,
    code_of,
    dead_letter,
    deliver,
    deliver_once,
    letter_id,
    text_of,
)
from shared.bus.port import Consumer, DeadLetter, ForeignDoor, Subscription, WhichLetters
from shared.bus.topology import DELIVERY_LIMIT, Topology
from shared.clock import Clock
from shared.contracts.envelope import Message, Query
from shared.errors import MeshError, NotFound, OutOfTime, Unavailable
from shared.moments import from_ms, to_ms
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile

log = structlog.get_logger(__name__)

_TABLE = """
CREATE TABLE IF NOT EXISTS bus_deliveries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  service TEXT NOT NULL,
  type TEXT NOT NULL,
  tenant TEXT NOT NULL,
  message_id TEXT NOT NULL,
  data BLOB NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 1,
  due_ms INTEGER NOT NULL,
  first_failed_ms INTEGER,
  deliveries INTEGER NOT NULL DEFAULT 0,
  died_ms INTEGER,
  error_code TEXT,
  error TEXT,
  letter_id TEXT
)"""
_INDEX = """
CREATE INDEX IF NOT EXISTS bus_due ON bus_deliveries (queue, due_ms, seq) WHERE died_ms IS NULL"""
_DEAD_INDEX = """
CREATE INDEX IF NOT EXISTS bus_dead ON bus_deliveries (letter_id) WHERE died_ms IS NOT NULL"""
#: How often a worker looks for what another process replayed.
_LOOK = timedelta(seconds=1)
#: Until a database that failed is asked again.
_AGAIN = timedelta(seconds=1)
#: Live copies under way per subscription; more are dropped, screens only need the newest.
_LIVE_LIMIT = 1000


class EmbeddedBus:
    """
    *consumers* are all durable subscriptions of the mesh, running here or not: their messages
    are kept for them. Retries wait by the wall clock: set back, it makes them wait as much longer.
    """

    def __init__(
        self,
        db: SqliteFile,
        *,
        clock: Clock,
        metrics: Metrics,
        consumers: Sequence[Consumer] = (),
        topology: Topology | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._metrics = metrics
        self._topology = topology or Topology()
        self._consumers = list(consumers)
        self._workers: list[_Worker] = []
        self._live: list[_Once] = []
        self._answers: dict[str, _Once] = {}
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._open = False
        self.dead_letters = EmbeddedDeadLetters(db, clock)

    def subscribe(self, subscription: Subscription) -> None:
        if self._open:
            raise RuntimeError("subscribe before start")
        contract = subscription.contract
        if issubclass(contract, Query):
            if contract.wire_name() in self._answers:
                raise RuntimeError(f"two services answer {contract.wire_name()}")
            self._answers[contract.wire_name()] = _Once(subscription, self._metrics)
        elif subscription.live:
            self._live.append(_Once(subscription, self._metrics))
        else:
            if subscription.consumer not in self._consumers:
                self._consumers.append(subscription.consumer)
            queue = self._topology.work(subscription.consumer)
            self._workers.append(_Worker(subscription, queue, self._db, self._clock, self._metrics))

    def open_door(self, door: ForeignDoor) -> None:
        """Nothing to do: there is no broker to which a PBX could publish. Hooks by HTTP come in."""

    async def start(self) -> None:
        newest = await self._db.write(_create)
        self._open = True
        for worker in self._workers:
            worker.start(newest=newest)

    async def stop(self, *, drain: timedelta) -> None:
        for worker in self._workers:
            worker.take_no_more()
        running = {t for worker in self._workers for t in worker.running} | self._side_tasks
        if running:
            await asyncio.wait(running, timeout=drain.total_seconds())
        # Only now: a handler that finishes must be able to publish.
        self._open = False
        for task in self._side_tasks:
            task.cancel()
        for worker in self._workers:
            await worker.stop()
        await asyncio.gather(*self._side_tasks, return_exceptions=True)

    async def ready(self) -> bool:
        return self._open and all(worker.at_work for worker in self._workers)

    async def send(self, message: Message[Any]) -> None:
        if not self._open:
            raise Unavailable("the bus is not running")
        contract = type(message.body)
        data = message.encode()
        due = to_ms(self._clock.now())
        rows = [
            (
                self._topology.work(consumer),
                consumer.service,
                contract.wire_name(),
                message.tenant,
                str(message.id),
                data,
                due,
            )
            for consumer in self._consumers
            if consumer.contract is contract
        ]
        if rows:
            await self._db.write(lambda db: db.executemany(_INSERT, rows))
        self._metrics.count("callmesh_published_total", contract.wire_name(), "accepted")
        for worker in self._workers:
            if worker.subscription.contract is contract:
                worker.look()
        for live in self._live:
            if live.subscription.contract is contract and len(self._side_tasks) < _LIVE_LIMIT:
                self._aside(live.deliver(data, tenant=message.tenant))

    async def ask(self, message: Message[Any], *, within: timedelta) -> bytes:
        contract = type(message.body).wire_name()
        answering = self._answers.get(contract)
        if not self._open or answering is None:
            raise Unavailable(f"no service here answers {contract}")
        try:
            async with asyncio.timeout(within.total_seconds()):
                fate = await answering.deliver(message.encode(), tenant=message.tenant)
        except TimeoutError:
            raise OutOfTime(
                f"no answer to {contract} within {within.total_seconds():g} s"
            ) from None
        if isinstance(fate, Refused):
            raise fate.error()
        if fate.answer is None:
            raise MeshError("internal error")
        return fate.answer.model_dump_json().encode()

    def _aside(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


class _Once:
    """Answers questions, or takes live copies; up to ``prefetch`` at once."""

    def __init__(self, subscription: Subscription, metrics: Metrics) -> None:
        self.subscription = subscription
        self._metrics = metrics
        self._places = asyncio.Semaphore(subscription.prefetch)

    async def deliver(self, data: bytes, *, tenant: str) -> Done | Refused:
        async with self._places:
            return await deliver_once(data, self.subscription, tenant=tenant, metrics=self._metrics)


class _Taken(NamedTuple):
    seq: int
    tenant: str
    data: bytes
    attempt: int
    first_failed_ms: int | None
    deliveries: int


class _Worker:
    """Takes what is due in one queue and runs up to ``prefetch`` handlers at once."""

    def __init__(
        self,
        subscription: Subscription,
        queue: str,
        db: SqliteFile,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.subscription = subscription
        self._queue = queue
        self._db = db
        self._clock = clock
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._in_hand: dict[int, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._newest_before = 0

    @property
    def running(self) -> set[asyncio.Task[None]]:
        return set(self._in_hand.values())

    @property
    def at_work(self) -> bool:
        return self._loop is not None and not self._loop.done()

    def start(self, *, newest: int) -> None:
        """*newest* is the last row that earlier runs left behind."""
        self._newest_before = newest
        self._loop = asyncio.create_task(self._run(), name=f"worker {self._queue}")

    def look(self) -> None:
        self._wake.set()

    def take_no_more(self) -> None:
        if self._loop is not None:
            self._loop.cancel()

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        waiting = [*self.running, *([self._loop] if self._loop else [])]
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            free = self.subscription.prefetch - len(self._in_hand)
            try:
                taken = await self._take(free) if free > 0 else 0
                if free <= 0 or taken < free:
                    await self._rest()
            except Unavailable as error:
                log.warning("queue_not_read", queue=self._queue, error=error.message)
                await self._clock.sleep(_AGAIN)

    async def _take(self, free: int) -> int:
        in_hand = tuple(self._in_hand)
        found = await self._db.read(
            lambda db: db.execute(
                _DUE.format(marks=",".join("?" * len(in_hand))),
                (self._queue, to_ms(self._clock.now()), *in_hand, free),
            ).fetchall()
        )
        rows = [_Taken(*row) for row in found]
        # Only what an earlier run left behind can have ended it: new rows cost no second flush.
        left = [(row.seq,) for row in rows if row.seq <= self._newest_before]
        if left:
            await self._db.write(lambda db: db.executemany(_COUNT, left))
        for row in rows:
            self._in_hand[row.seq] = asyncio.create_task(self._handle(row))
        return len(rows)

    async def _rest(self) -> None:
        """Until there is news, the next retry is due, or it is time to look anyway."""
        found = await self._db.read(
            lambda db: db.execute(_NEXT_DUE, (self._queue, to_ms(self._clock.now()))).fetchone()
        )
        wait = _LOOK
        if found[0] is not None:
            wait = min(wait, from_ms(found[0]) - self._clock.now())
        nap = asyncio.create_task(self._clock.sleep(max(wait, timedelta(milliseconds=1))))
        news = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({nap, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            news.cancel()

    async def _handle(self, row: _Taken) -> None:
        try:
            try:
                change, values = await self._decide(row)
            except Exception as error:
                log.exception("message_undecided", queue=self._queue)
                change, values = self._burial(row, "internal", type(error).__name__)
            await self._store(change, values)
        finally:
            self._in_hand.pop(row.seq, None)
            self._wake.set()

    async def _decide(self, row: _Taken) -> tuple[str, tuple[Any, ...]]:
        """The statement that makes the message's fate true."""
        if row.deliveries > DELIVERY_LIMIT:
            log.error("message_dead", queue=self._queue, error_code=CRASHED[0])
            return self._burial(row, *CRASHED)
        since = row.first_failed_ms
        fate = await deliver(
            row.data,
            self.subscription,
            attempt=row.attempt,
            failing_since=None if since is None else from_ms(since),
            tenant=row.tenant,
            metrics=self._metrics,
            clock=self._clock,
        )
        if isinstance(fate, Done):
            return _DELETE, (row.seq,)
        if isinstance(fate, Dead):
            return self._burial(row, code_of(fate.error), text_of(fate.error))
        now = self._clock.now()
        return _RETRY, (to_ms(now + fate.after), to_ms(now), row.seq)

    def _burial(self, row: _Taken, code: str, text: str) -> tuple[str, tuple[Any, ...]]:
        now = to_ms(self._clock.now())
        return _BURY, (now, now, code, text, letter_id(self._queue, row.data), row.seq)

    async def _store(self, change: str, values: tuple[Any, ...]) -> None:
        """The place stays taken meanwhile, so a database that is full or locked slows us down."""
        while True:
            try:
                await self._db.write(lambda db: db.execute(change, values))
            except Unavailable as error:
                log.warning("fate_not_stored", queue=self._queue, error=error.message)
                await self._clock.sleep(_AGAIN)
            else:
                return


class EmbeddedDeadLetters:
    """Reads and replays straight from the file: also from another process."""

    def __init__(self, db: SqliteFile, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def list(
        self, which: WhichLetters | None = None, /, *, limit: int = 100
    ) -> Sequence[DeadLetter]:
        which = which or WhichLetters()
        tests = {
            "AND service = ?": which.service,
            "AND coalesce(tenant, '') = ?": which.tenant,
            "AND type = ?": which.contract,
            "AND died_ms >= ?": None if which.since is None else to_ms(which.since),
        }
        said = {test: value for test, value in tests.items() if value is not None}
        rest = f"{' '.join(said)} ORDER BY died_ms, seq LIMIT ?"
        return [_letter(row) for row in await self._rows(rest, (*said.values(), limit))]

    async def get(self, letter_id: str) -> DeadLetter:
        rows = await self._rows("AND letter_id = ? LIMIT 1", (letter_id,))
        if not rows:
            raise NotFound(f"no dead letter {letter_id}")
        return _letter(rows[0])

    async def replay(self, letter_id: str) -> DeadLetter:
        letter = await self.get(letter_id)
        due = to_ms(self._clock.now())
        await self._db.write(lambda db: db.execute(_RAISE, (due, letter_id)))
        return letter

    async def _rows(self, rest: str, params: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
        def work(db: sqlite3.Connection) -> Sequence[tuple[Any, ...]]:
            _create(db)
            return db.execute(_DEAD + rest, params).fetchall()

        return await self._db.write(work)


def _create(db: sqlite3.Connection) -> int:
    """The newest row there is."""
    for statement in (_TABLE, _INDEX, _DEAD_INDEX):
        db.execute(statement)
    newest: int = db.execute("SELECT coalesce(max(seq), 0) FROM bus_deliveries").fetchone()[0]
    return newest


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    queue, service, contract, tenant, message_id, data, attempt, first, died, code, error = row
    return dead_letter(
        queue=queue,
        service=service,
        contract=contract,
        tenant=tenant,
        message_id=message_id,
        data=data,
        attempts=attempt,
        first_failed_at=None if first is None else from_ms(first),
        died_at=from_ms(died),
        error_code=code,
        error=error,
    )


_INSERT = """
INSERT INTO bus_deliveries (queue, service, type, tenant, message_id, data, due_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_DUE = """
SELECT seq, tenant, data, attempt, first_failed_ms, deliveries FROM bus_deliveries
WHERE queue = ? AND died_ms IS NULL AND due_ms <= ? AND seq NOT IN ({marks})
ORDER BY due_ms, seq LIMIT ?"""
_NEXT_DUE = """
SELECT min(due_ms) FROM bus_deliveries WHERE queue = ? AND died_ms IS NULL AND due_ms > ?"""
_COUNT = "UPDATE bus_deliveries SET deliveries = deliveries + 1 WHERE seq = ?"
_DELETE = "DELETE FROM bus_deliveries WHERE seq = ?"
_RETRY = """
UPDATE bus_deliveries
SET attempt = attempt + 1, due_ms = ?, first_failed_ms = coalesce(first_failed_ms, ?),
  deliveries = 0
WHERE seq = ?"""
_BURY = """
UPDATE bus_deliveries
SET died_ms = ?, first_failed_ms = coalesce(first_failed_ms, ?), error_code = ?, error = ?,
  letter_id = ?
WHERE seq = ?"""
_RAISE = """
UPDATE bus_deliveries
SET died_ms = NULL, first_failed_ms = NULL, error_code = NULL, error = NULL, letter_id = NULL,
  attempt = 1, deliveries = 0, due_ms = ?
WHERE letter_id = ?"""
_DEAD = """
SELECT queue, service, type, tenant, message_id, data, attempt, first_failed_ms, died_ms,
  error_code, error
FROM bus_deliveries WHERE died_ms IS NOT NULL """
