"""Calls are found by what is known of them, on either store, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.journal import scanning
from services.journal.history import ROWS, CallHistory
from services.journal.store import CALLS, CallLog
from shared.clock import ManualClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallSummarised,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.contracts.contacts import ContactResolved
from shared.contracts.envelope import Event, wrap
from shared.contracts.history import CountCalls, FindCalls, SearchCalls, WhichCalls
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.errors import ContractError
from shared.sqlite import SqliteFile
from shared.storage.port import DocumentStore
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call, a_contact
from tests.contract.lookup_kit import desk_on

HOUR = timedelta(hours=1)
ANN = Party(extension="101", name="Ann")
BOB = Party(extension="102")


class Past:
    """What the journal took, and what is asked about it."""

    def __init__(self, store: DocumentStore, clock: ManualClock) -> None:
        self.store = store
        self.log = CallLog(store.collection(CALLS), clock, silent_after=12 * HOUR)
        self.history = CallHistory.at(store)

    async def hear(
        self, call: str, *events: Event, at: datetime = NOON, tenant: str = "acme"
    ) -> None:
        for second, event in enumerate(events):
            message = wrap(
                event, source="test", occurred_at=at + timedelta(seconds=second), tenant=tenant
            )
            await self.log.take(message, call)

    async def an_answered_call(self, call: str, number: str, **more: Any) -> None:
        here: dict[str, Any] = {"call_id": call, "pbx": "main"}
        await self.hear(
            call,
            a_call(call_id=call, caller=Party(number=number, name="Jane")),
            CallRinging(**here, leg_id="a", callee=ANN, caller=Party(number=number), queue="help"),
            CallRinging(**here, leg_id="b", callee=BOB, caller=Party(number=number)),
            CallAnswered(**here, leg_id="b", callee=BOB),
            LegEnded(**here, leg_id="a", callee=ANN, outcome=LegOutcome.ELSEWHERE),
            RecordingReady(**here, recording=f"{call}.wav"),
            CallEnded(**here, hangup_by="caller"),
            **more,
        )

    async def a_missed_call(self, call: str, number: str = "447700900123", **more: Any) -> None:
        await self.hear(
            call,
            a_call(call_id=call, caller=Party(number=number)),
            CallEnded(call_id=call, pbx="main"),
            **more,
        )

    async def found(self, *tests: dict[str, Any], **more: Any) -> list[str]:
        """Ids of the calls, over all pages; as many are counted."""
        which = which_calls(*tests, **more.pop("which", {}))
        asked = SearchCalls(which=which, fields=("call_id",), **{"limit": 3} | more)
        ids: list[str] = []
        while True:
            page = await self.history.search("acme", asked, region="GB")
            ids += [str(row["call_id"]) for row in page.rows]
            if page.next_cursor is None:
                break
            asked = asked.model_copy(update={"cursor": page.next_cursor})
        counted = await self.history.count("acme", CountCalls(which=which), region="GB")
        assert counted.count == len(ids)
        return ids


def which_calls(*tests: dict[str, Any], **more: Any) -> WhichCalls:
    parts = {"filters": list(tests)} if tests else None
    return WhichCalls.model_validate({"filter": parts, **more})


def a_test(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def past(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Past]:
    url = request.getfixturevalue("mongo_url") if request.param == "mongo" else None
    async with desk_on(request.param, clock, url) as desk:
        yield Past(desk.store, clock)


async def test_a_row_says_what_the_record_does(past: Past) -> None:
    await past.an_answered_call("c1", "+44 (7700) 900-123")
    jane = a_contact()
    await past.hear(
        "c1",
        ContactResolved(call_id="c1", number="447700900123", contact=jane, candidates=(jane,)),
        CallSummarised(call_id="c1", pbx="main", summary="Wants a quote", sentiment="0.8"),
        CallJournaled(call_id="c1", connection="zoho", entry_id="e1"),
        JournalFailed(call_id="c1", connection="other", reason="refused", attempts=1),
        at=NOON + HOUR,
    )
    page = await past.history.search("acme", SearchCalls(), region="GB")

    assert page.rows == (
        {
            "call_id": "c1",
            "pbx": "main",
            "pbx_call_id": "1795244075.0",
            "dial_id": None,
            "direction": "inbound",
            "disposition": "answered",
            "number": "+447700900123",
            "caller": "+447700900123",
            "caller_extension": None,
            "caller_name": "Jane",
            "dialled": "442079460000",
            "queue": None,
            "started_at": "2026-01-01T12:00:00.000Z",
            "answered_at": "2026-01-01T12:00:03.000Z",
            "ended_at": "2026-01-01T12:00:06.000Z",
            "wait_s": 2.0,
            "talk_s": 3.0,
            "hold_s": 0.0,
            "duration_s": 6.0,
            "extensions": ["101", "102"],
            "agents": ["101", "102"],
            "answered_by": ["102"],
            "transfers": 0,
            "recordings": 1,
            "contact_connection": "zoho",
            "contact_module": "Contacts",
            "contact_id": "829",
            "contact_name": "Ada Lovelace",
            "contact_known": True,
            "candidates": 1,
            "chosen_by": None,
            "rule": None,
            "destination": None,
            "route_reason": None,
            "hangup_by": "caller",
            "end_known": "seen",
            "summary": "Wants a quote",
            "sentiment": "0.8",
            "entries": ["zoho:sent", "other:dead"],
        },
    )


@pytest.mark.parametrize(
    "spelt", ["+44 7700 900123", "07700900123", "447700900123", "(07700) 900 123"]
)
async def test_a_number_is_found_in_any_spelling(past: Past, spelt: str) -> None:
    written = ["+447700900123", "447700900123", "07700900123", "00447700900123", "7700900123"]
    for place, number in enumerate(written):
        await past.an_answered_call(f"c{place}", number)
    await past.an_answered_call("other", "447700900124")
    await past.an_answered_call("hidden", "anonymous")

    assert sorted(await past.found(a_test("number", "=", spelt))) == [f"c{n}" for n in range(5)]
    assert sorted(await past.found(a_test("number", "!=", spelt))) == ["hidden", "other"]
    assert sorted(await past.found(a_test("caller", "in", [spelt, "anonymous"]))) == [
        *(f"c{n}" for n in range(5)),
        "hidden",
    ]
    assert await past.found(a_test("number", "=", "anonymous")) == ["hidden"]


async def test_calls_are_found_by_each_kind_of_field(past: Past) -> None:
    await past.an_answered_call("c1", "447700900123", at=NOON)
    await past.a_missed_call("c2", at=NOON + HOUR)
    await past.hear("c3", a_call(call_id="c3", direction=Direction.OUTBOUND), at=NOON + 2 * HOUR)
    await past.hear(
        "c2",
        JournalFailed(call_id="c2", connection="zoho", reason="no", attempts=1),
        at=NOON + HOUR,
    )
    await past.an_answered_call("elsewhere", "447700900123", tenant="globex")

    assert await past.found() == ["c3", "c2", "c1"]
    assert await past.found(descending=False) == ["c1", "c2", "c3"]
    assert await past.found(sort="talk_s", descending=False) == ["c2", "c3", "c1"]
    assert await past.found(a_test("ended_at", "is_null", True)) == ["c3"]
    assert await past.found(a_test("disposition", "=", "missed")) == ["c2"]
    assert await past.found(a_test("disposition", "!=", "missed")) == ["c3", "c1"]
    assert await past.found(a_test("talk_s", ">=", 3)) == ["c1"]
    assert await past.found(a_test("agents", "has", ["102", "103"])) == ["c1"]
    assert await past.found(a_test("entries", "has", "zoho:dead")) == ["c2"]
    assert await past.found(a_test("caller_name", "like", "JAN")) == ["c1"]
    assert await past.found(a_test("dialled", "=", "020 7946 0000")) == ["c3", "c2", "c1"]
    assert await past.found(a_test("number", "like", "900 123")) == ["c2", "c1"]
    assert await past.found(a_test("number", "starts_with", "+4477")) == ["c2", "c1"]
    assert await past.found(a_test("started_at", ">", "2026-01-01T13:00:00Z")) == ["c3"]
    assert await past.found(a_test("started_at", "<=", "2026-01-01T14:00:00+01:00")) == ["c2", "c1"]
    either = {
        "condition": "or",
        "filters": [a_test("talk_s", ">", 0), a_test("direction", "=", "outbound")],
    }
    assert await past.found(either) == ["c3", "c1"]
    assert await past.found(either, a_test("started_at", "<", "2026-01-01T13:00:00Z")) == ["c1"]
    assert await past.found(which={"call_ids": ["c2", "c1", "elsewhere"]}) == ["c2", "c1"]
    assert await past.found(which={"call_ids": []}) == []
    assert await past.found(which={"extension": "101"}) == ["c1"]


async def test_whole_calls_are_found_too(past: Past) -> None:
    for hour in range(5):
        await past.a_missed_call(f"c{hour}", at=NOON + hour * HOUR)
    which = which_calls(a_test("disposition", "=", "missed"))
    first = await past.history.find("acme", FindCalls(which=which, limit=3), region=None)
    second = await past.history.find(
        "acme", FindCalls(which=which, limit=3, cursor=first.next_cursor), region=None
    )
    assert [call.call_id for call in first.calls + second.calls] == ["c4", "c3", "c2", "c1", "c0"]
    assert second.next_cursor is None


async def test_a_call_of_an_older_version_is_listed_and_found_after_a_refresh(past: Past) -> None:
    await past.a_missed_call("c1")
    calls = past.store.collection(CALLS)
    await calls.put((await calls.get("c1")).model_copy(update={"row": None}))

    page = await past.history.search("acme", SearchCalls(fields=("disposition",)), region=None)
    assert page.rows == ({"disposition": "missed"},)
    assert await past.found(a_test("disposition", "=", "missed")) == []
    assert await past.history.refresh("acme") == 1
    assert await past.found(a_test("disposition", "=", "missed")) == ["c1"]
    assert await past.history.refresh("acme") == 0


@pytest.mark.parametrize("cursor", ["x", "eyJrZXkiOiJhIiwidmFsdWUiOjF9"])
async def test_a_cursor_from_elsewhere_is_refused(past: Past, cursor: str) -> None:
    await past.a_missed_call("c1")
    for which in (which_calls(), which_calls(a_test("disposition", "=", "missed"))):
        with pytest.raises(ContractError, match="cursor"):
            await past.history.search("acme", SearchCalls(which=which, cursor=cursor), region=None)


async def test_a_page_that_takes_long_goes_on_where_it_stopped(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what has to look at all of them says what would be shorter."""
    for hour in range(9):
        await past.a_missed_call(f"c{hour}", at=NOON + hour // 2 * HOUR)
    wanted = [f"c{hour}" for hour in reversed(range(9))]
    missed = a_test("disposition", "=", "missed")
    monkeypatch.setattr(scanning, "_PIECE", 2)
    assert await past.found(missed) == wanted
    assert await past.found(missed, sort="duration_s", limit=4) == sorted(wanted, reverse=True)

    monkeypatch.setattr(scanning, "_PAGE_SECONDS", 0)
    assert await past.found(missed, limit=500) == wanted
    assert await past.found(missed, limit=500, descending=False) == wanted[::-1]
    asked = SearchCalls(which=which_calls(missed), limit=500)
    page = await past.history.search("acme", asked, region=None)
    assert (len(page.rows), page.next_cursor is None) == (1, False)

    monkeypatch.setattr(scanning, "_ALL_SECONDS", 0)
    for work in (
        past.history.count("acme", CountCalls(which=which_calls(missed)), region=None),
        past.history.search("acme", asked.model_copy(update={"sort": "talk_s"}), region=None),
    ):
        with pytest.raises(ContractError, match="a shorter span of `started_at`"):
            await work
    of_one = CountCalls(which=which_calls(missed, a_test("number", "=", "447700900123")))
    assert (await past.history.count("acme", of_one, region=None)).count == 9


# -- any history ---------------------------------------------------------------------------------

_STARTS = st.lists(
    st.tuples(st.integers(0, 60 * 24 * 3), st.booleans(), st.integers(0, 3)), max_size=12
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    starts=_STARTS,
    limit=st.integers(1, 5),
    piece=st.integers(1, 4),
    descending=st.booleans(),
    sort=st.sampled_from(["started_at", "talk_s"]),
    patient=st.booleans(),
)
def test_in_whatever_pieces_a_history_is_read_nothing_is_missed_or_told_twice(
    starts: list[tuple[int, bool, int]],
    limit: int,
    piece: int,
    descending: bool,
    sort: str,
    patient: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read() -> list[str]:
        db = SqliteFile(None)
        await db.open()
        past = Past(SqliteStore(db, ManualClock()), ManualClock())
        rows = past.store.collection(ROWS)
        await past.a_missed_call("c", "447700900123")
        template = (await rows.get("c")).row
        assert template is not None
        await rows.delete("c")
        for number, (minute, missed, talked) in enumerate(starts):
            at = NOON + timedelta(minutes=minute)
            row = template.model_copy(
                update={
                    "call_id": f"c{number:02}",
                    "talk_s": talked,
                    "disposition": Disposition.MISSED if missed else Disposition.BUSY,
                    "started_at": at,
                }
            )
            await rows.put(ROWS.model(key=f"c{number:02}", tenant="acme", started_at=at, row=row))
        found = await past.found(
            a_test("disposition", "=", "missed"), limit=limit, descending=descending, sort=sort
        )
        await db.close()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_PIECE", piece)
        patch.setattr(scanning, "_PAGE_SECONDS", 2 if patient else 0)
        found = asyncio.run(read())
    wanted = [
        (minute if sort == "started_at" else talked, f"c{number:02}")
        for number, (minute, missed, talked) in enumerate(starts)
        if missed
    ]
    assert found == [key for _, key in sorted(wanted, reverse=descending)]
