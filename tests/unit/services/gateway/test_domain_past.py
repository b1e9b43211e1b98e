"""What clients that come back are told again, and what a fresh process makes of the journal."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.domain import AgentEvent, AgentEventKind, PopBoard
from services.gateway.domain.past import MARGIN, Past, position_at, position_of
from services.gateway.domain.rebuilding import events_in
from services.journal.domain import Seen, fold
from shared.contracts.calls import CallRecord, Direction, LegOutcome, Party, TransferKind
from shared.contracts.envelope import Event
from shared.site.telling import PopMoment, PopupPolicy
from shared.testing.builders import NOON, a_call
from tests.unit.services.gateway.pops_kit import (
    ADA,
    BOB,
    CALLER,
    OUTSIDE,
    Rules,
    answered,
    chosen,
    ended,
    handed_on,
    known_contact,
    leg_ended,
    outgoing,
    ringing,
    several,
    unknown_contact,
)

SECOND = timedelta(seconds=1)
LATER = NOON + timedelta(hours=1)


def event(name: str) -> AgentEvent:
    return AgentEvent(kind=AgentEventKind.RINGING, id=name)


def past(*names: str, apart: timedelta = 10 * SECOND) -> Past:
    """Events an hour after the beginning, one after the other."""
    found = Past(NOON)
    for place, name in enumerate(names):
        found.note("acme", event(name), LATER + place * apart)
    return found


def after(found: Past, position: str, now: datetime = LATER) -> list[str] | None:
    told = found.since("acme", position, now)
    return None if told is None else [one.id for one in told]


# -- from where a client was ---------------------------------------------------------------------


def test_all_that_came_after_an_event_is_told() -> None:
    assert after(past("a", "b", "c"), "a") == ["b", "c"]
    assert after(past("a", "b", "c"), "c") == []


def test_what_came_shortly_before_is_told_too() -> None:
    """Another replica may have had it after the event that the client names."""
    found = past("a", "b", "c", "d", apart=MARGIN)
    assert after(found, "c") == ["b", "d"]


def test_from_a_moment_on_with_the_margin() -> None:
    found = past("a", "b", "c", apart=MARGIN)
    now = LATER + timedelta(minutes=1)
    assert after(found, position_at(LATER + 2 * MARGIN), now) == ["b", "c"]
    assert after(found, position_at(LATER + 2 * MARGIN + SECOND), now) == ["c"]


def test_an_event_goes_before_the_moment_that_is_said_with_it() -> None:
    """It was told there by another clock, or at another time, than here."""
    found = past("a", "b", "c")
    assert after(found, position_of(event("b"), LATER + timedelta(minutes=1))) == ["c"]


def test_an_event_that_is_not_heard_here_yet_is_placed_by_the_moment() -> None:
    found = past("a", "b", "c", apart=MARGIN)
    now = LATER + timedelta(minutes=1)
    assert after(found, position_of(event("d"), LATER + 2 * MARGIN), now) == ["b", "c"]
    assert after(found, position_of(event("d"), NOON), now) is None
    assert after(found, "d", now) is None


def test_a_moment_to_come_is_now() -> None:
    found = past("a", "b")
    assert after(found, position_at(LATER + timedelta(days=1)), LATER + 10 * SECOND) == ["b"]


@pytest.mark.parametrize(
    "position",
    ["z", "", "at-", "at-x", "at--1", "at-99999999999999", "at-" + "9" * 400, "a\n", "at-\u0661"],
)
def test_what_is_no_position_of_ours_is_not_known(position: str) -> None:
    assert after(past("a", "b"), position, NOON) is None


def test_before_the_process_began_nothing_is_known() -> None:
    found = past("a")
    assert after(found, position_at(NOON + MARGIN)) == ["a"]
    assert after(found, position_at(NOON + MARGIN - SECOND)) is None


def test_what_is_older_than_ten_minutes_is_forgotten() -> None:
    found = past("a", "b", apart=timedelta(minutes=10))
    assert after(found, "a") == ["b"]
    found.note("acme", event("c"), LATER + timedelta(minutes=10, seconds=1))
    assert after(found, "a") is None
    assert after(found, "b") == ["c"]
    # Of what it was it is known only that it was.
    assert after(found, position_at(LATER + MARGIN - SECOND), LATER + timedelta(hours=1)) is None


def test_a_quiet_tenant_may_go_on_from_long_ago() -> None:
    found = past("a")
    found.note("other", event("x"), LATER + timedelta(hours=5))
    assert after(found, "a", LATER + timedelta(hours=5)) == []


def test_tenants_do_not_hear_each_other() -> None:
    found = past("a", "b")
    assert found.since("other", "a", LATER) is None
    assert found.since("other", position_at(LATER), LATER) == []


def test_after_a_gap_nobody_goes_on_from_before_it() -> None:
    found = past("a")
    found.begin_again(LATER + SECOND)
    assert after(found, "a") is None
    assert after(found, position_at(LATER + SECOND), LATER + SECOND) is None


def test_a_tenant_has_so_many_events_and_all_together_so_many() -> None:
    found = Past(NOON)
    for number in range(20_010):
        found.note("acme", event(f"a{number}"), NOON)
    assert after(found, "a9", NOON) is None
    assert len(after(found, "a10", NOON) or ()) == 19_999
    for tenant in range(9):
        for number in range(10_000):
            found.note(f"t{tenant}", event(f"{tenant}-{number}"), NOON)
    # 110,000 were told: the oldest of all went, which were acme's.
    assert len(found.since("t8", "8-0", NOON) or ()) == 9_999
    assert len(after(found, "a20009", NOON) or ()) == 9_999
    assert after(found, "a10009", NOON) is None


# -- out of the journal --------------------------------------------------------------------------

STORIES: dict[str, list[Event]] = {
    "queue": [
        a_call(caller=CALLER),
        known_contact(),
        ringing("101", "l1", queue="support"),
        ringing("102", "l2", queue="support"),
        answered("102", "l2"),
        leg_ended(LegOutcome.ELSEWHERE, "101", "l1"),
        leg_ended(LegOutcome.ANSWERED, "102", "l2"),
        ended(),
    ],
    "transfer": [
        a_call(caller=CALLER),
        unknown_contact(),
        ringing(),
        answered(),
        leg_ended(LegOutcome.ANSWERED),
        ringing("102", "l2"),
        answered("102", "l2"),
        ended(),
    ],
    "handed over": [
        a_call(caller=CALLER),
        ringing(),
        answered(),
        answered("102", "l2", caller=CALLER),
        leg_ended(LegOutcome.ANSWERED),
        ended(),
    ],
    "choice": [a_call(caller=CALLER), ringing(), several(), chosen(BOB), answered(), ended()],
    "several": [a_call(caller=CALLER), several(), ringing(), answered()],
    "outgoing": [
        outgoing(),
        known_contact(),
        ringing(callee=OUTSIDE, leg="t1"),
        answered(callee=OUTSIDE, leg="t1"),
        handed_on(TransferKind.BLIND, "101", "102"),
        ringing("102", "l2", caller=CALLER),
        answered("102", "l2"),
        ended(),
    ],
    "click": [
        outgoing(dial_id="d1"),
        known_contact(),
        ringing("101", "a1", own_phone=True),
        answered("101", "a1", own_phone=True),
        answered(callee=OUTSIDE, leg="t1"),
        ended(),
    ],
    "internal": [
        a_call(direction=Direction.INTERNAL, caller=Party(extension="103")),
        ringing(caller=Party(extension="103")),
        answered(),
    ],
}


def record_of(events: list[Event]) -> CallRecord:
    seen = [Seen(str(place), NOON + place * SECOND, body) for place, body in enumerate(events)]
    return fold("c1", seen)


def words(board: PopBoard, now: datetime) -> list[tuple[str, str, str | None, str | None]]:
    shown = [one for extension in ("101", "102") for one in board.shown("acme", extension, now=now)]
    cards = [(one.kind, one.id, one.page_url, one.create_url) for one in shown]
    return [(kind.value, identity, page, create) for kind, identity, page, create in cards]


@pytest.mark.parametrize("moment", list(PopMoment))
@pytest.mark.parametrize("story", list(STORIES))
def test_a_fresh_process_shows_what_the_old_one_did_by_the_same_ids(
    story: str, moment: PopMoment
) -> None:
    """At every moment of the call, so that a card which was opened is not opened again."""
    policy = PopupPolicy(moment=moment, directions=(Direction.INBOUND, Direction.OUTBOUND))
    rules = Rules(policy, policy, "https://crm.example/new")
    events = STORIES[story]
    for length in range(1, len(events) + 1):
        now = NOON + length * SECOND
        live, fresh = PopBoard(rules), PopBoard(rules)
        for place, body in enumerate(events[:length]):
            live.take("acme", body, at=NOON + place * SECOND, now=NOON + place * SECOND)
        for body, at in events_in(record_of(events[:length])):
            fresh.take("acme", body, at=at, now=now)
        assert words(fresh, now) == words(live, now), f"after {length} events"


@settings(deadline=None)
@given(
    story=st.sampled_from(sorted(STORIES)),
    heard=st.integers(min_value=0, max_value=8),
    known=st.integers(min_value=1, max_value=8),
)
def test_what_the_journal_says_is_taken_by_who_has_heard_some_of_it_as_by_who_has_not(
    story: str, heard: int, known: int
) -> None:
    """It may be behind, or ahead: nothing that is over opens again, no id comes twice."""
    policy = PopupPolicy(directions=(Direction.INBOUND, Direction.OUTBOUND))
    board, events = PopBoard(Rules(policy, policy)), STORIES[story]
    told: list[AgentEvent] = []
    for place, body in enumerate(events[:heard]):
        told += [one for _, one in board.take("acme", body, at=NOON + place * SECOND, now=NOON)]
    for body, at in events_in(record_of(events[:known])):
        told += [one for _, one in board.take("acme", body, at=at, now=NOON)]
    for place, body in enumerate(events[heard:], start=heard):
        told += [one for _, one in board.take("acme", body, at=NOON + place * SECOND, now=NOON)]
    ids = [one.id for one in told if one.kind is not AgentEventKind.CONTACT]
    assert len(ids) == len(set(ids))
    if any(body.contract_name == "calls.ended" for body in events):
        for extension in ("101", "102"):
            assert list(board.shown("acme", extension, now=NOON)) == []


def test_of_a_call_that_has_no_beginning_yet_nothing_is_made() -> None:
    assert list(events_in(record_of([ringing()]))) == []
    assert list(events_in(CallRecord(call_id="c1"))) == []


def test_an_ambiguous_contact_stays_one() -> None:
    bodies = [body for body, _ in events_in(record_of(STORIES["several"]))]
    assert bodies[0] == several(contact=ADA)
