"""
A real Tryton with its module ``party``: JSON-RPC, a session from a login, errors with status 200.

It is installed apart (``make real``), in an environment of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from shared.testing.servers import LocalServer, NoServer

_BIN = Path(__file__).parents[2] / ".venv/tryton/bin"
_DATABASE = "crm"
_ADMIN_PASSWORD = "test-admin-1"
_PBX = ("pbx", "test-pbx-12345")

#: Names and numbers by their kind. Tryton refuses a number that is none, and needs the ``+``.
PEOPLE: Mapping[str, Mapping[str, str]] = {
    "Jane Miller": {
        "phone": "+1 202 555 0143",
        "mobile": "+12025550144",
        "email": "jane@example.org",
    },
    'José O\'Neill "Joe"': {"mobile": "+44 20 7946 0958", "email": "jose@example.org"},
    "Blue Lamp Ltd": {"phone": "+12025550143", "website": "http://example.org"},
}
#: Users besides the one of callmesh and ``admin``: login, name, e-mail.
COLLEAGUES = (("anna", "Anna Agent", "anna@example.org"),)


@dataclass(frozen=True, slots=True)
class Tryton:
    """*user* is in no group: it reads users, and reads and writes parties and their notes."""

    url: str
    """Without a slash at its end; JSON-RPC is at ``{url}/{database}/rpc/``."""
    database: str
    user: str
    password: str = field(repr=False)


@asynccontextmanager
async def tryton() -> AsyncIterator[Tryton]:
    """Starts in about 10 s, with ``PEOPLE``. Raises NoServer where it is not installed."""
    server = LocalTryton()
    try:
        await asyncio.to_thread(server.start)
        await _seed(f"{server.url}/{_DATABASE}/rpc/")
        yield Tryton(server.url, _DATABASE, *_PBX)
    finally:
        await asyncio.to_thread(server.close)


class LocalTryton(LocalServer):
    """With a SQLite file in its folder; an administrator and nothing else in it."""

    name = "tryton"

    def __init__(self) -> None:
        if not (_BIN / "trytond").is_file():
            raise NoServer("Tryton is not installed: `make real` installs it")
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _launch(self) -> None:
        config = self.folder / "trytond.conf"
        if not config.exists():
            config.write_text(
                f"[database]\nuri = sqlite://\npath = {self.folder}\n"
                f"[web]\nlisten = 127.0.0.1:{self.port}\n"
            )
            self._make_database(config)
        self.process = self._run(
            [str(_BIN / "trytond"), "-c", str(config), "-d", _DATABASE], self._environment()
        )

    def _make_database(self, config: Path) -> None:
        (self.folder / f"{_DATABASE}.sqlite").touch()  # Tryton fills what is there
        (self.folder / "password").write_text(_ADMIN_PASSWORD)
        command = [str(_BIN / "trytond-admin"), "-c", str(config), "-d", _DATABASE]
        command += ["--all", "--update", "party", "--activate-dependencies", "--administrator"]
        command += ["--email", "admin@example.org"]
        self.process = self._run(command, self._environment())
        if self.process.wait(self._start_seconds) != 0:
            raise RuntimeError(f"{self.name} has no database: {self._last_words()}")

    def _serves(self) -> bool:
        """It listens when its modules are loaded."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "TRYTONPASSFILE": str(self.folder / "password"),
        }


async def _seed(endpoint: str) -> None:
    admin = aiohttp.encode_basic_auth("admin", _ADMIN_PASSWORD)
    async with aiohttp.ClientSession(headers={"Authorization": admin}) as session:

        async def create(model: str, *records: Mapping[str, Any]) -> None:
            call = {"id": 1, "method": f"model.{model}.create", "params": [records, {}]}
            async with session.post(endpoint, json=call) as answer:
                answer.raise_for_status()
                if error := (await answer.json()).get("error"):
                    raise RuntimeError(f"Tryton refused a {model}: {error}")

        login, password = _PBX
        await create("res.user", {"name": "PBX", "login": login, "password": password})
        for login, name, email in COLLEAGUES:
            await create("res.user", {"name": name, "login": login, "email": email})
        for name, reached in PEOPLE.items():
            ways = [{"type": kind, "value": value} for kind, value in reached.items()]
            await create("party.party", {"name": name, "contact_mechanisms": [["create", ways]]})
