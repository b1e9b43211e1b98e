from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.lookup.handlers import (
    Deps,
    create_contact,
    fetch_users,
    find_contact,
    forget_contact,
    learn_of_answer,
    read_users,
    resolve_caller,
)
from services.lookup.making import ContactMaker
from services.lookup.store import CALLERS, MAKINGS, CallerBook, MakingBook
from shared.bus.embedded import EmbeddedBus
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock
from shared.contracts.calls import CallAnswered, Party
from shared.contracts.contacts import ContactChanged, CreateContact, FetchUsers, FindContact
from shared.contracts.envelope import wrap
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import USERS, UserBook
from shared.errors import NotFound, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickLinks
from shared.site.documents import RULES, SITES
from shared.site.rulebook import RuleBook
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call
from tests.contract.cards_kit import card_teller, module_keeper

CHANGED = ContactChanged(connection="zoho", numbers=("07700900123",))


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    """Away until it is opened."""
    found = SqliteFile(None)
    yield found
    await found.close()


@pytest.fixture
def deps(db: SqliteFile, clock: ManualClock) -> Deps:
    """No site is loaded."""
    store = SqliteStore(db, clock)
    connections = CrmConnections(
        store,
        http=HttpClient(AddressGuard()),
        secrets=SecretBox([new_key()]),
        clock=clock,
        metrics=Metrics(),
    )
    bus = EmbeddedBus(db, clock=clock, metrics=Metrics())
    finder = Finder(connections, store, clock=clock, metrics=Metrics())
    users = UserBook(store.collection(USERS), clock)
    site = SiteBook(store.collection(SITES), clock, poll=timedelta(seconds=1))
    return Deps(
        finder=finder,
        connections=connections,
        users=users,
        callers=CallerBook(store.collection(CALLERS), clock),
        maker=ContactMaker(
            finder=finder,
            connections=connections,
            users=users,
            makings=MakingBook(store.collection(MAKINGS), clock),
            clock=clock,
        ),
        cards=card_teller(
            store,
            connections=connections,
            finder=finder,
            publisher=ServicePublisher(bus, service="lookup", clock=clock),
            clock=clock,
        ),
        modules=module_keeper(
            store,
            connections=connections,
            site=site,
            links=ClickLinks(SecretBox([new_key()]), public_url=None),
            clock=clock,
        ),
        site=site,
        rules=RuleBook(store.collection(RULES), clock, poll=timedelta(seconds=1)),
        publisher=ServicePublisher(bus, service="lookup", clock=clock),
        clock=clock,
        search_within=timedelta(seconds=1),
    )


async def test_a_call_that_comes_before_the_site_is_known_is_looked_up_later(
    deps: Deps, db: SqliteFile
) -> None:
    call = wrap(a_call(), source="ingest", tenant="acme", occurred_at=NOON)
    with pytest.raises(Unavailable, match="not loaded"):
        await resolve_caller(deps, call)
    await db.open()
    await deps.site.refresh()
    await deps.rules.refresh()
    # Now it is known that this tenant has none.
    await resolve_caller(deps, call)


async def test_nothing_is_not_found_before_the_site_is_known(deps: Deps, db: SqliteFile) -> None:
    question = wrap(FindContact(number="1"), source="x", tenant="acme", occurred_at=NOON)
    with pytest.raises(Unavailable, match="not loaded"):
        await find_contact(deps, question)
    with pytest.raises(Unavailable, match="not loaded"):
        await read_users(deps, "acme", "zoho")
    await db.open()
    await deps.site.refresh()
    await deps.rules.refresh()
    with pytest.raises(NotFound):
        await find_contact(deps, question)


async def test_a_change_is_not_read_without_the_region_of_its_numbers(deps: Deps) -> None:
    with pytest.raises(Unavailable, match="not loaded"):
        await forget_contact(deps, wrap(CHANGED, source="x", tenant="acme", occurred_at=NOON))


async def test_no_contact_is_made_before_it_is_known_whether_one_may(deps: Deps) -> None:
    order = CreateContact(call_id="c1", connection="zoho", number="+447700900123")
    answer = CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"))
    with pytest.raises(Unavailable, match="not loaded"):
        await create_contact(deps, wrap(order, source="x", tenant="acme", occurred_at=NOON))
    with pytest.raises(Unavailable, match="not loaded"):
        await learn_of_answer(deps, wrap(answer, source="x", tenant="acme", occurred_at=NOON))


async def test_nobody_is_asked_for_the_users_of_a_connection_that_is_not_there(
    deps: Deps, db: SqliteFile
) -> None:
    await db.open()
    await deps.site.refresh()
    await deps.rules.refresh()
    question = wrap(FetchUsers(connection="zoho"), source="x", tenant="acme", occurred_at=NOON)
    with pytest.raises(NotFound, match="no CRM connection zoho"):
        await fetch_users(deps, question)
