"""Click-to-call over HTTP: the gateway and the dialer over one bus; the PBX is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from services.dialer.deps import Deps
from services.dialer.handlers import router
from services.dialer.links import Switchboards
from services.dialer.meters import METERS, MeterBook
from services.dialer.store import DIALS, DialBook
from services.dialer.turns import TURNS, TurnBook
from shared.bus.port import Consumer, Subscription
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialState
from shared.contracts.envelope import Message, wrap
from shared.errors import Rejected
from shared.http.auth import Scope
from shared.observe.metrics import Metrics
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.dial_kit import CUSTOMER, Line, Seen

PBX = "berlin"
ASTERISK = {
    "name": PBX,
    "kind": "asterisk",
    "host": "127.0.0.1",
    "port": 1,
    "username": "u",
    "trunks": ["t"],
}
AGENTS = [{"extension": "101"}, {"extension": "102"}]
OWN = {"shops": {"outlet": "+442079460001"}, "default": "+442079460009"}
JSON = {"json": {"extension": "101", "number": "07700 900123"}}


class Desk:
    """The API, with a dialer behind it."""

    def __init__(self) -> None:
        self.api: CrmApi
        self.deps: Deps
        self.line = Line()

    def subscriptions(self) -> list[Subscription]:
        return [
            Subscription(
                consumer=Consumer("dialer", route.contract), handler=self._handler(route.handler)
            )
            for route in router.routes
        ]

    def _handler(self, handle: Any) -> Any:
        async def call(message: Message[Any]) -> BaseModel | None:
            answer: BaseModel | None = await handle(self.deps, message)
            return answer

        return call

    def begin(self, api: CrmApi) -> None:
        self.api = api
        boards = Switchboards(api.site, api.adapters(), clock=api.clock, on_refusal=_nobody)
        boards._boards["acme", PBX] = self.line
        dials = DialBook(api.store.collection(DIALS), api.clock, keep=timedelta(days=1))
        self.deps = Deps(
            dials=dials,
            turns=TurnBook(api.store.collection(TURNS), dials, api.clock),
            meters=MeterBook(api.store.collection(METERS), api.clock),
            boards=boards,
            site=api.site,
            publisher=api.publisher("dialer"),
            clock=api.clock,
            metrics=Metrics(),
            order_within=timedelta(seconds=5),
        )

    async def says(self, **dialing: Any) -> None:
        await self.api.apply(pbx=[asterisk(self.api)], agents=AGENTS, dialing=dialing)

    async def dial(
        self, number: str = CUSTOMER, *, key: str | None = None, idem: str = "", **more: str
    ) -> tuple[int, Any]:
        headers = {"Idempotency-Key": idem} if idem else {}
        body = {"extension": "101", "number": number, **more}
        return await self.api.send("POST", "/v1/calls", json=body, key=key, headers=headers)

    async def ordered(self, dial_id: str) -> Seen:
        """When the PBX has it."""
        await eventually(lambda: dial_id in {order.reference for order in self.line.orders})
        await eventually(lambda: self._is_ordered(dial_id))
        return Seen.of((await self.deps.dials.by_dial("acme", dial_id)).record)

    async def _is_ordered(self, dial_id: str) -> bool:
        return (await self.deps.dials.by_dial("acme", dial_id)).ordered_at is not None

    async def hear(self, event: Any) -> None:
        at = self.api.clock.now()
        await self.api.bus.send(wrap(event, source="ingest", occurred_at=at, tenant="acme"))

    async def comes_to(self, dial_id: str, state: DialState) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def there() -> bool:
            _, answer = await self.api.send("GET", f"/v1/dials/{dial_id}")
            found.update(answer)
            return bool(found.get("state") == state)

        await eventually(there)
        return found


def asterisk(api: CrmApi) -> dict[str, Any]:
    return {**ASTERISK, "secret": api.box.seal(SecretStr("s"))}


async def _nobody(tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
    raise AssertionError((tenant, pbx, reference, reason))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    found = Desk()
    async with opened(tmp_path, also=found.subscriptions()) as api:
        found.begin(api)
        await found.says(numbers=OWN, block=["+44161"])
        yield found


# -- dialling ---------------------------------------------------------------------------------


async def test_a_click_is_answered_with_what_is_dialled(desk: Desk) -> None:
    status, receipt = await desk.dial("(07700) 900-123", shop="outlet", campaign="spring")
    call = await desk.ordered(receipt["dial_id"])

    assert status == 202
    assert {name: receipt[name] for name in ("state", "extension", "number", "caller_id")} == {
        "state": "requested",
        "extension": "101",
        "number": CUSTOMER,
        "caller_id": "+442079460001",
    }
    await desk.hear(call.ends(Disposition.BUSY))
    found = await desk.comes_to(receipt["dial_id"], DialState.FAILED)
    assert (found["reason"], found["message"]) == ("customer_busy", "The number is busy.")
    assert (found["shop"], found["campaign"]) == ("outlet", "spring")
    assert found["requested_by"].startswith("key ")


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"extension": "999"}, 404, "not_found", "Extension 999 is not one of this tenant's"),
        ({"number": "sesame"}, 422, "contract_violation", "2 to 20 digits"),
        ({"number": "12345678"}, 422, "contract_violation", "with a plus sign and the country"),
        ({"number": "0161 496 0000"}, 403, "forbidden", "`dialing.block` has +44161"),
        ({"number": "999"}, 403, "forbidden", "dial it by hand"),
        ({"caller_id": "+442079460555"}, 403, "forbidden", "none of the tenant's own numbers"),
        ({"pbx": "paris"}, 404, "not_found", None),
        ({"number": "x" * 65}, 422, "invalid_request", None),
        ({"number": ""}, 422, "invalid_request", None),
        ({"shop": "a\nb"}, 422, "invalid_request", None),
        ({"campaign": "a\x01b"}, 422, "invalid_request", None),
        ({"shop": "x" * 201}, 422, "invalid_request", None),
        ({"caller": "+442079460001"}, 422, "invalid_request", None),
    ],
    ids=lambda part: ascii(part)[:30],
)
async def test_what_is_refused_says_what_to_change(
    desk: Desk, body: dict[str, str], status: int, code: str, says: str | None
) -> None:
    if "pbx" in body:
        await desk.api.apply(pbx=[asterisk(desk.api)], agents=[{"extension": "101", "pbx": PBX}])
    wanted = {"extension": "101", "number": CUSTOMER, **body}
    found, problem = await desk.api.send("POST", "/v1/calls", json=wanted)

    assert (found, problem["code"]) == (status, code)
    assert says is None or says in problem["detail"]
    assert desk.line.orders == []


async def test_a_phone_that_dials_is_a_conflict_that_says_which_dial(desk: Desk) -> None:
    _, first = await desk.dial()
    status, problem = await desk.dial("+442079460000")

    assert (status, problem["code"]) == (409, "conflict")
    assert first["dial_id"] in problem["detail"]


async def test_a_limit_says_when_to_come_back(desk: Desk) -> None:
    await desk.says(limits={"per_minute": 1})
    await desk.dial()
    headers = {"X-Api-Key": desk.api.key}
    body = {"extension": "102", "number": CUSTOMER}
    async with desk.api.session.post("/v1/calls", json=body, headers=headers) as answer:
        problem = await answer.json()

    assert (answer.status, problem["code"]) == (429, "too_many_requests")
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert "dialing.limits.per_minute" in problem["detail"]


async def test_the_same_idempotency_key_is_the_same_order(desk: Desk) -> None:
    first = await desk.dial(idem="click-7")
    again = await desk.dial("07700 900123", idem="click-7")
    other = await desk.dial("+442079460000", idem="click-7")
    await desk.ordered(first[1]["dial_id"])

    assert first[1]["dial_id"] == again[1]["dial_id"]
    assert (other[0], "another order" in other[1]["detail"]) == (409, True)
    assert len(desk.line.orders) == 1
    # Of another key of ours it is another order.
    key = await desk.api.a_key(Scope.CALLS_DIAL)
    status, third = await desk.dial(key=key, idem="click-7", extension="102")
    assert (status, third["dial_id"] != first[1]["dial_id"]) == (202, True)


async def test_while_the_broker_is_away_nothing_is_dialled(desk: Desk) -> None:
    desk.api.bus.is_away = True
    status, problem = await desk.dial()

    assert (status, problem["code"]) == (503, "unavailable")
    assert desk.line.orders == []


async def test_who_ordered_what_is_noted_first(desk: Desk) -> None:
    _, receipt = await desk.dial()
    await desk.api.send("POST", f"/v1/dials/{receipt['dial_id']}/cancel")

    noted = [(action, subject) for _, action, subject in await desk.api.audited()]
    assert ("dial", f"dial {receipt['dial_id']} from extension 101") in noted
    assert ("cancel_dial", f"dial {receipt['dial_id']}") in noted


# -- cancelling -------------------------------------------------------------------------------


async def test_a_dial_is_cancelled_and_then_is_over(desk: Desk) -> None:
    _, receipt = await desk.dial()
    path = f"/v1/dials/{receipt['dial_id']}/cancel"
    call = await desk.ordered(receipt["dial_id"])
    await desk.hear(call.rings(agent=True))
    await desk.comes_to(receipt["dial_id"], DialState.AGENT_RINGING)
    status, found = await desk.api.send("POST", path)
    again = await desk.api.send("POST", path)

    assert (status, found["state"], found["reason"]) == (200, "failed", "cancelled")
    assert again == (status, found)
    assert [end.reference for end in desk.line.ended] == [receipt["dial_id"]]
    assert (await desk.dial())[0] == 202


async def test_what_is_over_or_unknown_cannot_be_cancelled(desk: Desk) -> None:
    _, receipt = await desk.dial()
    call = await desk.ordered(receipt["dial_id"])
    await desk.hear(call.ends(Disposition.ANSWERED))
    await desk.comes_to(receipt["dial_id"], DialState.ENDED)
    status, problem = await desk.api.send("POST", f"/v1/dials/{receipt['dial_id']}/cancel")

    assert (status, problem["code"], "has ended" in problem["detail"]) == (409, "conflict", True)
    assert (await desk.api.send("POST", "/v1/dials/d-nothing/cancel"))[0] == 404


async def test_a_pbx_that_cannot_end_calls_says_so(desk: Desk) -> None:
    _, receipt = await desk.dial()
    await desk.ordered(receipt["dial_id"])
    desk.line.cannot_end = Rejected("calls of this PBX are ended at the phone")
    status, problem = await desk.api.send("POST", f"/v1/dials/{receipt['dial_id']}/cancel")

    assert (status, problem["code"]) == (502, "rejected")
    assert problem["detail"] == "calls of this PBX are ended at the phone"


# -- a key of one phone -----------------------------------------------------------------------


async def test_a_key_of_one_phone_dials_sees_and_ends_its_own_alone(desk: Desk) -> None:
    key = await desk.api.a_key(Scope.CALLS_DIAL, extension="102")
    _, others = await desk.dial()
    status, problem = await desk.dial(key=key)
    assert (status, problem["code"]) == (403, "forbidden")
    status, own = await desk.dial(key=key, extension="102")
    assert status == 202

    for path in ("/v1/dials", "/v1/dials?extension=102", f"/v1/dials?ids={others['dial_id']}"):
        _, page = await desk.api.send("GET", path, key=key)
        found = [dial["dial_id"] for dial in page["dials"]]
        assert found == ([] if "ids" in path else [own["dial_id"]])
    for method, path in (
        ("GET", "/v1/dials?extension=101"),
        ("GET", f"/v1/dials/{others['dial_id']}"),
        ("POST", f"/v1/dials/{others['dial_id']}/cancel"),
    ):
        assert (await desk.api.send(method, path, key=key))[0] == 403
    assert desk.line.ended == []


async def test_a_key_without_the_scope_does_none_of_it(desk: Desk) -> None:
    key = await desk.api.a_key(Scope.CALLS_READ, Scope.CALLS_WRITE)
    _, receipt = await desk.dial()
    for method, path, more in (
        ("POST", "/v1/calls", JSON),
        ("GET", "/v1/dials", {}),
        ("GET", f"/v1/dials/{receipt['dial_id']}", {}),
        ("POST", f"/v1/dials/{receipt['dial_id']}/cancel", {}),
    ):
        assert (await desk.api.send(method, path, key=key, **more))[0] == 403


# -- lists ------------------------------------------------------------------------------------


async def test_dials_are_listed_by_what_is_said_of_them(desk: Desk) -> None:
    await desk.says(limits={"per_minute": None, "agent_per_minute": None})
    ids = []
    for n in range(6):
        more = {"campaign": "spring"} if n % 2 else {"shop": "outlet"}
        extension = "101" if n < 4 else "102"
        _, receipt = await desk.dial(f"+4477009001{n:02}", extension=extension, **more)
        ids.append(receipt["dial_id"])
        if n < 5:
            call = await desk.ordered(receipt["dial_id"])
            await desk.hear(call.ends(Disposition.BUSY if n else Disposition.ANSWERED))
            await desk.comes_to(ids[-1], DialState.FAILED if n else DialState.ENDED)

    async def listed(**query: str) -> list[int]:
        status, page = await desk.api.send("GET", "/v1/dials", params=query)
        assert status == 200, page
        return [ids.index(dial["dial_id"]) for dial in page["dials"]]

    assert await listed() == [5, 4, 3, 2, 1, 0]
    assert await listed(extension="102") == [5, 4]
    assert await listed(state="failed") == [4, 3, 2, 1]
    assert await listed(state="ended") == [0]
    assert await listed(under_way="true") == [5]
    assert await listed(under_way="false", extension="102") == [4]
    assert await listed(number="07700 900103") == [3]
    assert await listed(number="+447700900103") == [3]
    assert await listed(number="sesame") == []
    assert await listed(campaign="spring") == [5, 3, 1]
    assert await listed(shop="outlet", state="ended") == [0]
    assert await listed(requested_by="crm shop") == []
    assert await listed(ids=f"{ids[2]}, {ids[0]},nothing") == [2, 0]
    assert await listed(since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z") == []
    assert await listed(fields="dial_id,state", limit="1") == [5]

    found, cursor = [], ""
    for _ in range(4):
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        _, page = await desk.api.send("GET", "/v1/dials", params=params)
        found += [ids.index(dial["dial_id"]) for dial in page["dials"]]
        cursor = page.get("next_cursor") or ""
        if not cursor:
            break
    assert found == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "query",
    [
        "state=flying",
        "limit=0",
        "limit=501",
        "cursor=nonsense",
        "since=yesterday",
        "extension=%00",
        "campaign=%0A",
        "number=" + "1" * 65,
        "ids=" + ",".join(f"d{n}" for n in range(501)),
        "under_way=perhaps",
    ],
    ids=lambda query: query[:20],
)
async def test_a_list_that_nobody_can_give_is_refused(desk: Desk, query: str) -> None:
    status, problem = await desk.api.send("GET", f"/v1/dials?{query}")

    assert status == 422, problem


async def test_another_tenants_dials_are_not_there(desk: Desk) -> None:
    _, receipt = await desk.dial()
    key = await desk.api.keys.issue(tenant="other", name="k", scopes=(Scope.CALLS_DIAL,))
    theirs = key.get_secret_value()

    assert (await desk.api.send("GET", f"/v1/dials/{receipt['dial_id']}", key=theirs))[0] == 404
    path = f"/v1/dials/{receipt['dial_id']}/cancel"
    assert (await desk.api.send("POST", path, key=theirs))[0] == 404
    _, page = await desk.api.send("GET", "/v1/dials", key=theirs)
    assert page["dials"] == []


async def test_clicks_at_once_dial_once(desk: Desk) -> None:
    found = await asyncio.gather(*(desk.dial(f"+4477009001{n:02}") for n in range(20)))

    assert sorted(status for status, _ in found) == [202] + 19 * [409]
