"""Whose statuses count: by the site, before the dialer has weighed them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.routing.handlers import hear_of_staff, keep_status
from services.routing.staff import Staff
from services.routing.store import DECISIONS, DecisionLog
from shared.bus.embedded import EmbeddedBus
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.envelope import wrap
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.contract.routing_kit import routing_deps

SITE = Site.model_validate(
    {
        "tenant": "acme",
        "pbx": [{"name": "main", "kind": "generic"}, {"name": "door", "kind": "generic"}],
        "agents": [{"extension": "101", "pbx": "main"}],
    }
)


@pytest.mark.parametrize(
    ("extension", "pbx", "seen"),
    [
        ("101", "main", "break"),
        ("101", "door", None),
        ("101", None, "break"),  # it does not say its name
        ("999", "door", "break"),  # nobody's
    ],
)
async def test_a_phone_of_an_agents_number_at_another_pbx_is_somebody_elses(
    clock: ManualClock, extension: str, pbx: str | None, seen: str | None
) -> None:
    """Also where nobody has told of the agent himself, so that there is nothing to set against it."""
    db = SqliteFile(None)
    await db.open()
    store = SqliteStore(db, clock)
    metrics, http = Metrics(), HttpClient(AddressGuard())
    connections = CrmConnections(
        store, http=http, secrets=SecretBox([new_key()]), clock=clock, metrics=metrics
    )
    deps = routing_deps(
        store,
        clock,
        connections=connections,
        finder=Finder(connections, store, clock=clock, metrics=metrics),
        decisions=DecisionLog(store.collection(DECISIONS), clock, keep=timedelta(days=1)),
        publisher=ServicePublisher(
            EmbeddedBus(db, clock=clock, metrics=metrics), service="routing", clock=clock
        ),
    )
    await store.collection(SITES).put(
        SiteDocument(
            key="acme", tenant="acme", site=SITE, changed_at=clock.now(), changed_by="test"
        )
    )
    await deps.site.refresh()
    said = AgentStatusChanged(extension=extension, status=AgentStatus.BREAK, source_name=pbx)
    message = wrap(said, source="ingest", occurred_at=clock.now(), tenant="acme")

    await hear_of_staff(deps, message)
    await keep_status(deps, message)

    assert deps.staff.seen("acme", extension) == seen
    later = Staff(clock)
    await deps.staff_book.read(later)
    assert later.seen("acme", extension) == seen
    await db.close()
