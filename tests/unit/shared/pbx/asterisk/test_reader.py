"""Records of an Asterisk that are strange, late, doubled, or of another clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.calls import CallEnded, CallEvent, CallStarted
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.asterisk import book
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Phones, Sighting

DATA = Path(__file__).parents[4] / "data" / "pbx"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PHONES = Phones(trunks=frozenset({"trunk", "trunk2"}), extensions=frozenset({"101", "102", "103"}))
NAMES = sorted(path.name.removesuffix(".ami.txt") for path in DATA.glob("*.ami.txt"))


def a_reader() -> AmiReader:
    reader = AmiReader(tenant="acme", pbx="main")
    reader.know(PHONES)
    return reader


@cache
def recorded(name: str) -> tuple[AmiMessage, ...]:
    wanted = a_reader().wanted
    found = AmiParser(wanted).feed((DATA / f"{name}.ami.txt").read_bytes())
    return tuple(message for message in found if message.event in wanted)


@cache
def told_by(name: str) -> frozenset[str]:
    return frozenset(sighting.key for sighting in fed(recorded(name)))


def fed(messages: Iterable[AmiMessage], *, ahead: timedelta = timedelta(0)) -> list[Sighting]:
    """By the messages' own clock, which is *ahead* of ours."""
    reader, now, found = a_reader(), NOON, []
    for message in messages:
        now = datetime.fromtimestamp(float(message.get("Timestamp")), UTC) - ahead
        found += reader.take(message, now=now)
    return found + reader.tick(now + timedelta(seconds=1))


WITH_CALLS = [name for name in NAMES if any("/started" in key for key in told_by(name))]


# -- records --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["answered", "transfer_attended", "queue_ringall"])
def test_kept_records_read_again_tell_the_same(name: str) -> None:
    kept = [message.raw for message in recorded(name)]
    reader, now, again = a_reader(), NOON, []
    for record, message in zip(kept, recorded(name), strict=True):
        now = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
        again += reader.read(record, now=now)
    again += reader.tick(now + timedelta(seconds=1))

    assert again == fed(recorded(name))


@pytest.mark.parametrize("record", [b"", b"\r\n\r\n", b"\x00\xff", b"GET / HTTP/1.1", b"no names"])
def test_a_record_that_is_no_ami_is_said_to_be_none(record: bytes) -> None:
    with pytest.raises(ContractError):
        a_reader().read(record, now=NOON)


@settings(deadline=None, max_examples=200)
@given(
    record=st.one_of(
        st.binary(max_size=2000),
        st.sampled_from([b"Event: Newchannel", b"Event: Hangup", b"Event: CoreShowChannel"]).map(
            lambda head: head + b"\r\nUniqueid: 1.0\r\nLinkedid: 1.0\r\nChannel: PJSIP/trunk-1"
        ),
        st.binary(max_size=300).map(lambda rest: b"Event: Newchannel\r\nUniqueid: " + rest),
        st.binary(max_size=300).map(lambda rest: b"Event: CoreShowChannelsComplete\r\n" + rest),
    ),
    cut=st.integers(0, 2000),
)
def test_no_bytes_stop_the_reading(record: bytes, cut: int) -> None:
    """Garbage, an unknown event, one that was cut: ContractError is the only way to say no."""
    reader = a_reader()
    for one in (record, record[:cut], b"Event: Newfangled\r\nX: 1"):
        try:
            reader.read(one, now=NOON)
        except ContractError:
            continue
    reader.tick(NOON + timedelta(seconds=1))


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(WITH_CALLS),
    junk=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=200)), max_size=10),
)
def test_garbage_between_blocks_is_counted_and_changes_nothing(
    name: str, junk: list[tuple[int, bytes]]
) -> None:
    blocks = [message.raw for message in recorded(name)]
    nameless = [(n % (len(blocks) + 1), j.translate(None, b"\r\n:")) for n, j in junk]
    for place, bytes_ in sorted((n, j) for n, j in nameless if j.strip()):
        blocks.insert(place, bytes_)
    parser = AmiParser(a_reader().wanted)

    found = list(parser.feed(b"".join(block + b"\r\n\r\n" for block in blocks)))

    assert [message.raw for message in found] == [m.raw for m in recorded(name)]
    assert parser.garbage + parser.passed_over == len(blocks) - len(found)


def test_a_block_that_does_not_end_is_no_ami() -> None:
    with pytest.raises(ContractError):
        list(AmiParser().feed(b"Event: Newchannel\r\nX: " + b"x" * 300_000))


# -- never two calls in one -----------------------------------------------------------------


def shifted(messages: Sequence[AmiMessage], serial: int) -> list[AmiMessage]:
    """The same call again under other ids, as another call of the same PBX."""

    def other(name: str, value: str) -> str:
        if not value or not (name.endswith(("niqueid", "inkedid")) or name == "BridgeUniqueid"):
            return value
        return f"x{serial}-{value}"

    return [
        AmiMessage({k: tuple(other(k, v) for v in vs) for k, vs in message.headers.items()})
        for message in messages
    ]


@settings(deadline=None, max_examples=60)
@given(
    names=st.lists(st.sampled_from(WITH_CALLS), min_size=2, max_size=4),
    chance=st.randoms(use_true_random=False),
    doubled=st.booleans(),
)
def test_calls_that_go_on_side_by_side_stay_apart(
    names: list[str], chance: random.Random, *, doubled: bool
) -> None:
    """Dealt into one another in any way, each in its own order, some events twice."""
    calls = [shifted(recorded(name), serial) for serial, name in enumerate(names)]
    apart = [_all_told(call) for call in calls]
    dealt: list[AmiMessage] = []
    piles = [list(call) for call in calls]
    while any(piles):
        pile = chance.choice([pile for pile in piles if pile])
        message = pile.pop(0)
        dealt += [message, message] if doubled and chance.random() < 0.3 else [message]

    together = _all_told(dealt)

    assert together == {key for keys in apart for key in keys}


def _all_told(messages: Iterable[AmiMessage]) -> set[str]:
    """All at one time of ours, so that no call closes between two of its events."""
    reader, found = a_reader(), []
    for message in messages:
        found += reader.take(message, now=NOON)
    found += reader.tick(NOON + timedelta(seconds=1))
    assert reader.live_calls == 0
    return {sighting.key for sighting in found}


# -- clocks ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(WITH_CALLS),
    ahead=st.timedeltas(timedelta(days=-400), timedelta(days=400)),
)
def test_a_pbx_whose_clock_is_off_tells_the_same_calls(name: str, ahead: timedelta) -> None:
    """By hours: its times are kept. By days: they are ours. What happened stays what it was."""
    found = fed(recorded(name), ahead=ahead)

    kinds = sorted((type(s.body).__name__, _of(s)) for s in found)
    assert kinds == sorted((type(s.body).__name__, _of(s)) for s in fed(recorded(name)))
    believed = abs(ahead) < timedelta(days=1)
    if believed:
        assert {s.key for s in found} == told_by(name)


def _of(sighting: Sighting) -> str:
    return sighting.body.call_id if isinstance(sighting.body, CallEvent) else ""


def test_how_far_the_pbx_s_clock_is_ahead_is_told() -> None:
    (message, *_) = recorded("answered")
    reader = a_reader()
    theirs = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)

    reader.take(message, now=theirs - timedelta(days=3))

    assert reader.clock_ahead == timedelta(days=3)


def test_a_pbx_without_timestamps_has_no_clock_that_could_be_compared() -> None:
    (message, *_) = recorded("answered")
    bare = AmiMessage({k: v for k, v in message.headers.items() if k != "Timestamp"})
    reader = a_reader()
    assert reader.clock_ahead is None

    reader.take(message, now=NOON)
    reader.take(bare, now=NOON)

    assert reader.clock_ahead is None


# -- bounds ---------------------------------------------------------------------------------


def a_call(number: int) -> AmiMessage:
    ids = {"Uniqueid": f"9.{number}", "Linkedid": f"9.{number}"}
    known = {"Event": "Newchannel", "Channel": "PJSIP/trunk-1", "ChannelStateDesc": "Ring", **ids}
    return AmiMessage({k: (v,) for k, v in known.items()})


def test_a_pbx_that_never_ends_its_calls_is_bounded_and_new_room_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book, "MOST_CALLS", 20)
    tracker = CallTracker(tenant="acme", pbx="main", trunks=["trunk"])
    for number in range(50):
        tracker.feed(a_call(number), now=NOON)
    assert tracker.live_calls == 20

    tracker.resync([], now=NOON)
    found = tracker.feed(a_call(99), now=NOON)

    assert [type(s.body) for s in found] == [CallStarted]
    assert tracker.live_calls == 1


def test_bridges_that_are_never_left_are_forgotten_with_the_next_list() -> None:
    tracker = CallTracker(tenant="acme", pbx="main")
    for number in range(100):
        enters = {"Event": "BridgeEnter", "BridgeUniqueid": f"b{number}", "Uniqueid": f"{number}.0"}
        tracker.feed(AmiMessage({k: (v,) for k, v in enters.items()}), now=NOON)

    tracker.resync([], now=NOON)

    assert tracker._bridges == {}


def test_a_day_of_calls_leaves_nothing_behind() -> None:
    tracker, ended = CallTracker(tenant="acme", pbx="main", trunks=["trunk"]), 0
    for number in range(500):
        now = NOON + timedelta(minutes=number)
        tracker.feed(a_call(number), now=now)
        gone = {"Event": "Hangup", "Uniqueid": f"9.{number}", "Cause": "16"}
        tracker.feed(AmiMessage({k: (v,) for k, v in gone.items()}), now=now)
        found = tracker.tick(now + timedelta(seconds=1))
        ended += sum(isinstance(sighting.body, CallEnded) for sighting in found)

    assert (ended, tracker.live_calls) == (500, 0)
    left = (tracker._calls, tracker._legs, tracker._bridges, tracker._closing)
    assert not any(left)


def test_a_call_keeps_the_id_that_its_linkedid_gives() -> None:
    (sighting, *_) = fed(recorded("answered"))

    assert _of(sighting) == call_id("acme", "main", recorded("answered")[0].get("Linkedid"))
