"""
What a call costs when something is ill: a CRM, a company's own service, the store, the broker. The
decision comes within the rule's budget, with the default and the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.crm.glance import WITHIN as GLANCE
from shared.ids import new_id
from shared.runtime.platform import Choice
from shared.runtime.settings import (
    AmqpSettings,
    BusKind,
    MeshSettings,
    MongoSettings,
    NetSettings,
    StoreKind,
)
from shared.sandbox.crm import (
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    Faults,
    SandboxCrm,
)
from shared.sandbox.demo import MeshApi
from shared.sandbox.people import USERS
from shared.sandbox.site import PBX, TENANT
from shared.secrets import new_key
from shared.site.rules.rule import RoutingRule
from shared.testing.servers import LocalMongo, LocalRabbit, free_port
from shared.testing.waiting import eventually
from tests.contract.scripted_crm import Asked, scripted
from tests.contract.test_custom_crm import (
    Company,
    certificates,  # noqa: F401  a fixture: pytest finds it by its name
    serving,
)
from tests.scenario.routing_kit import Asker, Question, Shown, asking

#: Of rules: where the whole of it is waited for, and where what is ill is noticed before.
SHORT, AMPLE = timedelta(milliseconds=500), timedelta(seconds=10)
#: Nothing here measures how busy a machine is: what hangs does so for longer than anybody waits.
SLACK, HANGS = timedelta(seconds=20), timedelta(minutes=1)
#: GOLD, of Ben at 102; SILVER, of Anna at 101.
GRACE, JANE = "447700900145", "447700900123"
GERMAN = "+4930901820"
A_PBX = {
    "name": PBX,
    "kind": "asterisk",
    "host": "127.0.0.1",
    "port": 1,
    "username": "u",
    "secret": "s",
    "trunks": ["trunk"],
    "askers": ["127.0.0.0/8"],
}
TO_GOLD = {"operator": "=", "value": "GOLD", "destination": "queue:gold"}
TO_GERMAN = {
    "when": {"of": "caller.country", "operator": "=", "value": "DE"},
    "destination": "queue:german",
}


@dataclass
class SiteText:
    """A site file that grows; each rule has a number of its own, from 442079460001 on."""

    crm: list[dict[str, Any]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)

    def rule(self, name: str, rows: list[dict[str, Any]], *, within: timedelta, **more: Any) -> str:
        """The number that is called."""
        did = f"44207946{len(self.rules) + 1:04}"
        known = {"name": name, "dids": [did], "rows": rows, "default": "extension:103"}
        budget = f"{within.total_seconds():g}s"
        self.rules.append({**known, "within": budget, **more})
        return did

    def __str__(self) -> str:
        site = {"tenant": TENANT, "region": "GB", "pbx": [A_PBX], "crm": self.crm}
        site |= {"agents": self.agents, "rules": self.rules}
        return yaml.safe_dump({"tenants": [site]}, sort_keys=False)


def a_zoho(name: str, url: str) -> dict[str, Any]:
    return {
        "name": name,
        "template": "zoho",
        "parameters": {"api_url": url, "accounts_url": url},
        "credentials": {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
        },
        "journal": {"enabled": False},
    }


async def destination(asker: Asker, asked: Question, budget: timedelta) -> str:
    """By FastAGI, as a call asks."""
    clock = asker.platform.clock
    began = clock.now()
    found = await asker.by_fastagi(asked)
    took = clock.now() - began
    assert took < budget + SLACK, f"{took} for {found}"
    return f"{found['CRM_DEST']}: {found['CRM_REASON']}"


def _ms(time: timedelta) -> int:
    return round(time / timedelta(milliseconds=1))


# -- an integrated CRM ---------------------------------------------------------------------------

#: What is wrong with it → faults, and the reason that is told. None: nobody listens.
ILL_CRMS: dict[str, tuple[Faults | None, str]] = {
    "hangs": (Faults(latency_ms=_ms(HANGS)), "out_of_time"),
    "stops-in-the-answer": (Faults(slow_body_ms=_ms(HANGS)), "out_of_time"),
    "is-down": (None, "crm_failed"),
    "fails": (Faults(fail_next=99, fail_status=500), "crm_failed"),
    "is-maintained": (Faults(fail_next=99, fail_status=503, retry_after_s=3600), "crm_failed"),
    "asks-to-slow-down": (Faults(fail_next=99, fail_status=429), "crm_failed"),
    "asks-to-wait-an-hour": (
        Faults(fail_next=99, fail_status=429, retry_after_s=3600),
        "crm_failed",
    ),
    "shows-a-page": (Faults(html_page=99), "crm_failed"),
    "breaks-off": (Faults(broken_json=99), "crm_failed"),
    "says-an-error-as-if-well": (Faults(error_in_200=99), "crm_failed"),
    "gives-no-token": (Faults(fail_tokens=99, fail_status=500), "crm_failed"),
    "refuses-us": (Faults(grant_revoked=True), "crm_failed"),
}


@pytest.fixture
async def crms() -> AsyncIterator[Callable[[Faults | None], Awaitable[str]]]:
    """Starts a sandbox CRM with faults; where it is."""
    started: list[SandboxCrm] = []

    async def start(faults: Faults | None) -> str:
        if faults is None:
            return f"http://127.0.0.1:{free_port()}"
        crm = SandboxCrm()
        crm.faults = faults.model_copy()
        started.append(crm)
        return f"http://127.0.0.1:{await crm.start()}"

    yield start
    await asyncio.gather(*(crm.stop() for crm in started))


async def test_a_crm_that_is_ill_costs_the_default_with_its_reason_and_no_more_than_the_budget(
    choice: Choice, crms: Callable[[Faults | None], Awaitable[str]]
) -> None:
    site, asked = SiteText(), []
    kinds: dict[str, list[dict[str, Any]]] = {
        "field": [TO_GOLD, TO_GERMAN],
        "manager": [{"destination": "manager"}],
        "next": [{"destination": ["manager", "queue:team"]}],
    }
    for what, (faults, reason) in ILL_CRMS.items():
        budget = SHORT if reason == "out_of_time" else AMPLE
        for kind, rows in kinds.items():
            # Each is asked by one rule: who was ill a moment ago is left alone for a while.
            name = f"{what}-{kind}"
            site.crm.append(a_zoho(name, await crms(faults)))
            more = {"crm": name, "modules": ["Contacts"], "field": "Tier"}
            asked.append((what, kind, reason, budget, site.rule(name, rows, within=budget, **more)))
    wrong = []
    async with asking(choice, str(site), services=("routing",)) as asker:

        async def ask_one_that(ails: str) -> None:
            for what, kind, reason, budget, did in asked:
                if what != ails:
                    continue
                found = await destination(asker, Question(did=did, caller=GRACE), budget)
                wanted = "queue:team: row_matched" if kind == "next" else f"extension:103: {reason}"
                if found != wanted:
                    wrong.append(f"{what}, {kind}: {found}, not {wanted}")
                if kind == "field":
                    # What needs no CRM is decided without.
                    found = await destination(asker, Question(did=did, caller=GERMAN), budget)
                    if found != "queue:german: row_matched":
                        wrong.append(f"{what}, another row: {found}")

        # Of one that asks to slow down the next question waits for some seconds.
        await asyncio.gather(*(ask_one_that(ails) for ails in ILL_CRMS))
    assert not wrong, "\n".join(wrong)


# -- a service of the tenant's own ---------------------------------------------------------------

PAGE = b"<!doctype html><title>Sign in</title>"
#: What is wrong with it → status, type, body; None: it never answers.
ILL_COMPANIES: dict[str, tuple[int, str, bytes] | None] = {
    "hangs": None,
    "fails": (500, "text/plain", b""),
    "is-maintained": (503, "text/html", PAGE),
    "asks-to-slow-down": (429, "text/plain", b""),
    "does-not-know-us": (401, "application/json", b"{}"),
    "points-elsewhere": (302, "text/plain", b""),
    "shows-a-page": (200, "text/html", PAGE),
    "breaks-off": (200, "application/json", b'{"Tier": "GO'),
    "answers-an-object": (200, "application/json", b'{"Tier": {"a": "GOLD"}}'),
    "answers-an-image": (200, "image/png", b"\x89PNG"),
    "answers-no-text": (200, "text/plain; charset=utf-8", b"\xff\xfe\xfa"),
    "never-ends": (200, "text/plain", b"x" * 1_000_000),
}


async def test_a_custom_crm_that_is_ill_costs_the_default_and_no_more_than_the_budget(
    choice: Choice, request: pytest.FixtureRequest
) -> None:
    authority, context = request.getfixturevalue("certificates")
    choice = replace(choice, net=NetSettings(allow="127.0.0.0/8", ca_file=authority))
    site, wrong = SiteText(), []
    async with AsyncExitStack() as stack:
        companies: dict[str, Company] = {}
        asked: list[tuple[str, str, timedelta]] = []
        for what, answer in ILL_COMPANIES.items():
            company = companies[what] = await stack.enter_async_context(serving(context))
            if answer is None:
                company.open.clear()
                stack.callback(company.open.set)
            else:
                company.status, kind, company.body = answer
                company.answer_headers = {"Content-Type": kind, "Location": company.url}
        urls = {what: company.url for what, company in companies.items()}
        for what, url in {**urls, "is-down": f"https://127.0.0.1:{free_port()}"}.items():
            budget = SHORT if what == "hangs" else AMPLE
            custom = {"custom": {"url": url}, "field": "Tier"}
            did = site.rule(what, [TO_GOLD, TO_GERMAN], within=budget, **custom)
            asked.append((what, did, budget))
        asker = await stack.enter_async_context(asking(choice, str(site), services=("routing",)))
        for what, did, budget in asked:
            reason = "out_of_time" if what == "hangs" else "crm_failed"
            for caller, wanted in (
                (GRACE, f"extension:103: {reason}"),
                # What needs no CRM is decided without.
                (GERMAN, "queue:german: row_matched"),
            ):
                found = await destination(asker, Question(did=did, caller=caller), budget)
                if found != wanted:
                    wrong.append(f"{what}: {found}, not {wanted}")
        # A redirect leads nowhere: it could lead into the operator's own network.
        assert len(companies["points-elsewhere"].asked) == 2
    assert not wrong, "\n".join(wrong)


# -- the CRM's own word about the manager --------------------------------------------------------

THE_MANAGER = {"id": 24, "firstName": "Anna", "lastName": "Agent", "code": "101"}
THE_CUSTOMER = {"id": 1233, "firstName": "Ivan", "phones": [{"number": "447700900145"}]}


async def late(_: Asked) -> web.Response:
    await SystemClock().sleep(HANGS)
    return web.json_response({"success": True})


#: Who is asked who is free → what is answered.
ILL_MANAGERS: dict[str, Callable[[Asked], Any]] = {
    "hangs": late,
    "fails": lambda _: web.Response(status=500),
    "asks-to-slow-down": lambda _: web.Response(status=503),
    "shows-a-page": lambda _: web.Response(body=PAGE, content_type="text/html"),
    "answers-rubbish": lambda _: [1, 2],
    "refuses": lambda _: {"success": False, "errorMsg": "no telephony here"},
}


def retailcrm(is_free: Callable[[Asked], Any]) -> Callable[[Asked], Any]:
    """Whose customer somebody is, it knows; who is free, as *is_free* says."""

    def answers(asked: Asked) -> Any:
        if asked.query.get("ignoreStatus") == "1":
            return {"success": True, "manager": THE_MANAGER, "customer": THE_CUSTOMER}
        if asked.what == "GET /api/v5/telephony/manager":
            return is_free(asked)
        return {"success": True, "customers": [], "users": []}

    return answers


async def test_a_crm_that_does_not_say_who_is_free_costs_no_more_than_the_budget(
    choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So much of the budget is left for the owner's phone, and as much is there for the record.
    for_the_owner = timedelta(seconds=3)
    monkeypatch.setattr("services.routing.responsible._FOR_THE_OWNER", for_the_owner)
    site, asked, wrong = SiteText(), [], []
    async with AsyncExitStack() as stack:
        for what, is_free in ILL_MANAGERS.items():
            for kind, ways in (("alone", "manager"), ("next", ["manager", "queue:team"])):
                crm = await stack.enter_async_context(scripted(retailcrm(is_free)))
                name = f"{what}-{kind}"
                site.crm.append(
                    {
                        "name": name,
                        "template": "retailcrm",
                        "parameters": {"api_url": crm.url},
                        "credentials": {"api_key": "k"},
                        "journal": {"enabled": False},
                    }
                )
                budget = 2 * for_the_owner if what == "hangs" else AMPLE
                did = site.rule(name, [{"destination": ways}], within=budget, crm=name)
                asked.append((what, kind, budget, did))
        site.agents = [
            {"extension": "101", "users": {crm["name"]: "24" for crm in site.crm}},
        ]
        asker = await stack.enter_async_context(asking(choice, str(site), services=("routing",)))
        decided = await asyncio.gather(
            *(destination(asker, Question(did=did, caller=GRACE), for_) for *_, for_, did in asked)
        )
        for (what, kind, *_), found in zip(asked, decided, strict=True):
            # The record says whose customer it is, and nobody told that 101 is busy.
            if found != "extension:101: row_matched":
                wrong.append(f"{what}, {kind}: {found}")
    assert not wrong, "\n".join(wrong)


# -- the store and the broker --------------------------------------------------------------------


@pytest.fixture
def mongod() -> Iterator[LocalMongo]:
    """Our own: it is frozen."""
    with LocalMongo() as server:
        yield server


@pytest.fixture
def rabbit() -> Iterator[LocalRabbit]:
    """Our own: it is stopped."""
    with LocalRabbit() as server:
        yield server


def by_tier_and_manager(crm_url: str) -> tuple[SiteText, dict[str, str]]:
    """Rules that ask a CRM for a field, for the manager, and nobody; their numbers."""
    site = SiteText(crm=[a_zoho("zoho", crm_url)])
    site.agents = [
        {"extension": extension, "users": {"zoho": user["id"]}}
        for extension, user in zip(("101", "102"), USERS, strict=True)
    ]
    of_contacts: dict[str, Any] = {"crm": "zoho", "modules": ["Contacts"], "field": "Tier"}
    return site, {
        "field": site.rule("tiers", [TO_GOLD], within=AMPLE, **of_contacts),
        "manager": site.rule("manager", [{"destination": "manager"}], within=AMPLE, **of_contacts),
        "caller": site.rule("callers", [TO_GERMAN], within=AMPLE),
        "hurried": site.rule("hurried", [TO_GOLD], within=SHORT, **of_contacts),
    }


@pytest.mark.rabbitmq
@pytest.mark.mongodb
async def test_while_the_store_is_frozen_calls_are_routed_from_memory_and_in_time(
    mongod: LocalMongo, rabbit: LocalRabbit, crm: SandboxCrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For one glance at it and for the CRM the usual rule has time; who waited for the store, which
    # is longer away than a call lasts, would be out of it here, too.
    assert RoutingRule.model_fields["within"].default > 3 * GLANCE
    monkeypatch.setattr("shared.storage.mongo._WITHIN", timedelta(seconds=50))
    monkeypatch.setattr("shared.storage.mongo._COMMAND_WITHIN", timedelta(seconds=49))
    name = f"test-{new_id().hex[:10]}"
    choice = Choice(
        MeshSettings(
            bus=BusKind.RABBIT,
            store=StoreKind.MONGO,
            secret_keys=new_key(),
            settings_poll=timedelta(milliseconds=100),
            drain=timedelta(seconds=1),
        ),
        AmqpSettings(url=SecretStr(rabbit.url), prefix=name),
        MongoSettings(url=SecretStr(mongod.url), database=name),
        NetSettings(allow="127.0.0.0/8"),
    )
    site, numbers = by_tier_and_manager(f"http://127.0.0.1:{await crm.start()}")
    async with asking(choice, str(site), services=("routing",)) as asker:

        async def goes(number: str, caller: str) -> str:
            budget = SHORT if number == "hurried" else AMPLE
            return await destination(asker, Question(did=numbers[number], caller=caller), budget)

        known = Question(did=numbers["field"], caller=GRACE)
        # The CRM's token, the caller and the key are in memory from here on.
        assert await goes("field", GRACE) == "queue:gold: row_matched"
        assert Shown.of(await asker.by_http(known)).goes_to == "queue:gold"
        mongod.freeze()
        try:
            assert await goes("field", GRACE) == "queue:gold: row_matched"
            assert await goes("caller", GERMAN) == "queue:german: row_matched"
            # Whom nobody asked for before is asked for at the CRM.
            assert await goes("field", JANE) == "extension:103: no_row_matched"
            assert await goes("manager", JANE) == "extension:101: row_matched"
            assert (await asker.by_fastagi(replace(known, did="99")))["CRM_REASON"] == "no_rule"
            for ask in (asker.by_http, asker.by_bus):
                async with asyncio.timeout((AMPLE + SLACK).total_seconds()):
                    assert Shown.of(await ask(known)).goes_to == "queue:gold"
            crm.faults = Faults(latency_ms=_ms(HANGS))
            # Not even both: a CRM that hangs, and a store that does.
            assert await goes("hurried", "447700900167") == "extension:103: out_of_time"
        finally:
            await asyncio.to_thread(mongod.thaw)
        crm.faults = Faults()
        assert await goes("field", GRACE) == "queue:gold: row_matched"


@pytest.mark.rabbitmq
async def test_while_the_broker_is_stopped_calls_are_routed_and_it_is_told_when_it_is_back(
    rabbit: LocalRabbit, crm: SandboxCrm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who waited for its word would be late.
    monkeypatch.setattr("shared.bus.rabbit.bus._CONFIRM_SECONDS", 50)
    choice = Choice(
        MeshSettings(
            bus=BusKind.RABBIT,
            store=StoreKind.SQLITE,
            data_dir=tmp_path / "mesh",
            settings_poll=timedelta(milliseconds=100),
            drain=timedelta(seconds=1),
        ),
        AmqpSettings(url=SecretStr(rabbit.url), prefix=f"test-{new_id().hex[:10]}"),
        MongoSettings(),
        NetSettings(allow="127.0.0.0/8"),
    )
    site, numbers = by_tier_and_manager(f"http://127.0.0.1:{await crm.start()}")
    asked = Question(did=numbers["field"], caller=GRACE)
    async with asking(choice, str(site)) as asker:
        await asyncio.to_thread(rabbit.stop)
        try:
            # By HTTP, as by FastAGI, the broker is not on the way.
            assert await destination(asker, asked, AMPLE) == "queue:gold: row_matched"
            async with asyncio.timeout((AMPLE + SLACK).total_seconds()):
                by_http = await asker.by_http(replace(asked, call="1795244075.1"))
            assert Shown.of(by_http).goes_to == "queue:gold"

            async def is_kept() -> bool:
                query = {"call": asked.call_id}
                status, page = await asker.send("GET", "/v1/routes/decisions", query=query)
                assert status == 200, page
                return [one["destination"] for one in page["decisions"]] == ["queue:gold"]

            await eventually(is_kept)
            metrics = asker.platform.metrics
            await eventually(lambda: metrics.value("callmesh_spooled_total", "routing") == 2)
        finally:
            await asyncio.to_thread(rabbit.start)
        api = MeshApi(asker.session, asker.url, asker.key.get_secret_value())

        async def has_its_route() -> bool:
            record = await api.call(asked.call_id)
            return record is not None and record.route is not None

        await eventually(has_its_route)
