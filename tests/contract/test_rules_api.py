"""Routing rules as documents, over HTTP: put, searched, shown without secrets, rolled back, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.http.auth import Scope
from shared.secrets import SecretBox, new_key
from shared.site.documents import RULE_SOURCES, RULES
from shared.storage.port import Find
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.rest_kit import ask, patch

KEPT = "********"
SECRET = "hunter2-in-a-header"
ROW = {"operator": "=", "value": "GOLD", "destination": "queue:support"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    async with opened(tmp_path) as found:
        await found.apply(
            {"name": "shop", "template": "zoho"},
            {"name": "other", "template": "zoho"},
            agents=[{"extension": "101"}],
        )
        yield found


def a_rule(**changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "dids": ["442079460000"],
        "crm": "shop",
        "field": "Tier",
        "rows": [ROW],
        "default": "extension:101",
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def a_custom_rule(url: str = "https://crm.example/field", secret: str = SECRET) -> dict[str, Any]:
    custom = {"url": url, "header": {"name": "X-Key", "value": secret}}
    return a_rule(crm=None, custom=custom)


async def put(api: CrmApi, name: str, rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    status, shown = await api.send("PUT", f"/v1/rules/{name}", json=rule, **more)
    assert status == 200, shown
    return dict(shown)


async def refused(api: CrmApi, name: str, rule: Any, **more: Any) -> tuple[int, str]:
    status, problem = await api.send("PUT", f"/v1/rules/{name}", json=rule, **more)
    assert status >= 400, problem
    return status, str(problem["detail"])


async def secret_of(api: CrmApi, name: str) -> str:
    rule = (await api.store.collection(RULES).get(f"acme/{name}")).read()
    assert rule.custom is not None
    assert rule.custom.header is not None
    return api.box.open(rule.custom.header.value).get_secret_value()


# -- put, read, list ----------------------------------------------------------------------------


async def test_a_rule_that_is_put_is_shown_as_it_was_said(api: CrmApi) -> None:
    rule = a_rule(
        rows=[
            {**ROW, "priority": 5},
            {
                "when": {"none": [{"of": "contact.known", "operator": "exists"}]},
                "destination": ["manager", "queue:new"],
            },
        ],
        default_voicemail=True,
    )
    shown = await put(api, "main", rule)

    assert shown["settings"] == rule
    assert (shown["name"], shown["version"], shown["changed_by"]) == ("main", 1, "key k0")
    assert await api.send("GET", "/v1/rules/main") == (200, shown)


async def test_a_list_says_what_each_rule_is_for(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    await put(api, "menu", a_rule(dids=["442079460001"], ivrs=["day"], crm="other"))
    await put(api, "vip", a_custom_rule() | {"dids": []})
    status, listed = await api.send("GET", "/v1/rules")
    assert status == 200
    assert [
        (one["name"], one["location"], one["dids"], one["ivrs"], one["crm"], one["rows"])
        for one in listed["rules"]
    ] == [
        ("main", "DID", ["442079460000"], [], "shop", 1),
        ("menu", "IVR", ["442079460001"], ["day"], "other", 1),
        ("vip", "rule", [], [], "custom", 1),
    ]
    assert {(one["field"], one["version"], one["changed_by"]) for one in listed["rules"]} == {
        ("Tier", 1, "key k0")
    }


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["main", "menu", "vip"]),
        ("AI", ["main"]),
        ("rank", ["menu"]),
        ("946000", ["main", "menu"]),
        ("day", ["menu"]),
        ("oth", ["menu"]),
        ("Custom", ["vip"]),
        ("nothing", []),
    ],
)
async def test_rules_are_found_by_any_of_what_a_list_shows(
    api: CrmApi, search: str, found: list[str]
) -> None:
    await put(api, "main", a_rule())
    menu = a_rule(dids=["442079460001"], ivrs=["day"], crm="other", field="Rank")
    await put(api, "menu", menu)
    await put(api, "vip", a_custom_rule() | {"dids": []})
    _, listed = await api.send("GET", "/v1/rules", params={"search": search})
    assert [one["name"] for one in listed["rules"]] == found


async def test_a_rule_of_another_tenant_is_not_there(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    token = await api.keys.issue(tenant="globex", name="k", scopes=tuple(Scope))
    key = token.get_secret_value()
    assert (await api.send("GET", "/v1/rules", key=key))[1] == {"rules": []}
    assert (await api.send("GET", "/v1/rules/main", key=key))[0] == 404
    assert (await api.send("GET", "/v1/rules/main/versions", key=key))[0] == 404
    assert (await api.send("PUT", "/v1/rules/main", key=key, json=a_rule()))[0] == 404
    assert (await api.send("DELETE", "/v1/rules/main?confirm=main", key=key))[0] == 404


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feld": "Tier"}, "feld: unknown key; did you mean `field`?"),
        ({"rows": []}, "rows: "),
        ({"rows": [ROW, {**ROW, "operator": "=="}]}, "row 2, operator: Input should be '='"),
        ({"rows": [ROW, {**ROW, "destination": "moon:1"}]}, "row 2, destination: 'moon:1'"),
        ({"rows": [{**ROW, "value": ["GOLD", ""]}]}, "row 1, value, 1: "),
        ({"rows": [{**ROW, "value": None}]}, "row 1: `=` takes one value"),
        ({"rows": [ROW, ROW]}, "row 2: this row is never taken: row 1 takes all that it would"),
        ({"crm": "nosuch"}, "crm: there is no crm nosuch"),
        ({"modules": ["Planets"]}, "modules: the template has no contact type Planets"),
        ({"credentials": {"pin": "1"}}, "credentials, pin: template zoho has no credential pin"),
        ({"default": "rule:vip"}, "default: there is no rule vip"),
        ({"default": "manager"}, "the default ends with a place that is always there"),
        ({"crm": None}, "field.Tier is asked of a CRM: say which `crm`"),
        ({"crm": None, "custom": {"url": "http://crm.example"}}, "custom, url: the address begins"),
        ({"name": "other"}, "name: this is rule main"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_row(
    api: CrmApi, changes: dict[str, Any], said: str
) -> None:
    status, detail = await refused(api, "main", a_rule(**changes))
    assert status == 422
    assert said in detail
    assert await api.store.collection(RULES).count() == 0


async def test_garbage_is_refused(api: CrmApi) -> None:
    garbage: list[Any] = [[], "x", {"custom": []}, {"credentials": 1}, {"rows": {"a": 1}}]
    for body in garbage:
        status, _ = await refused(api, "main", body)
        assert status == 422, body
    assert (await refused(api, "Main", a_rule()))[0] == 422
    assert (await refused(api, "main?version=x", a_rule()))[0] == 422


async def test_two_that_change_rules_at_once_both_do(api: CrmApi) -> None:
    rules = [put(api, f"r{n}", a_rule(dids=[f"44207946000{n}"])) for n in range(4)]
    await asyncio.gather(*rules)
    _, listed = await api.send("GET", "/v1/rules")
    assert [one["name"] for one in listed["rules"]] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("header", ["1", '"1"', 'W/"1"'])
async def test_who_says_the_version_that_he_saw_does_not_undo_what_came_after(
    api: CrmApi, header: str
) -> None:
    await put(api, "main", a_rule(), params={"version": "0"})
    await put(api, "main", a_rule(field="Rank"), headers={"If-Match": header})
    for more in ({"params": {"version": "1"}}, {"headers": {"If-Match": header}}):
        status, detail = await refused(api, "main", a_rule(field="Mine"), **more)
        assert (status, "at version 2" in detail) == (409, True)
    assert (await refused(api, "main", a_rule(), params={"version": "0"}))[0] == 409


async def test_who_wants_it_new_or_there_is_told_where_it_is_not(api: CrmApi) -> None:
    new, there = {"If-None-Match": "*"}, {"If-Match": "*"}
    assert (await refused(api, "main", a_rule(), headers=there))[0] == 404
    await put(api, "main", a_rule(), headers=new)
    assert (await refused(api, "main", a_rule(field="Mine"), headers=new))[0] == 409
    assert (await put(api, "main", a_rule(field="Rank"), headers=there))["version"] == 2


# -- secrets ------------------------------------------------------------------------------------


async def test_a_secret_is_sealed_and_nowhere_shown(api: CrmApi) -> None:
    shown = await put(api, "main", a_custom_rule())
    await put(api, "main", a_custom_rule() | {"field": "Rank"})

    assert shown["settings"]["custom"]["header"] == {"name": "X-Key", "value": KEPT}
    assert await secret_of(api, "main") == SECRET
    answers = [
        (await api.send("GET", path))[1]
        for path in ("/v1/rules", "/v1/rules/main", "/v1/rules/main/versions/1")
    ]
    assert answers[2]["settings"]["custom"]["header"]["value"] == KEPT
    rules = await api.store.collection(RULES).page(Find())
    sources = await api.store.collection(RULE_SOURCES).page(Find())
    answers += [document.model_dump_json() for document in (*rules.documents, *sources.documents)]
    assert SECRET not in str(answers)
    assert "sealed:" not in str(answers[:3])


async def test_a_secret_that_comes_back_as_asterisks_stays(api: CrmApi) -> None:
    await put(api, "main", a_custom_rule())
    again = await put(api, "main", a_custom_rule(secret=KEPT))
    assert again["version"] == 1

    await put(api, "main", a_custom_rule(secret=KEPT) | {"field": "Rank"})
    assert await secret_of(api, "main") == SECRET


async def test_a_stored_secret_is_not_sent_to_another_address(api: CrmApi) -> None:
    """It cannot be read here; whoever may change the address could have it sent to one of his."""
    await put(api, "main", a_custom_rule())
    moved = "https://192.0.2.1/field"
    status, detail = await refused(api, "main", a_custom_rule(moved, KEPT))
    assert status == 422
    assert "custom.url: is another; say custom.header.value again" in detail
    await put(api, "main", a_custom_rule(moved, "mine"))
    assert await secret_of(api, "main") == "mine"


async def test_credentials_of_one_connection_do_not_go_to_another(api: CrmApi) -> None:
    names = {"client_id": "a", "refresh_token": "hunter2"}
    shown = await put(api, "main", a_rule(credentials=names))
    assert shown["settings"]["credentials"] == dict.fromkeys(names, KEPT)
    kept = dict.fromkeys(names, KEPT)
    assert (
        "crm: is another" in (await refused(api, "main", a_rule(crm="other", credentials=kept)))[1]
    )

    await put(api, "main", a_rule(credentials={"client_id": KEPT}))
    rule = (await api.store.collection(RULES).get("acme/main")).read()
    assert {n: api.box.open(s).get_secret_value() for n, s in rule.credentials.items()} == {
        "client_id": "a"
    }


async def test_asterisks_for_what_was_never_said_are_no_secret(api: CrmApi) -> None:
    assert "none is stored" in (await refused(api, "main", a_custom_rule(secret=KEPT)))[1]
    await put(api, "main", a_custom_rule())
    await api.send("DELETE", "/v1/rules/main?confirm=main")
    assert "none is stored" in (await refused(api, "main", a_custom_rule(secret=KEPT)))[1]


async def test_a_secret_is_never_a_place_on_the_server_nor_a_seal(api: CrmApi) -> None:
    await put(api, "main", a_custom_rule())
    document = await api.store.collection(RULES).get("acme/main")
    sealed = document.source.partition("sealed:")[2].partition('"')[0]
    for secret in ({"file": "/etc/hostname"}, {"env": "HOME"}, f"sealed:{sealed}", "  "):
        rule = a_custom_rule()
        rule["custom"]["header"]["value"] = secret
        status, detail = await refused(api, "main", rule)
        assert (status, "custom, header, value" in detail) == (422, True), secret


async def test_a_secret_that_no_key_opens_is_a_conflict_that_says_what_to_do(api: CrmApi) -> None:
    await put(api, "main", a_custom_rule())
    await put(api, "main", a_custom_rule(secret="another"))
    api.rules.secrets = SecretBox([new_key()])

    for rule in (a_custom_rule(secret="new"), a_custom_rule(secret=KEPT) | {"field": "Rank"}):
        status, detail = await refused(api, "main", rule)
        assert (status, "remove rule main, and make it with its secrets anew" in detail) == (
            409,
            True,
        )
    await api.send("DELETE", "/v1/rules/main?confirm=main")
    rolled = await api.send("POST", "/v1/rules/main/rollback", json={"number": 1})
    assert rolled[0] == 409


async def test_the_order_of_secrets_is_no_change(api: CrmApi) -> None:
    names = {"client_id": "a", "refresh_token": "b"}
    await put(api, "main", a_rule(credentials=names))
    turned = dict(reversed(names.items()))
    assert (await put(api, "main", a_rule(credentials=turned)))["version"] == 1


# -- removed, rolled back -----------------------------------------------------------------------


async def test_a_rule_is_removed_when_it_is_confirmed_by_its_name(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    for query in ("", "?confirm=yes", "?confirm=Main"):
        status, problem = await api.send("DELETE", f"/v1/rules/main{query}")
        assert status == 422
        assert "Are you sure you want to remove 'main'?" in problem["detail"]
    status, gone = await api.send("DELETE", "/v1/rules/main?confirm=main")
    assert (status, gone["name"], gone["version"]) == (200, "main", 1)
    assert (await api.send("GET", "/v1/rules/main"))[0] == 404
    assert (await api.send("DELETE", "/v1/rules/main?confirm=main"))[0] == 404


async def test_a_rule_that_others_lead_to_is_not_removed(api: CrmApi) -> None:
    await put(api, "vip", a_rule(dids=[]))
    await put(api, "main", a_rule(rows=[{**ROW, "destination": "rule:vip"}]))
    status, problem = await api.send("DELETE", "/v1/rules/vip?confirm=vip")
    assert (status, "main" in problem["detail"]) == (409, True)


async def test_what_a_rule_was_is_listed_shown_and_brought_back(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    await put(api, "main", a_rule(rows=[ROW, {**ROW, "value": "SILVER"}]))
    await api.send("DELETE", "/v1/rules/main?confirm=main")
    status, back = await api.send("POST", "/v1/rules/main/rollback", json={"number": 1})
    assert (status, back["version"], back["settings"]) == (200, 4, a_rule())

    _, listed = await api.send("GET", "/v1/rules/main/versions")
    assert [(v["version"], v["what"], v["rows"]) for v in listed["versions"]] == [
        (4, "rolled back to 1", 1),
        (3, "deleted", 0),
        (2, "changed", 2),
        (1, "created", 1),
    ]
    _, second = await api.send("GET", "/v1/rules/main/versions/2")
    assert second["settings"]["rows"][1]["value"] == "SILVER"
    _, gone = await api.send("GET", "/v1/rules/main/versions/3")
    assert "settings" not in gone
    assert (await api.send("GET", "/v1/rules/main/versions/5"))[0] == 404
    for number, expected in ((3, 422), (9, 404), (0, 422)):
        body = {"number": number}
        assert (await api.send("POST", "/v1/rules/main/rollback", json=body))[0] == expected


async def test_reading_is_not_changing(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    reader, stranger = await api.a_key(Scope.SITE_READ), await api.a_key(Scope.CALLS_READ)
    for path in ("/v1/rules", "/v1/rules/main", "/v1/rules/main/versions"):
        assert (await api.send("GET", path, key=reader))[0] == 200
        assert (await api.send("GET", path, key=stranger))[0] == 403
    for method, path in (
        ("PUT", "/v1/rules/main"),
        ("DELETE", "/v1/rules/main?confirm=main"),
        ("POST", "/v1/rules/main/rollback"),
    ):
        assert (await api.send(method, path, key=reader, json={}))[0] == 403


async def test_who_changed_what_is_in_the_audit_log(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    await put(api, "main", a_rule(field="Rank"))
    await api.send("POST", "/v1/rules/main/rollback", json={"number": 1})
    await api.send("DELETE", "/v1/rules/main?confirm=main")
    assert [(action, subject) for _, action, subject in await api.audited()] == [
        ("put_rule", "rule main"),
        ("put_rule", "rule main"),
        ("roll_back_rule", "rule main"),
        ("delete_rule", "rule main"),
    ]


async def test_a_pbx_is_changed_although_a_rule_needs_what_is_gone(api: CrmApi) -> None:
    """What was broken before is no fault of this change."""
    await put(api, "main", a_rule())
    await api.apply()
    assert (await api.send("PUT", "/v1/pbx/door", json={"kind": "generic"}))[0] == 200


# -- in part, and bound to what was seen -----------------------------------------------------------


async def test_a_part_is_changed_and_the_rest_stays(api: CrmApi) -> None:
    await put(api, "main", a_rule(modules=["Contacts"]))
    reply = await patch(api, "/v1/rules/main", {"default": "queue:x", "modules": None})

    assert reply.status == 200, reply.body
    assert (reply.body["version"], reply.etag) == (2, '"2"')
    assert reply.body["settings"] == a_rule(default="queue:x")
    # A list is one thing.
    reply = await patch(api, "/v1/rules/main", {"rows": [ROW | {"value": "SILVER"}]})
    assert [row["value"] for row in reply.body["settings"]["rows"]] == ["SILVER"]
    assert (await patch(api, "/v1/rules/none", {})).status == 404
    reply = await patch(api, "/v1/rules/main", {"name": "other"})
    assert (reply.status, "not renamed" in reply.detail) == (422, True)
    reply = await patch(api, "/v1/rules/main", {"rows": []})
    assert reply.status == 422


async def test_a_part_leaves_the_secret_and_sends_it_nowhere_else(api: CrmApi) -> None:
    await put(api, "vip", a_custom_rule())
    assert (await patch(api, "/v1/rules/vip", {"default": "queue:x"})).status == 200
    assert await secret_of(api, "vip") == SECRET

    moved = {"custom": {"url": "https://thief.example/field"}}
    reply = await patch(api, "/v1/rules/vip", moved)
    assert (reply.status, "custom.header.value again" in reply.detail) == (422, True)
    reply = await patch(api, "/v1/rules/vip", {"custom": {"header": None}})
    assert reply.status == 200, reply.body
    assert "header" not in reply.body["settings"]["custom"]


async def test_whatever_changes_a_rule_may_say_which_version_was_seen(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    await patch(api, "/v1/rules/main", {"default": "queue:x"})
    ways: list[dict[str, Any]] = [{"params": {"version": "1"}}, {"headers": {"If-Match": '"1"'}}]
    for more in ways:
        confirm = {"params": {**more.get("params", {}), "confirm": "main"}}
        for reply in (
            await patch(api, "/v1/rules/main", {"default": "queue:y"}, **more),
            await ask(api, "DELETE", "/v1/rules/main", **{**more, **confirm}),
            await ask(api, "POST", "/v1/rules/main/rollback", json={"number": 1}, **more),
        ):
            assert (reply.status, "at version 2" in reply.detail) == (409, True)
    shown = await ask(api, "GET", "/v1/rules/main")
    assert shown.body["version"] == 2
    same = await ask(api, "GET", "/v1/rules/main", headers={"If-None-Match": shown.etag})
    assert (same.status, same.body) == (304, "")
    seen = {"If-Match": shown.etag}
    rolled = await ask(api, "POST", "/v1/rules/main/rollback", json={"number": 1}, headers=seen)
    assert (rolled.status, rolled.etag) == (200, '"3"')


async def test_of_many_patches_of_one_rule_none_is_lost_unsaid(api: CrmApi) -> None:
    await put(api, "main", a_rule())
    replies = await asyncio.gather(
        *(patch(api, "/v1/rules/main", {"default": f"queue:q{n}"}) for n in range(5))
    )
    done = [reply for reply in replies if reply.status == 200]
    assert {reply.status for reply in replies} <= {200, 409}
    shown = await ask(api, "GET", "/v1/rules/main")
    assert shown.body["version"] == 1 + len(done)


async def test_rules_come_page_by_page_by_name_and_in_part(api: CrmApi) -> None:
    for number, name in enumerate(("a", "b", "c")):
        await put(api, name, a_rule(dids=[f"44207946000{number}"]))
    first = (await ask(api, "GET", "/v1/rules?limit=2&fields=name,version")).body
    assert first["rules"] == [{"name": "a", "version": 1}, {"name": "b", "version": 1}]
    rest = (await ask(api, "GET", f"/v1/rules?cursor={first['next_cursor']}")).body
    assert [one["name"] for one in rest["rules"]] == ["c"]
    some = (await ask(api, "GET", "/v1/rules?ids=c,x,a")).body
    assert [one["name"] for one in some["rules"]] == ["a", "c"]
    one = await ask(api, "GET", "/v1/rules/a?fields=settings.default")
    assert one.body == {"settings": {"default": "extension:101"}}
