"""Sides that refuse what they are told of agents, are away, or are told two things at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from services.dialer import statuses as of_dialer
from services.lookup import statuses as of_lookup
from shared.contracts.agents import (
    AgentStatus,
    SetAgentStatus,
    Side,
    TellCrmStatus,
)
from shared.contracts.envelope import Message, wrap
from shared.errors import NotFound, Unavailable
from shared.sqlite import SqliteFile
from shared.storage.newest import Turn
from shared.storage.port import DocumentStore
from shared.testing.waiting import eventually
from tests.contract.statuses_kit import NOBODY, TENANT, Mesh, a_mesh, a_store, an_order
from tests.contract.uis_kit import error

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


# -- sides that do not take it -----------------------------------------------------------------


async def test_what_a_pbx_refuses_is_shown_and_no_dead_letter(mesh: Mesh) -> None:
    mesh.uis.methods["update.employees"] = lambda _: error(
        -32602, "invalid_parameter_value", "no such status"
    )
    await mesh.crm_says(DINNER)

    async def is_shown() -> bool:
        return any("no such status" in fault for fault in (await mesh.record()).faults)

    await eventually(is_shown)
    await mesh.quiet()
    assert len(mesh.told_uis) == 1
    await mesh.pbx_says(FREE)
    await mesh.quiet()
    assert mesh.told_crm == [(24, "free")], "the PBX's user went on by himself"
    assert not await mesh.bus.dead_letters.list()
    assert mesh.counted("callmesh_statuses_told_total") == {
        ("pbx", "refused"): 1,
        ("crm", "told"): 1,
    }


async def test_a_status_that_waited_for_too_long_is_not_set(mesh: Mesh) -> None:
    await of_dialer.set_status(mesh.dialer, an_order(mesh, BREAK, ago=LONG_AGO))
    assert mesh.told_uis == []
    assert mesh.counted("callmesh_statuses_told_total") == {("pbx", "too_late"): 1}


async def test_a_status_of_a_phone_that_is_none_of_ours_is_refused(mesh: Mesh) -> None:
    said = SetAgentStatus(extension="999", status=BREAK)
    message = wrap(said, source="dialer", occurred_at=mesh.clock.now(), tenant=TENANT)
    with pytest.raises(NotFound, match="999"):
        await of_dialer.set_status(mesh.dialer, message)


async def test_before_the_sites_are_loaded_nothing_is_decided(mesh: Mesh) -> None:
    """The store was away at the start: whose agents there are is not known yet."""
    mesh.site.loaded = False
    with pytest.raises(Unavailable, match="not loaded"):
        await of_dialer.hear_status(mesh.dialer, mesh.message(FREE, Side.PBX, "uis"))
    with pytest.raises(Unavailable, match="not loaded"):
        await of_dialer.set_status(mesh.dialer, an_order(mesh, BREAK))
    assert (await mesh.record()).status is None


async def test_a_status_that_is_tried_again_does_not_undo_a_newer_one(mesh: Mesh) -> None:
    mesh.echoes = False
    pause = an_order(mesh, BREAK, ago=timedelta(seconds=1))
    mesh.uis.methods["update.employees"] = lambda _: web.Response(status=503)
    with pytest.raises(Unavailable):
        await of_dialer.set_status(mesh.dialer, pause)
    mesh.uis.methods["update.employees"] = lambda _: {"result": {"data": {"success": True}}}
    mesh.uis.asked.clear()
    await of_dialer.set_status(mesh.dialer, an_order(mesh, FREE))
    await of_dialer.set_status(mesh.dialer, pause)
    assert mesh.told_uis == [(25, "available")]


async def test_of_two_orders_at_once_the_newer_is_the_last_that_the_pbx_hears(mesh: Mesh) -> None:
    mesh.echoes = False
    older, newer = an_order(mesh, BREAK, ago=timedelta(seconds=1)), an_order(mesh, FREE)
    asked, goes_on = asyncio.Event(), asyncio.Event()
    set_status = mesh.dialer.boards.set_status

    async def slow(*args: Any, **more: Any) -> None:
        asked.set()
        await goes_on.wait()
        await set_status(*args, **more)

    mesh.replicas[0].boards.set_status = slow  # type: ignore[method-assign]  # a slow line

    async def carry_out(message: Message[Any]) -> None:
        await of_dialer.set_status(mesh.dialer, message)

    first = asyncio.create_task(carry_out(older))
    await asked.wait()
    other = mesh.add_replica()
    other.boards._boards = mesh.replicas[0].boards._boards
    await of_dialer.set_status(other.dialer, newer)
    goes_on.set()
    await first
    assert [status for _, status in mesh.told_uis] == ["available", "break", "available"]


async def test_the_newer_of_two_at_once_is_repeated_also_when_the_pbx_was_away_just_then(
    mesh: Mesh,
) -> None:
    mesh.echoes = False
    older, newer = an_order(mesh, BREAK, ago=timedelta(seconds=1)), an_order(mesh, FREE)
    first, at_once = mesh.replicas[0], mesh.add_replica()
    at_once.boards._boards = first.boards._boards
    set_status = first.boards.set_status
    taken = mesh.uis.methods["update.employees"]

    async def slow(*args: Any, **more: Any) -> None:
        first.boards.set_status = set_status  # type: ignore[method-assign]  # the real one again
        await of_dialer.set_status(at_once.dialer, newer)
        await set_status(*args, **more)
        mesh.uis.methods["update.employees"] = lambda _: web.Response(status=503)

    first.boards.set_status = slow  # type: ignore[method-assign]  # a slow line
    with pytest.raises(Unavailable):
        await of_dialer.set_status(first.dialer, older)
    mesh.uis.methods["update.employees"] = taken
    mesh.uis.asked.clear()
    for _ in range(2):
        await of_dialer.set_status(first.dialer, older)
    assert mesh.told_uis == [(25, "available")], "it showed the older one"


async def test_a_crm_that_was_told_two_at_once_is_told_the_newer_again_when_it_is_back(
    mesh: Mesh,
) -> None:
    older, newer = _telling(mesh, BREAK, ago=timedelta(seconds=1)), _telling(mesh, FREE)
    lookup = mesh.replicas[0].lookup
    # As another replica does that told the newer one meanwhile.
    thing, body = "shop/101", newer.body.model_dump_json()
    assert await lookup.orders.claim(TENANT, thing, older.occurred_at, "{}") is Turn.DUE
    await lookup.orders.claim(TENANT, thing, newer.occurred_at, body)
    await lookup.orders.finish(TENANT, thing, newer.occurred_at)
    assert await lookup.orders.finish(TENANT, thing, older.occurred_at) is not None
    # Here the CRM is away, and the older one comes again.
    for _ in range(2):
        await of_lookup.tell_crm(lookup, older)
    assert mesh.told_crm == [(24, "free")]


# -- CRMs ------------------------------------------------------------------------------------


def _telling(
    mesh: Mesh, status: AgentStatus, *, extension: str = "101", ago: timedelta = timedelta(0)
) -> Message[Any]:
    at = mesh.clock.now() - ago
    said = TellCrmStatus(connection="shop", extension=extension, status=status, since=at)
    return wrap(said, source="dialer", occurred_at=at, tenant=TENANT)


async def test_a_crm_that_is_over_its_limit_is_told_later(mesh: Mesh) -> None:
    mesh.crm.limited["/status"] = 1
    await mesh.pbx_says(BREAK)
    await eventually(lambda: mesh.told_crm == [(24, "break")])


async def test_a_crm_that_was_away_for_long_is_told_no_more_and_it_is_shown(mesh: Mesh) -> None:
    await mesh.pbx_says(BREAK)
    await eventually(lambda: mesh.told_crm == [(24, "break")])
    await mesh.quiet()
    await of_lookup.tell_crm(mesh.replicas[0].lookup, _telling(mesh, FREE, ago=LONG_AGO))
    await mesh.quiet()
    assert mesh.told_crm == [(24, "break")]
    assert mesh.counted("callmesh_statuses_told_total")["crm", "too_late"] == 1


async def test_an_older_word_is_not_told_to_a_crm_after_a_newer_one(mesh: Mesh) -> None:
    older = _telling(mesh, BREAK, ago=timedelta(seconds=1))
    newer = _telling(mesh, FREE)
    for message in (newer, older, newer):
        await of_lookup.tell_crm(mesh.replicas[0].lookup, message)
    assert mesh.told_crm == [(24, "free")]


async def test_an_agent_without_a_user_and_a_word_that_the_crm_has_not_are_told_to_nobody(
    mesh: Mesh,
) -> None:
    await mesh.pbx_says(BREAK, extension="102")
    await mesh.quiet()
    assert (await mesh.record("102")).faults == (f"crm shop: {NOBODY}",)
    await mesh.pbx_says(OFFLINE)
    await mesh.doing(OFFLINE)
    await mesh.quiet()
    assert mesh.told_crm == []
    assert (await mesh.record()).faults == ()


async def test_a_crm_that_was_switched_off_meanwhile_is_not_told(mesh: Mesh) -> None:
    message = _telling(mesh, BREAK)
    await mesh.apply(status="{tell: false}")
    await of_lookup.tell_crm(mesh.replicas[0].lookup, message)
    assert mesh.told_crm == []
    assert mesh.counted("callmesh_statuses_told_total") == {("crm", "switched_off"): 1}


async def test_what_a_crm_refuses_is_shown_and_no_dead_letter(mesh: Mesh) -> None:
    del mesh.crm.users[24]
    await mesh.pbx_says(BREAK)

    async def is_shown() -> bool:
        return any(fault.startswith("crm shop: ") for fault in (await mesh.record()).faults)

    await eventually(is_shown)
    await mesh.quiet()
    assert not await mesh.bus.dead_letters.list()
