"""Clicks and status changes that a CRM sends us, and the status that it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict, MultiDict

from shared.contracts.agents import AgentStatus
from shared.crm.engine.connector import TemplateConnector
from shared.crm.port import ClickAsked, TakesClicks, TellsStatus
from shared.errors import ContractError, NotFound, Rejected
from shared.phone import parse
from tests.contract.scripted_crm import connected
from tests.contract.test_telephony_cards import PHONE_BY_PHONE
from tests.contract.test_telephony_module import MODULE, SOON, VERSIONS, shop


@dataclass
class Heard:
    """What came in at our end, decoded as our own server decodes it."""

    url: str = ""
    queries: list[Any] = field(default_factory=list)


@asynccontextmanager
async def ours() -> AsyncIterator[Heard]:
    heard = Heard()

    async def hear(request: web.Request) -> web.Response:
        heard.queries.append(request.query)
        return web.json_response({"path": request.path})

    app = web.Application()
    app.router.add_get("/v1/crm-calls/{token}/{what}", hear)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        heard.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/crm-calls/acme.retail.sig"
        yield heard
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("phone", "number"),
    [
        ("+79121234567", "+79121234567"),
        ("89121234567", "89121234567"),
        ("+7 (912) 123-45-67", "+7 (912) 123-45-67"),
        ("+7+912+123+45+67", "+7 912 123 45 67"),
    ],
)
async def test_a_click_is_read_as_the_crm_sends_it(phone: str, number: str, version: str) -> None:
    async with ours() as heard, shop(version) as (crm, connector):
        module = replace(MODULE, dial_url=f"{heard.url}/dial", status_url=f"{heard.url}/status")
        await connector.register_module(module, within=SOON)
        answer = await crm.click(24, phone, shop="shop1")
        assert answer.status == 200
        port: TakesClicks = connector
        assert port.read_click(heard.queries[0]) == ClickAsked(
            client_id=MODULE.client_id,
            number=number,
            extension="101",
            user_id="24",
            own_number="+74999999999",
        )


async def test_a_click_elsewhere_than_at_a_shop_has_no_number_of_ours() -> None:
    async with ours() as heard, shop() as (crm, connector):
        await connector.register_module(replace(MODULE, dial_url=f"{heard.url}/dial"), within=SOON)
        await crm.click(25, "+79121234567")
        asked = connector.read_click(heard.queries[0])
        assert (asked.extension, asked.own_number, asked.shop) == ("102", None, None)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"clientId": None}, "clientId is missing"),
        ({"clientId": "  "}, "clientId is missing"),
        ({"phone": None}, "phone is missing"),
        ({"phone": " "}, "phone is missing"),
        ({"phone": "anna"}, "phone is no phone number"),
        ({"phone": "+7912\r\nX: y"}, "phone holds a control character"),
        ({"phone": "7" * 65}, "phone is longer than 64"),
        ({"code": None, "userId": None}, "code or userId is missing"),
        ({"code": "1\x01", "userId": None}, "code holds a control character"),
        ({"code": "; drop", "userId": None}, "code or userId is missing"),
        ({"userId": "9" * 201}, "userId is longer than 200"),
        ({"externalPhone": "none"}, "externalPhone is no phone number"),
        ({"clientId": "x" * 201}, "clientId is longer than 200"),
    ],
)
async def test_a_wrong_click_is_refused_in_words(changed: dict[str, Any], what: str) -> None:
    async with ours() as heard, shop() as (crm, connector):
        await connector.register_module(replace(MODULE, dial_url=f"{heard.url}/dial"), within=SOON)
        await crm.click(24, "+79121234567", changed=changed)
        with pytest.raises(ContractError, match=what) as caught:
            connector.read_click(heard.queries[0])
        assert MODULE.client_id not in caught.value.message


@pytest.mark.parametrize("name", ["clientId", "code", "phone", "userId", "externalPhone"])
async def test_a_parameter_that_is_there_twice_is_refused(name: str) -> None:
    async with ours() as heard, shop() as (crm, connector):
        await connector.register_module(replace(MODULE, dial_url=f"{heard.url}/dial"), within=SOON)
        await crm.click(24, "+79121234567", shop="shop1", behind=f"&{name}=900")
        with pytest.raises(ContractError, match=f"{name} more than once"):
            connector.read_click(heard.queries[0])


ASKED = {"clientId": "c", "code": "100", "phone": "+7912", "userId": "1"}


@pytest.mark.parametrize(
    ("phone", "number"),
    [
        (" 79121234567", "+79121234567"),
        ("  79121234567", "79121234567"),
        (" (912) 1", "(912) 1"),
        ("\u00a079121234567", "79121234567"),
        ("+79121234567 ", "+79121234567"),
        ("101", "101"),
        ("\u0667\u0669\u0661", "\u0667\u0669\u0661"),
    ],
)
async def test_one_leading_blank_before_digits_was_a_plus(phone: str, number: str) -> None:
    async with shop() as (_, connector):
        assert connector.read_click({**ASKED, "phone": phone}).number == number


async def test_what_is_no_extension_does_not_count_beside_a_user() -> None:
    async with shop() as (_, connector):
        for code in ("", "10 1", "x" * 33, "\u0661\u0660\u0661"):
            asked = connector.read_click({**ASKED, "code": code})
            assert (asked.extension, asked.user_id) == (None, "1")
        alone = {name: value for name, value in ASKED.items() if name != "userId"}
        asked = connector.read_click(alone)
        assert (asked.extension, asked.user_id) == ("100", None)


async def test_any_mapping_of_parameters_will_do() -> None:
    async with shop() as (_, connector):
        for query in (ASKED, MultiDict(ASKED), CIMultiDict(ASKED)):
            assert connector.read_click(query).extension == "100"


async def test_secrets_are_in_no_representation() -> None:
    async with shop() as (_, connector):
        shown = [
            repr(connector.read_click({**ASKED, "clientId": MODULE.client_id})),
            repr(
                connector.read_status({**ASKED, "clientId": MODULE.client_id, "status": "free"}, {})
            ),
            repr(MODULE),
        ]
        assert not any(
            secret in text
            for text in shown
            for secret in (MODULE.client_id, MODULE.dial_url, MODULE.status_url)
        )


# -- status ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("word", ["free", "busy", "dinner", "break"])
async def test_a_users_status_is_heard(word: str, version: str) -> None:
    async with ours() as heard, shop(version) as (crm, connector):
        module = replace(MODULE, dial_url=f"{heard.url}/dial", status_url=f"{heard.url}/status")
        await connector.register_module(module, within=SOON)
        assert await crm.change_status(25, word) is not None
        asked = connector.read_status(heard.queries[0], {})
        assert asked.status is AgentStatus(word)
        assert (asked.own, asked.extension, asked.user_id) == (word, "102", "25")
        assert asked.client_id == MODULE.client_id


async def test_who_has_no_code_is_not_told_of() -> None:
    async with ours() as heard, shop() as (crm, connector):
        module = replace(MODULE, status_url=f"{heard.url}/status", codes={"101": "24"})
        await connector.register_module(module, within=SOON)
        assert await crm.change_status(25, "busy") is None
        assert heard.queries == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"status": "asleep"}, "status is none of break, busy, dinner, free"),
        ({"status": ""}, "status is none of"),
        ({"status": "BUSY"}, "status is none of"),
        ({"status": "b" * 101}, "status is longer than 100"),
        ({"clientId": ""}, "clientId is missing"),
        ({"code": "", "userId": ""}, "code or userId is missing"),
    ],
)
async def test_a_wrong_status_is_refused_in_words(changed: dict[str, str], what: str) -> None:
    async with shop() as (_, connector):
        with pytest.raises(ContractError, match=what):
            connector.read_status({**ASKED, "status": "busy", **changed}, {})


@pytest.mark.parametrize(
    ("words", "own", "status"),
    [
        ({AgentStatus.BREAK: "pause"}, "pause", AgentStatus.BREAK),
        # Told as a break, heard as one: nobody becomes offline by a break.
        ({AgentStatus.OFFLINE: "break"}, "break", AgentStatus.BREAK),
        ({AgentStatus.OFFLINE: "gone"}, "gone", AgentStatus.OFFLINE),
        # The connection took a word for another status.
        ({AgentStatus.BUSY: "dinner", AgentStatus.DINNER: "lunch"}, "dinner", AgentStatus.BUSY),
        ({AgentStatus.BUSY: "dinner"}, "dinner", AgentStatus.DINNER),
    ],
)
async def test_words_of_the_connection_come_first(
    words: dict[AgentStatus, str], own: str, status: AgentStatus
) -> None:
    async with shop() as (_, connector):
        assert connector.read_status({**ASKED, "status": own}, words).status is status


@pytest.mark.parametrize("status", AgentStatus)
async def test_a_user_is_told_by_the_crms_word(status: AgentStatus) -> None:
    async with shop() as (crm, connector):
        port: TellsStatus = connector
        assert port.tells_status
        word = port.status_word(status, {})
        assert word == (None if status is AgentStatus.OFFLINE else status.value)
        if word is not None:
            await port.tell_status("25", word, extension="102", within=SOON)
            assert crm.told == [(25, word)]
            assert crm.users[25].status == word
        assert port.status_word(status, {AgentStatus.OFFLINE: "break"}) is not None


@pytest.mark.parametrize("user", ["88", "../24", "24/status?x=", "24%2f"])
async def test_a_user_whom_the_crm_does_not_have_is_refused(user: str) -> None:
    async with shop() as (crm, connector):
        with pytest.raises(Rejected):
            await connector.tell_status(user, "busy", extension="102", within=SOON)
        assert crm.told == []


async def test_a_word_that_the_crm_does_not_have_is_refused() -> None:
    async with shop() as (crm, connector):
        with pytest.raises(Rejected, match="Errors in the input parameters"):
            await connector.tell_status("24", "asleep&status=free", extension="101", within=SOON)
        assert crm.told == []


async def test_a_crm_that_calls_nobody_says_so(tmp_path: Path) -> None:
    async with connected(PHONE_BY_PHONE, lambda _: {}, tmp_path) as made:
        connector = made.connector
        with pytest.raises(NotFound, match="asks for no calls"):
            connector.read_click(ASKED)
        with pytest.raises(NotFound, match="tells no status"):
            connector.read_status({**ASKED, "status": "busy"}, {})
        assert connector.status_word(AgentStatus.FREE, {}) is None


async def test_the_stand_in_knows_who_is_free() -> None:
    """As the vendor's page says: signed in, status free, a code."""

    async def manager(connector: TemplateConnector) -> str | None:
        found = await connector.find_manager(parse("+79121234567", "RU"), within=SOON)
        return found.extension if found is not None else None

    async with shop() as (crm, connector):
        crm.add_customer("Carl", "8 (912) 123-45-67", manager_id=24)
        assert await manager(connector) is None
        await connector.register_module(MODULE, within=SOON)
        assert await manager(connector) == "101"
        await connector.tell_status("24", "dinner", extension="101", within=SOON)
        assert await manager(connector) is None
