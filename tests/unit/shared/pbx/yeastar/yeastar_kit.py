"""Samples of Yeastar's events, read as its WebSocket and as its webhooks bring them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson

from shared.pbx.port import Phones, RawHook, Sighting
from shared.pbx.yeastar.hooks import YeastarHooks
from shared.pbx.yeastar.reader import Events, YeastarReader

SAMPLES = Path(__file__).parents[4] / "data" / "pbx" / "yeastar"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.jsonl"))
#: 14:00:00 in Berlin, when every sample begins.
BEGAN = datetime(2026, 10, 19, 12, 0, tzinfo=UTC)
EVENTS = Events("acme", "berlin", ZoneInfo("Europe/Berlin"))
PHONES = Phones(extensions=frozenset({"1005", "1006"}))
WAYS = ("websocket", "webhook")


@dataclass(frozen=True, slots=True)
class Step:
    at: datetime
    record: bytes


def steps(name: str) -> list[Step]:
    found = []
    for line in (SAMPLES / f"{name}.jsonl").read_bytes().splitlines():
        said = orjson.loads(line)
        at = BEGAN + timedelta(seconds=said["after"])
        found.append(Step(at, orjson.dumps(said["record"])))
    return found


def by_websocket(given: Iterable[Step], *, reader: YeastarReader | None = None) -> list[Sighting]:
    """A minute after the last one nothing more is waited for."""
    reader = reader or a_reader()
    found, last = [], BEGAN
    for step in given:
        found += reader.read(step.record, now=step.at)
        last = max(last, step.at)
    return found + reader.tick(last + timedelta(minutes=1))


def by_webhook(given: Iterable[Step]) -> list[Sighting]:
    hooks = YeastarHooks(EVENTS, None)
    return [
        sighting
        for step in given
        for sighting in hooks.read(RawHook(body=step.record, received_at=step.at), PHONES).sightings
    ]


def seen(given: Iterable[Step], way: str) -> list[Sighting]:
    return by_websocket(given) if way == "websocket" else by_webhook(given)


def a_reader() -> YeastarReader:
    reader = YeastarReader(EVENTS)
    reader.know(PHONES)
    return reader
