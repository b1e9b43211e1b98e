"""Documents in an SQLite file: a table per collection, the document as JSON, indexes over it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from shared.clock import Clock
from shared.errors import Conflict, ContractError, NotFound, Unavailable
from shared.faults import faults_in
from shared.moments import to_ms
from shared.sqlite import SqliteFile
from shared.storage.port import (
    MAX_DOCUMENT_BYTES,
    AllOf,
    Collection,
    CollectionSpec,
    Condition,
    Document,
    Find,
    Is,
    Op,
    Page,
    counting,
    cursor_after,
    read_cursor,
    value_at,
    values_of,
)
from shared.storage.sqlite_where import bound, column, sql_of

D = TypeVar("D", bound=Document)
T = TypeVar("T")

_NAME = re.compile(r"^[a-z][a-z0-9_.]*$")
#: How often a collection looks for what is past its time, and how much goes with one write.
_SWEEP_EVERY = timedelta(minutes=1)
_SWEEP_ROWS = 1000


class SqliteStore:
    def __init__(self, db: SqliteFile, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def collection(self, spec: CollectionSpec[D]) -> Collection[D]:
        return SqliteCollection(self._db, self._clock, spec)

    async def ready(self) -> bool:
        try:
            await self._db.read(lambda db: db.execute("SELECT 1").fetchone())
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        """The file belongs to who opened it; the bus may still write."""


class SqliteCollection(Generic[D]):
    def __init__(self, db: SqliteFile, clock: Clock, spec: CollectionSpec[D]) -> None:
        if not _NAME.match(spec.name):
            raise ValueError(f"a collection is named in lower case: {spec.name}")
        self._db = db
        self._clock = clock
        self._spec = spec
        self._table = "doc_" + spec.name.replace(".", "_")
        self._made = False
        self._swept_at: datetime | None = None

    async def get(self, key: str) -> D:
        row = await self._read(
            lambda db: db.execute(
                f"SELECT version, body FROM {self._table} WHERE key = ? AND {_ALIVE}",  # noqa: S608  our own name
                (key, self._now()),
            ).fetchone()
        )
        if row is None:
            raise NotFound(f"{self._spec.name}: no {key}", key=key)
        return self._parsed(row)

    async def add(self, document: D) -> None:
        row = self._row(document)
        await self._write(lambda db: self._insert(db, row))

    async def add_all(self, documents: Sequence[D]) -> None:
        rows = [self._row(document) for document in documents]
        statement = (
            f"INSERT OR IGNORE INTO {self._table} (key, version, expires_ms, body) "  # noqa: S608  our own name
            "VALUES (?,?,?,?)"
        )
        await self._write(lambda db: db.executemany(statement, rows))

    async def put(self, document: D) -> None:
        row = self._row(document)

        def work(db: sqlite3.Connection) -> None:
            db.execute(f"DELETE FROM {self._table} WHERE key = ?", row[:1])  # noqa: S608  our own name
            self._insert(db, row)

        await self._write(work)

    async def replace(self, document: D) -> D:
        following = document.model_copy(update={"version": document.version + 1})
        key, version, expires, body = self._row(following)

        def work(db: sqlite3.Connection) -> None:
            done = self._clashing(
                db,
                f"UPDATE {self._table} SET version = ?, expires_ms = ?, body = ? "  # noqa: S608  our own name
                f"WHERE key = ? AND version = ? AND {_ALIVE}",
                (version, expires, body, key, document.version, self._now()),
            )
            if done.rowcount:
                return
            there = db.execute(
                f"SELECT 1 FROM {self._table} WHERE key = ? AND {_ALIVE}",  # noqa: S608  our own name
                (key, self._now()),
            ).fetchone()
            if there is None:
                raise NotFound(f"{self._spec.name}: no {key}", key=key)
            raise Conflict(f"{self._spec.name}: {key} was changed meanwhile", key=key)

        await self._write(work)
        return following

    async def delete(self, key: str) -> bool:
        def work(db: sqlite3.Connection) -> int:
            alive = db.execute(
                f"SELECT 1 FROM {self._table} WHERE key = ? AND {_ALIVE}",  # noqa: S608  our own name
                (key, self._now()),
            ).fetchone()
            db.execute(f"DELETE FROM {self._table} WHERE key = ?", (key,))  # noqa: S608  our own name
            return alive is not None

        return bool(await self._write(work))

    async def page(self, query: Find) -> Page[D]:
        where, params = self._where(query)
        order = _unhelped(query, self._spec) + column(query.order_by)
        way = "DESC" if query.descending else "ASC"
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT version, body FROM {self._table} WHERE {where} "  # noqa: S608  checked names
                f"ORDER BY {order} {way}, key {way} LIMIT ?",
                (*params, query.limit + 1),
            ).fetchall()
        )
        documents = [self._parsed(row) for row in rows[: query.limit]]
        more = len(rows) > query.limit
        last = documents[-1] if documents and more else None
        return Page(
            documents, cursor_after(value_at(last, query.order_by), last.key) if last else None
        )

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        text, params = self._where(counting(what, equals))
        row = await self._read(
            lambda db: db.execute(
                f"SELECT count(*) FROM {self._table} WHERE {text}",  # noqa: S608  checked names
                params,
            ).fetchone()
        )
        return int(row[0])

    def _where(self, query: Find) -> tuple[str, tuple[Any, ...]]:
        order = column(query.order_by)
        # Of a few keys each is looked up, whatever else is said of them.
        plain = "+" if "key" in _named(query) else ""
        parts: list[str] = [f"{order} IS NOT NULL"] if order != "key" else []
        params: list[Any] = []
        if self._spec.expires_by is not None:
            # Not where it is needless: an index alone then tells how many there are.
            parts.append(_ALIVE)
            params.append(self._now())
        for name, value in query.equals.items():
            if value is None:
                parts.append(f"{column(name)} IS NULL")
            else:
                parts.append(f"{plain}{column(name)} = ?")
                params.append(bound(value))
        for bounds, sign in ((query.since, ">="), (query.until, "<")):
            for name, value in bounds.items():
                parts.append(f"{plain}{column(name)} {sign} ?")
                params.append(bound(value))
        if query.where is not None:
            text, values = sql_of(query.where, self._spec.model)
            parts.append(text)
            params += values
        if query.cursor is not None:
            value, key = read_cursor(query.cursor)
            sign = "<" if query.descending else ">"
            parts.append(f"({order}, key) {sign} (?, ?)")
            params += [bound(value), key]
        return " AND ".join(parts) or "1", tuple(params)

    def _insert(self, db: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        statement = f"INSERT INTO {self._table} (key, version, expires_ms, body) VALUES (?,?,?,?)"  # noqa: S608  our own name
        self._clashing(db, statement, row)

    def _clashing(
        self, db: sqlite3.Connection, statement: str, row: tuple[Any, ...]
    ) -> sqlite3.Cursor:
        """One more try after a clash: what is in the way may be past its time."""
        try:
            return db.execute(statement, row)
        except sqlite3.IntegrityError:
            db.execute(f"DELETE FROM {self._table} WHERE NOT {_ALIVE}", (self._now(),))  # noqa: S608  our own name
        try:
            return db.execute(statement, row)
        except sqlite3.IntegrityError:
            raise Conflict(f"{self._spec.name}: the key or a unique value exists") from None

    def _row(self, document: D) -> tuple[str, int, int | None, str]:
        body = document.model_dump_json(exclude={"version"})
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ContractError(f"{self._spec.name}: {document.key} is over 16 MiB")
        expires = getattr(document, self._spec.expires_by) if self._spec.expires_by else None
        return document.key, document.version, to_ms(expires) if expires else None, body

    def _parsed(self, row: tuple[int, str]) -> D:
        try:
            document = self._spec.model.model_validate_json(row[1], extra="ignore")
        except ValidationError as error:
            raise ContractError(
                f"{self._spec.name}: a document cannot be read: {faults_in(error)}"
            ) from None
        document.version = row[0]
        return document

    def _now(self) -> int:
        return to_ms(self._clock.now())

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._make()
        return await self._db.read(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._make()
        now = self._clock.now()
        if not self._spec.expires_by or (self._swept_at and now - self._swept_at < _SWEEP_EVERY):
            return await self._db.write(work)
        done, swept = await self._db.write(lambda db: (work(db), self._sweep(db)))
        if swept < _SWEEP_ROWS:
            self._swept_at = now
        return done

    def _sweep(self, db: sqlite3.Connection) -> int:
        """Delete some that are past their time: else the file would only grow."""
        return db.execute(
            f"DELETE FROM {self._table} WHERE rowid IN "  # noqa: S608  our own name
            f"(SELECT rowid FROM {self._table} WHERE expires_ms <= ? LIMIT ?)",
            (self._now(), _SWEEP_ROWS),
        ).rowcount

    async def _make(self) -> None:
        if self._made:
            return

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (key TEXT PRIMARY KEY, "
                "version INTEGER NOT NULL, expires_ms INTEGER, body TEXT NOT NULL)"
            )
            for index in self._spec.indexes:
                columns = ", ".join(column(name) for name in index.fields)
                name = f"{self._table}__{'__'.join(index.fields).replace('.', '_')}"
                kind = "UNIQUE INDEX" if index.unique else "INDEX"
                db.execute(f"CREATE {kind} IF NOT EXISTS {name} ON {self._table} ({columns})")
            if self._spec.expires_by:
                db.execute(
                    f"CREATE INDEX IF NOT EXISTS {self._table}__expires "
                    f"ON {self._table} (expires_ms) WHERE expires_ms IS NOT NULL"
                )

        await self._db.write(work)
        self._made = True


def _named(query: Find) -> dict[str, int]:
    """Fields of which *query* says what they must be, and how many values it names."""
    parts = query.where.parts if isinstance(query.where, AllOf) else [query.where]
    tests = [part for part in parts if isinstance(part, Is) and part.op in {Op.EQ, Op.IN}]
    return {test.field: len(values_of(test)) for test in tests}


def _unhelped(query: Find, spec: CollectionSpec[Any]) -> str:
    """
    ``+`` where no index may be chosen for the order's sake: SQLite takes one over all documents
    of a tenant for better than one that leads to the few that have one of several values.
    """
    named = _named(query)
    lead = len(query.equals)
    narrow = {"key"} | {
        index.fields[lead]
        for index in spec.indexes
        if len(index.fields) > lead and set(index.fields[:lead]) == set(query.equals)
    }
    return "+" if any(count != 1 for name, count in named.items() if name in narrow) else ""


_ALIVE = "(expires_ms IS NULL OR expires_ms > ?)"
