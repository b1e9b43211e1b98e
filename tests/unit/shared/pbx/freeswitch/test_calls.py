"""Streams of events in, finished calls out, as tests/data/pbx/freeswitch/calls.md has them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import CallRinging
from shared.pbx.freeswitch.esl_wire import read_event
from tests.calltable import CallTable, calls_of
from tests.unit.shared.pbx.freeswitch.event_streams import (
    DATA,
    NAMES,
    a_reader,
    bodies,
    replayed,
    stamp,
    story,
    stream,
)

TABLE = CallTable(DATA / "calls.md")
TOGETHER = timedelta(milliseconds=20)


@pytest.mark.parametrize("name", TABLE.names)
def test_a_stream_adds_up_to_its_rows(name: str) -> None:
    found = [TABLE.row(call, name) for call in calls_of(replayed(stream(name)))]

    assert found == TABLE.rows_of(name)


@pytest.mark.parametrize("name", TABLE.without_call)
def test_a_stream_without_a_call_makes_none(name: str) -> None:
    assert replayed(stream(name)) == []


def test_every_stream_is_in_the_table() -> None:
    assert sorted(TABLE.names + TABLE.without_call) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_call_stays_behind(name: str) -> None:
    reader = a_reader()
    replayed(stream(name), reader)

    assert reader.live_calls == 0


def test_the_phone_of_an_agent_shows_the_caller_and_his_queue() -> None:
    rings = bodies(replayed(stream("queue_answered")), CallRinging)

    assert [(r.callee.extension, r.caller.number, r.queue) for r in rings] == [
        ("101", "447700900123", "support"),
        ("102", "447700900123", "support"),
    ]


def test_a_click_leads_to_its_order_and_its_first_ring_is_the_agents_own() -> None:
    found = replayed(stream("click_to_call"))
    (call,) = calls_of(found)
    first, second = bodies(found, CallRinging)

    assert call.dial_id == "click-0001"
    assert (first.own_phone, first.caller.number) == (True, "+447700900777")
    assert (second.own_phone, second.callee.number) == (False, "+447700900777")


def test_an_agent_of_a_queue_takes_a_break() -> None:
    (changed,) = bodies(replayed(stream("queue_answered")), AgentStatusChanged)

    assert (changed.extension, changed.status) == ("102", AgentStatus.BREAK)


# -- order and repetition -------------------------------------------------------------------


def channel(record: bytes) -> str:
    event = read_event(record)
    return event.get("Unique-ID") or event.get("CC-Member-Session-UUID", "")


def jostled(records: Sequence[bytes], chance: random.Random) -> list[bytes]:
    """Neighbours of different channels within 20 ms in another order."""
    found = list(records)
    for _ in range(2 * len(found)):
        place = chance.randrange(len(found) - 1)
        one, other = found[place : place + 2]
        if channel(one) != channel(other) and abs(stamp(other) - stamp(one)) < TOGETHER:
            found[place : place + 2] = other, one
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if len(stream(name)) > 3])
@settings(deadline=None, max_examples=20)
@given(chance=st.randoms(use_true_random=False))
def test_only_the_order_of_one_channel_matters(name: str, chance: random.Random) -> None:
    assert story(replayed(jostled(stream(name), chance))) == story(replayed(stream(name)))


def without_number(record: bytes) -> bytes:
    return re.sub(rb"^Event-Sequence: .*\n", b"", record, flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_an_event_that_comes_twice_says_nothing_more(name: str) -> None:
    once = [without_number(record) for record in stream(name)]
    twice = [record for record in once for _ in range(2)]

    seen = {(sighting.key, sighting.at) for sighting in replayed(twice)}
    assert seen == {(sighting.key, sighting.at) for sighting in replayed(once)}


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=20)
@given(chance=st.randoms(use_true_random=False))
def test_an_event_that_comes_again_later_is_known_by_its_number(
    name: str, chance: random.Random
) -> None:
    records = list(stream(name))
    for _ in range(5):
        again = chance.randrange(len(records))
        records.insert(chance.randrange(again, len(records)) + 1, records[again])
    # By the clock of what came last, as a repetition is not older for us.
    ordered = replayed_in_order(records)

    assert ordered == [(s.key, s.at) for s in replayed(stream(name))]


def replayed_in_order(records: Sequence[bytes]) -> list[tuple[str, object]]:
    reader, found, now = a_reader(), [], stamp(records[0])
    for record in records:
        now = max(now, stamp(record))
        found += reader.read(record, now=now)
    found += reader.tick(now + timedelta(seconds=2))
    return [(sighting.key, sighting.at) for sighting in found]


def test_two_calls_at_the_same_time_stay_two() -> None:
    one = stream("answered")
    other = [record.replace(b"-0000000000", b"-1000000000") for record in one]
    other = [record.replace(b"Event-Sequence: ", b"Event-Sequence: 9") for record in other]
    both = [record for pair in zip(one, other, strict=True) for record in pair]

    first, second = calls_of(replayed(both))
    (alone,) = calls_of(replayed(one))

    ids = {"call_id", "pbx_call_id", "legs"}
    assert first == alone
    assert second.model_dump(exclude=ids) == alone.model_dump(exclude=ids)
    assert not {leg.leg_id for leg in first.legs} & {leg.leg_id for leg in second.legs}
