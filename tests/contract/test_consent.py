"""Consent: an administrator signs in at the CRM, and every replica has the grant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from yarl import URL

from shared.clock import ManualClock
from shared.crm.form.access import Auth
from shared.crm.sessions.consent import CONSENTS, Connected, Consents
from shared.errors import BadSetting, NeedsReconnect, NotFound, Rejected, Unavailable
from shared.sandbox.crm import CLIENT_SECRET, Faults
from shared.storage.port import DocumentStore, Find
from tests.contract.sessions_kit import OAUTH, Got, World, a_store, a_world, scripted

CALLBACK = "https://callmesh.example/v1/crm/callback"
BY_CONSENT: dict[str, Any] = {
    "oauth2": {
        **OAUTH,
        "grant": "authorization_code",
        "scope": "ZohoCRM.modules.ALL,ZohoCRM.users.READ",
        "authorize_parameters": {"access_type": "offline", "prompt": "consent"},
    }
}


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store(
        request.param, clock, lambda: str(request.getfixturevalue("mongo_url"))
    ) as found:
        yield found


@pytest.fixture
async def shared(store: DocumentStore, clock: ManualClock) -> AsyncIterator[World]:
    async with a_world(store, clock) as found:
        yield found


@pytest.fixture
async def world(clock: ManualClock) -> AsyncIterator[World]:
    async with a_store("sqlite", clock, str) as found, a_world(found, clock) as world:
        yield world


def consents(world: World) -> Consents:
    """Of another process each time."""
    return Consents(world.store, http=world.http, secrets=world.box, clock=world.clock)


def a_connection(
    world: World,
    auth: dict[str, Any] | None = None,
    *,
    refresh_token: str | None = None,
    **own: str | None,
) -> Connected:
    return world.connected(auth or BY_CONSENT, refresh_token=refresh_token, **own)


async def consented(url: str) -> dict[str, str]:
    """What the CRM gives the browser of somebody who accepts: the parameters of the redirect."""
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(URL(url).update_query(approve="1"), allow_redirects=False) as answer,
    ):
        assert answer.status == 302, await answer.text()
        target = URL(answer.headers["Location"])
    assert str(target.with_query(None)) == CALLBACK
    return dict(target.query)


async def finish(world: World, connected: Connected, back: dict[str, str]) -> Connected:
    return await consents(world).finish(
        back["state"], back["code"], connected=lambda tenant, name: connected
    )


# -- the way through --------------------------------------------------------------------------


@pytest.mark.parametrize("rotates", [False, True])
async def test_who_consents_connects_every_replica_for_good(
    shared: World, clock: ManualClock, rotates: bool
) -> None:
    shared.crm.faults = Faults(rotate_refresh_tokens=rotates)
    connected = a_connection(shared)
    waiting = shared.replica(connected)
    with pytest.raises(NeedsReconnect, match="callmesh crm connect acme crm"):
        await waiting.session()

    url = await consents(shared).begin(connected, redirect_uri=CALLBACK)
    assert await finish(shared, connected, await consented(url)) is connected

    session = await waiting.session()
    assert await shared.accepts(session)
    assert session.variables["api_base"] == shared.url
    assert shared.crm.asked_for_tokens == 1  # the code gave it
    for _ in range(3):
        await clock.advance(timedelta(hours=1))
        assert await shared.accepts(await shared.replica(connected).session())


async def test_the_address_says_who_asks_for_what(world: World) -> None:
    connected = a_connection(world)

    url = URL(await consents(world).begin(connected, redirect_uri=CALLBACK))

    shown = dict(url.query)
    assert (url.path, len(shown.pop("state"))) == ("/oauth/v2/auth", 43)
    assert len(shown.pop("code_challenge")) == 43
    assert shown == {
        "response_type": "code",
        "client_id": "1000.SANDBOX",
        "redirect_uri": CALLBACK,
        "scope": "ZohoCRM.modules.ALL,ZohoCRM.users.READ",
        "access_type": "offline",
        "prompt": "consent",
        "code_challenge_method": "S256",
    }


async def test_a_template_may_go_without_pkce(world: World) -> None:
    auth = {
        "oauth2": {
            **BY_CONSENT["oauth2"],
            "pkce": False,
            "authorize_url": "{{.url}}/oauth/v2/auth?client_id={{.client_id}}",
        }
    }
    connected = a_connection(world, auth)

    url = await consents(world).begin(connected, redirect_uri=CALLBACK)
    await finish(world, connected, await consented(url))

    assert "code_challenge" not in URL(url).query
    assert URL(url).query.getall("client_id") == ["1000.SANDBOX"]
    assert await world.accepts(await world.replica(connected).session())


async def test_the_redirect_address_is_there_when_the_token_is_refreshed(
    world: World, clock: ManualClock
) -> None:
    """Kommo wants it each time."""
    auth = {
        "oauth2": {
            **OAUTH,
            "grant": "authorization_code",
            "encoding": "json",
            "token_parameters": {"redirect_uri": "{{.redirect_uri}}"},
        }
    }
    reply = {"access_token": "a", "refresh_token": "r", "expires_in": 600}
    async with scripted(lambda _: reply) as crm:
        connected = a_connection(world, auth, url=crm.url)
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        await finish(world, connected, {"state": URL(url).query["state"], "code": "c"})
        await clock.advance(timedelta(hours=1))
        await world.replica(connected).session()

    exchange, refresh = (got.json for got in crm.got)
    assert (exchange["grant_type"], refresh["grant_type"]) == (
        "authorization_code",
        "refresh_token",
    )
    assert exchange["redirect_uri"] == refresh["redirect_uri"] == CALLBACK
    assert len(exchange["code_verifier"]) == 64


async def test_a_token_without_a_refresh_token_is_used_while_it_lasts(
    world: World, clock: ManualClock
) -> None:
    """monday: tokens do not end, and there is nothing to refresh."""
    auth = {"oauth2": {**OAUTH, "grant": "authorization_code", "refresh_every": "0s"}}
    async with scripted(lambda _: {"access_token": "a"}) as crm:
        connected = a_connection(world, auth, url=crm.url)
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        await finish(world, connected, {"state": URL(url).query["state"], "code": "c"})
    await clock.advance(timedelta(days=300))
    keeper = world.replica(connected)
    session = await keeper.session()

    assert session.variables == {"AccessToken": "a"}
    with pytest.raises(NeedsReconnect, match="connect it"):
        await keeper.session(refused=session)


async def test_the_accounts_own_server_is_found_before_anybody_is_sent_there(world: World) -> None:
    auth = {
        "discover": [{"request": {"url": "{{.url}}/loginInfo"}, "take": {"oauth_url": "oauthUrl"}}],
        "oauth2": {
            "grant": "authorization_code",
            "authorize_url": "{{.oauth_url}}/authorize",
            "token_url": "{{.oauth_url}}/token",
        },
    }

    def answer(got: Got) -> Any:
        if got.path == "/loginInfo":
            return {"oauthUrl": f"{crm.url}/west"}
        return {"access_token": "a", "refresh_token": "r"}

    async with scripted(answer) as crm:
        connected = a_connection(world, auth, url=crm.url)
        url = URL(await consents(world).begin(connected, redirect_uri=CALLBACK))
        await finish(world, connected, {"state": url.query["state"], "code": "c"})

    assert url.path == "/west/authorize"
    assert crm.got[-1].path == "/west/token"


# -- connecting again -------------------------------------------------------------------------


async def test_a_lost_grant_is_mended_for_all_replicas_at_once(
    shared: World, clock: ManualClock
) -> None:
    connected = a_connection(shared, refresh_token="1000.dead")
    replicas = [shared.replica(connected), shared.replica(connected)]
    for replica in replicas:
        with pytest.raises(NeedsReconnect, match="callmesh crm connect acme crm"):
            await replica.session()
    await clock.advance(timedelta(seconds=1))

    url = await consents(shared).begin(connected, redirect_uri=CALLBACK)
    await finish(shared, connected, await consented(url))

    for replica in replicas:
        assert await shared.accepts(await replica.session())
    # Nor is the dead token of the settings taken when the session ends.
    await clock.advance(timedelta(hours=1))
    assert await shared.accepts(await replicas[0].session())


async def test_a_grant_whose_login_failed_is_there_and_is_used_at_once(
    world: World, clock: ManualClock
) -> None:
    auth = {
        "oauth2": {**BY_CONSENT["oauth2"], "token_url": "{{.url}}/token"},
        "login": [{"request": {"url": "{{.url}}/login"}, "take": {"session": "session"}}],
    }
    is_down = True

    def answer(got: Got) -> Any:
        if got.path == "/login":
            return web.Response(status=503) if is_down else {"session": "s"}
        if got.form.get("refresh_token") == "dead":
            return {"error": "invalid_grant"}
        return {"access_token": "a", "refresh_token": "r"}

    async with scripted(answer) as crm:
        connected = a_connection(world, auth, url=crm.url, refresh_token="dead")
        replica = world.replica(connected)
        with pytest.raises(NeedsReconnect):
            await replica.session()
        await clock.advance(timedelta(seconds=1))
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        with pytest.raises(Unavailable, match="503"):
            await finish(world, connected, {"state": URL(url).query["state"], "code": "c"})
        is_down = False

        assert (await replica.session()).variables["session"] == "s"


async def test_a_renewal_under_way_does_not_take_a_new_consent_away(
    world: World, clock: ManualClock
) -> None:
    """It began by the old grant, and ends after the new one was stored."""
    go_on = asyncio.Event()

    async def answer(got: Got) -> Any:
        if got.form["grant_type"] == "refresh_token" and got.form["refresh_token"] == "old":
            await go_on.wait()
            return {"access_token": "a-old", "refresh_token": "old2", "expires_in": 60}
        return {"access_token": "a-new", "refresh_token": "new", "expires_in": 3600}

    async with scripted(answer) as crm:
        connected = a_connection(world, url=crm.url, refresh_token="old")
        renewing = asyncio.create_task(world.replica(connected).session())
        while not crm.got:
            await asyncio.wait({renewing}, timeout=0.01)
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        await finish(world, connected, {"state": URL(url).query["state"], "code": "c"})
        go_on.set()
        await renewing
        await clock.advance(timedelta(hours=1))
        await world.replica(connected).session()

    assert crm.got[-1].form["refresh_token"] == "new"


# -- what is not taken ------------------------------------------------------------------------


async def test_a_state_works_once(shared: World) -> None:
    connected = a_connection(shared)
    url = await consents(shared).begin(connected, redirect_uri=CALLBACK)
    back = await consented(url)
    outcomes = await asyncio.gather(
        *(finish(shared, connected, back) for _ in range(3)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "Connected",
        "Rejected",
        "Rejected",
    ]
    with pytest.raises(Rejected, match="unknown, used or older"):
        await finish(shared, connected, back)
    assert shared.crm.asked_for_tokens == 1


async def test_a_state_is_good_for_ten_minutes(shared: World, clock: ManualClock) -> None:
    connected = a_connection(shared)
    url = await consents(shared).begin(connected, redirect_uri=CALLBACK)
    await clock.advance(timedelta(minutes=10))

    with pytest.raises(Rejected, match="older than ten minutes"):
        await finish(shared, connected, {"state": URL(url).query["state"], "code": "c"})


@pytest.mark.parametrize(
    ("state", "code", "what"),
    [
        ("", "c", "state"),
        ("x" * 129, "c", "state"),
        ("s\n", "c", "state"),
        ("s", "", "code"),
        ("s", "x" * 4097, "code"),
        ("s", "c\x00", "code"),
        ("s", "ü", "code"),
        ("unknown", "c", "this consent is unknown"),
    ],
    ids=lambda text: str(text)[:10],
)
async def test_odd_values_are_refused(world: World, state: str, code: str, what: str) -> None:
    with pytest.raises(Rejected, match=what):
        await finish(world, a_connection(world), {"state": state, "code": code})


async def test_a_stolen_code_is_of_no_use_with_another_state(world: World) -> None:
    """PKCE: the code belongs to who began."""
    connected = a_connection(world)
    theirs = await consented(await consents(world).begin(connected, redirect_uri=CALLBACK))
    mine = URL(await consents(world).begin(connected, redirect_uri=CALLBACK)).query["state"]

    with pytest.raises(Rejected, match="invalid_code"):
        await finish(world, connected, {"state": mine, "code": theirs["code"]})


async def test_who_says_no_ends_it(world: World) -> None:
    connected = a_connection(world)
    url = await consents(world).begin(connected, redirect_uri=CALLBACK)
    state = URL(url).query["state"]
    await consents(world).refuse(state)

    with pytest.raises(Rejected):
        await finish(world, connected, {"state": state, "code": "c"})


async def test_a_connection_that_is_gone_meanwhile_is_not_connected(world: World) -> None:
    def gone(tenant: str, name: str) -> Connected:
        raise NotFound(f"there is no connection {name} of {tenant}")

    url = await consents(world).begin(a_connection(world), redirect_uri=CALLBACK)
    with pytest.raises(NotFound, match="crm of acme"):
        await consents(world).finish(URL(url).query["state"], "c", connected=gone)


async def test_a_template_without_consent_says_so(world: World) -> None:
    with pytest.raises(BadSetting, match="asks for no consent"):
        await consents(world).begin(replace(world.connected(), auth=Auth()), redirect_uri=CALLBACK)


@pytest.mark.parametrize(
    "address", ["", "javascript:alert(1)", "/callback", "https://x.y/#f", "[::"]
)
async def test_a_redirect_goes_to_a_web_address(world: World, address: str) -> None:
    with pytest.raises(BadSetting, match="redirect_uri"):
        await consents(world).begin(a_connection(world), redirect_uri=address)


async def test_a_crm_that_is_down_at_the_exchange_is_told_as_such(world: World) -> None:
    connected = a_connection(world)
    back = await consented(await consents(world).begin(connected, redirect_uri=CALLBACK))
    world.crm.faults = Faults(fail_tokens=1, fail_status=503)

    with pytest.raises(Unavailable, match="503"):
        await finish(world, connected, back)


# -- secrets ----------------------------------------------------------------------------------


async def test_nothing_secret_is_logged_shown_or_stored_in_clear(world: World) -> None:
    connected = a_connection(world)
    with capture_logs() as logs:
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        state = URL(url).query["state"]
        collection = world.store.collection(CONSENTS)
        stored = [repr(document) for document in (await collection.page(Find())).documents]
        back = await consented(url)
        with pytest.raises(Rejected):
            await finish(world, connected, {**back, "code": "a-wrong-code"})
        url = await consents(world).begin(connected, redirect_uri=CALLBACK)
        await finish(world, connected, await consented(url))
    shown = [*stored, *map(str, logs), repr(connected), str(replace(connected, tenant="x"))]

    assert len(stored) == 1
    assert logs
    for secret in (state, CLIENT_SECRET, "a-wrong-code"):
        assert not [text for text in shown if secret in text]
