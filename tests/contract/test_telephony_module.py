"""A telephony module in retailCRM by both of its APIs: told, read back, compared with what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.crm.engine.connector import TemplateConnector
from shared.crm.port import HasTelephony, ModuleReport, TelephonyModule
from shared.errors import MeshError, NeedsReconnect, Rejected, Throttled
from shared.testing.cassettes import ConnectionIn, recorder
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm

SOON = timedelta(seconds=5)
TOKEN = "acme.retail.vQm3Jx0sT8pLz2"
MODULE = TelephonyModule(
    code="callmesh",
    title="callmesh",
    logo="https://mesh.example/logo.svg",
    client_id="client-id-5f1e9c0a7d3b",
    dial_url=f"https://mesh.example/v1/crm-calls/{TOKEN}/dial",
    status_url=f"https://mesh.example/v1/crm-calls/{TOKEN}/status",
    settings_url=None,
    codes={"101": "24", "102": "25"},
    shops={"shop1": "+74999999999", "shop2": "+74998888888"},
    editable=False,
)
VERSIONS = ("v5", "v4")
SECRETS = (MODULE.client_id, MODULE.dial_url, MODULE.status_url, TOKEN, KEY)


@asynccontextmanager
async def shop(
    version: str = "v5", key: str = KEY, **parameters: str
) -> AsyncIterator[tuple[RetailCrm, TemplateConnector]]:
    """A retailCRM with the users 24 and 25, and a connector of it."""
    async with retail_crm() as crm, recorder() as made:
        crm.add_user(25, first_name="Bob", email="bob@acme.example")
        given = ConnectionIn(
            parameters={"api_url": crm.url, "telephony_api": version, **parameters},
            credentials={"api_key": key},
            region="RU",
            zone="Europe/Moscow",
        )
        yield crm, made.connections.connector(made.account("retailcrm", given, crm.url))


def telling(crm: RetailCrm) -> dict[str, Any]:
    telephony = crm.modules["callmesh"]["integrations"]["telephony"]
    assert isinstance(telephony, dict)
    return telephony


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_was_told_is_there_and_does_not_differ(version: str) -> None:
    async with shop(version) as (crm, connector):
        port: HasTelephony = connector
        assert port.has_module
        assert await port.read_module(MODULE, within=SOON) == ModuleReport(registered=False)
        assert await port.register_module(MODULE, within=SOON) == ModuleReport(registered=True)
        assert await port.read_module(MODULE, within=SOON) == ModuleReport(registered=True)
        assert crm.codes() == {"101": 24, "102": 25}
        assert crm.client_id == MODULE.client_id
        assert telling(crm)["makeCallUrl"] == MODULE.dial_url
        assert telling(crm)["changeUserStatusUrl"] == MODULE.status_url
        assert telling(crm)["allowEdit"] is False


@pytest.mark.parametrize("version", VERSIONS)
async def test_told_twice_it_is_there_once(version: str) -> None:
    async with shop(version) as (crm, connector):
        for _ in range(2):
            await connector.register_module(MODULE, within=SOON)
        assert list(crm.modules) == ["callmesh"]
        changed = replace(MODULE, codes={"103": "25"}, title="Berlin")
        await connector.register_module(changed, within=SOON)
        assert crm.codes() == {"103": 25}
        assert await connector.read_module(changed, within=SOON) == ModuleReport(registered=True)


async def test_the_client_is_named_in_both_places() -> None:
    """The vendor's page has it in the one, the vendor's client in the other."""
    async with shop() as (crm, connector):
        await connector.register_module(MODULE, within=SOON)
        assert crm.modules["callmesh"]["clientId"] == telling(crm)["clientId"] == MODULE.client_id


def _renamed(crm: RetailCrm) -> None:
    crm.modules["callmesh"]["name"] = "Somebody's"


def _switched_off(crm: RetailCrm) -> None:
    crm.modules["callmesh"]["active"] = False


def _led_away(crm: RetailCrm) -> None:
    telling(crm)["makeCallUrl"] = "https://evil.example/dial"


def _deaf(crm: RetailCrm) -> None:
    telling(crm)["changeUserStatusUrl"] = "https://evil.example/?token=not-ours-0001"


def _of_another(crm: RetailCrm) -> None:
    crm.modules["callmesh"]["clientId"] = "not-ours-0001"


def _editable(crm: RetailCrm) -> None:
    telling(crm)["allowEdit"] = True


def _code_given_away(crm: RetailCrm) -> None:
    telling(crm)["additionalCodes"][0]["userId"] = 25


def _code_more(crm: RetailCrm) -> None:
    telling(crm)["additionalCodes"].append({"userId": 24, "code": "109"})


def _shop_lost(crm: RetailCrm) -> None:
    telling(crm)["externalPhones"].pop()


CHANGES = {
    _renamed: ["name: Somebody's in place of callmesh"],
    _switched_off: ["active: false in place of true"],
    _led_away: ["address for calls: another is there"],
    _deaf: ["address for statuses: another is there"],
    _of_another: ["client id: another is there"],
    _editable: ["may be edited there: true in place of false"],
    _code_given_away: [
        "extension codes: userId 24, code 101 is missing",
        "extension codes: userId 25, code 101 is there, too",
    ],
    _code_more: ["extension codes: userId 24, code 109 is there, too"],
    _shop_lost: ["external numbers: siteCode shop2, externalPhone +74998888888 is missing"],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_somebody_changed_there_is_told_and_put_right(change: Any, version: str) -> None:
    async with shop(version) as (crm, connector):
        await connector.register_module(MODULE, within=SOON)
        change(crm)
        report = await connector.read_module(MODULE, within=SOON)
        assert report == ModuleReport(registered=True, differs=tuple(CHANGES[change]))
        assert not any(secret in what for secret in SECRETS for what in report.differs)
        assert "not-ours-0001" not in str(report)
        await connector.register_module(MODULE, within=SOON)
        assert (await connector.read_module(MODULE, within=SOON)).differs == ()


async def test_the_same_in_another_spelling_and_order_is_no_difference() -> None:
    async with shop() as (crm, connector):
        await connector.register_module(MODULE, within=SOON)
        telephony = telling(crm)
        telephony["additionalCodes"] = [
            {"code": int(row["code"]), "userId": str(row["userId"]), "id": 9}
            for row in reversed(telephony["additionalCodes"])
        ]
        telephony["externalPhones"][0]["externalPhone"] = "+7 (499) 999-99-99"
        # An answer need not show the client's id.
        del crm.modules["callmesh"]["clientId"], telephony["clientId"]
        assert await connector.read_module(MODULE, within=SOON) == ModuleReport(registered=True)


async def test_users_and_shops_that_there_are_not_are_told() -> None:
    told = replace(
        MODULE, codes={"101": "24", "108": "88"}, shops={"shop1": "+74999999999", "shop9": "+7499"}
    )
    async with shop() as (crm, connector):
        report = await connector.register_module(told, within=SOON)
        assert report == ModuleReport(registered=True, unknown=("88", "shop9"))
        assert crm.codes() == {"101": 24}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_user_who_is_none_is_named(version: str) -> None:
    told = replace(MODULE, codes={"101": "24", "108": "u-88"})
    async with shop(version) as (crm, connector):
        with pytest.raises(Rejected, match=r"extension 108, user u-88: .*a number is needed"):
            await connector.register_module(told, within=SOON)
        assert not crm.modules
        assert not crm.asked


HOSTILE = [
    '"}}, "integrations": {"telephony": {"makeCallUrl": "https://evil.example',
    "&integrationModule={}",
    "{{.ClientId}}",
    "a\nb\x00c",
    "\u2019" * 500,
    "<script>alert(1)</script>",
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_text_stays_one_text(text: str, version: str) -> None:
    told = replace(MODULE, title=text, codes={text: "24"}, shops={"shop1": text})
    async with shop(version) as (crm, connector):
        await connector.register_module(told, within=SOON)
        assert crm.modules["callmesh"]["name"] == text
        assert telling(crm)["makeCallUrl"] == MODULE.dial_url
        assert telling(crm)["additionalCodes"] == [{"userId": 24, "code": text}]
        assert telling(crm)["externalPhones"] == [{"siteCode": "shop1", "externalPhone": text}]
        assert (await connector.read_module(told, within=SOON)).differs == ()


async def test_a_hostile_answer_makes_short_words_without_secrets() -> None:
    async with shop() as (crm, connector):
        await connector.register_module(MODULE, within=SOON)
        crm.modules["callmesh"]["name"] = f"\x1b[2J{MODULE.client_id}\n{TOKEN}" + "x" * 5000
        telling(crm)["additionalCodes"] = [
            {"userId": number, "code": {"deep": ["er"]}} for number in range(5000)
        ]
        telling(crm)["externalPhones"] = "none"
        report = await connector.read_module(MODULE, within=SOON)
        assert len(report.differs) < 20
        assert max(map(len, report.differs)) < 500
        words = "\n".join(report.differs)
        assert not any(secret in words for secret in SECRETS)
        assert "\x1b" not in words
        assert "extension codes: 4990 more are there, too" in report.differs


@pytest.mark.parametrize(
    ("version", "operation"),
    [(version, operation) for version in VERSIONS for operation in ("register", "read")],
)
async def test_no_secret_is_in_an_error(version: str, operation: str) -> None:
    def texts(error: MeshError) -> Iterator[str]:
        yield error.message
        yield str(error.details["exchange"])

    async with shop(version, key="wrong-key-0001") as (_, connector):
        do = connector.register_module if operation == "register" else connector.read_module
        with pytest.raises(NeedsReconnect) as caught:
            await do(MODULE, within=SOON)
        assert not any(
            s in text for s in (*SECRETS, "wrong-key-0001") for text in texts(caught.value)
        )


async def test_over_the_limit_it_waits_and_so_does_everything_else() -> None:
    async with shop() as (crm, connector):
        crm.limited["edit"] = 1
        with pytest.raises(Throttled) as caught:
            await connector.register_module(MODULE, within=SOON)
        assert caught.value.retry_after is not None
        with pytest.raises(Throttled):
            await connector.read_module(MODULE, within=SOON / 50)
        # Nothing was sent into the pause.
        assert crm.asked.total() == 1


async def test_a_title_that_was_never_told_is_not_compared() -> None:
    async with shop() as (crm, connector):
        plain = replace(MODULE, logo=None)
        await connector.register_module(plain, within=SOON)
        crm.modules["callmesh"]["logo"] = "https://acme.example/own.svg"
        assert (await connector.read_module(plain, within=SOON)).differs == ()
