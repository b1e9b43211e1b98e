"""Follow-up requests: those of the sign-in come first, the others hold nobody up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from shared.clock import ManualClock
from shared.crm.form.manifest import Manifest
from shared.errors import ContractError, NeedsReconnect, Unavailable
from shared.phone import parse
from shared.testing.cassettes import entry_of
from shared.testing.waiting import eventually
from tests.contract.scripted_crm import Asked, connected

SHOP: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "data/templates/own/corner-shop.yaml").read_text()
)
WITHIN = timedelta(seconds=5)
CALLER = parse("+442079460123", "GB")
GIVEN = {"credentials": {"api_key": "key-0001"}}
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "number": CALLER.key,
}
SIGN_IN = {
    "after": "auth",
    "request": {"method": "POST", "url": "{{.url}}/sign-in"},
    "take": {"Token": "token"},
}
#: Two contact types, both asked at once, with what the sign-in gave.
SIGNED: dict[str, Any] = {
    **SHOP,
    "headers": {"X-Token": "{{.Token}}"},
    "follow_ups": [SIGN_IN],
    "contacts": {"People": SHOP["contacts"]["People"], "Firms": SHOP["contacts"]["People"]},
}


async def test_who_asks_at_once_waits_for_the_sign_in(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        return {"token": "t-1"} if asked.what == "POST /sign-in" else {"people": []}

    async with connected(SIGNED, answers, tmp_path, given=GIVEN) as made:
        await made.connector.search(CALLER, modules=(), fields=(), card=True, within=WITHIN)
    assert {one.headers.get("x-token") for one in made.crm.of("GET /people")} == {"t-1"}
    assert len(made.crm.of("POST /sign-in")) == 1


async def test_who_gives_up_does_not_lose_the_sign_in(tmp_path: Path) -> None:
    let = asyncio.Event()

    async def slow() -> Any:
        await let.wait()
        return {"token": "t-1"}

    def answers(asked: Asked) -> Any:
        return slow() if asked.what == "POST /sign-in" else {"people": []}

    async with connected(SIGNED, answers, tmp_path, given=GIVEN) as made:
        with pytest.raises(Unavailable):
            await made.connector.search(
                CALLER, modules=(), fields=(), card=True, within=timedelta(milliseconds=100)
            )
        let.set()
        await made.connector.check()
        assert made.crm.of("GET /me")[0].headers["x-token"] == "t-1"
        assert len(made.crm.of("POST /sign-in")) == 1


async def test_a_sign_in_that_failed_is_tried_again_after_a_while(
    clock: ManualClock, tmp_path: Path
) -> None:
    good: list[Any] = []

    def answers(asked: Asked) -> Any:
        if asked.what == "POST /sign-in":
            return {"token": "t-1"} if good else web.Response(status=404)
        return {}

    async with connected(SIGNED, answers, tmp_path, given=GIVEN, clock=clock) as made:
        for _ in range(2):
            await made.connector.check()
        assert len(made.crm.of("POST /sign-in")) == 1
        good.append(1)
        await clock.advance(timedelta(minutes=1))
        await made.connector.check()
        assert made.crm.of("GET /me")[-1].headers["x-token"] == "t-1"


async def test_what_the_sign_in_took_is_taken_anew_when_it_is_refused(
    clock: ManualClock, tmp_path: Path
) -> None:
    good = ["t-1"]

    def answers(asked: Asked) -> Any:
        if asked.what == "POST /sign-in":
            return {"token": good[0]}
        return {} if asked.headers["x-token"] == good[0] else web.Response(status=401)

    async with connected(SIGNED, answers, tmp_path, given=GIVEN, clock=clock) as made:
        await made.connector.check()
        good[0] = "t-2"
        with pytest.raises(NeedsReconnect):
            await made.connector.check()
        await clock.advance(timedelta(minutes=1))
        await made.connector.check()
        assert len(made.crm.of("POST /sign-in")) == 2


async def test_sessions_that_end_at_once_do_not_sign_in_for_ever(tmp_path: Path) -> None:
    oauth2 = {"grant": "client_credentials", "token_url": "{{.url}}/token"}
    template = {**SIGNED, "auth": {"oauth2": oauth2}, "credentials": []}

    def answers(asked: Asked) -> Any:
        if asked.what == "POST /token":
            return {"access_token": "at", "expires_in": 0.000001}
        return {"token": "t-1"}

    async with connected(template, answers, tmp_path) as made:
        await made.connector.check()
    assert len(made.crm.of("POST /sign-in")) == 1


@pytest.mark.parametrize("after", ["search", "journal"])
async def test_one_that_hangs_holds_up_no_screen_and_no_entry(after: str, tmp_path: Path) -> None:
    let = asyncio.Event()

    async def hang() -> Any:
        await let.wait()
        return {}

    def answers(asked: Asked) -> Any:
        return hang() if asked.what == "GET /after" else {"people": [], "id": 3}

    follow_up = {"after": after, "request": {"url": "{{.url}}/after"}}
    template = {**SHOP, "follow_ups": [follow_up], "limits": {"timeout": "60s"}}
    async with asyncio.timeout(30), connected(template, answers, tmp_path, given=GIVEN) as made:
        if after == "search":
            await made.connector.search(CALLER, modules=(), fields=(), card=True, within=WITHIN)
        else:
            assert await made.connector.write_entry(entry_of(CALL), within=WITHIN) == "3"
        await eventually(lambda: len(made.crm.of("GET /after")) == 1)
        let.set()


async def test_what_one_takes_out_of_a_record_is_no_address(tmp_path: Path) -> None:
    """The key would go where a contact's website says."""
    follow_up = {
        "after": "search",
        "request": {"url": "{{.url}}/after"},
        "take": {"Website": "website"},
    }
    template = {**SHOP, "follow_ups": [follow_up], "check": {"url": "{{.Website}}/me"}}
    Manifest.model_validate(template)

    def answers(asked: Asked) -> Any:
        return {"people": [], "website": f"http://{asked.headers['host']}/evil"}

    async with connected(template, answers, tmp_path, given=GIVEN) as made:
        await made.connector.search(CALLER, modules=(), fields=(), card=True, within=WITHIN)
        await made.connector.requests.followed()
        with pytest.raises(ContractError):
            await made.connector.check()
    assert not made.crm.of("GET /evil/me")


async def test_an_entry_says_what_the_sign_in_took_from_the_first_on(tmp_path: Path) -> None:
    journal = {**SHOP["journal"], "subject": "{{.Token}} {{.Reference}}"}

    def answers(_: Asked) -> Any:
        return {"token": "t-1", "id": 3}

    template = {**SIGNED, "headers": {}, "journal": journal}
    async with connected(template, answers, tmp_path, given=GIVEN) as made:
        await made.connector.write_entry(entry_of(CALL), within=WITHIN)
        assert made.crm.of("POST /calls")[0].json["text"] == "t-1 ref-0001"
