"""The telephony module of a connection by API and by command: how it stands, and registering it now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app
from shared.http.auth import Scope
from shared.observe.logging import LogFormat, configure
from shared.site.clicklinks import ClickLinks
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm

PATH = "/v1/crm/retail/telephony"
PUBLIC_URL = "https://mesh.example"


@dataclass
class Shop:
    api: CrmApi
    crm: RetailCrm

    async def apply(self, **connection: Any) -> None:
        await self.api.apply(
            {
                "name": "retail",
                "template": "retailcrm",
                "parameters": {"api_url": self.crm.url},
                "credentials": {"api_key": KEY},
                **connection,
            },
            agents=[{"extension": "101", "users": {"retail": "24"}}],
        )


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with retail_crm() as crm, opened(tmp_path, public_url=PUBLIC_URL) as api:
        found = Shop(api, crm)
        await found.apply(telephony={"registered": True, "title": "Berlin"})
        yield found


async def test_it_is_registered_and_shown(shop: Shop) -> None:
    status, before = await shop.api.send("GET", PATH)
    assert (status, before["wanted"], before["possible"], before["active"]) == (
        200,
        True,
        True,
        False,
    )
    status, made = await shop.api.send("POST", f"{PATH}/register")
    assert (status, made["active"], made["extensions"]) == (200, True, ["101"])
    assert shop.crm.codes() == {"101": 24}
    assert (await shop.api.send("GET", PATH))[1] == made
    assert ("register_telephony", "connection retail") in [
        one[1:] for one in await shop.api.audited()
    ]
    links = ClickLinks(shop.api.box, public_url=PUBLIC_URL).addresses("acme", "retail")
    assert links is not None
    assert links.client_id == shop.crm.client_id
    assert not any(secret in str(made) for secret in (links.client_id, links.token, "crm-calls"))


async def test_it_cannot_be_where_the_site_does_not_want_it(shop: Shop) -> None:
    await shop.apply()
    status, problem = await shop.api.send("POST", f"{PATH}/register")
    assert (status, problem["code"]) == (409, "conflict")
    assert "telephony: {registered: true}" in problem["detail"]
    assert shop.crm.modules == {}


async def test_what_the_crm_says_is_told(shop: Shop) -> None:
    shop.crm.limited["/edit"] = 1
    status, problem = await shop.api.send("POST", f"{PATH}/register")
    assert (status, problem["code"]) == (503, "throttled")
    assert "503" in (await shop.api.send("GET", PATH))[1]["fault"]


async def test_it_needs_a_right_and_a_connection(shop: Shop) -> None:
    reader = await shop.api.a_key(Scope.SITE_READ)
    assert (await shop.api.send("GET", PATH, key=reader))[0] == 200
    assert (await shop.api.send("POST", f"{PATH}/register", key=reader))[0] == 403
    assert (await shop.api.send("GET", "/v1/crm/other/telephony"))[0] == 404
    assert (await shop.api.send("POST", "/v1/crm/other/telephony/register"))[0] == 404
    token = await shop.api.keys.issue(tenant="other", name="k", scopes=tuple(Scope))
    assert (await shop.api.send("GET", PATH, key=token.get_secret_value()))[0] == 404
    assert shop.crm.modules == {}


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """A command logs to its own output, which is closed behind it."""
    yield
    configure(form=LogFormat.CONSOLE)


@pytest.mark.usefixtures("logs_as_before")
def test_the_command_shows_and_registers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLMESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CALLMESH_NET_ALLOW", "127.0.0.0/8")
    monkeypatch.setenv("CALLMESH_PUBLIC_URL", PUBLIC_URL)
    site = {
        "tenants": [
            {
                "tenant": "acme",
                "crm": [
                    {
                        "name": "retail",
                        "template": "retailcrm",
                        "parameters": {"api_url": "http://127.0.0.1:9"},
                        "credentials": {"api_key": "k"},
                        "telephony": {"registered": True},
                    }
                ],
            }
        ]
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    runner = CliRunner()
    assert runner.invoke(app, ["apply", str(tmp_path / "site.yaml")]).exit_code == 0

    shown = runner.invoke(app, ["crm", "telephony", "show", "acme", "retail"])
    assert shown.exit_code == 0
    assert "registered" in shown.output
    assert "no" in shown.output
    failed = runner.invoke(app, ["crm", "telephony", "register", "acme", "retail"])
    assert failed.exit_code != 0
    again = runner.invoke(app, ["crm", "telephony", "show", "acme", "retail"])
    assert "fault" in again.output
    missing = runner.invoke(app, ["crm", "telephony", "show", "acme", "nosuch"])
    assert missing.exit_code != 0
