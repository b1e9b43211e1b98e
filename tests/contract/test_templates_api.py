"""Connector templates over HTTP: what there is, what each asks for, and drafts that are checked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.setup.template_drafts import MOST_OF_ONE, MOST_WITHOUT_LOGO, THREAD
from shared.crm.registry import shipped, shipped_names
from shared.http.auth import Scope
from tests.contract.crm_api_kit import SHOP, CrmApi, opened
from tests.contract.rest_kit import Reply, ask

SAMPLES = Path(__file__).parents[1] / "data" / "templates"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply()
        yield found


async def lint(api: CrmApi, text: str, **more: Any) -> Reply:
    return await ask(api, "POST", "/v1/templates/lint", json={"yaml": text}, **more)


async def test_every_template_that_ships_and_the_operators_own_are_listed(api: CrmApi) -> None:
    api.template("shop")
    (api.templates / "broken.yaml").write_text("schema: 2\n")
    reply = await ask(api, "GET", "/v1/templates")
    known = {one["name"]: one for one in reply.body["templates"]}

    assert known.keys() == {*shipped_names(), "shop", "broken"}
    assert known["zoho"]["title"] == shipped("zoho").title
    assert {"search", "users", "journal"} <= set(known["zoho"]["can"])
    assert known["shop"]["can"] == ["search"]
    assert known["shop"]["modules"] == ["People"]
    assert "broken.yaml:1: name" in known["broken"]["fault"]


async def test_templates_are_found_by_name_ability_and_quality(api: CrmApi) -> None:
    async def found(query: str) -> list[str]:
        reply = await ask(api, "GET", f"/v1/templates?{query}")
        assert reply.status == 200, reply.body
        return [one["name"] for one in reply.body["templates"]]

    assert await found("search=RETAIL") == ["retailcrm"]
    assert await found("ids=zoho,odoo,none") == ["odoo", "zoho"]
    able = await found("can=manager")
    assert able == [name for name in shipped_names() if shipped(name).manager]
    assert set(await found("quality=recorded")) < set(shipped_names())
    assert await found("quality=recorded&can=nothing") == []
    first = (await ask(api, "GET", "/v1/templates?limit=1&fields=name,can")).body
    assert [list(one) for one in first["templates"]] == [["name", "can"]]
    assert (await found(f"limit=1&cursor={first['next_cursor']}"))[0] == shipped_names()[1]


@pytest.mark.parametrize("name", shipped_names())
async def test_the_form_of_each_says_what_a_connection_needs(api: CrmApi, name: str) -> None:
    manifest = shipped(name)
    reply = await ask(api, "GET", f"/v1/templates/{name}")

    assert reply.status == 200
    assert [one["name"] for one in reply.body["parameters"]] == [
        one.name for one in manifest.parameters
    ]
    assert {one["name"]: one["required"] for one in reply.body["credentials"]} == {
        one.name: one.required for one in manifest.credentials
    }
    for field, parameter in zip(reply.body["parameters"], manifest.parameters, strict=True):
        assert field["options"] == list(parameter.options)
        assert field["required"] is (parameter.default is None)
        assert field["title"]


async def test_one_that_is_not_there_or_cannot_be_read_is_not_found(api: CrmApi) -> None:
    (api.templates / "broken.yaml").write_text("schema: 2\n")
    assert (await ask(api, "GET", "/v1/templates/nothing")).status == 404
    broken = await ask(api, "GET", "/v1/templates/broken")
    assert (broken.status, "broken.yaml:1" in broken.detail) == (404, True)
    for name in ("lint", "import"):
        assert (await ask(api, "GET", f"/v1/templates/{name}")).status == 404


# -- drafts ----------------------------------------------------------------------------------------


async def test_a_template_that_ships_has_no_fault(api: CrmApi) -> None:
    text = api.connections().templates.source("zoho")
    reply = await lint(api, text)
    assert (reply.status, reply.body["well"], reply.body["name"]) == (200, True, "zoho")


async def test_a_fault_comes_with_its_line_and_place(api: CrmApi) -> None:
    text = (
        "schema: 2\nname: mine\ntitle: Mine\nquality: declared\nsources: [me]\n"
        "phone_formats: [e164]\n"
        "contacts:\n  People:\n    map: {id: id, display_name: name}\n"
        "check: {url: 'https://a.example/{{.Nothing}}'}\ncolour: red\n"
    )
    reply = await lint(api, text)
    assert (reply.status, reply.body["well"]) == (200, False)
    assert {"level": "error", "line": 11, "where": "colour", "what": "unknown key"} in (
        reply.body["findings"]
    )
    assert "name" not in reply.body

    unused = {
        **SHOP,
        "name": "mine",
        "parameters": [*SHOP["parameters"], {"name": "x", "title": "X", "default": ""}],
    }
    reply = await lint(api, json.dumps(unused))
    assert reply.body["name"] == "mine"
    assert any(one["where"].startswith("parameters") for one in reply.body["findings"])


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        ":",
        "\t",
        "[" * 5000,
        "{" * 300,
        "- " * 3000,
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c]\n",
        "&a [*a]",
        "!!python/object/apply:os.system ['true']",
        "!!binary |\n  R0lGODlh",
        "schema: 99999999999999999999999",
        "a: 1\na: 2\n",
        "name: [1]\ncontacts: 5\nsearch: {a: {b: {c: 1}}}",
        "\u2028",
        "schema: 2\n" * 3000,
    ],
)
async def test_no_text_does_more_than_be_faulty(api: CrmApi, text: str) -> None:
    reply = await lint(api, text)
    assert (reply.status, reply.body["well"]) == (200, False)
    assert reply.body["findings"]


async def test_aliases_that_unfold_for_ever_are_refused_quickly(api: CrmApi) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    reply = await lint(api, "\n".join(lines))
    assert (reply.status, reply.body["well"]) == (200, False)


LOGO = f"data:image/png;base64,{'A' * 300_000}"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"yaml": ""},
        {"yaml": 5},
        {"yaml": "x" * (MOST_WITHOUT_LOGO + 1)},
        {"yaml": f"logo: {LOGO}\na: [{'a,' * MOST_WITHOUT_LOGO}a]"},
        {"yaml": f"logo: {LOGO}{'A' * 100_000}"},
        [],
    ],
)
async def test_what_is_no_text_is_refused(api: CrmApi, body: Any) -> None:
    assert (await ask(api, "POST", "/v1/templates/lint", json=body)).status == 422


async def test_a_logo_may_be_larger_than_all_else(api: CrmApi) -> None:
    reply = await lint(api, json.dumps({**SHOP, "name": "mine", "logo": LOGO}))
    assert (reply.status, reply.body["name"]) == (200, "mine")


async def test_a_tenant_has_a_few_drafts_read_at_once(api: CrmApi) -> None:
    done = threading.Event()
    THREAD.submit(done.wait)
    try:
        xml = {"xml": "<Crm/>", "vendor": "3cx"}
        asked = [
            *(asyncio.ensure_future(lint(api, "a: b: c")) for _ in range(MOST_OF_ONE)),
            asyncio.ensure_future(ask(api, "POST", "/v1/templates/import", json=xml)),
        ]
        ended, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result().status for one in ended] == [429]
    finally:
        done.set()
    replies = await asyncio.gather(*asked)
    assert sorted(reply.status for reply in replies).count(429) == 1
    assert (await lint(api, "a: b: c")).status == 200


@pytest.mark.parametrize(
    "xml", [pytest.param(f.read_text(), id=f.name) for f in sorted(SAMPLES.glob("*/*.xml"))]
)
async def test_a_template_of_another_system_is_taken_over(api: CrmApi, xml: str) -> None:
    body = {"xml": xml, "name": "taken-over"}
    reply = await ask(api, "POST", "/v1/templates/import", json=body)

    assert reply.status == 200, reply.body
    assert reply.body["name"] == "taken-over"
    assert reply.body["notes"]
    again = await lint(api, reply.body["yaml"])
    assert again.body["findings"] == reply.body["findings"]
    # Nothing was kept.
    assert "taken-over" not in str((await ask(api, "GET", "/v1/templates")).body)


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("", ""),
        ("<a", "line 1"),
        ("<Other/>", "begins with"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Information>&b;</Information>', "DOCTYPE"),
        (
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><Information/>',
            "DOCTYPE",
        ),
        ("<Information>" * 5000, ""),
        ("<Information/>", ""),
        ("<Crm/>", ""),
    ],
)
async def test_what_is_no_template_of_another_system_is_refused(
    api: CrmApi, xml: str, says: str
) -> None:
    for vendor in (None, "yeastar", "3cx"):
        body = {"xml": xml} | ({"vendor": vendor} if vendor else {})
        reply = await ask(api, "POST", "/v1/templates/import", json=body)
        assert reply.status == 422
        assert says in str(reply.body)
        assert "root:" not in str(reply.body)


async def test_who_may_not_read_the_site_learns_nothing(api: CrmApi) -> None:
    key = await api.a_key(Scope.CALLS_READ)
    assert (await ask(api, "GET", "/v1/templates", key=key)).status == 403
    assert (await ask(api, "GET", "/v1/templates/zoho", key=key)).status == 403
    assert (await lint(api, "x", key=key)).status == 403
