"""A gateway with one CRM, in which one of two callers is known; 101 and 102 are agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from shared.clock import Clock
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import SHOP, CrmApi, opened
from tests.contract.sessions_kit import Got, scripted
from tests.contract.streams_kit import Heard, Phones, Socket, listening, on_socket

JANE, NOBODY = "+447700900123", "+447700900999"
PAGE = "https://crm.example/people/7"
MINE, ALL = "/v1/agents/101/events", "/v1/events"
MY_SOCKET, ALL_SOCKET = "/v1/agents/101/socket", "/v1/events/socket"
CALL = "0b4f8a52-5f0a-5d3b-8f6b-000000000001"
OTHER = "0b4f8a52-5f0a-5d3b-8f6b-000000000002"


def answer(got: Got) -> Any:
    known = {"id": "7", "phone": JANE, "name": "Jane Doe"}
    return {"people": [known] if got.query.get("phone") == JANE else []}


class Office:
    def __init__(self, api: CrmApi) -> None:
        self.api = api
        self.jane = Phones(api.publisher("ingest"), number=JANE)
        self.nobody = Phones(api.publisher("ingest"), number=NOBODY)

    async def rings(self, call: str = CALL, extension: str = "101") -> None:
        await self.jane.starts(call)
        await self.jane.rings(call, extension)

    def listen(self, path: str = MINE, **more: Any) -> AbstractAsyncContextManager[Heard]:
        return listening(self.api.session, path, **{"key": self.api.key, **more})

    def talk(self, path: str = MY_SOCKET, **more: Any) -> AbstractAsyncContextManager[Socket]:
        return on_socket(self.api.session, path, **{"key": self.api.key, **more})

    async def is_journaled(self, *calls: str) -> None:
        async def all_are() -> bool:
            found = [await self.api.send("GET", f"/v1/calls/{call}") for call in calls]
            return all(status == 200 and record.get("contact") for status, record in found)

        await eventually(all_are)


@asynccontextmanager
async def office_at(folder: Path, clock: Clock | None = None, **more: Any) -> AsyncIterator[Office]:
    contacts = {
        "People": {
            **SHOP["contacts"]["People"],
            "page_url": "https://crm.example/people/{{.ContactId}}",
            "new_page_url": "https://crm.example/new?phone={{.Phone}}",
        }
    }
    async with scripted(answer) as crm, opened(folder, clock=clock, **more) as api:
        api.template("shop", contacts=contacts)
        connection = {"name": "shop", "template": "shop", "parameters": {"url": crm.url}}
        await api.apply(connection, agents=[{"extension": "101"}, {"extension": "102"}])
        yield Office(api)
