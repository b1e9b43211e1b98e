"""The sandbox CRM answers as Zoho does: what the engine is tested against has to be right itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import ManualClock
from shared.errors import ContractError
from shared.sandbox.criteria import MAX_TESTS, read_criteria
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SandboxCrm
from shared.sandbox.people import RECORDS, USERS
from shared.testing.waiting import eventually

JANE = "829914000000600001"
GRANT = {
    "grant_type": "refresh_token",
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "refresh_token": REFRESH_TOKEN,
}
A_CALL = {
    "Subject": "Call from Jane Doe",
    "Call_Type": "Inbound",
    "Call_Start_Time": "2026-01-01T12:00:00+00:00",
    "Call_Duration": "01:05",
}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    json: Any


@dataclass
class Client:
    """*token* is that of the last successful grant."""

    crm: SandboxCrm
    session: aiohttp.ClientSession
    token: str = ""

    async def ask(self, method: str, path: str, **more: Any) -> Reply:
        headers = {"Authorization": f"Zoho-oauthtoken {self.token}"} | more.pop("headers", {})
        async with self.session.request(method, path, headers=headers, **more) as found:
            body = await found.json() if found.content_type == "application/json" else None
            return Reply(found.status, found.headers, body)

    async def grant(self, **changes: str) -> Reply:
        reply = await self.ask("POST", "/oauth/v2/token", data=GRANT | changes)
        self.token = reply.json.get("access_token", self.token)
        return reply

    async def search(self, criteria: str, module: str = "Contacts", **more: str) -> Reply:
        params = {"criteria": criteria, **more}
        return await self.ask("GET", f"/crm/v2/{module}/search", params=params)

    async def log_calls(self, *calls: Any) -> Reply:
        return await self.ask("POST", "/crm/v2/Calls", json={"data": list(calls)})

    async def set_faults(self, **faults: Any) -> None:
        assert (await self.ask("PUT", "/sandbox/faults", json=faults)).status == 200


@asynccontextmanager
async def opened(clock: ManualClock, path: Path | None = None) -> AsyncIterator[Client]:
    crm = SandboxCrm(path, clock=clock)
    port = await crm.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            client = Client(crm, session)
            await client.grant()
            yield client
    finally:
        await crm.stop()


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[Client]:
    async with opened(clock) as found:
        yield found


def found_in(reply: Reply) -> list[str]:
    assert reply.status == 200
    return [record["id"] for record in reply.json["data"]]


# -- tokens ---------------------------------------------------------------------------------


async def test_a_grant_gives_a_token_for_an_hour(client: Client, clock: ManualClock) -> None:
    reply = await client.grant()

    assert reply.status == 200
    assert (reply.json["token_type"], reply.json["expires_in"]) == ("Bearer", 3600)
    assert reply.json["api_domain"].startswith("http://127.0.0.1:")
    await clock.advance(timedelta(minutes=59))
    assert (await client.ask("GET", "/crm/v2/users")).status == 200
    await clock.advance(timedelta(minutes=1))
    assert (await client.ask("GET", "/crm/v2/users")).status == 401


async def test_a_grant_may_be_asked_for_in_the_url(client: Client) -> None:
    reply = await client.ask("POST", "/oauth/v2/token", params=GRANT)

    assert reply.json["access_token"]


async def test_a_new_token_leaves_the_one_before_good(client: Client) -> None:
    before = client.token
    await client.grant()
    client.token = before

    assert (await client.ask("GET", "/crm/v2/users")).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "1000.OTHER"}, "invalid_client"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"refresh_token": "wrong"}, "invalid_code"),
        ({"grant_type": "device_code"}, "unsupported_grant_type"),
    ],
    ids=str,
)
async def test_a_refused_grant_is_reported_with_status_200(
    client: Client, changes: dict[str, str], error: str
) -> None:
    """As Zoho does: who looks at the status alone takes it for a success."""
    reply = await client.grant(**changes)

    assert (reply.status, reply.json) == (200, {"error": error})


async def test_more_than_ten_tokens_in_ten_minutes_are_too_many(
    client: Client, clock: ManualClock
) -> None:
    for _ in range(9):  # the first was the fixture's
        assert "access_token" in (await client.grant()).json

    refused = await client.grant()
    await clock.advance(timedelta(minutes=10, seconds=1))

    assert (refused.status, refused.json["error"]) == (400, "Access Denied")
    assert "access_token" in (await client.grant()).json


async def test_a_refused_grant_does_not_count_as_a_token(client: Client) -> None:
    for _ in range(20):
        await client.grant(refresh_token="wrong")

    assert "access_token" in (await client.grant()).json


@pytest.mark.parametrize("header", ["", "Zoho-oauthtoken wrong", "Bearer {}", "{}"])
async def test_without_a_good_token_in_zoho_s_own_scheme_nothing_is_told(
    client: Client, header: str
) -> None:
    headers = {"Authorization": header.format(client.token)}

    reply = await client.ask("GET", "/crm/v2/Contacts", headers=headers)

    assert (reply.status, reply.json["code"]) == (401, "INVALID_TOKEN")


async def test_tokens_that_were_forgotten_are_refused_and_the_grant_is_not(client: Client) -> None:
    client.crm.forget_tokens()

    assert (await client.ask("GET", "/crm/v2/users")).status == 401
    await client.grant()
    assert (await client.ask("GET", "/crm/v2/users")).status == 200


# -- search ---------------------------------------------------------------------------------


async def test_a_number_is_found_as_it_is_spelt_and_not_otherwise(client: Client) -> None:
    exact = await client.search("(Phone:equals:+44 7700 900123)")
    other = await client.search("(Phone:equals:+447700900123)")

    assert found_in(exact) == [JANE]
    assert other.status == 204


async def test_one_of_several_criteria_is_enough(client: Client) -> None:
    criteria = (
        "((Phone:equals:+447700900123)OR(Phone:equals:+44 7700 900123)OR(Mobile:equals:nobody))"
    )

    assert found_in(await client.search(criteria)) == [JANE]


async def test_groups_may_be_nested(client: Client) -> None:
    criteria = "(((Phone:equals:1)OR(Mobile:equals:2))OR(Phone:equals:+44 7700 900123))"

    assert found_in(await client.search(criteria)) == [JANE]


async def test_an_escaped_parenthesis_belongs_to_the_value(client: Client) -> None:
    client.crm.put("Contacts", {"id": "7", "Phone": "(020) 7946\\0000"})

    assert found_in(await client.search(r"(Phone:equals:\(020\) 7946\\0000)")) == ["7"]


async def test_an_injected_criterion_is_only_a_value(client: Client) -> None:
    escaped = r"1\)OR\(Phone:equals:+44 7700 900123"

    assert (await client.search(f"(Phone:equals:{escaped})")).status == 204


async def test_a_prefix_finds_what_starts_with_it(client: Client) -> None:
    assert found_in(await client.search("(Phone:starts_with:+44 7700)")) == [JANE]


@pytest.mark.parametrize(
    "criteria",
    [
        "",
        "Phone:equals:1",
        "(Phone:equals:1",
        "(Phone:equals:1))",
        "((Phone:equals:1)",
        "()",
        "(Phone)",
        "(Phone:equals)",
        "(:equals:1)",
        "(Phone:like:1)",
        "(Phone:equals:1)(Phone:equals:2)",
        "(Phone:equals:1)AND(Phone:equals:2)",
        "(Phone:equals:1)OR",
        "(Phone:equals:1)ORPhone:equals:2",
        "(Telephone:equals:1)",
        "(" * 1200 + "Phone:equals:1" + ")" * 1200,
        "OR".join(["(Phone:equals:1)"] * (MAX_TESTS + 1)),
    ],
    ids=lambda criteria: f"{len(criteria)}: {criteria[:40]}",
)
async def test_a_query_that_zoho_would_not_take_is_invalid(client: Client, criteria: str) -> None:
    reply = await client.search(criteria)

    assert (reply.status, reply.json["code"]) == (400, "INVALID_QUERY")


async def test_ten_criteria_are_taken(client: Client) -> None:
    tests = ["(Phone:equals:1)"] * (MAX_TESTS - 1) + ["(Phone:equals:+44 7700 900123)"]

    assert found_in(await client.search("OR".join(tests))) == [JANE]


@pytest.mark.parametrize("path", ["/crm/v2/Nothing/search", "/crm/v2/Nothing"])
async def test_a_module_that_there_is_not_is_invalid(client: Client, path: str) -> None:
    reply = await client.ask("GET", path, params={"criteria": "(Phone:equals:1)"})

    assert (reply.status, reply.json["code"]) == (400, "INVALID_MODULE")


async def test_a_field_of_another_module_is_unknown(client: Client) -> None:
    """Accounts have no Mobile: which modules are asked for what matters."""
    assert (await client.search("(Mobile:equals:1)", "Accounts")).status == 400
    assert (await client.search("(Mobile:equals:1)", "Leads")).status == 204


async def test_only_the_fields_that_are_asked_for_come_and_the_id(client: Client) -> None:
    reply = await client.search("(Phone:equals:+44 7700 900123)", fields="Full_Name,Tier,Nothing")

    assert reply.json["data"] == [{"id": JANE, "Full_Name": "Jane Doe", "Tier": "SILVER"}]


async def test_without_a_choice_all_fields_come(client: Client) -> None:
    (record,) = (await client.search("(Phone:equals:+44 7700 900123)")).json["data"]

    assert record["Account_Name"] == {"name": "ACME Ltd", "id": "829914000000700001"}
    assert record["Owner"]["id"] == USERS[0]["id"]
    assert record["Mobile"] is None


async def test_a_long_answer_comes_in_pages(client: Client) -> None:
    for number in range(5):
        client.crm.put("Leads", {"id": str(number), "Phone": "1"})

    pages = [
        await client.search("(Phone:equals:1)", "Leads", page=str(page), per_page="2")
        for page in (1, 2, 3)
    ]

    assert [len(page.json["data"]) for page in pages] == [2, 2, 1]
    assert sorted(record for page in pages for record in found_in(page)) == list("01234")
    infos = [(p.json["info"]["page"], p.json["info"]["more_records"]) for p in pages]
    assert infos == [(1, True), (2, True), (3, False)]


@pytest.mark.parametrize("params", [{"page": "x"}, {"per_page": "many"}], ids=str)
async def test_a_page_is_a_number(client: Client, params: dict[str, str]) -> None:
    reply = await client.ask("GET", "/crm/v2/Contacts", params=params)

    assert (reply.status, reply.json["code"]) == (400, "INVALID_DATA")


async def test_a_module_can_be_listed(client: Client) -> None:
    reply = await client.ask("GET", "/crm/v2/Accounts", params={"fields": "Account_Name"})

    assert [record["Account_Name"] for record in reply.json["data"]] == [
        record["Account_Name"] for record in RECORDS["Accounts"]
    ]


async def test_users_are_listed_and_the_current_one_is_one(client: Client) -> None:
    everyone = await client.ask("GET", "/crm/v2/users", params={"type": "AllUsers"})
    current = await client.ask("GET", "/crm/v2/users", params={"type": "CurrentUser"})

    assert everyone.json["users"] == list(USERS)
    assert current.json["users"] == [USERS[0]]


async def test_many_users_come_in_pages(client: Client) -> None:
    client.crm.users = [{"id": str(number), "full_name": f"Agent {number}"} for number in range(3)]

    pages = [
        await client.ask("GET", "/crm/v2/users", params={"page": page, "per_page": "2"})
        for page in ("1", "2")
    ]

    assert [len(page.json["users"]) for page in pages] == [2, 1]
    assert [page.json["info"]["more_records"] for page in pages] == [True, False]


async def test_a_module_without_a_scope_refuses_a_token_that_is_good_for_others(
    client: Client,
) -> None:
    await client.set_faults(no_scope=["Leads", "Calls"])

    refused = [await client.search("(Phone:equals:1)", "Leads"), await client.log_calls(A_CALL)]

    assert [reply.status for reply in refused] == [401, 401]
    assert {reply.json["code"] for reply in refused} == {"OAUTH_SCOPE_MISMATCH"}
    assert (await client.search("(Phone:equals:1)", "Contacts")).status == 204


# -- criteria as a language ------------------------------------------------------------------


def escaped(value: str) -> str:
    return "".join(f"\\{char}" if char in "\\()" else char for char in value)


@settings(deadline=None)
@given(values=st.lists(st.text(max_size=30), min_size=1, max_size=MAX_TESTS))
def test_any_value_that_is_escaped_reads_back(values: list[str]) -> None:
    criteria = "OR".join(f"(Phone:equals:{escaped(value)})" for value in values)

    for text in (criteria, f"({criteria})"):
        assert [test.value for test in read_criteria(text)] == values


@settings(deadline=None)
@given(st.text(st.sampled_from("()\\:ORa equals"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tests = read_criteria(text)
    except ContractError:
        return
    assert 1 <= len(tests) <= MAX_TESTS


# -- the call log ---------------------------------------------------------------------------


async def test_a_call_is_added_and_can_be_found(client: Client) -> None:
    reply = await client.log_calls(A_CALL)

    assert reply.status == 201
    (result,) = reply.json["data"]
    assert (result["code"], result["status"]) == ("SUCCESS", "success")
    again = await client.search("(Subject:equals:Call from Jane Doe)", "Calls")
    assert found_in(again) == [result["details"]["id"]]
    assert again.json["data"][0]["Call_Duration"] == "01:05"


async def test_each_call_has_an_id_of_its_own(client: Client) -> None:
    replies = [await client.log_calls(A_CALL, A_CALL), await client.log_calls(A_CALL)]

    ids = [result["details"]["id"] for reply in replies for result in reply.json["data"]]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"Subject": None}, "MANDATORY_NOT_FOUND", "Subject"),
        ({"Subject": ""}, "MANDATORY_NOT_FOUND", "Subject"),
        ({"Call_Type": None}, "MANDATORY_NOT_FOUND", "Call_Type"),
        ({"Call_Start_Time": None}, "MANDATORY_NOT_FOUND", "Call_Start_Time"),
        ({"Call_Duration": None}, "MANDATORY_NOT_FOUND", "Call_Duration"),
        ({"Call_Type": "inbound"}, "INVALID_DATA", "Call_Type"),
        ({"Call_Type": 1}, "INVALID_DATA", "Call_Type"),
        ({"Call_Start_Time": "2026-01-01T12:00:00"}, "INVALID_DATA", "Call_Start_Time"),
        ({"Call_Start_Time": "yesterday"}, "INVALID_DATA", "Call_Start_Time"),
        ({"Call_Duration": "65"}, "INVALID_DATA", "Call_Duration"),
        ({"Call_Duration": "1:05"}, "INVALID_DATA", "Call_Duration"),
        ({"Call_Duration": "01:65"}, "INVALID_DATA", "Call_Duration"),
        ({"Call_Duration": 65}, "INVALID_DATA", "Call_Duration"),
        ({"What_Id": "829"}, "DEPENDENT_FIELD_MISSING", "$se_module"),
    ],
    ids=str,
)
async def test_a_call_that_zoho_would_refuse_is_refused_by_its_field(
    client: Client, changes: dict[str, Any], code: str, field: str
) -> None:
    wanted = {name: value for name, value in (A_CALL | changes).items() if value is not None}

    reply = await client.log_calls(wanted)

    (result,) = reply.json["data"]
    assert reply.status == 202
    assert (result["status"], result["code"]) == ("error", code)
    assert result["details"] == {"api_name": field}
    assert client.crm.records("Calls") == []


@pytest.mark.parametrize("kind", ["Inbound", "Outbound", "Missed"])
@pytest.mark.parametrize("duration", ["00:00", "59:59", "120:00"])
async def test_what_zoho_takes_is_taken(client: Client, kind: str, duration: str) -> None:
    reply = await client.log_calls({**A_CALL, "Call_Type": kind, "Call_Duration": duration})

    assert reply.status == 201


async def test_a_call_can_be_changed(client: Client) -> None:
    (made,) = (await client.log_calls(A_CALL)).json["data"]
    call_id = made["details"]["id"]

    changes = {"Description": "with a recording", "Call_Duration": "02:00"}
    reply = await client.ask("PUT", f"/crm/v2/Calls/{call_id}", json={"data": [changes]})

    assert (reply.status, reply.json["data"][0]["details"]["id"]) == (200, call_id)
    (call,) = client.crm.records("Calls")
    assert {name: call[name] for name in changes} == changes
    assert call["Subject"] == A_CALL["Subject"]


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"Call_Type": "Missed"}, "INVALID_DATA", "Call_Type"),
        ({"Owner": {"id": USERS[0]["id"]}}, "INVALID_DATA", "Owner"),
        ({"Call_Duration": "65"}, "INVALID_DATA", "Call_Duration"),
        ({"What_Id": "829"}, "DEPENDENT_FIELD_MISSING", "$se_module"),
    ],
    ids=str,
)
async def test_a_change_that_zoho_would_refuse_changes_nothing(
    client: Client, changes: dict[str, Any], code: str, field: str
) -> None:
    (made,) = (await client.log_calls(A_CALL)).json["data"]
    before = client.crm.records("Calls")

    path = f"/crm/v2/Calls/{made['details']['id']}"
    reply = await client.ask("PUT", path, json={"data": [changes]})

    (result,) = reply.json["data"]
    assert (reply.status, result["code"], result["details"]["api_name"]) == (202, code, field)
    assert client.crm.records("Calls") == before


async def test_a_call_that_there_is_not_cannot_be_changed(client: Client) -> None:
    reply = await client.ask("PUT", "/crm/v2/Calls/829", json={"data": [{"Subject": "x"}]})

    assert (reply.status, reply.json["data"][0]["code"]) == (202, "INVALID_DATA")
    assert client.crm.records("Calls") == []


async def test_a_call_may_be_about_an_account(client: Client) -> None:
    about = {"What_Id": "829914000000489099", "$se_module": "Accounts"}

    assert (await client.log_calls({**A_CALL, **about})).status == 201


async def test_of_several_calls_the_good_ones_are_kept(client: Client) -> None:
    reply = await client.log_calls(A_CALL, {**A_CALL, "Call_Type": "x"})

    assert reply.status == 202
    assert [result["status"] for result in reply.json["data"]] == ["success", "error"]
    assert len(client.crm.records("Calls")) == 1


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "{}", '{"data": 1}', '{"data": ["x"]}', '{"data": {"Subject": "x"}}']
)
async def test_a_body_without_records_is_invalid(client: Client, body: str) -> None:
    reply = await client.ask("POST", "/crm/v2/Calls", data=body)

    assert reply.status == 400
    assert client.crm.records("Calls") == []


# -- faults ---------------------------------------------------------------------------------


async def test_the_next_requests_fail_as_they_are_told_and_then_no_more(client: Client) -> None:
    await client.set_faults(fail_next=2, fail_status=503, retry_after_s=7)

    replies = [await client.ask("GET", "/crm/v2/users") for _ in range(3)]

    assert [reply.status for reply in replies] == [503, 503, 200]
    assert replies[0].headers["Retry-After"] == "7"


async def test_a_failed_write_writes_nothing(client: Client) -> None:
    await client.set_faults(fail_next=1)

    assert (await client.log_calls(A_CALL)).status == 500
    assert client.crm.records("Calls") == []


async def test_a_lost_answer_is_a_write_that_was_done(client: Client) -> None:
    await client.set_faults(lose_answers=1)

    with pytest.raises(aiohttp.ClientError):
        await client.log_calls(A_CALL)

    assert len(client.crm.records("Calls")) == 1
    assert (await client.log_calls(A_CALL)).status == 201


async def test_over_its_rate_it_says_when_to_come_back(client: Client, clock: ManualClock) -> None:
    await client.set_faults(requests_per_minute=2)
    for _ in range(2):
        assert (await client.ask("GET", "/crm/v2/users")).status == 200
        await clock.advance(timedelta(seconds=10))

    refused = await client.ask("GET", "/crm/v2/users")
    await clock.advance(timedelta(seconds=int(refused.headers["Retry-After"]) + 1))

    assert (refused.status, refused.json["code"]) == (429, "TOO_MANY_REQUESTS")
    assert refused.headers["Retry-After"] == "40"
    assert (await client.ask("GET", "/crm/v2/users")).status == 200


async def test_an_answer_may_be_late(client: Client, clock: ManualClock) -> None:
    await client.set_faults(latency_ms=1500)

    asked = asyncio.create_task(client.ask("GET", "/crm/v2/users"))
    await eventually(lambda: clock.sleepers == 1)
    await clock.advance(timedelta(milliseconds=1499))
    assert not asked.done()
    await clock.advance(timedelta(milliseconds=1))

    assert (await asked).status == 200


async def test_a_search_may_lag_behind_the_writes(client: Client, clock: ManualClock) -> None:
    await client.set_faults(search_lag_ms=5000)
    await client.log_calls(A_CALL)
    criteria = "(Subject:equals:Call from Jane Doe)"

    assert (await client.search(criteria, "Calls")).status == 204
    await clock.advance(timedelta(seconds=5))
    assert (await client.search(criteria, "Calls")).status == 200


async def test_a_revoked_grant_gives_no_token_and_leaves_those_that_are_out(client: Client) -> None:
    await client.set_faults(grant_revoked=True)

    assert (await client.grant()).json == {"error": "invalid_code"}
    assert (await client.ask("GET", "/crm/v2/users")).status == 200


@pytest.mark.parametrize(
    "faults", [{"latencies": 1}, {"latency_ms": -1}, {"fail_status": 200}, {"fail_next": "x"}]
)
async def test_a_switch_that_there_is_not_is_refused(
    client: Client, faults: dict[str, Any]
) -> None:
    await client.set_faults(fail_status=503)

    assert (await client.ask("PUT", "/sandbox/faults", json=faults)).status == 422
    assert client.crm.faults.fail_status == 503


async def test_the_switches_work_while_everything_else_fails(client: Client) -> None:
    await client.set_faults(fail_next=100)
    await client.set_faults()

    assert (await client.ask("GET", "/crm/v2/users")).status == 200


# -- what it remembers ----------------------------------------------------------------------


async def test_the_log_shows_the_requests_as_they_came(client: Client) -> None:
    await client.search("(Phone:equals:+44 7700)")
    await client.log_calls(A_CALL)

    search, write = (await client.ask("GET", "/sandbox/requests")).json

    assert search.startswith("GET /crm/v2/Contacts/search?criteria=")
    assert "%2B44" in search or "+44" in search
    assert write == "POST /crm/v2/Calls"
    assert "Jane Doe" in client.crm.asked[-1].body


async def test_a_record_can_be_put_there(client: Client) -> None:
    record = {"Full_Name": "Zoe Zero", "Phone": "000"}

    reply = await client.ask("PUT", "/sandbox/Contacts/77", json=record)

    assert reply.status == 204
    assert found_in(await client.search("(Phone:equals:000)")) == ["77"]
    assert (await client.ask("PUT", "/sandbox/Nothing/1", json={})).status == 404


async def test_what_was_written_is_there_after_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    path = tmp_path / "crm.db"
    async with opened(clock, path) as client:
        await client.log_calls(A_CALL)
        client.crm.put("Contacts", {"id": JANE, "Phone": "moved"})

    async with opened(clock, path) as client:
        assert len(client.crm.records("Calls")) == 1
        assert found_in(await client.search("(Phone:equals:moved)")) == [JANE]
        assert len(client.crm.records("Contacts")) == len(RECORDS["Contacts"])
        (result,) = (await client.log_calls(A_CALL)).json["data"]
        assert result["status"] == "success"
        assert len(client.crm.records("Calls")) == 2


async def outcomes(client: Client, requests: int) -> list[int]:
    """Statuses of so many writes; 0 where the answer was lost."""
    found = []
    for place in range(requests):
        try:
            found.append((await client.log_calls({**A_CALL, "Subject": f"n{place}"})).status)
        except aiohttp.ClientError:
            found.append(0)
    return found


async def test_shares_of_requests_fail_each_in_its_way(client: Client) -> None:
    await client.set_faults(fail_share=0.1, throttle_share=0.1, lose_share=0.1, fail_status=502)

    found = await outcomes(client, 400)

    counts = {status: found.count(status) for status in (502, 429, 0, 201)}
    assert sum(counts.values()) == 400
    assert all(20 <= counts[status] <= 70 for status in (502, 429, 0)), counts
    # What was lost was done, what failed was not.
    assert len(client.crm.records("Calls")) == counts[201] + counts[0]


async def test_shares_are_the_same_again_with_the_same_seed(client: Client) -> None:
    async def run(seed: int) -> list[int]:
        await client.set_faults(fail_share=0.3, seed=seed)
        return await outcomes(client, 60)

    first = await run(7)
    assert await run(7) == first
    assert await run(8) != first


async def test_throttled_it_says_when_to_come_back(client: Client) -> None:
    await client.set_faults(throttle_share=1)
    reply = await client.log_calls(A_CALL)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")

    await client.set_faults(throttle_share=1, retry_after_s=30)
    assert (await client.log_calls(A_CALL)).headers["Retry-After"] == "30"


@pytest.mark.parametrize("name", ["fail_share", "throttle_share", "lose_share"])
@pytest.mark.parametrize("share", [-0.1, 1.1])
async def test_a_share_is_one(client: Client, name: str, share: float) -> None:
    reply = await client.ask("PUT", "/sandbox/faults", json={name: share})
    assert reply.status == 422


async def test_a_hundred_calls_go_in_one_request_and_no_more(client: Client) -> None:
    assert (await client.log_calls(*[A_CALL] * 101)).status == 400
    reply = await client.log_calls(*[A_CALL] * 100)
    ids = [result["details"]["id"] for result in reply.json["data"]]
    assert len(set(ids)) == 100
    assert [record["id"] for record in client.crm.records("Calls")] == ids


async def test_ids_go_on_where_the_file_was_left(clock: ManualClock, tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        async with opened(clock, tmp_path / "crm.db") as client:
            reply = await client.log_calls(A_CALL, A_CALL)
            ids += [result["details"]["id"] for result in reply.json["data"]]
    assert len(set(ids)) == 4


async def test_an_id_is_not_given_again_after_a_call_was_deleted(
    clock: ManualClock, tmp_path: Path
) -> None:
    async with opened(clock, tmp_path / "crm.db") as client:
        made = (await client.log_calls(A_CALL, A_CALL, A_CALL)).json["data"]
        client.crm.remove("Calls", made[0]["details"]["id"])
    async with opened(clock, tmp_path / "crm.db") as client:
        reply = await client.log_calls(A_CALL)
        assert reply.status == 201
        assert len(client.crm.records("Calls")) == 3


async def test_a_subject_is_looked_up_and_not_searched_for(
    client: Client, clock: ManualClock
) -> None:
    await client.log_calls(*[{**A_CALL, "Subject": f"call {n} (x)"} for n in range(50)])

    async def found(criteria: str) -> list[str]:
        reply = await client.search(criteria, "Calls")
        return [] if reply.status == 204 else found_in(reply)

    (one,) = await found(r"(Subject:equals:call 7 \(x\))")
    assert await found(r"((Subject:equals:call 7 \(x\))OR(Subject:equals:nothing))") == [one]
    both = await found(r"((Subject:equals:call 7 \(x\))OR(Subject:equals:call 8 \(x\)))")
    assert (len(both), one in both) == (2, True)
    assert len(await found("(Subject:starts_with:call 4)")) == 11
    assert await found("((Subject:equals:no)OR(Call_Type:equals:Outbound))") == []

    await client.set_faults(search_lag_ms=60_000)
    assert await found(r"(Subject:equals:call 7 \(x\))") == []
    await clock.advance(timedelta(minutes=1))
    assert await found(r"(Subject:equals:call 7 \(x\))") == [one]
