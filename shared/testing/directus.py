"""
A real Directus as somebody's own CRM: static tokens, filters by ``_or``, 429 with Retry-After.

It is installed apart (``make real``), since its native parts are compiled at installation. Its
SQLite does not check the types of columns.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import aiohttp

from shared.testing.servers import LocalServer, NoServer

_MODULES = Path(__file__).parents[2] / "tests/real/tools/node_modules"
#: Not the ``directus`` command: that one asks the package registry for a newer release first.
_CLI = _MODULES / "@directus/api/dist/cli/run.js"
_NATIVE = _MODULES / "sqlite3/lib/binding"

_ADMIN = ("admin@example.org", "test-admin-1")
_TOKEN = "test-token-of-the-pbx"

#: Typed as people type them: Directus keeps a number as it was written.
PEOPLE: tuple[Mapping[str, str], ...] = (
    {
        "first_name": "Jane",
        "last_name": "Miller",
        "company": "Blue Lamp Ltd",
        "phone": "+12025550143",
        "mobile": "202-555-0144",
        "email": "jane@example.org",
        "tier": "gold",
    },
    {
        "first_name": "José",
        "last_name": 'O\'Neill "Joe"',
        "company": "Kaffee & Co",
        "phone": "(202) 555-0150",
        "mobile": "+44 20 7946 0958",
        "email": "jose@example.org",
        "tier": "silver",
    },
    {
        "first_name": "Ann",
        "last_name": "Example",
        "company": "Blue Lamp Ltd",
        "phone": "+12025550143",
        "mobile": "+4930901820",
        "email": "ann@example.org",
        "tier": "",
    },
)
#: Users besides the one of callmesh and the administrator: first name, last name, e-mail.
COLLEAGUES = (("Anna", "Agent", "anna@example.org"),)
_CONTACTS = ("first_name", "last_name", "company", "phone", "mobile", "email", "tier")
_CALLS = {
    "call_id": "string",
    "contact": "integer",
    "direction": "string",
    "number": "string",
    "extension": "string",
    "result": "string",
    "started_at": "timestamp",
    "duration": "integer",
    "recording_url": "string",
}

_FLOW = {
    "name": "tell callmesh",
    "status": "active",
    "trigger": "event",
    "options": {
        "type": "action",
        "scope": ["items.create", "items.update", "items.delete"],
        "collections": ["contacts"],
    },
}


@dataclass(frozen=True, slots=True)
class Directus:
    """
    Collections ``contacts`` and ``calls`` (``calls.contact`` refers to a contact, ``calls.call_id``
    is unique), ``PEOPLE`` with ids from 1, ``COLLEAGUES``, and the user of *token*, who reads and
    writes both collections and reads users.
    """

    url: str
    """Without a slash at its end."""
    token: str = field(repr=False)


@asynccontextmanager
async def directus(
    *, requests_per_second: int | None = None, webhook: str | None = None
) -> AsyncIterator[Directus]:
    """
    Starts in about 7 s. With *requests_per_second* it answers the rest of a second with 429. A
    flow posts each change of a contact to the URL *webhook*, which may be at 127.0.0.1, as JSON:
    ``event`` (``contacts.items.update``), ``keys`` (a list of ids, as text or as numbers; ``key``
    where a contact is made), ``payload`` (what changed).
    Raises NoServer where it is not installed.
    """
    server = LocalDirectus()
    try:
        await asyncio.to_thread(server.start)
        await _seed(server.url, webhook)
        if requests_per_second is not None:
            await asyncio.to_thread(server.stop)
            server.limit = requests_per_second
            await asyncio.to_thread(server.start)
        yield Directus(server.url, _TOKEN)
    finally:
        await asyncio.to_thread(server.close)


class LocalDirectus(LocalServer):
    """With a SQLite file in its folder; an administrator and nothing else in it."""

    name = "directus"

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not _CLI.is_file() or not _NATIVE.is_dir():
            raise NoServer("Directus is not installed: `make real` installs it for Node 18 or 20")
        super().__init__()
        self._node = node
        self.limit: int | None = None
        """Requests a second and address; None for no limit."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _launch(self) -> None:
        if not (self.folder / "data.db").exists():
            self.process = self._run([self._node, str(_CLI), "bootstrap"], self._environment())
            if self.process.wait(self._start_seconds) != 0:
                raise RuntimeError(f"{self.name} has no database: {self._last_words()}")
        self.process = self._run([self._node, str(_CLI), "start"], self._environment())

    def _serves(self) -> bool:
        try:
            with urlopen(f"{self.url}/server/ping", timeout=1) as answer:  # noqa: S310  our own URL
                return bool(answer.read() == b"pong")
        except (URLError, OSError):
            return False

    def _environment(self) -> dict[str, str]:
        limited = self.limit is not None
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "PUBLIC_URL": self.url,
            "KEY": "callmesh-test-key",
            "SECRET": "callmesh-test-secret",
            "ADMIN_EMAIL": _ADMIN[0],
            "ADMIN_PASSWORD": _ADMIN[1],
            "DB_CLIENT": "sqlite3",
            "DB_FILENAME": str(self.folder / "data.db"),
            "STORAGE_LOCATIONS": "local",
            "STORAGE_LOCAL_ROOT": str(self.folder),
            "EXTENSIONS_PATH": str(self.folder / "extensions"),
            "CACHE_ENABLED": "false",
            "TELEMETRY": "false",
            "LOG_LEVEL": "error",
            "RATE_LIMITER_ENABLED": "true" if limited else "false",
            "RATE_LIMITER_POINTS": str(self.limit or 1),
            "RATE_LIMITER_DURATION": "1",
            # Else a flow may not call an address of this machine.
            "IMPORT_IP_DENY_LIST": "",
        }


async def _seed(url: str, webhook: str | None) -> None:
    async with aiohttp.ClientSession(raise_for_status=_explain) as session:

        async def post(path: str, body: Any) -> Any:
            async with session.post(url + path, json=body) as answer:
                return (await answer.json())["data"] if answer.status != 204 else None

        email, password = _ADMIN
        signed_in = await post("/auth/login", {"email": email, "password": password})
        session.headers["Authorization"] = f"Bearer {signed_in['access_token']}"

        await post("/collections", _collection("contacts", dict.fromkeys(_CONTACTS, "string")))
        await post("/collections", _collection("calls", _CALLS))
        await post(
            "/relations",
            {"collection": "calls", "field": "contact", "related_collection": "contacts"},
        )
        role = await post("/roles", {"name": "PBX", "admin_access": False, "app_access": False})
        await post("/permissions", list(_permissions(role["id"])))
        await post(
            "/users",
            {"first_name": "PBX", "email": "pbx@example.org", "role": role["id"], "token": _TOKEN},
        )
        for first, last, email in COLLEAGUES:
            await post("/users", {"first_name": first, "last_name": last, "email": email})
        await post("/items/contacts", [dict(person) for person in PEOPLE])
        if webhook is not None:
            flow = await post("/flows", _FLOW)
            step = await post("/operations", {"flow": flow["id"], **_step(webhook)})
            async with session.patch(f"{url}/flows/{flow['id']}", json={"operation": step["id"]}):
                pass


async def _explain(answer: aiohttp.ClientResponse) -> None:
    if not answer.ok:
        raise RuntimeError(f"Directus: {answer.status} at {answer.url.path}: {await answer.text()}")


def _collection(name: str, fields: Mapping[str, str]) -> dict[str, Any]:
    key = {
        "field": "id",
        "type": "integer",
        "schema": {"is_primary_key": True, "has_auto_increment": True},
    }
    columns = [
        {"field": column, "type": kind, "schema": {"is_unique": column == "call_id"}, "meta": {}}
        for column, kind in fields.items()
    ]
    return {"collection": name, "schema": {}, "meta": {}, "fields": [key, *columns]}


def _step(webhook: str) -> dict[str, Any]:
    return {
        "key": "tell",
        "type": "request",
        "position_x": 1,
        "position_y": 1,
        "options": {"method": "POST", "url": webhook, "body": "{{$trigger}}"},
    }


def _permissions(role: str) -> Iterator[Mapping[str, Any]]:
    may = [(c, a) for c in ("contacts", "calls") for a in ("create", "read", "update")]
    for collection, action in [*may, ("directus_users", "read")]:
        yield {"role": role, "collection": collection, "action": action, "fields": ["*"]}
