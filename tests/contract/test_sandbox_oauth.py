"""The sandbox CRM's OAuth server and its faults: what sessions are tested against."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from yarl import URL

from shared.clock import ManualClock
from shared.errors import Rejected
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Faults, SandboxCrm
from shared.sandbox.oauth import PASSWORD, USERNAME
from shared.testing.waiting import eventually

CALLBACK = "http://127.0.0.1:9/back?tab=1"
VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
CLIENT = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@dataclass
class Client:
    crm: SandboxCrm
    session: aiohttp.ClientSession
    url: str

    async def consent(self, **changes: str | None) -> tuple[int, dict[str, str] | str]:
        """Status, and the redirect's parameters or the page."""
        query = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "state": "s1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "approve": "1",
            **changes,
        }
        params = {name: value for name, value in query.items() if value is not None}
        async with self.session.get(
            "/oauth/v2/auth", params=params, allow_redirects=False
        ) as answer:
            if answer.status != 302:
                return answer.status, await answer.text()
            return answer.status, dict(URL(answer.headers["Location"]).query)

    async def code(self, **changes: str | None) -> str:
        _, back = await self.consent(**changes)
        assert isinstance(back, dict)
        return back["code"]

    async def token(self, grant: str, **form: str) -> dict[str, Any]:
        data = {**CLIENT, "grant_type": grant, **form}
        async with self.session.post("/oauth/v2/token", data=data) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def exchange(self, code: str, **changes: str) -> dict[str, Any]:
        form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changes}
        return await self.token("authorization_code", **form)

    async def refresh(self, token: str) -> dict[str, Any]:
        return await self.token("refresh_token", refresh_token=token)

    async def users(self, token: str) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Zoho-oauthtoken {token}"}
        return await self.session.get("/crm/v2/users", headers=headers)


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[Client]:
    crm = SandboxCrm(clock=clock)
    url = f"http://127.0.0.1:{await crm.start()}"
    async with aiohttp.ClientSession(url) as session:
        yield Client(crm, session, url)
    await crm.stop()


@pytest.fixture
async def good(client: Client) -> str:
    """An access token."""
    return str((await client.refresh(REFRESH_TOKEN))["access_token"])


# -- consent ----------------------------------------------------------------------------------


async def test_who_accepts_is_sent_back_with_a_code_that_gives_tokens(client: Client) -> None:
    status, back = await client.consent()
    assert isinstance(back, dict)
    found = await client.exchange(back["code"])

    assert (status, back["state"], back["tab"]) == (302, "s1", "1")
    assert (await client.users(found["access_token"])).status == 200
    again = await client.refresh(found["refresh_token"])
    assert (await client.users(again["access_token"])).status == 200
    assert "refresh_token" not in again


async def test_without_an_answer_there_is_a_page_that_asks(client: Client) -> None:
    status, page = await client.consent(approve=None, scope="<b>all</b>")

    assert status == 200
    assert isinstance(page, str)
    assert "approve=1" in page
    assert "<b>all" not in page


async def test_who_denies_is_sent_back_with_an_error(client: Client) -> None:
    _, back = await client.consent(approve="0")

    assert back == {"tab": "1", "error": "access_denied", "state": "s1"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
    ids=str,
)
async def test_a_wrong_question_is_answered_to_the_client(
    client: Client, changes: dict[str, str], error: str
) -> None:
    _, back = await client.consent(**changes)

    assert isinstance(back, dict)
    assert back["error"] == error


@pytest.mark.parametrize(
    "changes", [{"client_id": "other"}, {"redirect_uri": "javascript:x"}, {"redirect_uri": None}]
)
async def test_nobody_is_sent_to_an_address_that_is_nobodys(
    client: Client, changes: dict[str, str | None]
) -> None:
    status, _ = await client.consent(**changes)

    assert status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:9/other"},
        {"code": "1000.unknown"},
    ],
    ids=str,
)
async def test_a_code_is_for_who_asked_for_it(client: Client, changes: dict[str, str]) -> None:
    code = await client.code()

    assert await client.exchange(**{"code": code, **changes}) == {"error": "invalid_code"}


async def test_a_code_works_once_and_for_a_minute(client: Client, clock: ManualClock) -> None:
    code, late = await client.code(), await client.code()
    assert "access_token" in await client.exchange(code)
    assert await client.exchange(code) == {"error": "invalid_code"}
    await clock.advance(timedelta(minutes=1))

    assert await client.exchange(late) == {"error": "invalid_code"}


async def test_a_code_that_was_asked_for_without_pkce_needs_no_verifier(client: Client) -> None:
    code = await client.code(code_challenge=None, code_challenge_method=None)

    assert "access_token" in await client.exchange(code, code_verifier="")


# -- other grants -----------------------------------------------------------------------------


async def test_a_client_and_a_user_may_ask_for_tokens_themselves(client: Client) -> None:
    of_client = await client.token("client_credentials")
    of_user = await client.token("password", username=USERNAME, password=PASSWORD)

    assert (await client.users(of_client["access_token"])).status == 200
    assert (await client.users(of_user["access_token"])).status == 200
    assert ("refresh_token" in of_client, "refresh_token" in of_user) == (False, True)


@pytest.mark.parametrize(
    ("grant", "form", "error"),
    [
        ("client_credentials", {"client_secret": "wrong"}, "invalid_client"),
        ("password", {"username": USERNAME, "password": "wrong"}, "invalid_code"),
        ("password", {}, "invalid_code"),
    ],
)
async def test_wrong_credentials_give_nothing(
    client: Client, grant: str, form: dict[str, str], error: str
) -> None:
    assert await client.token(grant, **form) == {"error": error}


# -- rotation ---------------------------------------------------------------------------------


async def test_a_rotated_refresh_token_works_once(client: Client) -> None:
    client.crm.faults = Faults(rotate_refresh_tokens=True)
    first = await client.refresh(REFRESH_TOKEN)
    second = await client.refresh(first["refresh_token"])

    assert (await client.users(second["access_token"])).status == 200
    assert len({REFRESH_TOKEN, first["refresh_token"], second["refresh_token"]}) == 3


async def test_who_uses_a_rotated_token_again_ends_its_family_alone(client: Client) -> None:
    client.crm.faults = Faults(rotate_refresh_tokens=True)
    other = await client.exchange(await client.code())
    fresh = await client.refresh(REFRESH_TOKEN)

    assert await client.refresh(REFRESH_TOKEN) == {"error": "invalid_code"}
    assert await client.refresh(fresh["refresh_token"]) == {"error": "invalid_code"}
    assert "access_token" in await client.refresh(other["refresh_token"])


# -- faults -----------------------------------------------------------------------------------


async def test_a_life_may_be_short(client: Client, clock: ManualClock) -> None:
    client.crm.faults = Faults(token_life_s=20)
    found = await client.refresh(REFRESH_TOKEN)
    await clock.advance(timedelta(seconds=20))

    assert found["expires_in"] == 20
    assert (await client.users(found["access_token"])).status == 401


async def test_tokens_fail_on_their_own_switch(client: Client, good: str) -> None:
    client.crm.faults = Faults(fail_tokens=1, fail_status=429, retry_after_s=5)

    async with client.session.post("/oauth/v2/token", data=CLIENT) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    assert (await client.users(good)).status == 200
    assert "access_token" in await client.refresh(REFRESH_TOKEN)


async def test_a_lost_token_was_made(client: Client) -> None:
    client.crm.faults = Faults(rotate_refresh_tokens=True, lose_tokens=1)
    with pytest.raises(aiohttp.ClientError):
        await client.refresh(REFRESH_TOKEN)

    assert await client.refresh(REFRESH_TOKEN) == {"error": "invalid_code"}


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_a_pause_may_be_asked_for_in_the_body_alone(
    client: Client, good: str, status: int
) -> None:
    client.crm.faults = Faults(fail_next=1, fail_status=status, retry_after_body_s=9)
    answer = await client.users(good)

    assert (answer.status, "Retry-After" in answer.headers) == (status, False)
    assert (await answer.json())["retry_after"] == 9


async def test_an_error_may_come_with_status_200_and_nothing_is_done(
    client: Client, good: str
) -> None:
    client.crm.faults = Faults(error_in_200=1, error_code="LIMIT")
    headers = {"Authorization": f"Zoho-oauthtoken {good}"}
    call = {
        "Subject": "x",
        "Call_Type": "Inbound",
        "Call_Start_Time": "2026-01-01T12:00:00+00:00",
        "Call_Duration": "01:05",
    }
    replies = []
    for _ in range(2):
        async with client.session.post(
            "/crm/v2/Calls", json={"data": [call]}, headers=headers
        ) as answer:
            replies.append((answer.status, await answer.json()))

    (status, body), (second, _) = replies
    assert (status, body["status"], body["code"], second) == (200, "error", "LIMIT", 201)
    assert len(client.crm.records("Calls")) == 1


async def test_an_answer_may_be_cut_or_be_a_proxys_page(client: Client, good: str) -> None:
    client.crm.faults = Faults(broken_json=1, html_page=1)
    cut, page, right = [await client.users(good) for _ in range(3)]

    assert {cut.status, page.status, right.status} == {200}
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        await cut.json()
    assert (await page.text()).startswith("<!doctype html>")
    assert (await right.json())["users"]


async def test_an_answer_may_be_more_than_our_client_reads(client: Client, good: str) -> None:
    client.crm.faults = Faults(huge_answer=1)
    async with HttpClient(AddressGuard(networks("127.0.0.0/8", setting="X"))) as http:
        with pytest.raises(Rejected, match="more than"):
            await http.send(
                "GET",
                URL(f"{client.url}/crm/v2/users"),
                within=timedelta(seconds=20),
                headers={"Authorization": f"Zoho-oauthtoken {good}"},
            )


async def test_a_body_may_come_later_than_its_headers(
    client: Client, good: str, clock: ManualClock
) -> None:
    client.crm.faults = Faults(slow_body_ms=1000)
    answer = await client.users(good)
    reading = asyncio.create_task(answer.json())
    await eventually(lambda: clock.sleepers == 1)
    assert (answer.status, reading.done()) == (200, False)
    await clock.advance(timedelta(seconds=1))

    assert (await reading)["users"]
