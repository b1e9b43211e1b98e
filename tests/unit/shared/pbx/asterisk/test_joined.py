"""A connection that is made while calls go on, as tests/data/pbx/asterisk/joined.md has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    EndKnown,
    LegEnded,
    RecordingReady,
)
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.asterisk.snapshot import DID_VARIABLE
from shared.pbx.asterisk.tracker import CallTracker
from shared.pbx.port import Phones, Sighting
from shared.sandbox.pbx import LiveChannels
from tests.calltable import cells_in

DATA = Path(__file__).parents[4] / "data" / "pbx"
JOINED = DATA / "asterisk" / "joined"
NAMES = sorted(path.name.removesuffix(".ami.txt") for path in DATA.glob("*.ami.txt"))
PHONES = Phones(trunks=frozenset({"trunk", "trunk2"}), extensions=frozenset({"101", "102", "103"}))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

COLUMNS, *ROWS = cells_in(DATA / "asterisk" / "joined.md")


def blocks(path: Path) -> list[bytes]:
    return [block for block in path.read_bytes().split(b"\r\n\r\n") if block.strip()]


def read(path: Path) -> list[tuple[bool, Sighting]]:
    """What is told, and whether it was at once: by the list of channels."""
    reader, now, found = AmiReader(tenant="acme", pbx="main"), NOON, []
    reader.know(PHONES)
    for record in blocks(path):
        message = next(iter(AmiParser().feed(record + b"\r\n\r\n")))
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        at_once = message.event == "CoreShowChannelsComplete"
        found += [(at_once, sighting) for sighting in reader.read(record, now=now)]
    found += [(False, sighting) for sighting in reader.tick(now + timedelta(seconds=1))]
    assert reader.live_calls == 0
    return found


def row_of(path: Path) -> dict[str, str]:
    told = [(at_once, s) for at_once, s in read(path) if not isinstance(s.body, AgentStatusChanged)]
    (began,) = [s for _, s in told if isinstance(s.body, CallStarted)]
    (ended,) = [s.body for _, s in told if isinstance(s.body, CallEnded)]
    came_at = next(s.at for at_once, s in told if at_once and s is not began)
    started = began.body
    assert isinstance(started, CallStarted)
    cells = [
        path.name.removesuffix(".ami.txt"),
        started.direction,
        started.caller.label,
        started.dialled or "-",
        started.dial_id or "-",
        f"{round((came_at - began.at).total_seconds())} s",
        ", ".join(shown(s) for at_once, s in told if at_once and s is not began) or "-",
        ", ".join(shown(s) for at_once, s in told if not at_once and s.body is not ended) or "-",
        f"{ended.known}, by {ended.hangup_by}",
    ]
    return dict(zip(COLUMNS, cells, strict=True))


def shown(sighting: Sighting) -> str:
    body: Any = sighting.body
    match body:
        case CallRinging() | CallAnswered():
            own = " (own)" if body.own_phone else ""
            where = f" in {body.queue}" if isinstance(body, CallRinging) and body.queue else ""
            what = "rings" if isinstance(body, CallRinging) else "answered"
            return f"{body.callee.label}{own} {what}{where}"
        case LegEnded():
            return f"{body.callee.label} ends as {body.outcome}"
        case RecordingReady():
            return "recording"
        case _:
            return type(body).__name__


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_call_that_was_under_way_is_told_as_its_row_says(row: list[str]) -> None:
    assert row_of(JOINED / f"{row[0]}.ami.txt") == dict(zip(COLUMNS, row, strict=True))


def test_every_recording_is_in_the_table() -> None:
    names = sorted(path.name.removesuffix(".ami.txt") for path in JOINED.glob("*.ami.txt"))

    assert names == sorted(row[0] for row in ROWS)


def test_a_caller_who_was_joined_to_an_older_call_keeps_the_own_one() -> None:
    told = [s.body for _, s in read(JOINED / "after_join_older.ami.txt")]
    (started,) = [body for body in told if isinstance(body, CallStarted)]
    items = [b for b in blocks(JOINED / "after_join_older.ami.txt") if b"CoreShowChannel\r" in b]
    (customer,) = [item for item in items if b"Channel: PJSIP/trunk-" in item]

    assert f"Uniqueid: {started.pbx_call_id}\r\n".encode() in customer
    assert f"Linkedid: {started.pbx_call_id}\r\n".encode() not in customer


# -- any moment of any recorded call ---------------------------------------------------------


class Channels(LiveChannels):
    """With what CoreShowChannels says beside the events' own headers: application and DID."""

    def __init__(self) -> None:
        super().__init__()
        self._dids: dict[str, str] = {}
        self._more: dict[str, dict[str, tuple[str, ...]]] = {}

    def note(self, message: AmiMessage) -> None:
        super().note(message)
        uniqueid = message.get("Uniqueid")
        if message.event == "Newchannel":
            self._more[uniqueid] = {}
        elif message.event == "Newexten":
            self._more[uniqueid] |= {
                "Application": message.all("Application"),
                "ApplicationData": message.all("AppData"),
            }
        elif message.event == "DialBegin":
            self._more[message.get("DestUniqueid")] = {
                "Application": ("AppDial",),
                "ApplicationData": ("(Outgoing Line)",),
            }
        if message.event == "VarSet" and message.get("Variable").lstrip("_") == DID_VARIABLE:
            self._dids[uniqueid] = f"{DID_VARIABLE}={message.get('Value')}"
        if uniqueid in self:
            variables = (*message.all("ChanVariable"), self._dids.get(uniqueid, ""))
            self._more[uniqueid]["ChanVariable"] = variables

    def listed(self) -> list[AmiMessage]:
        return [
            AmiMessage({**{k: (v,) for k, v in item.items()}, **self._more[item["Uniqueid"]]})
            for item in self.items()
        ]


@cache
def recorded(name: str) -> tuple[AmiMessage, ...]:
    return tuple(AmiParser().feed((DATA / f"{name}.ami.txt").read_bytes()))


def a_tracker() -> CallTracker:
    return CallTracker(
        tenant="acme", pbx="main", trunks=PHONES.trunks, extensions=PHONES.extensions
    )


def fed(tracker: CallTracker, messages: Iterable[AmiMessage], now: datetime) -> list[Sighting]:
    found = []
    for message in messages:
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
        found += tracker.feed(message, now=now)
    return found + tracker.tick(now + timedelta(seconds=1))


def joined_at(
    messages: Sequence[AmiMessage], place: int, tracker: CallTracker
) -> tuple[list[Sighting], tuple[str, ...]]:
    """What is told to who comes at *place*, and the calls that went on then."""
    channels, now = Channels(), NOON
    for message in messages[:place]:
        channels.note(message)
        if stamp := message.get("Timestamp"):
            now = datetime.fromtimestamp(float(stamp), UTC)
    found = tracker.resync(channels.listed(), now=now)
    live = tracker.live_ids
    return found + fed(tracker, messages[place:], now), live


#: Here the list is made from events; for a moment around a pickup these say another Linkedid than
#: the channels have. An ARI application says nothing of what it dials.
TOLD_BY_EVENTS = [name for name in NAMES if name not in {"pickup", "originate_ari_stasis"}]


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(TOLD_BY_EVENTS), share=st.floats(0, 1))
def test_who_comes_in_the_middle_tells_no_call_and_no_leg_that_there_is_not(
    name: str, share: float
) -> None:
    messages = recorded(name)
    tracker = a_tracker()

    found, _ = joined_at(messages, round(share * len(messages)), tracker)

    seen = {s.key for s in fed(a_tracker(), messages, NOON)}
    late = {s.key.removesuffix(f"/{EndKnown.JOINED}") for s in found}
    assert late <= seen
    assert len({s.key for s in found}) == len(found)
    assert tracker.live_calls == 0


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(TOLD_BY_EVENTS), share=st.floats(0, 1))
def test_each_call_that_went_on_is_told_from_its_beginning_to_its_end(
    name: str, share: float
) -> None:
    messages = recorded(name)

    found, live = joined_at(messages, round(share * len(messages)), a_tracker())

    told: dict[str, list[CallEvent]] = {}
    for sighting in found:
        assert isinstance(sighting.body, CallEvent)
        told.setdefault(sighting.body.call_id, []).append(sighting.body)
    for pbx_call_id in live:
        events = told.get(call_id("acme", "main", pbx_call_id), [])
        kinds = [type(event) for event in events]
        # A phone's own errand, to pick up another's call, never becomes one.
        assert not kinds or (kinds.count(CallStarted), kinds.count(CallEnded)) == (1, 1)
    ends = [event for events in told.values() for event in events if isinstance(event, CallEnded)]
    assert all(end.known in {EndKnown.JOINED, EndKnown.SEEN} for end in ends)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_the_direction_of_a_call_is_found_however_late_one_comes(share: float) -> None:
    for name in TOLD_BY_EVENTS:
        messages = recorded(name)
        whole = {
            s.body.call_id: s.body.direction
            for s in fed(a_tracker(), messages, NOON)
            if isinstance(s.body, CallStarted)
        }
        late, _ = joined_at(messages, round(share * len(messages)), a_tracker())
        for sighting in late:
            if isinstance(sighting.body, CallStarted):
                assert sighting.body.direction is whole[sighting.body.call_id], name


def test_a_pickup_of_a_call_that_rang_before_we_came_is_part_of_it() -> None:
    messages = recorded("pickup")
    place = next(n for n, m in enumerate(messages) if m.get("ChannelStateDesc") == "Ringing") + 1

    found, _ = joined_at(messages, place, a_tracker())

    answers = [s.body for s in found if isinstance(s.body, CallAnswered)]
    ends = [s.body for s in found if isinstance(s.body, CallEnded)]
    assert [answer.callee.label for answer in answers] == ["102"]
    assert [end.call_id for end in ends] == [answers[0].call_id]


def test_a_pickup_of_a_call_that_nobody_lists_is_no_call_of_its_own() -> None:
    """The user has no right to list channels, or the link was new by a moment."""
    messages = recorded("pickup")
    place = next(n for n, m in enumerate(messages) if m.get("ChannelStateDesc") == "Ringing") + 1

    assert fed(a_tracker(), messages[place:], NOON) == []


# -- what the list says ---------------------------------------------------------------------


def an_item(**changes: str) -> AmiMessage:
    known = {
        "Event": "CoreShowChannel",
        "Channel": "PJSIP/trunk-00000001",
        "ChannelStateDesc": "Up",
        "CallerIDNum": "447700900123",
        "Exten": "101",
        "Uniqueid": "1.0",
        "Linkedid": "1.0",
        "Application": "Dial",
        "Duration": "00:01:30",
    }
    return AmiMessage({k: (v,) for k, v in (known | changes).items()})


def told_of(*items: AmiMessage, ahead: timedelta = timedelta(0)) -> list[Sighting]:
    tracker = a_tracker()
    tracker.set_clock(ahead)
    return tracker.resync(items, now=NOON)


def the_start(*items: AmiMessage, ahead: timedelta = timedelta(0)) -> tuple[datetime, CallStarted]:
    (sighting,) = [s for s in told_of(*items, ahead=ahead) if isinstance(s.body, CallStarted)]
    assert isinstance(sighting.body, CallStarted)
    return sighting.at, sighting.body


@pytest.mark.parametrize(
    ("uniqueid", "began"),
    [
        (f"{int(NOON.timestamp()) - 60}.7", NOON - timedelta(minutes=1)),
        (f"berlin-{int(NOON.timestamp()) - 60}.7", NOON - timedelta(minutes=1)),
        # No second is in it, or none that can be: then the duration is believed.
        ("click-0001", NOON - timedelta(seconds=90)),
        ("1795244298.7", NOON - timedelta(seconds=90)),
        ("99999999999.7", NOON - timedelta(seconds=90)),
        ("1.0", NOON - timedelta(seconds=90)),
        ("²²²²²²²²²².7", NOON - timedelta(seconds=90)),
    ],
)
def test_a_call_is_dated_back_to_the_second_in_its_id(uniqueid: str, began: datetime) -> None:
    at, _ = the_start(an_item(Uniqueid=uniqueid, Linkedid=uniqueid))

    assert at == began


@pytest.mark.parametrize("duration", ["", "x", "-1", "99", "1:2:3:4", "::", "²:01:30"])
def test_a_call_of_which_nothing_says_when_it_began_begins_now(duration: str) -> None:
    at, _ = the_start(an_item(Duration=duration))

    assert at == NOON


def test_a_pbx_whose_clock_is_an_hour_ahead_dates_by_its_own() -> None:
    hour = timedelta(hours=1)
    uniqueid = f"{int((NOON + hour).timestamp()) - 60}.7"

    at, _ = the_start(an_item(Uniqueid=uniqueid, Linkedid=uniqueid), ahead=hour)

    assert at == NOON + hour - timedelta(minutes=1)


@pytest.mark.parametrize(
    ("changes", "dialled"),
    [
        ({"ChanVariable": "CRM_DID=442079460000"}, "442079460000"),
        ({"Exten": "442079460000"}, "442079460000"),
        ({"Exten": "+442079460000"}, "+442079460000"),
        # Where the call was sent to in the dialplan is not what was dialled.
        ({"Exten": "101"}, None),
        ({"Exten": "s"}, None),
    ],
)
def test_the_number_that_was_called_is_the_variable_s_or_what_looks_like_one(
    changes: dict[str, str], dialled: str | None
) -> None:
    _, started = the_start(an_item(**changes))

    assert (started.direction, started.dialled) == (Direction.INBOUND, dialled)


def test_a_line_outside_whose_caller_has_left_was_dialled() -> None:
    line = {"ApplicationData": "(Outgoing Line)", "Application": "AppDial", "Linkedid": "0.9"}
    phone = {**line, "Channel": "PJSIP/102-00000007", "Uniqueid": "1.1"}
    _, started = the_start(an_item(CallerIDNum="07700900777", **line), an_item(**phone))

    assert started.direction is Direction.OUTBOUND
    assert (started.dialled, started.caller.extension) == ("07700900777", "102")


def test_our_own_trial_is_no_call() -> None:
    trial = "PJSIP/callmesh-check-00000001"

    assert told_of(an_item(Channel=trial)) == []
    created = {"Event": "Newchannel", "Channel": trial, "Uniqueid": "1.0", "Linkedid": "1.0"}
    tracker = a_tracker()
    tracker.feed(AmiMessage({k: (v,) for k, v in created.items()}), now=NOON)
    assert tracker.live_calls == 0
