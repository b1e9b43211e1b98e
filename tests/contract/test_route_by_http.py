"""``/v1/route`` on a real server: how a PBX asks by URL or body, and what it gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from defusedxml.ElementTree import fromstring

from services.routing.http import HttpDeps, routes
from shared.clock import ManualClock
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import DecideRoute, Destination, RouteDecision, RouteReason
from shared.http.auth import API_KEYS, KeyBook, Scope
from shared.http.server import HttpServer, Mounted
from shared.ids import call_id
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

DID = {"did": "442079460000"}
FORM = "application/x-www-form-urlencoded"
TO_SUPPORT = RouteDecision(
    destination=Destination.parse("queue:support"), reason=RouteReason.ROW_MATCHED, rule="main"
)
HOSTILE = 'Zoë <b a="1">&amp; ]]>\x00\x0b\ud800\ufffe\r\n'


@dataclass
class Desk:
    """Decides everything alike, and keeps what it was asked."""

    decision: RouteDecision = TO_SUPPORT
    asked: list[DecideRoute] = field(default_factory=list)

    async def decide(self, tenant: str, asked: DecideRoute, *, face: str) -> RouteDecision:
        assert (tenant, face) == ("acme", "http")
        self.asked.append(asked)
        return self.decision


@dataclass
class Api:
    desk: Desk
    url: str
    session: aiohttp.ClientSession

    async def get(self, query: Mapping[str, str], accept: str = "*/*") -> tuple[int, str, str]:
        return await self._ask("GET", accept, params=query)

    async def post(self, content_type: str, body: bytes, **query: str) -> tuple[int, str, str]:
        return await self._ask(
            "POST", "*/*", data=body, params=query, headers={"Content-Type": content_type}
        )

    async def _ask(self, method: str, accept: str, **more: Any) -> tuple[int, str, str]:
        headers = {"Accept": accept, **more.pop("headers", {})}
        async with self.session.request(method, self.url, headers=headers, **more) as found:
            return found.status, found.content_type, await found.text()


@pytest.fixture
async def api(clock: ManualClock) -> AsyncIterator[Api]:
    db = SqliteFile(None)
    await db.open()
    keys = KeyBook(SqliteStore(db, clock).collection(API_KEYS), clock)
    key = await keys.issue(tenant="acme", name="pbx", scopes=(Scope.ROUTE_ASK,))
    desk = Desk()
    server = HttpServer(
        [Mounted(routes.operations, HttpDeps(desk))],
        keys=keys,
        clock=clock,
        metrics=Metrics(),
        drain=timedelta(seconds=1),
    )
    port = await server.start("127.0.0.1", 0)
    bearer = {"Authorization": f"Bearer {key.get_secret_value()}"}
    async with aiohttp.ClientSession(headers=bearer) as session:
        yield Api(desk, f"http://127.0.0.1:{port}/v1/route", session)
    await server.stop()
    await db.close()


# -- the question ----------------------------------------------------------------------------------

WHOLE = {
    "did": "442079460000",
    "from": "+447700900123",
    "dtmf": "12#",
    "ivr": "account",
    "pbx": "berlin",
    "call": "1795244074.0",
}
READ = DecideRoute(
    pbx="berlin",
    call_id=call_id("acme", "berlin", "1795244074.0"),
    did="442079460000",
    ivr="account",
    caller="+447700900123",
    dtmf="12#",
)


async def test_a_question_is_the_same_by_url_form_and_json(api: Api) -> None:
    form = aiohttp.FormData(WHOLE)()
    answers = [
        await api.get(WHOLE),
        await api.post(FORM, form.encode() if isinstance(form, str) else form._value),
        await api.post("application/json; charset=utf-8", json.dumps(WHOLE).encode()),
    ]

    assert answers == [(200, "text/plain", "queue:support")] * 3
    assert api.desk.asked == [READ] * 3


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ({}, {}),
        ({"dtmf": "-"}, {"collected": True}),
        # A dialplan sends all of them, and most are empty.
        ({"from": "", "dtmf": "", "ivr": "", "pbx": "", "call": "", "as": ""}, {}),
        ({"from": " 447700900123"}, {"caller": "+447700900123"}),
        ({"call": "1.1"}, {}),
        ({"pbx": "berlin"}, {"pbx": "berlin"}),
        ({"from": "a\u2028b\x00"}, {"caller": "a b"}),
    ],
)
async def test_what_is_left_out_is_nothing(
    api: Api, query: dict[str, str], read: dict[str, object]
) -> None:
    status, _, _ = await api.get(DID | query)

    assert status == 200
    assert api.desk.asked == [
        DecideRoute.model_validate({"did": "442079460000", "caller": "", **read})
    ]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"did": "4" * 65}, "query.did"),
        ({"from": "4" * 65}, "query.from"),
        ({"dtmf": "1;2"}, "query.dtmf"),
        ({"dtmf": "1" * 33}, "query.dtmf"),
        ({"dtmf": "--"}, "query.dtmf"),
        ({"ivr": "Main Menu"}, "query.ivr"),
        ({"ivr": "a" * 65}, "query.ivr"),
        ({"pbx": "a/b"}, "query.pbx"),
        ({"call": "1" * 129}, "query.call"),
        ({"as": "yaml"}, "query.as"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Api, query: dict[str, str], where: str) -> None:
    status, kind, text = await api.get(DID | query)

    assert (status, kind) == (422, "application/problem+json")
    assert [fault["where"] for fault in json.loads(text)["errors"]] == [where]
    by_form = await api.post("application/json", json.dumps(DID | query).encode())
    assert [fault["where"] for fault in json.loads(by_form[2])["errors"]] == [
        where.replace("query", "body")
    ]
    assert api.desk.asked == []


async def test_the_forms_of_an_answer_are_said_to_who_names_another(api: Api) -> None:
    _, _, text = await api.get(DID | {"as": "yaml"})

    assert "'text', 'json' or 'xml'" in text


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{", 400, "unreadable_body"),
        ("application/json", b'{"did": NaN}', 400, "unreadable_body"),
        ("application/json", b"[" * 100_000, 400, "unreadable_body"),
        ("application/json", b"\xff", 400, "unreadable_body"),
        ("application/json", b"[]", 422, "invalid_request"),
        ("application/json", b'{"did": 4420}', 422, "invalid_request"),
        ("application/json", b'{"did": "1", "form": "2"}', 422, "invalid_request"),
        (FORM, b"did=1&form=2", 422, "invalid_request"),
        (FORM, b"", 422, "invalid_request"),
        (FORM, b"did=\xff\xfe", 400, "unreadable_body"),
        (FORM, b"did=%ff%fe", 400, "unreadable_body"),
        (FORM, b"a=1&" * 101, 400, "unreadable_body"),
        (FORM, b"did=" + b"1" * 600_000, 413, "request_entity_too_large"),
        ("text/plain", b"did=1", 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=x", b"", 415, "unsupported_media_type"),
    ],
)
async def test_a_body_that_is_no_question_is_refused(
    api: Api, content_type: str, body: bytes, status: int, code: str
) -> None:
    found, _, text = await api.post(content_type, body)

    assert (found, json.loads(text)["code"]) == (status, code)
    assert api.desk.asked == []


async def test_a_misspelt_key_is_not_taken_for_a_withheld_number(api: Api) -> None:
    _, _, text = await api.post(FORM, b"did=4420&fron=447700900123")

    assert json.loads(text)["errors"] == [
        {"where": "body.fron", "what": "unknown key; did you mean `from`?"}
    ]


async def test_what_may_be_sent_is_said_to_who_sends_something_else(api: Api) -> None:
    _, _, text = await api.post("text/xml", b"<did/>")

    detail = json.loads(text)["detail"]
    assert detail == f"Send the body as application/json or {FORM}."


# -- the answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain"),
        ("text/html", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain, application/json", "text/plain"),
        ("text/plain;q=0.1, application/json;q=0.5", "application/json"),
        ("application/xml", "application/xml"),
        ("text/xml;charset=utf-8", "application/xml"),
        ("application/xml;q=0, application/json;q=0", "text/plain"),
        ("application/xml;q=nonsense", "application/xml"),
        (";;,,;q=;", "text/plain"),
    ],
)
async def test_the_header_says_the_form(api: Api, accept: str, kind: str) -> None:
    assert (await api.get(DID, accept))[:2] == (200, kind)


@pytest.mark.parametrize(
    ("form", "kind"),
    [("text", "text/plain"), ("json", "application/json"), ("xml", "application/xml")],
)
@pytest.mark.parametrize("accept", ["application/json", "application/xml", "text/plain"])
async def test_the_parameter_says_it_before_the_header(
    api: Api, form: str, kind: str, accept: str
) -> None:
    assert (await api.get(DID | {"as": form}, accept))[1] == kind


async def test_a_post_says_it_in_its_body_or_in_its_address(api: Api) -> None:
    body = json.dumps(DID | {"as": "xml"}).encode()

    assert (await api.post("application/json", body))[1] == "application/xml"
    assert (await api.post(FORM, b"did=1", **{"as": "json"}))[1] == "application/json"
    assert (await api.post("application/json", body, **{"as": "json"}))[1] == "application/xml"


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (TO_SUPPORT, "queue:support"),
        (
            RouteDecision(
                destination=Destination.parse("hangup:busy"), reason=RouteReason.ROW_MATCHED
            ),
            "hangup:busy",
        ),
        (
            RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting="custom/welcome"),
            "greeting:custom/welcome",
        ),
        (RouteDecision(reason=RouteReason.NO_RULE), ""),
    ],
)
async def test_a_text_is_the_way_alone(api: Api, decision: RouteDecision, text: str) -> None:
    api.desk.decision = decision

    assert await api.get(DID) == (200, "text/plain", text)


async def test_json_is_the_whole_decision(api: Api) -> None:
    api.desk.decision = TO_SUPPORT.model_copy(update={"version": 3, "row": 2, "value": ["GOLD"]})
    _, _, text = await api.get(DID | {"as": "json"})

    assert RouteDecision.model_validate_json(text) == api.desk.decision
    assert "form" not in json.loads(text)


async def test_xml_is_what_a_pbx_acts_on(api: Api) -> None:
    api.desk.decision = TO_SUPPORT.model_copy(
        update={
            "priority": 0,
            "voicemail": False,
            "attributes": {"CRM_TIER": "GOLD"},
            "contact": ContactCard(
                connection="zoho",
                module="Contacts",
                contact_id="829",
                display_name="Jane Doe",
                page_url="https://crm.example/?a=1&b=2",
            ),
        }
    )
    _, _, text = await api.get(DID | {"as": "xml"})

    assert text == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<route><destination kind="queue" target="support">queue:support</destination>'
        "<reason>row_matched</reason><rule>main</rule><priority>0</priority>"
        "<voicemail>no</voicemail>"
        '<contact module="Contacts" id="829"><name>Jane Doe</name>'
        "<url>https://crm.example/?a=1&amp;b=2</url></contact>"
        '<attribute name="CRM_TIER">GOLD</attribute></route>'
    )


@pytest.mark.parametrize(
    ("decision", "elements"),
    [
        (RouteDecision(reason=RouteReason.NO_RULE), {"reason": "no_rule"}),
        (
            RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting="welcome", rule="a"),
            {"reason": "digits_wanted", "greeting": "welcome", "rule": "a"},
        ),
        (
            RouteDecision(
                destination=Destination.parse("hangup:busy"), reason=RouteReason.ROW_MATCHED
            ),
            {"destination": "hangup:busy", "reason": "row_matched", "cause": "17"},
        ),
    ],
)
async def test_xml_has_no_element_for_what_is_not_there(
    api: Api, decision: RouteDecision, elements: dict[str, str]
) -> None:
    api.desk.decision = decision
    _, _, text = await api.get(DID | {"as": "xml"})

    assert {element.tag: element.text for element in fromstring(text)} == elements


async def test_what_a_crm_holds_breaks_no_form(api: Api) -> None:
    api.desk.decision = TO_SUPPORT.model_copy(
        update={
            "attributes": {"CRM_NOTE": HOSTILE, HOSTILE: "1"},
            "contact": ContactCard(
                connection="zoho",
                module=HOSTILE.replace("\ud800", ""),
                contact_id="829",
                display_name=HOSTILE.replace("\ud800", ""),
            ),
        }
    )
    _, _, text = await api.get(DID | {"as": "xml"})

    root = fromstring(text)
    assert root.findtext("attribute") == 'Zoë <b a="1">&amp; ]]>'
    assert root.findtext("contact/name") == 'Zoë <b a="1">&amp; ]]>'
