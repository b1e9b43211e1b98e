"""A connector of one YAML file: what goes out, what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.crm.engine.connector import TemplateConnector
from shared.errors import NeedsReconnect, Rejected, Throttled, Unavailable
from shared.phone import parse
from shared.testing.cassettes import Cassette, ConnectionIn, Replay, entry_of, recorder

FOLDER = Path(__file__).parents[1] / "data" / "templates" / "own"
WITHIN = timedelta(seconds=5)
CALLER = parse("+442079460123", "GB")
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "talk_s": 60,
    "number": "+442079460123",
}


@asynccontextmanager
async def shop(*exchanges: dict[str, Any]) -> AsyncIterator[TemplateConnector]:
    """A Corner Shop that wants exactly these requests."""
    cassette = Cassette.model_validate({"about": "", "do": "check", "exchanges": list(exchanges)})
    replay = Replay(cassette)
    given = ConnectionIn(
        parameters={"url": "{server}"}, credentials={"api_key": "k-1"}, region="GB"
    )
    async with replay.running() as url, recorder(FOLDER) as made:
        account = made.account("corner-shop", given, url)
        yield made.connections.connector(account)
    assert not replay.faults
    assert not replay.left


def asked(phone: str, *people: dict[str, Any], **answer: Any) -> dict[str, Any]:
    return {
        "ask": "GET /people",
        "query": {"phone": phone},
        "headers": {"X-Api-Key": "k-1"},
        "answer": answer or {"json": {"people": list(people)}},
    }


ANN = {
    "id": 7,
    "first": "Ann",
    "last": "Lee",
    "shop": "Lee & Co",
    "seller": 3,
    "phone": "020 7946 0123",
}


async def found(connector: TemplateConnector, **more: Any) -> Any:
    return await connector.search(
        CALLER, modules=(), fields=more.get("fields", ()), card=True, within=WITHIN
    )


async def test_spellings_are_tried_in_turn_until_somebody_has_the_number() -> None:
    async with shop(asked("+442079460123"), asked("020 7946 0123", ANN)) as connector:
        (answer,) = await found(connector, fields=["shop"])
    (card,) = answer.contacts
    assert (card.contact_id, card.display_name, card.owner_id) == ("7", "Ann Lee", "3")
    assert card.fields == {"shop": "Lee & Co"}
    assert card.page_url is not None
    assert card.page_url.endswith("/people/7")


async def test_a_field_that_is_in_a_list_is_found_by_its_name() -> None:
    ann = {**ANN, "extras": [{"name": "Tier", "value": "GOLD"}, {"name": "Age", "value": 4}]}
    async with shop(asked("+442079460123", ann)) as connector:
        (answer,) = await found(connector, fields=["Tier", "shop", "None"])
    assert answer.contacts[0].fields == {"Tier": "GOLD", "shop": "Lee & Co"}


async def test_who_was_found_and_has_another_number_was_not_meant() -> None:
    other = {**ANN, "phone": "020 7946 0999"}
    async with shop(asked("+442079460123", other), asked("020 7946 0123")) as connector:
        (answer,) = await found(connector)
    assert answer.contacts == ()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status": 401, "json": {"message": "bad key"}}, NeedsReconnect),
        ({"status": 429, "headers": {"Retry-After": "7"}}, Throttled),
        ({"status": 503}, Unavailable),
        ({"status": 400, "json": {"message": "no such field"}}, Rejected),
        ({"status": 200, "text": "<html>maintenance</html>"}, Unavailable),
    ],
)
async def test_an_answer_that_is_none_is_told_as_what_it_is(
    answer: dict[str, Any], error: type[Exception]
) -> None:
    async with shop(asked("+442079460123", **answer)) as connector:
        with pytest.raises(error):
            await found(connector)


async def test_after_slow_down_nobody_asks_until_the_pause_is_over() -> None:
    slow = {"status": 429, "headers": {"Retry-After": "30"}}
    async with shop(asked("+442079460123", **slow)) as connector:
        with pytest.raises(Throttled) as first:
            await found(connector)
        with pytest.raises(Throttled):
            await found(connector)
    assert first.value.retry_after == timedelta(seconds=30)


async def test_a_list_of_users_is_read_page_by_page() -> None:
    def page(number: str, more: bool, *names: str) -> dict[str, Any]:
        sellers = [{"id": f"u-{name}", "name": name, "mail": f"{name}@x.example"} for name in names]
        body = {"sellers": sellers, "more": more}
        return {"ask": "GET /sellers", "query": {"page": number}, "answer": {"json": body}}

    async with shop(page("1", True, "Bo", "Cy"), page("2", False, "Di")) as connector:
        users = await connector.list_users(within=WITHIN)
    assert [user.display_name for user in users] == ["Bo", "Cy", "Di"]


async def test_an_entry_is_linked_to_the_contact_and_found_again() -> None:
    body = {"text": "inbound answered ref-0001", "seconds": 60, "person": "7"}
    call = {**CALL, "contact": {"module": "People", "contact_id": "7"}}
    old = [{"id": 1, "text": "another"}, {"id": 2, "text": body["text"]}]
    async with shop(
        {"ask": "POST /calls", "json": body, "answer": {"status": 201, "json": {"id": 2}}},
        {"ask": "GET /calls", "answer": {"json": {"calls": old}}},
    ) as connector:
        assert await connector.write_entry(entry_of(call), within=WITHIN) == "2"
        assert await connector.find_entry(entry_of(call), within=WITHIN) == "2"


async def test_a_number_from_outside_cannot_change_what_is_looked_for() -> None:
    call = {**CALL, "reference": '*" || text=="another'}
    old = [{"id": 1, "text": "another"}]
    async with shop({"ask": "GET /calls", "answer": {"json": {"calls": old}}}) as connector:
        assert await connector.find_entry(entry_of(call), within=WITHIN) is None
