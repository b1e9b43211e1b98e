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
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from shared.bus.delivery import Dead, Done, Retry, code_of, dead_letter, deliver, letter_id, text_of
from shared.bus.port import Consumer, DeadLetter, Subscription
from shared.bus.topology import Topology
from shared.clock import Clock
from shared.contracts.envelope import Message, Query
from shared.errors import MeshError, NotFound, OutOfTime, Unavailable
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
#: Live copies under way per subscription; more are dropped, screens only need the newest.
_LIVE_LIMIT = 1000


class EmbeddedBus:
    """
    *consumers* are all durable subscriptions of the mesh, running here or not: their messages
    are kept for them.
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
        self._live: list[Subscription] = []
        self._answers: dict[str, Subscription] = {}
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
            self._answers[contract.wire_name()] = subscription
        elif subscription.live:
            self._live.append(subscription)
        else:
            if subscription.consumer not in self._consumers:
                self._consumers.append(subscription.consumer)
            queue = self._topology.work(subscription.consumer)
            self._workers.append(_Worker(subscription, queue, self._db, self._clock, self._metrics))

    async def start(self) -> None:
        await self._db.write(_create)
        self._open = True
        for worker in self._workers:
            worker.start()

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
        return self._open

    async def send(self, message: Message[Any]) -> None:
        if not self._open:
            raise Unavailable("the bus is not running")
        contract = type(message.body)
        data = message.encode()
        due = _ms(self._clock.now())
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
        for subscription in self._live:
            if subscription.contract is contract and len(self._side_tasks) < _LIVE_LIMIT:
                self._aside(self._deliver_live(subscription, data, message.tenant))

    async def ask(self, message: Message[Any], *, within: timedelta) -> bytes:
        contract = type(message.body).wire_name()
        subscription = self._answers.get(contract)
        if not self._open or subscription is None:
            raise Unavailable(f"no service here answers {contract}")
        try:
            async with asyncio.timeout(within.total_seconds()):
                fate = await deliver(
                    message.encode(),
                    subscription,
                    attempt=subscription.retry.attempts,
                    tenant=message.tenant,
                    metrics=self._metrics,
                )
        except TimeoutError:
            raise OutOfTime(
                f"no answer to {contract} within {within.total_seconds():g} s"
            ) from None
        if isinstance(fate, Done) and fate.answer is not None:
            return fate.answer.model_dump_json().encode()
        if isinstance(fate, Dead | Retry) and isinstance(fate.error, MeshError):
            raise fate.error
        raise MeshError("internal error")

    def _aside(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    async def _deliver_live(self, subscription: Subscription, data: bytes, tenant: str) -> None:
        await deliver(
            data,
            subscription,
            attempt=subscription.retry.attempts,
            tenant=tenant,
            metrics=self._metrics,
        )


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

    @property
    def running(self) -> set[asyncio.Task[None]]:
        return set(self._in_hand.values())

    def start(self) -> None:
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
            taken = await self._take(free) if free > 0 else 0
            if free <= 0 or taken < free:
                await self._rest()

    async def _take(self, free: int) -> int:
        in_hand = tuple(self._in_hand)
        rows = await self._db.read(
            lambda db: db.execute(
                _DUE.format(marks=",".join("?" * len(in_hand))),
                (self._queue, _ms(self._clock.now()), *in_hand, free),
            ).fetchall()
        )
        for seq, tenant, data, attempt in rows:
            task = asyncio.create_task(self._handle(seq, tenant, data, attempt))
            self._in_hand[seq] = task
        return len(rows)

    async def _rest(self) -> None:
        """Until there is news, the next retry is due, or it is time to look anyway."""
        found = await self._db.read(
            lambda db: db.execute(_NEXT_DUE, (self._queue, _ms(self._clock.now()))).fetchone()
        )
        wait = _LOOK
        if found[0] is not None:
            wait = min(wait, timedelta(milliseconds=found[0]) - _since_epoch(self._clock.now()))
        nap = asyncio.create_task(self._clock.sleep(max(wait, timedelta(milliseconds=1))))
        news = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({nap, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            news.cancel()

    async def _handle(self, seq: int, tenant: str, data: bytes, attempt: int) -> None:
        try:
            fate = await deliver(
                data, self.subscription, attempt=attempt, tenant=tenant, metrics=self._metrics
            )
            now = _ms(self._clock.now())
            # A database that fails leaves the row as it was: the message comes again.
            with suppress(Unavailable):
                if isinstance(fate, Done):
                    await self._db.write(lambda db: db.execute(_DELETE, (seq,)))
                elif isinstance(fate, Retry):
                    due = now + round(fate.after / timedelta(milliseconds=1))
                    await self._db.write(lambda db: db.execute(_RETRY, (due, now, seq)))
                else:
                    died = (
                        now,
                        now,
                        code_of(fate.error),
                        text_of(fate.error),
                        letter_id(self._queue, data),
                        seq,
                    )
                    await self._db.write(lambda db: db.execute(_BURY, died))
        finally:
            self._in_hand.pop(seq, None)
            self._wake.set()


class EmbeddedDeadLetters:
    """Reads and replays straight from the file: also from another process."""

    def __init__(self, db: SqliteFile, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def list(self, *, service: str | None = None, limit: int = 100) -> Sequence[DeadLetter]:
        where, params = ("AND service = ?", (service, limit)) if service else ("", (limit,))
        rows = await self._rows(where + " ORDER BY died_ms, seq LIMIT ?", params)
        return [_letter(row) for row in rows]

    async def get(self, letter_id: str) -> DeadLetter:
        rows = await self._rows("AND letter_id = ? LIMIT 1", (letter_id,))
        if not rows:
            raise NotFound(f"no dead letter {letter_id}")
        return _letter(rows[0])

    async def replay(self, letter_id: str) -> DeadLetter:
        letter = await self.get(letter_id)
        due = _ms(self._clock.now())
        await self._db.write(lambda db: db.execute(_RAISE, (due, letter_id)))
        return letter

    async def _rows(self, rest: str, params: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
        def work(db: sqlite3.Connection) -> Sequence[tuple[Any, ...]]:
            _create(db)
            return db.execute(_DEAD + rest, params).fetchall()

        return await self._db.write(work)


def _create(db: sqlite3.Connection) -> None:
    for statement in (_TABLE, _INDEX, _DEAD_INDEX):
        db.execute(statement)


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
        first_failed_at=_at(first),
        died_at=_at(died),
        error_code=code,
        error=error,
    )


_INSERT = """
INSERT INTO bus_deliveries (queue, service, type, tenant, message_id, data, due_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_DUE = """
SELECT seq, tenant, data, attempt FROM bus_deliveries
WHERE queue = ? AND died_ms IS NULL AND due_ms <= ? AND seq NOT IN ({marks})
ORDER BY due_ms, seq LIMIT ?"""
_NEXT_DUE = """
SELECT min(due_ms) FROM bus_deliveries WHERE queue = ? AND died_ms IS NULL AND due_ms > ?"""
_DELETE = "DELETE FROM bus_deliveries WHERE seq = ?"
_RETRY = """
UPDATE bus_deliveries
SET attempt = attempt + 1, due_ms = ?, first_failed_ms = coalesce(first_failed_ms, ?)
WHERE seq = ?"""
_BURY = """
UPDATE bus_deliveries
SET died_ms = ?, first_failed_ms = coalesce(first_failed_ms, ?), error_code = ?, error = ?,
  letter_id = ?
WHERE seq = ?"""
_RAISE = """
UPDATE bus_deliveries
SET died_ms = NULL, first_failed_ms = NULL, error_code = NULL, error = NULL, letter_id = NULL,
  attempt = 1, due_ms = ?
WHERE letter_id = ?"""
_DEAD = """
SELECT queue, service, type, tenant, message_id, data, attempt, first_failed_ms, died_ms,
  error_code, error
FROM bus_deliveries WHERE died_ms IS NOT NULL """


def _since_epoch(moment: datetime) -> timedelta:
    return moment - datetime(1970, 1, 1, tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return _since_epoch(moment) // timedelta(milliseconds=1)


def _at(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
