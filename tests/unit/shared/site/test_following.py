from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.clock import SystemClock
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.following import run_for_each
from shared.site.models import Site
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually


class Office:
    """A site of which every change is seen at once, and the tasks that follow it."""

    def __init__(self, db: SqliteFile) -> None:
        self._clock = SystemClock()
        self._sites = SqliteStore(db, self._clock).collection(SITES)
        self.book = SiteBook(self._sites, self._clock, poll=timedelta(days=1))
        self.story: list[str] = []
        self.alive: set[str] = set()

    async def set(self, tenant: str, title: str) -> None:
        now = self._clock.now()
        document = SiteDocument(
            key=tenant,
            tenant=tenant,
            site=Site(tenant=tenant, title=title),
            changed_at=now,
            changed_by="test",
        )
        await self._sites.put(document)
        await self.book.refresh()

    async def remove(self, tenant: str) -> None:
        await self._sites.delete(tenant)
        await self.book.refresh()

    def wanted(self) -> dict[str, str]:
        return {tenant: site.title or "" for tenant, site in self.book.current.items()}

    async def run(self, tenant: str, title: str) -> None:
        if title == "broken":
            raise ValueError(tenant)
        self.story.append(f"{tenant} {title} begins")
        self.alive.add(tenant)
        try:
            await asyncio.Event().wait()
        finally:
            self.alive.discard(tenant)
            self.story.append(f"{tenant} {title} ends")


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    db = SqliteFile(None)
    await db.open()
    yield Office(db)
    await db.close()


@asynccontextmanager
async def followed(office: Office) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_for_each(office.book, office.wanted, office.run))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_and_what_is_added_later_is_worked_for(office: Office) -> None:
    await office.set("acme", "old")
    async with followed(office):
        await eventually(lambda: office.alive == {"acme"})
        await office.set("globex", "new")
        await eventually(lambda: office.alive == {"acme", "globex"})


async def test_what_is_removed_ends_and_the_others_are_left_alone(office: Office) -> None:
    await office.set("acme", "old")
    await office.set("globex", "old")
    async with followed(office):
        await eventually(lambda: len(office.alive) == 2)
        await office.remove("acme")
        await eventually(lambda: office.alive == {"globex"})
        assert "globex old ends" not in office.story


async def test_what_changes_ends_before_it_begins_anew(office: Office) -> None:
    await office.set("acme", "old")
    async with followed(office):
        await eventually(lambda: len(office.story) == 1)
        await office.set("acme", "new")
        await eventually(lambda: len(office.story) == 3)
        assert office.story[1:] == ["acme old ends", "acme new begins"]


async def test_at_the_end_all_have_ended(office: Office) -> None:
    await office.set("acme", "old")
    async with followed(office):
        await eventually(lambda: office.alive == {"acme"})
    assert office.alive == set()


async def test_a_task_that_fails_is_no_secret_and_ends_the_others(office: Office) -> None:
    await office.set("acme", "old")
    async with followed(office) as following:
        await eventually(lambda: office.alive == {"acme"})
        await office.set("globex", "broken")
        with pytest.raises(ExceptionGroup) as caught:
            await following
        assert isinstance(caught.value.exceptions[0], ValueError)
        assert office.alive == set()
