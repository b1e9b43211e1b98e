"""Routing as it runs: asking a company's own service, changed live on all replicas, kept with its call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from shared.contracts.routing import RouteReason
from shared.http.auth import Scope
from shared.runtime.platform import Choice
from shared.runtime.settings import NetSettings, StoreKind
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import MeshApi
from shared.sandbox.site import TENANT
from shared.site.documents import SITES
from shared.storage.port import change
from shared.testing.waiting import eventually
from tests.contract.test_custom_crm import (
    Company,
    certificates,  # noqa: F401  a fixture: pytest finds it by its name
    serving,
)
from tests.scenario.routing_kit import (
    Asker,
    Question,
    Shown,
    asking,
    asking_also,
    site_text,
)


async def address(crm: SandboxCrm) -> str:
    return f"http://127.0.0.1:{await crm.start()}"


# -- a service of the tenant's own ---------------------------------------------------------------

CUSTOM = """
tenants:
  - tenant: demo
    region: GB
    pbx: [{name: sandbox, kind: asterisk, host: 127.0.0.1, port: 1, username: u, secret: s,
           trunks: [trunk], askers: [127.0.0.0/8]}]
    rules:
      - name: by-get
        within: 10s
        ivrs: [pin]
        greeting: custom/enter-your-pin
        custom: {url: "$crm/field?shop=7"}
        field: Account_Name
        rows: [{operator: "=", value: gold, destination: "queue:gold"}]
        default: extension:102
      - name: by-post
        within: 10s
        dids: ["442079460002"]
        custom:
          url: $crm/field
          post: true
          header: {name: X-Api-Key, value: hunter2-of-the-header}
          send: {from: caller, to: did}
        field: Account_Name
        rows: [{operator: "=", value: gold, destination: "queue:gold"}]
        default: extension:102
"""


@pytest.fixture
async def company(request: pytest.FixtureRequest) -> AsyncIterator[Company]:
    _, context = request.getfixturevalue("certificates")
    async with serving(context) as found:
        yield found


async def test_a_custom_crm_is_asked_as_pbxware_asks_it(
    choice: Choice, company: Company, request: pytest.FixtureRequest
) -> None:
    authority, _ = request.getfixturevalue("certificates")
    choice = replace(choice, net=NetSettings(allow="127.0.0.0/8", ca_file=authority))
    text = site_text(crm=company.url, text=CUSTOM)
    menu = Question(did="442079460001", ivr="pin", caller="+447700900145")
    async with asking(choice, text, services=("routing",)) as asker:
        first = await asker.by_fastagi(menu)
        assert (first["CRM_REASON"], first["CRM_GREETING"]) == (
            "digits_wanted",
            "custom/enter-your-pin",
        )
        assert company.asked == [], "nobody is asked before the digits are there"

        with_digits = await asker.by_fastagi(replace(menu, digits="42#"))
        without = await asker.by_fastagi(replace(menu, digits="-"))
        assert [with_digits["CRM_DEST"], without["CRM_DEST"]] == ["queue:gold"] * 2
        assert company.asked == [
            ("GET", "/field?shop=7&field_name=Account_Name&dtmf=42%23", ""),
            ("GET", "/field?shop=7&field_name=Account_Name", ""),
        ]
        company.asked.clear()

        company.body, company.answer_headers = (
            b'{"Account_Name": "silver"}',
            {"Content-Type": "application/json"},
        )
        decision = await asker.by_http(replace(menu, ivr="", did="442079460002"))
        assert (Shown.of(decision).goes_to, decision.reason, decision.value) == (
            "extension:102",
            RouteReason.NO_ROW_MATCHED,
            "silver",
        )
        ((method, path, body),) = company.asked
        assert (method, path) == ("POST", "/field")
        said = {"field_name": "Account_Name", "from": "+447700900145", "to": "442079460002"}
        assert json.loads(body) == said
        assert company.headers["Content-Type"] == "application/json"
        assert company.headers["X-Api-Key"] == "hunter2-of-the-header"


async def test_a_custom_crm_without_the_value_leads_to_the_default(
    choice: Choice, company: Company, request: pytest.FixtureRequest
) -> None:
    authority, _ = request.getfixturevalue("certificates")
    choice = replace(choice, net=NetSettings(allow="127.0.0.0/8", ca_file=authority))
    text = site_text(crm=company.url, text=CUSTOM)
    asked = Question(did="442079460002", caller="anonymous")
    async with asking(choice, text, services=("routing",)) as asker:
        company.body = b""
        empty = await asker.by_fastagi(asked)
        company.answer_headers = {"Content-Type": "application/json"}
        company.body = b'{"Another_Field": "gold"}'
        other = await asker.by_fastagi(asked)
    for found in (empty, other):
        assert (found["CRM_DEST"], found["CRM_REASON"]) == ("extension:102", "no_value")
    said = {"field_name": "Account_Name", "to": "442079460002"}
    assert [json.loads(body) for _, _, body in company.asked] == [said, said]


# -- changed live --------------------------------------------------------------------------------


async def test_every_replica_decides_by_a_rule_as_it_was_changed_last(
    choice: Choice, crm: SandboxCrm
) -> None:
    gold = Question(did="442079460001", caller="07700900145")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(asking(choice, site_text(crm=await address(crm))))
        replicas = [first]
        if choice.mesh.store is StoreKind.MONGO:  # an embedded mesh is one process
            replicas.append(await stack.enter_async_context(asking_also(choice, first)))
        editor = await first.platform.keys.issue(
            tenant=TENANT, name="editor", scopes=(Scope.SITE_WRITE, Scope.SITE_READ)
        )

        async def everywhere(asked: Question, *wanted: str) -> None:
            """Destination and reason, by FastAGI of each replica."""

            async def holds() -> bool:
                found = [await one.by_fastagi(asked) for one in replicas]
                return all((f["CRM_DEST"], f["CRM_REASON"]) == wanted for f in found)

            await eventually(holds)

        await everywhere(gold, "queue:gold", "row_matched")

        status, rule = await first.send("GET", "/v1/rules/tiers", key=editor)
        assert (status, rule["version"]) == (200, 1)
        before, settings = rule["settings"], rule["settings"]
        rows = [{**settings["rows"][0], "destination": "queue:platinum"}, *settings["rows"][1:]]
        changed = {**settings, "rows": rows}
        status, rule = await first.send("PUT", "/v1/rules/tiers", changed, key=editor)
        assert (status, rule["version"]) == (200, 2)
        await everywhere(gold, "queue:platinum", "row_matched")
        assert [(await one.by_http(gold)).version for one in replicas] == [2] * len(replicas)

        # What makes no sense is refused with its row, and what was there before decides.
        circle = {**settings, "rows": [*rows, {"destination": "rule:front"}]}
        status, problem = await first.send("PUT", "/v1/rules/tiers", circle, key=editor)
        assert status == 422
        assert "row 5: rules lead in a circle: tiers → front → tiers" in problem["detail"]

        back = {"number": 1}
        status, rule = await first.send("POST", "/v1/rules/tiers/rollback", back, key=editor)
        assert (status, rule["version"], rule["settings"]) == (200, 3, before)
        await everywhere(gold, "queue:gold", "row_matched")

        _, listed = await first.send("GET", "/v1/rules/tiers/versions", key=editor)
        assert [(v["version"], v["what"], v["changed_by"]) for v in listed["versions"]] == [
            (3, "rolled back to 1", "key editor"),
            (2, "changed", "key editor"),
            (1, "created", "demo"),
        ]

        deleted = replace(gold, did="442079460014")
        await everywhere(deleted, "queue:gold", "row_matched")
        path = "/v1/rules/voicemail-no"
        assert (await first.send("DELETE", path, key=editor))[0] == 422
        assert (await first.send("DELETE", path, query={"confirm": "voicemail-no"}, key=editor))[
            0
        ] == 200
        await everywhere(deleted, "", "no_rule")

        await without_crm(first)
        await everywhere(gold, "extension:102", "crm_failed")
        told = (await first.by_http(gold)).trace
        assert "there is no CRM connection zoho" in [step.detail for step in told]
        # Who has a row that needs no CRM has it still.
        closed = replace(gold, did="442079460020")
        await everywhere(closed, "announcement:closed", "row_matched")


async def without_crm(asker: Asker) -> None:
    """As if the connection were gone, although rules want it: the store may be older than they."""

    def edited(found: Any) -> Any:
        agents = tuple(agent.model_copy(update={"users": {}}) for agent in found.site.agents)
        site = found.site.model_copy(update={"crm": (), "agents": agents})
        return found.model_copy(update={"site": site, "changed_at": asker.platform.clock.now()})

    await change(asker.platform.store.collection(SITES), TENANT, edited)


# -- what is kept --------------------------------------------------------------------------------


async def test_a_decision_is_found_by_its_call_and_the_call_has_it(
    choice: Choice, crm: SandboxCrm
) -> None:
    asked = Question(did="442079460099", ivr="customers", caller="07700900145")
    async with asking(choice, site_text(crm=await address(crm))) as asker:
        await asker.by_fastagi(asked)
        await asker.by_fastagi(replace(asked, digits="1"))

        async def found() -> list[Any]:
            status, page = await asker.send(
                "GET", "/v1/routes/decisions", query={"call": asked.call_id}
            )
            assert status == 200, page
            return list(page["decisions"])

        await eventually(lambda: _has(found, 2))
        last, first = await found()
        assert [first["reason"], first["destination"], first["dtmf"]] == [
            "digits_wanted",
            "greeting:custom/enter-your-choice",
            "",
        ]
        assert [last["reason"], last["destination"], last["rule"], last["row"], last["dtmf"]] == [
            "row_matched",
            "queue:gold",
            "menu",
            1,
            "1",
        ]
        _, whole = await asker.send("GET", f"/v1/routes/decisions/{last['id']}")
        steps = [(step["step"], step["detail"]) for step in whole["decision"]["trace"]]
        assert steps[0] == ("rule", "menu (version 1)")
        assert ("contact", "zoho: 1 found (crm)") in steps
        assert steps[-1][0] == "row"
        assert steps[-1][1].endswith("matches")

        api = MeshApi(asker.session, asker.url, asker.key.get_secret_value())

        async def is_with_the_call() -> bool:
            record = await api.call(asked.call_id)
            route = record.route if record is not None else None
            return route is not None and Shown.of(route).goes_to == "queue:gold"

        await eventually(is_with_the_call)
        # A question without a call is not kept.
        await asker.by_explain(asked)
        assert len(await found()) == 2


async def _has(found: Any, count: int) -> bool:
    return len(await found()) == count
