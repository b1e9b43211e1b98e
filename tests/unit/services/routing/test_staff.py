"""Who is free: by what is told of agents and calls, in whatever order."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing.on_call import LONGEST_CALL, MOST_CALLS, MOST_LEGS
from services.routing.staff import MOST_AGENTS, Staff, StatusWord
from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, AgentStatusSettled, Side
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRecord,
    CallStarted,
    CallTransferred,
    Direction,
    LegEnded,
    LegOutcome,
    LegRecord,
    Party,
    PbxResynced,
    TransferKind,
    TransferRecord,
)
from shared.contracts.envelope import Event, wrap
from shared.ids import call_id
from shared.testing.builders import NOON, a_call

SECOND = timedelta(seconds=1)
CALL: dict[str, Any] = {"call_id": "c1", "pbx": "main"}
FREE, BUSY, BREAK = AgentStatus.FREE, AgentStatus.BUSY, AgentStatus.BREAK


class Desk:
    """A staff that hears; seconds are after noon, by the PBX's clock."""

    def __init__(self, now: datetime = NOON) -> None:
        self.clock = ManualClock(now)
        self.staff = Staff(self.clock)

    def hear(self, second: float, *events: Event, tenant: str = "acme") -> None:
        for event in events:
            at = NOON + second * SECOND
            self.staff.hear(wrap(event, source="test", occurred_at=at, tenant=tenant))

    def busy(self, *extensions: str) -> list[str]:
        known = extensions or ("101", "102", "103")
        return [one for one in known if self.staff.on_call("acme", one)]


def started(caller: str | None = None, **changes: Any) -> CallStarted:
    if caller is not None:
        changes |= {"caller": Party(extension=caller), "direction": Direction.INTERNAL}
    return a_call(**changes)


def answered(extension: str | None = "101", *, leg: str = "", **more: Any) -> CallAnswered:
    callee = Party(extension=extension, number=None if extension else "447700900123")
    return CallAnswered(**CALL | more, leg_id=leg or str(extension), callee=callee)


def leg_ended(
    extension: str = "101", outcome: LegOutcome = LegOutcome.ANSWERED, *, leg: str = "", **more: Any
) -> LegEnded:
    callee = Party(extension=extension)
    return LegEnded(**CALL | more, leg_id=leg or extension, callee=callee, outcome=outcome)


def transferred(by: str, to: str) -> CallTransferred:
    return CallTransferred(
        **CALL, kind=TransferKind.BLIND, by=Party(extension=by), to=Party(extension=to)
    )


def status(extension: str, told: AgentStatus) -> AgentStatusChanged:
    return AgentStatusChanged(extension=extension, status=told)


ENDED = CallEnded(**CALL)
ELSEWHERE, NO_ANSWER = LegOutcome.ELSEWHERE, LegOutcome.NO_ANSWER

#: What is told at which second, in the order in which it comes; and who is on a call then.
STORIES: dict[str, tuple[list[tuple[float, Event]], list[str]]] = {
    "nothing": ([], []),
    "it rings": ([(0, started())], []),
    "answered": ([(0, started()), (5, answered())], ["101"]),
    "the phone hung up": ([(5, answered()), (9, leg_ended())], []),
    "the call ended": ([(5, answered()), (9, ENDED)], []),
    "another was faster": ([(5, answered("102")), (5, leg_ended("101", ELSEWHERE))], ["102"]),
    "a line outside": ([(0, started("102")), (5, answered(None, leg="out"))], ["102"]),
    "who calls is on a call at once": ([(0, started("101"))], ["101"]),
    "of an internal call both": ([(0, started("101")), (5, answered("102"))], ["101", "102"]),
    "the end is told first": ([(9, ENDED), (5, answered())], []),
    "the leg's end is told first": ([(9, leg_ended()), (5, answered())], []),
    "an older end is told last": ([(9, leg_ended()), (3, leg_ended()), (5, answered())], []),
    "told again after the end": ([(5, answered()), (9, ENDED), (5, answered())], []),
    "of one moment the end is the later": ([(5, leg_ended()), (5, answered())], []),
    "a queue that rings again": (
        [(1, leg_ended("101", NO_ANSWER)), (5, leg_ended("101", NO_ANSWER)), (9, answered())],
        ["101"],
    ),
    "two devices of one agent": (
        [(5, answered(leg="desk")), (5, leg_ended("101", ELSEWHERE, leg="app"))],
        ["101"],
    ),
    "passed on": (
        [(5, answered()), (9, transferred("101", "102")), (12, answered("102"))],
        ["102"],
    ),
    "passed on by who called": (
        [(0, started("101")), (5, answered(None, leg="out")), (9, transferred("101", "102"))],
        [],
    ),
    "passed on and back": (
        [(5, answered()), (9, transferred("101", "102")), (20, answered(leg="again"))],
        ["101"],
    ),
    "passed on, told before": ([(9, transferred("101", "102")), (5, answered())], []),
    "click-to-call, under way": (
        [(0, started("101")), (2, answered(own_phone=True)), (9, answered(None, leg="out"))],
        ["101"],
    ),
    "click-to-call, hung up": (
        [
            (0, started("101")),
            (2, answered(own_phone=True)),
            (9, leg_ended(own_phone=True)),
        ],
        [],
    ),
    "click-to-call, taken at one of two phones": (
        [
            (0, started("101")),
            (2, answered(leg="desk", own_phone=True)),
            (2, leg_ended("101", ELSEWHERE, leg="app", own_phone=True)),
        ],
        ["101"],
    ),
    "another call's end": ([(5, answered()), (9, CallEnded(call_id="c2", pbx="main"))], ["101"]),
    "two calls, one over": (
        [(5, answered()), (6, answered(call_id="c2")), (9, ENDED)],
        ["101"],
    ),
    "a consultation": (
        [
            (5, answered()),
            (6, answered("102", call_id="c2")),
            (9, leg_ended("102", call_id="c2")),
            (9, answered("102")),
            (9, transferred("101", "102")),
        ],
        ["102"],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_who_is_on_a_call(story: str) -> None:
    events, busy = STORIES[story]
    desk = Desk()
    for second, event in events:
        desk.hear(second, event)
    assert desk.busy() == busy


async def test_an_end_that_nobody_told_holds_nobody_for_ever() -> None:
    desk = Desk()
    desk.hear(0, answered())
    await desk.clock.advance(LONGEST_CALL - SECOND)
    assert desk.busy() == ["101"]
    await desk.clock.advance(SECOND)
    assert desk.busy() == []


def test_a_pbx_whose_clock_is_off_is_on_calls_all_the_same() -> None:
    for hours in (-48, 48):
        desk = Desk()
        desk.hear(hours * 3600, answered())
        assert desk.busy() == ["101"]
        desk.hear(hours * 3600 + 5, leg_ended())
        assert desk.busy() == []


def test_what_the_pbx_has_no_more_has_ended() -> None:
    desk = Desk()
    ours = [call_id("acme", "main", f"{number}.0") for number in range(3)]
    desk.hear(0, answered("101", call_id=ours[0]), answered("102", call_id=ours[1]))
    desk.hear(0, answered("103", call_id=ours[2], pbx="branch"))
    desk.hear(0, answered("104", call_id=ours[0]), tenant="other")
    resynced = PbxResynced(pbx="main", live=("1.0",), heard_until=NOON)
    desk.hear(5, resynced)
    assert desk.busy() == ["101", "102", "103"], (
        "what was heard just now may be newer than the list"
    )
    desk.hear(60, resynced)
    assert desk.busy() == ["102", "103"]
    assert desk.staff.on_call("other", "104")


# -- the status ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "on_a_call", "seen", "free"),
    [
        (None, False, None, True),
        (None, True, "busy", False),
        (FREE, False, "free", True),
        (FREE, True, "busy", False),
        (BREAK, False, "break", False),
        (BREAK, True, "busy", False),
        (BUSY, False, "busy", False),
        (AgentStatus.OFFLINE, False, "offline", False),
        (AgentStatus.DINNER, False, "dinner", False),
    ],
)
def test_free_is_who_is_on_no_call_and_nobody_says_otherwise(
    told: AgentStatus | None, on_a_call: bool, seen: str | None, free: bool
) -> None:
    desk = Desk()
    if told is not None:
        desk.hear(0, status("101", told))
    if on_a_call:
        desk.hear(0, answered())
    assert desk.staff.status("acme", "101") is told
    assert desk.staff.seen("acme", "101") == seen
    assert desk.staff.is_free("acme", "101") is free
    assert desk.staff.seen("other", "101") is None, "another tenant's 101 is somebody else"
    assert desk.staff.is_free("acme", "102")


def test_an_older_word_does_not_win() -> None:
    desk = Desk()
    desk.hear(-5, status("101", BREAK))
    desk.hear(-9, status("101", FREE))
    assert desk.staff.seen("acme", "101") == "break"
    desk.hear(-5, status("101", BUSY))
    assert desk.staff.seen("acme", "101") == "busy"


async def test_a_clock_that_was_ahead_does_not_have_the_last_word() -> None:
    desk = Desk()
    desk.hear(365 * 86400, status("101", BREAK))
    assert desk.staff.seen("acme", "101") == "break"
    await desk.clock.advance(SECOND)
    desk.hear(1, status("101", FREE))
    assert desk.staff.seen("acme", "101") == "free"


def settled(told: AgentStatus, *, weighed: float, since: float | None = None) -> AgentStatusSettled:
    """By whichever side, at the second *since*."""
    return AgentStatusSettled(
        extension="101",
        status=told,
        source=Side.CRM,
        since=NOON + (weighed if since is None else since) * SECOND,
        weighed=NOON + weighed * SECOND,
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_echo_of_a_word_that_a_pbx_has_not_does_not_stay(order: tuple[int, ...]) -> None:
    """A dinner by the CRM is a break at a FreeSWITCH; in whatever order the three come."""
    desk = Desk()
    story: list[tuple[float, Event]] = [
        (-9, settled(AgentStatus.DINNER, weighed=-9)),
        (-8, status("101", BREAK)),
        (-8, settled(AgentStatus.DINNER, weighed=-8, since=-9)),
    ]
    for place in order:
        desk.hear(*story[place])
    assert desk.staff.seen("acme", "101") == "dinner"


def test_while_the_dialer_is_away_a_pbx_is_heard_all_the_same() -> None:
    desk = Desk()
    desk.hear(-9, settled(AgentStatus.DINNER, weighed=-9))
    desk.hear(-5, status("101", FREE))
    assert desk.staff.seen("acme", "101") == "free"
    desk.hear(-4, settled(BUSY, weighed=-7))
    assert desk.staff.seen("acme", "101") == "free", "what it settles late is older"
    desk.hear(-3, settled(BUSY, weighed=-4))
    assert desk.staff.seen("acme", "101") == "busy"


@pytest.mark.parametrize("source", [Side.CRM, Side.API])
def test_the_word_of_a_crm_or_a_person_waits_for_the_dialer(source: Side) -> None:
    desk = Desk()
    said = AgentStatusChanged(extension="101", status=BREAK, source=source, source_name="shop")
    desk.hear(-5, said)
    assert desk.staff.status("acme", "101") is None
    desk.hear(-4, settled(BREAK, weighed=-5))
    assert desk.staff.status("acme", "101") is BREAK


async def test_what_is_settled_of_a_clock_that_was_ahead_does_not_have_the_last_word() -> None:
    desk = Desk()
    desk.hear(3600, status("101", BREAK))
    desk.hear(0, settled(AgentStatus.DINNER, weighed=3600, since=0))
    assert desk.staff.seen("acme", "101") == "dinner"
    await desk.clock.advance(SECOND)
    desk.hear(1, status("101", FREE))
    assert desk.staff.seen("acme", "101") == "free"


# -- what the journal knows ------------------------------------------------------------------


def record(**changes: Any) -> CallRecord:
    known: dict[str, Any] = {"call_id": "c1", "pbx": "main", "started_at": NOON}
    return CallRecord(**known | changes)


def a_leg(extension: str = "101", **changes: Any) -> LegRecord:
    known: dict[str, Any] = {"leg_id": extension, "callee": Party(extension=extension)}
    return LegRecord(**known | {"answered_at": NOON} | changes)


LATER = NOON + 9 * SECOND


@pytest.mark.parametrize(
    ("learnt", "busy"),
    [
        (record(legs=(a_leg(),)), ["101"]),
        (record(legs=(a_leg(answered_at=None),)), []),
        (record(legs=(a_leg(ended_at=LATER), a_leg("102"))), ["102"]),
        (record(legs=(a_leg(),), ended_at=LATER), []),
        (record(caller=Party(extension="102"), legs=(a_leg(),)), ["101", "102"]),
        (record(caller=Party(number="447700900123")), []),
        (
            record(
                legs=(a_leg(),),
                transfers=(
                    TransferRecord(
                        at=LATER,
                        kind=TransferKind.BLIND,
                        by=Party(extension="101"),
                        to=Party(extension="102"),
                    ),
                ),
            ),
            [],
        ),
        (
            record(
                caller=Party(extension="101"),
                legs=(a_leg(own_phone=True, ended_at=LATER, outcome=LegOutcome.ANSWERED),),
            ),
            [],
        ),
        (record(legs=(a_leg(answered_at=NOON - LONGEST_CALL),)), []),
        (record(pbx=None, legs=(a_leg(),)), []),
    ],
)
def test_a_record_says_as_much_as_its_events(learnt: CallRecord, busy: list[str]) -> None:
    desk = Desk()
    desk.staff.learn("acme", learnt)
    assert desk.busy() == busy


def test_what_is_learnt_and_what_is_heard_come_together() -> None:
    desk = Desk()
    desk.hear(20, answered())
    desk.staff.learn("acme", record(legs=(a_leg(ended_at=LATER),)))
    assert desk.busy() == ["101"], "the journal is behind"
    desk.hear(30, leg_ended())
    desk.staff.learn("acme", record(legs=(a_leg(),)))
    assert desk.busy() == []


async def test_who_was_quiet_for_longest_is_asked_about_first_whosever_it_is() -> None:
    desk, minute = Desk(), timedelta(minutes=1)
    for number in range(60):
        desk.hear(0, answered(call_id=f"c{number}"), tenant="large")
    await desk.clock.advance(SECOND)
    desk.hear(1, answered(call_id="c"), tenant="small")
    await desk.clock.advance(minute + SECOND)
    for tenant, key in desk.staff.unchecked(since=minute)[:50]:
        desk.staff.checked(tenant, key)
    await desk.clock.advance(minute + SECOND)

    assert ("small", "c") in desk.staff.unchecked(since=minute)[:50]


async def test_calls_are_asked_about_that_keep_somebody_busy_and_are_quiet() -> None:
    desk = Desk()
    desk.hear(0, answered(), started("102", call_id="c2"), leg_ended("103", call_id="c3"))
    minute = timedelta(minutes=1)
    assert desk.staff.unchecked(since=minute) == []
    await desk.clock.advance(minute + SECOND)
    assert desk.staff.unchecked(since=minute) == [("acme", "c1"), ("acme", "c2")]
    desk.staff.checked("acme", "c1")
    desk.staff.learn("acme", record(call_id="c2", ended_at=LATER))
    desk.staff.checked("acme", "unheard of")
    assert desk.staff.unchecked(since=minute) == []
    assert desk.busy() == ["101"]


# -- bounds, order ---------------------------------------------------------------------------


def test_memory_is_bounded_whatever_is_told() -> None:
    desk = Desk()
    for number in range(MOST_CALLS + 10):
        desk.hear(0, answered(f"{number}", call_id=f"c{number}"))
    assert desk.busy("0", "9", "10", f"{MOST_CALLS + 9}") == ["10", f"{MOST_CALLS + 9}"]
    calls = desk.staff._calls["acme"]
    assert len(calls._calls) == len(calls._at) == MOST_CALLS
    for number in range(MOST_CALLS + 10):
        desk.hear(1, CallEnded(call_id=f"c{number}", pbx="main"))
    assert len(calls._over) == MOST_CALLS
    assert not calls._calls
    assert not calls._at


def test_one_call_does_not_fill_it_either() -> None:
    desk = Desk()
    desk.hear(0, answered("101", leg="a"))
    for number in range(MOST_LEGS * 3):
        desk.hear(number, leg_ended("102", NO_ANSWER, leg=f"r{number}"))
        desk.hear(number, transferred(f"t{number}", "102"))
    assert desk.busy() == ["101"], "whoever talks is not pushed out by who only rings"
    for number in range(MOST_LEGS * 3):
        desk.hear(number, answered(f"x{number}", leg=f"x{number}"))
    (call,) = desk.staff._calls["acme"]._calls.values()
    assert max(len(call.stints), len(call.left), len(call.extensions)) <= MOST_LEGS
    desk.hear(9, ENDED)
    assert not desk.staff._calls["acme"]._at


def test_statuses_are_bounded() -> None:
    desk = Desk()
    for number in range(MOST_AGENTS + 1):
        desk.hear(0, status(f"{number}", FREE))
    assert desk.staff.status("acme", "0") is None
    assert desk.staff.status("acme", "1") is FREE


seconds = st.integers(0, 5)
legs = st.sampled_from([("101", "a"), ("101", "b"), ("102", "c"), ("103", "d")])
happenings = st.one_of(
    st.tuples(seconds, st.sampled_from(["101", "102"]).map(started)),
    st.tuples(seconds, legs.map(lambda leg: answered(leg[0], leg=leg[1]))),
    st.tuples(
        seconds,
        st.builds(
            lambda leg, outcome, own: leg_ended(leg[0], outcome, leg=leg[1], own_phone=own),
            legs,
            st.sampled_from(LegOutcome),
            st.booleans(),
        ),
    ),
    st.tuples(seconds, st.sampled_from(["101", "102"]).map(lambda by: transferred(by, "103"))),
    st.tuples(seconds, st.just(ENDED)),
)


@given(
    st.lists(happenings, max_size=12).flatmap(
        lambda all_: st.tuples(st.just(all_), st.permutations(all_ * 2))
    )
)
def test_the_order_of_what_is_told_and_repeats_change_nothing(
    told: tuple[list[tuple[int, Event]], list[tuple[int, Event]]],
) -> None:
    # One phone of who calls: two beginnings of a call with different callers do not exist.
    in_order, shuffled = (
        [
            (at, e)
            for at, e in some
            if not (isinstance(e, CallStarted) and e.caller.extension == "102")
        ]
        for some in told
    )
    first, second = Desk(), Desk()
    for at, event in in_order:
        first.hear(at, event)
    for at, event in shuffled:
        second.hear(at, event)
    assert first.busy() == second.busy()


def test_a_moment_is_compared_as_stores_keep_it() -> None:
    desk = Desk(NOON + timedelta(microseconds=900))
    desk.hear(60, status("101", BREAK))
    desk.staff.told("acme", "101", StatusWord(FREE, NOON))
    assert desk.staff.seen("acme", "101") == "free", "of the same millisecond, and told later"
