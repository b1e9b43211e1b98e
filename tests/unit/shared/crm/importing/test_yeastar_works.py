"""An imported template asks a CRM and reads its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.crm.importing.report import to_yaml
from shared.crm.importing.yeastar.importer import import_yeastar
from shared.testing.cassettes import Cassette, Replay, play, recorder

FOLDER = Path(__file__).parents[4] / "data" / "templates" / "yeastar"
CONNECTION = {
    "parameters": {"api_url": "{server}", "region": "north"},
    "credentials": {"client_id": "c", "client_secret": "s", "x_api_key": "k"},
    "region": "GB",
}
TOKEN = {
    "ask": "POST /token",
    "query": {
        "client_id": "c",
        "client_secret": "s",
        "grant_type": "client_credentials",
        "tenant": "north",
    },
    "answer": {"json": {"access_token": "t"}},
}
LOGIN = {
    "ask": "POST /login",
    "headers": {"X-Mill": "north", "Authorization": "Bearer t"},
    "json": {"region": "north"},
    "answer": {"json": {"data": {"trace": "tr-1"}, "tokens": [{"value": "v"}]}},
}


async def played(tmp_path: Path, cassette: dict[str, Any]) -> dict[str, Any]:
    imported = import_yeastar((FOLDER / "newer.xml").read_bytes())
    (tmp_path / "millstone-crm.yaml").write_text(to_yaml(imported.template))
    wanted = Cassette.model_validate({"connection": CONNECTION, **cassette})
    replay = Replay(wanted)
    async with replay.running() as url, recorder(tmp_path) as made:
        account = made.account("millstone-crm", wanted.connection, url)
        found = await play(made.connections.connector(account), wanted, "GB")
    assert not replay.faults
    assert not replay.left
    return found


async def test_a_caller_is_found_and_values_are_those_of_one_record(tmp_path: Path) -> None:
    answer = {
        "data": [
            # Without an email of columns, everything after it would be somebody else's.
            {"id": 7, "last_name": "Miller", "mobile": "07700 900123"},
            {
                "id": 8,
                "first_name": "Anna",
                "phone": "+44 7700 900123",
                "account": {"id": "a1", "name": "Mill & Sons"},
                "links": {"page": "https://mill.example/8"},
            },
            {"id": 9, "first_name": "Other", "phone": "+44 7700 900999"},
        ]
    }
    criteria = "((Phone:equals:+447700900123)or(Mobile:equals:+447700900123))"
    search = {
        "ask": "GET /Contacts/search",
        "query": {"criteria": criteria.replace("+", "")},
        "headers": {"Authorization": "Bearer t", "X-Api-Key": "k", "X-Region": "north"},
        "answer": {"json": answer},
    }
    found = await played(
        tmp_path,
        {
            "about": "a search",
            "do": "search",
            "with": {"number": "+447700900123", "modules": ["Contacts"]},
            "exchanges": [TOKEN, LOGIN, search],
        },
    )
    shown = [
        (card["contact_id"], card["display_name"], card["company"], card["page_url"])
        for card in found["contacts"]
    ]
    assert shown == [
        ("7", "Miller", None, None),
        ("8", "Anna", "Mill & Sons", "https://mill.example/8"),
    ]


async def test_a_call_is_written_with_all_its_requests(tmp_path: Path) -> None:
    entry = {
        "Description": "Call: 2026-11-21 10:00:00 answered from +447700900123 to 101 01:05 "
        "https://pbx.example/r/1",
        "Subject": "Call answered",
        "Owner": 'key "of" Anna',
        "Start": "2026-11-21T10:00:00+0000",
        "Ms": 1795255200000,
        "Unix": 1795255200,
        "Kind": "Inbound",
        "Duration": "65",
        "Contacts": "8",
        "Account": "a1",
        "Trace": "tr-1",
        "Note": ".Subject stays",
    }
    found = await played(
        tmp_path,
        {
            "about": "a journal entry",
            "do": "journal",
            "with": {
                "direction": "inbound",
                "disposition": "answered",
                "started_at": "2026-11-21T10:00:00+00:00",
                "ended_at": "2026-11-21T10:01:10+00:00",
                "talk_s": 65,
                "number": "+447700900123",
                "extension": "101",
                "owner_id": "u 1",
                "recording": "https://pbx.example/r/1",
                "contact": {
                    "module": "Contacts",
                    "contact_id": "8",
                    "fields": {"AccountId": "a1"},
                },
            },
            "exchanges": [
                TOKEN,
                LOGIN,
                {
                    "ask": "GET /owners/u 1",
                    "answer": {"json": {"owner": {"key": 'key "of" Anna'}}},
                },
                {
                    "ask": "POST /Calls",
                    "json": {"data": [entry]},
                    "answer": {"json": {"data": [{"details": {"id": "e/1"}}]}},
                },
                {
                    "ask": "PUT /Calls/e/1/voice",
                    "json": {"url": "https://pbx.example/r/1"},
                    "answer": {"json": {}},
                },
            ],
        },
    )
    assert found == {"entry_id": "e/1"}
