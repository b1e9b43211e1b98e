"""
What agents do goes between retailCRM, UIS and people over the whole mesh: the CRM's module calls us,
the account notifies us, and both are asked by their own APIs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from services.dialer.agents import AGENTS
from shared.http.auth import Scope
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.sandbox.site import TENANT
from shared.testing.waiting import eventually
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm
from tests.contract.uis_kit import TOKEN, Account, an_account, error
from tests.scenario.conftest import has_begun

SITE = """\
version: 1
tenants:
  - tenant: {tenant}
    region: RU
    zone: Europe/Moscow
    pbx:
      - name: uis
        kind: uis
        call_api: http://127.0.0.1:{uis}/call/v4.0
        data_api: http://127.0.0.1:{uis}/data/v2.0
        access_token: {token}
        virtual_number: "+74993720692"
    crm:
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{crm}"}}
        credentials: {{api_key: {key}}}
        status: {{tell: true}}
        telephony: {{registered: true}}
    agents:
      - {{extension: "101", name: Anna, pbx_user: "25", users: {{shop: "24"}}}}
      - {{extension: "102", name: Ben, pbx_user: "26"}}
"""


@dataclass
class Office:
    uis: Account
    crm: RetailCrm
    platform: Platform
    url: str
    key: SecretStr
    session: aiohttp.ClientSession
    #: What the account has of its employees.
    employees: dict[int, str] = field(default_factory=dict)
    notified: list[int] = field(default_factory=list)
    notifying: set[asyncio.Task[None]] = field(default_factory=set)

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: SecretStr | None = None
    ) -> tuple[int, Any]:
        headers = {"X-Api-Key": (key or self.key).get_secret_value()}
        async with self.session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def employee_does(self, employee: int, word: str) -> None:
        """At the account: by hand, or as it was told. It notifies us of each change."""
        if self.employees.get(employee) == word:
            return
        self.employees[employee] = word
        said = {"event": "status", "employee_id": employee, "employee_status": word}
        status, _ = await self.ask("POST", "/v1/pbx/uis/events", said)
        self.notified.append(status)

    def set_status(self, asked: dict[str, Any]) -> dict[str, Any]:
        task = asyncio.create_task(self.employee_does(asked["id"], asked["status"]))
        self.notifying.add(task)
        task.add_done_callback(self.notifying.discard)
        return {"result": {"data": {"success": True}}}

    async def status(self, extension: str = "101") -> dict[str, Any]:
        code, found = await self.ask("GET", f"/v1/agents/{extension}/status")
        assert code == 200, found
        return dict(found)

    async def until(self, status: str, extension: str = "101") -> None:
        async def does() -> bool:
            return (await self.status(extension)).get("status") == status

        await eventually(does)

    async def taken(self) -> None:
        """Until every side has taken what it was told: people are slower than that."""

        async def are_taken() -> bool:
            document = await self.platform.store.collection(AGENTS).get(f"{TENANT}/101")
            sides = document.known.sides.values()
            done = all(tell.done_at for side in sides for tell in side.tells)
            return done and not document.outbox and not self.notifying

        await eventually(are_taken)

    async def issue(self, name: str, *scopes: Scope, extension: str | None = None) -> SecretStr:
        return await self.platform.keys.issue(
            tenant=TENANT, name=name, scopes=scopes, extension=extension
        )


@asynccontextmanager
async def an_office(choice: Choice) -> AsyncIterator[Office]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    choice = replace(choice, mesh=choice.mesh.model_copy(update={"public_url": url}))
    async with an_account() as uis, retail_crm() as crm:
        text = SITE.format(tenant=TENANT, uis=uis.port, crm=crm.url, key=KEY, token=TOKEN)
        async with (
            open_platform(choice, consumers=consumers()) as platform,
            aiohttp.ClientSession() as session,
        ):
            key = await prepare(platform, text)
            async with running(
                [entry.build for entry in CATALOG.values()],
                platform,
                http=HttpSettings(port=port),
                ops=OpsSettings(port=0),
                drain=choice.mesh.drain,
            ) as state:
                office = Office(uis, crm, platform, url, key, session)
                uis.methods["update.employees"] = office.set_status
                await has_begun(platform)

                async def is_registered() -> bool:
                    await office.ask("POST", "/v1/crm/shop/telephony/register")
                    return crm.telephony is not None

                await eventually(is_registered)
                yield office
                assert state.failed is None


@pytest.fixture
async def office(choice: Choice) -> AsyncIterator[Office]:
    async with an_office(choice) as found:
        yield found


async def test_a_day_of_an_agent(office: Office) -> None:
    office.crm.echoes = True
    # Anna begins: she says so at the account.
    await office.employee_does(25, "available")
    await eventually(lambda: office.crm.told == [(24, "free")])
    await office.taken()
    # She goes to dinner, and says so in the CRM; the account has a word for it.
    await office.crm.change_status(24, "dinner")
    await eventually(lambda: office.employees.get(25) == "not_at_workplace")
    await office.until("dinner")
    found = await office.status()
    assert (found["source"], found["source_name"], found["name"]) == ("crm", "shop", "Anna")
    await office.taken()
    # A supervisor says by the API that she is busy.
    code, said = await office.ask("PUT", "/v1/agents/101/status", {"status": "busy"})
    assert (code, said) == (202, {"extension": "101", "status": "busy"})
    await eventually(lambda: office.employees[25] == "do_not_disturb")
    await eventually(lambda: office.crm.users[24].status == "busy")
    await office.taken()
    # She comes back, at the account.
    await office.employee_does(25, "available")
    await eventually(lambda: office.crm.users[24].status == "free")
    await office.until("free")
    await office.taken()
    assert set(office.notified) == {202}
    words = [word for _, word in office.crm.told]
    assert words == ["free", "busy", "free"], "each once, and none said back"
    assert (await office.status())["source"] == "pbx"


async def test_agents_are_listed_and_each_key_sees_its_own(office: Office) -> None:
    await office.employee_does(25, "break")
    await office.until("break")
    code, found = await office.ask("GET", "/v1/agents")
    assert code == 200
    assert [(one["extension"], one.get("status")) for one in found["agents"]] == [
        ("101", "break"),
        ("102", None),
    ]
    assert found["agents"][0]["own"] == "break"
    _, found = await office.ask("GET", "/v1/agents?status=break&fields=extension,status")
    assert found["agents"] == [{"extension": "101", "status": "break"}]
    _, found = await office.ask("GET", "/v1/agents?ids=102,999")
    assert [one["extension"] for one in found["agents"]] == ["102"]
    _, first = await office.ask("GET", "/v1/agents?limit=1")
    _, second = await office.ask("GET", f"/v1/agents?limit=1&cursor={first['next_cursor']}")
    assert [one["extension"] for one in first["agents"] + second["agents"]] == ["101", "102"]

    bens = await office.issue("ben", Scope.AGENTS_READ, Scope.AGENTS_WRITE, extension="102")
    _, found = await office.ask("GET", "/v1/agents", key=bens)
    assert [one["extension"] for one in found["agents"]] == ["102"]
    for method, body in (("GET", None), ("PUT", {"status": "free"})):
        code, found = await office.ask(method, "/v1/agents/101/status", body, key=bens)
        assert (code, found["code"]) == (403, "forbidden")
    blind = await office.issue("blind", Scope.AGENTS_WRITE)
    for path in ("/v1/agents", "/v1/agents/101/status"):
        assert (await office.ask("GET", path, key=blind))[0] == 403


async def test_what_cannot_be_said_is_refused(office: Office) -> None:
    for extension, body, code in (
        ("999", {"status": "free"}, 404),
        ("101", {"status": "asleep"}, 422),
        ("101", {"status": "free", "own": ""}, 422),
        ("101", {"status": "free", "own": "x" * 101}, 422),
        ("101", {"status": "free", "until": "later"}, 422),
        ("10%2F1", {"status": "free"}, 422),
    ):
        found, problem = await office.ask("PUT", f"/v1/agents/{extension}/status", body)
        assert (found, problem["status"]) == (code, code), (extension, body, problem)
    assert "status" not in await office.status()


async def test_what_the_pbx_refuses_is_read_with_the_agent(office: Office) -> None:
    office.uis.methods["update.employees"] = lambda _: error(
        -32602, "status_not_found", "There is no such status"
    )
    code, _ = await office.ask(
        "PUT", "/v1/agents/101/status", {"status": "break", "own": "smoking"}
    )
    assert code == 202

    async def is_shown() -> bool:
        return "There is no such status" in str((await office.status()).get("faults"))

    await eventually(is_shown)
    asked = [params for _, method, params in office.uis.asked if method == "update.employees"]
    assert asked == [{"id": 25, "status": "smoking"}]
    assert (await office.status())["own"] == "smoking"
    _, found = await office.ask("GET", "/v1/agents/999/status")
    assert found["code"] == "not_found"
