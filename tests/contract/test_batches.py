"""Several entries in one request: each is told by itself what became of it, or all are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from shared.clock import ManualClock
from shared.contracts.calls import Direction, Disposition
from shared.contracts.contacts import ContactCard
from shared.crm.engine.connector import TemplateConnector
from shared.crm.engine.together import each_alone
from shared.crm.exchanges import exchange_of
from shared.crm.port import JournalEntry
from shared.errors import MeshError, NeedsReconnect, Rejected, Throttled, Unavailable
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Faults, SandboxCrm
from shared.sandbox.people import USERS
from shared.testing.cassettes import ConnectionIn, recorder
from tests.contract.scripted_crm import Answers, Asked, Made, connected

SHOP = yaml.safe_load(
    (Path(__file__).parents[1] / "data/templates/own/corner-shop.yaml").read_text()
)
WITHIN = timedelta(seconds=5)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
JANE = ContactCard(
    connection="crm",
    module="Contacts",
    contact_id="829914000000600001",
    display_name="Jane Doe",
)


def call(place: int, **other: Any) -> JournalEntry:
    said: dict[str, Any] = {
        "direction": Direction.INBOUND,
        "disposition": Disposition.ANSWERED,
        "started_at": NOON,
        "ended_at": NOON + timedelta(seconds=65),
        "talk_time": timedelta(seconds=60),
        "wait_time": timedelta(seconds=5),
        "number": f"+4477009{place:05}",
        "dialled": None,
        "extension": "101",
        "agent_name": None,
        "owner_id": None,
        "contact": None,
        "recording": None,
    }
    return JournalEntry(reference=f"ref-{place:04}", **{**said, **other})


# -- Zoho's, through the sandbox -----------------------------------------------------------------


@asynccontextmanager
async def zoho(clock: ManualClock) -> AsyncIterator[tuple[SandboxCrm, TemplateConnector]]:
    crm = SandboxCrm(clock=clock)
    url = f"http://127.0.0.1:{await crm.start()}"
    given = ConnectionIn(
        parameters={"accounts_url": url, "api_url": url, "web_url": "https://crm.example"},
        credentials={
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
        },
        region="GB",
    )
    try:
        async with recorder(clock=clock) as made:
            yield crm, made.connections.connector(made.account("zoho", given, url))
    finally:
        await crm.stop()


def asked_for(crm: SandboxCrm, method: str) -> int:
    return sum(one.method == method for one in crm.asked)


async def test_of_ten_calls_nine_are_there_and_one_is_refused(clock: ManualClock) -> None:
    async with zoho(clock) as (crm, connector):
        before = len(crm.records("Calls"))
        calls = [call(place, owner_id=USERS[0]["id"]) for place in range(10)]
        calls[6] = replace(calls[6], owner_id="829914000000999999")
        calls[2] = replace(calls[2], contact=JANE)
        answers = await connector.write_entries(calls, within=WITHIN)
        written = {record["id"]: record for record in crm.records("Calls")}

        assert asked_for(crm, "POST") == 1
        assert len(written) == before + 9
        bad = answers.pop(6)
        for one, answer in zip([*calls[:6], *calls[7:]], answers, strict=True):
            assert isinstance(answer, str)
            assert written[answer]["Subject"].endswith(one.reference)
        assert [written[str(answer)].get("Who_Id") for answer in answers[2:4]] == [
            {"id": JANE.contact_id},
            None,
        ]
    assert isinstance(bad, Rejected)
    assert "INVALID_DATA" in bad.message
    shown = exchange_of(bad)
    assert shown is not None
    # Its own part of the request and of the answer, of nobody else's.
    assert calls[6].number in shown.body
    assert calls[5].number not in shown.body
    assert "SUCCESS" not in shown.answer
    assert "Owner" in shown.answer


@pytest.mark.parametrize("bad", [0, 3, 9])
async def test_what_the_first_record_says_is_not_said_of_the_others(
    bad: int, clock: ManualClock
) -> None:
    async with zoho(clock) as (crm, connector):
        calls = [call(place) for place in range(10)]
        calls[bad] = replace(calls[bad], owner_id="829914000000999999")
        answers = await connector.write_entries(calls, within=WITHIN)
        assert [isinstance(answer, Rejected) for answer in answers] == [
            place == bad for place in range(10)
        ]
        assert len(crm.records("Calls")) == 9


async def test_all_that_are_refused_are_told_each_by_itself(clock: ManualClock) -> None:
    async with zoho(clock) as (crm, connector):
        calls = [call(place, owner_id="829914000000999999") for place in range(3)]
        answers = await connector.write_entries(calls, within=WITHIN)
        assert [type(answer) for answer in answers] == [Rejected] * 3
        assert asked_for(crm, "POST") == 1


async def test_after_a_lost_answer_each_is_found(clock: ManualClock) -> None:
    async with zoho(clock) as (crm, connector):
        crm.faults = Faults(lose_answers=1)
        calls = [call(place) for place in range(connector.batch)]
        with pytest.raises(Unavailable):
            await connector.write_entries(calls, within=WITHIN)
        found = [await connector.find_entry(one, within=WITHIN) for one in calls[::25]]
        assert found == [record["id"] for record in crm.records("Calls")][::25]


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"fail_next": 1, "fail_status": 429, "retry_after_s": 9}, Throttled),
        ({"fail_next": 1, "fail_status": 503}, Unavailable),
        ({"fail_next": 1, "fail_status": 400}, Rejected),
        ({"html_page": 1}, Unavailable),
        ({"grant_revoked": True}, NeedsReconnect),
    ],
    ids=str,
)
async def test_what_hits_all_of_them_is_raised(
    faults: dict[str, Any], error: type[MeshError], clock: ManualClock
) -> None:
    async with zoho(clock) as (crm, connector):
        crm.faults = Faults(**faults)
        with pytest.raises(error):
            await connector.write_entries([call(1), call(2)], within=WITHIN)
        assert not crm.records("Calls")


async def test_a_session_that_is_over_is_renewed_and_all_go(clock: ManualClock) -> None:
    async with zoho(clock) as (crm, connector):
        await connector.write_entries([call(1), call(2)], within=WITHIN)
        await clock.advance(timedelta(minutes=2))
        crm.forget_tokens()
        answers = await connector.write_entries([call(3), call(4)], within=WITHIN)
        assert [record["id"] for record in crm.records("Calls")][2:] == answers


# -- any template's ------------------------------------------------------------------------------


def shop(**parts: Any) -> dict[str, Any]:
    journal = {
        **SHOP["journal"],
        "create": {
            "method": "POST",
            "url": "{{.url}}/calls",
            "json": {"calls": [{"text": "{{.Subject}}", "seller": "{{.Owner}}"}]},
        },
        "record": "calls.0",
        "entry_id": "done.0.id",
        "batch": {"at_most": 10, "list": "calls", "answers": "done"},
        **parts,
    }
    return {**SHOP, "name": "shop", "journal": journal}


@asynccontextmanager
async def at_shop(template: dict[str, Any], answers: Answers, folder: Path) -> AsyncIterator[Made]:
    given = {"credentials": {"api_key": "k-1"}}
    async with connected(template, answers, folder, given=given) as made:
        yield made


def ids(asked: Asked) -> dict[str, Any]:
    return {"done": [{"id": one["text"][-4:]} for one in asked.json["calls"]]}


async def test_each_has_its_own_link_and_completion(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        return ids(asked) if asked.what == "POST /calls" else {}

    after = [{"request": {"method": "PUT", "url": "{{.url}}/links/{{.EntryId}}/{{.made}}"}}]
    ann = ContactCard(connection="crm", module="People", contact_id="7", display_name="Ann")
    template = shop(after=after, take={"made": "done.0.id"})
    async with at_shop(template, answers, tmp_path) as made:
        calls = [call(1), call(2, contact=ann, owner_id='3","seller":"4'), call(3)]
        assert await made.connector.write_entries(calls, within=WITHIN) == ["0001", "0002", "0003"]

        (sent,) = made.crm.of("POST /calls")
        assert [one.get("person") for one in sent.json["calls"]] == [None, "7", None]
        assert sent.json["calls"][1]["seller"] == '3","seller":"4'
        links = [one.what for one in made.crm.asked if one.what.startswith("PUT")]
        assert links == [f"PUT /links/{one}/{one}" for one in ("0001", "0002", "0003")]


async def test_a_form_keeps_its_other_fields(tmp_path: Path) -> None:
    create = {
        "method": "POST",
        "url": "{{.url}}/calls",
        "form": {
            "key name": "a b",
            "in": {"calls": [{"text": "{{.Subject}}", "big": 12345678901234567890123}]},
            "last": "ü",
        },
    }
    template = shop(create=create, record="in.calls.0")
    template["journal"]["batch"] = {"at_most": 10, "list": "in.calls", "answers": "done"}

    async with at_shop(template, lambda _: {"done": [{"id": 1}, {"id": 2}]}, tmp_path) as made:
        assert await made.connector.write_entries([call(1), call(2)], within=WITHIN) == ["1", "2"]
        form = made.crm.asked[0].form
    assert (form["key name"], form["last"]) == ("a b", "ü")
    assert form["in"].count("12345678901234567890123") == 2
    assert [one["text"][-8:] for one in yaml.safe_load(form["in"])["calls"]] == [
        "ref-0001",
        "ref-0002",
    ]


async def test_a_list_may_be_the_whole_body(tmp_path: Path) -> None:
    create = {"method": "POST", "url": "{{.url}}/calls", "json": [{"text": "{{.Subject}}"}]}
    batch = {"at_most": 10, "list": "", "answers": ""}
    template = shop(create=create, record="0", entry_id="0.id", batch=batch)
    async with at_shop(template, lambda _: [{"id": 1}, {"id": 2}], tmp_path) as made:
        assert await made.connector.write_entries([call(1), call(2)], within=WITHIN) == ["1", "2"]
        assert len(made.crm.asked[0].json) == 2


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_answers_that_are_not_one_for_each_are_nobody_s(count: int, tmp_path: Path) -> None:
    """A CRM that leaves out what it refused would give one call the other's entry."""
    done = [{"id": str(place)} for place in range(count)]
    async with at_shop(shop(), lambda _: {"done": done}, tmp_path) as made:
        answers = await made.connector.write_entries([call(1), call(2)], within=WITHIN)
    assert [type(answer) for answer in answers] == [Unavailable] * 2
    assert isinstance(answers[1], Unavailable)
    assert f"answered {count} of 2" in answers[1].message
    shown = exchange_of(answers[1])
    assert shown is not None
    assert "ref-0002" in shown.body
    assert "ref-0001" not in shown.body


async def test_a_list_of_millions_is_not_gone_through(tmp_path: Path) -> None:
    async with at_shop(shop(), lambda _: {"done": [0] * 2_000_000}, tmp_path) as made:
        answers = await made.connector.write_entries([call(1), call(2)], within=WITHIN)
    assert [type(answer) for answer in answers] == [Unavailable] * 2
    assert len(each_alone({"done": [0] * 2_000_000}, "done")) == 1001


async def test_an_entry_without_an_id_may_be_there(tmp_path: Path) -> None:
    done = [{"id": "1"}, {}, {"id": None}, {"id": {}}]
    async with at_shop(shop(), lambda _: {"done": done}, tmp_path) as made:
        answers = await made.connector.write_entries([call(n) for n in range(4)], within=WITHIN)
    assert [type(answer) for answer in answers] == [str, Unavailable, Unavailable, Unavailable]


async def test_who_is_not_known_gets_no_entry_and_the_others_do(tmp_path: Path) -> None:
    ann = ContactCard(connection="crm", module="People", contact_id="7", display_name="Ann")
    async with at_shop(shop(contact="yes"), ids, tmp_path) as made:
        calls = [call(1, contact=ann), call(2), call(3, contact=ann)]
        answers = await made.connector.write_entries(calls, within=WITHIN)
        assert len(made.crm.asked[0].json["calls"]) == 2
        assert [answers[0], answers[2]] == ["0001", "0003"]
        assert isinstance(answers[1], Rejected)

        none = await made.connector.write_entries([call(4), call(5)], within=WITHIN)
        assert [type(answer) for answer in none] == [Rejected] * 2
        assert len(made.crm.asked) == 1


@pytest.mark.parametrize(
    ("create", "said"),
    [
        ({"url": "{{.url}}/{{.Agent}}/calls"}, "the address"),
        ({"query": {"of": "{{.Agent}}"}}, "the address"),
        ({"headers": {"X-Of": "{{.Agent}}"}}, "a header"),
        ({"json": {"calls": [{"text": "{{.Subject}}"}], "of": "{{.Agent}}"}}, "the body"),
        ({"json": {"calls": [{"text": "{{.Subject}}"}, {"of": "2"}]}}, "no list of one element"),
        ({"json": {"text": "{{.Subject}}"}}, "no list of one element"),
        ({"when": '{{if eq .Agent "101"}}1{{end}}'}, "makes no request"),
        (
            {"json": {"calls": [{"text": "{{.Subject}}", "of": "{{.Agent | number}}"}]}},
            "a number is needed",
        ),
    ],
    ids=str,
)
async def test_calls_that_cannot_share_a_request_are_not_sent_together(
    create: dict[str, Any], said: str, tmp_path: Path
) -> None:
    template = shop()
    template["journal"]["create"] |= create
    async with at_shop(template, ids, tmp_path) as made:
        calls = [call(1), call(2, extension="x102")]
        with pytest.raises(Rejected, match=said) as caught:
            await made.connector.write_entries(calls, within=WITHIN)
        assert not made.crm.asked
    assert exchange_of(caught.value) is None


async def test_each_says_by_itself_that_it_is_to_slow_down(tmp_path: Path) -> None:
    template = shop()
    template["outcome"] = {
        "rules": [
            {"path": "done.0.error", "equals": ["limit"], "means": "slow_down"},
            {"path": "done.0.error", "means": "rejected"},
        ]
    }
    done: list[dict[str, str]] = [{"id": "1"}, {"error": "limit"}, {"error": "text"}]
    async with at_shop(template, lambda _: {"done": done}, tmp_path) as made:
        answers = await made.connector.write_entries([call(n) for n in range(3)], within=WITHIN)
        assert [type(answer) for answer in answers] == [str, Throttled, Rejected]

        done[:] = [{"error": "limit"}] * 3
        with pytest.raises(Throttled):
            await made.connector.write_entries([call(n) for n in range(3)], within=WITHIN)


async def test_a_template_without_batches_takes_one(tmp_path: Path) -> None:
    async with at_shop({**SHOP, "name": "shop"}, lambda _: {"id": 5}, tmp_path) as made:
        assert made.connector.batch == 1
        assert await made.connector.write_entries([call(1)], within=WITHIN) == ["5"]
        with pytest.raises(ValueError, match="2 entries"):
            await made.connector.write_entries([call(1), call(2)], within=WITHIN)


async def test_one_alone_is_told_or_raised_as_one_of_many(tmp_path: Path) -> None:
    statuses = iter([400, 503])

    def answers(_: Asked) -> Any:
        return web.Response(status=next(statuses))

    async with at_shop(shop(), answers, tmp_path) as made:
        (refused,) = await made.connector.write_entries([call(1)], within=WITHIN)
        assert isinstance(refused, Rejected)
        with pytest.raises(Unavailable):
            await made.connector.write_entries([call(1)], within=WITHIN)
