"""That an entry is not there has it written again: only a list that was read to its end says it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import Unavailable
from shared.testing.cassettes import entry_of
from tests.contract.scripted_crm import Asked, connected

SHOP = yaml.safe_load(
    (Path(__file__).parents[1] / "data/templates/own/corner-shop.yaml").read_text()
)
WITHIN = timedelta(seconds=5)
CALL = entry_of(
    {
        "direction": "inbound",
        "disposition": "missed",
        "started_at": "2026-11-21T10:00:00+00:00",
        "ended_at": "2026-11-21T10:01:05+00:00",
        "number": "+442079460123",
    }
)
OTHER = {"id": 1, "text": "another"}
THERE = {"id": 7, "text": f"inbound missed {CALL.reference}"}


async def found(pages: list[Any], folder: Path) -> str | None:
    """The entry's id, where the CRM's list has *pages* and two of them are read."""

    def answers(asked: Asked) -> Any:
        place = int(asked.query.get("cursor", "0"))
        return pages[place]

    find = {
        "request": {"url": "{{.url}}/calls", "query": {"cursor": "{{.Cursor}}"}},
        "pages": {"kind": "cursor", "size": 1, "cursor": "next", "most": 2},
        "entry_id": 'calls.#(text%"*{{.Reference}}").id',
    }
    shop = {**SHOP, "name": "shop", "journal": {**SHOP["journal"], "find": find}}
    given = {"credentials": {"api_key": "k-1"}}
    async with connected(shop, answers, folder, given=given) as made:
        return await made.connector.find_entry(CALL, within=WITHIN)


@pytest.mark.parametrize(
    ("pages", "entry_id"),
    [
        ([{"calls": [OTHER, THERE], "next": "1"}], "7"),
        ([{"calls": [OTHER], "next": "1"}, {"calls": [THERE], "next": "2"}], "7"),
        ([{"calls": [OTHER], "next": "1"}, {"calls": [OTHER], "next": None}], None),
        ([{"calls": []}], None),
    ],
    ids=["first", "last", "read-to-the-end", "empty"],
)
async def test_a_list_that_was_read_to_its_end_says_whether_it_is_there(
    pages: list[Any], entry_id: str | None, tmp_path: Path
) -> None:
    assert await found(pages, tmp_path) == entry_id


async def test_of_a_list_that_goes_on_nobody_knows(tmp_path: Path) -> None:
    pages = [{"calls": [OTHER], "next": "1"}, {"calls": [OTHER], "next": "2"}]
    with pytest.raises(Unavailable, match="more than the 2 pages"):
        await found(pages, tmp_path)


@pytest.mark.parametrize("answer", [{}, {"error": "later"}], ids=str)
async def test_a_page_without_its_list_says_nothing(answer: Any, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing at calls"):
        await found([answer], tmp_path)
    with pytest.raises(Unavailable, match="nothing at calls"):
        await found([{"calls": [OTHER], "next": "1"}, answer], tmp_path)
