"""Clicks and statuses out of a retailCRM: who may send them, what becomes of them, and what never shows."""

from __future__ import annotations

import asyncio
import contextlib
import io
import string
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from services.dialer import placing
from services.dialer.deps import Deps as DialerDeps
from services.dialer.links import Switchboards
from services.dialer.meters import METERS, MeterBook
from services.dialer.store import DIALS, DialBook
from services.dialer.turns import TURNS, TurnBook
from services.gateway.hooks.marks import CLICKS, TWICE, ClickBook
from shared.bus.port import Consumer, Subscription
from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, Side
from shared.contracts.contacts import CrmUser
from shared.contracts.dialing import (
    DialNumber,
    DialReason,
    DialRecord,
    DialState,
    DialStateChanged,
    FetchDial,
    PlaceDial,
)
from shared.contracts.envelope import Message
from shared.crm.users import USERS, UserBook
from shared.errors import Unavailable
from shared.observe.logging import LogFormat, configure
from shared.runtime.outbox import spool_spec
from shared.site.clicklinks import ClickLinks
from shared.storage.port import Find
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import SECOND, CrmApi, opened
from tests.contract.lookup_kit import desk_on
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm

SHOPS = {"shop1": "+74999999999", "shop2": "+74998888888"}
AGENTS = [{"extension": "101", "users": {"retail": "24"}}, {"extension": "102", "email": "b@x.ex"}]
NUMBER = "+79121234567"


class Shop:
    """The API, its retailCRM, and the dialer that places orders."""

    def __init__(self, api: CrmApi, crm: RetailCrm) -> None:
        self.api = api
        self.crm = crm
        self.orders: list[DialNumber] = []
        self.asked: list[PlaceDial] = []
        self.statuses: list[Message[AgentStatusChanged]] = []
        #: What the dialer says instead.
        self.fault: Exception | None = None
        self.fails_with: DialReason | None = None
        self._dialer: DialerDeps | None = None

    # -- what hears over the bus

    async def place(self, message: Message[PlaceDial]) -> DialRecord:
        self.asked.append(message.body)
        if self.fault is not None:
            raise self.fault
        return await placing.place(self.dialer, message.tenant, message.body)

    async def fetch(self, message: Message[FetchDial]) -> DialRecord:
        """The PBX has been asked."""
        document = await self.dialer.dials.find(message.tenant, message.body.dial_id)
        assert document is not None
        now: dict[str, Any] = {"state": DialState.AGENT_RINGING}
        if (reason := self.fails_with) is not None:
            now = {"state": DialState.FAILED, "reason": reason, "message": reason.words}
        return document.record.model_copy(update=now)

    async def order(self, message: Message[DialNumber]) -> None:
        self.orders.append(message.body)

    async def state(self, message: Message[DialStateChanged]) -> None:
        pass

    async def status(self, message: Message[AgentStatusChanged]) -> None:
        self.statuses.append(message)

    @property
    def dialer(self) -> DialerDeps:
        api = self.api
        if self._dialer is None:
            dials = DialBook(api.store.collection(DIALS), api.clock, keep=timedelta(days=1))
            self._dialer = DialerDeps(
                dials=dials,
                turns=TurnBook(api.store.collection(TURNS), dials, api.clock),
                meters=MeterBook(api.store.collection(METERS), api.clock),
                boards=Switchboards(api.site, api.adapters(), clock=api.clock, on_refusal=_refused),
                site=api.site,
                publisher=api.publisher("dialer"),
                clock=api.clock,
                metrics=api.metrics,
                order_within=5 * SECOND,
            )
        return self._dialer

    # -- what a test does

    async def apply(self, **connection: Any) -> None:
        await self.api.apply(
            {
                "name": "retail",
                "template": "retailcrm",
                "parameters": {"api_url": self.crm.url},
                "credentials": {"api_key": KEY},
                **connection,
            },
            region="RU",
            agents=AGENTS,
            dialing={"numbers": {"shops": SHOPS}},
        )

    @property
    def links(self) -> ClickLinks:
        return ClickLinks(self.api.box, public_url=self.api.origin)

    def registered(self) -> None:
        """As the keeper of modules would; whose addresses are this API's."""
        made = self.links.addresses("acme", "retail")
        assert made is not None
        self.crm.modules["callmesh"] = {
            "code": "callmesh",
            "active": True,
            "clientId": made.client_id,
            "integrations": {
                "telephony": {
                    "makeCallUrl": made.dial_url,
                    "changeUserStatusUrl": made.status_url,
                    "additionalCodes": [
                        {"userId": 24, "code": "101"},
                        {"userId": 25, "code": "102"},
                    ],
                    "externalPhones": [
                        {"siteCode": shop, "externalPhone": number}
                        for shop, number in SHOPS.items()
                    ],
                }
            },
        }

    @property
    def secrets(self) -> tuple[str, str]:
        made = self.links.addresses("acme", "retail")
        assert made is not None
        return made.token, made.client_id

    async def get(self, token: str, what: str = "dial", **query: str) -> tuple[int, Any]:
        url = URL(self.api.origin).joinpath("v1", "crm-calls", token, what, encoded=False)
        async with self.api.session.get(url.with_query(query)) as answer:
            return answer.status, await answer.json()

    async def clicked(self, **changed: str) -> tuple[int, Any]:
        token, client_id = self.secrets
        query = {"clientId": client_id, "code": "101", "phone": NUMBER, "userId": "24"}
        return await self.get(token, **(query | changed))

    async def passes(self, time: timedelta) -> None:
        assert isinstance(self.api.clock, ManualClock)
        await self.api.clock.advance(time)

    def hooks(self, outcome: str) -> float:
        return self.api.metrics.value("callmesh_hooks_total", outcome)


async def _refused(*_: Any) -> None:
    raise AssertionError("no PBX is asked here")


@pytest.fixture
async def shop(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Shop]:
    made: list[Shop] = []

    def hears(contract: Any, name: str, service: str) -> Subscription:
        async def handle(message: Message[Any]) -> Any:
            return await getattr(made[0], name)(message)

        return Subscription(consumer=Consumer(service, contract), handler=handle)

    also = (
        hears(PlaceDial, "place", "dialer"),
        hears(FetchDial, "fetch", "dialer"),
        hears(DialNumber, "order", "dialer"),
        hears(AgentStatusChanged, "status", "dialer"),
    )
    async with retail_crm() as crm, opened(tmp_path, also=also, clock=clock) as api:
        crm.add_user(25, email="b@x.ex")
        made.append(Shop(api, crm))
        await made[0].apply()
        made[0].registered()
        yield made[0]


# -- a click ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelt", ["+79121234567", "+7-912-123-45-67", "+7 (912) 123-45-67", "89121234567"]
)
async def test_a_click_is_dialled_whatever_the_spelling(shop: Shop, spelt: str) -> None:
    """The stand-in sends the plus as it is, which a server reads as a blank."""
    answer = await shop.crm.click(24, spelt)
    assert answer.status == 200
    await eventually(lambda: bool(shop.orders))
    (order,) = shop.orders
    assert (order.extension, order.number) == ("101", NUMBER)
    assert order.requested_by == "crm retail"
    assert shop.hooks("accepted") == 1
    key, action, subject = next(one for one in await shop.api.audited() if one[1] == "dial")
    assert (key, action) == ("crm retail", "dial")
    assert subject == f"dial {order.dial_id} from extension 101"


async def test_the_shop_s_number_is_the_one_that_the_customer_sees(shop: Shop) -> None:
    assert (await shop.crm.click(24, NUMBER, shop="shop2")).status == 200
    await eventually(lambda: bool(shop.orders))
    assert (shop.orders[0].shop, shop.orders[0].caller_id) == ("shop2", SHOPS["shop2"])


async def test_a_number_that_somebody_typed_into_the_crm_is_not_shown(shop: Shop) -> None:
    assert (await shop.clicked(externalPhone="+7 499 111-11-11"))[0] == 200
    await eventually(lambda: bool(shop.orders))
    assert shop.orders[0].caller_id is None


async def test_a_double_click_is_one_dial_and_a_later_one_another(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.crm.click(24, NUMBER) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    await shop.passes(timedelta(seconds=2))
    assert (await shop.crm.click(24, NUMBER)).body == answers[0].body
    await eventually(lambda: bool(shop.orders))
    assert len({order.dial_id for order in shop.orders}) == 1

    await shop.passes(timedelta(seconds=1))
    again = await shop.crm.click(24, NUMBER)
    # It dials already: the user is told, nothing rings twice.
    assert again.status == 409
    assert len({order.dial_id for order in shop.orders}) == 1


async def test_two_agents_who_click_on_one_number_are_two_dials(shop: Shop) -> None:
    book = UserBook(shop.api.store.collection(USERS), shop.api.clock)
    await book.keep("acme", "retail", (CrmUser(user_id="25", display_name="B", email="b@x.ex"),))
    statuses = [(await shop.crm.click(user, NUMBER)).status for user in (24, 25)]
    assert statuses == [200, 200]
    await eventually(lambda: {order.extension for order in shop.orders} == {"101", "102"})


@pytest.mark.parametrize(
    ("user", "extension"),
    [("24", "101"), ("25", "102")],
    ids=["named by the site", "matched by lookup"],
)
async def test_a_code_that_is_no_agent_s_is_found_by_its_user(
    shop: Shop, user: str, extension: str
) -> None:
    book = UserBook(shop.api.store.collection(USERS), shop.api.clock)
    await book.keep("acme", "retail", (CrmUser(user_id="25", display_name="B", email="b@x.ex"),))
    assert (await shop.clicked(code="900", userId=user))[0] == 200
    await eventually(lambda: bool(shop.orders))
    assert shop.orders[0].extension == extension


async def test_nobody_s_phone_is_told_what_to_do(shop: Shop) -> None:
    status, problem = await shop.clicked(code="900", userId="77")
    assert status == 404
    assert "agents" in problem["detail"]
    assert shop.asked == []


@pytest.mark.parametrize("number", ["12", "+1", "*21*5", "112", "0" * 30])
async def test_a_number_that_is_not_dialled_is_an_error_to_the_user(
    shop: Shop, number: str
) -> None:
    status, problem = await shop.clicked(phone=number)
    assert 400 <= status < 500
    assert problem["detail"]
    assert shop.orders == []


async def test_what_the_dialer_says_is_told(shop: Shop) -> None:
    shop.fault = Unavailable("the store is away")
    assert (await shop.clicked())[0] == 503
    shop.fault, shop.fails_with = None, DialReason.AGENT_UNREACHABLE
    status, problem = await shop.clicked()
    assert (status, problem["detail"]) == (409, DialReason.AGENT_UNREACHABLE.words)


async def test_a_form_does_as_well(shop: Shop) -> None:
    token, client_id = shop.secrets
    form = {"clientId": client_id, "code": "101", "phone": NUMBER}
    async with shop.api.session.post(f"/v1/crm-calls/{token}/dial", data=form) as answer:
        assert answer.status == 200
    await eventually(lambda: bool(shop.orders))


@pytest.mark.parametrize(
    "behind",
    [
        "&phone=%2B79990000000",
        "&clientId=x",
        "&code=102",
        "&x=" + "y" * 9000,
        "&" + "&".join(f"p{n}=1" for n in range(60)),
    ],
    ids=["two numbers", "two clients", "two codes", "long", "many"],
)
async def test_a_request_that_says_two_things_is_refused(shop: Shop, behind: str) -> None:
    answer = await shop.crm.click(24, NUMBER, behind=behind)
    assert answer.status in {400, 414}
    assert shop.asked == []


@pytest.mark.parametrize(
    ("changed", "status"), [({"phone": ""}, 400), ({"code": "900", "userId": "77"}, 404)]
)
async def test_a_click_that_is_refused_is_in_the_tenant_s_audit_log(
    shop: Shop, changed: dict[str, str], status: int
) -> None:
    assert (await shop.clicked(**changed))[0] == status
    (entry,) = [one for one in await shop.api.audit_entries() if one.operation == "take_click"]
    assert (entry.tenant, entry.key_name, entry.action) == ("acme", "crm retail", "dial")
    assert (entry.outcome, entry.status) == ("refused", status)


async def test_an_address_of_odd_bytes_is_counted_too(shop: Shop) -> None:
    url = URL(f"{shop.api.origin}/v1/crm-calls/%ff%00/dial", encoded=True)
    async with shop.api.session.get(url) as answer:
        assert answer.status == 422
    assert shop.hooks("unreadable") == 1


@pytest.mark.parametrize("missing", ["clientId", "phone"])
async def test_a_request_that_says_too_little_is_refused(shop: Shop, missing: str) -> None:
    assert (await shop.crm.click(24, NUMBER, changed={missing: None})).status == 400
    assert (await shop.crm.click(24, NUMBER, changed={missing: ""})).status == 400
    assert shop.hooks("unreadable") == 2
    assert shop.asked == []


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def test_over_all_replicas_a_click_and_its_double_are_one_dial(
    kind: str, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("mongo_url") if kind == "mongo" else None
    async with desk_on(kind, clock, url) as desk:
        replicas = [ClickBook(desk.store.collection(CLICKS), clock) for _ in range(3)]

        async def click(tenant: str = "acme", number: str = NUMBER) -> set[str]:
            asked = (
                replica.dial_of(tenant, "retail", "101", number)
                for replica in replicas
                for _ in range(4)
            )
            return set(await asyncio.gather(*asked))

        first = await click()
        assert len(first) == 1
        await clock.advance(TWICE - timedelta(milliseconds=1))
        assert await click() == first
        others = [await click("other"), await click(number="+79990000000")]
        assert len({*first, *others[0], *others[1]}) == 3
        await clock.advance(timedelta(milliseconds=1))
        assert (await click()).isdisjoint(first)
        kept = (await desk.store.collection(CLICKS).page(Find())).documents
        assert not any(NUMBER in one.model_dump_json() for one in kept)


# -- who it is ---------------------------------------------------------------------------------------------


async def test_every_byte_of_the_token_and_of_the_client_id_counts(shop: Shop) -> None:
    token, client_id = shop.secrets
    query = {"clientId": client_id, "code": "101", "phone": NUMBER}
    letters = string.ascii_letters + string.digits + "-_"

    def flipped(text: str) -> list[str]:
        return [
            text[:place] + letters[(letters.find(one) + 1) % 64] + text[place + 1 :]
            for place, one in enumerate(text)
        ]

    tries = [await shop.get(forged, **query) for forged in flipped(token)]
    tries += [
        await shop.get(token, **(query | {"clientId": forged})) for forged in flipped(client_id)
    ]
    assert {status for status, _ in tries} == {404}
    assert len({problem["detail"] for _, problem in tries}) == 1
    assert shop.hooks("forged") == len(tries)
    assert shop.asked == []
    assert shop.hooks("accepted") == 0


async def test_another_tenant_s_and_another_connection_s_are_of_no_use(shop: Shop) -> None:
    words = (await shop.get("nothing"))[1]
    for tenant, name in (("other", "retail"), ("acme", "second")):
        made = shop.links.addresses(tenant, name)
        assert made is not None
        mine, client_id = shop.secrets
        query = {"code": "101", "phone": NUMBER}
        assert await shop.get(made.token, clientId=made.client_id, **query) == (404, words)
        assert await shop.get(mine, clientId=made.client_id, **query) == (404, words)
        assert await shop.get(made.token, clientId=client_id, **query) == (404, words)
    assert shop.asked == []


async def test_a_connection_that_is_gone_or_takes_no_clicks_has_no_address(shop: Shop) -> None:
    words = (await shop.get("nothing"))[1]
    await shop.api.apply(region="RU", agents=[{"extension": "101"}])
    assert await shop.clicked() == (404, words)
    shop.api.template("silent")
    await shop.api.apply(
        {"name": "retail", "template": "silent", "parameters": {"url": shop.crm.url}},
        agents=[{"extension": "101"}],
    )
    assert await shop.clicked() == (404, words)
    assert shop.hooks("unknown") == 2


async def test_no_key_opens_it_and_no_other_method(shop: Shop) -> None:
    status, _ = await shop.api.send("GET", "/v1/crm-calls/acme.retail.x/dial")
    assert status == 404
    token, _ = shop.secrets
    status, _ = await shop.api.send("DELETE", f"/v1/crm-calls/{token}/dial")
    assert status == 405


async def test_a_body_without_end_is_refused_and_counted(shop: Shop) -> None:
    token, _ = shop.secrets
    async with shop.api.session.post(
        f"/v1/crm-calls/{token}/dial", data=io.BytesIO(b"x" * 2_000_000)
    ) as answer:
        assert answer.status == 413
    assert shop.hooks("oversized") == 1


# -- a status ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["free", "busy", "dinner", "break"])
async def test_what_a_user_does_goes_on(shop: Shop, word: str) -> None:
    answer = await shop.crm.change_status(24, word)
    assert answer is not None
    assert answer.status == 202
    await eventually(lambda: bool(shop.statuses))
    told = shop.statuses[0].body
    assert told == AgentStatusChanged(
        extension="101",
        status=AgentStatus(word),
        source=Side.CRM,
        source_name="retail",
        own=word,
    )
    assert shop.hooks("accepted") == 1


async def test_the_connection_s_own_words_count(shop: Shop) -> None:
    await shop.apply(status={"words": {"break": "dinner", "dinner": "lunch"}})
    assert (await shop.crm.change_status(24, "dinner")) is not None
    await eventually(lambda: bool(shop.statuses))
    assert (shop.statuses[0].body.own, shop.statuses[0].body.status) == (
        "dinner",
        AgentStatus.BREAK,
    )


async def test_a_word_that_nobody_knows_is_refused(shop: Shop) -> None:
    token, client_id = shop.secrets
    query = {"clientId": client_id, "code": "101", "status": "sleeping"}
    assert (await shop.get(token, "status", **query))[0] == 400
    assert shop.statuses == []


async def test_a_connection_that_is_not_heeded_is_answered_all_the_same(shop: Shop) -> None:
    await shop.apply(status={"heed": False})
    answer = await shop.crm.change_status(24, "busy")
    assert answer is not None
    assert (answer.status, answer.body) == (202, '{"heeded":false}')
    assert shop.statuses == []


async def test_while_the_broker_is_away_a_status_waits_in_the_store(shop: Shop) -> None:
    shop.api.bus.is_away = True
    answer = await shop.crm.change_status(24, "busy")
    assert answer is not None
    assert answer.status == 202
    assert shop.hooks("spooled") == 1
    spool = shop.api.store.collection(spool_spec("gateway"))
    assert len((await spool.page(Find())).documents) == 1
    shop.api.bus.is_away = False

    async def came() -> bool:
        await shop.passes(SECOND)
        return bool(shop.statuses)

    await eventually(came)


async def test_a_status_needs_the_client_id_too(shop: Shop) -> None:
    answer = await shop.crm.change_status(24, "busy", changed={"clientId": "guessed"})
    assert answer is not None
    assert answer.status == 404
    assert shop.statuses == []
    assert shop.hooks("forged") == 1


# -- what never shows ----------------------------------------------------------------------------------------


async def test_the_token_and_the_client_id_are_in_no_log_metric_audit_or_answer(
    shop: Shop,
) -> None:
    said = io.StringIO()
    configure(form=LogFormat.JSON, level="DEBUG", stream=said)
    try:
        answers = [await shop.crm.click(24, NUMBER) for _ in range(2)]
        answers.append(await shop.crm.click(24, NUMBER, changed={"clientId": "guessed"}))
        answers.append(await shop.crm.click(24, "nonsense"))
        shop.fault = RuntimeError("a fault of ours")
        await shop.passes(timedelta(seconds=10))
        answers.append(await shop.crm.click(24, NUMBER))
        await shop.api.apply(
            {"name": "retail", "template": "nosuch", "parameters": {}}, agents=AGENTS
        )
        answers.append(await shop.crm.click(24, NUMBER))
        # Its answer is aiohttp's own, with what was sent, to who sent it.
        with contextlib.suppress(aiohttp.ClientError):
            await shop.crm.click(24, NUMBER, behind="&x=" + "y" * 20_000)
    finally:
        configure(form=LogFormat.CONSOLE)
    token, client_id = shop.secrets
    signature = token.rpartition(".")[2]
    everything = (
        said.getvalue()
        + shop.api.metrics.exposition().decode()
        + "".join(map(str, await shop.api.audited()))
        + "".join(one.model_dump_json() for one in (await shop.api.audit.page(Find())).documents)
        + "".join(answer.body for answer in answers)
    )
    assert said.getvalue()
    for secret in (token, signature, client_id):
        assert secret not in everything
