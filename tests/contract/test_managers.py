"""Who is responsible and free, by the CRM's own word."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.clock import Clock, ManualClock
from shared.crm.port import FindsManagers, FreeManager, Priority
from shared.crm.registry import shipped
from shared.errors import OutOfTime, Rejected, Unavailable
from shared.phone import parse
from tests.contract.scripted_crm import Answers, Asked, connected

FOLDER = Path(__file__).parents[1] / "data" / "crm" / "retailcrm" / "managers"
SOON = timedelta(seconds=5)
CALLER = parse("+442079460123", "GB")
TEMPLATE: dict[str, Any] = {
    "schema": 2,
    "name": "shop",
    "title": "Shop",
    "quality": "declared",
    "sources": ["this test"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url", "https": False}],
    "phone_formats": ["e164", "national_digits", "digits"],
    "contacts": {"People": {"search": [{"request": {"url": "{{.url}}/p?q={{.Phone}}"}}]}},
    "check": {"url": "{{.url}}/me"},
}
PER_SPELLING = {
    "request": {"url": "{{.url}}/free", "query": {"phone": "{{.Phone}}", "number": "{{.Number}}"}},
    "user_id": "who.id,user",
    "extension": "who.phone",
}
ANN = {"who": {"id": 7, "phone": "101"}}


def test_retailcrm_is_asked_for_who_is_free_only() -> None:
    asked = shipped("retailcrm").manager
    assert asked is not None
    assert "ignoreStatus" not in asked.request.query


async def ask(
    answers: Answers,
    folder: Path,
    *,
    manager: Mapping[str, Any] | None = None,
    number: str = "+442079460123",
    within: timedelta = SOON,
    clock: Clock | None = None,
) -> tuple[FreeManager | None, list[Asked]]:
    template = {**TEMPLATE, "manager": {**PER_SPELLING, **(manager or {})}}
    async with connected(template, answers, folder, clock=clock) as made:
        found = await made.connector.find_manager(
            parse(number, "GB"), within=within, priority=Priority.ROUTE
        )
        return found, made.crm.asked


async def test_spellings_are_asked_in_turn_until_one_names_somebody(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        return ANN if asked.query["phone"] == "02079460123" else {"who": None}

    found, asked = await ask(answers, tmp_path)
    assert found == FreeManager(user_id="7", extension="101")
    assert [one.query["phone"] for one in asked] == ["+442079460123", "02079460123"]
    assert {one.query["number"] for one in asked} == {"+442079460123"}


async def test_formats_of_its_own_are_asked_in_place_of_the_templates(tmp_path: Path) -> None:
    found, asked = await ask(lambda _: {}, tmp_path, manager={"formats": ["nsn"]})
    assert found is None
    assert [one.query["phone"] for one in asked] == ["2079460123"]


async def test_all_spellings_go_in_one_request_where_it_takes_them(tmp_path: Path) -> None:
    request = {"url": "{{.url}}/free", "method": "POST", "json": {"any": "{{.Phones}}"}}
    found, asked = await ask(lambda _: ANN, tmp_path, manager={"request": request})
    assert found == FreeManager(user_id="7", extension="101")
    assert [one.json for one in asked] == [
        {"any": ["+442079460123", "02079460123", "442079460123"]}
    ]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"user": "boss"}, FreeManager(user_id="boss")),
        ({"who": {"phone": 101}}, FreeManager(extension="101")),
        ({"who": {"id": "7", "phone": "sip:ann@evil"}}, FreeManager(user_id="7")),
        ({"who": {"id": "7", "phone": "1" * 11}}, FreeManager(user_id="7")),
        ({"who": {"id": "x" * 201, "phone": "101"}}, FreeManager(extension="101")),
        ({"who": {"id": " ", "phone": ""}}, None),
        ({"who": {"id": True, "phone": False}}, None),
        ({"who": {"id": {"no": "id"}, "phone": ["101"]}}, None),
        ({"who": []}, None),
        ([], None),
    ],
)
async def test_only_what_can_be_one_is_an_id_or_an_extension(
    answer: Any, found: FreeManager | None, tmp_path: Path
) -> None:
    assert (await ask(lambda _: answer, tmp_path))[0] == found


async def test_a_404_says_that_nobody_is_responsible(tmp_path: Path) -> None:
    found, asked = await ask(lambda _: web.Response(status=404), tmp_path)
    assert found is None
    assert len(asked) == 3


@pytest.mark.parametrize(
    "text",
    ["", '"nobody"', "<html>"],
    ids=["nothing at all", "no structure", "a proxy's page"],
)
async def test_what_is_no_answer_is_not_nobody(text: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nothing at who\.id|something that is no JSON"):
        await ask(lambda _: web.Response(text=text), tmp_path)


async def test_an_answer_without_what_each_has_is_a_fault(tmp_path: Path) -> None:
    manager = {"answered": "ok"}
    assert (await ask(lambda _: {"ok": False}, tmp_path, manager=manager))[0] is None
    with pytest.raises(Unavailable, match="nothing at ok"):
        await ask(lambda _: {"who": None}, tmp_path, manager=manager)


async def test_a_caller_without_a_number_is_nobodys(tmp_path: Path) -> None:
    for number in ("anonymous", ""):
        assert await ask(lambda _: ANN, tmp_path, number=number) == (None, [])


async def test_who_waits_for_a_manager_waits_no_longer_than_was_said(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def never(_: Asked) -> Any:
        await clock.sleep(timedelta(days=1))

    with pytest.raises(OutOfTime):
        await ask(never, tmp_path, within=timedelta(milliseconds=200))


async def test_a_crm_without_the_request_says_so(tmp_path: Path) -> None:
    async with connected(TEMPLATE, lambda _: ANN, tmp_path) as made:
        port: FindsManagers = made.connector
        assert not port.has_manager
        with pytest.raises(Rejected, match="no `manager`"):
            await port.find_manager(CALLER, within=SOON)
        assert not made.crm.asked
