"""Deciding over a real CRM server and store: what is found out of the caller, and when it cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.routing.deciding import Case
from services.routing.trace import Trace
from shared.contracts.routing import DecideRoute
from shared.crm.users import USERS
from shared.sandbox.faults import Faults
from shared.sandbox.people import USERS as PEOPLE
from shared.sandbox.site import CRM, TENANT, site_file
from shared.storage.port import CollectionSpec, Document
from tests.contract.explain_kit import DID, JANE, NOBODY, ExplainDesk, opened, rule, to

ANNA = PEOPLE[0]["id"]
TO_MANAGER = rule(rows=[{"operator": "exists", "destination": "manager"}])


class OfAnotherTime(Document):
    """Where a list of users is due."""

    users: str


@pytest.fixture
async def desk() -> AsyncIterator[ExplainDesk]:
    async with opened() as found:
        yield found


async def decided(desk: ExplainDesk, **asked: Any) -> str:
    """As for a call."""
    site, shelf = desk.platform.site.site(TENANT), desk.shelves.of(TENANT)
    first = shelf.rule_for(DID, None)
    assert site is not None
    assert first is not None
    question = DecideRoute.model_validate({"did": DID, "caller": JANE, **asked})
    case = Case(site=site, shelf=shelf, first=first, asked=question)
    decision = await desk.explainer.deciding.decided(case, Trace(lambda: 0.0))
    return to(decision.model_dump(mode="json"))


async def phones(desk: ExplainDesk, *agents: str) -> None:
    """Those alone, each of which is Anna's."""
    site = desk.platform.site.site(TENANT)
    url = dict(site.crm[0].parameters)["api_url"] if site is not None else ""
    text = site_file(crm_url=url, ami_port=1, within_s=10)
    before, _, after = text.partition("    agents:\n")
    lines = "".join(f'      - {{{one}, users: {{{CRM}: "{ANNA}"}}}}\n' for one in agents)
    await desk.apply(f"{before}    agents:\n{lines}    rules:{after.partition('    rules:')[2]}")
    await desk.put(**TO_MANAGER)


async def test_a_manager_is_rung_at_a_phone_of_the_pbx_that_asks(desk: ExplainDesk) -> None:
    await phones(desk, 'extension: "103", pbx: door', 'extension: "101", pbx: sandbox')

    assert await decided(desk, pbx="sandbox") == "extension:101: row_matched"
    assert await decided(desk, pbx="door") == "extension:103: row_matched"


async def test_the_phone_of_that_number_at_another_pbx_is_somebody_elses(
    desk: ExplainDesk,
) -> None:
    await phones(desk, 'extension: "101", pbx: door')

    assert (await decided(desk, pbx="sandbox")).startswith("extension:102: ")
    assert await decided(desk) == "extension:101: row_matched"


async def test_a_list_of_users_that_cannot_be_read_leaves_the_word_of_the_site(
    desk: ExplainDesk,
) -> None:
    await desk.put(**TO_MANAGER)
    odd = desk.platform.store.collection(CollectionSpec(name=USERS.name, model=OfAnotherTime))
    await odd.put(OfAnotherTime(key=f"{TENANT}/{CRM}", tenant=TENANT, users="everybody"))

    assert await decided(desk) == "extension:101: row_matched"


@pytest.mark.parametrize(
    "refusing", [Faults(no_scope=["Leads"]), Faults(fail_next=99, fail_status=400)]
)
async def test_who_could_not_be_asked_for_is_not_unknown(
    desk: ExplainDesk, refusing: Faults
) -> None:
    stranger = {"of": "contact.known", "operator": "=", "value": "no"}
    rows = [{"when": stranger, "destination": "hangup:busy"}]
    await desk.put(**rule(modules=["Contacts", "Leads"], rows=rows))
    desk.crm.faults = refusing

    assert await decided(desk, caller=NOBODY) == "extension:102: no_field"
    desk.crm.faults = Faults()
    assert await decided(desk, caller="+447700900998") == "hangup:busy: row_matched"
