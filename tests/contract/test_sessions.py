"""Sessions of CRM connections: shared by replicas, renewed in time, never lost, never shown."""

from __future__ import annotations

import asyncio
import hashlib
import html
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared.clock import ManualClock
from shared.crm.sessions.keeper import SessionKeeper
from shared.crm.sessions.replies import Reply
from shared.crm.sessions.session import Session
from shared.errors import NeedsReconnect, Throttled, Unavailable
from shared.sandbox.crm import CLIENT_SECRET, REFRESH_TOKEN, Faults
from shared.sandbox.oauth import PASSWORD, USERNAME
from shared.secrets import SecretBox, new_key
from shared.storage.port import DocumentStore
from shared.testing.waiting import eventually
from tests.contract.sessions_kit import OAUTH, Got, World, a_store, a_world, scripted

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store(
        request.param, clock, lambda: str(request.getfixturevalue("mongo_url"))
    ) as found:
        yield found


@pytest.fixture
async def shared(store: DocumentStore, clock: ManualClock) -> AsyncIterator[World]:
    """On both stores: where what it promises to two writers matters."""
    async with a_world(store, clock) as found:
        yield found


@pytest.fixture
async def world(clock: ManualClock) -> AsyncIterator[World]:
    async with a_store("sqlite", clock, str) as found, a_world(found, clock) as world:
        yield world


def token_of(session: Session) -> str:
    return session.variables["AccessToken"]


# -- one for all ------------------------------------------------------------------------------


async def test_two_replicas_fetch_once(shared: World, clock: ManualClock) -> None:
    waiting = asyncio.gather(*(shared.replica().session() for _ in range(2)))
    # Who comes second looks again every 100 ms.
    await eventually(lambda: shared.crm.asked_for_tokens == 1)
    while not waiting.done():
        await clock.advance(timedelta(milliseconds=100))
        await eventually(lambda: waiting.done() or clock.sleepers == 1)
    first, second = await waiting

    assert token_of(first) == token_of(second)
    assert first.variables["api_base"] == shared.url
    assert await shared.accepts(first)
    assert shared.crm.asked_for_tokens == 1


async def test_a_store_that_is_waited_for_longer_is_so_when_a_session_is_written_down(
    world: World,
) -> None:
    """Who comes next is not to wait for a lease that is over."""
    world.sessions.writes_in = timedelta(milliseconds=500)
    await world.replica().session()

    assert (await world.document()).leased_until is None


async def test_who_gives_up_waiting_does_not_stop_the_renewal(world: World) -> None:
    keeper = world.replica()
    impatient = asyncio.create_task(keeper.session())
    patient = asyncio.create_task(keeper.session())
    await eventually(lambda: keeper._work is not None)
    impatient.cancel()

    assert await world.accepts(await patient)
    assert world.crm.asked_for_tokens == 1


async def test_a_session_is_renewed_a_minute_before_its_end(
    world: World, clock: ManualClock
) -> None:
    keeper = world.replica()
    first = await keeper.session()
    await clock.advance(59 * MINUTE - SECOND)
    assert await keeper.session() is first
    await clock.advance(SECOND)

    assert token_of(await keeper.session()) != token_of(first)


async def test_nobody_waits_for_the_next_session_while_there_is_one(
    world: World, clock: ManualClock
) -> None:
    """A ringing call has a second and a half, and not every CRM's sign-in is that fast."""
    is_up = asyncio.Event()
    is_up.set()

    async def answer(_: Got) -> Any:
        await is_up.wait()
        return {"access_token": f"a{len(crm.got)}", "expires_in": 3600}

    async with scripted(answer) as crm:
        keeper, other = (world.replica(world.connected(url=crm.url)) for _ in range(2))
        first = await keeper.session()
        await other.session()
        await clock.advance(58 * MINUTE - SECOND)
        assert await keeper.session() is first

        is_up.clear()
        await clock.advance(SECOND)
        for _ in range(3):
            assert await keeper.session() is first
        await eventually(lambda: len(crm.got) == 2)
        is_up.set()

        async def has_next(replica: SessionKeeper) -> bool:
            return token_of(await replica.session()) == "a2"

        # Another replica takes what the first one has stored.
        for replica in (keeper, other):
            await eventually(lambda replica=replica: has_next(replica))
        assert len(crm.got) == 2


async def test_a_session_is_used_to_its_end_while_the_sign_in_is_down(
    world: World, clock: ManualClock
) -> None:
    """And that is not asked again with each request."""
    keeper = world.replica()
    first = await keeper.session()
    world.crm.faults = Faults(fail_tokens=100, fail_status=503)
    await clock.advance(58 * MINUTE)
    for asked in (2, 3):
        for _ in range(3):
            assert await keeper.session() is first
            assert keeper._work is not None
            await asyncio.wait({keeper._work})
        assert world.crm.asked_for_tokens == asked
        await clock.advance(10 * SECOND)


async def test_a_short_life_is_used_for_three_quarters_of_it(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(token_life_s=20)
    keeper = world.replica()
    first = await keeper.session()
    await clock.advance(14 * SECOND)
    assert await keeper.session() is first
    await clock.advance(SECOND)

    assert token_of(await keeper.session()) != token_of(first)


@pytest.mark.parametrize(
    ("every", "used_for"),
    [("25m", timedelta(minutes=25)), ("2h", timedelta(minutes=59)), ("0s", timedelta(days=300))],
)
async def test_a_template_may_say_how_often_a_session_is_renewed(
    world: World, clock: ManualClock, every: str, used_for: timedelta
) -> None:
    """0s: only when it is refused. A token's own end comes first where that is nearer."""
    keeper = world.replica(world.connected({"oauth2": {**OAUTH, "refresh_every": every}}))
    first = await keeper.session()
    await clock.advance(used_for - SECOND)
    assert await keeper.session() is first
    if every == "0s":
        assert token_of(await keeper.session(refused=first)) != token_of(first)
        return
    await clock.advance(SECOND)

    assert token_of(await keeper.session()) != token_of(first)


@pytest.mark.parametrize("told", [None, 0, -5, "soon", True, [], 1e400, "9" * 400, {"a": 1}])
async def test_an_odd_life_is_the_templates_or_bounded(world: World, told: Any) -> None:
    def answer(_: Got) -> Any:
        return {"access_token": "t1", "expires_in": 1e308 if told == 1e400 else told}

    async with scripted(answer) as crm:
        session = await world.replica(world.connected(url=crm.url)).session()

    assert session.good_until > world.clock.now() + 58 * MINUTE


async def test_a_refused_session_is_replaced_and_a_fresh_one_is_not(
    shared: World, clock: ManualClock
) -> None:
    one, other = shared.replica(), shared.replica()
    first = await one.session()
    assert token_of(await other.session()) == token_of(first)
    with pytest.raises(NeedsReconnect, match="every scope"):
        await one.session(refused=first)
    await clock.advance(MINUTE)

    second = await one.session(refused=first)

    assert token_of(second) != token_of(first)
    # The other replica's is the same one, refused as well: it takes what is there.
    assert token_of(await other.session(refused=first)) == token_of(second)
    assert shared.crm.asked_for_tokens == 2


async def test_a_crm_that_gives_the_same_token_again_is_not_asked_for_ever(
    world: World, clock: ManualClock
) -> None:
    async with scripted(lambda _: {"access_token": "always"}) as crm:
        keeper = world.replica(world.connected(url=crm.url))
        first = await keeper.session()
        await clock.advance(MINUTE)
        second = await keeper.session(refused=first)
        with pytest.raises(NeedsReconnect):
            await keeper.session(refused=second)

    assert (token_of(second), second.renewals, len(crm.got)) == ("always", 1, 2)


async def test_a_session_of_other_credentials_is_not_used(world: World) -> None:
    await world.replica().session()
    other = world.replica(world.connected(organisation="42"))
    await other.session()

    assert world.crm.asked_for_tokens == 2


# -- refusals ---------------------------------------------------------------------------------


async def test_a_revoked_grant_is_told_to_all_and_left_in_peace(
    shared: World, clock: ManualClock
) -> None:
    shared.crm.faults = Faults(grant_revoked=True)
    for asked, minutes in enumerate((1, 2, 4, 8, 15, 15), start=1):
        for keeper in (shared.replica(), shared.replica()):
            with pytest.raises(NeedsReconnect, match=r"invalid_code\); connect it again") as told:
                await keeper.session()
            assert told.value.retry_after == timedelta(minutes=minutes)
        assert shared.crm.asked_for_tokens == asked
        await clock.advance(timedelta(minutes=minutes))
    shared.crm.faults = Faults()

    assert await shared.accepts(await shared.replica().session())


async def test_what_one_replica_mended_another_uses_before_its_patience_is_over(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(grant_revoked=True)
    told, mending = world.replica(), world.replica()
    for minutes in (1, 2):
        with pytest.raises(NeedsReconnect):
            await told.session()
        await clock.advance(timedelta(minutes=minutes))
    with pytest.raises(NeedsReconnect):
        await told.session()
    document = await world.document()
    await world.sessions.replace(document.model_copy(update={"refusal": None}))
    world.crm.faults = Faults()
    await clock.advance(SECOND)
    await mending.session()

    assert await world.accepts(await told.session())


async def test_too_many_tokens_are_no_lost_grant(world: World) -> None:
    for number in range(10):
        await world.replica(world.connected(name=f"crm{number}")).session()

    with pytest.raises(Throttled, match="Access Denied: too many requests"):
        await world.replica(world.connected(name="one-more")).session()


async def test_a_crm_may_say_how_long_it_wants_to_be_left_alone(world: World) -> None:
    world.crm.faults = Faults(fail_tokens=1, fail_status=429, retry_after_s=600)

    with pytest.raises(Throttled) as told:
        await world.replica().session()

    assert told.value.retry_after == timedelta(minutes=10)


async def test_a_crm_that_is_down_is_asked_again_at_once(world: World) -> None:
    world.crm.faults = Faults(fail_tokens=1, fail_status=503)
    keeper = world.replica()
    with pytest.raises(Unavailable, match="503"):
        await keeper.session()

    assert await world.accepts(await keeper.session())


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": "invalid_grant", "error_description": "gone"}, "invalid_grant: gone"),
        (400, {"hint": "Token has been revoked", "status": 400}, "Token has been revoked"),
        (401, {"success": False, "error": {"code": "X1", "message": "no"}}, "X1: no"),
        (200, {"errorMsg": "Wrong key, it is invalid"}, "Wrong key"),
        (401, "<html>secret page</html>", r"\(401\)"),
    ],
    ids=str,
)
async def test_a_refusal_is_told_in_the_crms_own_words(
    world: World, status: int, body: Any, words: str
) -> None:
    def answer(_: Got) -> web.Response:
        return web.json_response(body, status=status)

    async with scripted(answer) as crm:
        with pytest.raises(NeedsReconnect, match=words) as told:
            await world.replica(world.connected(url=crm.url)).session()

    assert "html" not in told.value.message


@pytest.mark.parametrize("text", ["<html>maintenance</html>", '{"access_token": "x'])
async def test_a_page_in_place_of_an_answer_is_no_refusal(world: World, text: str) -> None:
    async with scripted(lambda _: web.Response(text=text)) as crm:
        with pytest.raises(Unavailable, match="unreadable"):
            await world.replica(world.connected(url=crm.url)).session()


# -- refresh tokens that rotate ---------------------------------------------------------------


async def test_a_rotating_grant_lives_on_in_any_replica(shared: World, clock: ManualClock) -> None:
    shared.crm.faults = Faults(rotate_refresh_tokens=True)
    for _ in range(4):
        # Each is a process that has just begun.
        assert await shared.accepts(await shared.replica().session())
        await clock.advance(timedelta(hours=1))

    document = await shared.document()
    assert document.rotates is True
    assert document.spending is False


async def test_a_token_that_was_lost_with_its_process_is_said_to_be_lost(
    shared: World, clock: ManualClock
) -> None:
    """The CRM gave the next refresh token; the process died before it was written down."""
    shared.crm.faults = Faults(rotate_refresh_tokens=True)
    killed_store = shared.another_store_client()
    killed_store.keeps_no_tokens = True
    killed = shared.replica(sessions=killed_store)
    dying = asyncio.create_task(killed.session())
    await eventually(lambda: clock.sleepers == 1)  # it tries to write it down
    killed_store.is_away = True
    dying.cancel()
    for task in (*killed._shelf._writing, killed._work):
        assert task is not None
        task.cancel()
    await clock.advance(15 * SECOND)

    heir = asyncio.create_task(shared.replica().session())
    await eventually(lambda: clock.sleepers == 1)
    await clock.advance(2 * SECOND)

    with pytest.raises(NeedsReconnect, match=r"invalid_code.*lost before it was written down"):
        await heir
    assert shared.crm.asked_for_tokens == 2


async def test_an_answer_that_was_lost_on_its_way_is_said_to_be_lost(world: World) -> None:
    world.crm.faults = Faults(rotate_refresh_tokens=True, lose_tokens=1)
    with pytest.raises(Unavailable):
        await world.replica().session()

    with pytest.raises(NeedsReconnect, match="lost before it was written down"):
        await world.replica().session()


async def test_nothing_is_used_before_the_next_refresh_token_is_written_down(
    shared: World, clock: ManualClock
) -> None:
    """The store goes away between the CRM's answer and the write, and comes back."""
    shared.crm.faults = Faults(rotate_refresh_tokens=True)
    cut_off = shared.another_store_client()
    cut_off.keeps_no_tokens = True
    keeper = shared.replica(sessions=cut_off)
    with pytest.raises(Unavailable, match="not written down yet"):
        await keeper.session()
    with pytest.raises(Unavailable, match="not written down yet"):
        await keeper.session()
    await clock.advance(16 * SECOND)
    # Another replica finds a lease that ran out, and gives who had it a moment.
    heir = asyncio.create_task(shared.replica().session())
    await eventually(lambda: clock.sleepers == 2)
    cut_off.keeps_no_tokens = False
    await clock.advance(SECOND)
    await eventually(lambda: not keeper._shelf.is_keeping)
    await clock.advance(SECOND)

    assert await shared.accepts(await heir)
    assert token_of(await keeper.session()) == token_of(await heir)
    # The dead token was never sent again: that would have ended all of them.
    assert shared.crm.asked_for_tokens == 2


async def test_a_rotating_grant_is_not_refreshed_without_the_store(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(rotate_refresh_tokens=True)
    keeper = world.replica()
    await keeper.session()
    await clock.advance(30 * MINUTE)
    second = await keeper.session(refused=await keeper.session())
    world.sessions.is_away = True
    # What it has it uses.
    assert await keeper.session() is second
    await clock.advance(timedelta(hours=1))
    with pytest.raises(Unavailable, match="works once"):
        await keeper.session()
    assert world.crm.asked_for_tokens == 2
    world.sessions.is_away = False

    assert await world.accepts(await keeper.session())


async def test_a_grant_that_stays_is_refreshed_without_the_store(
    world: World, clock: ManualClock
) -> None:
    world.sessions.is_away = True
    keeper = world.replica()
    assert await world.accepts(await keeper.session())
    await clock.advance(timedelta(hours=1))

    assert await world.accepts(await keeper.session())
    assert world.crm.asked_for_tokens == 2


async def test_a_grant_that_an_administrator_gives_anew_is_used_at_once(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(rotate_refresh_tokens=True)
    lost = world.connected(refresh_token="1000.lost")
    with pytest.raises(NeedsReconnect):
        await world.replica(lost).session()
    await world.replica().session()
    await clock.advance(timedelta(hours=1))

    # Who still knows the old one does not take the new one away.
    with pytest.raises(NeedsReconnect):
        await world.replica(lost).session()
    assert await world.accepts(await world.replica().session())


async def test_a_stored_token_is_not_sent_for_another_client(world: World) -> None:
    world.crm.faults = Faults(rotate_refresh_tokens=True)
    await world.replica().session()
    async with scripted(lambda _: {"access_token": "x"}) as other:
        moved = world.connected(url=other.url)
        await world.replica(moved).session()

    assert other.got[0].form["refresh_token"] == REFRESH_TOKEN


async def test_without_any_refresh_token_a_person_is_asked_to_connect_it(world: World) -> None:
    by_consent = {"oauth2": {**OAUTH, "grant": "authorization_code"}}
    by_hand = {"oauth2": {**OAUTH, "authorize_url": None}}

    with pytest.raises(NeedsReconnect, match="callmesh crm connect acme crm"):
        await world.replica(world.connected(by_consent, refresh_token=None)).session()
    with pytest.raises(NeedsReconnect, match="callmesh crm connect acme crm"):
        await world.replica(world.connected(refresh_token="")).session()
    with pytest.raises(NeedsReconnect, match="credential refresh_token"):
        await world.replica(world.connected(by_hand, refresh_token="")).session()
    assert world.crm.asked_for_tokens == 0


# -- other grants and forms -------------------------------------------------------------------


async def test_a_client_may_stand_for_itself(world: World, clock: ManualClock) -> None:
    connected = world.connected({"oauth2": {**OAUTH, "grant": "client_credentials"}})
    world.sessions.is_away = True
    keeper = world.replica(connected)
    assert await world.accepts(await keeper.session())
    await clock.advance(timedelta(hours=1))

    assert await world.accepts(await keeper.session())


async def test_a_password_gives_another_token_where_the_refresh_token_is_refused(
    world: World, clock: ManualClock
) -> None:
    by_password = {"oauth2": {**OAUTH, "grant": "password"}}
    connected = world.connected(
        by_password, username=USERNAME, password=PASSWORD, refresh_token=None
    )
    await world.replica(connected).session()
    await clock.advance(timedelta(hours=1))
    await world.replica(connected).session()
    assert world.crm.asked_for_tokens == 2  # the second by the refresh token
    world.crm.faults = Faults(grant_revoked=True)
    await clock.advance(timedelta(hours=1))

    assert await world.accepts(await world.replica(connected).session())
    assert world.crm.asked_for_tokens == 4


GRANT = {
    "grant_type": "refresh_token",
    "refresh_token": "r&1+ ü",
    "client_id": "me",
    "client_secret": "a:b%c",
    "extra": "x y",
}


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ({"encoding": "form"}, "form"),
        ({"encoding": "json"}, "json"),
        ({"encoding": "query"}, "query"),
        ({"method": "GET"}, "query"),
    ],
    ids=str,
)
async def test_a_token_is_asked_for_in_the_form_that_the_crm_takes(
    world: World, form: dict[str, str], place: str
) -> None:
    oauth2 = {
        **OAUTH,
        "refresh_url": "{{.url}}/refresh?v=2",
        "token_parameters": {"extra": "{{.word}}", "none": "{{.nothing}}"},
        "access_token": "result.token",
        "expires_in": "result.ttl",
        "take": {"host": "result.host"},
        **form,
    }
    reply = {"result": {"token": "t1", "ttl": "120", "host": "eu1"}}
    async with scripted(lambda _: reply) as crm:
        connected = world.connected(
            {"oauth2": oauth2},
            url=crm.url,
            word="x y",
            client_id="me",
            client_secret="a:b%c",
            refresh_token="r&1+ ü",
        )
        session = await world.replica(connected).session()

    (got,) = crm.got
    told = {n: v for n, v in getattr(got, place).items() if n != "v"}
    assert (got.method, got.path) == (form.get("method", "POST"), "/refresh")
    assert (told, got.query["v"]) == (GRANT, "2")
    assert session.variables == {"AccessToken": "t1", "host": "eu1"}
    assert session.good_until == session.fetched_at + timedelta(seconds=90)


async def test_a_client_may_be_told_by_basic(world: World) -> None:
    async with scripted(lambda _: {"access_token": "t"}) as crm:
        connected = world.connected(
            {"oauth2": {**OAUTH, "client": "basic"}},
            url=crm.url,
            client_id="me",
            client_secret="a:b",
        )
        await world.replica(connected).session()

    # RFC 6749, 2.3.1: me:a%3Ab
    assert crm.got[0].headers["Authorization"] == "Basic bWU6YSUzQWI="
    assert crm.got[0].form == {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN}


async def test_what_a_later_answer_does_not_say_again_stays(
    world: World, clock: ManualClock
) -> None:
    def answer(_: Got) -> Any:
        more = {"api_domain": "https://eu.example"} if len(crm.got) == 1 else {}
        return {"access_token": f"t{len(crm.got)}", **more}

    async with scripted(answer) as crm:
        keeper = world.replica(world.connected(url=crm.url))
        await keeper.session()
        await clock.advance(timedelta(hours=1))
        second = await keeper.session()

    assert second.variables == {"AccessToken": "t2", "api_base": "https://eu.example"}


@pytest.mark.parametrize("address", ["http://crm.example", " HTTP:evil", "http://"])
def test_an_address_is_not_taken_down_from_https_to_http(address: str) -> None:
    safe = Reply(200, {"to": address}, secure=True, wait=None)
    plain = Reply(200, {"to": address}, secure=False, wait=None)

    with pytest.raises(NeedsReconnect, match="http:// address for base"):
        safe.take({"base": "to"})
    assert plain.take({"base": "to"}) == ({"base": address}, [])


async def test_values_that_are_no_texts_are_not_taken(world: World) -> None:
    async with scripted(lambda _: {"access_token": {"a": 1}}) as crm:
        with pytest.raises(Throttled):
            await world.replica(world.connected(url=crm.url)).session()
        huge = {"access_token": "x" * 70_000}
        crm.answer = lambda _: huge
        with pytest.raises(Throttled):
            await world.replica(world.connected(url=crm.url, name="other")).session()


# -- sign-ins of several steps ----------------------------------------------------------------

VTIGER = {
    "login": [
        {
            "request": {
                "url": "{{.url}}/webservice.php",
                "query": {"operation": "getchallenge", "username": "{{.username}}"},
            },
            "take": {"challenge": "result.token"},
        },
        {
            "compute": {
                "pair": "{{.challenge}}{{.access_key}}",
                "answer": "{{.pair | md5}}",
            },
            "request": {
                "method": "POST",
                "url": "{{.url}}/webservice.php",
                "form": {
                    "operation": "login",
                    "username": "{{.username}}",
                    "accessKey": "{{.answer}}",
                },
            },
            "take": {"session": "result.sessionName", "user": "result.userId"},
        },
    ],
    "life": "10m",
}


def vtiger(got: Got) -> Any:
    """As a running Vtiger 7.2 answers."""
    if got.query.get("operation") == "getchallenge":
        return {"success": True, "result": {"token": "5f1", "serverTime": 1, "expireTime": 2}}
    right = hashlib.md5(b"5f1key", usedforsecurity=False).hexdigest()
    if got.form.get("accessKey") != right:
        fault = {"code": "INVALID_USER_CREDENTIALS", "message": "Invalid username or password"}
        return {"success": False, "error": fault}
    return {"success": True, "result": {"sessionName": "s77", "userId": "19x1"}}


async def test_a_challenge_is_answered(world: World, clock: ManualClock) -> None:
    async with scripted(vtiger) as crm:
        connected = world.connected(VTIGER, url=crm.url, username="admin", access_key="key")
        session = await world.replica(connected).session()
        # Another replica takes the same session.
        assert await world.replica(connected).session() == session
        assert len(crm.got) == 2
        await clock.advance(9 * MINUTE)
        await world.replica(connected).session()

    assert (session.variables["session"], session.variables["user"]) == ("s77", "19x1")
    assert len(crm.got) == 4


async def test_a_wrong_key_is_told_in_the_crms_words_and_remembered(world: World) -> None:
    async with scripted(vtiger) as crm:
        connected = world.connected(VTIGER, url=crm.url, username="admin", access_key="wrong")
        for _ in range(3):
            with pytest.raises(NeedsReconnect, match="Invalid username or password"):
                await world.replica(connected).session()

    assert len(crm.got) == 2


BULLHORN = {
    "discover": [
        {
            "request": {"url": "{{.url}}/loginInfo", "query": {"username": "{{.username}}"}},
            "take": {"oauth_url": "oauthUrl", "rest_url": "restUrl"},
        }
    ],
    "oauth2": {
        "grant": "authorization_code",
        "authorize_url": "{{.oauth_url}}/authorize",
        "token_url": "{{.oauth_url}}/token",
    },
    "login": [
        {
            "request": {
                "url": "{{.rest_url}}/login",
                "query": {"version": "*", "access_token": "{{.AccessToken}}"},
            },
            "take": {"BhRestToken": "BhRestToken", "rest_url": "restUrl"},
        }
    ],
}


async def test_an_account_is_found_asked_for_a_token_and_logged_in(
    shared: World, clock: ManualClock
) -> None:
    """Bullhorn: each refresh token works once, and the session's address comes with it."""

    def answer(got: Got) -> Any:
        match got.path:
            case "/loginInfo":
                return {"oauthUrl": f"{crm.url}/oauth", "restUrl": f"{crm.url}/rest-services"}
            case "/oauth/token":
                number = len([one for one in crm.got if one.path == got.path])
                if got.form["refresh_token"] != f"r{number}":
                    return {"error": "invalid_grant"}
                return {"access_token": f"a{number}", "refresh_token": f"r{number + 1}"}
            case _:
                token = got.query["access_token"]
                return {"BhRestToken": f"b-{token}", "restUrl": f"{crm.url}/rest-services/e999/"}

    async with scripted(answer) as crm:
        connected = shared.connected(BULLHORN, url=crm.url, username="jane", refresh_token="r1")
        first = await shared.replica(connected).session()
        await clock.advance(timedelta(hours=1))
        second = await shared.replica(connected).session()

    assert first.variables == {
        "oauth_url": f"{crm.url}/oauth",
        "rest_url": f"{crm.url}/rest-services/e999/",
        "AccessToken": "a1",
        "BhRestToken": "b-a1",
    }
    assert second.variables["BhRestToken"] == "b-a2"


async def test_a_refresh_token_is_kept_where_the_login_after_it_fails(
    world: World, clock: ManualClock
) -> None:
    failing = True

    def answer(got: Got) -> Any:
        if got.path == "/token":
            return {"access_token": "a", "refresh_token": f"r{len(crm.got)}x"}
        return web.Response(status=503) if failing else {"session": "s"}

    auth = {
        "oauth2": {**OAUTH, "token_url": "{{.url}}/token"},
        "login": [{"request": {"url": "{{.url}}/login"}, "take": {"session": "session"}}],
    }
    async with scripted(answer) as crm:
        connected = world.connected(auth, url=crm.url)
        with pytest.raises(Unavailable):
            await world.replica(connected).session()
        failing = False
        session = await world.replica(connected).session()

    sent = [got.form["refresh_token"] for got in crm.got if got.path == "/token"]
    assert sent == [REFRESH_TOKEN, "r1x"]
    assert session.variables["session"] == "s"


async def test_a_step_that_is_not_wanted_is_left_out(world: World) -> None:
    steps = [
        {"compute": {"name": "{{.username | upper}}"}},
        {"request": {"url": "{{.url}}/x", "when": "{{.sandbox}}"}, "take": {"never": "x"}},
    ]
    async with scripted(lambda _: {}) as crm:
        connected = world.connected({"login": steps}, url=crm.url, username="jane", sandbox="")
        session = await world.replica(connected).session()

    assert (dict(session.variables), crm.got) == ({"name": "JANE"}, [])


# -- secrets ----------------------------------------------------------------------------------


async def test_nothing_secret_is_logged_shown_or_stored_in_clear(
    world: World, clock: ManualClock
) -> None:
    world.crm.faults = Faults(rotate_refresh_tokens=True)
    with capture_logs() as logs:
        keeper = world.replica()
        session = await keeper.session()
        await clock.advance(timedelta(hours=1))
        world.crm.faults = Faults(grant_revoked=True)
        with pytest.raises(NeedsReconnect) as told:
            await keeper.session()
        world.sessions.is_away = True
        await clock.advance(timedelta(hours=1))
        with pytest.raises(Unavailable):
            await keeper.session()
    document = await world.document()
    shown = [
        repr(session),
        repr(keeper),
        told.value.message,
        document.model_dump_json(),
        *map(str, logs),
    ]

    assert logs
    for secret in (REFRESH_TOKEN, CLIENT_SECRET, token_of(session)):
        assert not [text for text in shown if secret in text]


async def test_a_secret_that_the_crm_repeats_is_blotted_out(world: World) -> None:
    def answer(got: Got) -> Any:
        return {"error": "invalid_grant", "error_description": f"no {got.form['refresh_token']}!"}

    async with scripted(answer) as crm:
        with pytest.raises(NeedsReconnect, match="no •••!"):
            await world.replica(world.connected(url=crm.url)).session()


def test_a_secret_is_blotted_out_as_a_url_and_a_page_spell_it() -> None:
    secret = "p&ss/w+rd"
    said = f"no {quote(secret, safe='')}, no {html.escape(secret)}"
    reply = Reply(400, {"message": said}, secure=True, wait=None)
    assert reply.words([secret]) == "no •••, no •••"


async def test_a_session_that_no_key_opens_any_more_is_made_anew(world: World) -> None:
    await world.replica().session()
    world.box = SecretBox([new_key()])

    assert await world.accepts(await world.replica().session())
