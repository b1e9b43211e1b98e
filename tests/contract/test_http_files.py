"""Files as answers, given by a real server: who may take how many, and what is cut short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from pydantic import BaseModel

from shared.clock import ManualClock
from shared.http.auth import API_KEYS, KeyBook
from shared.http.files import FileAnswer, part_of
from shared.http.routes import FromPath, FromRequest, RawRequest, Routes
from shared.http.server import HttpServer, Mounted
from shared.http.underway import MAX_FILES_OF_ONE
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

#: More than any socket takes unread, and nothing on the disk.
BIG = 512 * 1024 * 1024


@dataclass
class Deps:
    folder: Path
    #: Is taken from the file behind the server's back.
    loses: int = 0


class Asked(BaseModel):
    tenant: FromPath[str]
    size: FromPath[int]
    request: FromRequest[RawRequest]


routes: Routes[Deps] = Routes(tag="files")


@routes("GET", "/{tenant}/{size}", scope=None)
async def give(deps: Deps, asked: Asked) -> FileAnswer:
    """Give a file of as many zeros."""
    path = deps.folder / "zeros"
    path.touch()
    with path.open("r+b") as made:
        made.truncate(asked.size - deps.loses)
    return FileAnswer(
        tenant=asked.tenant,
        file=path.open("rb"),
        part=part_of(asked.size, method="GET", headers=asked.request.headers, etag='"1"'),
        headers={"Content-Type": "application/octet-stream"},
    )


@pytest.fixture
def deps(tmp_path: Path) -> Deps:
    return Deps(tmp_path)


@pytest.fixture
async def client(deps: Deps, clock: ManualClock) -> AsyncIterator[aiohttp.ClientSession]:
    async with AsyncExitStack() as stack:
        db = SqliteFile(None)
        await db.open()
        stack.push_async_callback(db.close)
        keys = KeyBook(SqliteStore(db, clock).collection(API_KEYS), clock)
        server = HttpServer(
            [Mounted(routes.operations, deps)],
            keys=keys,
            clock=clock,
            metrics=Metrics(),
            drain=timedelta(milliseconds=200),
        )
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop)
        yield await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)
            )
        )


async def test_listeners_of_one_tenant_do_not_take_the_places_of_another(
    client: aiohttp.ClientSession,
) -> None:
    paused = [await client.get(f"/acme/{BIG}") for _ in range(MAX_FILES_OF_ONE)]
    refused = await client.get("/acme/10")
    assert refused.status == 503
    assert (await refused.json())["code"] == "throttled"
    assert (await (await client.get("/globex/10")).read()) == bytes(10)

    paused[0].close()

    async def is_free() -> bool:
        async with client.get("/acme/10") as answer:
            return answer.status == 200

    await eventually(is_free)
    for answer in paused:
        answer.close()


async def test_what_has_become_shorter_does_not_look_whole(
    client: aiohttp.ClientSession, deps: Deps
) -> None:
    deps.loses = 1
    async with client.get("/acme/1000000") as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
