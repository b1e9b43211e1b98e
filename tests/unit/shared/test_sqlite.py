from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.errors import BadSetting, Unavailable
from shared.sqlite import SqliteFile


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    file = SqliteFile(tmp_path / "a.db")
    await file.open()
    await file.write(lambda c: c.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)"))
    yield file
    await file.close()


async def _numbers(db: SqliteFile) -> list[int]:
    rows: list[tuple[int]] = await db.read(
        lambda c: c.execute("SELECT n FROM t ORDER BY n").fetchall()
    )
    return [n for (n,) in rows]


async def test_many_callers_at_once_all_get_what_they_wrote(db: SqliteFile) -> None:
    async def add(n: int) -> None:
        await db.write(lambda c: c.execute("INSERT INTO t VALUES (?)", (n,)))

    await asyncio.gather(*(add(n) for n in range(2000)))
    assert await _numbers(db) == list(range(2000))


async def test_a_cursor_does_not_leave_its_thread(db: SqliteFile) -> None:
    assert await db.read(lambda c: c.execute("SELECT n FROM t")) is None


async def test_a_piece_that_fails_takes_nobody_elses_work_with_it(db: SqliteFile) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (100)")
        connection.execute("INSERT INTO t VALUES (1)")

    done = await asyncio.gather(
        db.write(lambda c: c.execute("INSERT INTO t VALUES (1)")),
        db.write(half),
        db.write(lambda c: c.execute("INSERT INTO t VALUES (2)")),
        return_exceptions=True,
    )
    assert isinstance(done[1], Unavailable)
    assert await _numbers(db) == [1, 2]


async def test_what_was_written_is_there_when_the_file_is_opened_again(
    db: SqliteFile,
) -> None:
    await db.write(lambda c: c.execute("INSERT INTO t VALUES (1)"))
    await db.close()
    await db.open()
    assert await _numbers(db) == [1]


async def test_a_closed_file_says_so(db: SqliteFile) -> None:
    await db.close()
    with pytest.raises(Unavailable, match="closed"):
        await _numbers(db)


async def test_a_file_that_cannot_be_opened_is_unavailable_not_a_hang(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    for path in (tmp_path / "no" / "folder" / "a.db", tmp_path / "text.db"):
        with pytest.raises(Unavailable, match="cannot open"):
            await SqliteFile(path).open()


async def test_a_full_disk_is_told_as_one_and_to_all_whose_work_it_took_back(
    db: SqliteFile,
) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE large AS SELECT zeroblob(10000000) AS data")

    await db.write(_allow_no_more_pages)

    async def add(n: int) -> None:
        await db.write(lambda c: c.execute("INSERT INTO t VALUES (?)", (n,)))

    *done, full = await asyncio.gather(
        *(add(n) for n in range(20)), db.write(fill), return_exceptions=True
    )

    assert isinstance(full, Unavailable)
    assert full.message == "the embedded database failed: database or disk is full"
    assert {str(failed) for failed in done if failed} <= {full.message}
    assert await _numbers(db) == [n for n, failed in enumerate(done) if failed is None]


def _allow_no_more_pages(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()


async def test_a_connection_that_cannot_even_roll_back_is_opened_again(db: SqliteFile) -> None:
    with pytest.raises(Unavailable):
        await db.write(lambda c: c.close())

    await db.write(lambda c: c.execute("INSERT INTO t VALUES (1)"))
    assert await _numbers(db) == [1]


async def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mesh.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bus_deliveries (seq INTEGER)")
    with pytest.raises(BadSetting, match=r"mesh\.db was made by another version"):
        await SqliteFile(path).open()


async def test_a_file_of_this_version_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        file = SqliteFile(tmp_path / "mesh.db")
        await file.open()
        await file.write(lambda db: db.execute("CREATE TABLE IF NOT EXISTS a (b)"))
        await file.close()
