"""
A stand-in for retailCRM's call history, as strict as the models of the vendor's own client
(``tests/data/crm-specs/retailcrm.yaml``, made from them): ``POST /api/v5/telephony/calls/upload``
takes the key, one form field, up to 50 calls of known fields and words, and keeps them by
``externalId``. With one wrong call it takes none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml
from aiohttp import web
from jsonschema import Draft202012Validator

KEY = "retail-key-0001"
#: Calls in one request: "It is possible to save up to 50 calls per one request" (the vendor's page).
MOST_CALLS = 50

_SPEC = Path(__file__).parents[1] / "data" / "crm-specs" / "retailcrm.yaml"
_CALL = Draft202012Validator(yaml.safe_load(_SPEC.read_text())["components"]["schemas"]["Call"])


class RetailCrm:
    """*batches*: how many calls each request had that was taken or refused for what is in it."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: dict[str, dict[str, Any]] = {}
        self.batches: list[int] = []
        self.requests = 0
        #: So many requests get 503, as over the limit.
        self.over_limit = 0
        #: So many uploads are done and the connection cut.
        self.lose_answers = 0
        #: References of calls that it does not keep, without a word.
        self.drops: set[str] = set()
        self.users = {24}
        #: Codes of extensions that the telephony module has nobody for.
        self.unknown_codes: set[str] = set()

    async def upload(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.over_limit > 0:
            self.over_limit -= 1
            return _refused(503, "The API limit is exceeded")
        key = request.headers.get("X-API-KEY")
        if key != KEY:
            return _refused(403, f'Wrong "apiKey" value: {key}.' if key else '"apiKey" is missing.')
        if request.content_type != "application/x-www-form-urlencoded":
            return _refused(400, "Errors in the input parameters")
        calls, faults = self._read(await request.text())
        if faults:
            return _refused(400, "Errors in the entity format", faults)
        self.batches.append(len(calls))
        known = [call["externalId"] for call in calls if call.get("externalId") in self.calls]
        new = [call for call in calls if call.get("externalId") not in {*known, *self.drops}]
        self.calls |= {call["externalId"]: call for call in new}
        if self.lose_answers > 0:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(
            {"success": True, "processedCallsCount": len(new), "duplicateCalls": known}
        )

    async def nobody(self, request: web.Request) -> web.StreamResponse:
        """It knows no customers, and so nobody who is responsible for one."""
        if request.headers.get("X-API-KEY") != KEY:
            return _refused(403, "Wrong key")
        return web.json_response({"success": True, "customers": []})

    def _read(self, body: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The calls; or what is wrong with them, by place."""
        form = parse_qs(body, keep_blank_values=True, strict_parsing=True)
        if set(form) != {"calls"}:
            return [], {"calls": f"fields are {', '.join(sorted(form))}"}
        try:
            calls = json.loads(form["calls"][0])
        except ValueError:
            return [], {"calls": "no JSON"}
        if not isinstance(calls, list) or not 1 <= len(calls) <= MOST_CALLS:
            return [], {"calls": f"a list of 1 to {MOST_CALLS} calls"}
        return calls, dict(self._faults(calls))

    def _faults(self, calls: list[Any]) -> Iterator[tuple[str, str]]:
        for place, call in enumerate(calls):
            for fault in _CALL.iter_errors(call):
                names = "".join(f"[{name}]" for name in fault.path)
                yield f"calls[{place}]{names}", fault.message
            if "userId" in call and call["userId"] not in self.users:
                yield f"calls[{place}][userId]", "the user does not exist"
            if call.get("code") in self.unknown_codes:
                yield f"calls[{place}][code]", "nobody has this code"


@asynccontextmanager
async def retail_crm() -> AsyncIterator[RetailCrm]:
    crm = RetailCrm()
    app = web.Application()
    app.router.add_post("/api/{version:v[45]}/telephony/calls/upload", crm.upload)
    app.router.add_get("/api/v5/telephony/manager", crm.nobody)
    app.router.add_get("/api/v5/customers", crm.nobody)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield crm
    finally:
        await runner.cleanup()


def _refused(status: int, message: str, errors: dict[str, str] | None = None) -> web.Response:
    said = {"success": False, "errorMsg": message, **({"errors": errors} if errors else {})}
    return web.json_response(said, status=status)
