"""Shipped templates on real CRMs: what they ask is understood, what is answered is read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.clock import ManualClock
from shared.contracts.contacts import ContactCard
from shared.crm.engine.connector import TemplateConnector
from shared.crm.port import NewContact
from shared.errors import NeedsReconnect, Rejected, Throttled
from shared.phone import parse
from shared.testing.cassettes import ConnectionIn, entry_of, recorder
from shared.testing.directus import COLLEAGUES, directus
from shared.testing.tryton import Tryton, tryton

# One server for all tests of a system: it makes its database first.
pytestmark = [pytest.mark.asyncio(loop_scope="module")]

WITHIN = timedelta(seconds=10)
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "talk_s": 60,
    "number": "+12025550143",
    "extension": "101",
    "agent_name": "Anna Agent",
}


@asynccontextmanager
async def connected(
    template: str, url: str, given: ConnectionIn, clock: ManualClock | None = None
) -> AsyncIterator[TemplateConnector]:
    async with recorder(clock=clock) as made:
        yield made.connections.connector(made.account(template, given, url))


async def found(
    crm: TemplateConnector, number: str, *, fields: tuple[str, ...] = ()
) -> list[ContactCard]:
    answers = await crm.search(
        parse(number, "US"), modules=(), fields=fields, card=True, within=WITHIN
    )
    return [card for answer in answers for card in answer.contacts]


async def made(crm: TemplateConnector, module: str, number: str, name: str) -> ContactCard:
    new = NewContact(module=module, number=parse(number, "US"), display_name=name)
    return await crm.create_contact(new, within=WITHIN)


async def written_once(crm: TemplateConnector, **about: Any) -> None:
    """A call is written, is found again by its reference, and another call is not."""
    entry_id = await crm.write_entry(entry_of({**CALL, **about}), within=WITHIN)
    assert await crm.find_entry(entry_of({**CALL, **about}), within=WITHIN) == entry_id
    other = entry_of({**CALL, **about, "reference": f"not-{about['reference']}"})
    assert await crm.find_entry(other, within=WITHIN) is None


# -- Directus, by the template of services of one's own ----------------------------------------


def of_directus(token: str, **more: str) -> ConnectionIn:
    parameters = {
        "search_url": "{server}/items/contacts?limit=5",
        "number_parameter": "filter[_or][0][phone][_eq]",
        "number_parameter_2": "filter[_or][1][mobile][_eq]",
        "spellings": "each",
        "fields_parameter": "-",
        "page_address": "{server}/admin/content/contacts/",
        "create_url": "{server}/items/contacts",
        "journal_url": "{server}/items/calls",
        "update_url": "{server}/items/calls",
        "call_parameter": "filter[call_id][_eq]",
        "users_url": "{server}/users?limit=-1&fields=id,first_name,last_name,email,status",
        **more,
    }
    credentials = {"header_value": f"Bearer {token}"}
    return ConnectionIn(parameters=parameters, credentials=credentials, region="US")


@dataclass(frozen=True, slots=True)
class Shop:
    url: str
    given: ConnectionIn
    crm: TemplateConnector


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Shop]:
    async with directus() as server:
        given = of_directus(server.token)
        async with connected("proprietary", server.url, given) as crm:
            yield Shop(server.url, given, crm)


async def test_directus_finds_a_number_as_it_was_typed(shop: Shop) -> None:
    (card,) = await found(shop.crm, "+12025550144", fields=("tier",))

    assert (card.contact_id, card.display_name, card.company) == (
        "1",
        "Jane Miller",
        "Blue Lamp Ltd",
    )
    assert card.phones == ("+12025550143", "202-555-0144")
    assert card.fields == {"tier": "gold"}
    assert card.page_url == f"{shop.url}/admin/content/contacts/1"


async def test_directus_finds_everybody_of_a_number_with_all_spellings_at_once(shop: Shop) -> None:
    given = of_directus(
        shop.given.credentials["header_value"].removeprefix("Bearer "),
        spellings="all",
        number_parameter="filter[_or][0][phone][_in]",
        number_parameter_2="filter[_or][1][mobile][_in]",
    )

    async with connected("proprietary", shop.url, given) as crm:
        cards = await found(crm, "12025550143")

    assert [card.display_name for card in cards] == ["Jane Miller", "Ann Example"]


async def test_directus_knows_nobody_of_a_strange_number(shop: Shop) -> None:
    await shop.crm.check()
    assert await found(shop.crm, "+12025550199") == []


async def test_directus_lists_its_users(shop: Shop) -> None:
    users = await shop.crm.list_users(within=WITHIN)

    ((first, last, email),) = COLLEAGUES
    assert (f"{first} {last}", email) in [(user.display_name, user.email) for user in users]


async def test_directus_takes_a_contact_that_is_found_then(shop: Shop) -> None:
    new = await made(shop.crm, "Contact", "+4930901820456", 'Jürgen "Joe" Öz')

    (card,) = await found(shop.crm, "+4930901820456")
    assert (card.contact_id, card.display_name) == (new.contact_id, 'Jürgen "Joe" Öz')


async def test_directus_has_a_call_once(shop: Shop) -> None:
    contact = {"module": "Contact", "contact_id": "1"}
    recording = "https://pbx.example/rec/1.wav?a=1&b=2"
    await written_once(shop.crm, reference="r-1", contact=contact, recording=recording)
    await written_once(shop.crm, reference="r-2", disposition="missed", talk_s=0)

    with pytest.raises(Rejected, match="RECORD_NOT_UNIQUE"):
        await shop.crm.write_entry(entry_of({**CALL, "reference": "r-1"}), within=WITHIN)


async def test_directus_has_what_a_call_learned_later(shop: Shop) -> None:
    call = {**CALL, "reference": "r-3"}
    entry_id = await shop.crm.write_entry(entry_of(call), within=WITHIN)
    later = entry_of({**call, "talk_s": 42, "recording": "https://pbx.example/rec/3.wav"})

    for _ in range(2):
        assert await shop.crm.update_entry(entry_id, later, within=WITHIN)

    assert await shop.crm.find_entry(later, within=WITHIN) == entry_id
    headers = {"Authorization": shop.given.credentials["header_value"]}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.get(f"{shop.url}/items/calls/{entry_id}") as answer,
    ):
        kept = (await answer.json())["data"]
    assert (kept["duration"], kept["recording_url"]) == (42, "https://pbx.example/rec/3.wav")

    # It says 403 of what is not there, too.
    with pytest.raises(NeedsReconnect, match="403"):
        await shop.crm.update_entry("4711", later, within=WITHIN)


async def test_directus_refuses_a_wrong_token(shop: Shop) -> None:
    async with connected("proprietary", shop.url, of_directus("no-token-of-it")) as crm:
        with pytest.raises(NeedsReconnect, match="INVALID_CREDENTIALS"):
            await crm.check()


async def test_directus_says_how_long_to_wait() -> None:
    async with (
        directus(requests_per_second=1) as server,
        connected("proprietary", server.url, of_directus(server.token)) as crm,
    ):
        with pytest.raises(Throttled) as refusal:
            await found(crm, "+12025550199")

    assert refusal.value.retry_after == timedelta(seconds=1)


# -- Tryton ------------------------------------------------------------------------------------


def of_tryton(server: Tryton, **credentials: str) -> ConnectionIn:
    return ConnectionIn(
        parameters={"base_url": "{server}", "database": server.database},
        credentials={"username": server.user, "password": server.password, **credentials},
        region="US",
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parties() -> AsyncIterator[Tryton]:
    async with tryton() as server:
        yield server


async def test_tryton_finds_everybody_of_a_number_however_typed(parties: Tryton) -> None:
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        jane, lamp = await found(crm, "(202) 555-0143", fields=("code",))

    assert (jane.display_name, lamp.display_name) == ("Jane Miller", "Blue Lamp Ltd")
    assert jane.phones == ("+1 202-555-0143", "+1 202-555-0144")
    assert (jane.email, jane.fields) == ("jane@example.org", {"code": "1"})


async def test_tryton_knows_nobody_of_a_strange_number(parties: Tryton) -> None:
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        await crm.check()
        assert await found(crm, "+12025550199") == []


async def test_tryton_lists_its_users(parties: Tryton) -> None:
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        users = await crm.list_users(within=WITHIN)

    assert [(user.display_name, user.email) for user in users] == [
        ("admin", "admin@example.org"),
        ("PBX", None),
        ("Anna Agent", "anna@example.org"),
    ]


async def test_tryton_takes_a_party_that_is_found_then(parties: Tryton) -> None:
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        new = await made(crm, "party.party", "+4930901820", 'Jürgen "Joe" Öz')
        (card,) = await found(crm, "+4930901820")

        with pytest.raises(Rejected, match="is not valid"):
            await made(crm, "party.party", "12", "Nobody")

    assert (card.contact_id, card.display_name) == (new.contact_id, 'Jürgen "Joe" Öz')


async def test_tryton_has_a_call_as_note_of_its_party(parties: Tryton) -> None:
    contact = {"module": "party.party", "contact_id": "1"}
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        await written_once(crm, reference="r-1", contact=contact)


async def test_tryton_tells_what_changed(parties: Tryton) -> None:
    clock = ManualClock()
    async with connected("tryton", parties.url, of_tryton(parties)) as crm:
        changes = await crm.poll_changes(clock.now() - timedelta(days=365 * 80), within=WITHIN)
        nothing = await crm.poll_changes(clock.now(), within=WITHIN)

    assert ("1", ("+1 202-555-0143",)) in [
        (change.contact_id, change.numbers) for change in changes
    ]
    assert nothing == []


async def test_tryton_is_asked_for_another_session_when_one_is_over(parties: Tryton) -> None:
    clock = ManualClock()
    async with connected("tryton", parties.url, of_tryton(parties), clock) as crm:
        await crm.check()
        await sign_out(parties, crm.requests.scope.own)
        await clock.advance(timedelta(minutes=10))

        assert len(await found(crm, "+12025550143")) == 2


async def sign_out(server: Tryton, session: Mapping[str, Any]) -> None:
    triple = f"{server.user}:{session['UserId']}:{session['SessionKey']}"
    headers = {"Authorization": f"Session {base64.b64encode(triple.encode()).decode()}"}
    call = {"id": 1, "method": "common.db.logout", "params": []}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"{server.url}/{server.database}/rpc/", json=call) as answer,
    ):
        answer.raise_for_status()


async def test_tryton_refuses_a_wrong_password(parties: Tryton) -> None:
    given = of_tryton(parties, password="another")
    async with connected("tryton", parties.url, given) as crm:
        with pytest.raises(NeedsReconnect, match="401"):
            await crm.check()
