"""What an event and the common questions cost as history grows to a million calls."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import pymongo
from pydantic import SecretStr

from services.journal.history import CallHistory
from services.journal.store import CALLS, CallDocument, CallLog
from shared.clock import SystemClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    Direction,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.contracts.contacts import ContactCard, ContactResolved
from shared.contracts.envelope import Event, Message, wrap
from shared.contracts.history import CallFilter, CountCalls, SearchCalls, WhichCalls
from shared.errors import ContractError, Unavailable
from shared.ids import new_id
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.backends import Backends

SIZES = (1_000, 100_000, 1_000_000)
EXPORTED = 10_000
ROUNDS = 5
TENANT = "acme"
#: A million calls are a year's, two each minute.
FIRST = datetime(2025, 1, 1, 12, tzinfo=UTC)
MINUTES = 500_000
NUMBERS = 50_000
_AT_ONCE = 5_000
_TEMPLATE_NUMBER = "447799999999"
_NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
_MONTH = timedelta(days=30)


class Filled(Protocol):
    store: DocumentStore

    async def fill(self, template: CallDocument, numbers: range) -> None: ...


def _events(call: str, number: str) -> list[Event]:
    ann = Party(extension="101", name="Ann")
    here: dict[str, Any] = {"call_id": call, "pbx": "main"}
    jane = ContactCard(
        connection="zoho",
        module="Contacts",
        contact_id="829914000000600001",
        display_name="Jane Doe",
        company="ACME Ltd",
        phones=("+44 7700 900123",),
    )
    return [
        CallStarted(
            **here,
            pbx_call_id=f"1795244075.{call[-6:]}",
            direction=Direction.INBOUND,
            caller=Party(number=number, name="JANE DOE"),
            dialled="442079460000",
        ),
        ContactResolved(call_id=call, number=number, contact=jane, candidates=(jane,)),
        CallRinging(**here, leg_id="l1", callee=ann, caller=Party(number=number)),
        CallAnswered(**here, leg_id="l1", callee=ann),
        RecordingReady(**here, recording=f"{call}.wav"),
        LegEnded(**here, leg_id="l1", callee=ann, outcome=LegOutcome.ANSWERED),
        CallEnded(**here),
    ]


def _messages(call: str, number: str, began_at: datetime) -> list[Message[Any]]:
    return [
        wrap(
            event, source="ingest", occurred_at=began_at + timedelta(seconds=second), tenant=TENANT
        )
        for second, event in enumerate(_events(call, number))
    ]


@dataclass
class InSqlite:
    db: SqliteFile

    def __post_init__(self) -> None:
        self.store: DocumentStore = SqliteStore(self.db, SystemClock())

    async def fill(self, template: CallDocument, numbers: range) -> None:
        text = template.model_dump_json(exclude={"version"})
        for part in _parts(numbers):
            rows = [self._row(text, template, number) for number in part]
            await self.db.write(partial(_insert, rows))

    def _row(self, text: str, template: CallDocument, number: int) -> tuple[str, str]:
        call, caller, began_at = _which(number)
        body = text.replace(template.key, call).replace(_TEMPLATE_NUMBER, caller)
        body = body.replace(f"{_NOON:%Y-%m-%dT%H:%M}", f"{began_at:%Y-%m-%dT%H:%M}")
        return call, body.replace('"disposition":"answered"', f'"disposition":"{_fate(number)}"')


@dataclass
class InMongo:
    store: DocumentStore
    documents: Any

    async def fill(self, template: CallDocument, numbers: range) -> None:
        found = await asyncio.to_thread(self.documents.find_one, {"_id": template.key})
        for part in _parts(numbers):
            rows = [self._row(found, number) for number in part]
            await asyncio.to_thread(self.documents.insert_many, rows, ordered=False)

    def _row(self, found: dict[str, Any], number: int) -> dict[str, Any]:
        call, caller, began_at = _which(number)
        row = {
            **found["row"],
            "call_id": call,
            "number": caller,
            "caller": caller,
            "started_at": began_at,
            "disposition": _fate(number),
        }
        record = {**found["record"], "call_id": call}
        return {**found, "_id": call, "started_at": began_at, "row": row, "record": record}


def _insert(rows: list[tuple[str, str]], db: sqlite3.Connection) -> None:
    db.executemany("INSERT INTO doc_journal_calls (key, version, body) VALUES (?, 6, ?)", rows)


def _parts(numbers: range) -> Iterator[range]:
    for start in range(numbers.start, numbers.stop, _AT_ONCE):
        yield range(start, min(start + _AT_ONCE, numbers.stop))


def _which(number: int) -> tuple[str, str, datetime]:
    """Ids are no order: as derived ones are."""
    call = f"{number * 2_654_435_761 % 2**32:08x}-0000-5000-8000-{number:012x}"
    return call, f"4477{number % NUMBERS:08d}", FIRST + timedelta(minutes=number % MINUTES)


def _fate(number: int) -> str:
    return ("answered", "answered", "answered", "missed", "busy")[number % 5]


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[InSqlite]:
    db = SqliteFile(folder / "history.db")
    await db.open()
    try:
        yield InSqlite(db)
    finally:
        await db.close()


@asynccontextmanager
async def _mongo(url: str) -> AsyncIterator[InMongo]:
    name = f"bench-{new_id().hex[:8]}"
    store = MongoStore(SecretStr(url), database=name, clock=SystemClock())
    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        try:
            yield InMongo(store, client[name][CALLS.name])
        finally:
            await store.close()
            client.drop_database(name)


async def measure(backends: Backends, folder: Path) -> list[str]:
    lines = ["ms, the median of several; a question that takes too long is refused"]
    async with _sqlite(folder) as sqlite:
        lines += await _grown("embedded", sqlite)
    async with _mongo(backends.mongo_url()) as mongo:
        lines += await _grown("MongoDB", mongo)
    return lines


async def _grown(title: str, filled: Filled) -> list[str]:
    calls = CallLog(filled.store.collection(CALLS), SystemClock(), silent_after=timedelta(hours=12))
    for message in _messages("template-call", _TEMPLATE_NUMBER, _NOON):
        await calls.take(message, "template-call")
    template = await filled.store.collection(CALLS).get("template-call")
    history = CallHistory.at(filled.store)
    found: dict[str, list[str]] = {}
    there = 0
    for size in SIZES:
        began = perf_counter()
        await filled.fill(template, range(there, size))
        print(f"  ({title}: filled to {size} in {perf_counter() - began:.0f} s)", flush=True)
        there = size
        for what, took in (await _costs(calls, history, size)).items():
            found.setdefault(what, []).append(took)
    head = "".join(f"{size:>12,}" for size in SIZES)
    size = len(template.model_dump_json())
    return [
        f"{title:<28}{head}   calls of {size / 1000:.1f} kB",
        *(f"  {what:<26}{''.join(f'{took:>12}' for took in all_)}" for what, all_ in found.items()),
    ]


async def _costs(calls: CallLog, history: CallHistory, size: int) -> dict[str, str]:
    last = FIRST + timedelta(minutes=min(size, MINUTES))
    month = {"field": "started_at", "operator": ">=", "value": f"{last - _MONTH:%Y-%m-%dT%H:%MZ}"}
    missed = {"field": "disposition", "value": "missed"}
    nobody = {"field": "contact_id", "value": "nobody"}

    async def an_event(round_: int) -> None:
        call = f"new-{size}-{round_}"
        for message in _messages(call, _which(round_)[1], last):
            await calls.take(message, call)

    async def count(*tests: Any) -> None:
        await history.count(TENANT, CountCalls(which=_all(*tests)), region="GB")

    async def search(*tests: Any, **more: Any) -> None:
        await history.search(TENANT, SearchCalls(which=_all(*tests), **more), region="GB")

    async def export(_: int) -> None:
        cursor, rows = None, 0
        while rows < min(EXPORTED, size):
            page = await history.search(TENANT, SearchCalls(limit=500, cursor=cursor), region="GB")
            cursor, rows = page.next_cursor, rows + len(page.rows)

    number = {"field": "number", "value": "+44 7700 000123"}
    questions: dict[str, Callable[[int], Awaitable[None]]] = {
        "the newest 50": lambda _: search(),
        "50 of a number": lambda _: search(number),
        "50 missed of a month": lambda _: search(month, missed),
        "the month's longest 50": lambda _: search(month, sort="talk_s"),
        "count missed of a month": lambda _: count(month, missed),
        "count of a number": lambda _: count(number),
        "count all": lambda _: count(),
        "50 of nobody, of all": lambda _: search(nobody),
    }
    found = {"an event (of 7 of a call)": await _median(an_event, per=7)}
    for what, ask in questions.items():
        found[what] = await _median(ask)
    found["export 10,000 rows"] = await _median(export, rounds=1)
    return found


async def _median(
    ask: Callable[[int], Awaitable[None]], *, rounds: int = ROUNDS, per: int = 1
) -> str:
    took = []
    for round_ in range(rounds):
        began = perf_counter()
        try:
            await ask(round_)
        except (ContractError, Unavailable):
            return "refused"
        took.append((perf_counter() - began) * 1000 / per)
    return f"{median(took):.1f}"


def _all(*tests: Any) -> WhichCalls:
    if not tests:
        return WhichCalls()
    return WhichCalls(filter=CallFilter.model_validate({"filters": list(tests)}))
