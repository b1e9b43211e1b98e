"""
A stand-in for retailCRM, as strict as the models of the vendor's own client and its telephony page:

- ``integration-modules/{code}`` and, of API v4, ``telephony/setting/{code}``: read and edit;
- ``telephony/call/event``: cards, kept in the order in which they came;
- ``telephony/manager``: who is signed in, free and has a code;
- ``telephony/calls/upload``: up to 50 calls, kept by ``externalId``; with one wrong call it takes none;
- ``users``, ``users/{id}/status``, ``customers`` with search by number, creation, empty history.

A test looks at what it holds (``users``, ``customers``, ``modules``, ``cards``, ``calls``), may change
it as a person would, and has a user of it click (:meth:`RetailCrm.click`) or change the status
(:meth:`RetailCrm.change_status`): the requests that the page documents, with its unescaped plus.

    async with retail_crm() as crm:
        crm.add_user(25, email="bob@acme.example")
        ...                                     # callmesh registers its module
        answer = await crm.click(24, "+79121234567")
        assert answer.status == 200
        assert crm.shown_to(24) == [{"phone": "+79121234567", "type": "out", ...}]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

import aiohttp
from aiohttp import web
from yarl import URL

from tests.contract.retailcrm_models import (
    PAGE_SIZES,
    STATUSES,
    Customer,
    User,
    faults,
    form_field,
    module_of,
    setting_of,
)

KEY = "retail-key-0001"
#: Calls in one request: "It is possible to save up to 50 calls per one request" (the vendor's page).
MOST_CALLS = 50

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Answered:
    """To a request of retailCRM: of a click it looks at the status, of a change at nothing."""

    status: int
    body: str


class RetailCrm:
    """*batches*: how many calls each upload had that was taken or refused for what is in it."""

    def __init__(self) -> None:
        self.url = ""
        self.users: dict[int, User] = {24: User(24)}
        self.customers: dict[int, Customer] = {}
        #: Symbolic codes of the shops.
        self.sites = {"shop1", "shop2"}
        #: By code, as API v5 writes them.
        self.modules: dict[str, dict[str, Any]] = {}
        #: Events of calls that were taken.
        self.cards: list[dict[str, Any]] = []
        #: And the users of each: by the codes that the module had when it came.
        self._seen_by: list[tuple[dict[str, Any], frozenset[int]]] = []
        #: Changes of status by the API: user and word.
        self.told: list[tuple[int, str]] = []
        #: Whether such a change comes back by ``changeUserStatusUrl``; the documents do not say.
        self.echoes = False
        self.calls: dict[str, dict[str, Any]] = {}
        self.batches: list[int] = []
        #: Uploads.
        self.requests = 0
        #: Every request, by its path: ``/api/v5/users``.
        self.asked: Counter[str] = Counter()
        #: So many uploads get 503, as over the limit.
        self.over_limit = 0
        #: So many requests whose path ends so get 503: ``{"call/event": 2}``.
        self.limited: Counter[str] = Counter()
        #: So many uploads are done and the connection cut.
        self.lose_answers = 0
        #: References of calls that it does not keep, without a word.
        self.drops: set[str] = set()
        #: Codes of extensions that the upload knows nobody for.
        self.unknown_codes: set[str] = set()
        #: Beginning of an address that it was told → where a proxy there leads.
        self.led: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    # -- what a test does ----------------------------------------------------------------------

    def add_user(self, user_id: int, **fields: Any) -> User:
        self.users[user_id] = user = User(user_id, **fields)
        return user

    def add_customer(self, name: str, *phones: str, **fields: Any) -> Customer:
        number = max(self.customers, default=300) + 1
        self.customers[number] = made = Customer(number, name, phones=phones, **fields)
        return made

    @property
    def telephony(self) -> dict[str, Any] | None:
        """Of the active module, as API v5 writes it."""
        for module in self.modules.values():
            if module["active"] and "telephony" in module.get("integrations", {}):
                found: dict[str, Any] = module["integrations"]["telephony"]
                return found
        return None

    @property
    def client_id(self) -> str:
        return next(str(module["clientId"]) for module in self.modules.values())

    def codes(self) -> dict[str, int]:
        """Extension code → user."""
        rows = (self.telephony or {}).get("additionalCodes", [])
        return {str(row["code"]): int(row["userId"]) for row in rows}

    def code_of(self, user_id: int) -> str | None:
        return next((code for code, user in self.codes().items() if user == user_id), None)

    def shown_to(self, user_id: int) -> list[dict[str, Any]]:
        """The events that this user saw, in their order."""
        return [event for event, users in self._seen_by if user_id in users]

    async def click(
        self,
        user_id: int,
        phone: str,
        *,
        shop: str | None = None,
        changed: Mapping[str, str | None] | None = None,
        behind: str = "",
    ) -> Answered:
        """
        *user_id* clicks on *phone* at a record of *shop*. For requests that retailCRM would not
        send: *changed* are other values of parameters (None: without it), *behind* is put behind
        the query as it is.
        """
        telephony = self.telephony
        assert telephony is not None, "no active telephony module"
        code = self.code_of(user_id)
        assert code is not None, f"user {user_id} has no extension code, so no phone to click on"
        asked = {"clientId": self.client_id, "code": code, "phone": phone, "userId": str(user_id)}
        for row in telephony.get("externalPhones", []):
            if shop is not None and row.get("siteCode") == shop:
                asked["externalPhone"] = row["externalPhone"]
        return await self._get(telephony["makeCallUrl"], {**asked, **(changed or {})}, behind)

    async def change_status(
        self,
        user_id: int,
        status: str,
        *,
        changed: Mapping[str, str | None] | None = None,
        behind: str = "",
    ) -> Answered | None:
        """The user changes it there; None where nobody is told: no code, no address."""
        assert status in STATUSES
        self.users[user_id].status = status
        url = (self.telephony or {}).get("changeUserStatusUrl")
        code = self.code_of(user_id)
        if not url or code is None:
            return None
        asked = {
            "clientId": self.client_id,
            "code": code,
            "userId": str(user_id),
            "status": status,
        }
        return await self._get(url, {**asked, **(changed or {})}, behind)

    async def _get(self, url: str, query: Mapping[str, str | None], behind: str) -> Answered:
        """As on the page: a plus and blanks are not escaped as a client library would."""
        pairs = (
            f"{name}={quote(value, safe='+-._~()')}"
            for name, value in query.items()
            if value is not None
        )
        for public, inside in self.led.items():
            url = url.replace(public, inside)
        whole = f"{url}{'&' if '?' in url else '?'}{'&'.join(pairs)}{behind}"
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.get(URL(whole, encoded=True)) as answer:
            return Answered(answer.status, await answer.text())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # -- the module ----------------------------------------------------------------------------

    async def read_module(self, request: web.Request) -> web.StreamResponse:
        module = self.modules.get(request.match_info["code"])
        if module is None:
            return _refused(404, "Not found")
        if request.match_info["version"] == "v4":
            return web.json_response({"success": True, "configuration": setting_of(module)})
        return web.json_response({"success": True, "integrationModule": module})

    async def edit_module(self, request: web.Request) -> web.StreamResponse:
        is_v4 = request.match_info["version"] == "v4"
        name, model = ("configuration", "Setting") if is_v4 else ("integrationModule", "Module")
        told, wrong = form_field(await request.text(), name)
        wrong = wrong or dict(faults(model, told, name))
        if not wrong and told["code"] != request.match_info["code"]:
            wrong = {f"{name}[code]": "is not the code of the address"}
        if wrong:
            return _refused(400, "Errors in the entity format", wrong)
        module = module_of(told) if is_v4 else told
        telephony = module.get("integrations", {}).get("telephony", {})
        if not (module.get("clientId") or telephony.get("clientId")):
            return _refused(400, "Errors in the entity format", {f"{name}[clientId]": "missing"})
        info = self._without_unknown(telephony)
        known = module["code"] in self.modules
        self.modules[module["code"]] = module
        said = {"success": True, **({"info": info} if info and not is_v4 else {})}
        return web.json_response(said, status=200 if known else 201)

    def _without_unknown(self, telephony: dict[str, Any]) -> dict[str, list[Any]]:
        """Users and shops that there are not are left out, and told."""
        codes, phones = telephony.get("additionalCodes", []), telephony.get("externalPhones", [])
        users = [int(row["userId"]) for row in codes if int(row["userId"]) not in self.users]
        sites = [
            row["siteCode"] for row in phones if row.get("siteCode") not in {*self.sites, None}
        ]
        telephony["additionalCodes"] = [row for row in codes if int(row["userId"]) in self.users]
        telephony["externalPhones"] = [row for row in phones if row.get("siteCode") not in sites]
        found = {"notExistUsersIds": users, "notExistSiteCodes": sites}
        return {name: values for name, values in found.items() if values}

    # -- calls ---------------------------------------------------------------------------------

    async def event(self, request: web.Request) -> web.StreamResponse:
        event, wrong = form_field(await request.text(), "event")
        wrong = wrong or dict(faults("CallEvent", event, "event"))
        if not wrong and not (event.get("codes") or event.get("userIds")):
            wrong = {"event[codes]": "nobody is named"}
        if not wrong and ("hangupStatus" in event) != (event["type"] == "hangup"):
            wrong = {"event[hangupStatus]": "goes with the end of a call"}
        if wrong:
            return _refused(400, "Errors in the entity format", wrong)
        if self.telephony is None:
            return _refused(400, "There is no active telephony")
        codes = self.codes()
        named = {*event.get("userIds", ()), *(codes.get(code) for code in event.get("codes", ()))}
        self.cards.append(event)
        self._seen_by.append((event, frozenset(named & self.users.keys())))
        strangers = {
            "notExistCodes": [code for code in event.get("codes", ()) if code not in codes],
            "notExistUsers": [one for one in event.get("userIds", ()) if one not in self.users],
        }
        shown = {name: values for name, values in strangers.items() if values}
        return web.json_response({"success": True, **shown})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.over_limit > 0:
            self.over_limit -= 1
            return _refused(503, "The API limit is exceeded")
        if (refusal := _without_key(request)) is not None:
            return refusal
        if request.content_type != "application/x-www-form-urlencoded":
            return _refused(400, "Errors in the input parameters")
        calls, wrong = self._read_calls(await request.text())
        if wrong:
            return _refused(400, "Errors in the entity format", wrong)
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

    def _read_calls(self, body: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The calls; or what is wrong with them, by place."""
        calls, wrong = form_field(body, "calls")
        if wrong:
            return [], wrong
        if not isinstance(calls, list) or not 1 <= len(calls) <= MOST_CALLS:
            return [], {"calls": f"a list of 1 to {MOST_CALLS} calls"}
        return calls, dict(self._faults_of_calls(calls))

    def _faults_of_calls(self, calls: list[Any]) -> Iterator[tuple[str, str]]:
        for place, call in enumerate(calls):
            yield from faults("Call", call, f"calls[{place}]")
            if "userId" in call and call["userId"] not in self.users:
                yield f"calls[{place}][userId]", "the user does not exist"
            if call.get("code") in self.unknown_codes:
                yield f"calls[{place}][code]", "nobody has this code"

    async def manager(self, request: web.Request) -> web.StreamResponse:
        """A manager is named who is signed in, free and has a code, or whatever they do."""
        query = request.query
        phone = query.get("phone", "").strip()
        wrong_flags = {query.get(name, "0") for name in ("details", "ignoreStatus")} - {"0", "1"}
        if not phone or wrong_flags:
            return _refused(400, "Errors in the input parameters")
        found = next((one for one in self.customers.values() if one.has(phone)), None)
        said: dict[str, Any] = {"success": True}
        manager = self.users.get(found.manager_id or 0) if found is not None else None
        code = self.code_of(manager.id) if manager is not None else None
        is_free = manager is not None and manager.online and manager.status == "free"
        if manager is not None and ((is_free and code) or query.get("ignoreStatus") == "1"):
            named = {"id": manager.id, "firstName": manager.first_name, "email": manager.email}
            said["manager"] = {**named, **({"code": code} if code else {})}
        if query.get("details") == "1":
            new = f"{self.url}/customers/add?phone={phone}"
            said["links"] = {"newCustomerLink": new}
            if found is not None:
                said["customer"] = {**found.shown(), "externalId": f"c{found.id}"}
                said["links"] |= {"customerLink": f"{self.url}/customers/{found.id}"}
        return web.json_response(said)

    # -- users and customers -------------------------------------------------------------------

    async def list_users(self, request: web.Request) -> web.StreamResponse:
        only_active = request.query.get("filter[active]") == "1"
        found = [one.shown() for one in self.users.values() if one.active or not only_active]
        return _page(request, "users", found)

    async def set_status(self, request: web.Request) -> web.StreamResponse:
        user = self.users.get(int(request.match_info["id"]))
        if user is None:
            return _refused(404, "Not found")
        form = parse_qs(await request.text(), keep_blank_values=True)
        if set(form) != {"status"} or form["status"][0] not in STATUSES:
            return _refused(400, "Errors in the input parameters", {"status": "no such status"})
        user.status = form["status"][0]
        self.told.append((user.id, user.status))
        if self.echoes:
            await self.change_status(user.id, user.status)
        return web.json_response({"success": True})

    async def list_customers(self, request: web.Request) -> web.StreamResponse:
        ids = {int(one) for one in request.query.getall("filter[ids][]", [])}
        name = request.query.get("filter[name]")
        found = [
            one.shown()
            for one in self.customers.values()
            if (not ids or one.id in ids)
            and (name is None or one.has(name) or name in (one.first_name, one.last_name))
        ]
        return _page(request, "customers", found)

    async def create_customer(self, request: web.Request) -> web.StreamResponse:
        form = parse_qs(await request.text(), keep_blank_values=True)
        if not {"customer"} <= set(form) <= {"customer", "site"}:
            return _refused(400, "Errors in the input parameters")
        told = json.loads(form["customer"][0])
        made = self.add_customer(
            told.get("firstName", ""),
            *(phone["number"] for phone in told.get("phones", [])),
            last_name=told.get("lastName", ""),
            manager_id=told.get("managerId"),
        )
        return web.json_response({"success": True, "id": made.id}, status=201)

    async def history(self, request: web.Request) -> web.StreamResponse:
        return _page(request, "history", [])

    def application(self) -> web.Application:
        app = web.Application()

        def route(method: str, path: str, handler: Handler) -> None:
            app.router.add_route(method, path, self._guarded(handler))

        app.router.add_post("/api/{version:v[45]}/telephony/calls/upload", self.upload)
        route("GET", "/api/{version:v5}/integration-modules/{code}", self.read_module)
        route("POST", "/api/{version:v5}/integration-modules/{code}/edit", self.edit_module)
        route("GET", "/api/{version:v4}/telephony/setting/{code}", self.read_module)
        route("POST", "/api/{version:v4}/telephony/setting/{code}/edit", self.edit_module)
        route("POST", "/api/{version:v[45]}/telephony/call/event", self.event)
        route("GET", "/api/v5/telephony/manager", self.manager)
        route("GET", "/api/v5/users", self.list_users)
        route("POST", "/api/v5/users/{id:[0-9]+}/status", self.set_status)
        route("GET", "/api/v5/customers", self.list_customers)
        route("GET", "/api/v5/customers/history", self.history)
        route("POST", "/api/v5/customers/create", self.create_customer)
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.asked[request.path] += 1
            if (refusal := _without_key(request)) is not None:
                return refusal
            for end, left in self.limited.items():
                if left > 0 and request.path.endswith(end):
                    self.limited[end] -= 1
                    return _refused(503, "The API limit is exceeded")
            is_form = request.content_type == "application/x-www-form-urlencoded"
            if request.method == "POST" and not is_form:
                return _refused(400, "Errors in the input parameters")
            return await handler(request)

        return guarded


@asynccontextmanager
async def retail_crm() -> AsyncIterator[RetailCrm]:
    crm = RetailCrm()
    runner = web.AppRunner(crm.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield crm
    finally:
        await crm.close()
        await runner.cleanup()


def _without_key(request: web.Request) -> web.Response | None:
    key = request.headers.get("X-API-KEY")
    if key == KEY:
        return None
    return _refused(403, f'Wrong "apiKey" value: {key}.' if key else '"apiKey" is missing.')


def _page(request: web.Request, name: str, found: list[dict[str, Any]]) -> web.Response:
    try:
        limit = int(request.query.get("limit", "20"))
        page = int(request.query.get("page", "1"))
    except ValueError:
        limit = page = 0
    if limit not in PAGE_SIZES or page < 1:
        return _refused(400, "Errors in the input parameters")
    pagination = {
        "limit": limit,
        "totalCount": len(found),
        "currentPage": page,
        "totalPageCount": -(-len(found) // limit),
    }
    part = found[(page - 1) * limit : page * limit]
    return web.json_response({"success": True, "pagination": pagination, name: part})


def _refused(status: int, message: str, errors: dict[str, str] | None = None) -> web.Response:
    said = {"success": False, "errorMsg": message, **({"errors": errors} if errors else {})}
    return web.json_response(said, status=status)
