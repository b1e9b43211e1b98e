"""Orders to dial, over real stores: placed, handed on, followed; the PBX is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.dialer.meters import METERS
from services.dialer.store import DialDocument
from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import (
    DialNumber,
    DialReason,
    DialRecord,
    DialState,
    ListDials,
)
from shared.contracts.envelope import wrap
from shared.errors import (
    Conflict,
    ContractError,
    Forbidden,
    NotFound,
    Rejected,
    TransientError,
    Unavailable,
)
from shared.ids import new_id
from shared.pbx.port import DialRequest
from shared.sandbox.site import PBX, TENANT
from shared.site.dialing import DialPolicy, OwnNumbers
from shared.storage.port import AllOf
from shared.testing.waiting import eventually
from tests.contract.dial_kit import BOTH_STORES, CUSTOMER, SECOND, UNHEARD, Floor, Seen, a_store


@pytest.fixture(params=BOTH_STORES)
async def floor(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Floor]:
    async with a_store(request, clock) as store:
        yield Floor(store, clock)


def refused(replica: Any, why: str) -> float:
    found: float = replica.deps.metrics.value("callmesh_dials_refused_total", why)
    return found


# -- placed -----------------------------------------------------------------------------------


async def test_a_click_is_kept_told_and_dialled_once(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place("+44 (0)7700 900-123", shop="outlet", campaign="spring")
    await floor.run(replica)

    assert (record.state, record.number, record.pbx) == (DialState.REQUESTED, CUSTOMER, PBX)
    assert (record.shop, record.campaign, record.requested_by) == ("outlet", "spring", "key desk")
    (order,) = floor.line.orders
    assert order == DialRequest(
        reference=record.dial_id,
        extension="101",
        number=CUSTOMER,
        ring_for=timedelta(seconds=15),
    )
    (told,) = {told.model_dump_json() for told in floor.wire.told}
    assert '"requested_by":"key desk"' in told
    assert '"campaign":"spring"' in told


async def test_a_dial_goes_all_the_way_and_says_when(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    call, began = Seen.of(record), floor.clock.now()
    await call.come(replica, until=DialState.CUSTOMER_RINGING)
    await floor.clock.advance(7 * SECOND)
    await call.come(replica, until=DialState.CONNECTED)
    await floor.clock.advance(20 * SECOND)
    await replica.hear(call.ends(Disposition.ANSWERED))

    found = (await replica.document(record.dial_id)).record
    assert found.state is DialState.ENDED
    assert found.connected_at == began + 7 * SECOND
    assert found.ended_at == began + 27 * SECOND
    assert found.message is None
    states = [told.state for told in floor.wire.told]
    assert list(dict.fromkeys(states)) == [s for s in DialState if s is not DialState.FAILED]


async def test_a_conversation_that_is_told_of_after_its_end_still_has_its_beginning(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    call, began = Seen.of(record), floor.clock.now()
    await replica.hear(call.ends(Disposition.ANSWERED), at=began + 9 * SECOND)
    await replica.hear(call.answers(agent=False), at=began + 4 * SECOND)

    found = (await replica.document(record.dial_id)).record
    assert (found.state, found.connected_at) == (DialState.ENDED, began + 4 * SECOND)
    assert found.ended_at == began + 9 * SECOND


async def test_a_failure_says_why_in_words(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    await replica.hear(Seen.of(record).ends(Disposition.BUSY))

    found = (await replica.document(record.dial_id)).record
    assert (found.state, found.reason) == (DialState.FAILED, DialReason.CUSTOMER_BUSY)
    assert found.message == "The number is busy."
    assert floor.wire.told[-1].message == "The number is busy."
    assert found.ended_at == floor.clock.now()


async def test_a_failure_is_told_anew_when_its_reason_is_known_better(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    call = Seen.of(record)
    await replica.hear(call.rings(agent=True))
    await replica.hear(call.ends())
    ended_at = floor.clock.now()
    await floor.clock.advance(7 * SECOND)
    await replica.hear(call.ends(Disposition.BUSY))

    found = (await replica.document(record.dial_id)).record
    assert (found.reason, found.ended_at) == (DialReason.CUSTOMER_BUSY, ended_at)
    reasons = [told.reason for told in floor.wire.told if told.state is DialState.FAILED]
    assert list(dict.fromkeys(reasons)) == [DialReason.AGENT_NO_ANSWER, DialReason.CUSTOMER_BUSY]
    assert replica.deps.metrics.value("callmesh_dials_total", "failed") == 1


async def test_who_is_nobody_of_the_tenant_dials_nothing(floor: Floor) -> None:
    replica = await floor.replica()
    with pytest.raises(NotFound, match="Extension 999 is not one of this tenant's agents"):
        await replica.place(extension="999")

    assert refused(replica, "no_agent") == 1
    assert await floor.dials() == 0


async def test_the_phone_of_that_number_at_another_pbx_is_not_his(floor: Floor) -> None:
    await floor.say(agents=["101"], at=PBX)
    replica = await floor.replica()
    with pytest.raises(NotFound, match="at PBX elsewhere"):
        await replica.place(pbx="elsewhere")

    assert (await replica.place(pbx=PBX)).pbx == PBX


@pytest.mark.parametrize(
    ("number", "error", "why"),
    [
        ("sesame", ContractError, "no_number"),
        ("101", ContractError, "own_phone"),
        ("999", Forbidden, "emergency"),
        ("+449098790000", Forbidden, "kind"),
    ],
)
async def test_what_may_not_be_dialled_leaves_nothing_behind(
    floor: Floor, number: str, error: type[Exception], why: str
) -> None:
    replica = await floor.replica()
    with pytest.raises(error) as caught:
        await replica.place(number)

    assert number not in str(caught.value) or number == "101"
    assert refused(replica, why) == 1
    assert (await floor.dials(), floor.wire.told, floor.wire.waiting) == (0, [], [])
    await replica.place()  # and the phone is free


async def test_the_customer_sees_the_number_of_the_campaign(floor: Floor) -> None:
    own = OwnNumbers(campaigns={"spring": "+442079460001"}, default="+442079460009")
    await floor.say(DialPolicy(numbers=own))
    replica = await floor.replica()
    first = await replica.place(campaign="spring")
    await floor.run(replica)

    assert first.caller_id == "+442079460001"
    assert [order.caller_id for order in floor.line.orders] == ["+442079460001"]
    assert floor.wire.told[0].caller_id == "+442079460001"


@pytest.mark.parametrize("shop", ["shop.example", "$shop", "a.b.$c", "Лавка №1", "x" * 200])
async def test_a_shop_may_be_called_as_it_is(floor: Floor, shop: str) -> None:
    own = OwnNumbers(shops={shop: "+442079460001"})
    await floor.say(DialPolicy.model_validate({"numbers": own, "prices": {"+44*": "0.01"}}))
    replica = await floor.replica()

    assert (await replica.place(shop=shop)).caller_id == "+442079460001"


async def test_a_colleague_sees_the_phone_that_calls(floor: Floor) -> None:
    await floor.say(DialPolicy(numbers=OwnNumbers(default="+442079460009")))
    replica = await floor.replica()
    record = await replica.place("102")

    assert (record.number, record.caller_id) == ("102", None)


async def test_somebody_elses_number_is_not_shown(floor: Floor) -> None:
    replica = await floor.replica()
    with pytest.raises(Forbidden, match="none of the tenant's own numbers"):
        await replica.place(caller_id="+442079460001")


# -- the same again ---------------------------------------------------------------------------


async def test_the_same_order_again_is_the_same_dial_whichever_replica_is_asked(
    floor: Floor,
) -> None:
    one, other = await floor.replica(), await floor.replica()
    dial = str(new_id())
    first = await one.place("07700 900123", dial_id=dial)
    again = await other.place("+44 7700 900123", dial_id=dial)
    await floor.run(one, other)
    await Seen.of(first).come(one, until=DialState.CONNECTED)
    later = await other.place("+447700900123", dial_id=dial)

    assert first == again
    assert (later.dial_id, later.state) == (dial, DialState.CONNECTED)
    assert len(floor.line.orders) == 1
    assert await floor.dials() == 1
    assert (await floor.meter()).today == 1


@pytest.mark.parametrize(
    "other",
    [
        {"number": "+447700900124"},
        {"extension": "102"},
        {"campaign": "spring"},
        {"shop": "outlet"},
        {"pbx": PBX},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_order_of_the_same_key_is_refused_and_blocks_no_phone(
    floor: Floor, other: dict[str, str]
) -> None:
    replica = await floor.replica()
    dial = str(new_id())
    first = await replica.place(dial_id=dial)
    with pytest.raises(Conflict, match="another order"):
        await replica.place(**{"number": CUSTOMER, "dial_id": dial, **other})
    await floor.run(replica)

    assert refused(replica, "other_order") == 1
    assert [order.number for order in floor.line.orders] == [first.number]
    await replica.place("+447700900125", extension="102")


async def test_twenty_repeats_at_once_over_two_replicas_are_one_dial(floor: Floor) -> None:
    replicas = [await floor.replica(), await floor.replica()]
    dial = str(new_id())
    found = await asyncio.gather(*(replicas[n % 2].place(dial_id=dial) for n in range(20)))
    await floor.run(*replicas)

    assert {record.dial_id for record in found} == {dial}
    assert len(floor.line.orders) == 1
    meter = await floor.meter()
    assert (meter.today, len(meter.held)) == (1, 1)


async def test_two_orders_of_one_key_at_once_leave_the_loser_nothing(floor: Floor) -> None:
    one, other = await floor.replica(), await floor.replica()
    dial = str(new_id())
    found = await asyncio.gather(
        one.place(dial_id=dial, extension="101"),
        other.place(dial_id=dial, extension="102"),
        return_exceptions=True,
    )
    await floor.run(one, other)

    (winner,) = [record for record in found if isinstance(record, DialRecord)]
    assert [type(error) for error in found if isinstance(error, Exception)] == [Conflict]
    assert [order.extension for order in floor.line.orders] == [winner.extension]
    free = "102" if winner.extension == "101" else "101"
    meter = await floor.store.collection(METERS).get(f"{TENANT}/{free}")
    assert (meter.today, meter.held) == (0, ())
    await one.place(extension=free)


async def test_two_orders_of_one_key_for_two_pbxs_leave_the_losers_phone_free(
    floor: Floor,
) -> None:
    (pbx,) = (pbx for pbx in floor.site.pbx if pbx.name == PBX)
    other_pbx = pbx.model_copy(update={"name": "other"})
    await floor.say(pbx=(*floor.site.pbx, other_pbx), agents=["101"])
    one, other = await floor.replica(), await floor.replica()
    found = await asyncio.gather(
        one.place(dial_id="d1", pbx=PBX),
        other.place(dial_id="d1", pbx="other"),
        return_exceptions=True,
    )

    (winner,) = [record for record in found if isinstance(record, DialRecord)]
    meter = await floor.store.collection(METERS).get(f"{TENANT}/101")
    assert meter.today == 1
    await one.place(pbx="other" if winner.pbx == PBX else PBX)


async def test_what_was_refused_may_be_asked_again(floor: Floor) -> None:
    replica = await floor.replica()
    first = await replica.place()
    dial = str(new_id())
    with pytest.raises(Conflict, match="dialling already"):
        await replica.place(dial_id=dial)
    await floor.run(replica)
    await replica.hear(Seen.of(first).ends(Disposition.BUSY))

    assert (await replica.place(dial_id=dial)).dial_id == dial


async def test_an_order_that_is_too_old_is_not_begun(floor: Floor) -> None:
    replica = await floor.replica()
    with pytest.raises(TransientError, match="too late"):
        await replica.place(expires_at=floor.clock.now() - SECOND)

    assert await floor.dials() == 0


# -- handed on --------------------------------------------------------------------------------


async def test_while_the_broker_is_away_nothing_is_dialled_and_the_repeat_goes_on(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    dial = str(new_id())
    floor.wire.is_away = True
    with pytest.raises(Unavailable):
        await replica.place(dial_id=dial)
    assert floor.line.orders == []
    floor.wire.is_away = False
    await replica.place(dial_id=dial)
    await floor.run(replica)

    assert len(floor.line.orders) == 1


async def test_an_order_that_nobody_hands_on_is_given_up_and_frees_the_phone(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    dial = str(new_id())
    floor.wire.is_away = True
    with pytest.raises(Unavailable):
        await replica.place(dial_id=dial)
    floor.wire.is_away = False
    await floor.clock.advance(31 * SECOND)
    await replica.look()

    assert await replica.state(dial) == (DialState.FAILED, DialReason.TOO_LATE)
    assert floor.wire.told[-1].reason is DialReason.TOO_LATE
    assert floor.line.orders == []
    await replica.place()


async def test_an_order_that_waited_for_too_long_is_not_dialled(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.clock.advance(31 * SECOND)
    await floor.run(replica)

    assert await replica.state(record.dial_id) == (DialState.FAILED, DialReason.TOO_LATE)
    assert floor.line.orders == []


async def test_an_order_that_goes_to_the_pbx_in_its_last_moment_is_not_too_late(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between one replica's look and what it makes of it another asks the PBX."""
    one, other = await floor.replica(), await floor.replica()
    record = await one.place()
    (message,) = floor.wire.waiting
    unordered = one.deps.dials.unordered

    async def seen_then_ordered() -> AsyncIterator[DialDocument]:
        document = await other.document(record.dial_id)
        await other.deliver(message)
        assert document.ordered_at is None
        yield document
        async for found in unordered():
            yield found

    monkeypatch.setattr(one.deps.dials, "unordered", seen_then_ordered)
    await one.look()

    assert len(floor.line.orders) == 1
    assert await one.state(record.dial_id) == (DialState.REQUESTED, None)


async def test_of_an_order_that_is_delivered_twice_the_slower_does_not_undo_the_faster(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await floor.replica(), await floor.replica()
    record = await one.place()
    (message,) = floor.wire.waiting
    find = one.deps.dials.find

    async def slowly(tenant: str, dial_id: str) -> DialDocument | None:
        document = await find(tenant, dial_id)
        await other.deliver(message)
        await floor.clock.advance(31 * SECOND)
        return document

    monkeypatch.setattr(one.deps.dials, "find", slowly)
    await one.deliver(message)

    assert len(floor.line.orders) == 1
    assert await other.state(record.dial_id) == (DialState.REQUESTED, None)


async def test_an_order_that_is_with_the_pbx_is_neither_too_late_nor_handed_on_again(
    floor: Floor,
) -> None:
    """Of a PBX that rings an agent for a minute."""
    slow = tuple(
        pbx.model_copy(update={"ring_agent": timedelta(minutes=1)}) for pbx in floor.site.pbx
    )
    await floor.say(pbx=slow)
    replica = await floor.replica()
    dial = (await replica.place(dial_id="d1")).dial_id
    await floor.run(replica)
    await floor.clock.advance(31 * SECOND)
    await replica.look()
    await replica.place(dial_id=dial)

    assert await replica.state(dial) == (DialState.REQUESTED, None)
    assert floor.wire.waiting == []


async def test_an_order_that_is_delivered_twice_is_given_once(floor: Floor) -> None:
    one, other = await floor.replica(), await floor.replica()
    record = await one.place()
    (message,) = floor.wire.waiting
    floor.line.answers.clear()
    first = asyncio.create_task(one.deliver(message))
    await eventually(lambda: bool(floor.line.orders))
    with pytest.raises(Unavailable, match="looking again"):
        await other.deliver(message)
    floor.line.answers.set()
    await first
    await Seen.of(record).come(one, until=DialState.AGENT_RINGING)
    await other.deliver(message)

    assert len(floor.line.orders) == 1
    assert await one.state(record.dial_id) == (DialState.AGENT_RINGING, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Rejected("no such context"), DialReason.PBX_REFUSED),
        (Unavailable("not connected", sent=False), DialReason.PBX_UNAVAILABLE),
        (Unavailable("no answer", sent=True), DialReason.INTERRUPTED),
    ],
    ids=["refused", "away", "unknown"],
)
async def test_what_the_pbx_does_not_take_has_failed_and_frees_the_phone(
    floor: Floor, error: Any, reason: DialReason
) -> None:
    replica = await floor.replica()
    floor.line.refuses = error
    record = await replica.place()
    await floor.run(replica)

    assert await replica.state(record.dial_id) == (DialState.FAILED, reason)
    floor.line.refuses = None
    await replica.place()


async def test_an_order_that_nobody_placed_is_checked_too(floor: Floor) -> None:
    """By an older gateway, or whoever may publish commands."""
    replica = await floor.replica()

    async def commanded(dial: str, number: str, extension: str = "101") -> Any:
        now = floor.clock.now()
        order = DialNumber(
            dial_id=dial,
            extension=extension,
            number=number,
            requested_at=now,
            expires_at=now + timedelta(seconds=30),
        )
        await replica.deliver(wrap(order, source="gateway", occurred_at=now, tenant=TENANT))
        return await replica.state(dial)

    assert await commanded("d1", "02079460000") == (DialState.REQUESTED, None)
    assert await commanded("d2", CUSTOMER) == (DialState.FAILED, DialReason.ALREADY_DIALLING)
    assert await commanded("d3", "999", "102") == (DialState.FAILED, DialReason.NUMBER_REFUSED)
    assert await commanded("d4", CUSTOMER, "999") == (DialState.FAILED, DialReason.PBX_UNAVAILABLE)
    assert [order.number for order in floor.line.orders] == ["+442079460000"]


async def test_what_another_tenant_dials_is_nobodys_business(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    with pytest.raises(NotFound):
        await replica.deps.dials.by_dial("other", record.dial_id)
    page = await replica.deps.dials.page("other", AllOf(()), limit=10, cursor=None)

    assert page.documents == []


async def test_a_dial_that_is_never_heard_of_is_given_up_and_corrected_when_it_is(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    await floor.clock.advance(UNHEARD)
    await replica.look()
    given_up = (await replica.document(record.dial_id)).record
    await Seen.of(record).come(replica, until=DialState.CONNECTED)
    found = (await replica.document(record.dial_id)).record

    assert (given_up.state, given_up.reason) == (DialState.FAILED, DialReason.INTERRUPTED)
    assert given_up.message is not None
    assert (found.state, found.reason, found.message) == (DialState.CONNECTED, None, None)
    assert found.ended_at is None


def test_a_question_for_dials_says_its_bounds() -> None:
    with pytest.raises(ValueError, match="500"):
        ListDials(dial_ids=tuple(str(n) for n in range(501)))
