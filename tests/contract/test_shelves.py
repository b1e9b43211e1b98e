"""The rules as decisions find them, while the store's are changed under them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.routing.shelf import Shelves
from shared.clock import ManualClock
from shared.site.book import SiteBook
from shared.site.documents import RULES, SITES, RuleDocument, SiteDocument, source_of
from shared.site.models import Site
from shared.site.rulebook import RuleBook, serial_text
from shared.site.rules.rule import RoutingRule
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

DID = "442079460000"
SECOND = timedelta(seconds=1)


class OddBook(SiteBook):
    """Of its sites one says what no site should."""

    def site(self, tenant: str) -> Site | None:
        found = super().site(tenant)
        odd = found is not None and found.title == "odd"
        return found.model_copy(update={"zone": "Mars/Olympus"}) if found and odd else found


class Desk:
    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        store = SqliteStore(db, clock)
        self.sites, self.rules = store.collection(SITES), store.collection(RULES)
        self.site = OddBook(self.sites, clock, poll=SECOND)
        self.book = RuleBook(self.rules, clock, poll=SECOND)
        self.shelves = Shelves(self.book, self.site)
        self._clock, self._serial = clock, 0

    async def tenant(self, name: str, **words: str) -> None:
        site = Site.model_validate({"tenant": name, **words})
        now = self._clock.now()
        await self.sites.put(
            SiteDocument(key=name, tenant=name, site=site, changed_at=now, changed_by="test")
        )
        await self._clock.advance(SECOND)

    async def rule(
        self,
        tenant: str,
        *,
        name: str = "main",
        number: int = 1,
        rows: int = 1,
        to: str = "queue:a",
        source: str | None = None,
        deleted: bool = False,
    ) -> None:
        self._serial += 1
        document = RuleDocument(
            key=f"{tenant}/{name}",
            tenant=tenant,
            name=name,
            number=number,
            source=source or a_source(name, rows, to),
            deleted=deleted,
            what="changed",
            changed_at=self._clock.now(),
            changed_by="test",
            serial=serial_text(self._serial),
        )
        await self.rules.put(document)

    async def read(self) -> None:
        await self.site.refresh()
        await self.book.refresh()

    async def refresh(self) -> None:
        await self.read()
        await self.shelves.refresh()

    def default(self, tenant: str) -> str | None:
        standing = self.shelves.of(tenant).by_name.get("main")
        return str(standing.rule.default[0]) if standing is not None else None


def a_source(name: str, rows: int, to: str) -> str:
    each: list[dict[str, Any]] = [
        {"operator": "=", "value": f"v{number}", "destination": "queue:a"} for number in range(rows)
    ]
    rule = {"name": name, "dids": [DID], "crm": "zoho", "field": "Tier", "rows": each}
    return source_of(RoutingRule.model_validate({**rule, "default": to}))


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    db = SqliteFile(None)
    await db.open()
    yield Desk(db, clock)
    await db.close()


async def test_a_rule_that_cannot_be_read_stays_what_it_was(desk: Desk) -> None:
    for tenant in ("acme", "other"):
        await desk.tenant(tenant)
        await desk.rule(tenant)
    await desk.refresh()

    await desk.rule("acme", number=2, source='{"name": "main"}')
    await desk.rule("other", number=2, to="queue:b")
    await desk.refresh()

    assert (desk.default("acme"), desk.default("other")) == ("queue:a", "queue:b")
    await desk.rule("acme", number=3, to="queue:c")
    await desk.refresh()
    assert desk.default("acme") == "queue:c"


async def test_one_that_surprises_us_ends_nobody_elses_routing(desk: Desk) -> None:
    await desk.tenant("acme", title="odd")
    await desk.tenant("other")
    for tenant in ("acme", "other"):
        await desk.rule(tenant)

    await desk.refresh()

    assert (desk.default("acme"), desk.default("other")) == (None, "queue:a")


async def test_a_large_rule_does_not_hold_up_those_of_others(desk: Desk) -> None:
    for tenant in ("large", "small", "later"):
        await desk.tenant(tenant)
    await desk.rule("large", rows=30_000)
    await desk.rule("small")
    await desk.read()
    following = asyncio.create_task(desk.shelves.follow())
    try:
        await eventually(lambda: desk.default("small") == "queue:a")
        assert desk.default("large") is None

        await desk.rule("later")
        await desk.book.refresh()
        await eventually(lambda: desk.default("later") == "queue:a")
        assert desk.default("large") is None

        await eventually(lambda: desk.default("large") == "queue:a")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_what_a_tenant_changed_is_put_up_together(desk: Desk) -> None:
    await desk.tenant("acme")
    await desk.rule("acme", to="queue:a")
    await desk.refresh()

    await desk.rule("acme", number=2, to="rule:next")
    await desk.rule("acme", name="next", rows=10_000)
    await desk.read()
    renewing = asyncio.create_task(desk.shelves.refresh())
    await eventually(lambda: desk.default("acme") == "rule:next")

    assert "next" in desk.shelves.of("acme").by_name
    await renewing


async def test_a_change_while_one_is_read_is_not_missed(desk: Desk) -> None:
    await desk.tenant("acme")
    await desk.rule("acme", rows=5_000)
    await desk.read()
    renewing = asyncio.create_task(desk.shelves.refresh())
    await desk.rule("acme", number=2, to="queue:b")
    await desk.book.refresh()
    await renewing

    assert desk.default("acme") == "queue:b"


async def test_a_backup_that_was_played_back_holds_whatever_its_numbers(desk: Desk) -> None:
    await desk.tenant("acme")
    await desk.rule("acme", number=4, to="queue:a")
    await desk.refresh()

    await desk.rule("acme", number=4, to="queue:b")
    await desk.refresh()

    assert desk.default("acme") == "queue:b"


async def test_rules_wait_for_their_site_and_go_with_it(desk: Desk) -> None:
    await desk.rule("acme")
    await desk.refresh()
    assert desk.default("acme") is None

    await desk.tenant("acme")
    await desk.refresh()
    assert desk.default("acme") == "queue:a"

    await desk.sites.delete("acme")
    await desk.refresh()
    assert desk.default("acme") is None


async def test_a_rule_that_is_deleted_is_asked_no_more(desk: Desk) -> None:
    await desk.tenant("acme")
    await desk.rule("acme")
    await desk.refresh()

    await desk.rule("acme", number=2, deleted=True)
    await desk.refresh()

    assert desk.shelves.of("acme").by_name == {}
