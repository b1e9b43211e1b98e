"""Dead letters over HTTP: the tenant's own, looked at and given to their service again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.bus.port import Consumer, DeadLetter, RetryPolicy, Subscription, WhichLetters
from shared.contracts.calls import CallStarted
from shared.contracts.envelope import Message
from shared.errors import Rejected
from shared.http.auth import Scope
from shared.ids import new_id
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import Reply, ask

SECRET = "cm_abcdefghijklmnopqrstuvwxyz"


class Finder:
    """Takes no calls of *broken* tenants."""

    def __init__(self) -> None:
        self.broken = {"acme", "globex", ""}
        self.taken: list[str] = []

    async def take(self, message: Message[Any]) -> None:
        if message.tenant in self.broken:
            raise Rejected(f"the CRM said no: token={SECRET}")
        self.taken.append(message.body.call_id)


@pytest.fixture
def finder() -> Finder:
    return Finder()


@pytest.fixture
async def api(tmp_path: Path, finder: Finder) -> AsyncIterator[CrmApi]:
    listening = Subscription(
        consumer=Consumer("dialer", CallStarted), handler=finder.take, retry=RetryPolicy(attempts=1)
    )
    async with opened(tmp_path, also=[listening]) as found:
        await found.apply()
        yield found


async def letters(api: CrmApi, query: str = "", **more: Any) -> list[dict[str, Any]]:
    reply = await ask(api, "GET", f"/v1/dead-letters{query}", **more)
    assert reply.status == 200, reply.body
    return list(reply.body["letters"])


async def a_letter(api: CrmApi, tenant: str = "acme") -> str:
    """The id of the call that its message is of."""
    before = len(await of_the_dialer(api))
    call_id = str(new_id())
    await api.publisher("ingest").publish(a_call(call_id=call_id), tenant=tenant)

    async def died() -> bool:
        return len(await of_the_dialer(api)) == before + 1

    await eventually(died)
    return call_id


async def of_the_dialer(api: CrmApi) -> Sequence[DeadLetter]:
    return await api.bus.dead_letters.list(WhichLetters(service="dialer"))


async def change(api: CrmApi, sql: str) -> None:
    """What a broker can do that the embedded one does not."""
    await api.bus.dead_letters._db.write(lambda db: db.execute(sql))


async def own(api: CrmApi, tenant: str, *scopes: Scope) -> str:
    token = await api.keys.issue(tenant=tenant, name=f"k-{new_id()}", scopes=scopes)
    return token.get_secret_value()


async def test_a_letter_is_listed_read_and_replayed(api: CrmApi, finder: Finder) -> None:
    call_id = await a_letter(api)
    (letter,) = await letters(api)
    assert (letter["service"], letter["tenant"]) == ("dialer", "acme")
    assert "message" not in letter
    whole = await ask(api, "GET", f"/v1/dead-letters/{letter['letter_id']}")
    assert call_id in whole.body["message"]

    finder.broken = set()
    path = f"/v1/dead-letters/{letter['letter_id']}/replay"
    assert (await ask(api, "POST", path)).status == 202
    await eventually(lambda: finder.taken == [call_id])
    assert await letters(api) == []
    assert (await ask(api, "POST", path)).status == 404
    assert (await api.audited())[-1][1] == "replay_dead_letter"


async def test_there_is_no_way_to_drop_one(api: CrmApi) -> None:
    await a_letter(api)
    (letter,) = await letters(api)
    path = f"/v1/dead-letters/{letter['letter_id']}"
    for method in ("DELETE", "PUT", "PATCH"):
        assert (await ask(api, method, path)).status == 405
    assert len(await letters(api)) == 1


async def test_no_tenant_sees_or_replays_the_letters_of_another(
    api: CrmApi, finder: Finder
) -> None:
    await a_letter(api, "acme")
    theirs_id = await a_letter(api, "globex")
    scopes = (Scope.LETTERS_READ, Scope.LETTERS_WRITE)
    ours, theirs = await own(api, "acme", *scopes), await own(api, "globex", *scopes)
    (letter,) = await letters(api, key=theirs)
    assert letter["tenant"] == "globex"

    for reply in (
        await ask(api, "GET", f"/v1/dead-letters/{letter['letter_id']}", key=ours),
        await ask(api, "POST", f"/v1/dead-letters/{letter['letter_id']}/replay", key=ours),
        await ask(api, "GET", "/v1/dead-letters/0-0", key=ours),
    ):
        assert (reply.status, "There is no dead letter" in reply.detail) == (404, True)
        assert theirs_id not in str(reply.body)
    assert len(await letters(api, key=theirs)) == 1
    assert finder.taken == []


async def test_those_of_no_tenant_are_the_operators(api: CrmApi) -> None:
    await a_letter(api)
    await a_letter(api, "globex")
    await change(api, "UPDATE bus_deliveries SET tenant = '' WHERE tenant = 'globex'")
    ours = await own(api, "acme", Scope.LETTERS_READ, Scope.LETTERS_WRITE)
    refused = await ask(api, "GET", "/v1/dead-letters?without_tenant=true", key=ours)
    assert (refused.status, "operator" in refused.detail) == (403, True)
    assert [one["tenant"] for one in await letters(api, key=ours)] == ["acme"]

    (letter,) = await letters(api, "?without_tenant=true")
    assert "tenant" not in letter
    path = f"/v1/dead-letters/{letter['letter_id']}"
    assert (await ask(api, "GET", path, key=ours)).status == 404
    assert (await ask(api, "POST", f"{path}/replay", key=ours)).status == 404
    assert (await ask(api, "GET", path)).status == 200
    assert (await ask(api, "POST", f"{path}/replay")).status == 202


async def test_letters_are_chosen_and_come_page_by_page(api: CrmApi) -> None:
    for _ in range(5):
        await a_letter(api)
    everything = await letters(api)
    ids = [one["letter_id"] for one in everything]
    assert [one["died_at"] for one in everything] == sorted(one["died_at"] for one in everything)
    assert len(await letters(api, "?service=dialer")) == 5
    assert await letters(api, "?service=journal") == []
    assert len(await letters(api, f"?type={everything[0]['type']}")) == 5
    assert await letters(api, "?type=calls.ended.v1") == []
    late = await letters(api, f"?since={everything[3]['died_at']}")
    assert ids[3] in [one["letter_id"] for one in late]
    assert await letters(api, "?since=2999-01-01T00:00:00Z") == []

    came: list[str] = []
    query = "?limit=2&fields=letter_id"
    cursor = None
    while True:
        reply = await ask(api, "GET", f"/v1/dead-letters{query}{cursor or ''}")
        came += [one["letter_id"] for one in reply.body["letters"]]
        assert all(list(one) == ["letter_id"] for one in reply.body["letters"])
        if "next_cursor" not in reply.body:
            break
        cursor = f"&cursor={reply.body['next_cursor']}"
    assert came == ids


async def test_those_that_died_in_one_moment_come_once_each(api: CrmApi) -> None:
    for _ in range(5):
        await a_letter(api)
    await change(api, "UPDATE bus_deliveries SET died_ms = 1 WHERE died_ms IS NOT NULL")
    came: list[str] = []
    cursor = ""
    for _ in range(5):
        reply = await ask(api, "GET", f"/v1/dead-letters?limit=2{cursor}")
        came += [one["letter_id"] for one in reply.body["letters"]]
        if "next_cursor" not in reply.body:
            break
        cursor = f"&cursor={reply.body['next_cursor']}"
    assert len(came) == len(set(came)) == 5


@pytest.mark.parametrize("cursor", ["x", "!!!", "e30=", "eyJhdCI6MX0=", "%00"])
async def test_a_cursor_of_somewhere_else_is_refused(api: CrmApi, cursor: str) -> None:
    assert (await ask(api, "GET", f"/v1/dead-letters?cursor={cursor}")).status == 422


async def test_no_secret_is_shown(api: CrmApi) -> None:
    await a_letter(api)
    (letter,) = await letters(api)
    whole: Reply = await ask(api, "GET", f"/v1/dead-letters/{letter['letter_id']}")
    for shown in (letter, whole.body):
        assert "the CRM said no" in shown["error"]
        assert SECRET not in str(shown)


async def test_reading_is_not_replaying(api: CrmApi) -> None:
    await a_letter(api)
    (letter,) = await letters(api)
    reader = await own(api, "acme", Scope.LETTERS_READ)
    path = f"/v1/dead-letters/{letter['letter_id']}"
    assert (await ask(api, "GET", path, key=reader)).status == 200
    assert (await ask(api, "POST", f"{path}/replay", key=reader)).status == 403
    blind = await own(api, "acme", Scope.SITE_READ)
    assert (await ask(api, "GET", path, key=blind)).status == 403
