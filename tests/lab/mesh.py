"""callmesh under the lab's Asterisk: its site, the people in the CRM, the mesh in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.contracts.calls import CallPage, CallRecord
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
)
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SandboxCrm
from shared.sandbox.demo import MeshApi
from shared.sandbox.people import USERS
from shared.sandbox.site import TENANT
from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.server import AMI_PORT, PHONES, SECRET, Asterisk
from tests.lab.table import Row

PBX = "berlin"
CRM = "zoho"
AGI_PORT, HTTP_PORT = 4573, 8080
#: Logged in at the PBX: ingest reads events, dialer gives orders.
MANAGERS = 2
#: Who is in the CRM has it, and nobody else.
_TIER = "LAB"


def user_of(extension: int) -> str:
    """The agent's user id in the CRM: one half of them is Anna there, the other Ben."""
    return str(USERS[extension % 2]["id"])


def site(rows: Iterable[Row], *, crm_port: int, pbx_host: str) -> str:
    """A site file: every phone has an agent, every number of the table its rule."""
    crm_url = f"http://127.0.0.1:{crm_port}"
    tenant: dict[str, Any] = {
        "tenant": TENANT,
        "region": "GB",
        "pbx": [
            {
                "name": PBX,
                "kind": "asterisk",
                "host": pbx_host,
                "port": AMI_PORT,
                "username": "callmesh",
                "secret": SECRET,
                "trunks": ["trunk"],
                "ring_agent": "4s",
                "askers": ["127.0.0.0/8"],
            }
        ],
        "crm": [
            {
                "name": CRM,
                "template": "zoho",
                "parameters": {
                    **dict.fromkeys(("api_url", "accounts_url", "web_url"), crm_url),
                    "organisation": "20105630807",
                },
                "credentials": {
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "refresh_token": REFRESH_TOKEN,
                },
                "modules": ["Contacts"],
                "journal": {"after": "300ms"},
            }
        ],
        "agents": [
            {"extension": str(number), "users": {CRM: user_of(number)}} for number in (*PHONES, 199)
        ],
        "rules": [
            {
                "name": f"rule-{did}",
                "dids": [did],
                "crm": CRM,
                "field": "Tier",
                "rows": [{"operator": "=", "value": _TIER, "destination": destination}],
                "default": other,
                # The machine may be busy with other tests; the dialplan waits for 2.5 s.
                "within": "2s",
            }
            for row in rows
            for did, destination, other in row.rules
        ],
    }
    return yaml.safe_dump({"version": 1, "tenants": [tenant]})


def people(crm: SandboxCrm, rows: Iterable[Row]) -> None:
    """The contacts of the table."""
    for row in rows:
        if row.contact is not None:
            first, last = row.contact.split()
            contact = {
                "id": f"829914000000600{row.outside_number[-3:]}",
                "First_Name": first,
                "Last_Name": last,
                "Full_Name": row.contact,
                "Phone": f"+{row.outside_number.lstrip('+')}",
                "Tier": _TIER,
            }
            crm.put("Contacts", contact)


@dataclass
class LabMesh:
    """callmesh from outside: by its HTTP API, and by what arrived at the CRM."""

    crm: SandboxCrm
    session: aiohttp.ClientSession
    url: str
    key: SecretStr
    #: By extension, what the agent's screen was told.
    screens: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def api(self) -> MeshApi:
        return MeshApi(self.session, self.url, self.key.get_secret_value())

    async def calls(self) -> Sequence[CallRecord]:
        """All that there are, newest first."""
        headers = {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        async with self.session.get(
            f"{self.url}/v1/calls", params={"limit": "500"}, headers=headers
        ) as answer:
            if answer.status != HTTPStatus.OK:
                return ()
            return CallPage.model_validate_json(await answer.read()).calls

    async def follow(self, extension: str) -> None:
        """The agent's screen, until it is cancelled or the mesh ends."""
        with suppress(aiohttp.ClientError):
            async for event in self.api.screen(extension):
                self.screens.setdefault(extension, []).append(event)

    def shown(self, record: CallRecord) -> dict[str, list[dict[str, Any]]]:
        """What the screens were told of this call, by extension."""
        return {
            extension: [event for event in events if event["call_id"] == record.call_id]
            for extension, events in self.screens.items()
        }

    def entry(self, record: CallRecord) -> str:
        """Type, contact, agent and owner of the call's entry in the CRM; ``-``: there is none."""
        ids = {entry.entry_id for entry in record.entries}
        found = [entry for entry in self.crm.records("Calls") if entry["id"] in ids]
        return "; ".join(self._in_words(entry) for entry in found) or "-"

    def _in_words(self, entry: dict[str, Any]) -> str:
        linked, owner = ((entry.get(link) or {}).get("id") for link in ("Who_Id", "Owner"))
        names = [c["Full_Name"] for c in self.crm.records("Contacts") if c["id"] == linked]
        owners = [user["full_name"] for user in USERS if user["id"] == owner]
        agent = entry["Description"].partition(" - ")[0]
        return ", ".join((entry["Call_Type"], *(names or ["nobody"]), agent, *(owners or ["-"])))


@asynccontextmanager
async def running_here(
    folder: Path, rows: Sequence[Row], network: LoopbackNetwork
) -> AsyncIterator[tuple[LabMesh, Asterisk, Platform]]:
    """
    The mesh in this process, on the embedded backends, and its PBX; both managers logged in.
    The environment says where FastAGI listens: at ``agi_environment``.
    """
    crm = SandboxCrm(folder / "crm.db")
    people(crm, rows)
    choice = Choice(
        MeshSettings(
            data_dir=folder / "mesh",
            settings_poll=timedelta(milliseconds=100),
            drain=timedelta(seconds=2),
        ),
        AmqpSettings(),
        MongoSettings(),
        NetSettings(allow="127.0.0.0/8"),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(crm.stop)
        text = site(rows, crm_port=await crm.start(), pbx_host=network.pbx)
        platform = await stack.enter_async_context(open_platform(choice, consumers=consumers()))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        key = await prepare(platform, text)
        url = f"http://{network.mesh}:{HTTP_PORT}"
        agi = f"{network.mesh}:{AGI_PORT}"
        pbx = await stack.enter_async_context(switched_on(network, agi=agi, http=url, key=key))
        state = await stack.enter_async_context(
            running(
                [entry.build for entry in CATALOG.values()],
                platform,
                http=HttpSettings(host=network.mesh, port=HTTP_PORT),
                ops=OpsSettings(port=0),
                drain=choice.mesh.drain,
            )
        )
        await eventually(lambda: pbx.managers == MANAGERS, within=30)
        yield LabMesh(crm, session, url, key), pbx, platform
        assert state.failed is None


def agi_environment(network: LoopbackNetwork) -> dict[str, str]:
    return {
        "CALLMESH_ROUTING_AGI_HOST": network.mesh,
        "CALLMESH_ROUTING_AGI_PORT": str(AGI_PORT),
    }


@asynccontextmanager
async def switched_on(
    network: LoopbackNetwork, *, agi: str, http: str, key: SecretStr
) -> AsyncIterator[Asterisk]:
    """The PBX, whose dialplan asks at *agi*, and where it asks by HTTP at *http* with *key*."""
    settings = {
        "AGI": agi,
        "URL": f"{http}/v1/route",
        "KEY": key.get_secret_value(),
        "TENANT": TENANT,
        "NAME": PBX,
    }
    pbx = Asterisk(network, settings)
    try:
        await asyncio.to_thread(pbx.start)
        yield pbx
    finally:
        await asyncio.to_thread(pbx.close)
