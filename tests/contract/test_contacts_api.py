"""Whose numbers are these? Several in one request, and only what is wanted of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import ask

PEOPLE = {
    "+447700900123": {"id": "1", "name": "Jane", "phone": "+447700900123"},
    "+447700900124": {"id": "2", "name": "John", "phone": "+447700900124"},
}


class Crm:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_broken_for = ""


@pytest.fixture
def crm() -> Crm:
    return Crm()


@pytest.fixture
async def api(tmp_path: Path, crm: Crm) -> AsyncIterator[CrmApi]:
    async def people(request: web.Request) -> web.Response:
        number = request.query["phone"]
        crm.asked.append(number)
        if number == crm.is_broken_for:
            return web.json_response({"error": "no"}, status=400)
        found = PEOPLE.get(number)
        return web.json_response({"people": [found] if found else []})

    app = web.Application()
    app.router.add_get("/people", people)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with opened(tmp_path) as found:
        found.template("shop")
        await found.apply({"name": "shop", "template": "shop", "parameters": {"url": origin}})
        yield found
    await runner.cleanup()


async def test_several_numbers_are_asked_for_in_one_request(api: CrmApi, crm: Crm) -> None:
    crm.is_broken_for = "+447700900199"
    numbers = "07700 900124,+447700900123,07700900150,,withheld,+447700900199"
    reply = await ask(api, "GET", "/v1/contacts", params={"numbers": numbers})

    assert reply.status == 200, reply.body
    assert "candidates" not in reply.body
    answers = reply.body["answers"]
    assert [one["number"] for one in answers] == [
        "07700 900124",
        "+447700900123",
        "07700900150",
        "withheld",
        "+447700900199",
    ]
    assert [[card["display_name"] for card in one["candidates"]] for one in answers] == [
        ["John"],
        ["Jane"],
        [],
        [],
        [],
    ]
    assert ["fault" in one for one in answers] == [False, False, False, True, True]
    assert "no number" in answers[3]["fault"]


async def test_only_what_is_wanted_of_each_comes(api: CrmApi) -> None:
    params = {"number": "07700900123", "fields": "display_name,contact_id"}
    reply = await ask(api, "GET", "/v1/contacts", params=params)
    assert reply.body == {"candidates": [{"display_name": "Jane", "contact_id": "1"}]}
    params = {"numbers": "07700900123,07700900124", "fields": "contact_id"}
    reply = await ask(api, "GET", "/v1/contacts", params=params)
    assert [one["candidates"] for one in reply.body["answers"]] == [
        [{"contact_id": "1"}],
        [{"contact_id": "2"}],
    ]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"number": "07700900123", "numbers": "07700900124"},
        {"numbers": ""},
        {"numbers": ",,"},
        {"numbers": ",".join("07700900123" for _ in range(51))},
        {"numbers": "1" * 4001},
        {"number": "withheld"},
        {"number": "1" * 65},
        {"number": "07700900123", "fields": "displayname"},
    ],
)
async def test_what_is_no_question_is_refused(
    api: CrmApi, crm: Crm, params: dict[str, str]
) -> None:
    reply = await ask(api, "GET", "/v1/contacts", params=params)
    assert reply.status == 422
    assert crm.asked == []
