"""A connector against a CRM that misbehaves: each fault is told as what it is, and then it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.contracts.contacts import ContactCard
from shared.crm.connections import Account
from shared.crm.engine.connector import TemplateConnector
from shared.errors import MeshError, NeedsReconnect, Rejected, Throttled, Unavailable
from shared.phone import parse
from shared.sandbox.crm import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Faults, SandboxCrm
from shared.testing.cassettes import ConnectionIn, Recorder, entry_of, recorder

GRACE = parse("+447700900145", "GB")
WITHIN = timedelta(seconds=2)
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "number": GRACE.key,
}


@pytest.fixture
async def crm(clock: ManualClock) -> AsyncIterator[SandboxCrm]:
    made = SandboxCrm(clock=clock)
    yield made
    await made.stop()


@pytest.fixture
async def made(clock: ManualClock) -> AsyncIterator[Recorder]:
    async with recorder(clock=clock) as recording:
        yield recording


@pytest.fixture
async def account(crm: SandboxCrm, made: Recorder) -> Account:
    url = f"http://127.0.0.1:{await crm.start()}"
    given = ConnectionIn(
        parameters={"accounts_url": url, "api_url": url, "web_url": "https://crm.example"},
        credentials={
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
        },
        region="GB",
    )
    return made.account("zoho", given, url)


@pytest.fixture
def connector(made: Recorder, account: Account) -> TemplateConnector:
    return made.connections.connector(account)


async def grace(connector: TemplateConnector, within: timedelta = WITHIN) -> list[ContactCard]:
    answers = await connector.search(
        GRACE, modules=("Contacts",), fields=(), card=True, within=within
    )
    return [card for answer in answers for card in answer.contacts]


@pytest.mark.parametrize(
    ("faults", "error", "words"),
    [
        ({"fail_next": 1, "fail_status": 429, "retry_after_s": 9}, Throttled, "slow down"),
        ({"fail_next": 1, "fail_status": 429}, Throttled, "slow down"),
        ({"fail_next": 1, "fail_status": 503, "retry_after_s": 9}, Unavailable, "503"),
        ({"fail_next": 1, "fail_status": 500}, Unavailable, "500 INTERNAL_ERROR"),
        ({"fail_next": 1, "fail_status": 403}, Rejected, "403"),
        ({"broken_json": 1}, Unavailable, "no JSON"),
        ({"html_page": 1}, Unavailable, "no JSON"),
        ({"huge_answer": 1}, Rejected, "more than"),
        ({"grant_revoked": True}, NeedsReconnect, "invalid_code"),
        ({"fail_tokens": 1, "fail_status": 500}, Unavailable, "500"),
        ({"no_scope": ["Contacts"]}, NeedsReconnect, "scope"),
    ],
)
async def test_a_fault_is_told_as_what_it_is_and_passes(
    crm: SandboxCrm,
    connector: TemplateConnector,
    clock: ManualClock,
    faults: dict[str, Any],
    error: type[MeshError],
    words: str,
) -> None:
    crm.faults = Faults(**faults)
    with pytest.raises(error, match=words):
        await grace(connector)
    crm.faults = Faults()
    await clock.advance(timedelta(hours=1))
    assert [card.display_name for card in await grace(connector)] == ["Grace Gold"]


async def test_an_error_with_status_200_is_no_answer(
    crm: SandboxCrm, connector: TemplateConnector
) -> None:
    crm.faults = Faults(error_in_200=1)
    with pytest.raises((Rejected, Unavailable)):
        await grace(connector)
    assert len(await grace(connector)) == 1


async def test_a_204_is_nobody(connector: TemplateConnector) -> None:
    (answer,) = await connector.search(
        parse("+447700900999", "GB"), modules=("Contacts",), fields=(), card=True, within=WITHIN
    )
    assert answer.contacts == ()


async def test_a_body_that_does_not_come_is_waited_for_as_long_as_was_said(
    crm: SandboxCrm, connector: TemplateConnector, clock: ManualClock
) -> None:
    await grace(connector)
    crm.faults = Faults(slow_body_ms=60_000)
    with pytest.raises(Unavailable, match=r"0\.2 s"):
        await grace(connector, timedelta(milliseconds=200))
    await clock.advance(timedelta(minutes=1))


async def test_tokens_that_are_refused_are_renewed_once_for_all(
    crm: SandboxCrm, connector: TemplateConnector, clock: ManualClock
) -> None:
    await grace(connector)
    before = crm.asked_for_tokens
    await clock.advance(timedelta(minutes=20))
    crm.forget_tokens()
    assert len(await grace(connector)) == 1
    assert crm.asked_for_tokens == before + 1


async def test_a_grant_that_rotates_goes_on_from_replica_to_replica(
    crm: SandboxCrm, made: Recorder, account: Account, clock: ManualClock
) -> None:
    crm.faults = Faults(rotate_refresh_tokens=True, token_life_s=600)
    for _ in range(4):
        # Each a process of its own: nothing in memory.
        assert len(await grace(made.connections.open(account))) == 1
        await clock.advance(timedelta(minutes=11))


async def test_a_write_whose_answer_is_lost_is_found(
    crm: SandboxCrm, connector: TemplateConnector
) -> None:
    await connector.check()
    crm.faults = Faults(lose_answers=1)
    with pytest.raises(Unavailable):
        await connector.write_entry(entry_of(CALL), within=WITHIN)
    (written,) = crm.records("Calls")
    assert await connector.find_entry(entry_of(CALL), within=WITHIN) == written["id"]


async def test_a_crm_that_does_not_answer_is_left_alone_for_a_while(
    crm: SandboxCrm, connector: TemplateConnector, clock: ManualClock
) -> None:
    await connector.check()
    crm.faults = Faults(fail_next=1000, fail_status=500)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await grace(connector)
    assert crm.faults.fail_next == 995
    crm.faults = Faults()
    await clock.advance(timedelta(seconds=3))
    assert len(await grace(connector)) == 1
