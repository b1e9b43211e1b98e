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
from shared.clock import SystemClock
from shared.contracts.agents import AgentStatus
from shared.contracts.calls import CallPage, CallRecord
from shared.contracts.routing import RouteDecision
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
from shared.site.rules.hours import DAYS
from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.server import AMI_PORT, PHONES, SECRET, Asterisk
from tests.lab.table import BELOW, Row

PBX = "berlin"
CRM = "zoho"
AGI_PORT, HTTP_PORT = 4573, 8080
#: Logged in at the PBX: ingest reads events, dialer gives orders.
MANAGERS = 2
#: Who is in the CRM has it, and nobody else.
_TIER = "LAB"
#: By extension, users of the CRM who sit at one phone alone: whoever is responsible for a customer.
OWN_USERS: dict[int, dict[str, Any]] = {
    extension: {"id": f"829914000000121{extension}", "full_name": name, "email": email}
    for extension, name, email in (
        (133, "Mona Manager", "mona@sandbox.example"),
        (134, "Moritz Midcall", "moritz@sandbox.example"),
        (136, "Paula Pause", "paula@sandbox.example"),
    )
}


def user_of(extension: int) -> dict[str, Any]:
    """The agent's user in the CRM: of those without an own one half is Anna there, half is Ben."""
    return OWN_USERS.get(extension, USERS[extension % 2])


def site(rows: Iterable[Row], *, crm_port: int, pbx_host: str, below: str = "") -> str:
    """
    A site file: every phone has an agent, every number of the table its rule; with what is written
    out *below* the table.
    """
    in_three_days = SystemClock().now().date() + timedelta(days=3)
    more = yaml.safe_load(below.replace("IN_THREE_DAYS", DAYS[in_three_days.weekday()])) or {}
    # The machine may be busy with other tests; the dialplan waits for 2.5 s.
    usual = {"crm": CRM, "field": "Tier", "within": "2s"}
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
            {"extension": str(number), "users": {CRM: user_of(number)["id"]}}
            for number in (*PHONES, 199)
        ],
        "hours": more.get("hours", []),
        "rules": [
            {
                "name": f"rule-{did}",
                "dids": [did],
                **usual,
                "rows": [{"operator": "=", "value": _TIER, "destination": destination}],
                "default": other,
            }
            for row in rows
            for did, destination, other in row.rules
        ]
        + [{**usual, **rule} for rule in more.get("rules", [])],
    }
    return yaml.safe_dump({"version": 1, "tenants": [tenant]})


def people(crm: SandboxCrm, rows: Iterable[Row]) -> None:
    """The contacts of the table, and the users who are nobody else."""
    crm.users.extend(OWN_USERS.values())
    for row in rows:
        if row.contact is not None:
            first, last = row.contact.split()
            contact: dict[str, Any] = {
                "id": f"829914000000600{row.outside_number[-3:]}",
                "First_Name": first,
                "Last_Name": last,
                "Full_Name": row.contact,
                "Phone": f"+{row.outside_number.lstrip('+')}",
                "Tier": _TIER,
            }
            if row.owner is not None:
                user = user_of(row.owner)
                contact["Owner"] = {"id": user["id"], "name": user["full_name"]}
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
        async with self.session.get(
            f"{self.url}/v1/calls", params={"limit": "500"}, headers=self._headers
        ) as answer:
            if answer.status != HTTPStatus.OK:
                return ()
            return CallPage.model_validate_json(await answer.read()).calls

    async def would_go(self, did: str, caller: str) -> RouteDecision:
        """As routing answers at this moment; the question belongs to no call."""
        asked = {"did": did, "from": caller, "as": "json"}
        async with self.session.get(
            f"{self.url}/v1/route", params=asked, headers=self._headers, raise_for_status=True
        ) as answer:
            return RouteDecision.model_validate_json(await answer.read())

    async def set_status(self, extension: int, status: AgentStatus) -> None:
        """Ordered; the PBX is told behind the answer."""
        async with self.session.put(
            f"{self.url}/v1/agents/{extension}/status",
            json={"status": status},
            headers=self._headers,
            raise_for_status=True,
        ):
            pass

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.get_secret_value()}"}

    async def follow(self, extension: str) -> None:
        """The agent's screen, until it is cancelled or the mesh ends."""
        with suppress(aiohttp.ClientError):
            async for event in self.api.screen(extension):
                self.screens.setdefault(extension, []).append(event)

    def shown(self, record: CallRecord) -> dict[str, list[dict[str, Any]]]:
        """What the screens were told of this call, by extension."""
        return {
            extension: [event for event in events if event.get("call_id") == record.call_id]
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
        owners = [user["full_name"] for user in self.crm.users if user["id"] == owner]
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
        text = site(rows, crm_port=await crm.start(), pbx_host=network.pbx, below=BELOW)
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
        await eventually(lambda: pbx.managers == MANAGERS)
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
