"""A retailCRM as the front of the mesh: its module registered, its users clicking, its cards shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.runtime.platform import Choice
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.pbx import is_end
from shared.sandbox.recording import Cast
from shared.sandbox.site import TENANT
from shared.site.documents import SITES
from shared.site.models import Site
from shared.testing.waiting import eventually
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm
from tests.scenario.conftest import WholeMesh, opened

PUBLIC_URL = "https://mesh.example"
CUSTOMER, GOLD = "+447700900123", "447700900145"


@pytest.fixture
def choice(choice: Choice) -> Choice:
    return replace(choice, mesh=choice.mesh.model_copy(update={"public_url": PUBLIC_URL}))


class Office:
    """The mesh and a retailCRM that its two agents work in."""

    def __init__(self, mesh: WholeMesh, retail: RetailCrm) -> None:
        self.mesh = mesh
        self.retail = retail

    async def connects(self, *, registered: bool = True) -> None:
        """The site gets the connection ``retail``; 24 sits at 101 and 25 at 102."""
        platform = self.mesh.platform
        sites = platform.store.collection(SITES)
        document = await sites.get(TENANT)
        site: dict[str, Any] = document.site.model_dump()
        site["crm"] = [one for one in site["crm"] if one["name"] != "retail"] + [
            {
                "name": "retail",
                "template": "retailcrm",
                "parameters": {"api_url": self.retail.url},
                "credentials": {"api_key": platform.secrets.seal(SecretStr(KEY))},
                "journal": {"directions": []},
                "telephony": {"registered": registered},
            }
        ]
        for agent, user in zip(site["agents"], ("24", "25"), strict=True):
            agent["users"] = {**agent["users"], "retail": user}
        site["dialing"] = {"numbers": {"shops": {"shop1": "+442079460000"}}}
        changed = document.model_copy(
            update={
                "site": Site.model_validate(site),
                "changed_at": platform.clock.now() + timedelta(milliseconds=1),
            }
        )
        await sites.replace(changed)

    async def is_registered(self) -> None:
        await eventually(lambda: self.retail.telephony is not None)
        telephony = self.retail.telephony
        assert telephony is not None
        for name in ("makeCallUrl", "changeUserStatusUrl"):
            # As a proxy at the public address would lead it.
            assert telephony[name].startswith(PUBLIC_URL)
            telephony[name] = telephony[name].replace(PUBLIC_URL, self.mesh.url)

    def cards(self, user_id: int) -> list[str]:
        return [card["type"] for card in self.retail.shown_to(user_id)]

    def hold_until_shown(
        self, card: str, *user_ids: int, before: Callable[[AmiMessage], bool] = is_end
    ) -> None:
        """Each of these users sees *card* first: of a call that is over or taken none is shown."""

        def all_see_it() -> bool:
            return all(card in self.cards(one) for one in user_ids)

        self.mesh.pbx.hold(lambda: eventually(all_see_it), before=before)

    def hold_until_answered(self, count: int) -> None:
        """Nobody hangs up before who tells the CRM how it ended knows of so many answers."""
        answered = ("lookup", "calls.answered.v1", "done")
        metrics = self.mesh.platform.metrics

        def are_known() -> bool:
            return metrics.value("callmesh_deliveries_total", *answered) >= count

        self.mesh.pbx.hold(lambda: eventually(are_known))


def picks_up(message: AmiMessage) -> bool:
    """Whether an agent's phone answers."""
    is_phone = message.get("Channel").startswith("PJSIP/10")
    return is_phone and message.event == "Newstate" and message.get("ChannelStateDesc") == "Up"


@asynccontextmanager
async def an_office(choice: Choice, crm: SandboxCrm) -> AsyncIterator[Office]:
    async with retail_crm() as retail, opened(choice, crm) as mesh:
        retail.add_user(25)
        yield Office(mesh, retail)
        assert mesh.state.failed is None


async def test_a_click_rings_the_agent_and_the_customer_and_shows_the_call(
    choice: Choice, crm: SandboxCrm
) -> None:
    async with an_office(choice, crm) as office:
        await office.connects()
        await office.is_registered()
        assert office.retail.codes() == {"101": 24, "102": 25}

        office.hold_until_shown("out", 24)
        office.hold_until_answered(2)  # her own phone and the customer's
        # A double click: the second comes while the first waits for the PBX's word.
        answers = await asyncio.gather(
            *(office.retail.click(24, CUSTOMER, shop="shop1") for _ in range(2))
        )
        assert [answer.status for answer in answers] == [200, 200], answers[0].body
        await eventually(lambda: office.cards(24)[-1:] == ["hangup"])
        assert office.cards(24) == ["out", "hangup"]
        out, hangup = office.retail.shown_to(24)
        assert out["phone"] == CUSTOMER
        assert hangup["hangupStatus"] == "answered"
        assert office.cards(25) == []
        _, found = await office.mesh.get("/v1/dials")
        (dial,) = found["dials"]
        assert (dial["requested_by"], dial["shop"]) == ("crm retail", "shop1")


async def test_a_queue_rings_and_both_agents_see_the_card(choice: Choice, crm: SandboxCrm) -> None:
    async with an_office(choice, crm) as office:
        await office.connects()
        await office.is_registered()
        office.hold_until_shown("in", 24, 25, before=picks_up)
        office.hold_until_answered(1)
        # The customer is GOLD: the queue rings at both.
        cast = Cast(started_at=office.mesh.platform.clock.now(), serial=1, caller=GOLD)
        await office.mesh.pbx.play("queue_ringall", cast)
        for user in (24, 25):
            await eventually(lambda: office.cards(user)[-1:] == ["hangup"])  # noqa: B023  asked at once
            assert office.cards(user) == ["in", "hangup"]
        ends = {user: office.retail.shown_to(user)[-1]["hangupStatus"] for user in (24, 25)}
        assert ends == {24: "no answered", 25: "answered"}


async def test_a_module_that_is_not_wanted_any_more_is_switched_off(
    choice: Choice, crm: SandboxCrm
) -> None:
    async with an_office(choice, crm) as office:
        await office.connects()
        await office.is_registered()
        await office.connects(registered=False)
        status, state = await office.mesh.get("/v1/crm/retail/telephony")
        assert (status, state["possible"]) == (200, True)
        await eventually(lambda: not office.retail.modules["callmesh"]["active"])
