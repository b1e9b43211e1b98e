"""Reading again what PBXs sent: after a reader was mended, or to see what was made of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from services.ingest.domain import read_hook
from services.ingest.store import RawBook, RawInput, RawKind, records_in
from shared.contracts.hooks import HookReceived
from shared.errors import ContractError
from shared.pbx.port import PbxAdapter, Phones, RecordReader, Sighting

#: A reader ends its calls some time after their last leg.
_LATER = timedelta(seconds=5)


@dataclass(slots=True)
class Reading:
    """What came of a piece of raw input."""

    came_at: datetime
    records: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


async def read_again(
    book: RawBook,
    adapter: PbxAdapter,
    phones: Phones,
    *,
    tenant: str,
    pbx: str,
    since: datetime,
    until: datetime,
) -> AsyncIterator[Reading]:
    """
    Piece by piece, in the order in which it came. Sightings have the keys that they had: what is
    known already stays as it is. Of a call that began before *since* only hooks tell.
    """
    readers: dict[str, RecordReader] = {}
    last = since
    async for raw in book.between(tenant, pbx, since=since, until=until):
        last = raw.came_at
        if raw.what is RawKind.HOOKS:
            yield _hooks(raw, adapter, phones)
        elif adapter.reader is not None:
            # Each replica read all of it; each is read by a reader of its own.
            reader = readers.get(raw.instance)
            if reader is None:
                reader = readers[raw.instance] = adapter.reader()
                reader.know(phones)
            yield _records(raw, reader)
    ends = Reading(last)
    for reader in readers.values():
        ends.sightings += reader.tick(last + _LATER)
    yield ends


def _hooks(raw: RawInput, adapter: PbxAdapter, phones: Phones) -> Reading:
    reading = Reading(raw.came_at)
    for at, record in _timed(raw):
        reading.records += 1
        try:
            hook = HookReceived.model_validate_json(record)
            reading.sightings += read_hook(adapter, hook, phones, received_at=at).sightings
        except (ContractError, ValidationError) as error:
            reading.faults.append(str(error))
    return reading


def _records(raw: RawInput, reader: RecordReader) -> Reading:
    reading = Reading(raw.came_at)
    for at, record in _timed(raw):
        reading.records += 1
        # As time went by between the records: a reader ends and forgets calls by it.
        reading.sightings += reader.tick(at)
        try:
            reading.sightings += reader.read(record, now=at)
        except ContractError as error:
            reading.faults.append(error.message)
    return reading


def _timed(raw: RawInput) -> Iterator[tuple[datetime, bytes]]:
    for at, record in records_in(raw):
        yield datetime.fromtimestamp(at / 1000, UTC), record
