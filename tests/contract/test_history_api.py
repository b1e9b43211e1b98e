"""The history of calls over HTTP: filtered, searched, counted, exported; what is refused, and how."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.calls import history as gateway
from services.journal.store import CALLS, CallLog
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, Direction, Party
from shared.contracts.envelope import Event, Message, wrap
from shared.contracts.history import COLUMNS
from shared.errors import Unavailable
from shared.http.auth import Scope
from shared.testing.builders import NOON, a_call
from tests.contract.crm_api_kit import CrmApi, opened

HOUR = timedelta(hours=1)
ANN = Party(extension="101")
#: What a spreadsheet would run.
EVIL = '=cmd|"/c calc"!A1'


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    """c0 is answered at 101, c1 and c2 are missed, c3 is under way."""
    async with opened(tmp_path) as found:
        await found.apply()
        calls = CallLog(found.store.collection(CALLS), found.clock, silent_after=HOUR)

        async def hear(number: int, *events: Event) -> None:
            for second, event in enumerate(events):
                at = NOON + number * HOUR + timedelta(seconds=second)
                message = wrap(event, source="test", occurred_at=at, tenant="acme")
                await calls.take(message, f"c{number}")

        jane = Party(number="+447700900123", name=EVIL)
        here: dict[str, Any] = {"call_id": "c0", "pbx": "main", "leg_id": "a", "callee": ANN}
        await hear(
            0,
            a_call(call_id="c0", caller=jane),
            CallRinging(**here, caller=jane),
            CallAnswered(**here),
            CallEnded(call_id="c0", pbx="main"),
        )
        for number in (1, 2):
            call = f"c{number}"
            await hear(number, a_call(call_id=call), CallEnded(call_id=call, pbx="main"))
        outward = Party(extension="102", number="102")
        await hear(3, a_call(call_id="c3", direction=Direction.OUTBOUND, caller=outward))
        yield found


async def listed(api: CrmApi, query: str, **more: Any) -> list[str]:
    status, page = await api.send("GET", f"/v1/calls?{query}", **more)
    assert status == 200, page
    return [call["call_id"] for call in page["calls"]]


async def searched(api: CrmApi, **body: Any) -> list[dict[str, Any]]:
    status, page = await api.send("POST", "/v1/calls/search", json=body)
    assert status == 200, page
    return list(page["rows"])


async def refused(api: CrmApi, path: str, body: Any) -> dict[str, Any]:
    status, problem = await api.send("POST", f"/v1/calls/{path}", json=body)
    assert status == 422, problem
    return dict(problem)


async def exported(api: CrmApi, **body: Any) -> tuple[aiohttp.ClientResponse, list[list[str]]]:
    async with api.session.post(
        "/v1/calls/export", json=body, headers={"X-Api-Key": api.key}
    ) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return answer, list(csv.reader(io.StringIO(text, newline=""), strict=True))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "c3 c2 c1 c0"),
        ("disposition=missed", "c2 c1"),
        ("under_way=true", "c3"),
        ("under_way=false&until=2026-01-01T14:00:00Z", "c1 c0"),
        ("since=2026-01-01T13:00:00Z&direction=inbound", "c2 c1"),
        ("number=07700%20900123", "c2 c1 c0"),
        ("did=%2B44%2020%207946%200000&extension=101", "c0"),
        ("extension=102", "c3"),
        ("ids=c1,c3,%20c0,gone", "c3 c1 c0"),
        ("ids=", ""),
        ("entry=zoho:dead", ""),
        ("contact=829", ""),
        ("pbx=main&queue=help", ""),
    ],
)
async def test_calls_are_listed_by_what_is_mostly_asked(
    api: CrmApi, query: str, found: str
) -> None:
    assert await listed(api, query) == found.split()


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("disposition=mised", "query.disposition"),
        ("since=yesterday", "query.since"),
        ("limit=501", "query.limit"),
        ("extension=1;2", "query.extension"),
    ],
)
async def test_a_wrong_parameter_is_named(api: CrmApi, query: str, where: str) -> None:
    status, problem = await api.send("GET", f"/v1/calls?{query}")
    assert (status, problem["errors"][0]["where"]) == (422, where)


async def test_too_many_ids_are_refused(api: CrmApi) -> None:
    status, problem = await api.send("GET", f"/v1/calls?ids={','.join(map(str, range(501)))}")
    assert status == 422
    assert problem["detail"].startswith("query.ids: Tuple should have at most 500 items")


async def test_a_search_gives_the_fields_that_are_asked_for_in_their_order(api: CrmApi) -> None:
    rows = await searched(
        api,
        fields=["talk_s", "call_id", "ended_at"],
        filter={
            "filters": [
                {"field": "direction", "operator": "in", "value": ["inbound", "outbound"]},
                {"field": "call_id", "operator": "!=", "value": "c2"},
            ],
            "condition": "and",
        },
        sort="started_at",
        descending=False,
    )
    assert [list(row.items()) for row in rows] == [
        [("talk_s", 1.0), ("call_id", "c0"), ("ended_at", "2026-01-01T12:00:03.000Z")],
        [("talk_s", 0.0), ("call_id", "c1"), ("ended_at", "2026-01-01T13:00:01.000Z")],
        [("talk_s", 0.0), ("call_id", "c3"), ("ended_at", None)],
    ]
    assert list((await searched(api, limit=1))[0]) == list(COLUMNS.by_name)
    of_two = {"call_ids": ["c2", "c0"], "fields": ["call_id"]}
    assert await searched(api, **of_two) == [{"call_id": "c2"}, {"call_id": "c0"}]


async def test_pages_of_a_search_follow_each_other(api: CrmApi) -> None:
    missed = {"field": "disposition", "value": "missed"}
    body = {"filter": missed, "fields": ["call_id"], "limit": 1}
    _, first = await api.send("POST", "/v1/calls/search", json=body)
    body["cursor"] = first["next_cursor"]
    _, second = await api.send("POST", "/v1/calls/search", json=body)
    assert [page["rows"] for page in (first, second)] == [[{"call_id": "c2"}], [{"call_id": "c1"}]]
    status, counted = await api.send("POST", "/v1/calls/count", json={"filter": missed})
    assert (status, counted) == (200, {"count": 2})


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ({"filtr": {}}, "body.filtr", "unknown key; did you mean `filter`?"),
        (
            {"filter": {"field": "dispositon", "value": "x"}},
            "body.filter",
            "there is no field `dispositon` (did you mean `disposition`?); there are: call_id, ",
        ),
        (
            {"filter": {"filters": [{"field": "pbx", "value": "a"}, {"field": "talk_s"}]}},
            "body.filter.filters.1",
            "`talk_s`: to ask for no value, say `is_null`: true",
        ),
        (
            {"filter": {"field": "talk_s", "operator": "like", "value": "6"}},
            "body.filter",
            "`talk_s` is a number: it takes no `like`, but =, !=, in, not_in, <, <=, >, >=, is_null",
        ),
        (
            {"filter": {"field": "talk_s", "operator": "=>", "value": 6}},
            "body.filter.operator",
            "Input should be '=', '!=', '<'",
        ),
        ({"filter": {"field": "talk_s", "operator": ">", "value": "6"}}, "body.filter", "a number"),
        ({"filter": {"field": "talk_s", "value": 2**70}}, "body.filter.value", "no database takes"),
        (
            {"filter": {"field": "started_at", "operator": ">", "value": "2026-01-01"}},
            "body.filter",
            "`started_at` is a time with a zone: 2026-11-21T09:00:00Z",
        ),
        (
            {"filter": {"field": "disposition", "operator": "in", "value": ["mised"]}},
            "body.filter",
            "`disposition` is never that (did you mean `missed`?); it is one of: answered, ",
        ),
        (
            {"filter": {"field": "agents", "value": "101"}},
            "body.filter",
            "a list of texts: it takes",
        ),
        (
            {"filter": {"field": "pbx", "operator": "in", "value": "a"}},
            "body.filter",
            "takes a list",
        ),
        ({"filter": {"field": "pbx", "value": "x" * 257}}, "body.filter", "1 to 256 characters"),
        ({"filter": {"field": "pbx", "value": {"$gt": ""}}}, "body.filter", "in quotes"),
        ({"filter": {}}, "body.filter", "say `field`, `operator` and `value`"),
        ({"filter": {"field": "pbx", "filters": []}}, "body.filter", "not both"),
        (
            {"filter": {"filters": [{"field": "pbx", "value": "a"}] * 51}},
            "body.filter.filters",
            "at most 50 items",
        ),
        (
            {"filter": {"filters": [{"filters": [{"field": "pbx", "value": "a"}] * 26}] * 2}},
            "body.filter",
            "52 tests; at most 50",
        ),
        ({"sort": "number"}, "body.sort", "there are: started_at, call_id, wait_s"),
        ({"fields": ["number", "nmber"]}, "body.fields", "did you mean `number`?"),
        ({"fields": ["pbx", "pbx"]}, "body.fields", "stands there twice"),
        ({"limit": 501}, "body.limit", "less than or equal to 500"),
        ({"call_ids": ["x"] * 501}, "body.call_ids", "at most 500 items"),
    ],
)
async def test_a_wrong_question_is_answered_with_its_place_and_what_may_stand_there(
    api: CrmApi, body: Any, where: str, what: str
) -> None:
    problem = await refused(api, "search", body)
    (fault,) = problem["errors"]
    assert fault["where"] == where
    assert what in fault["what"]


@pytest.mark.parametrize("deep", [6, 200, 400])
async def test_a_filter_that_is_too_deep_is_refused(api: CrmApi, deep: int) -> None:
    part: dict[str, Any] = {"field": "pbx", "value": "a"}
    for _ in range(deep):
        part = {"filters": [part]}
    problem = await refused(api, "count", {"filter": part})
    assert any(word in str(problem["errors"]) for word in ("5 deep", "nested deeper than"))


async def test_a_cursor_of_nothing_is_refused(api: CrmApi) -> None:
    problem = await refused(api, "search", {"cursor": "x"})
    assert problem["detail"] == "cursor: not one that a page of this list returned"


async def test_calls_are_exported_page_by_page(
    api: CrmApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "MAX_ROWS", 1)
    answer, lines = await exported(
        api,
        fields=["call_id", "started_at", "number", "caller_name", "answered_by", "talk_s"],
        zone="Europe/Berlin",
    )
    assert lines == [
        ["call_id", "started_at", "number", "caller_name", "answered_by", "talk_s"],
        ["c3", "2026-01-01T16:00:00.000+01:00", "442079460000", "", "", "0.0"],
        ["c2", "2026-01-01T15:00:00.000+01:00", "447700900123", "", "", "0.0"],
        ["c1", "2026-01-01T14:00:00.000+01:00", "447700900123", "", "", "0.0"],
        ["c0", "2026-01-01T13:00:00.000+01:00", "+447700900123", f"'{EVIL}", "101", "1.0"],
    ]
    assert answer.headers["X-Total-Count"] == "4"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="calls.csv"'
    assert answer.content_type == "text/csv"
    assert ("k0", "export_calls", "4 calls") in await api.audited()

    _, lines = await exported(api, filter={"field": "disposition", "value": "missed"})
    assert lines[0] == list(COLUMNS.by_name)
    assert [line[0] for line in lines[1:]] == ["c2", "c1"]


async def test_what_is_wrong_with_an_export_is_said_before_it_begins(api: CrmApi) -> None:
    assert "zone" in (await refused(api, "export", {"zone": "../../etc/passwd"}))["detail"]
    assert (await refused(api, "export", {"fields": ["x"]}))["errors"][0]["where"] == "body.fields"
    await api.bus.stop(drain=timedelta(0))
    status, problem = await api.send("POST", "/v1/calls/export", json={})
    assert (status, problem["code"]) == (503, "unavailable")


async def test_an_export_that_fails_in_the_middle_breaks_off(
    api: CrmApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a file that ends early and looks whole."""
    monkeypatch.setattr(gateway, "MAX_ROWS", 1)
    answering = api.bus.ask
    asked = 0

    async def away_after_three_questions(message: Message[Any], *, within: timedelta) -> bytes:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise Unavailable("the broker is away")
        return await answering(message, within=within)

    monkeypatch.setattr(api.bus, "ask", away_after_three_questions)
    with pytest.raises(aiohttp.ClientPayloadError):
        await exported(api, fields=["call_id"])


async def test_a_key_of_a_phone_sees_its_calls_alone(api: CrmApi) -> None:
    key = await api.a_key(Scope.CALLS_READ, extension="101")
    assert await listed(api, "", key=key) == ["c0"]
    assert await listed(api, "extension=101", key=key) == ["c0"]
    assert (await api.send("GET", "/v1/calls?extension=102", key=key))[0] == 403
    assert (await api.send("GET", "/v1/calls/c0", key=key))[0] == 200
    assert (await api.send("GET", "/v1/calls/c1", key=key))[0] == 403
    for path, found in (("count", '"count":1'), ("search", '"c0"'), ("export", "c0")):
        async with api.session.post(
            f"/v1/calls/{path}", json={}, headers={"X-Api-Key": key}
        ) as answer:
            text = await answer.text()
        assert found in text
        assert "c1" not in text
        body = {"extension": "102"}
        assert (await api.send("POST", f"/v1/calls/{path}", json=body, key=key))[0] == 403


async def test_a_key_of_a_phone_sees_none_of_the_same_number_at_another_pbx(api: CrmApi) -> None:
    """That is somebody else's phone."""
    key = await api.a_key(Scope.CALLS_READ, Scope.CALLS_WRITE, extension="101")
    switches = [{"kind": "generic", "name": name} for name in ("main", "munich")]
    await api.apply(pbx=switches, agents=[{"extension": "101", "pbx": "munich"}])

    assert await listed(api, "", key=key) == []
    for path in ("count", "search", "export"):
        async with api.session.post(
            f"/v1/calls/{path}", json={}, headers={"X-Api-Key": key}
        ) as answer:
            text = await answer.text()
        assert answer.status == 200
        assert "c0" not in text.replace('"count":0', "")
        assert '"count":1' not in text
        there = {"pbx": "main"}
        assert (await api.send("POST", f"/v1/calls/{path}", json=there, key=key))[0] == 403
    chosen = {"connection": "shop", "module": "People", "contact_id": "1"}
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/recordings/1", None),
        ("POST", "/summary", {"summary": "asks for a boat"}),
        ("POST", "/contact", chosen),
    ):
        status, _ = await api.send(method, f"/v1/calls/c0{path}", json=body, key=key)
        assert status == 403, path

    await api.apply(pbx=switches, agents=[{"extension": "101", "pbx": "main"}])
    assert await listed(api, "", key=key) == ["c0"]
    assert (await api.send("GET", "/v1/calls/c0", key=key))[0] == 200


async def test_a_key_of_a_phone_waits_until_it_is_known_where_that_is(api: CrmApi) -> None:
    key = await api.a_key(Scope.CALLS_READ, extension="101")
    api.site.loaded = False
    for path in ("/v1/calls", "/v1/calls/c0"):
        assert (await api.send("GET", path, key=key))[0] == 503
        assert (await api.send("GET", path))[0] == 200


async def test_calls_are_searched_by_the_pbx_that_saw_them(api: CrmApi) -> None:
    assert len(await searched(api, pbx="main")) == 4
    assert await searched(api, pbx="munich") == []


async def test_who_may_not_read_calls_may_not_search_them(api: CrmApi) -> None:
    key = await api.a_key(Scope.CONTACTS_READ)
    for path in ("search", "count", "export"):
        assert (await api.send("POST", f"/v1/calls/{path}", json={}, key=key))[0] == 403
