"""What is believed, for how long, and until when: over both stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.clock import ManualClock
from shared.crm.answers import ANSWERS
from shared.crm.finder import Finder, Source
from shared.crm.port import Priority
from shared.errors import MeshError, NeedsReconnect, OutOfTime, Throttled, Unavailable
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.contract.lookup_kit import (
    FRESH,
    JANE,
    NOBODY,
    SOON,
    STALE,
    UNKNOWN,
    Desk,
    a_card,
    about,
    desk_on,
)

TICK = timedelta(milliseconds=1)
OTHER = "+447700900145"


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def desk(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Desk]:
    url = request.getfixturevalue("mongo_url") if request.param == "mongo" else None
    async with desk_on(request.param, clock, url) as found:
        found.crm.cards = [a_card("1")]
        # A store that is slow at its first use is left alone, and each then asks for itself.
        await found.store.collection(ANSWERS).count()
        yield found


async def names(finder: Finder, number: str = JANE) -> list[str]:
    found = await finder.find(about(number), within=SOON)
    return [card.display_name for card in found.candidates]


async def are_stored(desk: Desk, answers: int = 1) -> None:
    """Nobody who asks waits for that."""

    async def is_so() -> bool:
        return await desk.store.collection(ANSWERS).count() == answers

    await eventually(is_so)


# -- ages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("another_process", [False, True])
async def test_a_stale_contact_is_given_at_once_and_asked_for_again_behind_it(
    desk: Desk, clock: ManualClock, another_process: bool
) -> None:
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    await are_stored(desk)
    await clock.advance(FRESH)
    desk.crm.cards = [a_card("1", display_name="Jane Renamed")]
    desk.crm.open.clear()
    if another_process:
        finder = desk.finder()
    # Who waited for the CRM, which is shut, would be out of time.
    for _ in range(5):
        found = await finder.find(about(), within=SOON)
        assert (found.source, found.candidates[0].display_name) == (Source.STALE, "Person 1")
    await eventually(lambda: len(desk.crm.searches) == 2)
    desk.crm.open.set()

    async def is_renewed() -> bool:
        return await names(finder) == ["Jane Renamed"]

    await eventually(is_renewed)
    assert len(desk.crm.searches) == 2
    assert (await finder.find(about(), within=SOON)).source is Source.PROCESS


async def test_nobody_waits_for_what_is_asked_behind_a_stale_answer(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    await finder.find(about(priority=Priority.ROUTE), within=SOON)
    await clock.advance(FRESH)
    await finder.find(about(priority=Priority.ROUTE), within=SOON)
    await eventually(lambda: len(desk.crm.searches) == 2)
    assert [priority for _, priority in desk.crm.searches] == [Priority.ROUTE, Priority.SYNC]


async def test_a_ringing_call_does_not_wait_in_the_place_of_a_renewal(
    desk: Desk, clock: ManualClock
) -> None:
    """The renewal has time: it stands behind a list of 10,000 users."""
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    await clock.advance(STALE - TICK)
    desk.crm.open.clear()
    await finder.find(about(), within=SOON)
    await eventually(lambda: len(desk.crm.searches) == 2)
    await clock.advance(TICK)
    calls = [
        asyncio.create_task(finder.find(about(priority=Priority.ROUTE), within=SOON))
        for _ in range(3)
    ]
    await eventually(lambda: len(desk.crm.searches) == 3)
    desk.crm.open.set()
    await asyncio.gather(*calls)
    assert [priority for _, priority in desk.crm.searches[1:]] == [Priority.SYNC, Priority.ROUTE]


async def test_what_another_replica_renewed_is_not_asked_again(
    desk: Desk, clock: ManualClock
) -> None:
    first, second = desk.finder(), desk.finder()
    await first.find(about(), within=SOON)
    await are_stored(desk)
    await second.find(about(), within=SOON)
    await clock.advance(FRESH)
    await first.find(about(), within=SOON)
    renewed = desk.store.collection(ANSWERS)

    async def in_the_store() -> bool:
        return (await renewed.get(about().key)).asked_at == clock.now()

    await eventually(in_the_store)
    assert (await second.find(about(), within=SOON)).source is Source.STALE

    async def second_has_it() -> bool:
        return (await second.find(about(), within=SOON)).source is Source.PROCESS

    await eventually(second_has_it)
    assert len(desk.crm.searches) == 2


async def test_an_answer_that_is_too_old_is_not_given(desk: Desk, clock: ManualClock) -> None:
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    await clock.advance(STALE)
    for replica in (finder, desk.finder()):
        desk.crm.failure = Unavailable("down")
        with pytest.raises(Unavailable):
            await replica.find(about(), within=SOON)
    desk.crm.failure = None
    assert (await finder.find(about(), within=SOON)).source is Source.CRM


async def test_that_nobody_has_the_number_is_never_given_stale(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    assert await names(finder, NOBODY) == []
    await clock.advance(UNKNOWN)
    desk.crm.cards.append(a_card("2", phones=(NOBODY,)))
    assert await names(finder, NOBODY) == ["Person 2"]


async def test_an_age_that_was_made_shorter_holds_for_what_is_kept_already(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    for question in (
        replace(about(JANE), fresh=SOON, stale=SOON),
        replace(about(NOBODY), unknown=SOON),
    ):
        await finder.find(about(question.number.key), within=SOON)
        await clock.advance(SOON)
        assert (await finder.find(question, within=SOON)).source is Source.CRM


@pytest.mark.parametrize("failure", [Unavailable, Throttled, NeedsReconnect])
async def test_while_the_crm_cannot_be_asked_a_stale_contact_is_better_than_none(
    desk: Desk, clock: ManualClock, failure: type[MeshError]
) -> None:
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    await are_stored(desk)
    desk.crm.failure = failure("not now")
    await clock.advance(STALE - timedelta(seconds=1))
    for replica in (finder, desk.finder(), finder):
        assert (await replica.find(about(), within=SOON)).source is Source.STALE


async def test_a_contact_that_was_deleted_is_gone_once_it_was_asked_for_again(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    desk.crm.cards = []
    await clock.advance(FRESH)

    async def is_gone() -> bool:
        return await names(finder) == []

    await eventually(is_gone)
    assert len(desk.crm.searches) == 2


async def test_lookups_are_counted_by_where_the_answer_came_from(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    for _ in range(2):
        await finder.find(about(), within=SOON)
    await are_stored(desk)
    await desk.finder().find(about(), within=SOON)
    await clock.advance(FRESH)
    await finder.find(about(), within=SOON)
    desk.crm.failure = Unavailable("down")
    with pytest.raises(Unavailable):
        await finder.find(about(NOBODY), within=SOON)
    counted = {
        answer: desk.metrics.value("callmesh_contact_lookups_total", answer)
        for answer in ("crm", "process", "store", "stale", "failed")
    }
    assert counted == {"crm": 1, "process": 1, "store": 1, "stale": 1, "failed": 1}


# -- one request -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [JANE, NOBODY])
async def test_a_thousand_calls_at_once_from_one_number_are_one_request(
    desk: Desk, number: str
) -> None:
    finder = desk.finder()
    desk.crm.open.clear()
    calls = [asyncio.create_task(finder.find(about(number), within=SOON)) for _ in range(1000)]
    await eventually(lambda: len(desk.crm.searches) == 1)
    desk.crm.open.set()
    found = await asyncio.gather(*calls)
    assert all(answer.candidates == found[0].candidates for answer in found)
    assert len(desk.crm.searches) == 1


@pytest.mark.parametrize(
    "change",
    [{"contact_id": "1"}, {"contact_id": "1", "numbers": [JANE]}, {"numbers": [JANE]}],
    ids=["by id", "by id and number", "by number"],
)
async def test_a_thousand_calls_over_three_replicas_are_told_right_after_a_change_among_them(
    desk: Desk, clock: ManualClock, change: dict[str, Any]
) -> None:
    replicas = [desk.finder() for _ in range(3)]
    desk.crm.open.clear()

    async def rings() -> list[asyncio.Task[list[str]]]:
        calls = [asyncio.create_task(names(replicas[n % 3])) for n in range(500)]
        asked = len(desk.crm.searches)
        await eventually(lambda: len(desk.crm.searches) == asked + 3)
        return calls

    early = await rings()
    await clock.advance(TICK)
    desk.crm.cards = [a_card("1", display_name="Jane Renamed")]
    await replicas[0].forget("acme", connection="zoho", **change)
    for replica in replicas[1:]:
        replica.forget_here("acme", connection="zoho", **change)
    late = await rings()
    desk.crm.open.set()

    assert all(found == ["Person 1"] for found in await asyncio.gather(*early))
    assert all(found == ["Jane Renamed"] for found in await asyncio.gather(*late))
    for replica in replicas:
        assert await names(replica) == ["Jane Renamed"]
    assert len(desk.crm.searches) == 6
    assert await names(desk.finder()) == ["Jane Renamed"]


async def test_a_thousand_calls_at_once_wait_for_one_failure(desk: Desk) -> None:
    finder = desk.finder()
    desk.crm.failure = Unavailable("down")
    calls = (finder.find(about(), within=SOON) for _ in range(1000))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in errors} == {Unavailable}
    assert len(desk.crm.searches) == 1


async def test_a_call_does_not_wait_until_its_answer_is_stored(clock: ManualClock) -> None:
    db, is_thawed = SqliteFile(None), threading.Event()
    await db.open()
    desk = Desk(SqliteStore(db, clock), clock)
    desk.crm.cards = [a_card("1")]
    desk.crm.open.clear()
    call = asyncio.create_task(names(desk.finder()))
    await eventually(lambda: len(desk.crm.searches) == 1)
    frozen = asyncio.create_task(db.write(lambda _: is_thawed.wait()))
    desk.crm.open.set()
    with capture_logs() as logs:
        assert await call == ["Person 1"]
    assert logs == []
    is_thawed.set()
    await frozen
    await desk.close()
    await db.close()


async def test_what_was_forgotten_before_it_was_stored_is_not_there(clock: ManualClock) -> None:
    """Another replica cleared the store when there was nothing yet."""
    db, is_thawed = SqliteFile(None), threading.Event()
    await db.open()
    desk = Desk(SqliteStore(db, clock), clock)
    desk.crm.cards = [a_card("1")]
    finder = desk.finder()
    answers = desk.store.collection(ANSWERS)
    await answers.count()
    desk.crm.open.clear()
    call = asyncio.create_task(names(finder))
    await eventually(lambda: len(desk.crm.searches) == 1)
    frozen = asyncio.create_task(db.write(lambda _: is_thawed.wait()))
    desk.crm.open.set()
    await call
    await clock.advance(TICK)
    finder.forget_here("acme", connection="zoho", contact_id="1")
    is_thawed.set()
    await frozen

    async def is_gone() -> bool:
        return not finder._writing and await answers.count() == 0

    await eventually(is_gone)
    await desk.close()
    await db.close()


async def test_who_gives_up_does_not_take_the_request_from_the_others(desk: Desk) -> None:
    finder = desk.finder()
    desk.crm.open.clear()
    with pytest.raises(OutOfTime):
        await finder.find(about(), within=TICK)
    patient = asyncio.create_task(finder.find(about(), within=SOON))
    desk.crm.open.set()
    assert (await patient).candidates
    assert len(desk.crm.searches) == 1


async def test_asked_anew_the_crm_is_asked_whatever_is_known(desk: Desk) -> None:
    finder = desk.finder()
    assert await names(finder, NOBODY) == []
    desk.crm.cards.append(a_card("2", phones=(NOBODY,)))
    found = await finder.find_anew(about(NOBODY), within=SOON)
    assert [card.contact_id for card in found.candidates] == ["2"]
    assert await names(finder, NOBODY) == ["Person 2"]


async def test_a_record_that_two_searches_find_is_there_once(desk: Desk) -> None:
    desk.crm.cards = [a_card("1"), a_card("2"), a_card("1"), a_card("1", module="Leads")]
    found = await desk.finder().find(about(), within=SOON)
    assert [(c.module, c.contact_id) for c in found.candidates] == [
        ("Contacts", "1"),
        ("Contacts", "2"),
        ("Leads", "1"),
    ]


# -- forgetting ------------------------------------------------------------------------------


async def replicas_with_answers(desk: Desk) -> list[Finder]:
    """One that asked, one that has read it in the store."""
    replicas = [desk.finder(), desk.finder()]
    for replica in replicas:
        for number in (JANE, OTHER, NOBODY):
            await replica.find(about(number), within=SOON)
        await are_stored(desk, 3)
    return replicas


async def not_believed(desk: Desk, replicas: list[Finder]) -> list[str]:
    """The numbers whose answers neither the store nor any of the replicas has any more."""
    believed = {}
    for replica, kept in ((desk.finder(), Source.STORE), *((r, Source.PROCESS) for r in replicas)):
        found = {n: await replica.find(about(n), within=SOON) for n in (JANE, OTHER, NOBODY)}
        believed[replica] = {number for number in found if found[number].source is kept}
    first, *others = believed.values()
    assert all(other == first for other in others)
    return sorted({JANE, OTHER, NOBODY} - first)


async def test_a_change_of_a_contact_is_found_by_its_id(desk: Desk, clock: ManualClock) -> None:
    """And, as its numbers are not told, it may be that of any unknown caller."""
    desk.crm.cards.append(a_card("2", phones=(OTHER,)))
    first, second = await replicas_with_answers(desk)
    await clock.advance(TICK)
    await first.forget("acme", connection="zoho", contact_id="1")
    second.forget_here("acme", connection="zoho", contact_id="1")
    assert await not_believed(desk, [first, second]) == [JANE, NOBODY]


async def test_a_change_of_one_of_several_with_a_number_is_found_too(
    desk: Desk, clock: ManualClock
) -> None:
    desk.crm.cards = [a_card("1"), a_card("2"), a_card("3"), a_card("4", phones=(OTHER,))]
    first, second = await replicas_with_answers(desk)
    await clock.advance(TICK)
    await first.forget("acme", connection="zoho", contact_id="3", numbers=[])
    second.forget_here("acme", connection="zoho", contact_id="3")
    assert await not_believed(desk, [first, second]) == [JANE, NOBODY]


async def test_a_change_with_all_its_numbers_leaves_the_unknown_callers_alone(
    desk: Desk, clock: ManualClock
) -> None:
    """Its numbers before are told by the answers that show it."""
    desk.crm.cards.append(a_card("2", phones=(JANE,)))
    first, second = await replicas_with_answers(desk)
    await clock.advance(TICK)
    for replica in (first, second):
        await replica.forget("acme", connection="zoho", contact_id="1", numbers=[OTHER])
    assert await not_believed(desk, [first, second]) == [JANE, OTHER]


async def test_a_change_that_names_nothing_may_be_a_new_contact(
    desk: Desk, clock: ManualClock
) -> None:
    first, second = await replicas_with_answers(desk)
    await clock.advance(TICK)
    await first.forget("acme", connection="zoho")
    second.forget_here("acme", connection="zoho")
    assert await not_believed(desk, [first, second]) == [OTHER, NOBODY]


async def test_a_change_is_one_tenants_and_one_connections(desk: Desk, clock: ManualClock) -> None:
    replicas = await replicas_with_answers(desk)
    await clock.advance(TICK)
    for replica in replicas:
        for tenant, connection in (("globex", "zoho"), ("acme", "hubspot")):
            await replica.forget(tenant, connection=connection, contact_id="1")
            await replica.forget(tenant, connection=connection, numbers=[JANE])
    assert await not_believed(desk, replicas) == []


async def test_an_answer_that_was_under_way_when_the_contact_changed_is_not_kept(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    desk.crm.open.clear()
    early = [asyncio.create_task(names(finder, number)) for number in (JANE, NOBODY)]
    await eventually(lambda: len(desk.crm.searches) == 2)
    await clock.advance(TICK)
    finder.forget_here("acme", connection="zoho", contact_id="1")
    desk.crm.cards = [a_card("1", phones=(NOBODY,))]
    desk.crm.open.set()
    assert await asyncio.gather(*early) == [["Person 1"], []]
    assert [await names(finder, number) for number in (JANE, NOBODY)] == [[], ["Person 1"]]


async def test_who_asks_after_a_change_does_not_wait_for_what_was_asked_before(
    desk: Desk, clock: ManualClock
) -> None:
    """Somebody was added, and it is not told with which numbers."""
    finder = desk.finder()
    desk.crm.open.clear()
    early = asyncio.create_task(names(finder, NOBODY))
    await eventually(lambda: len(desk.crm.searches) == 1)
    await clock.advance(TICK)
    finder.forget_here("acme", connection="zoho", contact_id="2")
    desk.crm.cards.append(a_card("2", phones=(NOBODY,)))
    late = asyncio.create_task(names(finder, NOBODY))
    await eventually(lambda: len(desk.crm.searches) == 2)
    desk.crm.open.set()
    assert list(await asyncio.gather(early, late)) == [[], ["Person 2"]]


async def test_a_stale_answer_that_was_forgotten_is_not_given(
    desk: Desk, clock: ManualClock
) -> None:
    finder = desk.finder()
    await finder.find(about(), within=SOON)
    await clock.advance(FRESH)
    finder.forget_here("acme", connection="zoho", contact_id="1")
    assert (await finder.find(about(), within=SOON)).source is Source.CRM
