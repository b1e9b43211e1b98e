"""Directus is there as its helper promises, and has the habits that a template must cope with."""

from __future__ import annotations

import json

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.testing.directus import PEOPLE, Directus, directus
from shared.testing.waiting import eventually


def client(crm: Directus) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(crm.url, headers={"Authorization": f"Bearer {crm.token}"})


async def test_people_are_found_by_any_spelling_in_any_field() -> None:
    spellings = ["+12025550144", "202-555-0144"]
    either = {"_or": [{"phone": {"_in": spellings}}, {"mobile": {"_in": spellings}}]}

    async with (
        directus() as crm,
        client(crm) as session,
        session.get("/items/contacts", params={"filter": json.dumps(either)}) as answer,
    ):
        found = (await answer.json())["data"]

    assert found == [{"id": 1, **PEOPLE[0]}]


async def test_a_call_is_written_once() -> None:
    call = {"call_id": "c-1", "contact": 1, "duration": 73, "started_at": "2026-11-21T10:00:00Z"}

    async with directus() as crm, client(crm) as session:
        async with session.post("/items/calls", json=call) as first:
            assert first.status == 200
        async with session.post("/items/calls", json=call) as again:
            assert again.status == 400
            (error,) = (await again.json())["errors"]

    assert error["extensions"]["code"] == "RECORD_NOT_UNIQUE"


async def test_who_asks_too_often_is_told_how_long_to_wait() -> None:
    waits = []

    async with directus(requests_per_second=2) as crm, client(crm) as session:
        for _ in range(10):
            async with session.get("/items/contacts") as answer:
                if answer.status == 429:
                    waits.append(answer.headers["Retry-After"])

    assert set(waits) == {"1"}


async def test_a_flow_tells_who_has_changed() -> None:
    told: list[dict[str, object]] = []

    async def hear(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/changed", hear)
    async with (
        TestServer(app, host="127.0.0.1") as heard,
        directus(webhook=str(heard.make_url("/changed"))) as crm,
        client(crm) as session,
        session.patch("/items/contacts/1", json={"tier": "silver"}),
    ):
        await eventually(lambda: bool(told))

    assert told[0]["event"] == "contacts.items.update"
    assert told[0]["keys"] == ["1"]
