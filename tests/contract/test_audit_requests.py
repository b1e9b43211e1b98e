"""The log of requests to CRMs and PBXs, as the API shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.http.auth import Scope
from shared.net.requests import AskedSide, RequestNote
from tests.contract.access_kit import SECOND, Api, a_store, opened


def a_note(clock: ManualClock, n: int, **changes: object) -> RequestNote:
    known: dict[str, object] = {
        "tenant": "acme",
        "side": AskedSide.CRM,
        "connection": "zoho",
        "operation": "search",
        "at": clock.now() + n * SECOND,
        "method": "GET",
        "url": f"https://crm.example/people?page={n}",
        "status": 200,
        "took": timedelta(milliseconds=12),
        "sent_bytes": 0,
        "got_bytes": 100,
        "error": None,
    }
    return RequestNote(**(known | changes))  # type: ignore[arg-type]  # by name


@pytest.fixture
async def api(clock: ManualClock) -> AsyncIterator[Api]:
    async with a_store("sqlite", clock, str) as store, opened(store, clock) as found:
        log = found.replicas[0].deps.requests
        log.note(a_note(clock, 0))
        log.note(a_note(clock, 1, operation="journal", status=500, error="it broke"))
        log.note(a_note(clock, 2, side=AskedSide.PBX, connection="berlin", operation="originate"))
        log.note(a_note(clock, 3, tenant="globex"))
        await log.write()
        yield found


async def urls(api: Api, query: str = "", *, key: str | None = None) -> list[str]:
    reply = await api.get(f"/v1/audit/requests?{query}", key=key)
    assert reply.status == 200, reply.json
    return [one["url"].rpartition("=")[2] for one in reply.json["requests"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["2", "1", "0"]),
        ("side=pbx", ["2"]),
        ("connection=zoho", ["1", "0"]),
        ("operation=journal, originate", ["2", "1"]),
        ("status_class=5", ["1"]),
        ("failed=true", ["1"]),
        ("failed=false", ["2", "0"]),
        ("since=2100-01-01T00:00:01Z", ["2", "1"]),
        ("until=2100-01-01T00:00:01Z", ["0"]),
        ("text=PAGE=1", ["1"]),
        ("ids=none", []),
    ],
)
async def test_requests_are_searched(api: Api, query: str, found: list[str]) -> None:
    assert await urls(api, query) == found


async def test_a_tenant_sees_its_own(api: Api) -> None:
    assert await urls(api, key=api.admin["globex"]) == ["3"]


async def test_they_are_read_page_by_page(api: Api) -> None:
    first = (await api.get("/v1/audit/requests?limit=2")).json
    second = await urls(api, f"limit=2&cursor={first['next_cursor']}")
    assert second == ["0"]


async def test_a_key_needs_the_scope(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    assert (await api.get("/v1/audit/requests", key=token)).status == 403


@pytest.mark.parametrize(
    "query", ["side=both", "status_class=6", "limit=0", "cursor=x", "connection=a b", "since=x"]
)
async def test_what_is_no_question_is_refused(api: Api, query: str) -> None:
    assert (await api.get(f"/v1/audit/requests?{query}")).status == 422
