"""
PBXware's routing example (seed of this project), case by case: rule "Account_Name = testrouting1
to IVR 104, else 102", Zoho CRM. The requests are those of its log, character by character.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Faults, SandboxCrm
from shared.sandbox.pbx import ask_route
from tests.scenario.conftest import has_begun

DID = "1202777777"
#: With region and without: the numbers are none of any region.
SITE = """
tenants:
  - tenant: t400
    region: US
    pbx:
      - {{name: pbxware, kind: asterisk, host: 127.0.0.1, port: 1, username: u, secret: s,
         trunks: [trunk], askers: [127.0.0.1]}}
    crm:
      - name: zoho
        template: zoho
        parameters: {{data_centre: eu, api_url: "{url}", accounts_url: "{url}"}}
        credentials:
          {{client_id: {client_id}, client_secret: {client_secret}, refresh_token: {refresh_token}}}
    rules:
      - name: account
        dids: ["{did}"]
        crm: zoho
        modules: [{modules}]
        field: Account_Name
        caller_name: {caller_name}
        within: {within_s}s
        rows:
          - {{operator: "=", value: testrouting1, destination: "ivr:104"}}
        default: extension:102
"""


def accounts(*spellings: str) -> str:
    return search("Accounts", *(f"Phone:equals:{text}" for text in spellings))


def search(module: str, *tests: str) -> str:
    criteria = "OR".join(f"({test})" for test in tests)
    return (
        f"GET /crm/v2/{module}/search?criteria=({criteria})"
        "&page=1&per_page=200&fields=id,Account_Name"
    )


def three(number: str) -> tuple[str, str, str]:
    """The spellings of the log: as it came, with hyphens, with blanks."""
    first, second, third = number[:3], number[3:6], number[6:]
    return number, f"{first}-{second}-{third}", f"{first}%20{second}%20{third}"


def in_fields(number: str, *fields: str) -> list[str]:
    return [f"{field}:equals:{text}" for field in fields for text in three(number)]


def all_modules(number: str) -> set[str]:
    return {
        search("Accounts", *in_fields(number, "Phone")),
        search("Contacts", *in_fields(number, "Phone", "Home_Phone", "Mobile")),
        search("Leads", *in_fields(number, "Phone", "Mobile")),
    }


@asynccontextmanager
async def asking(
    choice: Choice,
    crm: SandboxCrm,
    modules: str,
    *,
    caller_name: bool = False,
    within_s: float = 10,
) -> AsyncIterator[tuple[str, int, str]]:
    """``routing`` alone, as a container of its own would run it; where it is asked."""
    text = SITE.format(
        url=f"http://127.0.0.1:{await crm.start()}",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        refresh_token=REFRESH_TOKEN,
        did=DID,
        modules=modules,
        caller_name=str(caller_name).lower(),
        within_s=within_s,
    )
    async with open_platform(choice, consumers=consumers()) as platform:
        await prepare(platform, text)
        async with running(
            [CATALOG["routing"].build],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=choice.mesh.drain,
        ) as state:
            await has_begun(platform)
            yield "127.0.0.1", state.services[0].ports["fastagi"], "route/t400/pbxware"


@pytest.mark.parametrize(
    ("case", "modules", "caller", "destination", "reason", "requests"),
    [
        (
            "the number belongs to testrouting1",
            *("Accounts", "1202888888", "ivr:104", "row_matched"),
            {accounts("1202888888", "120-288-8888", "120%20288%208888")},
        ),
        (
            "the number belongs to another account",
            *("Accounts", "1202666666", "extension:102", "no_row_matched"),
            {accounts("1202666666", "120-266-6666", "120%20266%206666")},
        ),
        (
            "the number is a lead's alone",
            *("Accounts", "1202111111", "extension:102", "no_contact"),
            {accounts("1202111111", "120-211-1111", "120%20211%201111")},
        ),
        (
            "nobody has the number, which has nine digits",
            *("Accounts", "120222222", "extension:102", "no_contact"),
            {accounts("120222222")},
        ),
        (
            "several modules, one of them matches",
            *("Accounts, Contacts, Leads", "1202888888", "ivr:104", "row_matched"),
            all_modules("1202888888"),
        ),
        (
            "several modules, the lead has no such field",
            *("Accounts, Contacts, Leads", "1202111111", "extension:102", "no_field"),
            all_modules("1202111111"),
        ),
        (
            "the wrong module: leads have no Account_Name",
            *("Leads", "1202111111", "extension:102", "no_field"),
            {search("Leads", *in_fields("1202111111", "Phone", "Mobile"))},
        ),
    ],
)
async def test_the_call_goes_where_the_seed_says_by_the_requests_of_its_log(
    choice: Choice,
    crm: SandboxCrm,
    case: str,
    modules: str,
    caller: str,
    destination: str,
    reason: str,
    requests: set[str],
) -> None:
    before = {module: crm.records(module) for module in ("Accounts", "Contacts", "Leads")}
    async with asking(choice, crm, modules) as agi:
        found = await ask_route(agi, caller=caller, caller_name="", did=DID, uniqueid="1.1")
        again = await ask_route(agi, caller=caller, caller_name="", did=DID, uniqueid="1.2")
    assert found["CRM_DEST"] == destination, case
    assert found["CRM_REASON"] == reason
    assert again == found
    asked = [one.line for one in crm.asked]
    assert set(asked) == requests
    # The second answer came from the cache, also where nobody was found.
    assert len(asked) == len(requests)
    # A routing lookup never makes a contact, as PBXware's does.
    assert {module: crm.records(module) for module in before} == before


async def test_a_caller_who_withholds_the_number_asks_no_crm(
    choice: Choice, crm: SandboxCrm
) -> None:
    async with asking(choice, crm, "Accounts") as agi:
        found = await ask_route(agi, caller="unknown", caller_name="", did=DID, uniqueid="1.1")
    assert (found["CRM_DEST"], found["CRM_REASON"]) == ("extension:102", "number_withheld")
    assert not crm.asked


async def test_a_rule_may_ask_for_the_name_that_the_phone_shows(
    choice: Choice, crm: SandboxCrm
) -> None:
    async with asking(choice, crm, "Contacts", caller_name=True) as agi:
        jane = "+447700900123"
        found = await ask_route(agi, caller=jane, caller_name="", did=DID, uniqueid="1.1")
    assert (found["CRM_DEST"], found["CRM_NAME"]) == ("extension:102", "Jane Doe")
    assert crm.asked
    assert all("fields=id,Account_Name,Full_Name," in asked.line for asked in crm.asked)


async def test_a_did_without_a_rule_leaves_the_dialplan_alone(
    choice: Choice, crm: SandboxCrm
) -> None:
    async with asking(choice, crm, "Accounts") as agi:
        found = await ask_route(agi, caller="1202888888", caller_name="", did="99", uniqueid="1.1")
    assert (found["CRM_DEST"], found["CRM_REASON"]) == ("", "no_rule")


@pytest.mark.parametrize(
    ("faults", "within_s", "reason"),
    [
        (Faults(latency_ms=60_000), 1.5, "out_of_time"),
        (Faults(fail_next=5, fail_status=500), 10, "crm_failed"),
        (Faults(fail_next=5, fail_status=429), 10, "crm_failed"),
        (Faults(grant_revoked=True), 10, "crm_failed"),
    ],
)
async def test_a_crm_that_does_not_answer_costs_the_default_and_no_more_time_than_the_budget(
    choice: Choice, crm: SandboxCrm, faults: Faults, within_s: float, reason: str
) -> None:
    crm.faults = faults
    # That it comes while the CRM hangs is what counts, and not how busy this machine is.
    async with asking(choice, crm, "Accounts", within_s=within_s) as agi, asyncio.timeout(30):
        found = await ask_route(agi, caller="1202888888", caller_name="", did=DID, uniqueid="1.1")
    assert (found["CRM_DEST"], found["CRM_REASON"]) == ("extension:102", reason)
