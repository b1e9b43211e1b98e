"""Tryton is there as its helper promises, and has the habits that a template must cope with."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from shared.testing.tryton import Tryton, tryton


class Client:
    def __init__(self, crm: Tryton, session: aiohttp.ClientSession) -> None:
        self._crm, self._session = crm, session
        self.authorization = ""

    async def call(self, method: str, *params: Any) -> Any:
        """The answer, or the HTTP status where it is not 200."""
        path = f"/{self._crm.database}/rpc/"
        body = {"id": 1, "method": method, "params": params}
        headers = {"Authorization": self.authorization} if self.authorization else {}
        async with self._session.post(path, json=body, headers=headers) as answer:
            return await answer.json() if answer.ok else answer.status

    async def sign_in(self) -> None:
        login = {"password": self._crm.password}
        user, token, _bus = (await self.call("common.db.login", self._crm.user, login))["result"]
        session = base64.b64encode(f"{self._crm.user}:{user}:{token}".encode()).decode()
        self.authorization = f"Session {session}"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with tryton() as crm, aiohttp.ClientSession(crm.url) as session:
        made = Client(crm, session)
        await made.sign_in()
        yield made


async def test_a_number_is_found_however_it_was_typed(client: Client) -> None:
    kinds, numbers = ["type", "in", ["phone", "mobile"]], ["value_compact", "in", ["+12025550143"]]
    wanted = ["value_compact", "party.name"]

    answer = await client.call(
        "model.party.contact_mechanism.search_read", [kinds, numbers], 0, 5, None, wanted, {}
    )

    names = [row["party."]["name"] for row in answer["result"]]
    assert sorted(names) == ["Blue Lamp Ltd", "Jane Miller"]


async def test_a_call_becomes_a_note_of_the_party(client: Client) -> None:
    note = {"resource": "party.party,1", "message": "Incoming call"}

    assert (await client.call("model.ir.note.create", [note], {}))["result"] == [1]


async def test_a_refusal_is_an_answer_with_status_200(client: Client) -> None:
    bad = {"name": "Bad", "contact_mechanisms": [["create", [{"type": "phone", "value": "12"}]]]}

    answer = await client.call("model.party.party.create", [bad], {})

    assert answer["error"][0] == "UserError"


async def test_a_session_that_is_over_is_401(client: Client) -> None:
    await client.call("common.db.logout")

    assert await client.call("model.party.party.search_count", [], {}) == 401
