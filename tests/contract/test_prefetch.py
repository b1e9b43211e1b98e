"""What is asked at the first ring, so that a rule that is asked later need not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.routing.prefetch import MOST_ASKED, Prefetch
from shared.contracts.calls import CallStarted, Direction, Party
from shared.contracts.envelope import Message, wrap
from shared.errors import Unavailable
from shared.sandbox.site import PBX, TENANT
from shared.testing.builders import a_call
from tests.contract.explain_kit import DID, ExplainDesk, opened, rule
from tests.contract.lookup_kit import Desk as Paper

MINUTE = timedelta(minutes=1)


class Desk:
    def __init__(self, mesh: ExplainDesk) -> None:
        self.mesh = mesh
        self.paper = Paper(mesh.platform.store, mesh.clock)
        self.prefetch = Prefetch(self.paper.finder(), mesh.platform.site, mesh.shelves, mesh.clock)

    async def asked(self, *, ago: timedelta = timedelta(0), **call: Any) -> int:
        """How many questions a call's first ring makes."""
        before = len(self.paper.crm.searches)
        await self.prefetch.at_first_ring(self._ring(ago, call))
        return len(self.paper.crm.searches) - before

    def _ring(self, ago: timedelta, call: dict[str, Any]) -> Message[CallStarted]:
        body = a_call(**{"pbx": "door", "dialled": DID, **call})
        at = self.mesh.clock.now() - ago
        return wrap(body, source="test", occurred_at=at, tenant=TENANT)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with opened() as mesh:
        found = Desk(mesh)
        yield found
        await found.paper.close()


async def menu(desk: Desk, name: str, field: str, **more: Any) -> None:
    known = rule(name=name, ivrs=[name], field=field, default="queue:main")
    await desk.mesh.put(**{**known, "dids": [], **more})


async def test_the_caller_is_asked_for_and_once(desk: Desk) -> None:
    assert await desk.asked() == 1
    assert await desk.asked() == 0, "it is known by now"


@pytest.mark.parametrize(
    "call",
    [
        {"direction": Direction.OUTBOUND},
        {"direction": Direction.INTERNAL, "caller": Party(extension="101")},
        {"caller": Party(number="anonymous")},
        {"caller": Party(extension="101")},
        {"dialled": None},
        {"dialled": "4930123"},
        # An Asterisk asks in the very moment of the ring.
        {"pbx": PBX},
    ],
)
async def test_where_nothing_would_come_of_it_nobody_is_asked(
    desk: Desk, call: dict[str, Any]
) -> None:
    assert await desk.asked(**call) == 0


@pytest.mark.parametrize("ago", [MINUTE, -MINUTE])
async def test_after_an_outage_calls_that_are_long_routed_ask_nothing(
    desk: Desk, ago: timedelta
) -> None:
    """Nor those of a PBX whose clock is ahead, of which nobody can tell."""
    assert await desk.asked(ago=ago) == 0


async def test_menus_of_the_number_and_of_any_are_asked_for(desk: Desk) -> None:
    await menu(desk, "support", "Level")
    await menu(desk, "sales", "Stage", dids=[DID])
    await menu(desk, "elsewhere", "Branch", dids=["442079460999"])

    assert await desk.asked(pbx=PBX) == 2


async def test_many_menus_do_not_use_up_the_crm_for_one_call(desk: Desk) -> None:
    for number in range(MOST_ASKED + 3):
        await menu(desk, f"menu{number}", f"Field{number}")

    assert await desk.asked() == MOST_ASKED


async def test_a_crm_that_is_away_is_the_decisions_to_say(desk: Desk) -> None:
    desk.paper.crm.failure = Unavailable("down")

    assert await desk.asked() == 1
