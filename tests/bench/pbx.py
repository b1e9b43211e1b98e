"""Asterisk's events into call events, beside a bare splitter of lines on the same bytes."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.port import Phones
from shared.testing.backends import Backends

RECORDINGS = Path(__file__).parents[1] / "data" / "pbx"
#: As a socket gives them.
PIECE = 64 * 1024
ROUNDS = 7
REPEATED = 5
LIVE = 1000
#: Calls that go on while events are read: each costs nothing until something happens to it.
CROWDS = (0, 1000, 5000)
PHONES = Phones(trunks=frozenset({"trunk", "trunk2"}), extensions=frozenset({"101", "102", "103"}))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def measure(_: Backends, __: Path) -> list[str]:
    data = b"".join(path.read_bytes() for path in sorted(RECORDINGS.glob("*.ami.txt"))) * REPEATED
    pieces = [data[place : place + PIECE] for place in range(0, len(data), PIECE)]
    #: What is made ready, and then timed.
    ways: dict[str, Callable[[], Callable[[], int]]] = {
        "bare splitter of lines": lambda: partial(_split, pieces),
        "every event decoded": lambda: partial(_parsed, pieces, AmiParser()),
        "only those that are read": lambda: partial(_parsed, pieces, AmiParser(a_reader().wanted)),
        **{f"derived, {n:,} calls go on": partial(_crowded_room, pieces, n) for n in CROWDS},
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    events = 0
    for _round in range(ROUNDS):
        for name, way in ways.items():
            run = way()
            began = perf_counter()
            events = run()
            took[name].append(perf_counter() - began)
    lines = [f"{events} events of all recordings, {len(data) / events:.0f} bytes each, one core"]
    for name, seconds in took.items():
        lines.append(f"{name:<28} {events / median(seconds):>10,.0f} events/s")
    return [*lines, _memory()]


def a_reader() -> AmiReader:
    reader = AmiReader(tenant="acme", pbx="main")
    reader.know(PHONES)
    return reader


def _split(pieces: Iterable[bytes]) -> int:
    count, rest = 0, b""
    for piece in pieces:
        *blocks, rest = (rest + piece).split(b"\r\n\r\n")
        for block in blocks:
            block.split(b"\r\n")
        count += len(blocks)
    return count


def _parsed(pieces: Iterable[bytes], parser: AmiParser) -> int:
    messages = sum(1 for piece in pieces for _ in parser.feed(piece))
    return messages + parser.passed_over


def _crowded_room(pieces: Iterable[bytes], crowd: int) -> Callable[[], int]:
    return partial(_derived, pieces, crowded(crowd), crowd)


def _derived(pieces: Iterable[bytes], reader: AmiReader, crowd: int) -> int:
    """A second passes with each piece, so that calls end."""
    wanted, now, count = reader.wanted, NOON, 0
    parser = AmiParser(wanted)
    for piece in pieces:
        now += timedelta(seconds=1)
        for message in parser.feed(piece):
            count += 1
            if message.event in wanted:  # no answers to actions
                reader.take(message, now=now)
    reader.tick(now + timedelta(seconds=1))
    assert reader.live_calls == crowd
    return count + parser.passed_over


def crowded(calls: int) -> AmiReader:
    """That many callers talk with 101."""
    reader = a_reader()
    for number in range(calls):
        for message in a_talk(number):
            reader.take(message, now=NOON)
    return reader


def a_talk(number: int) -> list[AmiMessage]:
    call, leg = f"7.{number}", f"8.{number}"
    stamp = {"Timestamp": f"{NOON.timestamp():.6f}"}
    caller = {"Channel": f"PJSIP/trunk-{number:08x}", "Uniqueid": call, "Linkedid": call}
    phone = {"Channel": f"PJSIP/101-{number:08x}", "Uniqueid": leg, "Linkedid": call}
    bridge = {"BridgeUniqueid": f"b{number}"}
    shown = {"CallerIDNum": f"4477009{number:05}", "CallerIDName": "Customer"}
    events = (
        {"Event": "Newchannel", "ChannelStateDesc": "Ring", "Exten": "442079460000", **shown}
        | caller,
        {"Event": "Newchannel", "ChannelStateDesc": "Down", **phone},
        {"Event": "DialBegin", "DestUniqueid": leg, "DialString": "101"},
        {"Event": "Newstate", "ChannelStateDesc": "Ringing", **phone},
        {"Event": "DialEnd", "DestUniqueid": leg, "DialStatus": "ANSWER"},
        {"Event": "BridgeEnter", **bridge, **caller},
        {"Event": "BridgeEnter", **bridge, **phone},
    )
    return [AmiMessage({k: (v,) for k, v in {**event, **stamp}.items()}) for event in events]


def _memory() -> str:
    gc.collect()
    tracemalloc.start()
    try:
        reader = crowded(LIVE)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.live_calls == LIVE
    return f"{'memory of 1,000 live calls':<28} {held / 1024 / 1024:>10.1f} MiB"
