from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from services.routing.decider import Decider
from services.routing.store import DECISIONS, DecisionDocument, DecisionLog
from shared.bus.embedded import EmbeddedBus
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock
from shared.contracts.envelope import Message
from shared.contracts.routing import CallRouted, DecideRoute, RouteReason
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.port import Collection
from shared.storage.sqlite import SqliteStore
from tests.contract.routing_kit import routing_deps

ASKED = DecideRoute(pbx="main", call_id="c1", did="442079460000", caller="447700900123")


@pytest.mark.parametrize("away", ["store", "bus"])
async def test_a_decision_is_told_to_the_one_of_store_and_bus_that_is_there(
    clock: ManualClock, away: str
) -> None:
    told: list[str] = []

    async def hear(message: Message[CallRouted]) -> None:
        told.append("bus")

    async with opened() as there:
        gone = SqliteFile(None)
        store = SqliteStore(gone if away == "store" else there, clock)
        bus = EmbeddedBus(gone if away == "bus" else there, clock=clock, metrics=Metrics())
        bus.subscribe(
            Subscription(consumer=Consumer("journal", CallRouted), handler=hear, live=True)
        )
        if away == "store":
            await bus.start()
        decisions = store.collection(DECISIONS)
        decider = a_decider(store, decisions, bus, clock)
        decision = await decider.decide("acme", ASKED, face="http")
        await decider.close()
        await bus.stop(drain=timedelta(seconds=5))
        if away == "bus":
            told += ["store"] * await decisions.count(call_id="c1")
    assert decision.reason is RouteReason.NO_RULE
    assert told == [{"store": "bus", "bus": "store"}[away]]


@asynccontextmanager
async def opened() -> AsyncIterator[SqliteFile]:
    db = SqliteFile(None)
    await db.open()
    yield db
    await db.close()


def a_decider(
    store: SqliteStore,
    decisions: Collection[DecisionDocument],
    bus: EmbeddedBus,
    clock: ManualClock,
) -> Decider:
    connections = CrmConnections(
        store,
        http=HttpClient(AddressGuard()),
        secrets=SecretBox([new_key()]),
        clock=clock,
        metrics=Metrics(),
    )
    return routing_deps(
        store,
        clock,
        connections=connections,
        finder=Finder(connections, store, clock=clock, metrics=Metrics()),
        decisions=DecisionLog(decisions, clock, keep=timedelta(days=1)),
        publisher=ServicePublisher(bus, service="routing", clock=clock),
    ).decider
