"""The log of requests, as each store keeps it: written behind, bounded, found again, gone in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, cast

import pymongo
import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.errors import ContractError, Unavailable
from shared.ids import new_id
from shared.net.requests import AskedSide, Detail, RequestNote, asked_for, asking_for
from shared.observe.metrics import Metrics
from shared.runtime import requests
from shared.runtime.requests import REQUESTS, RequestEntry, RequestLine, RequestLog, RequestQuery
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import Collection, DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

SECOND, WEEK = timedelta(seconds=1), timedelta(days=7)
LOG: Final = "callmesh_request_log_total"


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, prefix = request.getfixturevalue("mongo_url"), f"t{new_id().hex[:10]}."
    store = MongoStore(SecretStr(url), database="callmesh_test", clock=clock, prefix=prefix)
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client["callmesh_test"].drop_collection(prefix + REQUESTS.name)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def a_log(store: DocumentStore, clock: ManualClock, metrics: Metrics) -> Callable[..., RequestLog]:
    def make(**changes: Any) -> RequestLog:
        known: dict[str, Any] = {"clock": clock, "metrics": metrics, "keep": WEEK}
        return RequestLog.in_store(store, **(known | changes))

    return make


def a_note(clock: ManualClock, **changes: Any) -> RequestNote:
    known: dict[str, Any] = {
        "tenant": "acme",
        "side": AskedSide.CRM,
        "connection": "zoho",
        "operation": "search",
        "at": clock.now(),
        "method": "GET",
        "url": "https://crm.example/Contacts?phone=%2B447700900123",
        "took": timedelta(milliseconds=87),
        "status": 200,
        "got_bytes": 512,
    }
    return RequestNote(**(known | changes))


async def lines(log: RequestLog, tenant: str = "acme", **asked: Any) -> list[RequestLine]:
    return list((await log.page(tenant, RequestQuery(**asked))).requests)


# -- written behind --------------------------------------------------------------------------------


async def test_a_line_is_there_a_second_later_whoever_looks(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    mine, another = a_log(), a_log()
    async with mine.writing():
        mine.note(a_note(clock))
        assert await lines(mine) == []
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(SECOND)

        async def written() -> bool:
            return bool(await lines(another))

        await eventually(written)

    (line,) = await lines(another)
    assert line.model_dump(exclude={"request_id"}) == {
        "at": clock.now() - SECOND,
        "side": "crm",
        "connection": "zoho",
        "operation": "search",
        "method": "GET",
        "url": "https://crm.example/Contacts?phone=%2B447700900123",
        "status": 200,
        "took_ms": 87,
        "sent_bytes": 0,
        "got_bytes": 512,
        "failed": False,
        "error": None,
        "request": None,
        "answer": None,
    }


async def test_what_waits_at_the_end_is_written(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    log = a_log()
    async with log.writing():
        for number in range(100):
            log.note(a_note(clock, operation=f"n{number}"))

    assert len(await lines(log, limit=500)) == 100


async def test_the_newest_come_first_and_pages_follow_each_other(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    log = a_log()
    for number in range(25):
        log.note(a_note(clock, operation=f"n{number}"))
        await clock.advance(SECOND)
    await log.write()

    found, cursor = [], None
    while True:
        page = await log.page("acme", RequestQuery(limit=10, cursor=cursor))
        found += [line.operation for line in page.requests]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [f"n{number}" for number in reversed(range(25))]
    assert [line.operation async for line in log.every("acme", RequestQuery(limit=7))] == found
    with pytest.raises(ContractError):
        await log.page("acme", RequestQuery(cursor="none of ours"))


# -- how much --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detail", "well", "failed"),
    [
        (Detail.OFF, None, None),
        (Detail.FAILED, None, True),
        (Detail.ALL, False, True),
        (Detail.BODIES, True, True),
    ],
)
async def test_what_is_kept_of_what_went_well_and_what_failed(
    a_log: Callable[..., RequestLog],
    clock: ManualClock,
    detail: Detail,
    well: bool | None,
    failed: bool | None,
) -> None:
    """None: no line; else whether its bodies are kept."""
    log = a_log(detail=detail)
    log.note(a_note(clock, operation="well", request="{}", answer="[]"))
    log.note(a_note(clock, operation="failed", error="no", request="{}", answer="[]"))
    await log.write()

    found = {line.operation: line for line in await lines(log)}
    for name, kept in (("well", well), ("failed", failed)):
        line = found.get(name)
        assert (line is None) == (kept is None)
        if line is not None:
            assert (line.request, line.answer) == (("{}", "[]") if kept else (None, None))
            assert line.failed == (name == "failed")


async def test_an_order_without_an_address_is_kept_with_what_it_was_given(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    log = a_log(detail=Detail.ALL)
    log.note(a_note(clock, method="AMI", request="Channel: PJSIP/101", answer="ok", brief=True))
    await log.write()

    (line,) = await lines(log)
    assert (line.request, line.answer) == ("Channel: PJSIP/101", "ok")


async def test_what_is_too_long_is_cut(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    log = a_log()
    long = "x" * 100_000
    log.note(a_note(clock, url=long, error=long, request=long, answer=long, operation=long))
    await log.write()

    (line,) = await lines(log)
    lengths = [len(text or "") for text in (line.url, line.error, line.request, line.answer)]
    assert lengths == [2000, 500, 4096, 4096]
    assert len(line.operation) == 100


async def test_halves_of_characters_keep_no_line_out(
    a_log: Callable[..., RequestLog], clock: ManualClock
) -> None:
    """As JSON from outside may have them."""
    half = "\ud83d"
    log = a_log()
    log.note(a_note(clock, url=half, error=half, request=half, answer=half, operation=half))
    log.note(a_note(clock))
    await log.write()

    assert len(await lines(log)) == 2


async def test_lines_that_the_store_cannot_hold_are_not_in_the_way(
    log: RequestLog, moody: Moody, clock: ManualClock, metrics: Metrics
) -> None:
    moody.breaks = True
    log.note(a_note(clock))
    await log.write()
    moody.breaks = False
    log.note(a_note(clock, operation="later"))
    await log.write()

    assert [line.operation for line in await lines(log)] == ["later"]
    assert (metrics.value(LOG, "dropped"), metrics.value(LOG, "kept")) == (1, 1)


async def test_a_note_that_cannot_be_kept_is_counted_and_breaks_nothing(
    a_log: Callable[..., RequestLog], clock: ManualClock, metrics: Metrics
) -> None:
    log = a_log()
    log.note(a_note(clock, tenant="../etc"))
    log.note(a_note(clock))
    await log.write()

    assert len(await lines(log)) == 1
    assert metrics.value(LOG, "dropped") == 1


# -- bounded ---------------------------------------------------------------------------------------


class Moody:
    """A collection that is away, or loses its answers, as the test says."""

    def __init__(self, real: Collection[RequestEntry]) -> None:
        self.real = real
        self.away = self.breaks = False
        self.loses_answers = False
        self.tried = 0

    async def add_all(self, documents: Sequence[RequestEntry]) -> None:
        self.tried += 1
        if self.away:
            raise Unavailable("away")
        if self.breaks:
            raise ContractError("too large")
        await self.real.add_all(documents)
        if self.loses_answers:
            raise Unavailable("nobody knows")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def moody(store: DocumentStore) -> Moody:
    return Moody(store.collection(REQUESTS))


@pytest.fixture
def log(moody: Moody, clock: ManualClock, metrics: Metrics) -> RequestLog:
    return RequestLog(
        cast(Any, moody),
        clock=clock,
        metrics=metrics,
        detail=Detail.ALL,
        keep=WEEK,
    )


async def test_what_does_not_fit_is_counted_and_no_call_waits(
    log: RequestLog,
    moody: Moody,
    clock: ManualClock,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "_MOST_WAITING", 10)
    moody.away = True
    for number in range(15):
        log.note(a_note(clock, operation=f"n{number}"))
    await log.write()
    moody.away = False
    await log.write()

    assert {line.operation for line in await lines(log)} == {f"n{number}" for number in range(10)}
    assert (metrics.value(LOG, "dropped"), metrics.value(LOG, "kept")) == (5, 10)


async def test_long_lines_fill_it_as_well(
    log: RequestLog, clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_MOST_WAITING_CHARACTERS", 10_000)
    for _ in range(10):
        log.note(a_note(clock, url="x", error="no", request="y" * 2000))
    await log.write()
    # And what was written has made room.
    for _ in range(4):
        log.note(a_note(clock, url="x", error="no", request="y" * 2000))
    await log.write()

    assert len(await lines(log)) == 8
    assert metrics.value(LOG, "dropped") == 6


async def test_a_store_that_was_away_gets_it_all_when_it_is_back(
    log: RequestLog, moody: Moody, clock: ManualClock, metrics: Metrics
) -> None:
    moody.away = True
    async with log.writing():
        for number in range(40):
            log.note(a_note(clock, operation=f"n{number}"))
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(SECOND)
        await eventually(lambda: moody.tried > 0 and clock.sleepers == 1)
        # It is not asked over and over.
        assert moody.tried == 1
        moody.away = False
        await clock.advance(timedelta(seconds=5))

        async def all_there() -> bool:
            return len(await lines(log, limit=100)) == 40

        await eventually(all_there)

    assert metrics.value(LOG, "kept") == 40
    assert metrics.value(LOG, "dropped") == 0


async def test_a_line_whose_answer_was_lost_is_there_once(
    log: RequestLog, moody: Moody, clock: ManualClock
) -> None:
    moody.loses_answers = True
    log.note(a_note(clock))
    await log.write()
    moody.loses_answers = False
    await log.write()
    await log.write()

    assert len(await lines(log)) == 1
    assert moody.tried == 2


async def test_what_could_not_be_written_at_the_end_is_counted(
    log: RequestLog, moody: Moody, clock: ManualClock, metrics: Metrics
) -> None:
    moody.away = True
    async with log.writing():
        log.note(a_note(clock))

    assert metrics.value(LOG, "dropped") == 1


# -- found again -----------------------------------------------------------------------------------


@pytest.fixture
async def full(a_log: Callable[..., RequestLog], clock: ManualClock) -> RequestLog:
    """An hour apart, oldest first: a search, a search in vain, an order, one of another tenant."""
    log = a_log()
    pbx = {"side": AskedSide.PBX, "connection": "berlin"}
    for changes in (
        {},
        {"status": 404, "operation": "users"},
        {"status": 503, "error": "down", "operation": "journal", "method": "POST"},
        {**pbx, "operation": "originate", "method": "AMI", "status": None, "url": "ami://h/Orig"},
        {**pbx, "operation": "hangup", "status": None, "error": "no", "url": "ami://h/Hangup"},
        {"tenant": "other", "operation": "secret"},
    ):
        log.note(a_note(clock, **changes))
        await clock.advance(timedelta(hours=1))
    await log.write()
    return log


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["hangup", "originate", "journal", "users", "search"]),
        ({"side": AskedSide.PBX}, ["hangup", "originate"]),
        ({"side": AskedSide.CRM}, ["journal", "users", "search"]),
        ({"connection": "berlin"}, ["hangup", "originate"]),
        ({"connection": "nowhere"}, []),
        ({"operations": ("search", "users")}, ["users", "search"]),
        ({"status_class": 2}, ["search"]),
        ({"status_class": 4}, ["users"]),
        ({"status_class": 5}, ["journal"]),
        ({"failed": True}, ["hangup", "journal"]),
        ({"failed": False}, ["originate", "users", "search"]),
        ({"failed": True, "side": AskedSide.PBX}, ["hangup"]),
        ({"text": "447700900123"}, ["journal", "users", "search"]),
        ({"text": "HANGUP"}, ["hangup"]),
        ({"text": "%"}, ["journal", "users", "search"]),
        ({"text": "_"}, []),
        ({"text": "x' OR '1'='1"}, []),
        ({"text": ".*"}, []),
        ({"operations": ("search",), "failed": True}, []),
        ({"request_ids": ()}, []),
        ({"limit": 2}, ["hangup", "originate"]),
    ],
)
async def test_what_is_asked_for_is_found(
    full: RequestLog, asked: dict[str, Any], found: list[str]
) -> None:
    assert [line.operation for line in await lines(full, **asked)] == found


async def test_a_span_has_its_beginning_and_not_its_end(
    full: RequestLog, clock: ManualClock
) -> None:
    began = clock.now() - timedelta(hours=6)
    found = await lines(full, since=began + timedelta(hours=1), until=began + timedelta(hours=3))

    assert [line.operation for line in found] == ["journal", "users"]


async def test_a_line_is_found_by_its_id_and_only_by_its_tenant(full: RequestLog) -> None:
    (journal,) = await lines(full, operations=("journal",))

    assert await lines(full, request_ids=(journal.request_id, "another")) == [journal]
    assert await lines(full, "other", request_ids=(journal.request_id,)) == []
    assert [line.operation for line in await lines(full, "other")] == ["secret"]


async def test_there_is_no_sixth_class(full: RequestLog) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        await full.page("acme", RequestQuery(status_class=6))


# -- gone in time ----------------------------------------------------------------------------------


async def test_a_line_is_gone_when_its_time_is_over(full: RequestLog, clock: ManualClock) -> None:
    await clock.advance(WEEK - timedelta(hours=4, minutes=30))

    assert [line.operation for line in await lines(full)] == ["hangup", "originate", "journal"]
    await clock.advance(timedelta(days=1))
    assert await lines(full) == []


# -- what it is for --------------------------------------------------------------------------------


async def test_what_a_request_is_for_is_said_around_it() -> None:
    assert asked_for("events") == "events"
    with asking_for("check"):
        with asking_for("originate"):
            assert asked_for("events") == "originate"
        assert asked_for("events") == "check"
    assert asked_for("events") == "events"
