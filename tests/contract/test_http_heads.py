"""What comes before any operation: heads that are no HTTP, too long, or have what no text has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.http.listening import MAX_LINE_BYTES
from tests.contract.crm_api_kit import CrmApi, opened


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply()
        yield found


async def said(api: CrmApi, request: bytes) -> tuple[int, str, dict[str, Any]]:
    """Status, content type and body of the answer."""
    port = int(api.origin.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
    writer.close()
    kind = head.partition("content-type: ")[2].partition("\r\n")[0].partition(";")[0]
    return int(head.split()[1]), kind, json.loads(body) if body else {}


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"canary-of-mine\r\n\r\n",
        b"GET /v1/pbx?canary-of-mine=" + b"x" * MAX_LINE_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/pbx HTTP/1.1\r\nHost: a\r\nX-Long: canary-of-mine" + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /v1/pbx HTTP/1.1\r\nHost: a\r\ncanary-of-mine\r\n\r\n",
        b"GET /v1/pbx HTTP/9.9canary-of-mine\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_that_repeats_nothing(
    api: CrmApi, request_: bytes
) -> None:
    status, kind, body = await said(api, request_)
    assert (status, kind, body["code"]) == (400, "application/problem+json", "bad_request")
    assert "canary" not in str(body)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/v1/pbx?ids=%00", "query.ids"),
        ("/v1/pbx?ids=a%00b", "query.ids"),
        ("/v1/pbx?cursor=%00", "query.cursor"),
        ("/v1/tenants?search=%00", "query.search"),
        ("/v1/extensions/%00", "path.extension"),
    ],
)
async def test_a_nul_in_an_address_is_refused_with_its_place(
    api: CrmApi, path: str, where: str
) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {api.key}\r\n\r\n"
    status, kind, body = await said(api, request.encode())
    assert (status, kind) == (422, "application/problem+json")
    (fault,) = body["errors"]
    assert fault == {
        "where": where,
        "what": "has a character that no text has: NUL, or half of one",
    }


@pytest.mark.parametrize("odd", [b"\xff", b"\xed\xa0\x80", b"a\xc3"])
async def test_odd_bytes_in_a_header_are_refused(api: CrmApi, odd: bytes) -> None:
    body = b"{}"
    head = f"PATCH /v1/site HTTP/1.1\r\nHost: a\r\nX-Api-Key: {api.key}\r\n".encode()
    head += b"Content-Type: application/json\r\nContent-Length: 2\r\nIf-Match: " + odd
    status, kind, problem = await said(api, head + b"\r\n\r\n" + body)
    assert (status, kind) == (422, "application/problem+json")
    assert "header.If-Match" in str(problem)


@pytest.mark.parametrize("odd", ["%FF", "%ED%A0%80", "%C3", "%80%80"])
async def test_odd_bytes_in_an_address_do_no_harm(api: CrmApi, odd: str) -> None:
    for path in (f"/v1/pbx/{odd}", f"/v1/pbx?ids={odd}", f"/v1/tenants?search={odd}"):
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {api.key}\r\n\r\n"
        status, _, _ = await said(api, request.encode())
        assert status in {200, 422}


async def test_many_ids_go_into_one_address(api: CrmApi) -> None:
    """Five hundred of 36 characters, as calls have them."""
    ids = ",".join(f"{n:036d}" for n in range(500))
    request = f"GET /v1/calls?ids={ids} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {api.key}\r\n\r\n"
    status, _, body = await said(api, request.encode())
    assert (status, body) == (200, {"calls": []})


async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(api: CrmApi) -> None:
    async with api.session.post("/v1/site", headers={"X-Api-Key": api.key}) as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == {"GET", "PUT", "PATCH"}
        assert (await answer.json())["code"] == "method_not_allowed"
