"""Agents' statuses between a PBX, a CRM and people: over a real bus, both stores, and real requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.dialer import statuses as of_dialer
from services.dialer.agents import AGENTS, STATUSES, AgentBook
from shared.contracts.agents import (
    STATUS_HOLDS,
    AgentStatus,
    ListAgents,
    SetAgentStatus,
    Side,
)
from shared.contracts.envelope import Command, Event, Message, wrap
from shared.sqlite import SqliteFile
from shared.storage.newest import NewestOrders
from shared.storage.port import DocumentStore
from shared.testing.waiting import eventually
from tests.contract.dial_kit import Fuse, Fused, Killed
from tests.contract.statuses_kit import NOBODY, TENANT, Mesh, a_mesh, a_store, an_order, set_up_anew

FREE, BUSY, BREAK, DINNER, OFFLINE = AgentStatus
LONG_AGO = timedelta(minutes=3)


@pytest.fixture
async def db() -> AsyncIterator[SqliteFile]:
    found = SqliteFile(None)
    await found.open()
    yield found
    await found.close()


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, db: SqliteFile) -> AsyncIterator[DocumentStore]:
    async with a_store(request, db) as found:
        yield found


@pytest.fixture
async def mesh(store: DocumentStore, db: SqliteFile) -> AsyncIterator[Mesh]:
    async with a_mesh(store, db) as found:
        yield found


# -- to and fro ------------------------------------------------------------------------------


async def test_what_a_user_of_the_crm_does_reaches_the_pbx_and_comes_back_as_an_echo(
    mesh: Mesh,
) -> None:
    await mesh.crm_says(DINNER)
    await mesh.doing(DINNER)
    await mesh.quiet()
    assert mesh.told_uis == [(25, "not_at_workplace")]
    assert mesh.told_crm == [], "it said so itself"
    assert mesh.counted("callmesh_statuses_heard_total") == {
        ("crm", "changed"): 1,
        ("pbx", "echo"): 1,
    }
    record = await mesh.record()
    assert (record.status, record.own, record.source, record.source_name, record.faults) == (
        DINNER,
        "dinner",
        Side.CRM,
        "shop",
        (),
    )


async def test_what_the_pbx_says_reaches_the_crm(mesh: Mesh) -> None:
    await mesh.pbx_says(BREAK)
    await eventually(lambda: mesh.told_crm == [(24, "break")])
    await mesh.quiet()
    assert mesh.told_uis == []
    assert mesh.counted("callmesh_statuses_told_total") == {("crm", "told"): 1}


async def test_what_a_person_says_reaches_both_and_it_ends_there(mesh: Mesh) -> None:
    mesh.crm.echoes = True
    await mesh.person_says(BUSY)
    await eventually(lambda: mesh.told_crm == [(24, "busy")])
    await mesh.quiet()
    assert mesh.told_uis == [(25, "do_not_disturb")]
    assert (await mesh.record()).source is Side.API
    assert [one.status for one in mesh.settled] == [BUSY]


async def test_a_pbx_with_two_words_does_not_degrade_the_status(mesh: Mesh) -> None:
    """By the account's older flag: a dinner comes back as busy."""
    await mesh.apply(uis_more="        calls_available: true")
    await set_up_anew(mesh)
    await mesh.crm_says(DINNER)
    await mesh.doing(DINNER)
    await mesh.quiet()
    assert mesh.told_uis == [(25, False)]
    assert (await mesh.record()).status is DINNER
    assert mesh.told_crm == []
    staff = mesh.replicas[0].staff
    assert staff.seen(TENANT, "101") == "dinner", "also for who waits for the responsible manager"
    await mesh.pbx_says(FREE)
    await eventually(lambda: mesh.told_crm == [(24, "free")])
    await mesh.quiet()
    assert staff.seen(TENANT, "101") == "free"


async def test_the_sites_own_words_are_told(mesh: Mesh) -> None:
    await mesh.apply(
        uis_more="        statuses: {dinner: lunch}", status="{tell: true, words: {break: pause}}"
    )
    await set_up_anew(mesh)
    await mesh.person_says(DINNER)
    await eventually(lambda: mesh.told_uis == [(25, "lunch")])
    await mesh.quiet()
    await mesh.pbx_says(DINNER, own="lunch")
    await mesh.quiet()
    assert (await mesh.record()).source is Side.API, "it only said it back"


async def test_a_crm_that_does_not_want_to_be_told_is_not_and_its_word_counts(mesh: Mesh) -> None:
    await mesh.apply(status="{tell: false}")
    await mesh.pbx_says(BREAK)
    await mesh.doing(BREAK)
    await mesh.crm_says(FREE)
    await mesh.doing(FREE)
    await mesh.quiet()
    assert mesh.told_crm == []
    assert mesh.told_uis == [(25, "available")]


async def test_the_word_of_a_crm_that_is_not_heeded_does_not_count(mesh: Mesh) -> None:
    await mesh.apply(status="{tell: true, heed: false}")
    await mesh.crm_says(DINNER)
    await mesh.quiet()
    assert (await mesh.record()).status is None
    assert mesh.told_uis == []
    assert mesh.counted("callmesh_statuses_heard_total") == {("crm", "unheeded"): 1}


async def test_a_phone_of_the_same_number_at_another_pbx_is_somebody_else(mesh: Mesh) -> None:
    await mesh.pbx_says(FREE)
    await mesh.quiet()
    await mesh.says(DINNER, Side.PBX, "door")
    await mesh.quiet()
    assert (await mesh.record()).status is FREE
    assert mesh.told_crm == [(24, "free")]
    assert mesh.replicas[0].staff.seen(TENANT, "101") == "free"


async def test_of_who_is_no_agent_of_the_site_nobody_is_told(mesh: Mesh) -> None:
    await mesh.says(DINNER, Side.PBX, "uis", extension="999")
    await mesh.doing(DINNER, "999")
    await mesh.quiet()
    assert (mesh.told_uis, mesh.told_crm) == ([], [])
    assert mesh.replicas[0].staff.seen(TENANT, "999") == "dinner"


async def test_a_pbx_that_takes_no_orders_is_heard_all_the_same(mesh: Mesh) -> None:
    await mesh.says(BREAK, Side.PBX, "door", extension="103")
    await mesh.doing(BREAK, "103")
    await mesh.says(FREE, Side.API, "a-key", extension="103")
    await mesh.doing(FREE, "103")
    await mesh.quiet()
    assert mesh.told_uis == []
    assert (await mesh.record("103")).faults == ("crm shop: " + NOBODY,)


async def test_hostile_words_are_text_and_no_more(mesh: Mesh) -> None:
    own = "\x1b[2J'; DROP TABLE agents; -- {{.ApiKey}} $where"
    await mesh.says(BREAK, Side.PBX, "uis", own=own)
    await mesh.doing(BREAK)
    await mesh.quiet()
    assert (await mesh.record()).own == own
    assert mesh.told_crm == [(24, "break")]


# -- doubled, late, at once ------------------------------------------------------------------


async def test_the_same_message_again_has_one_effect(mesh: Mesh) -> None:
    said = mesh.message(DINNER, Side.CRM, "shop", own="dinner", key="once")
    for _ in range(3):
        await mesh.bus.send(said)
    await mesh.doing(DINNER)
    await mesh.quiet()
    await mesh.bus.send(said)
    await mesh.quiet()
    # Of orders that are handled at the very same time each may reach the PBX: it is one order.
    assert set(mesh.told_uis) == {(25, "not_at_workplace")}
    assert {one.weighed for one in mesh.settled} == {said.occurred_at}
    count = len(mesh.told_uis)
    await mesh.bus.send(said)
    await mesh.quiet()
    assert len(mesh.told_uis) == count


async def test_a_pbx_that_is_connected_anew_makes_no_storm(mesh: Mesh) -> None:
    await mesh.pbx_says(FREE)
    await mesh.pbx_says(BUSY, extension="102")
    await mesh.crm_says(DINNER)
    await mesh.doing(DINNER)
    await mesh.quiet()
    told = (list(mesh.told_uis), list(mesh.told_crm), len(mesh.settled))
    for _ in range(5):
        await mesh.pbx_says(DINNER, own="not_at_workplace")
        await mesh.pbx_says(BUSY, extension="102")
    await mesh.quiet()
    assert (mesh.told_uis, mesh.told_crm, len(mesh.settled)) == told


async def test_sides_that_speak_at_once_come_to_the_latest_whoever_handles_it(mesh: Mesh) -> None:
    """Two replicas of the dialer, and messages in any order."""
    mesh.add_replica().boards._boards = mesh.replicas[0].boards._boards
    said = [
        mesh.message(status, source, name, ago=timedelta(milliseconds=10 * ago))
        for ago, (status, source, name) in enumerate(
            [
                (FREE, Side.PBX, "uis"),
                (DINNER, Side.CRM, "shop"),
                (BUSY, Side.API, "a-key"),
                (BREAK, Side.PBX, "uis"),
                (OFFLINE, Side.API, "a-key"),
            ]
        )
    ]
    await asyncio.gather(
        *(
            of_dialer.hear_status(mesh.replicas[number % 2].dialer, message)
            for number, message in enumerate([*reversed(said), *said])
        )
    )
    await mesh.quiet()
    assert (await mesh.record()).status is FREE
    assert mesh.crm.users[24].status == "free"
    assert not mesh.told_uis or mesh.told_uis[-1] == (25, "available")


class Crossing:
    """The dialer's publisher, and its store, of a process that may be killed at each step."""

    def __init__(self, mesh: Mesh, fuse: Fuse) -> None:
        self._inner = mesh.dialer.publisher
        self._fuse = fuse
        agents = Fused(mesh.store.collection(AGENTS), fuse)
        orders = Fused(mesh.store.collection(STATUSES), fuse)
        self.deps = replace(
            mesh.dialer,
            publisher=self,
            agents=AgentBook(agents, mesh.clock),
            orders=NewestOrders(orders, mesh.clock, keep=2 * STATUS_HOLDS),
        )

    async def publish(self, body: Event | Command, **more: Any) -> Message[Any]:
        self._fuse.step()
        found = await self._inner.publish(body, **more)
        self._fuse.step()
        return found


@pytest.mark.parametrize("step", range(1, 10))
async def test_a_dialer_that_is_killed_at_any_step_tells_once_what_it_decided(
    mesh: Mesh, step: int
) -> None:
    said = mesh.message(DINNER, Side.CRM, "shop", own="dinner")
    deps = Crossing(mesh, Fuse(step)).deps
    if step <= 8:
        with pytest.raises(Killed):
            await of_dialer.hear_status(deps, said)
    else:
        await of_dialer.hear_status(deps, said)
    await of_dialer.hear_status(mesh.dialer, said)
    await mesh.quiet()
    assert set(mesh.told_uis) == {(25, "not_at_workplace")}
    orders = {message.id for message in mesh.heard if isinstance(message.body, SetAgentStatus)}
    assert len(orders) == 1
    assert {one.since for one in mesh.settled} == {said.occurred_at}
    document = await mesh.store.collection(AGENTS).get(f"{TENANT}/101")
    assert (document.known.status, document.outbox) == (DINNER, ())


@pytest.mark.parametrize("step", range(1, 8))
async def test_an_order_that_was_killed_at_any_step_is_carried_out(mesh: Mesh, step: int) -> None:
    """Twice only where the PBX was asked, and nobody had written down that it answered."""
    mesh.echoes = False
    order = an_order(mesh, DINNER)
    crossing = Crossing(mesh, Fuse(step)).deps
    try:
        await of_dialer.set_status(crossing, order)
    except Killed:
        await of_dialer.set_status(mesh.dialer, order)
    else:
        assert step > 4
    assert set(mesh.told_uis) == {(25, "not_at_workplace")}
    assert len(mesh.told_uis) == (2 if step == 3 else 1)
    await of_dialer.set_status(mesh.dialer, order)
    assert len(mesh.told_uis) == (2 if step == 3 else 1)


# -- who asks --------------------------------------------------------------------------------


async def test_agents_are_listed_of_one_tenant(mesh: Mesh) -> None:
    for extension in ("101", "102"):
        await mesh.pbx_says(FREE, extension=extension)
    await mesh.doing(FREE)
    await mesh.doing(FREE, "102")

    async def asked(tenant: str, extensions: tuple[str, ...] | None) -> list[str]:
        query = ListAgents(extensions=extensions)
        message = wrap(query, source="test", occurred_at=mesh.clock.now(), tenant=tenant)
        page = await of_dialer.list_agents(mesh.dialer, message)
        return [one.extension for one in page.agents]

    assert await asked(TENANT, None) == ["101", "102"]
    assert await asked(TENANT, ("102", "999")) == ["102"]
    assert await asked("other", None) == []
