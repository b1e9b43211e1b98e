"""
Stand-ins for CRMs, made by Prism from their OpenAPI descriptions: credentials, types, enumerations,
missing and unknown body fields are checked, and an answer that fits the description is given. They
keep no state and know no token endpoints, limits, unknown query parameters, unknown form fields or
JSON inside a form.

Our own descriptions are in ``tests/data/crm-specs``. The vendors' may not be copied: they are read
from the folder that ``CALLMESH_TEST_VENDOR_SPECS`` names, and only then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from shared.testing.servers import LocalServer, NoServer

VENDOR_SPECS = "CALLMESH_TEST_VENDOR_SPECS"
OWN = ("bitrix24", "hubspot", "retailcrm", "salesforce")
VENDORS = ("pipedrive", "sugarcrm", "zendesk", "zoho")

_ROOT = Path(__file__).parents[2]
_OWN_SPECS = _ROOT / "tests" / "data" / "crm-specs"
_CLI = _ROOT / "tests/tools/node_modules/@stoplight/prism-cli/dist/index.js"
_ENVIRONMENT: Mapping[str, str] = os.environ  # noqa: TID251  the tests' own setting


def spec_for(name: str, environment: Mapping[str, str] = _ENVIRONMENT) -> Path | None:
    """
    The description that stands in for the CRM *name*; None for a vendor's that is not to be had
    because ``CALLMESH_TEST_VENDOR_SPECS`` is not set. Raises FileNotFoundError where it is set and its
    folder lacks the file, ValueError for a CRM that has no description.
    """
    if name in OWN:
        return _OWN_SPECS / f"{name}.yaml"
    if name not in VENDORS:
        raise ValueError(f"there is no description of {name!r}; there are {sorted(OWN + VENDORS)}")
    told = environment.get(VENDOR_SPECS)
    if not told:
        return None
    spec = _ROOT / told / f"{name}.yaml"  # an absolute folder stays what it is
    if not spec.is_file():
        raise FileNotFoundError(f"{VENDOR_SPECS} names {told}, which has no {spec.name}")
    return spec


def specs_at_hand(environment: Mapping[str, str] = _ENVIRONMENT) -> tuple[str, ...]:
    """The names to test: ours always, all of the vendors' where ``CALLMESH_TEST_VENDOR_SPECS`` is set."""
    return OWN + VENDORS if environment.get(VENDOR_SPECS) else OWN


@asynccontextmanager
async def prism(spec: Path) -> AsyncIterator[str]:
    """
    Serves *spec* and yields the base URL, without a slash at its end: a path of the description
    follows it. Starts in 2 to 3 s. Raises NoServer where Node or Prism is not installed.
    """
    server = LocalPrism(spec)
    try:
        await asyncio.to_thread(server.start)
        yield server.url
    finally:
        await asyncio.to_thread(server.close)


class LocalPrism(LocalServer):
    """One process for one description."""

    name = "prism"

    def __init__(self, spec: Path) -> None:
        node = shutil.which("node")
        if node is None or not _CLI.is_file():
            raise NoServer(
                "Prism is not installed: `make setup` installs it for Node 18.20 or newer"
            )
        if not spec.is_file():
            raise FileNotFoundError(f"there is no description at {spec}")
        super().__init__()
        self._node, self._spec = node, spec.resolve()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _launch(self) -> None:
        # No --errors: it judges the answers that Prism makes up, too, and good requests become 500.
        listen = ("--host", "127.0.0.1", "--port", str(self.port))
        self.process = self._run(
            [self._node, str(_CLI), "mock", *listen, str(self._served())],
            {"PATH": "/usr/bin:/bin", "NO_COLOR": "1", "HOME": str(self.folder)},
        )

    def _served(self) -> Path:
        """
        The description with its OAuth 2 schemes as a key in ``Authorization``: Prism knows only
        ``Bearer`` there, vendors have words of their own (``Zoho-oauthtoken``).
        """
        described = yaml.safe_load(self._spec.read_text())
        schemes = described.get("components", {}).get("securitySchemes", {})
        own_words = [name for name, scheme in schemes.items() if scheme.get("type") == "oauth2"]
        if not own_words:
            return self._spec
        for name in own_words:
            schemes[name] = {"type": "apiKey", "in": "header", "name": "Authorization"}
        served = self.folder / self._spec.name
        served.write_text(yaml.safe_dump(described, sort_keys=False))
        return served

    def _serves(self) -> bool:
        """It listens when the description has been read."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True
