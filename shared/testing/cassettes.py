"""
Templates against recorded answers: a server that wants exactly the requests of a cassette and
gives its answers, and what a connector makes of them.

A cassette is a YAML file: a connection, one thing to do, the exchanges, what shall come of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import yaml
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.clock import Clock, SystemClock
from shared.contracts.agents import AgentStatus
from shared.contracts.calls import Direction, Disposition
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import ContactCard
from shared.crm.connections import Account, CrmConnections
from shared.crm.engine.changes import HookRequest
from shared.crm.engine.connector import TemplateConnector
from shared.crm.glance import Glance
from shared.crm.port import CallCard, JournalEntry, NewContact, TelephonyModule
from shared.crm.registry import Templates
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.net.requests import RequestNotes
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

_WITHIN = timedelta(seconds=10)
#: Stands for the replay server's address in a cassette.
_SERVER = "{server}"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Do(StrEnum):
    CHECK = "check"
    SEARCH = "search"
    USERS = "users"
    MANAGER = "manager"
    CREATE = "create"
    JOURNAL = "journal"
    UPDATE = "update"
    FIND = "find"
    HOOK = "hook"
    POLL = "poll"
    #: The CRM's telephony module is registered, and read.
    REGISTER = "register"
    MODULE = "module"
    CARD = "card"
    #: Requests of the CRM are read: a click, a user's status.
    CLICK = "click"
    HEARD = "heard"
    #: The CRM is told a user's status.
    TELL = "tell"
    #: The page for a new contact.
    NEW_PAGE = "new_page"


class Answer(Strict):
    status: int = 200
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    text: str | None = None

    @property
    def body(self) -> bytes:
        if self.text is not None:
            return self.text.encode()
        return b"" if self.json_body is None else json.dumps(self.json_body).encode()


class Exchange(Strict):
    ask: str
    query: dict[str, str | list[str]] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    form: dict[str, str | list[str]] | None = None
    form_json: dict[str, Any] | None = None
    text: str | None = None
    answer: Answer = Answer()


class ConnectionIn(Strict):
    parameters: dict[str, str] = Field(default_factory=dict)
    credentials: dict[str, str] = Field(default_factory=dict)
    region: str | None = None
    zone: str = "UTC"
    phone_formats: tuple[str, ...] = ()


class Cassette(Strict):
    about: str
    connection: ConnectionIn = ConnectionIn()
    do: Do
    given: dict[str, Any] = Field(default_factory=dict, alias="with")
    exchanges: list[Exchange] = Field(default_factory=list)
    any_order: bool = False
    expect: dict[str, Any] = Field(default_factory=dict)


def read_cassette(file: Path) -> Cassette:
    return Cassette.model_validate(yaml.safe_load(file.read_text()))


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came; *target* is its path and query, not decoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Replay:
    """Answers each request by the exchange that wants it; what nobody wants gets 599."""

    def __init__(self, cassette: Cassette) -> None:
        self._left = list(cassette.exchanges)
        self._any_order = cassette.any_order
        self.faults: list[str] = []
        self.seen: list[Seen] = []
        self.url = ""

    @property
    def left(self) -> list[str]:
        return [exchange.ask for exchange in self._left]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The server's address."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self.url
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = dict(request.headers)
        self.seen.append(Seen(request.method, request.raw_path, headers, body))
        looked_at = self._left if self._any_order else self._left[:1]
        reasons = []
        for exchange in looked_at:
            reason = self._differs(exchange, request, body)
            if reason is None:
                self._left.remove(exchange)
                answer = exchange.answer
                headers = {
                    name: value.replace(_SERVER, self.url) for name, value in answer.headers.items()
                }
                text = answer.body.replace(_SERVER.encode(), self.url.encode())
                if text and "Content-Type" not in headers:
                    headers["Content-Type"] = "application/json"
                return web.Response(status=answer.status, headers=headers, body=text or None)
            reasons.append(f"{exchange.ask}: {reason}")
        self.faults.append(
            f"unwanted {request.method} {unquote(request.raw_path)} {body.decode()}"
            f" — {'; '.join(reasons) or 'nothing more is wanted'}"
        )
        return web.Response(status=599)

    def _differs(self, exchange: Exchange, request: web.Request, body: bytes) -> str | None:
        method, _, path = exchange.ask.partition(" ")
        if (request.method, request.path) != (method, path):
            return f"wanted {exchange.ask}"
        found = _grouped(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        wanted = _with_server(exchange.query, self.url)
        if found != wanted:
            return f"query {found}, wanted {wanted}"
        for name, value in exchange.headers.items():
            if request.headers.get(name) != value.replace(_SERVER, self.url):
                return f"header {name}: {request.headers.get(name)}, wanted {value}"
        return self._body_differs(exchange, body)

    def _body_differs(self, exchange: Exchange, body: bytes) -> str | None:
        if exchange.json_body is not None:
            try:
                sent = json.loads(body)
            except ValueError:
                return "the body is no JSON"
            wanted = _with_server(exchange.json_body, self.url)
            return None if sent == wanted else f"json {sent}, wanted {wanted}"
        if exchange.form is not None or exchange.form_json is not None:
            form = _grouped(parse_qsl(body.decode(), keep_blank_values=True))
            for name, structure in (exchange.form_json or {}).items():
                text = form.pop(name, None)
                if not isinstance(text, str) or json.loads(text) != structure:
                    return f"form {name}: {text}, wanted {structure}"
            wanted = _with_server(exchange.form or {}, self.url)
            return None if form == wanted else f"form {form}, wanted {wanted}"
        if exchange.text is not None:
            return None if body.decode() == exchange.text else f"body {body.decode()}"
        return f"a body: {body.decode()}" if body else None


class Recorder:
    """Connectors over a store of their own, for one cassette."""

    def __init__(self, connections: CrmConnections, box: SecretBox, templates: Templates) -> None:
        self.connections = connections
        self._box = box
        self.templates = templates

    def account(self, template: str, given: ConnectionIn, url: str) -> Account:
        return Account(
            tenant="acme",
            name="crm",
            template=template,
            region=given.region,
            zone=given.zone,
            parameters=tuple(
                sorted((n, v.replace(_SERVER, url)) for n, v in given.parameters.items())
            ),
            credentials=tuple(
                sorted(
                    (n, self._box.seal(SecretStr(v.replace(_SERVER, url))))
                    for n, v in given.credentials.items()
                )
            ),
            phone_formats=given.phone_formats,
        )


@asynccontextmanager
async def recorder(
    folder: Path | None = None, *, clock: Clock | None = None, notes: RequestNotes | None = None
) -> AsyncIterator[Recorder]:
    """*folder*: of templates beside those that ship; *notes*: where each request is noted."""
    clock = clock or SystemClock()
    db = SqliteFile(None)
    await db.open()
    box = SecretBox([new_key()])
    templates = Templates(folder)
    try:
        guard = AddressGuard(networks("127.0.0.0/8", setting="test"))
        async with HttpClient(guard) as http:
            connections = CrmConnections(
                SqliteStore(db, clock),
                http=http,
                secrets=box,
                clock=clock,
                metrics=Metrics(),
                templates=templates,
                # What is sent must not hang on how busy the machine is.
                glance=Glance(clock, within=_WITHIN),
                notes=notes,
            )
            try:
                yield Recorder(connections, box, templates)
            finally:
                await connections.close()
    finally:
        await db.close()


async def play(  # noqa: C901, PLR0912  a case for each thing that a cassette can do
    connector: TemplateConnector, cassette: Cassette, region: str | None
) -> dict[str, Any]:
    """What came of it, in the words of ``expect``. Raises: MeshError."""
    given = cassette.given
    match cassette.do:
        case Do.CHECK:
            await connector.check()
            return {}
        case Do.SEARCH:
            answers = await connector.search(
                parse(given["number"], region),
                modules=given.get("modules", ()),
                fields=given.get("fields", ()),
                card=given.get("card", True),
                within=_WITHIN,
            )
            return {
                "contacts": [card.model_dump(mode="json") for a in answers for card in a.contacts],
                "refused": [a.module for a in answers if a.refused is not None],
            }
        case Do.USERS:
            users = await connector.list_users(within=_WITHIN)
            return {"users": [user.model_dump(mode="json") for user in users]}
        case Do.MANAGER:
            manager = await connector.find_manager(parse(given["number"], region), within=_WITHIN)
            if manager is None:
                return {"manager": None}
            return {"user_id": manager.user_id, "extension": manager.extension}
        case Do.CREATE:
            new = NewContact(
                module=given["module"],
                number=parse(given["number"], region),
                display_name=given.get("display_name"),
                owner_id=given.get("owner_id"),
            )
            card = await connector.create_contact(new, within=_WITHIN)
            return card.model_dump(mode="json")
        case Do.JOURNAL:
            return {"entry_id": await connector.write_entry(entry_of(given), within=_WITHIN)}
        case Do.UPDATE:
            changed = await connector.update_entry(
                given["entry_id"], entry_of(given), within=_WITHIN
            )
            return {"changed": changed}
        case Do.FIND:
            return {"entry_id": await connector.find_entry(entry_of(given), within=_WITHIN)}
        case Do.HOOK:
            request = HookRequest(
                given.get("method", "POST"),
                given.get("url", "https://mesh.example/v1/crm/crm/hook"),
                given.get("query", {}),
                {name.lower(): value for name, value in given.get("headers", {}).items()},
                given["body"].encode(),
            )
            now = datetime.fromisoformat(str(given.get("now", "2026-11-21T12:00:00+00:00")))
            connector.verify_hook(request, now=now)
            return connector.read_hook(request.body).model_dump(mode="json")
        case Do.POLL:
            since = datetime.fromisoformat(given["since"])
            found = await connector.poll_changes(since, within=_WITHIN)
            return {"changes": [change.model_dump(mode="json") for change in found]}
        case Do.NEW_PAGE:
            page = await connector.new_contact_page(
                parse(given["number"], region), given.get("display_name"), given.get("modules", ())
            )
            return {"page_url": page}
        case _:
            return await _play_telephony(connector, cassette)


async def _play_telephony(connector: TemplateConnector, cassette: Cassette) -> dict[str, Any]:
    given = cassette.given
    match cassette.do:
        case Do.REGISTER:
            report = await connector.register_module(module_of(given), within=_WITHIN)
            return {"registered": report.registered, "unknown": list(report.unknown)}
        case Do.MODULE:
            report = await connector.read_module(module_of(given), within=_WITHIN)
            return {"registered": report.registered, "differs": list(report.differs)}
        case Do.CARD:
            return {"unreached": list(await connector.show_card(card_of(given), within=_WITHIN))}
        case Do.CLICK:
            return asdict(connector.read_click(given["query"]))
        case Do.HEARD:
            return asdict(connector.read_status(given["query"], given.get("words", {})))
        case Do.TELL:
            word = connector.status_word(AgentStatus(given["status"]), given.get("words", {}))
            if word is not None:
                await connector.tell_status(
                    given["user"], word, extension=given.get("extension", "101"), within=_WITHIN
                )
            return {"word": word}
        case _:
            raise AssertionError(cassette.do)


def module_of(given: Mapping[str, Any]) -> TelephonyModule:
    """With addresses and an id that are no secrets in a cassette."""
    own: dict[str, Any] = {
        "code": "callmesh",
        "title": "callmesh",
        "logo": None,
        "client_id": "client-0001",
        "dial_url": "https://mesh.example/v1/crm-calls/acme.retail.dialsecret00001/dial",
        "status_url": "https://mesh.example/v1/crm-calls/acme.retail.dialsecret00001/status",
        "settings_url": None,
        "codes": {},
        "shops": {},
        "editable": False,
    }
    return TelephonyModule(**{**own, **given})


def card_of(given: Mapping[str, Any]) -> CallCard:
    contact = given.get("contact")
    disposition = given.get("disposition")
    return CallCard(
        moment=CardMoment(given["moment"]),
        call_id=given.get("call_id", "call-0001"),
        direction=Direction(given.get("direction", "inbound")),
        number=given["number"],
        own_number=given.get("own_number"),
        extensions=tuple(given["extensions"]),
        users=given.get("users", {}),
        disposition=Disposition(disposition) if disposition else None,
        contact=ContactCard(connection="crm", **{"display_name": "", **contact})
        if contact
        else None,
    )


def entry_of(given: Mapping[str, Any]) -> JournalEntry:
    contact = given.get("contact")
    return JournalEntry(
        reference=given.get("reference", "ref-0001"),
        direction=Direction(given["direction"]),
        disposition=Disposition(given["disposition"]),
        started_at=datetime.fromisoformat(str(given["started_at"])),
        ended_at=datetime.fromisoformat(str(given["ended_at"])),
        talk_time=timedelta(seconds=given.get("talk_s", 0)),
        wait_time=timedelta(seconds=given.get("wait_s", 0)),
        number=given["number"],
        dialled=given.get("dialled"),
        extension=given.get("extension"),
        agent_name=given.get("agent_name"),
        owner_id=given.get("owner_id"),
        contact=ContactCard(connection="crm", **{"display_name": "", **contact})
        if contact
        else None,
        recording=given.get("recording"),
        queue=given.get("queue"),
        agent_email=given.get("agent_email"),
    )


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Where *found* is not as *wanted* says; what *wanted* does not name may be anything."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return [
            what
            for name, value in wanted.items()
            for what in differences(value, found.get(name), f"{at}.{name}")
        ]
    if isinstance(wanted, list) and isinstance(found, list | tuple):
        if len(wanted) != len(found):
            return [f"{at}: {len(found)} of {len(wanted)}: {found}"]
        return [
            what
            for place, value in enumerate(wanted)
            for what in differences(value, found[place], f"{at}.{place}")
        ]
    return [] if wanted == found else [f"{at}: {found!r}, wanted {wanted!r}"]


def _grouped(pairs: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(known := found[name], list):
            known.append(value)
        else:
            found[name] = [known, value]
    return found


def _with_server(value: Any, url: str) -> Any:
    if isinstance(value, str):
        return value.replace(_SERVER, url)
    if isinstance(value, Mapping):
        return {_with_server(n, url): _with_server(v, url) for n, v in value.items()}
    if isinstance(value, list):
        return [_with_server(item, url) for item in value]
    return value
