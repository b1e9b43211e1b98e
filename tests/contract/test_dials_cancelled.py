"""A dial is ended before its time: in each state, by whoever may, and against whatever races it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialState
from shared.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from shared.pbx.port import HangUp
from shared.testing.waiting import eventually
from tests.contract.dial_kit import BOTH_STORES, SECOND, UNHEARD, Floor, Replica, Seen, a_store

CANCELLED = (DialState.FAILED, DialReason.CANCELLED)


@pytest.fixture(params=BOTH_STORES)
async def floor(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Floor]:
    async with a_store(request, clock) as store:
        yield Floor(store, clock)


async def placed(floor: Floor, replica: Replica, until: DialState) -> Seen:
    record = await replica.place(dial_id="d1")
    await floor.run(replica)
    await Seen.of(record).come(replica, until=until)
    return Seen.of(record)


async def test_before_the_pbx_was_asked_it_never_is(floor: Floor) -> None:
    replica = await floor.replica()
    await replica.place(dial_id="d1")
    record = await replica.cancel("d1")
    await floor.run(replica)

    assert (record.state, record.reason) == CANCELLED
    assert record.message == "The call was cancelled."
    assert (floor.line.orders, floor.line.ended) == ([], [])
    assert floor.wire.told[-1].reason is DialReason.CANCELLED
    await replica.place()


@pytest.mark.parametrize(
    "state",
    [
        DialState.REQUESTED,
        DialState.AGENT_RINGING,
        DialState.AGENT_ANSWERED,
        DialState.CUSTOMER_RINGING,
    ],
)
async def test_before_the_customer_answers_it_has_failed_for_being_cancelled(
    floor: Floor, state: DialState
) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, state)
    record = await replica.cancel("d1")
    # The PBX tells the end as it sees it.
    await replica.hear(call.ends(Disposition.MISSED, hangup_by="pbx"))

    assert (record.state, record.reason) == CANCELLED
    assert await replica.state("d1") == CANCELLED
    assert floor.line.ended == [HangUp(reference="d1", extension="101")]
    await replica.place()


async def test_a_conversation_is_ended(floor: Floor) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.CONNECTED)
    record = await replica.cancel("d1")
    await replica.hear(call.ends(Disposition.ANSWERED))

    assert (record.state, record.reason, record.message) == (DialState.ENDED, None, None)
    assert record.ended_at == floor.clock.now()
    assert len(floor.line.ended) == 1
    await replica.place()


@pytest.mark.parametrize(
    ("disposition", "words"),
    [(Disposition.ANSWERED, "it has ended"), (Disposition.BUSY, "it has failed: The number is")],
)
async def test_what_is_over_by_itself_cannot_be_cancelled(
    floor: Floor, disposition: Disposition, words: str
) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.AGENT_ANSWERED)
    await replica.hear(call.ends(disposition))
    with pytest.raises(Conflict, match=words):
        await replica.cancel("d1")

    assert floor.line.ended == []


async def test_cancelled_twice_is_cancelled_once(floor: Floor) -> None:
    one, other = await floor.replica(), await floor.replica()
    await placed(floor, one, DialState.AGENT_RINGING)
    first, second = await asyncio.gather(one.cancel("d1"), other.cancel("d1"))
    third = await other.cancel("d1")

    assert {(r.state, r.reason) for r in (first, second, third)} == {CANCELLED}
    assert {end.reference for end in floor.line.ended} == {"d1"}
    cancelled = [told for told in floor.wire.told if told.reason is DialReason.CANCELLED]
    assert len({told.model_dump_json() for told in cancelled}) == 1


async def test_the_pbx_is_told_what_it_calls_the_call(floor: Floor) -> None:
    replica = await floor.replica()
    floor.line.own_id = "237859081"
    await replica.place(dial_id="d1")
    await floor.run(replica)
    await replica.cancel("d1")

    assert floor.line.ended == [
        HangUp(reference="d1", extension="101", pbx_call_id="237859081", user=None)
    ]


async def test_a_call_that_says_itself_whose_order_it_is_can_be_ended(floor: Floor) -> None:
    replica = await floor.replica()
    await replica.place(dial_id="d1")
    await floor.run(replica)
    await replica.hear(Seen.by_own_id("77").started("d1", "77"))
    await replica.cancel("d1")

    assert [end.pbx_call_id for end in floor.line.ended] == ["77"]


async def test_a_cancel_while_the_pbx_is_being_asked_ends_the_call_that_begins_behind_it(
    floor: Floor,
) -> None:
    one, other = await floor.replica(), await floor.replica()
    await one.place(dial_id="d1")
    (message,) = floor.wire.waiting
    floor.line.answers.clear()
    giving = asyncio.create_task(one.deliver(message))
    await eventually(lambda: bool(floor.line.orders))
    record = await other.cancel("d1")  # the PBX knows no such call yet
    floor.line.ended.clear()
    floor.line.answers.set()
    await giving

    assert (record.state, record.reason) == CANCELLED
    assert [end.reference for end in floor.line.ended] == ["d1"]
    assert await one.state("d1") == CANCELLED


async def test_a_pbx_that_has_not_named_the_call_yet_ends_it_when_it_has(floor: Floor) -> None:
    one, other = await floor.replica(), await floor.replica()
    await one.place(dial_id="d1")
    (message,) = floor.wire.waiting
    floor.line.own_id = "237859081"
    floor.line.cannot_end = Rejected("the PBX has not said yet which call it is")
    floor.line.answers.clear()
    giving = asyncio.create_task(one.deliver(message))
    await eventually(lambda: bool(floor.line.orders))
    record = await other.cancel("d1")
    floor.line.cannot_end = None
    floor.line.answers.set()
    await giving

    assert (record.state, record.reason) == CANCELLED
    assert [end.pbx_call_id for end in floor.line.ended] == ["237859081"]
    assert await one.state("d1") == CANCELLED


async def test_a_call_that_is_seen_after_it_was_cancelled_is_ended(floor: Floor) -> None:
    """The PBX had queued the order, so the order to end it found nothing."""
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.REQUESTED)
    await replica.cancel("d1")
    floor.line.ended.clear()
    await replica.hear(call.rings(agent=True))

    assert [end.reference for end in floor.line.ended] == ["d1"]
    assert await replica.state("d1") == CANCELLED


async def test_a_cancel_that_races_with_the_answer_ends_the_call(floor: Floor) -> None:
    one, other = await floor.replica(), await floor.replica()
    call = await placed(floor, one, DialState.CUSTOMER_RINGING)
    await asyncio.gather(other.cancel("d1"), one.hear(call.answers(agent=False)))
    await one.hear(call.ends(Disposition.ANSWERED))

    state, reason = await one.state("d1")
    assert (state, reason) in {CANCELLED, (DialState.ENDED, None)}
    assert floor.line.ended
    await one.place()


async def test_news_of_a_call_that_was_cancelled_long_ago_end_nothing(floor: Floor) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.AGENT_RINGING)
    await replica.cancel("d1")
    floor.line.ended.clear()
    await floor.clock.advance(timedelta(minutes=3))
    await replica.hear(call.rings(agent=True))

    assert floor.line.ended == []


@pytest.mark.parametrize(
    "error",
    [Rejected("calls cannot be ended at this PBX"), Unavailable("not connected", sent=False)],
    ids=["cannot", "away"],
)
async def test_where_the_pbx_does_not_end_it_the_call_goes_on(
    floor: Floor, error: Rejected | Unavailable
) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.AGENT_RINGING)
    floor.line.cannot_end = error
    with pytest.raises(type(error), match=error.message):
        await replica.cancel("d1")
    await replica.look()
    await call.come(replica, until=DialState.CONNECTED)

    assert await replica.state("d1") == (DialState.CONNECTED, None)
    document = await replica.document("d1")
    assert (document.cancelled_at, document.cancel_fault) == (None, error.message)
    with pytest.raises(Conflict):  # it holds the phone
        await replica.place()
    floor.line.cannot_end = None
    assert (await replica.cancel("d1")).state is DialState.ENDED


async def test_a_key_of_one_phone_ends_nobody_elses_call(floor: Floor) -> None:
    replica = await floor.replica()
    await placed(floor, replica, DialState.AGENT_RINGING)
    with pytest.raises(Forbidden, match="extension 102"):
        await replica.cancel("d1", extension="102")
    with pytest.raises(NotFound):
        await replica.cancel("d2", extension="102")

    assert floor.line.ended == []
    assert (await replica.cancel("d1", extension="101")).reason is DialReason.CANCELLED


async def test_what_is_only_written_down_is_carried_out_at_the_next_look(floor: Floor) -> None:
    """As `callmesh dials cancel` does."""
    replica = await floor.replica()
    await placed(floor, replica, DialState.CUSTOMER_RINGING)
    document = await replica.document("d1")
    assert await replica.deps.dials.mark_cancelled(document.key) is not None
    await replica.look()

    assert await replica.state("d1") == CANCELLED
    assert len(floor.line.ended) == 1


async def test_a_refusal_that_comes_of_the_cancel_is_the_cancel(floor: Floor) -> None:
    """Asterisk says of a channel that was hung up that nobody picked up."""
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.AGENT_RINGING)
    document = await replica.document("d1")
    await replica.deps.dials.mark_cancelled(document.key)
    await replica.hear(call.ends(Disposition.FAILED))

    assert await replica.state("d1") == CANCELLED


async def test_a_dial_that_was_cancelled_is_not_given_up_again(floor: Floor) -> None:
    replica = await floor.replica()
    await placed(floor, replica, DialState.REQUESTED)
    await replica.cancel("d1")
    await floor.clock.advance(UNHEARD)
    await replica.look()

    assert await replica.state("d1") == CANCELLED


async def test_an_agent_who_hangs_up_before_the_customer_answers_has_cancelled(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    call = await placed(floor, replica, DialState.CUSTOMER_RINGING)
    await floor.clock.advance(3 * SECOND)
    await replica.hear(call.ends(Disposition.MISSED, hangup_by="caller"))

    assert await replica.state("d1") == CANCELLED
