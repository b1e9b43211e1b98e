"""
The journal of a site whose CRM is retailCRM: from events of calls to uploads in the documented form,
every ten minutes or at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from services.journal.entries import ENTRIES, EntryDocument
from shared.clock import ManualClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Direction,
    EntryState,
    Party,
    RecordingReady,
)
from shared.contracts.envelope import wrap
from shared.ids import call_id, reference
from shared.sandbox.site import PBX, TENANT
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.storage.port import Find, every
from shared.testing.builders import HERE
from tests.contract.journal_kit import SECOND, Journal, a_journal
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm

SITE = """\
version: 1
tenants:
  - tenant: demo
    title: Demo
    region: RU
    zone: Europe/Moscow
    pbx: [{{name: sandbox, kind: generic}}]
    crm:
      - name: shop
        template: retailcrm
        parameters: {{api_url: "{url}", external_phones: "74999999999,74998888888"}}
        credentials: {{api_key: {key}}}
        journal: {journal}
    agents:
      - {{extension: "101", name: Anna, users: {{shop: "24"}}}}
      - {{extension: "109", name: Carl}}
"""
IN_TEN_MINUTES = "{after: 3s, upload: {every: 10m}}"
AT_ONCE = "{after: 0s}"
TEN_MINUTES = timedelta(minutes=10)


@dataclass
class Shop:
    crm: RetailCrm
    journal: Journal

    async def apply(self, policy: str) -> None:
        text = SITE.format(url=self.crm.url, key=KEY, journal=policy)
        sealing = Sealing(self.journal.box, {}, Path())
        (site,) = read_site_file(text, source="test", sealing=sealing, around=HERE)
        await self.journal.apply(self.crm.url)
        await self.journal.change_site(
            region=site.region, zone=site.zone, pbx=site.pbx, crm=site.crm, agents=site.agents
        )

    async def call(
        self, number: int, extension: str = "101", *, dialled: str = "74999999999"
    ) -> str:
        """One that took place a minute ago, and was answered for 40 s; its ``externalId``."""
        call = call_id(TENANT, PBX, f"retail-{number}")
        began = self.journal.clock.now() - timedelta(minutes=1)
        events = (
            (
                CallStarted(
                    call_id=call,
                    pbx_call_id=f"retail-{number}",
                    pbx=PBX,
                    direction=Direction.INBOUND,
                    caller=Party(number=f"7922911{number % 5:04}"),
                    dialled=dialled,
                ),
                0,
            ),
            (
                CallAnswered(call_id=call, pbx=PBX, leg_id="1", callee=Party(extension=extension)),
                20,
            ),
            (CallEnded(call_id=call, pbx=PBX), 60),
        )
        for event, after in events:
            at = began + timedelta(seconds=after)
            await self.journal.hear_message(
                wrap(event, source="test", occurred_at=at, tenant=TENANT)
            )
        return call

    async def calls(self, count: int) -> list[str]:
        return [await self.call(number) for number in range(count)]

    async def entries(self) -> list[EntryDocument]:
        return [entry async for entry in every(self.journal.store.collection(ENTRIES), Find())]

    async def until_all(self, *states: EntryState) -> list[EntryDocument]:
        async def all_are() -> bool:
            return all(e.state in states and e.due_at is None for e in await self.entries())

        await self.journal.until_true(all_are)
        return await self.entries()


@pytest.fixture
async def shop(clock: ManualClock) -> AsyncIterator[Shop]:
    async with retail_crm() as crm, a_journal(clock=clock) as journal:
        yield Shop(crm, journal)


async def test_calls_of_ten_minutes_go_at_ten_past_in_batches_of_fifty(shop: Shop) -> None:
    await shop.apply(IN_TEN_MINUTES)
    begins = shop.journal.clock.now()
    async with shop.journal.writing():
        references = []
        for number in range(120):
            references.append(await shop.call(number))
            await shop.journal.pass_time(timedelta(seconds=4), step=2 * SECOND)
        await shop.journal.pass_time(begins + TEN_MINUTES - shop.journal.clock.now() - SECOND)
        assert shop.crm.requests == 0

        await shop.until_all(EntryState.SENT)

    assert sorted(shop.crm.batches) == [20, 50, 50]
    assert shop.crm.requests == 3
    assert sorted(shop.crm.calls) == sorted(references)
    assert shop.crm.calls[references[0]] == {
        # A minute before the account's midnight plus three hours: Moscow.
        "date": "2100-01-01 02:59:00",
        "type": "in",
        "phone": "+79229110000",
        "userId": 24,
        "result": "answered",
        "duration": 40,
        "durationWaiting": 0,
        "externalId": references[0],
        "externalPhone": "+74999999999",
    }


async def test_one_call_that_is_refused_is_dead_and_the_others_are_there(shop: Shop) -> None:
    await shop.apply(IN_TEN_MINUTES)
    shop.crm.unknown_codes = {"109"}
    references = await shop.calls(49)
    bad = await shop.call(49, extension="109")
    async with shop.journal.writing():
        found = await shop.until_all(EntryState.SENT, EntryState.DEAD)

    assert sorted(shop.crm.calls) == sorted(references)
    assert 50 not in shop.crm.batches
    (dead,) = [entry for entry in found if entry.state is EntryState.DEAD]
    assert dead.long_reference == bad
    assert "Errors in the entity format" in (dead.reason or "")
    assert dead.exchange is not None
    assert dead.exchange.status == 400
    assert "nobody has this code" in dead.exchange.answer
    assert bad in dead.exchange.body
    assert dead.exchange.headers["X-API-KEY"] == "•••"
    assert KEY not in json.dumps([entry.model_dump(mode="json") for entry in found])


async def test_a_batch_whose_answer_was_lost_is_sent_again_and_doubles_nothing(
    shop: Shop,
) -> None:
    await shop.apply(IN_TEN_MINUTES)
    references = await shop.calls(50)
    shop.crm.lose_answers = 1
    async with shop.journal.writing():
        found = await shop.until_all(EntryState.SENT)

    assert shop.crm.batches == [50, 50]
    assert sorted(shop.crm.calls) == sorted(references)
    assert {entry.attempts for entry in found} == {2}


async def test_at_once_a_call_is_a_request(shop: Shop) -> None:
    await shop.apply(AT_ONCE)
    async with shop.journal.writing():
        for number in range(3):
            await shop.call(number)
            await shop.until_all(EntryState.SENT)

    assert shop.crm.batches == [1, 1, 1]
    assert len(shop.crm.calls) == 3


@pytest.mark.parametrize("dialled", ["84998888888", "4998888888", "8 (499) 888-88-88"])
async def test_a_number_of_another_shop_is_known_however_the_pbx_writes_it(
    shop: Shop, dialled: str
) -> None:
    await shop.apply(AT_ONCE)
    async with shop.journal.writing():
        call = await shop.call(1, dialled=dialled)
        await shop.until_all(EntryState.SENT)

    assert shop.crm.calls[call]["externalPhone"] == "+74998888888"


async def test_a_call_of_an_older_version_keeps_the_ten_characters_it_is_known_by(
    shop: Shop,
) -> None:
    """What is sent again of it, and what another connection to the same account sends of it."""
    await shop.apply(AT_ONCE)
    shop.crm.lose_answers = 1
    call = await shop.call(1)
    (entry,) = await shop.entries()
    older = entry.model_dump(exclude={"named_in_full"})
    await shop.journal.entries.move(EntryDocument.model_validate(older))
    async with shop.journal.writing():
        await shop.until_all(EntryState.SENT)
        (crm,) = shop.journal.site.current[TENANT].crm
        await shop.journal.change_site(crm=(crm, crm.model_copy(update={"name": "shop2"})))
        await shop.journal.hear_message(
            wrap(
                RecordingReady(call_id=call, pbx=PBX, recording="https://pbx.example/1.wav"),
                source="test",
                occurred_at=shop.journal.clock.now(),
                tenant=TENANT,
            )
        )
        found = await shop.until_all(EntryState.SENT)

    assert [entry.connection for entry in found] == ["shop", "shop2"]
    assert shop.crm.batches == [1, 1, 1]
    assert list(shop.crm.calls) == [reference(call)]


async def test_each_agents_part_of_a_call_is_known_by_an_id_of_its_own(shop: Shop) -> None:
    await shop.apply("{after: 0s, per: agent}")
    async with shop.journal.writing():
        call = await shop.call(1)
        (entry,) = await shop.until_all(EntryState.SENT)

    assert list(shop.crm.calls) == [f"{call}-{entry.reference}"]


async def test_over_the_limit_it_is_left_alone_for_a_while(shop: Shop) -> None:
    await shop.apply(AT_ONCE)
    shop.crm.over_limit = 1
    await shop.calls(50)
    async with shop.journal.writing():
        await shop.journal.until_true(lambda: _is(shop.crm.requests > 0))
        for _ in range(50):
            await asyncio.sleep(0.002)  # noqa: TID251  what it must not do takes real time
        assert shop.crm.calls == {}

        await shop.until_all(EntryState.SENT)
    assert shop.crm.batches == [50]
    assert shop.crm.requests == 2


async def _is(true: bool) -> bool:
    return true
