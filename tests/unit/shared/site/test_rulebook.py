"""What a book of rules does while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.errors import Unavailable
from shared.site.documents import RULES
from shared.site.rulebook import RuleBook, serial_text
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

SECOND = timedelta(seconds=1)


@asynccontextmanager
async def watching(book: RuleBook) -> AsyncIterator[None]:
    task = asyncio.create_task(book.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    file = SqliteFile(None)
    await file.open()
    yield file
    await file.close()


@pytest.fixture
def book(db: SqliteFile, clock: ManualClock) -> RuleBook:
    return RuleBook(SqliteStore(db, clock).collection(RULES), clock, poll=SECOND)


async def test_a_book_of_an_empty_store_is_loaded_too(book: RuleBook) -> None:
    assert (book.loaded, book.dids("acme"), book.last("acme", "main")) == (False, (), None)
    assert await book.refresh()
    assert (book.loaded, dict(book.current), dict(book.of("acme"))) == (True, {}, {})
    assert not await book.refresh()


async def test_while_the_store_is_away_what_was_there_last_holds(
    book: RuleBook, db: SqliteFile
) -> None:
    await book.refresh()
    before = book.current
    await db.close()

    with pytest.raises(Unavailable):
        await book.refresh()

    assert (book.current, book.loaded) == (before, True)


async def test_who_watches_goes_on_when_the_store_comes_back(
    book: RuleBook, db: SqliteFile, clock: ManualClock
) -> None:
    await db.close()
    async with watching(book):
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(SECOND)
        await eventually(lambda: clock.sleepers == 1)
        assert not book.loaded

        await db.open()
        await clock.advance(SECOND)
        await eventually(lambda: book.loaded)


def test_serials_sort_as_texts() -> None:
    numbers = [0, 1, 9, 10, 99, 100, 123_456_789]
    assert sorted(map(serial_text, reversed(numbers))) == [serial_text(n) for n in numbers]
