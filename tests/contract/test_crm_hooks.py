"""Hooks of CRMs, from a real client through gateway and bus to the lookup that forgets."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from shared.contracts.hooks import CrmHookReceived
from shared.http.auth import Scope
from shared.runtime.outbox import Spooled, spool_spec
from shared.storage.port import Find
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import SECRET, CrmApi, opened
from tests.contract.sessions_kit import Got, scripted

HOOK = "/v1/crm/shop/hook"
JANE, JOE = "+447700900123", "+447700900124"
MAP = {"contact_id": "id", "numbers": ["phone", "old_phone"]}
CHANGED = {"id": "7"}


class People:
    """The CRM's records: id → number and name."""

    def __init__(self) -> None:
        self.known = {"7": (JANE, "Jane Doe")}
        self.asked = 0

    def answer(self, got: Got) -> Any:
        self.asked += 1
        people = [
            {"id": contact_id, "phone": phone, "name": name}
            for contact_id, (phone, name) in self.known.items()
            if phone == got.query["phone"]
        ]
        return {"people": people}


class Shop:
    """The API, its CRM, and what the lookup says of a number."""

    def __init__(self, api: CrmApi, people: People, url: str) -> None:
        self.api = api
        self.people = people
        self.url = url

    async def hooked(self, **hook: Any) -> None:
        """The connection ``shop`` by a template with this hook."""
        self.api.template("shop", changes={"hook": {"map": MAP, **hook}})
        await self.api.apply(
            {
                "name": "shop",
                "template": "shop",
                "parameters": {"url": self.url},
                "credentials": {"hook_secret": SECRET},
            }
        )

    async def tell(self, body: Any = None, method: str = "POST", **more: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        # As it is written here: a client would make other escapes of it.
        url = URL(self.api.origin + HOOK + more.pop("url", ""), encoded=True)
        return await self.api.send(method, url, data=data and BytesIO(data), **more)

    async def name_of(self, number: str = JANE) -> str | None:
        status, found = await self.api.send("GET", "/v1/contacts", params={"number": number})
        assert status == 200, found
        return next((card["display_name"] for card in found["candidates"]), None)

    async def becomes(self, name: str | None, number: str = JANE) -> None:
        async def is_so() -> bool:
            return await self.name_of(number) == name

        await eventually(is_so)

    async def spooled(self) -> list[Spooled]:
        page = await self.api.store.collection(spool_spec("gateway")).page(Find())
        return page.documents


@asynccontextmanager
async def a_shop(folder: Path, *, public_url: str | None = None) -> AsyncIterator[Shop]:
    people = People()
    async with scripted(people.answer) as crm, opened(folder, public_url=public_url) as api:
        yield Shop(api, people, crm.url)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with a_shop(tmp_path) as found:
        yield found


def mac(text: bytes, digest: str = "sha256") -> bytes:
    return hmac.new(SECRET.encode(), text, digest).digest()


# -- who changed ------------------------------------------------------------------------------


async def test_a_changed_contact_is_looked_up_anew(shop: Shop) -> None:
    await shop.hooked()
    assert [await shop.name_of() for _ in range(2)] == ["Jane Doe"] * 2
    assert shop.people.asked == 1
    shop.people.known["7"] = (JANE, "Jane Roe")
    assert await shop.name_of() == "Jane Doe"

    assert await shop.tell(CHANGED) == (200, {"changes": 1})
    await shop.becomes("Jane Roe")


async def test_the_same_words_of_a_second_change_count_again(shop: Shop) -> None:
    """Most CRMs say no more than whose record it is."""
    await shop.hooked()
    for name in ("Jane Roe", "Jane Moe"):
        await shop.name_of()
        shop.people.known["7"] = (JANE, name)
        await shop.tell(CHANGED)
        await shop.becomes(name)


async def test_a_batch_names_many(shop: Shop) -> None:
    shop.people.known["8"] = (JOE, "Joe")
    await shop.hooked(events="events")
    assert [await shop.name_of(JANE), await shop.name_of(JOE)] == ["Jane Doe", "Joe"]
    shop.people.known = {"7": (JANE, "Jane Roe"), "8": (JOE, "Joseph")}

    body = {"events": [{"id": 7}, {"id": 8}, {"id": 7}]}
    assert await shop.tell(body) == (200, {"changes": 2})
    await shop.becomes("Jane Roe")
    await shop.becomes("Joseph", JOE)


async def test_a_form_with_nested_keys_is_read(shop: Shop) -> None:
    await shop.hooked(format="form", events="contacts.update")
    await shop.name_of()
    shop.people.known["7"] = (JANE, "Jane Roe")

    form = {"contacts[update][0][id]": "7", "contacts[update][0][name]": "Ünal", "account[id]": "1"}
    status, answer = await shop.api.send("POST", HOOK, data=form)
    assert (status, answer) == (200, {"changes": 1})
    await shop.becomes("Jane Roe")


async def test_who_got_a_number_is_nobody_no_more(shop: Shop) -> None:
    await shop.hooked()
    assert await shop.name_of(JOE) is None
    shop.people.known["8"] = (JOE, "Joe")
    assert await shop.name_of(JOE) is None

    await shop.tell({"id": "8", "phone": JOE})
    await shop.becomes("Joe", JOE)


async def test_a_hook_that_names_nobody_says_that_somebody_changed(shop: Shop) -> None:
    await shop.hooked()
    assert await shop.name_of(JOE) is None
    shop.people.known["8"] = (JOE, "Joe")

    assert await shop.tell({"something": "else"}) == (200, {"changes": 0})
    await shop.becomes("Joe", JOE)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_hook_may_say_it_all_in_its_url(shop: Shop, method: str) -> None:
    await shop.hooked()
    await shop.name_of()
    shop.people.known["7"] = (JANE, "Jane Roe")

    async with shop.api.session.request(method, f"{HOOK}?key={shop.api.key}&id=7") as answer:
        assert (answer.status, await answer.json()) == (200, {"changes": 1})
    await shop.becomes("Jane Roe")


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [("POST", "", {"challenge": "abc"}), ("GET", "?challenge=abc", None)],
)
async def test_a_challenge_is_sent_back_and_changes_nothing(
    shop: Shop, method: str, url: str, body: Any
) -> None:
    await shop.hooked(echo="challenge")
    assert await shop.tell(body, method, url=url) == (200, {"challenge": "abc"})
    assert shop.api.metrics.value("callmesh_hooks_total", "accepted") == 0


# -- who says so ------------------------------------------------------------------------------


async def refused(shop: Shop, body: Any = None, **more: Any) -> None:
    status, problem = await shop.tell(CHANGED if body is None else body, **more)
    assert (status, problem["code"]) == (401, "unauthenticated")
    assert shop.api.metrics.value("callmesh_hooks_total", "accepted") == 0
    assert SECRET not in str(problem)


@pytest.mark.parametrize("form", ["hex", "base64"])
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
async def test_a_signature_over_the_body(shop: Shop, form: str, digest: str) -> None:
    check = {"kind": "hmac", "secret": "hook_secret", "header": "X-Sig", "prefix": "v1="}
    await shop.hooked(check={**check, "form": form, "digest": digest})
    body = b'{ "id" : "7" }'
    made = mac(body, digest)
    sign = "v1=" + (made.hex() if form == "hex" else base64.b64encode(made).decode())

    await refused(shop)
    await refused(shop, b'{"id": "8"}', headers={"X-Sig": sign})
    await refused(shop, body, headers={"X-Sig": sign[:-2]})
    assert (await shop.tell(body, headers={"X-Sig": sign}))[0] == 200


STAMPED = {
    "kind": "hmac",
    "secret": "hook_secret",
    "header": "X-Sig",
    "form": "base64",
    "text": "{{.Method}}{{.Url}}{{.Body}}{{.Timestamp}}",
    "timestamp_header": "X-Time",
}


def stamped(url: str, body: bytes, ms: int) -> dict[str, str]:
    text = b"POST" + url.encode() + body + str(ms).encode()
    return {"X-Sig": base64.b64encode(mac(text)).decode(), "X-Time": str(ms)}


@pytest.mark.parametrize("public_url", [None, "https://mesh.example/callmesh"])
async def test_a_signature_over_address_and_time(tmp_path: Path, public_url: str | None) -> None:
    """The address as the CRM called it, which a proxy may have changed on the way."""
    async with a_shop(tmp_path, public_url=public_url) as shop:
        await shop.hooked(check=STAMPED)
        query = "?x=a%20b%2Fc&key=" + shop.api.key
        url = (public_url or shop.api.origin) + HOOK + query
        body, now = b'{"id": "7"}', round(shop.api.clock.now().timestamp() * 1000)
        old = now - 6 * 60 * 1000

        await refused(shop, body, url=query, headers=stamped(url, body, old))
        late = stamped(url, body, old) | {"X-Time": str(now)}
        await refused(shop, body, url=query, headers=late)
        elsewhere = stamped("https://other.example" + HOOK + query, body, now)
        await refused(shop, body, url=query, headers=elsewhere)
        good = stamped(url, body, now)
        assert (await shop.tell(body, url=query, headers=good))[0] == 200


async def test_hooks_that_say_different_things_by_one_signature_are_two(shop: Shop) -> None:
    """A template's signature may be over the time alone."""
    await shop.hooked(check=STAMPED | {"form": "hex", "text": "{{.Timestamp}}"})
    now = str(round(shop.api.clock.now().timestamp() * 1000))
    sign = {"X-Sig": mac(now.encode()).hex(), "X-Time": now}
    for contact in ("7", "8", "7"):
        body = json.dumps({"id": contact}).encode()
        assert (await shop.tell(body, headers=sign))[0] == 200
    counted = shop.api.metrics.value
    assert counted("callmesh_hooks_total", "accepted") == 2
    assert counted("callmesh_hooks_total", "replayed") == 1


async def test_a_token_in_a_header(shop: Shop) -> None:
    await shop.hooked(check={"kind": "token", "secret": "hook_secret", "header": "X-Token"})
    await refused(shop)
    await refused(shop, headers={"X-Token": "a secret"})
    assert (await shop.tell(CHANGED, headers={"X-Token": SECRET}))[0] == 200


async def test_a_token_in_the_url(shop: Shop) -> None:
    await shop.hooked(check={"kind": "token", "secret": "hook_secret", "query": "token"})
    await refused(shop)
    await refused(shop, url="?token=other")
    assert (await shop.tell(CHANGED, url=f"?token={SECRET.replace(' ', '%20')}"))[0] == 200


async def test_a_token_in_the_body_goes_no_further(shop: Shop) -> None:
    await shop.hooked(check={"kind": "token", "secret": "hook_secret", "path": "token"})
    await refused(shop, {"id": "7", "token": "other"})
    shop.api.bus.is_away = True
    assert (await shop.tell({"id": "7", "token": SECRET}))[0] == 200
    (waiting,) = await shop.spooled()
    assert '"contact_id":"7"' in waiting.message
    assert SECRET not in waiting.message


async def test_a_connection_without_its_secret_believes_nobody(shop: Shop) -> None:
    await shop.hooked(check={"kind": "token", "secret": "hook_secret", "header": "X-Token"})
    await shop.api.apply({"name": "shop", "template": "shop", "parameters": {"url": shop.url}})
    await refused(shop, headers={"X-Token": ""})


async def test_a_hook_needs_a_key_of_its_tenant_that_may(shop: Shop) -> None:
    await shop.hooked()
    assert (await shop.tell(CHANGED, key="cm_guess"))[0] == 401
    reader = await shop.api.a_key(Scope.CONTACTS_READ)
    assert (await shop.tell(CHANGED, key=reader))[0] == 403
    hooks = await shop.api.a_key(Scope.HOOKS_WRITE)
    assert (await shop.tell(CHANGED, key=hooks))[0] == 200


# -- what is not taken ------------------------------------------------------------------------


async def test_a_connection_that_is_not_there_or_has_no_hooks_takes_none(shop: Shop) -> None:
    await shop.hooked()
    status, problem = await shop.api.send("POST", "/v1/crm/other/hook", json=CHANGED)
    assert (status, problem["code"]) == (404, "not_found")
    shop.api.template("shop")
    status, problem = await shop.tell(CHANGED)
    assert (status, problem["detail"]) == (
        404,
        "Corner Shop sends no hooks: its template has none.",
    )


@pytest.mark.parametrize(
    ("form", "body", "says"),
    [
        ("json", b"{", "no JSON"),
        ("json", b'{"id": "\xff"}', "not UTF-8"),
        ("json", b"[" * 300 + b"]" * 300, "deeper"),
        ("form", b"id=\xff", "form"),
        ("form", b"a" + b"[b]" * 40 + b"=1", "deep"),
    ],
)
async def test_what_cannot_be_read_is_told_why(
    shop: Shop, form: str, body: bytes, says: str
) -> None:
    await shop.hooked(format=form)
    status, problem = await shop.tell(body)
    assert (status, problem["code"]) == (400, "unreadable_body")
    assert says in problem["detail"]
    assert shop.api.metrics.value("callmesh_hooks_total", "accepted") == 0


async def test_a_hook_may_be_a_megabyte_and_no_more(shop: Shop) -> None:
    await shop.hooked()
    assert (await shop.tell({"id": "7", "note": "x" * 1_000_000}))[0] == 200
    status, problem = await shop.tell({"id": "7", "note": "x" * 1_100_000})
    assert (status, problem["code"]) == (413, "request_entity_too_large")


async def test_odd_bytes_in_a_head_do_no_harm(shop: Shop) -> None:
    await shop.hooked(check={"kind": "token", "secret": "hook_secret", "header": "X-Token"})
    await refused(shop, url="?%ff=%fe%00&token=%ed%a0%80")
    host, port = URL(shop.api.origin).host, URL(shop.api.origin).port
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST {HOOK} HTTP/1.1\r\nX-Api-Key: {shop.api.key}\r\nContent-Length: 0\r\n"
    writer.write(head.encode() + b"Host: \xfe\r\nX-Token: \xff\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    await writer.wait_closed()


# -- what is away -----------------------------------------------------------------------------


async def test_while_the_broker_is_away_a_hook_waits_in_the_store(shop: Shop) -> None:
    await shop.hooked()
    await shop.name_of()
    shop.people.known["7"] = (JANE, "Jane Roe")
    shop.api.bus.is_away = True
    for _ in range(3):  # the CRM sends it again, and again
        assert (await shop.tell(CHANGED))[0] == 200
    (waiting,) = await shop.spooled()
    assert CrmHookReceived.wire_name().startswith(json.loads(waiting.message)["type"])
    assert shop.api.metrics.value("callmesh_hooks_total", "spooled") == 3

    shop.api.bus.is_away = False
    await shop.becomes("Jane Roe")
    assert await shop.spooled() == []


async def test_a_hook_whose_connection_is_gone_by_then_is_dropped(shop: Shop) -> None:
    await shop.hooked()
    shop.api.bus.is_away = True
    await shop.tell(CHANGED)
    await shop.api.apply()
    shop.api.bus.is_away = False

    async def is_through() -> bool:
        return not await shop.spooled()

    await eventually(is_through)
    assert await shop.api.bus.dead_letters.list() == []
