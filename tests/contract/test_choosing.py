"""An agent says who of several a caller is: screens, the call's record and its entry follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.calls import CallAnswered, CallRinging, Party
from shared.contracts.contacts import ContactCard
from shared.http.auth import Scope
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened
from tests.contract.sessions_kit import Got, scripted
from tests.contract.streams_kit import listening

JANE = "+447700900123"
CALL, CHOICE = "/v1/calls/c1", "/v1/calls/c1/contact"
FIRST, SECOND = ("7", "8")


class Desk:
    """A call from a number that two records have, ringing at 101; the agent is to choose."""

    def __init__(self, api: CrmApi) -> None:
        self.api = api

    async def rings(self) -> None:
        publisher = self.api.publisher("ingest")
        call = a_call(caller=Party(number=JANE))
        ringing = CallRinging(
            call_id="c1",
            pbx="main",
            leg_id="1",
            callee=Party(extension="101"),
            caller=Party(number=JANE),
        )
        for event in (call, ringing):
            await publisher.publish(event, tenant="acme")

        async def is_known() -> bool:
            return len((await self.record()).get("candidates", ())) == 2

        await eventually(is_known)

    async def record(self) -> dict[str, Any]:
        status, found = await self.api.send("GET", CALL)
        return found if status == 200 else {}

    async def choose(
        self, contact_id: str, *, key: str | None = None, path: str = CHOICE, **changes: str
    ) -> tuple[int, Any]:
        choice = {"connection": "shop", "module": "People", "contact_id": contact_id, **changes}
        return await self.api.send("POST", path, key=key, json=choice)

    async def becomes(self, contact_id: str) -> None:
        async def is_so() -> bool:
            return bool((await self.record()).get("contact", {}).get("contact_id") == contact_id)

        await eventually(is_so)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    def answer(_: Got) -> Any:
        names = {FIRST: "Jane Doe", SECOND: "John Doe"}
        return {"people": [{"id": i, "phone": JANE, "name": name} for i, name in names.items()]}

    async with scripted(answer) as crm, opened(tmp_path) as api:
        api.template("shop")
        connection = {"name": "shop", "template": "shop", "parameters": {"url": crm.url}}
        await api.apply(
            {**connection, "choose": "ask"}, agents=[{"extension": "101"}, {"extension": "102"}]
        )
        found = Desk(api)
        await found.rings()
        yield found


async def test_the_call_has_no_contact_until_the_agent_has_chosen(desk: Desk) -> None:
    record = await desk.record()
    assert "contact" not in record
    assert [card["contact_id"] for card in record["candidates"]] == [FIRST, SECOND]

    status, receipt = await desk.choose(SECOND)
    assert (status, receipt["contact"]["display_name"]) == (202, "John Doe")
    await desk.becomes(SECOND)
    record = await desk.record()
    assert (record["chosen_by"], len(record["candidates"])) == ("k0", 2)
    assert await desk.api.audited() == [("k0", "choose_contact", "People 8 of shop for call c1")]


async def test_an_agent_may_think_again(desk: Desk) -> None:
    for contact_id in (FIRST, SECOND, FIRST):
        assert (await desk.choose(contact_id))[0] == 202
        await desk.becomes(contact_id)


async def test_screens_show_all_and_then_the_one(desk: Desk) -> None:
    async with listening(desk.api.session, "/v1/agents/101/events", key=desk.api.key) as heard:
        for event in await heard.until("ringing", "pop"):
            assert event["ambiguous"] is True
            assert [card["contact_id"] for card in event["candidates"]] == [FIRST, SECOND]
        await desk.choose(SECOND)
        for event in await heard.until("contact", "pop"):
            assert event["contact"]["contact_id"] == SECOND
            assert "ambiguous" not in event


async def test_one_who_is_no_candidate_is_not_chosen(desk: Desk) -> None:
    assert (await desk.choose("9"))[0] == 404
    assert (await desk.choose(FIRST, module="Leads"))[0] == 404
    assert (await desk.choose(FIRST, connection="other"))[0] == 404
    assert (await desk.choose(FIRST, path="/v1/calls/c2/contact"))[0] == 404
    assert (await desk.choose(""))[0] == 422
    assert await desk.api.audited() == []


async def test_a_key_of_another_phone_chooses_nothing(desk: Desk) -> None:
    other = await desk.api.a_key(Scope.CALLS_WRITE, extension="102")
    status, problem = await desk.choose(FIRST, key=other)
    assert (status, problem["code"]) == (403, "forbidden")
    own = await desk.api.a_key(Scope.CALLS_WRITE, extension="101")
    assert (await desk.choose(FIRST, key=own))[0] == 202


async def test_who_only_sees_pops_chooses_nothing(desk: Desk) -> None:
    key = await desk.api.a_key(*(set(Scope) - {Scope.CALLS_WRITE}))
    assert (await desk.choose(FIRST, key=key))[0] == 403


async def test_another_tenants_call_is_not_there(desk: Desk) -> None:
    token = await desk.api.keys.issue(tenant="globex", name="k", scopes=tuple(Scope))
    assert (await desk.choose(FIRST, key=token.get_secret_value()))[0] == 404


async def test_the_choice_outlives_what_is_found_out_later(desk: Desk) -> None:
    await desk.choose(SECOND)
    await desk.becomes(SECOND)
    # Delivered again: the lookup says once more that it may be either.
    publisher = desk.api.publisher("ingest")
    answered = CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"))
    await publisher.publish(a_call(caller=Party(number=JANE)), tenant="acme")
    await publisher.publish(answered, tenant="acme")

    async def is_answered() -> bool:
        return "answered_at" in await desk.record()

    await eventually(is_answered)
    found = ContactCard.model_validate((await desk.record())["contact"])
    assert found.contact_id == SECOND
