"""Users of the API and their keys: made by one of them, never wider than he is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.errors import NotFound, Unauthenticated
from shared.http.auth import API_KEYS, API_USERS, KEY_USES, Scope
from shared.storage.port import DocumentStore, Find, every
from tests.contract.access_kit import ADMIN, DAY, MINUTE, SECOND, Api, a_store, opened

FRESH = timedelta(seconds=5)


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store(
        request.param, clock, lambda: str(request.getfixturevalue("mongo_url"))
    ) as found:
        yield found


@pytest.fixture
async def api(store: DocumentStore, clock: ManualClock) -> AsyncIterator[Api]:
    """Two gateways over one store."""
    async with opened(store, clock, replicas=2) as found:
        yield found


# -- users ----------------------------------------------------------------------------------


async def test_a_user_is_made_read_found_changed_and_removed(api: Api) -> None:
    made = await api.put_user(
        "anna", Scope.CALLS_READ, title="Anna Berg", email="anna@acme.example", extension="101"
    )
    assert made.status == 200
    read = await api.get("/v1/users/anna")
    assert read.json == made.json
    assert read.json["scopes"] == ["calls:read"]

    await api.put_user("bot", Scope.HOOKS_WRITE, title="Sync")
    for query, names in {
        "": ["anna", "bot"],
        "search=BERG": ["anna"],
        "search=acme.example": ["anna"],
        "scope=hooks:write": ["bot"],
        "extension=101": ["anna"],
        "disabled=true": [],
        "ids=bot,nobody": ["bot"],
        "limit=1": ["anna"],
    }.items():
        listed = await api.get(f"/v1/users?{query}")
        assert [user["name"] for user in listed.json["users"]] == names, query

    patch = {"disabled": True, "email": None}
    changed = await api.ask("PATCH", "/v1/users/anna", json=patch)
    assert changed.json["disabled"] is True
    assert "email" not in changed.json
    assert changed.json["title"] == "Anna Berg"

    assert (await api.ask("DELETE", "/v1/users/anna")).status == 200
    assert (await api.get("/v1/users/anna")).status == 404
    assert (await api.ask("DELETE", "/v1/users/anna")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scopes": ["everything"]},
        {"scopes": "calls:read"},
        {"scopes": [], "extension": "a b"},
        {"scopes": [], "email": "nobody"},
        {"scopes": [], "email": f"{'a' * 65}@acme.example"},
        {"scopes": [], "title": "x" * 101},
        {"scopes": [], "title": "two\nlines"},
        {"scopes": [], "rate": 0},
        {"scopes": [], "is_admin": True},
        {"scopes": ["site:write"], "extension": "101"},
    ],
)
async def test_what_is_no_user_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert (await api.ask("PUT", "/v1/users/anna", json=body)).status == 422
    assert (await api.get("/v1/users/anna")).status == 404


async def test_two_who_change_a_user_do_not_undo_each_other(api: Api) -> None:
    made = await api.put_user("anna", Scope.CALLS_READ)
    tag = {"If-Match": made.headers["ETag"]}
    first = await api.put_user("anna", Scope.CALLS_READ, title="One", headers=tag)
    second = await api.put_user("anna", Scope.CALLS_READ, title="Two", headers=tag)

    assert (first.status, second.status, second.code) == (200, 412, "stale")
    assert (await api.get("/v1/users/anna")).json["title"] == "One"
    only_new = await api.put_user("anna", headers={"If-None-Match": "*"})
    assert only_new.status == 412


async def test_many_patches_at_once_are_all_kept_or_refused(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    path = "/v1/users/anna"
    replies = await asyncio.gather(
        *(
            api.ask("PATCH", path, json=patch, replica=n % 2)
            for n, patch in enumerate([{"title": "T"}, {"email": "a@acme.example"}] * 4)
        )
    )
    assert {reply.status for reply in replies} <= {200, 409, 412}
    kept = (await api.get(path)).json
    for reply, patch in zip(
        replies, [{"title": "T"}, {"email": "a@acme.example"}] * 4, strict=True
    ):
        if reply.status == 200:
            assert patch.items() <= kept.items()


# -- keys -----------------------------------------------------------------------------------


async def test_a_key_is_made_seen_once_and_listed_without_its_token(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ, Scope.CALLS_DIAL)
    made = await api.make_key("anna", "laptop", scopes=["calls:read"], expires_in="30d")
    assert made.status == 201
    token = made.json["token"]
    assert await api.scopes_of(token) == {"calls:read"}

    listed = await api.get("/v1/users/anna/keys")
    (key,) = listed.json["keys"]
    assert (key["name"], key["user"], key["scopes"]) == ("laptop", "anna", ["calls:read"])
    assert key["expires_at"] == made.json["key"]["expires_at"]
    whole = await api.get("/v1/keys")
    assert [one["name"] for one in whole.json["keys"]] == ["admin", "laptop", "ops"]
    assert token not in str(listed.json) + str(whole.json)
    kept = [one async for one in every(api.store.collection(API_KEYS), Find())]
    assert token not in "".join(one.model_dump_json() for one in kept)


async def test_a_key_has_all_that_its_user_may_unless_it_is_said(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ, Scope.CALLS_DIAL)
    assert await api.scopes_of(token) == {"calls:read", "calls:dial"}


async def test_a_key_wider_than_its_user_is_refused_by_name(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    refused = await api.make_key("anna", "k", scopes=["calls:read", "site:write"])

    assert (refused.status, refused.code) == (403, "forbidden")
    assert "site:write" in refused.json["detail"]
    assert "calls:read" not in refused.json["detail"]


async def test_nobody_hands_on_what_he_lacks(api: Api) -> None:
    lesser = await api.a_user_with_a_key(
        "lesser", Scope.KEYS_WRITE, Scope.KEYS_READ, Scope.CALLS_READ
    )
    for reply in (
        await api.put_user("mine", Scope.SITE_WRITE, key=lesser),
        await api.put_user("mine", Scope.TENANTS_READ, key=lesser),
        await api.put_user("mine", Scope.TENANTS_WRITE),
        await api.put_user("lesser", Scope.KEYS_WRITE, Scope.SITE_WRITE, key=lesser),
    ):
        assert (reply.status, reply.code) == (403, "forbidden")
    assert "site:write" in (await api.put_user("mine", Scope.SITE_WRITE, key=lesser)).json["detail"]
    assert (await api.put_user("mine", Scope.CALLS_READ, key=lesser)).status == 200


async def test_nobody_touches_who_has_more(api: Api) -> None:
    """Not him, not his keys: a rotated one would show its token."""
    lesser = await api.a_user_with_a_key("lesser", Scope.KEYS_WRITE, Scope.CALLS_READ)
    boss = await api.a_user_with_a_key("boss", Scope.KEYS_WRITE, Scope.SITE_WRITE, Scope.CALLS_READ)
    for reply in (
        await api.put_user("boss", Scope.CALLS_READ, key=lesser),
        await api.ask("PATCH", "/v1/users/boss", json={"disabled": True}, key=lesser),
        await api.ask("DELETE", "/v1/users/boss", key=lesser),
        await api.make_key("boss", "k", scopes=["calls:read"], key=lesser),
        await api.ask("POST", "/v1/users/boss/keys/boss-key/rotate", json={}, key=lesser),
        await api.ask("DELETE", "/v1/users/boss/keys/boss-key", key=lesser),
        await api.ask("DELETE", "/v1/keys/boss-key", key=lesser),
        await api.ask("DELETE", "/v1/keys/admin", key=lesser),
        await api.ask("DELETE", "/v1/keys/ops"),
    ):
        assert (reply.status, reply.code) == (403, "forbidden")
    assert await api.scopes_of(boss) == {"keys:write", "site:write", "calls:read"}


async def test_a_key_that_its_user_outgrew_is_not_rotated_by_who_lacks_what_is_in_it(
    api: Api,
) -> None:
    """Its token would have site:write on the day that the user gets it back."""
    await api.put_user("anna", Scope.CALLS_READ, Scope.SITE_WRITE)
    await api.make_key("anna", "k")
    await api.put_user("anna", Scope.CALLS_READ)
    lesser = await api.a_user_with_a_key("lesser", Scope.KEYS_WRITE, Scope.CALLS_READ)

    refused = await api.ask("POST", "/v1/users/anna/keys/k/rotate", json={}, key=lesser)
    assert refused.status == 403


async def test_a_right_that_a_user_loses_is_lost_in_all_his_keys_within_seconds(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ, Scope.CALLS_DIAL)
    for replica in (0, 1):
        assert len(await api.scopes_of(token, replica=replica)) == 2

    await api.put_user("anna", Scope.CALLS_READ)
    assert await api.scopes_of(token) == {"calls:read"}
    await api.clock.advance(FRESH)
    assert await api.scopes_of(token, replica=1) == {"calls:read"}

    await api.put_user("anna", Scope.CALLS_READ, Scope.CALLS_DIAL)
    assert await api.scopes_of(token) == {"calls:read", "calls:dial"}


async def test_keys_of_a_disabled_user_are_no_good_within_seconds(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    await api.get("/v1/me", key=token, replica=1)
    await api.ask("PATCH", "/v1/users/anna", json={"disabled": True})

    here = await api.get("/v1/me", key=token)
    assert (here.status, here.code) == (401, "unauthenticated")
    assert "disabled" in here.json["detail"]
    await api.clock.advance(FRESH)
    assert (await api.get("/v1/me", key=token, replica=1)).status == 401

    await api.ask("PATCH", "/v1/users/anna", json={"disabled": False})
    assert (await api.get("/v1/me", key=token)).status == 200


async def test_keys_of_a_removed_user_do_not_come_back_with_one_of_his_name(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    # A key that was made while he was removed: it is of the one who was.
    before = await api.store.collection(API_USERS).get("acme/anna")
    await api.ask("DELETE", "/v1/users/anna")
    late = await api.replicas[0].keys.issue(
        tenant="acme", name="late", scopes=(Scope.CALLS_READ,), user=before
    )
    await api.put_user("anna", Scope.CALLS_READ)

    for one in (token, late.get_secret_value()):
        assert (await api.get("/v1/me", key=one)).status == 401


async def test_a_user_who_is_bound_to_a_phone_binds_his_keys(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_DIAL, extension="101")
    assert (await api.get("/v1/me", key=token)).json["extension"] == "101"
    other = await api.make_key("anna", "k2", extension="102")
    assert other.status == 422

    await api.put_user("anna", Scope.CALLS_DIAL, extension="102")
    assert (await api.get("/v1/me", key=token)).json["extension"] == "102"


async def test_a_key_may_be_bound_where_its_user_is_not(api: Api) -> None:
    await api.put_user("desk", Scope.CALLS_DIAL, Scope.SITE_READ)
    whole = await api.make_key("desk", "k", extension="101")
    assert whole.status == 422, "site:read is not about a phone"
    made = await api.make_key("desk", "k", extension="101", scopes=["calls:dial"])
    me = await api.get("/v1/me", key=made.json["token"])
    assert me.json["extension"] == "101"


async def test_who_is_bound_to_a_phone_makes_nothing_that_is_not(api: Api) -> None:
    """No such key is made by the API; one of before may be there."""
    bound = await api.replicas[0].keys.issue(
        tenant="acme", name="bound", scopes=(Scope.KEYS_WRITE, Scope.CALLS_DIAL), extension="101"
    )
    key = bound.get_secret_value()
    assert (await api.put_user("free", Scope.CALLS_DIAL, key=key)).status == 403
    assert (await api.put_user("his", Scope.CALLS_DIAL, extension="102", key=key)).status == 403
    assert (await api.put_user("his", Scope.CALLS_DIAL, extension="101", key=key)).status == 200


async def test_a_name_is_taken_until_its_key_has_ended(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    first = await api.make_key("anna", "k", expires_in="1h")
    again = await api.make_key("anna", "k")
    assert (again.status, again.code) == (409, "conflict")

    await api.clock.advance(timedelta(hours=1))
    ended = await api.get("/v1/me", key=first.json["token"])
    assert (ended.status, "ended on" in ended.json["detail"]) == (401, True)
    assert (await api.make_key("anna", "k")).status == 201
    gone = await api.get("/v1/me", key=first.json["token"])
    assert (gone.status, "ended on" in gone.json["detail"]) == (401, False)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Über"},
        {"name": "k~0123456789ab"},
        {"name": "k", "expires_in": "4000d"},
        {"name": "k", "expires_in": "0s"},
        {"name": "k", "expires_in": "1d", "expires_at": "2199-01-01T00:00:00Z"},
        {"name": "k", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "k", "token": "mine"},
        {"scopes": []},
    ],
)
async def test_what_is_no_key_is_refused(api: Api, body: dict[str, Any]) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    assert (await api.ask("POST", "/v1/users/anna/keys", json=body)).status == 422
    assert not (await api.get("/v1/users/anna/keys")).json["keys"]


@pytest.mark.parametrize("end", ["9999-12-31T23:00:00Z", "2120-01-01T00:00:00Z"])
async def test_a_key_that_ends_does_so_within_ten_years(api: Api, end: str) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    made = await api.make_key("anna", "phone", expires_at=end)
    assert made.status == 422
    assert "3650 days" in made.json["detail"]

    assert (await api.make_key("anna", "phone", expires_in="3650d")).status == 201
    await api.clock.advance(DAY)
    path = "/v1/users/anna/keys/phone/rotate"
    assert (await api.ask("POST", path, json={"expires_at": end})).status == 422
    assert (await api.ask("POST", path, json={})).status == 200


async def test_a_user_has_so_many_keys_and_no_more(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    statuses = [(await api.make_key("anna", f"k{n}")).status for n in range(51)]
    assert statuses == [201] * 50 + [409]


async def test_the_end_of_a_key_is_told_in_time(api: Api) -> None:
    await api.put_user("anna", Scope.CALLS_READ)
    token = (await api.make_key("anna", "k", expires_in="20d")).json["token"]
    early = await api.get("/v1/me", key=token)
    assert "Callmesh-Key-Expires" not in early.headers

    await api.clock.advance(6 * DAY)
    late = await api.get("/v1/me", key=token)
    assert late.headers["Callmesh-Key-Expires"] == late.json["expires_at"]
    refused = await api.get("/v1/users", key=token)
    assert refused.status == 403
    assert "Callmesh-Key-Expires" in refused.headers


# -- rotation -------------------------------------------------------------------------------


async def a_key(api: Api, **more: Any) -> str:
    await api.put_user("anna", Scope.CALLS_READ)
    token: str = (await api.make_key("anna", "k", **more)).json["token"]
    return token


async def rotate(api: Api, **body: Any) -> Any:
    reply = await api.ask("POST", "/v1/users/anna/keys/k/rotate", json=body)
    assert reply.status == 200, reply.json
    return reply.json


async def statuses(api: Api, *tokens: str, replica: int = 0) -> list[int]:
    return [(await api.get("/v1/me", key=token, replica=replica)).status for token in tokens]


async def test_a_rotated_key_has_a_new_token_and_the_old_one_for_the_overlap(api: Api) -> None:
    old = await a_key(api)
    assert await statuses(api, old, replica=1) == [200]
    made = await rotate(api, overlap="1h")
    new = made["token"]
    assert await statuses(api, old, new) == [200, 200]
    (listed,) = (await api.get("/v1/users/anna/keys")).json["keys"]
    assert listed["old_token_until"] == made["key"]["old_token_until"]
    me = await api.get("/v1/me", key=old)
    assert (me.json["key"], me.json["expires_at"]) == ("k", listed["old_token_until"])
    assert "Callmesh-Key-Expires" in me.headers

    await api.clock.advance(timedelta(minutes=59))
    assert await statuses(api, old, new, replica=1) == [200, 200]
    await api.clock.advance(MINUTE)
    for replica in (0, 1):
        assert await statuses(api, old, new, replica=replica) == [401, 200]
    (listed,) = (await api.get("/v1/users/anna/keys")).json["keys"]
    assert "old_token_until" not in listed


async def test_without_an_overlap_the_old_token_ends_at_once(api: Api) -> None:
    old = await a_key(api)
    await statuses(api, old, replica=1)
    new = (await rotate(api))["token"]

    assert await statuses(api, old, new) == [401, 200]
    await api.clock.advance(FRESH)
    assert await statuses(api, old, new, replica=1) == [401, 200]


async def test_every_token_of_before_ends_with_the_overlap_of_the_last_rotation(api: Api) -> None:
    first = await a_key(api)
    second = (await rotate(api, overlap="7d"))["token"]
    third = (await rotate(api, overlap="1h"))["token"]
    assert await statuses(api, first, second, third) == [200, 200, 200]

    await api.clock.advance(timedelta(hours=1))
    assert await statuses(api, first, second, third) == [401, 401, 200]


async def test_an_overlap_does_not_make_an_old_token_live_longer(api: Api) -> None:
    old = await a_key(api, expires_in="10m")
    await rotate(api, overlap="1h")
    await api.clock.advance(timedelta(minutes=10))

    assert await statuses(api, old) == [401]


async def test_a_rotated_key_lives_as_long_again(api: Api) -> None:
    await a_key(api, expires_in="90d")
    await api.clock.advance(80 * DAY)
    again = await rotate(api)
    assert again["key"]["expires_at"][:10] == f"{api.clock.now() + 90 * DAY:%Y-%m-%d}"
    shorter = await rotate(api, expires_in="1d")
    assert shorter["key"]["expires_at"][:10] == f"{api.clock.now() + DAY:%Y-%m-%d}"


async def test_an_overlap_is_a_week_at_most(api: Api) -> None:
    await a_key(api)
    path = "/v1/users/anna/keys/k/rotate"
    assert (await api.ask("POST", path, json={"overlap": "8d"})).status == 422


async def test_revoking_ends_every_token(api: Api) -> None:
    old = await a_key(api)
    new = (await rotate(api, overlap="1d"))["token"]
    assert (await api.ask("DELETE", "/v1/users/anna/keys/k")).status == 200

    assert await statuses(api, old, new) == [401, 401]
    assert (await api.ask("DELETE", "/v1/users/anna/keys/k")).status == 404
    assert not [
        key async for key in every(api.store.collection(API_KEYS), Find()) if key.called == "k"
    ]


async def test_a_rotation_that_broke_off_is_mended_by_the_next(api: Api) -> None:
    """The old one lost its name, and no new one has it."""
    old = await a_key(api)
    keys = api.store.collection(API_KEYS)
    (kept,) = [key async for key in every(keys, Find()) if key.name == "k"]
    await keys.replace(kept.model_copy(update={"name": f"k~{kept.key[:12]}"}))
    assert await statuses(api, old) == [200], "a token that is in use stays good"

    new = (await rotate(api))["token"]
    assert await statuses(api, old, new) == [401, 200]


async def test_of_two_who_rotate_at_once_nobody_is_told_a_token_that_is_none(api: Api) -> None:
    await a_key(api)
    path = "/v1/users/anna/keys/k/rotate"
    replies = await asyncio.gather(
        *(api.ask("POST", path, json={"overlap": "1h"}, replica=n % 2) for n in range(6))
    )
    told = [reply.json["token"] for reply in replies if reply.status == 200]
    assert {reply.status for reply in replies} <= {200, 409}
    assert told
    assert set(await statuses(api, *told)) == {200}
    assert len((await api.get("/v1/users/anna/keys")).json["keys"]) == 1


async def test_who_revokes_while_others_rotate_leaves_no_token(api: Api) -> None:
    for _ in range(5):
        tokens = [await a_key(api)]
        path = "/v1/users/anna/keys/k"
        replies = await asyncio.gather(
            api.ask("POST", f"{path}/rotate", json={"overlap": "1h"}),
            api.ask("DELETE", path, replica=1),
            api.ask("POST", f"{path}/rotate", json={"overlap": "1h"}, replica=1),
        )
        assert replies[1].status == 200
        tokens += [reply.json["token"] for reply in replies if "token" in reply.json]
        await api.clock.advance(FRESH)
        assert set(await statuses(api, *tokens)) == {401}
        (left,) = [await api.get("/v1/users/anna/keys")]
        assert left.json["keys"] == []


# -- the way back in ------------------------------------------------------------------------


async def test_the_last_key_that_can_make_keys_does_not_lock_itself_out_unasked(
    api: Api, store: DocumentStore
) -> None:
    await api.replicas[0].keys.revoke(tenant="acme", name="ops")
    refused = await api.ask("DELETE", "/v1/keys/admin")
    assert (refused.status, refused.code) == (409, "conflict")
    assert (await api.ask("DELETE", "/v1/keys/admin?confirm=other")).status == 409

    await api.a_user_with_a_key("second", *ADMIN)
    assert (await api.ask("DELETE", "/v1/keys/admin")).status == 200


async def test_the_last_user_who_can_make_keys_stays_unless_it_is_said_twice(api: Api) -> None:
    boss = await api.a_user_with_a_key("boss", *ADMIN)
    for name in ("ops", "admin"):
        await api.replicas[0].keys.revoke(tenant="acme", name=name)
    narrower = [scope for scope in ADMIN if scope is not Scope.KEYS_WRITE]
    for reply in (
        await api.ask("PATCH", "/v1/users/boss", json={"disabled": True}, key=boss),
        await api.put_user("boss", *narrower, key=boss),
        await api.ask("DELETE", "/v1/users/boss", key=boss),
        await api.ask("DELETE", "/v1/users/boss/keys/boss-key", key=boss),
    ):
        assert (reply.status, reply.code) == (409, "conflict")
    gone = await api.ask("DELETE", "/v1/users/boss?confirm=boss", key=boss)
    assert gone.status == 200
    assert (await api.get("/v1/me", key=boss)).status == 401


# -- who am I, and when was I here ----------------------------------------------------------


async def test_a_key_is_told_what_it_is(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ, extension="101")
    me = await api.get("/v1/me", key=token)
    assert me.json == {
        "tenant": "acme",
        "home_tenant": "acme",
        "key": "anna-key",
        "user": "anna",
        "scopes": ["calls:read"],
        "extension": "101",
    }


async def test_the_last_use_is_known_to_a_minute_and_written_once_in_it(api: Api) -> None:
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    uses = api.store.collection(KEY_USES)

    async def used() -> str | None:
        for replica in api.replicas:
            await replica.uses.settle()
        (key,) = (await api.get("/v1/users/anna/keys")).json["keys"]
        found: str | None = key.get("last_used_at")
        return found

    assert await used() is None
    await api.get("/v1/me", key=token)
    first = await used()
    assert first is not None
    (key,) = (await api.get("/v1/users/anna/keys")).json["keys"]
    assert key["last_peer"] == "127.0.0.1"

    await api.clock.advance(59 * SECOND)
    await api.get("/v1/me", key=token)
    assert await used() == first
    await api.clock.advance(SECOND)
    await api.get("/v1/me", key=token)
    assert await used() != first

    await api.ask("DELETE", "/v1/users/anna/keys/anna-key")
    with pytest.raises(NotFound):
        await uses.get("acme/anna-key")
    await api.clock.advance(SECOND)
    await api.make_key("anna", "anna-key")
    assert await used() is None


async def test_the_use_of_a_new_key_is_not_that_of_one_of_its_name_before(api: Api) -> None:
    """Another gateway wrote of the old one when it was gone."""
    token = await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    await api.get("/v1/me", key=token)
    await api.replicas[0].uses.settle()
    old = await api.store.collection(KEY_USES).get("acme/anna-key")
    await api.ask("DELETE", "/v1/users/anna/keys/anna-key")
    await api.store.collection(KEY_USES).put(old)
    await api.clock.advance(SECOND)

    await api.make_key("anna", "anna-key")
    (key,) = (await api.get("/v1/users/anna/keys")).json["keys"]
    assert "last_used_at" not in key


# -- tenants and operators ------------------------------------------------------------------


async def test_a_tenant_sees_and_touches_nothing_of_another(api: Api) -> None:
    await api.a_user_with_a_key("anna", Scope.CALLS_READ)
    theirs = api.admin["globex"]
    assert not (await api.get("/v1/users", key=theirs)).json["users"]
    assert [key["name"] for key in (await api.get("/v1/keys", key=theirs)).json["keys"]] == [
        "admin"
    ]
    for method, path, body in (
        ("GET", "/v1/users/anna", None),
        ("GET", "/v1/users/anna/keys", None),
        ("PATCH", "/v1/users/anna", {"disabled": True}),
        ("DELETE", "/v1/users/anna", None),
        ("POST", "/v1/users/anna/keys", {"name": "k"}),
        ("POST", "/v1/users/anna/keys/anna-key/rotate", {}),
        ("DELETE", "/v1/users/anna/keys/anna-key", None),
        ("DELETE", "/v1/keys/anna-key", None),
    ):
        assert (await api.ask(method, path, key=theirs, json=body)).status == 404, path
    assert (await api.put_user("anna", Scope.CALLS_READ, key=theirs)).status == 200
    assert (await api.get("/v1/users/anna")).json["scopes"] == ["calls:read"]


async def test_an_operator_acts_in_another_tenant_by_a_header(api: Api) -> None:
    there = {"X-Callmesh-Tenant": "globex"}
    made = await api.put_user("olga", Scope.CALLS_READ, key=api.operator, headers=there)
    assert made.status == 200
    assert (await api.get("/v1/users/olga")).status == 404
    assert (await api.get("/v1/users/olga", key=api.admin["globex"])).status == 200
    me = await api.get("/v1/me", key=api.operator, headers=there)
    assert (me.json["tenant"], me.json["home_tenant"]) == ("globex", "acme")
    (entry,) = [one for one in await api.entries() if one.operation == "put_user"]
    assert (entry.tenant, entry.home_tenant, entry.key_name) == ("globex", "acme", "ops")


async def test_nobody_else_does(api: Api) -> None:
    there = {"X-Callmesh-Tenant": "globex"}
    assert (await api.get("/v1/users", headers=there)).status == 403
    own = await api.get("/v1/users", headers={"X-Callmesh-Tenant": "acme"})
    assert own.status == 200
    for tenant in ("nowhere", "", "../globex", "GLOBEX", "globex\xff", "x" * 300):
        odd = await api.get("/v1/users", key=api.operator, headers={"X-Callmesh-Tenant": tenant})
        assert odd.status == 422, tenant
        assert tenant not in odd.json["detail"] or not tenant


async def test_who_may_only_look_at_tenants_changes_nothing_in_them(api: Api) -> None:
    scopes = tuple(scope for scope in Scope if scope is not Scope.TENANTS_WRITE)
    looks = await api.replicas[0].keys.issue(tenant="acme", name="looks", scopes=scopes)
    key, there = looks.get_secret_value(), {"X-Callmesh-Tenant": "globex"}
    assert (await api.get("/v1/users", key=key, headers=there)).status == 200
    refused = await api.put_user("olga", key=key, headers=there)
    assert refused.status == 403
    assert "tenants:write" in refused.json["detail"]


async def test_hooks_of_another_tenant_are_no_looking(api: Api) -> None:
    """They are not in the audit log; all the same they make calls of what they say."""
    await api.put_user("guest", Scope.TENANTS_READ, Scope.HOOKS_WRITE, key=api.operator)
    made = await api.make_key("guest", "guest", key=api.operator)
    asked = {"key": made.json["token"], "headers": {"X-Callmesh-Tenant": "globex"}}
    refused = await api.ask("POST", "/v1/things/x/hook", **asked)
    assert (refused.status, "tenants:write" in refused.json["detail"]) == (403, True)
    assert (await api.ask("POST", "/v1/things/x/hook", key=asked["key"])).status == 200


async def test_who_is_no_operator_any_more_goes_on_in_no_other_tenant(api: Api) -> None:
    """What lasts longer than a request asks again; of what it came for it may have all."""
    book = api.replicas[0].keys
    await api.put_user("guest", Scope.TENANTS_READ, Scope.EVENTS_READ, key=api.operator)
    made = await api.make_key("guest", "guest", key=api.operator)
    caller = await book.caller(made.json["token"])
    there = caller.model_copy(update={"tenant": "globex", "home": "acme"})
    assert (await book.again(there)).tenant == "globex"
    await api.put_user("guest", Scope.EVENTS_READ, key=api.operator)
    await api.clock.advance(FRESH)
    with pytest.raises(Unauthenticated):
        await book.again(there)


async def test_only_an_operator_sets_a_rate(api: Api) -> None:
    assert (await api.put_user("anna", Scope.CALLS_READ, rate=500)).status == 403
    made = await api.put_user("anna", Scope.CALLS_READ, rate=500, key=api.operator)
    assert made.json["rate"] == 500
    kept = await api.ask("PATCH", "/v1/users/anna", json={"title": "Anna"})
    assert (kept.status, kept.json["rate"]) == (200, 500)
