"""An administrator connects a CRM by HTTP: a browser goes to it, consents, and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from yarl import URL

from shared.http.auth import Scope
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, Faults, SandboxCrm
from tests.contract.crm_api_kit import CrmApi, opened

PUBLIC = "https://mesh.example/callmesh"
CALLBACK = "/v1/oauth/callback"
JANE = "+447700900123"


class Zoho:
    """The API, and the sandbox as the connection ``zoho`` that nobody has connected yet."""

    def __init__(self, api: CrmApi, crm: SandboxCrm) -> None:
        self.api = api
        self.crm = crm

    async def begin(self) -> URL:
        status, begun = await self.api.send("POST", "/v1/crm/zoho/consent")
        assert status == 200, begun
        return URL(begun["url"])

    async def answered(self, address: URL, approve: str = "1") -> dict[str, str]:
        """What the CRM sends the browser back with."""
        async with self.api.session.get(
            address.update_query(approve=approve), allow_redirects=False
        ) as answer:
            back = URL(answer.headers["Location"])
        assert str(back.with_query(None)) == PUBLIC + CALLBACK
        return dict(back.query)

    async def finish(self, **back: str) -> tuple[int, str]:
        """As a browser that has no key."""
        async with self.api.session.get(CALLBACK, params=back) as answer:
            assert answer.content_type == "text/plain"
            return answer.status, await answer.text()

    async def is_connected(self) -> bool:
        status, _ = await self.api.send("GET", "/v1/contacts", params={"number": JANE})
        return status == 200


@asynccontextmanager
async def a_zoho(folder: Path, *, public_url: str | None = PUBLIC) -> AsyncIterator[Zoho]:
    crm = SandboxCrm()
    url = f"http://127.0.0.1:{await crm.start()}"
    async with opened(folder, public_url=public_url) as api:
        parameters = dict.fromkeys(("api_url", "accounts_url", "web_url"), url)
        credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        zoho = {"name": "zoho", "template": "zoho", "parameters": parameters}
        await api.apply({**zoho, "credentials": credentials})
        yield Zoho(api, crm)
    await crm.stop()


@pytest.fixture
async def zoho(tmp_path: Path) -> AsyncIterator[Zoho]:
    async with a_zoho(tmp_path) as found:
        yield found


async def test_who_consents_connects_the_crm(zoho: Zoho) -> None:
    assert not await zoho.is_connected()
    back = await zoho.answered(await zoho.begin())

    status, page = await zoho.finish(**back)
    assert (status, page) == (200, "acme/zoho is connected. You can close this window.")
    assert await zoho.is_connected()
    assert await zoho.api.audited() == [
        ("k0", "begin_consent", "connection zoho"),
        ("(consent)", "finish_consent", "connection zoho"),
    ]


async def test_a_consent_counts_once(zoho: Zoho) -> None:
    back = await zoho.answered(await zoho.begin())
    await zoho.finish(**back)
    _, page = await zoho.finish(**back)
    assert page.startswith("Not connected: this consent is unknown, used")


async def test_who_says_no_is_told_so_and_may_begin_again(zoho: Zoho) -> None:
    back = await zoho.answered(await zoho.begin(), approve="0")
    assert await zoho.finish(**back) == (
        200,
        "Not connected: the CRM did not consent: access_denied",
    )
    _, page = await zoho.finish(state=back["state"], code="c")
    assert "unknown, used" in page
    await zoho.finish(**await zoho.answered(await zoho.begin()))
    assert await zoho.is_connected()


@pytest.mark.parametrize(
    ("back", "says"),
    [
        ({}, "state"),
        ({"code": "c"}, "state"),
        ({"state": "guessed", "code": "c"}, "unknown, used"),
        ({"state": "guessed", "error": "access_denied"}, "unknown, used"),
        ({"state": "x" * 500, "code": "c"}, "state"),
    ],
)
async def test_who_was_not_sent_by_us_connects_nothing(
    zoho: Zoho, back: dict[str, str], says: str
) -> None:
    status, page = await zoho.finish(**back)
    assert status == 200
    assert page.startswith("Not connected: ")
    assert says in page
    assert await zoho.api.audited() == []


async def test_the_page_shows_nobodys_words(zoho: Zoho) -> None:
    state = (await zoho.begin()).query["state"]
    _, page = await zoho.finish(state=state, error="<b>call 0800 1</b>")
    assert page == "Not connected: the CRM did not consent: it gave no code"


async def test_a_code_that_the_crm_does_not_take_is_told_without_repeating_it(zoho: Zoho) -> None:
    state = (await zoho.begin()).query["state"]
    with capture_logs() as logs:
        _, page = await zoho.finish(state=state, code="1000.stolen")
    assert page.startswith("Not connected: connecting failed: ")
    for shown in (page, str(logs)):
        assert state not in shown
        assert "1000.stolen" not in shown


async def test_a_crm_that_is_down_at_the_exchange_is_told_as_such(zoho: Zoho) -> None:
    back = await zoho.answered(await zoho.begin())
    zoho.crm.faults = Faults(fail_tokens=1, fail_status=503)
    _, page = await zoho.finish(**back)
    assert "503" in page
    assert not page.endswith("close this window.")


async def test_a_connection_that_is_gone_meanwhile_is_not_connected(zoho: Zoho) -> None:
    back = await zoho.answered(await zoho.begin())
    await zoho.api.apply()
    _, page = await zoho.finish(**back)
    assert page == "Not connected: There is no CRM connection zoho."


async def test_only_who_may_change_connections_begins(zoho: Zoho) -> None:
    others = await zoho.api.a_key(*(set(Scope) - {Scope.CRM_WRITE}))
    assert (await zoho.api.send("POST", "/v1/crm/zoho/consent", key=others))[0] == 403
    assert (await zoho.api.send("POST", "/v1/crm/other/consent"))[0] == 404
    assert await zoho.api.audited() == []


async def refusal(zoho: Zoho) -> Any:
    status, problem = await zoho.api.send("POST", "/v1/crm/zoho/consent")
    assert (status, problem["code"]) == (409, "conflict")
    return problem["detail"]


async def test_a_template_without_consent_says_so(zoho: Zoho) -> None:
    zoho.api.template("shop")
    shop = {"name": "zoho", "template": "shop", "parameters": {"url": "http://127.0.0.1:1"}}
    await zoho.api.apply(shop)
    assert "asks for no consent" in await refusal(zoho)


async def test_without_a_public_address_nobody_can_come_back(tmp_path: Path) -> None:
    async with a_zoho(tmp_path, public_url=None) as zoho:
        assert "CALLMESH_PUBLIC_URL" in await refusal(zoho)
