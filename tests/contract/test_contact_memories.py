"""A contact that changed is forgotten in the memory of every service that finds contacts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from services.journal import handlers as journal
from services.journal.store import CALLS, CallLog
from services.routing import handlers as routing
from services.routing.store import DECISIONS, DecisionLog
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import SystemClock
from shared.contracts.contacts import ContactChanged
from shared.crm.finder import Finder
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.contract.lookup_kit import JANE, SOON, Desk, a_card, about
from tests.contract.routing_kit import routing_deps

DAY = timedelta(days=1)


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    file = SqliteFile(None)
    await file.open()
    yield file
    await file.close()


@pytest.fixture
async def desk(db: SqliteFile) -> AsyncIterator[Desk]:
    found = Desk(SqliteStore(db, SystemClock()), SystemClock())
    yield found
    await found.close()


def subscriptions(
    service: str, desk: Desk, finder: Finder, publisher: ServicePublisher
) -> Sequence[Subscription]:
    store, clock = desk.store, desk.clock
    site = SiteBook(store.collection(SITES), clock, poll=SOON)
    if service == "journal":
        calls = CallLog(store.collection(CALLS), clock, silent_after=DAY)
        return journal.router.bind(
            journal.Deps.over(
                store,
                calls=calls,
                site=site,
                connections=desk.connections(),
                finder=finder,
                publisher=publisher,
                clock=clock,
            )
        )
    decisions = DecisionLog(store.collection(DECISIONS), clock, keep=DAY)
    return routing.router.bind(
        routing_deps(
            store,
            clock,
            connections=desk.connections(),
            finder=finder,
            decisions=decisions,
            publisher=publisher,
        )
    )


@pytest.mark.parametrize("service", ["journal", "routing"])
@pytest.mark.parametrize(
    ("known", "change"),
    [
        (True, ContactChanged(connection="zoho", contact_id="1")),
        (True, ContactChanged(connection="zoho", numbers=("anonymous", JANE))),
        (False, ContactChanged(connection="zoho", numbers=("anonymous",))),
    ],
    ids=["by id", "by number", "nobody is unknown any more"],
)
async def test_what_changed_is_asked_for_again(
    db: SqliteFile, desk: Desk, service: str, known: bool, change: ContactChanged
) -> None:
    desk.crm.cards = [a_card("1")] if known else []
    bus = EmbeddedBus(db, clock=desk.clock, metrics=Metrics())
    publisher = ServicePublisher(bus, service="test", clock=desk.clock)
    finder = desk.finder()
    for subscription in subscriptions(service, desk, finder, publisher):
        bus.subscribe(subscription)
    await bus.start()
    for _ in range(2):
        await finder.find(about(), within=SOON)
    assert len(desk.crm.searches) == 1

    await publisher.publish(change, tenant="acme")

    async def is_asked_again() -> bool:
        await finder.find(about(), within=SOON)
        return len(desk.crm.searches) == 2

    await eventually(is_asked_again)
    await bus.stop(drain=SOON)
