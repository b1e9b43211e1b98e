"""
Every setting that the vendor's page on custom CRM templates names (seed 002), where it is in our
form, and that it works. One template uses them all; how it gets in and how its users come in pages
is varied.

==================================  ==============================================================
setting                             place
==================================  ==============================================================
Logo, CRM Name, Remark              ``logo``, ``title``, ``description``
Max Concurrent Request              ``limits.concurrent``
Get User, User Field Mapping        ``users.request``, ``users.user_id``, ``first_name`` ...
Pagination Type (four)              ``users.pages``; parameter names are keys of ``query``
Text Input, Dropdown List           ``parameters``, ``parameters[].options``
Password Input                      ``credentials``
None, Basic, Base64 Encoded ...     ``auth`` empty, ``auth.basic``
OAuth2, Bearer Token                ``auth.oauth2``: ``authorization_code``, ``client_credentials``
Scope, Additional Query String      ``auth.oauth2.scope``, ``authorize_parameters``
Content Type                        ``auth.oauth2.encoding``
Token Refresh Endpoint, Body        ``auth.oauth2.refresh_url``, ``token_parameters``
Token Refresh Time: N, 0, blank     ``auth.oauth2.refresh_every``: ``Nm``, ``0s``, ``25m``
Headers (20)                        ``headers``
Follow-up Requests (10)             ``follow_ups``
Contact Type, Contact Match Query   ``contacts``, ``contacts.*.search``
Specify URL Format                  ``contacts.*.page_url``
Retrieve from Contact Fields        ``contacts.*.map.page``
Contact Field Mapping               ``contacts.*.map``; several paths with commas
Custom Value                        ``contacts.*.map.custom``
Create New Contact                  ``contacts.*.create``
Create Call Journal, Request Data   ``journal.create`` with ``json_text``
Subject, Description                ``journal.subject``, ``journal.description``, or the site's own
Play Call Recording                 ``Recording``; the site's ``journal.recording``
Disable Display Missed Call ...     always so: one entry per call, of the agent who answered
==================================  ==============================================================
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web
from pydantic import ValidationError

from shared.clock import ManualClock
from shared.crm.form.manifest import Manifest
from shared.crm.lint import Level, lint
from shared.crm.port import NewContact
from shared.crm.registry import parameters_of
from shared.errors import BadSetting
from shared.phone import parse
from shared.testing.cassettes import ConnectionIn, entry_of
from tests.contract.scripted_crm import Asked, Made, connected

WITHIN = timedelta(seconds=5)
CALLER = parse("+442079460123", "GB")
FIELDS = {
    "parameters": {"portal": "north", "plan": "pro"},
    "credentials": {
        "username": "ann",
        "password": "pass:word",
        "client_id": "ci-1",
        "client_secret": "cs-1",
        "refresh_token": "rt-1",
    },
}
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "talk_s": 60,
    "number": CALLER.key,
    "owner_id": "21",
    "recording": "https://pbx.example/7.wav",
    "contact": {"module": "Contacts", "contact_id": "7", "display_name": "Ann Lee"},
}
#: Two paths and two variables each; the fields of a request are those of the vendor's form.
FOLLOW_UPS = [
    {
        "after": event,
        "request": {
            "method": "POST",
            "url": f"{{{{.url}}}}/after/{event}/{number}",
            "headers": {"Content-Type": "application/json", "X-Custom-Header": "{{.portal}}"},
            "json_text": body,
        },
        "take": {f"{event}_{number}_a": "data.first", f"{event}_{number}_b": "$.list[0].value"},
    }
    for event, body in (
        ("auth", '{"portal":"{{.portal}}"}'),
        ("users", '{"earlier":"{{.auth_1_a}}"}'),
        ("search", '{"phone":"{{.Phone}}","id":"{{.ContactId}}"}'),
        ("create", '{"lastName":"{{.LastName}}","id":"{{.ContactId}}"}'),
        ("journal", '{"entry":"{{.EntryId}}","subject":"{{.Subject}}"}'),
    )
    for number in (1, 2)
]
TEMPLATE: dict[str, Any] = {
    "schema": 2,
    "name": "seed-002",
    "title": "Seed CRM",
    "description": "a remark",
    "logo": "data:image/png;base64,iVBORw0KGgo=",
    "quality": "declared",
    "sources": ["seed 002"],
    "parameters": [
        {"name": "url", "title": "Address", "kind": "url"},
        {"name": "portal", "title": "Portal"},
        {"name": "plan", "title": "Plan", "options": ["basic", "pro"]},
    ],
    "credentials": [
        {"name": name, "title": name, "required": False} for name in FIELDS["credentials"]
    ],
    "auth": {"basic": "{{.username}}:{{.password}}"},
    "headers": {
        "X-Portal": "{{.portal}}",
        "X-Taken": "{{.auth_1_a}}",
        **{f"X-Header-{number}": str(number) for number in range(18)},
    },
    "follow_ups": FOLLOW_UPS,
    "limits": {"concurrent": 2},
    "phone_formats": ["e164"],
    "check": {"url": "{{.url}}/me"},
    "users": {
        "request": {"url": "{{.url}}/users", "query": {"type": "ActiveUsers"}},
        "records": "users",
        "user_id": "id",
        "first_name": "First_Name",
        "last_name": "Last_Name",
        "email": "Email",
    },
    "contacts": {
        "Contacts": {
            "search": [
                {
                    "request": {
                        "url": "{{.url}}/Contacts/search?criteria="
                        "((Phone:equals:{{.Phone}})or(Mobile:equals:{{.Phone}}))",
                        "language": "zoho_criteria",
                    },
                    "records": "data",
                }
            ],
            "map": {
                "id": "id",
                "first_name": "first_name",
                "last_name": "last_name",
                "company": 'extra.#(key=="company").field,company',
                "phones": ["phone", "mobile"],
                "custom": {"CustomValue": "org.key"},
            },
            "page_url": "{{.url}}/crm/{{.CustomValue}}/tab/{{Capitalize .Module}}/{{.ContactId}}",
            "create": {
                "request": {
                    "method": "POST",
                    "url": "{{.url}}/Contacts",
                    "json_text": '{"data": [{"Last_Name": "{{.LastName}}", '
                    '"First_Name": "{{.FirstName}}", "Phone": "{{.Phone}}"}]}',
                },
                "contact_id": "data.0.id",
            },
        },
        "leads": {
            "search": [
                {"request": {"url": "{{.url}}/leads?q={{.Phone}}"}, "records": "data"},
            ],
            "map": {"first_name": "name", "phones": ["tel"], "page": "contactUrl"},
        },
    },
    "journal": {
        "subject": "{{.Kind}} {{.Reference}}",
        "description": "Call: {{.Disposition}} from {{.From}} to {{.To}} {{.TalkTime | mmss}}",
        "create": {
            "method": "POST",
            "url": "{{.url}}/Calls",
            "json_text": """{"data": [{"{{.Owner}}{{.Module}}": {
                "Description": "{{.Description}}",
                "Voice_Recording__s": "{{.Recording}}",
                "Call_Start_Time": "{{TimeFormat .StartedAt 'yyyy-MM-ddTHH:mm:ss-z' '1'}}",
                "Subject": "{{.Subject}}",
                "Call_Type": "Inbound",
                "Plan": "{{.plan}}",
                "Call_Duration": "{{.TalkTime | seconds}}"}}]}""",
        },
        "entry_id": "data.0.id",
        "find": {
            "request": {"url": "{{.url}}/Calls"},
            "entry_id": 'data.#(subject%"*{{.Reference}}").id',
        },
    },
}
CLIENT = {
    "oauth2": {
        "grant": "client_credentials",
        "token_url": "{{.url}}/token?client_id={{.client_id}}&client_secret={{.client_secret}}",
        "encoding": "query",
    }
}


def template(**parts: Any) -> dict[str, Any]:
    return {**TEMPLATE, **parts}


class Crm:
    """A CRM of the vendor's examples."""

    def __init__(self) -> None:
        self.tokens = 0
        self.refused: set[str] = set()

    def __call__(self, asked: Asked) -> Any:
        if asked.headers.get("authorization") in self.refused:
            return web.json_response({"message": "expired"}, status=401)
        method, path = asked.what.split(" ")
        if path.startswith("/after/"):
            event = path.split("/")[2]
            return {"data": {"first": f"first-{event}"}, "list": [{"value": f"second-{event}"}]}
        if path in {"/token", "/refresh"}:
            self.tokens += 1
            return {"access_token": f"at-{self.tokens}", "refresh_token": f"rt-{self.tokens}"}
        answers: dict[str, Any] = {
            "GET /me": {"ok": True},
            "GET /users": {"users": [self.user(1)]},
            "GET /Contacts/search": {"data": [self.ann()]},
            "GET /leads": {
                "data": [
                    {"id": 8, "name": "Bo", "tel": CALLER.key, "contactUrl": "https://x.example/8"}
                ]
            },
            "POST /Contacts": {"data": [{"id": 9}]},
            "POST /Calls": {"data": [{"id": 5}]},
        }
        return answers.get(f"{method} {path}")

    @staticmethod
    def user(number: int) -> dict[str, Any]:
        return {
            "id": number,
            "First_Name": "Ann",
            "Last_Name": f"No {number}",
            "Email": f"a{number}@x.example",
        }

    @staticmethod
    def ann() -> dict[str, Any]:
        return {
            "id": 7,
            "first_name": "Ann",
            "last_name": "Lee",
            "phone": CALLER.key,
            "extra": [{"key": "company", "field": "Lee & Co"}],
            "org": {"key": "org 1"},
        }


async def found(made: Made) -> Any:
    answers = await made.connector.search(CALLER, modules=(), fields=(), card=True, within=WITHIN)
    await made.connector.requests.followed()
    return {answer.module: answer.contacts for answer in answers}


# -- general, fields ----------------------------------------------------------------------------


def test_the_template_is_one_of_ours_and_nothing_in_it_is_at_fault() -> None:
    manifest = Manifest.model_validate(TEMPLATE)
    assert (manifest.title, manifest.description) == ("Seed CRM", "a remark")
    assert manifest.limits.concurrent == 2
    assert len(manifest.headers) == 20
    assert len(manifest.follow_ups) == 10
    assert not [finding for finding in lint(manifest) if finding.level is Level.ERROR]


@pytest.mark.parametrize(
    "parts",
    [
        {"headers": {f"X-{number}": "x" for number in range(21)}},
        {"follow_ups": [FOLLOW_UPS[0]] * 11},
    ],
)
def test_more_than_the_vendor_has_room_for_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(template(**parts))


def test_a_dropdown_takes_its_options_only() -> None:
    manifest = Manifest.model_validate(TEMPLATE)
    given = {"url": "https://x.example", "portal": "north"}
    assert parameters_of(manifest, {**given, "plan": "basic"})["plan"] == "basic"
    with pytest.raises(BadSetting, match="one of basic, pro"):
        parameters_of(manifest, {**given, "plan": "free"})


# -- authentication -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        ({}, None),
        ({"basic": "{{.username}}:{{.password}}"}, "ann:pass:word"),
        ({"basic": "{{.password}}"}, "pass:word"),
    ],
)
async def test_none_and_basic(auth: dict[str, Any], sent: str | None, tmp_path: Path) -> None:
    async with connected(template(auth=auth), Crm(), tmp_path, given=FIELDS) as made:
        await made.connector.check()
        (asked,) = made.crm.of("GET /me")
    wanted = f"Basic {base64.b64encode(sent.encode()).decode()}" if sent else None
    assert asked.headers.get("authorization") == wanted


@pytest.mark.parametrize(
    ("refresh_every", "minutes", "tokens"),
    [("20m", 19, 1), ("20m", 21, 2), ("25m", 24, 1), ("25m", 26, 2), ("0s", 60 * 24 * 30, 1)],
)
async def test_a_token_is_refreshed_every_so_many_minutes_or_never(
    refresh_every: str, minutes: int, tokens: int, clock: ManualClock, tmp_path: Path
) -> None:
    oauth2 = {**CLIENT["oauth2"], "refresh_every": refresh_every}
    made_of = template(auth={"oauth2": oauth2})
    async with connected(made_of, Crm(), tmp_path, given=FIELDS, clock=clock) as made:
        await made.connector.check()
        await clock.advance(timedelta(minutes=minutes))
        await made.connector.check()
        assert len(made.crm.of("POST /token")) == tokens
        first = made.crm.of("POST /token")[0]
        last = made.crm.of("GET /me")[-1]
    assert first.query["client_id"] == "ci-1"
    assert first.query["grant_type"] == "client_credentials"
    assert last.headers["authorization"] == f"Bearer at-{tokens}"


async def test_a_token_that_is_never_refreshed_is_when_it_is_refused(
    clock: ManualClock, tmp_path: Path
) -> None:
    crm = Crm()
    oauth2 = {**CLIENT["oauth2"], "refresh_every": "0s"}
    made_of = template(auth={"oauth2": oauth2})
    async with connected(made_of, crm, tmp_path, given=FIELDS, clock=clock) as made:
        await made.connector.check()
        await clock.advance(timedelta(hours=1))
        crm.refused.add("Bearer at-1")
        await made.connector.check()
        assert made.crm.of("GET /me")[-1].headers["authorization"] == "Bearer at-2"


@pytest.mark.parametrize("encoding", ["form", "json", "query"])
async def test_a_refresh_has_its_own_address_and_more_in_its_body(
    encoding: str, tmp_path: Path
) -> None:
    oauth2 = {
        "grant": "refresh_token",
        "token_url": "{{.url}}/token",
        "refresh_url": "{{.url}}/refresh",
        "encoding": encoding,
        "token_parameters": {"tenant": "{{.portal}}"},
    }
    async with connected(template(auth={"oauth2": oauth2}), Crm(), tmp_path, given=FIELDS) as made:
        await made.connector.check()
        (asked,) = made.crm.of("POST /refresh")
    kinds: dict[str, Callable[[], Any]] = {
        "form": lambda: asked.form,
        "json": lambda: asked.json,
        "query": lambda: asked.query,
    }
    sent = kinds[encoding]()
    assert sent["grant_type"] == "refresh_token"
    assert (sent["refresh_token"], sent["tenant"]) == ("rt-1", "north")


async def test_oauth2_asks_for_consent_with_scope_and_further_parameters(tmp_path: Path) -> None:
    oauth2 = {
        "grant": "authorization_code",
        "authorize_url": "{{.url}}/authorize?client_id={{.client_id}}",
        "token_url": "{{.url}}/token",
        "pkce": False,
        "scope": "contacts.read,contacts.write",
        "authorize_parameters": {"prompt": "consent", "portal": "{{.portal}}"},
    }
    made_of = template(auth={"oauth2": oauth2})
    async with connected(made_of, Crm(), tmp_path, given=FIELDS) as made:
        connections = made.recorder.connections
        given = ConnectionIn.model_validate(
            {**FIELDS, "parameters": {"url": "{server}", **FIELDS["parameters"]}, "region": "GB"}
        )
        account = made.recorder.account("seed-002", given, made.crm.url)
        consents = connections.consents()
        address = await consents.begin(
            connections.connected(account), redirect_uri="https://mesh.example/back"
        )
        asked = dict(parse_qsl(urlsplit(address).query))
        await consents.finish(
            asked["state"], "code-1", connected=lambda _, __: connections.connected(account)
        )
        await made.connector.check()
        (token,) = made.crm.of("POST /token")
        assert made.crm.of("GET /me")[0].headers["authorization"] == "Bearer at-1"
    assert asked["client_id"] == "ci-1"
    assert asked["scope"] == "contacts.read,contacts.write"
    assert (asked["prompt"], asked["portal"]) == ("consent", "north")
    assert token.form["redirect_uri"] == "https://mesh.example/back"


# -- headers, follow-ups ------------------------------------------------------------------------


async def test_custom_headers_are_on_what_is_defined_and_not_on_sign_in_and_follow_ups(
    tmp_path: Path,
) -> None:
    async with connected(template(auth=CLIENT), Crm(), tmp_path, given=FIELDS) as made:
        await found(made)
        await made.connector.list_users(within=WITHIN)
        await made.connector.requests.followed()
        asked = made.crm.asked
    for one in asked:
        own = [name for name in one.headers if name.startswith("x-header-")]
        bare = one.what.endswith("/token") or "/after/" in one.what
        assert len(own) == (0 if bare else 18), one.what
        if not bare:
            assert (one.headers["x-portal"], one.headers["x-taken"]) == ("north", "first-auth")
        if "/after/" in one.what:
            assert one.headers["authorization"] == "Bearer at-1"


async def test_an_authorization_among_the_headers_wins_over_the_flow(tmp_path: Path) -> None:
    headers = {"authorization": "Key {{.portal}}"}
    made_of = template(auth=CLIENT, headers=headers)
    async with connected(made_of, Crm(), tmp_path, given=FIELDS) as made:
        await made.connector.check()
        (asked,) = made.crm.of("GET /me")
    assert asked.headers["authorization"] == "Key north"


async def test_follow_ups_come_after_each_event_and_what_they_take_is_used(tmp_path: Path) -> None:
    async with connected(TEMPLATE, Crm(), tmp_path, given=FIELDS) as made:
        connector = made.connector
        await found(made)
        await connector.list_users(within=WITHIN)
        new = NewContact(module="Contacts", number=CALLER, display_name="Cy Orr")
        await connector.create_contact(new, within=WITHIN)
        await connector.write_entry(entry_of(CALL), within=WITHIN)
        await connector.requests.followed()
        sent = {one.what: one for one in made.crm.asked if "/after/" in one.what}
        taken = connector.requests.scope.all
    assert len(sent) == 10
    assert sent["POST /after/auth/1"].headers["x-custom-header"] == "north"
    assert sent["POST /after/users/1"].json == {"earlier": "first-auth"}
    assert sent["POST /after/search/2"].json == {"phone": CALLER.key, "id": "7"}
    assert sent["POST /after/create/1"].json == {"lastName": "Orr", "id": "9"}
    assert sent["POST /after/journal/1"].json == {
        "entry": "5",
        "subject": "inbound answered ref-0001",
    }
    assert (taken["journal_2_a"], taken["journal_2_b"]) == ("first-journal", "second-journal")


# -- users --------------------------------------------------------------------------------------

LINK = "{{.url}}/users"


@pytest.mark.parametrize(
    ("query", "pages", "asked"),
    [
        ({}, None, [{}]),
        (
            {"page_no": "{{.Page}}", "per": "{{.Limit}}"},
            {"kind": "page", "start": 0, "size": 2},
            [{"page_no": "0", "per": "2"}, {"page_no": "1", "per": "2"}],
        ),
        (
            {"from": "{{.Offset}}", "max": "{{.Limit}}"},
            {"kind": "offset", "start": 1, "size": 2},
            [{"from": "1", "max": "2"}, {"from": "3", "max": "2"}],
        ),
        ({}, {"kind": "next_link", "link": "links.next"}, [{}, {"next": "2"}]),
    ],
)
async def test_users_come_in_each_kind_of_pages(
    query: dict[str, str], pages: Any, asked: list[dict[str, str]], tmp_path: Path
) -> None:
    crm = Crm()
    left = [[1, 2], [3]] if pages else [[1]]

    def answers(one: Asked) -> Any:
        if one.what != "GET /users":
            return crm(one)
        users = [crm.user(number) for number in left.pop(0)]
        return {"users": users, "links": {"next": "/users?next=2" if left else None}}

    users = {**TEMPLATE["users"], "request": {"url": LINK, "query": query}, "pages": pages}
    async with connected(template(users=users), answers, tmp_path, given=FIELDS) as made:
        listed = await made.connector.list_users(within=WITHIN)
        assert [one.query for one in made.crm.of("GET /users")] == asked
    last = 3 if pages else 1
    assert listed[-1].display_name == f"Ann No {last}"
    assert listed[-1].email == f"a{last}@x.example"


async def test_a_list_of_users_without_end_is_a_hundred_requests(tmp_path: Path) -> None:
    crm = Crm()

    def answers(one: Asked) -> Any:
        page = int(one.query.get("page", 0))
        return {"users": [crm.user(page)]} if one.what == "GET /users" else crm(one)

    request = {"url": LINK, "query": {"page": "{{.Page}}"}}
    pages = {"kind": "page", "size": 1}
    users = {**TEMPLATE["users"], "request": request, "pages": pages}
    async with connected(template(users=users), answers, tmp_path, given=FIELDS) as made:
        await made.connector.list_users(within=WITHIN)
        assert len(made.crm.of("GET /users")) == 100


# -- contacts, journal --------------------------------------------------------------------------


async def test_each_contact_type_has_its_search_its_map_and_its_page(tmp_path: Path) -> None:
    async with connected(TEMPLATE, Crm(), tmp_path, given=FIELDS) as made:
        cards = await found(made)
        (asked,) = made.crm.of("GET /Contacts/search")
        url = made.crm.url
    (ann,), (bo,) = cards["Contacts"], cards["leads"]
    number = "+442079460123"
    assert asked.query["criteria"] == f"((Phone:equals:{number})or(Mobile:equals:{number}))"
    assert (ann.display_name, ann.company, ann.contact_id) == ("Ann Lee", "Lee & Co", "7")
    assert ann.page_url == f"{url}/crm/org%201/tab/Contacts/7"
    assert (bo.display_name, bo.page_url) == ("Bo", "https://x.example/8")


async def test_a_contact_is_made_of_the_names_and_the_number(tmp_path: Path) -> None:
    async with connected(TEMPLATE, Crm(), tmp_path, given=FIELDS) as made:
        new = NewContact(module="Contacts", number=CALLER, display_name='Cy "Ace" Orr')
        card = await made.connector.create_contact(new, within=WITHIN)
        (asked,) = made.crm.of("POST /Contacts")
    assert card.contact_id == "9"
    person = {"Last_Name": "Orr", "First_Name": 'Cy "Ace"', "Phone": CALLER.key}
    assert asked.json == {"data": [person]}


async def test_an_entry_is_as_its_template_says(tmp_path: Path) -> None:
    async with connected(TEMPLATE, Crm(), tmp_path, given=FIELDS) as made:
        assert await made.connector.write_entry(entry_of(CALL), within=WITHIN) == "5"
        (asked,) = made.crm.of("POST /Calls")
    assert asked.json == {
        "data": [
            {
                "21Contacts": {
                    "Description": f"Call: answered from {CALLER.key} to 01:00",
                    "Voice_Recording__s": "https://pbx.example/7.wav",
                    "Call_Start_Time": "2026-11-21T10:00:00+0000",
                    "Subject": "inbound answered ref-0001",
                    "Call_Type": "Inbound",
                    "Plan": "pro",
                    "Call_Duration": "60",
                }
            }
        ]
    }


async def test_a_connection_has_its_own_subject_and_description(tmp_path: Path) -> None:
    own = replace(entry_of(CALL), subject="{{.ContactName}} rang", description="{{.Number}}")
    async with connected(TEMPLATE, Crm(), tmp_path, given=FIELDS) as made:
        await made.connector.write_entry(own, within=WITHIN)
        (asked,) = made.crm.of("POST /Calls")
    (fields,) = asked.json["data"][0].values()
    assert fields["Subject"] == "Ann Lee rang ref-0001"
    assert fields["Description"] == CALLER.key
