"""
The sandbox CRM: a small real HTTP server that speaks as much of Zoho CRM's API as telephony
needs, in its response forms: OAuth (:mod:`shared.sandbox.oauth`), search by criteria, users, the
call log; with a rate limit, a search that lags behind writes, and faults that can be switched on.

What it holds lies in an SQLite file, so that it outlives a crash of who started it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from shared.clock import Clock, SystemClock
from shared.errors import ContractError
from shared.sandbox.criteria import Test, read_criteria
from shared.sandbox.faults import Faults, failure, slowly, spoilt
from shared.sandbox.oauth import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SandboxOAuth
from shared.sandbox.people import MODULE_FIELDS, RECORDS, USERS

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN", "Asked", "Faults", "SandboxCrm"]

_Records = TypeAdapter(list[dict[str, Any]])
_DURATION = re.compile(r"^\d{2,}:[0-5]\d$")
_CALL_TYPES = frozenset({"Inbound", "Outbound", "Missed"})
_PER_PAGE = 200
#: Zoho's page of inserted records.
_MOST_RECORDS = 100
#: Ids of calls begin so.
_CALL_IDS = "8299140000009"
#: Requests remembered for whoever wants to see what was asked.
_LOG = 10_000

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TABLES = """
CREATE TABLE IF NOT EXISTS records (
  module TEXT, id TEXT, body TEXT, created_ms INTEGER, PRIMARY KEY (module, id));
CREATE INDEX IF NOT EXISTS by_subject ON records (module, json_extract(body, '$.Subject'))"""


@dataclass(slots=True)
class Asked:
    """A request as it came: the target is not decoded."""

    method: str
    target: str
    body: str = ""

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


class SandboxCrm:
    """``start`` returns the port; ``asked`` is the log of requests to the API."""

    def __init__(self, path: Path | None = None, *, clock: Clock | None = None) -> None:
        self.faults = Faults()
        self.asked: deque[Asked] = deque(maxlen=_LOG)
        self.users: list[dict[str, Any]] = list(USERS)
        self._clock = clock or SystemClock()
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_TABLES)
        for module, records in RECORDS.items():
            for record in records:
                self._db.execute(
                    "INSERT OR IGNORE INTO records VALUES (?, ?, ?, 0)",
                    (module, record["id"], json.dumps(record)),
                )
        # Their number is none: a call that somebody deleted leaves a gap.
        (last,) = self._db.execute(
            "SELECT max(CAST(substr(id, ?) AS INTEGER)) FROM records "
            "WHERE module = 'Calls' AND id LIKE ?",
            (len(_CALL_IDS) + 1, f"{_CALL_IDS}%"),
        ).fetchone()
        self._call_ids = count((last or 0) + 1)
        self._oauth = SandboxOAuth(self._db, self._clock, lambda: self.faults)
        self._recent: deque[datetime] = deque()
        self._runner: web.AppRunner | None = None
        self._app = web.Application(middlewares=[self._around])
        add = self._app.router.add_route
        self._oauth.add_routes(self._app)
        add("GET", "/crm/{version}/users", self._users)
        add("GET", "/crm/{version}/{module}/search", self._search)
        add("GET", "/crm/{version}/{module}", self._list)
        add("POST", "/crm/{version}/Calls", self._add_calls)
        add("PUT", "/crm/{version}/Calls/{id}", self._change_call)
        add("PUT", "/sandbox/faults", self._set_faults)
        add("GET", "/sandbox/requests", self._show_requests)
        add("PUT", "/sandbox/{module}/{id}", self._put_record)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Raises: OSError."""
        # Who waits for an answer that takes minutes is not waited for at the end.
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._db.close()

    def records(self, module: str) -> list[dict[str, Any]]:
        rows = self._db.execute(
            "SELECT body FROM records WHERE module = ? ORDER BY created_ms, id", (module,)
        )
        return [json.loads(body) for (body,) in rows]

    def put(self, module: str, record: Mapping[str, Any]) -> None:
        """Add or replace a record."""
        self._db.execute(
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)",
            (module, str(record["id"]), json.dumps(dict(record)), 0),
        )

    def remove(self, module: str, record_id: str) -> None:
        """As somebody deletes it."""
        self._db.execute("DELETE FROM records WHERE module = ? AND id = ?", (module, record_id))

    @property
    def asked_for_tokens(self) -> int:
        return self._oauth.asked

    def forget_tokens(self) -> None:
        """Every access token is refused from now on; the refresh token still works."""
        self._oauth.forget()

    # -- around every request ----------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: _Handle) -> web.StreamResponse:
        if request.path.startswith("/sandbox/"):
            return await handler(request)
        if request.path.startswith("/crm/"):
            body = await request.text()
            self.asked.append(Asked(request.method, request.raw_path, body))
            if (refusal := self._refusal(request)) is not None:
                return refusal
        if self.faults.latency_ms:
            await self._clock.sleep(timedelta(milliseconds=self.faults.latency_ms))
        is_api = request.path.startswith("/crm/")
        if is_api and (spoiled := await spoilt(request, self.faults)) is not None:
            return spoiled
        slow = timedelta(milliseconds=self.faults.slow_body_ms)
        answer = await handler(request)
        return await slowly(request, answer, slow, self._clock) if slow else answer

    def _refusal(self, request: web.Request) -> web.Response | None:
        faults, now = self.faults, self._clock.now()
        if faults.takes("fail_next") or faults.happens("fail_share"):
            return failure(faults)
        if faults.happens("throttle_share"):
            return _too_many(faults.retry_after_s or 1)
        if faults.requests_per_minute:
            while self._recent and now - self._recent[0] > timedelta(minutes=1):
                self._recent.popleft()
            if len(self._recent) >= faults.requests_per_minute:
                wait = timedelta(minutes=1) - (now - self._recent[0])
                return _too_many(max(1, round(wait.total_seconds())))
            self._recent.append(now)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Zoho-oauthtoken" or not self._oauth.knows(token):
            return _fault(401, "INVALID_TOKEN", "invalid oauth token")
        if {*request.path.split("/")[3:4]} & {*faults.no_scope}:
            return _fault(401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL")
        return None

    # -- the API -----------------------------------------------------------------------------

    async def _users(self, request: web.Request) -> web.Response:
        only_one = request.query.get("type") == "CurrentUser"
        return self._page(request, "users", self.users[:1] if only_one else self.users)

    async def _search(self, request: web.Request) -> web.Response:
        module = request.match_info["module"]
        known = MODULE_FIELDS.get(module)
        if known is None:
            return _fault(400, "INVALID_MODULE", "the module name given seems to be invalid")
        try:
            tests = read_criteria(request.query.get("criteria", ""))
        except ContractError as error:
            return _fault(400, "INVALID_QUERY", f"Invalid query formed: {error.message}")
        if unknown := [test.field for test in tests if test.field not in known]:
            return _fault(400, "INVALID_QUERY", f"Invalid query formed: no field {unknown[0]}")
        found = [
            record
            for body in self._bodies(module, tests)
            if any(test.holds(record := json.loads(body)) for test in tests)
        ]
        return self._page(request, "data", _shown(request, found, known))

    def _bodies(self, module: str, tests: Sequence[Test]) -> list[str]:
        """Of the records that may pass one of *tests*."""
        query = "SELECT body FROM records WHERE module = ? AND created_ms <= ?"
        known: list[object] = [module, self._ms() - self.faults.search_lag_ms]
        if all(test.field == "Subject" and not test.begins for test in tests):
            # As the index spells it: a call is found among ten thousand without reading them.
            subjects = ", ".join("?" * len(tests))
            query += f" AND json_extract(body, '$.Subject') IN ({subjects})"
            known += [test.value for test in tests]
        return [body for (body,) in self._db.execute(query, known)]

    async def _list(self, request: web.Request) -> web.Response:
        module = request.match_info["module"]
        known = MODULE_FIELDS.get(module)
        if known is None:
            return _fault(400, "INVALID_MODULE", "the module name given seems to be invalid")
        return self._page(request, "data", _shown(request, self.records(module), known))

    def _page(self, request: web.Request, name: str, found: list[dict[str, Any]]) -> web.Response:
        if not found:
            return web.Response(status=204)
        try:
            page = max(1, int(request.query.get("page", "1")))
            per_page = min(_PER_PAGE, max(1, int(request.query.get("per_page", _PER_PAGE))))
        except ValueError:
            return _fault(400, "INVALID_DATA", "page and per_page are numbers")
        first = (page - 1) * per_page
        shown = found[first : first + per_page]
        more = len(found) > first + len(shown)
        return web.json_response({name: shown, "info": _info(len(shown), page, more)})

    async def _add_calls(self, request: web.Request) -> web.StreamResponse:
        try:
            records = _Records.validate_python((await request.json())["data"])
        except (ValueError, KeyError, TypeError):
            return _fault(400, "INVALID_DATA", "body")
        if len(records) > _MOST_RECORDS:
            return _fault(400, "INVALID_DATA", f"more than {_MOST_RECORDS} records")
        results = [self._add_call(record) for record in records]
        taken = all(result["status"] == "success" for result in results)
        return self._told(request, results, 201 if taken else 202)

    async def _change_call(self, request: web.Request) -> web.StreamResponse:
        try:
            (changes,) = _Records.validate_python((await request.json())["data"])
        except (ValueError, KeyError, TypeError):
            return _fault(400, "INVALID_DATA", "body")
        result = self._changed(request.match_info["id"], changes)
        return self._told(request, [result], 200 if result["status"] == "success" else 202)

    def _told(
        self, request: web.Request, results: list[dict[str, Any]], status: int
    ) -> web.StreamResponse:
        """What became of the records; the answer may get lost."""
        if self.faults.takes("lose_answers") or self.faults.happens("lose_share"):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return web.json_response({"data": results}, status=status)

    def _has(self, module: object, link: object) -> bool:
        query = "SELECT 1 FROM records WHERE module = ? AND id = ?"
        return self._db.execute(query, (str(module), _id_of(link))).fetchone() is not None

    def _fault_of(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        for name in ("Subject", "Call_Type", "Call_Start_Time", "Call_Duration"):
            if not record.get(name):
                return _refused("MANDATORY_NOT_FOUND", "required field not found", name)
        checks: dict[str, Callable[[str], bool]] = {
            "Call_Type": lambda text: text in _CALL_TYPES,
            "Call_Start_Time": _is_moment,
            "Call_Duration": lambda text: bool(_DURATION.match(text)),
        }
        for name, check in checks.items():
            if not isinstance(record[name], str) or not check(record[name]):
                return _refused("INVALID_DATA", "invalid data", name)
        if "What_Id" in record and "$se_module" not in record:
            return _refused("DEPENDENT_FIELD_MISSING", "dependent field missing", "$se_module")
        links = {"Who_Id": "Contacts", "What_Id": record.get("$se_module")}
        for name, module in links.items():
            if name in record and not self._has(module, record[name]):
                return _refused("INVALID_DATA", "the id given seems to be invalid", name)
        if "Owner" in record and _id_of(record["Owner"]) not in {user["id"] for user in self.users}:
            return _refused("INVALID_DATA", "the id given seems to be invalid", "Owner")
        return None

    def _add_call(self, record: dict[str, Any]) -> dict[str, Any]:
        if (fault := self._fault_of(record)) is not None:
            return fault
        now = self._ms()
        call_id = f"{_CALL_IDS}{next(self._call_ids):05}"
        created = self._clock.now().isoformat(timespec="seconds")
        body = {**record, "id": call_id, "Created_Time": created}
        self._db.execute(
            "INSERT INTO records VALUES ('Calls', ?, ?, ?)", (call_id, json.dumps(body), now)
        )
        return {
            "code": "SUCCESS",
            "details": {"id": call_id, "Created_Time": created},
            "message": "record added",
            "status": "success",
        }

    def _changed(self, call_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        found = self._db.execute(
            "SELECT body FROM records WHERE module = 'Calls' AND id = ?", (call_id,)
        ).fetchone()
        if found is None:
            return _refused("INVALID_DATA", "the id given seems to be invalid", "id")
        # Zoho's page of calls: these stay as they are once a call took place.
        if fixed := [name for name in ("Call_Type", "Owner") if name in changes]:
            return _refused("INVALID_DATA", "invalid data", fixed[0])
        changed = self._clock.now().isoformat(timespec="seconds")
        body = {**json.loads(found[0]), **changes, "id": call_id, "Modified_Time": changed}
        if (fault := self._fault_of(body)) is not None:
            return fault
        self._db.execute(
            "UPDATE records SET body = ? WHERE module = 'Calls' AND id = ?",
            (json.dumps(body), call_id),
        )
        return {
            "code": "SUCCESS",
            "details": {"id": call_id, "Modified_Time": changed},
            "message": "record updated",
            "status": "success",
        }

    # -- the switches ------------------------------------------------------------------------

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults = Faults.model_validate_json(await request.text())
        except ValidationError as error:
            return web.Response(status=422, text=str(error))
        return web.json_response(self.faults.model_dump())

    async def _show_requests(self, _: web.Request) -> web.Response:
        return web.json_response([asked.line for asked in self.asked])

    async def _put_record(self, request: web.Request) -> web.Response:
        module = request.match_info["module"]
        if module not in MODULE_FIELDS:
            return web.Response(status=404)
        self.put(module, {**(await request.json()), "id": request.match_info["id"]})
        return web.Response(status=204)

    def _ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)


def _shown(
    request: web.Request, found: list[dict[str, Any]], known: tuple[str, ...]
) -> list[dict[str, Any]]:
    names = [n for n in request.query.get("fields", "").split(",") if n in known] or list(known)
    return [{"id": record["id"], **{n: record.get(n) for n in names}} for record in found]


def _info(count: int, page: int = 1, more: bool = False) -> dict[str, Any]:
    return {"per_page": _PER_PAGE, "count": count, "page": page, "more_records": more}


def _fault(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    body = {"code": code, "details": {}, "message": message, "status": "error"}
    return web.json_response(body, status=status, headers=headers)


def _too_many(retry_after_s: int) -> web.Response:
    headers = {"Retry-After": str(retry_after_s)}
    return _fault(429, "TOO_MANY_REQUESTS", "API rate limit exceeded", headers)


def _refused(code: str, message: str, field_name: str) -> dict[str, Any]:
    details = {"api_name": field_name}
    return {"code": code, "details": details, "message": message, "status": "error"}


def _id_of(link: object) -> str:
    """Zoho takes a link as its id, or as an object that holds it."""
    return str(link.get("id") if isinstance(link, dict) else link)


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
