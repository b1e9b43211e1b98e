"""A CRM that its test writes as a function, and a template that its test writes as a mapping."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml
from aiohttp import web

from shared.clock import Clock
from shared.crm.engine.connector import TemplateConnector
from shared.testing.cassettes import ConnectionIn, Recorder, recorder


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came; names of headers in lower case."""

    what: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


#: An answer, or what gives it later: JSON, a whole response, or nothing for 599.
Answers = Callable[[Asked], Any]


@dataclass(slots=True)
class ScriptedCrm:
    answers: Answers
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def of(self, what: str) -> list[Asked]:
        """Requests of one kind: ``GET /people``."""
        return [one for one in self.asked if one.what == what]

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        what = f"{request.method} {request.path}"
        asked = Asked(what, dict(request.query), headers, await request.read())
        self.asked.append(asked)
        found = self.answers(asked)
        if isinstance(found, Awaitable):
            found = await found
        if isinstance(found, web.Response):
            return found
        return web.json_response(found, status=599 if found is None else 200)


@asynccontextmanager
async def scripted(answers: Answers) -> AsyncIterator[ScriptedCrm]:
    crm = ScriptedCrm(answers)
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", crm.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield crm
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Made:
    crm: ScriptedCrm
    connector: TemplateConnector
    recorder: Recorder


@asynccontextmanager
async def connected(
    template: Mapping[str, Any],
    answers: Answers,
    folder: Path,
    *,
    given: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Made]:
    """*template* as of a file in *folder*; its parameter ``url`` is the CRM."""
    name = template["name"]
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(dict(template), sort_keys=False))
    async with scripted(answers) as crm, recorder(folder, clock=clock) as made:
        values = {"region": "GB", **(given or {})}
        values["parameters"] = {"url": "{server}", **values.get("parameters", {})}
        account = made.account(name, ConnectionIn.model_validate(values), crm.url)
        yield Made(crm, made.connections.connector(account), made)
