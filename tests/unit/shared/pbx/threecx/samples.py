"""Samples as ingest reads them. Wazo's tests use it too."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.pbx.port import RecordReader, Sighting

LONG_AFTER = timedelta(minutes=2)


def records_in(sample: Path) -> list[bytes]:
    return sample.read_bytes().splitlines()


def replayed(
    reader: RecordReader, records: Iterable[tuple[datetime, bytes]], *, tick: bool = True
) -> list[Sighting]:
    """As ingest reads them: ticks while nothing comes, and long after the last."""
    found: list[Sighting] = []
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for at, record in records:
        while tick and now < at < now + LONG_AFTER:
            found += reader.tick(now)
            now += timedelta(milliseconds=100)
        now = at
        found += reader.read(record, now=now)
    return found + reader.tick(now + LONG_AFTER)
