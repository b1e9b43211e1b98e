"""Whole templates of 3CX: they become templates of ours that work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.crm.form.manifest import Manifest
from shared.crm.importing.report import to_yaml
from shared.crm.importing.threecx.importer import import_threecx
from shared.testing.cassettes import Cassette, Replay, differences, play, recorder

FOLDER = Path(__file__).parents[4] / "data" / "templates" / "threecx"
FILES = sorted(FOLDER.glob("*.xml"))
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T12:06:34+00:00",
    "ended_at": "2026-11-21T12:09:00+00:00",
    "talk_s": 126,
    "number": "+442071234567",
    "dialled": "442079990000",
    "extension": "101",
    "agent_name": "Anna Agent",
    "agent_email": "anna@acme.example",
}
LARKSPUR = {
    "parameters": {"server_url": "{server}", "user": "anna"},
    "credentials": {"user_password": "p"},
}
TIDEPOOL = {
    "parameters": {"api_url": "{server}", "domain": "acme"},
    "credentials": {"apikey": "k1"},
}
HARBOUR = {
    "parameters": {"base_url": "{server}", "login": "anna"},
    "credentials": {"secret": "s1"},
}
QUARRY = {"parameters": {"url": "{server}"}, "credentials": {"api_key": "k1"}}
SIGN_IN = {
    "ask": "POST /login",
    "json": {"login": "anna", "secret": "s1"},
    "answer": {"json": {"result": {"token": "t1", "user": {"id": 9}}}},
}
SESSION = {"X-Session": "Session t1"}
NOTE = "2026-11-21 12:06: answered call from +442071234567 to 101 (00:02:06) (ref-0001)"
ACTIVITY = {
    "subject": "12:06: Incoming call (duration 00:02:06) ref-0001",
    "type": "Call",
    "person_id": 7,
    "user_id": 3,
    "deal_id": "12",
}
XML_CONTACT = (
    "<contacts><contact><id>5</id><name>Lee</name>"
    "<tel><kind>work</kind><number>+442071234567</number></tel></contact></contacts>"
)


def imported(name: str) -> tuple[str, dict[str, Any]]:
    made = import_threecx((FOLDER / f"{name}.xml").read_bytes()).template
    return made["name"], made


async def run(name: str, folder: Path, cassette: dict[str, Any]) -> None:
    """Everything that is asked is wanted, and everything that is wanted is asked."""
    own, template = imported(name)
    (folder / f"{own}.yaml").write_text(to_yaml(template))
    given = Cassette.model_validate({"about": name, **cassette})
    replay = Replay(given)
    async with replay.running() as url, recorder(folder) as made:
        connector = made.connections.connector(made.account(own, given.connection, url))
        found = await play(connector, given, "GB")
    assert not replay.faults
    assert not replay.left
    expected = yaml.safe_load(yaml.safe_dump(given.expect).replace("{server}", replay.url))
    assert not differences(expected, found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_a_template(file: Path) -> None:
    made = import_threecx(file.read_bytes())
    assert Manifest.model_validate(made.template).title
    assert yaml.safe_load(to_yaml(made.template)) == made.template
    assert all(note.place and note.what for note in made.notes)


async def test_basic_and_json_search(tmp_path: Path) -> None:
    ann = {
        "id": 5,
        "active": True,
        "first": "Ann",
        "last": "Lee",
        "firm": {"name": "Acme"},
        "mail": "ann@acme.example",
        "slug": "ann-lee",
        "clean": False,
        "raw": "020 7123 4567",
        "phones": [{"label": "home", "value": "1"}, {"label": "work", "value": "+44 20 7123 4567"}],
    }
    await run(
        "larkspur",
        tmp_path,
        {
            "connection": LARKSPUR,
            "do": "search",
            "with": {"number": "+442071234567"},
            "exchanges": [
                {
                    "ask": "GET /people",
                    "query": {"phone": "+442071234567"},
                    "headers": {"Authorization": "Basic YW5uYTpw", "X-Team": "7"},
                    "answer": {"json": {"people": [{**ann, "id": 4, "active": False}, ann]}},
                }
            ],
            "expect": {
                "contacts": [
                    {
                        "module": "Person",
                        "contact_id": "5",
                        "display_name": "Ann Lee",
                        "company": "Acme",
                        "email": "ann@acme.example",
                        "phones": ["+44 20 7123 4567", "020 7123 4567"],
                        "page_url": "{server}/p/ann-lee?id=5",
                    }
                ]
            },
        },
    )


@pytest.mark.parametrize(
    ("disposition", "done", "body"), [("answered", 1, NOTE), ("missed", 0, None)]
)
async def test_basic_and_json_journal(
    tmp_path: Path, disposition: str, done: int, body: str | None
) -> None:
    await run(
        "larkspur",
        tmp_path,
        {
            "connection": LARKSPUR,
            "do": "journal",
            "with": {
                **CALL,
                "disposition": disposition,
                "contact": {"module": "Person", "contact_id": "5"},
            },
            "exchanges": [
                {
                    "ask": "POST /people/5/notes",
                    "json": {
                        "subject": "Phone call",
                        "body": body or "Missed call from +442071234567 to [101] (ref-0001)",
                        "done": done,
                        "urgent": False,
                        "seconds": 126,
                        "started": "2026-11-21T12:06:34Z",
                        "about": {"person": "5", "kind": "Person", "agent": "anna@acme.example"},
                    },
                    "answer": {"json": {"id": 77}},
                }
            ],
            "expect": {"entry_id": "77"},
        },
    )


async def test_a_new_contact(tmp_path: Path) -> None:
    await run(
        "larkspur",
        tmp_path,
        {
            "connection": LARKSPUR,
            "do": "create",
            "with": {"module": "Person", "number": "+442071234567", "display_name": "Ann Lee"},
            "exchanges": [
                {
                    "ask": "POST /people",
                    "json": {
                        "first": "Ann",
                        "last": "Lee",
                        "phones": [{"value": "+442071234567", "label": "work"}],
                    },
                    "answer": {"json": {"person": {"id": 5}}},
                }
            ],
            "expect": {"contact_id": "5"},
        },
    )


async def test_a_chained_lookup(tmp_path: Path) -> None:
    person = {
        "id": 7,
        "first_name": "Ann",
        "last_name": "Lee",
        "org_name": "Acme",
        "phone": [{"label": "work", "value": "02071234567"}],
        "email": [{"label": "home", "value": "x"}, {"label": "work", "value": "ann@acme.example"}],
    }
    await run(
        "tidepool",
        tmp_path,
        {
            "connection": {**TIDEPOOL, "region": "GB"},
            "do": "search",
            "with": {"number": "+442071234567"},
            "exchanges": [
                {
                    "ask": "GET /v1/persons/search",
                    "query": {"term": "071234567", "fields": "phone", "key": "k1"},
                    "answer": {"json": {"data": {"items": [{"item": {"id": 7}}]}}},
                },
                {
                    "ask": "GET /v1/persons/7",
                    "query": {"key": "k1"},
                    "answer": {"json": {"data": person}},
                },
            ],
            "expect": {
                "contacts": [
                    {
                        "module": "Contacts",
                        "contact_id": "7",
                        "display_name": "Ann Lee",
                        "email": "ann@acme.example",
                        "phones": ["02071234567"],
                        "page_url": "https://acme.tidepool.example/person/7",
                    }
                ]
            },
        },
    )


async def test_a_chained_journal_finds_agent_person_and_deal_first(tmp_path: Path) -> None:
    await run(
        "tidepool",
        tmp_path,
        {
            "connection": TIDEPOOL,
            "do": "journal",
            "with": CALL,
            "exchanges": [
                {
                    "ask": "GET /v1/users/find",
                    "query": {"term": "anna@acme.example", "search_by_email": "1", "key": "k1"},
                    "answer": {"json": {"data": [{"id": 3}, {"id": 4}]}},
                },
                {
                    "ask": "GET /v1/persons/search",
                    "query": {"term": "071234567", "fields": "phone", "key": "k1"},
                    "answer": {"json": {"data": {"items": [{"item": {"id": 7}}]}}},
                },
                {
                    "ask": "GET /v1/persons/7/deals",
                    "query": {"key": "k1"},
                    "answer": {
                        "json": {
                            "data": [{"id": 11, "status": "lost"}, {"id": 12, "status": "open"}]
                        }
                    },
                },
                {
                    "ask": "POST /v1/activities",
                    "query": {"key": "k1"},
                    "json": ACTIVITY,
                    "answer": {"json": {"data": {"id": 99}}},
                },
            ],
            "expect": {"entry_id": "99"},
        },
    )


async def test_a_journal_whose_person_is_not_known_is_written_without(tmp_path: Path) -> None:
    nobody: dict[str, Any] = {"data": {"items": []}}
    entry = {name: value for name, value in ACTIVITY.items() if name != "person_id"}
    await run(
        "tidepool",
        tmp_path,
        {
            "connection": TIDEPOOL,
            "do": "journal",
            "with": CALL,
            "exchanges": [
                {
                    "ask": "GET /v1/users/find",
                    "query": {"term": "anna@acme.example", "search_by_email": "1", "key": "k1"},
                    "answer": {"json": {"data": {"id": 3}}},
                },
                {
                    "ask": "GET /v1/persons/search",
                    "query": {"term": "071234567", "fields": "phone", "key": "k1"},
                    "answer": {"json": nobody},
                },
                {
                    "ask": "POST /v1/activities",
                    "query": {"key": "k1"},
                    "json": {**entry, "deal_id": ""},
                    "answer": {"json": {"data": {"id": 99}}},
                },
            ],
            "expect": {"entry_id": "99"},
        },
    )


async def test_a_scenario_signs_in_before_anything_is_asked(tmp_path: Path) -> None:
    await run(
        "harbour",
        tmp_path,
        {
            "connection": HARBOUR,
            "do": "search",
            "with": {"number": "+442071234567", "modules": ["Customers"]},
            "exchanges": [
                SIGN_IN,
                {
                    "ask": "POST /find",
                    "headers": SESSION,
                    "json": {"uid": 9, "where": [["phone", "=", "00442071234567"]]},
                    "answer": {
                        "json": {"result": [{"id": 5, "name": "Acme", "phone": "+442071234567"}]}
                    },
                },
            ],
            "expect": {"contacts": [{"contact_id": "5", "display_name": "Acme"}]},
        },
    )


async def test_a_message_is_json_whatever_its_values_hold(tmp_path: Path) -> None:
    await run(
        "harbour",
        tmp_path,
        {
            "connection": {**HARBOUR, "parameters": {**HARBOUR["parameters"], "note": 'a"b'}},
            "do": "journal",
            "with": {**CALL, "contact": {"module": "Customers", "contact_id": "5"}},
            "exchanges": [
                SIGN_IN,
                {
                    "ask": "POST /calls",
                    "headers": SESSION,
                    "json": {
                        "who": "5",
                        "uid": 9,
                        "note": 'a"b: Inbound 00442071234567',
                        "tags": ["call"],
                    },
                    "answer": {"json": {}},
                },
            ],
            "expect": {"entry_id": "ref-0001"},
        },
    )


async def test_answers_in_xml(tmp_path: Path) -> None:
    await run(
        "quarry",
        tmp_path,
        {
            "connection": QUARRY,
            "do": "search",
            "with": {"number": "+442071234567"},
            "exchanges": [
                {
                    "ask": "GET /contacts.xml",
                    "query": {"tel": "1234567"},
                    "headers": {"X-Key": "k1"},
                    "answer": {"text": XML_CONTACT, "headers": {"Content-Type": "text/xml"}},
                }
            ],
            "expect": {
                "contacts": [
                    {"contact_id": "5", "display_name": "Lee", "phones": ["+442071234567"]}
                ]
            },
        },
    )


async def test_a_form_with_xml_answers(tmp_path: Path) -> None:
    await run(
        "quarry",
        tmp_path,
        {
            "connection": QUARRY,
            "do": "journal",
            "with": {**CALL, "contact": {"module": "Contact", "contact_id": "5"}},
            "exchanges": [
                {
                    "ask": "POST /calls",
                    "form": {"contact": "5", "text": "From 1234567", "at": "2026-11-21T12:06:34"},
                    "answer": {"text": "<call><id>8</id></call>"},
                }
            ],
        },
    )
