"""Streams of events in tests/data/pbx/freeswitch, and what a reader makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

from shared.pbx.freeswitch.esl_wire import read_event
from shared.pbx.freeswitch.reader import FreeSwitchReader
from shared.pbx.port import Phones, Sighting

DATA = Path(__file__).parents[4] / "data" / "pbx" / "freeswitch"
NAMES = sorted(path.name.removesuffix(".events.txt") for path in DATA.glob("*.events.txt"))
PHONES = Phones(
    trunks=frozenset({"trunk", "trunk2", "external"}),
    extensions=frozenset({"101", "102", "103"}),
)
B = TypeVar("B")
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


def a_reader(phones: Phones = PHONES) -> FreeSwitchReader:
    reader = FreeSwitchReader(tenant="acme", pbx="main")
    reader.know(phones)
    return reader


@cache
def stream(name: str) -> tuple[bytes, ...]:
    return tuple((DATA / f"{name}.events.txt").read_bytes().strip().split(b"\n\n"))


def stamp(record: bytes) -> datetime:
    micros = int(read_event(record)["Event-Date-Timestamp"])
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def replayed(records: Iterable[bytes], reader: FreeSwitchReader | None = None) -> list[Sighting]:
    """By the events' own clock, and two seconds more, so that what has ended is told."""
    reader = reader or a_reader()
    now, found = NOON, []
    for record in records:
        now = stamp(record)
        found += reader.read(record, now=now)
    return found + reader.tick(now + timedelta(seconds=2))


def bodies(found: Iterable[Sighting], kind: type[B]) -> list[B]:
    return [sighting.body for sighting in found if isinstance(sighting.body, kind)]


def story(found: Iterable[Sighting]) -> set[tuple[str, str]]:
    """What was seen, without its times."""
    told = set()
    for sighting in found:
        body = sighting.body.model_dump(mode="json", exclude={"talk_time"})
        told.add((type(sighting.body).__name__, repr(sorted(body.items()))))
    return told
