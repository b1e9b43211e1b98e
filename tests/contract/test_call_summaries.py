"""What was said in a call, told over the API: the call's record has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.calls import CallRinging, Party
from shared.http.auth import Scope
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened

CALL = "/v1/calls/c1"
SAID = {"summary": "asks for a boat", "transcription": "A: Hello.\nB: A boat?", "sentiment": "0.8"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[CrmApi]:
    """With a call that rings at 101."""
    async with opened(tmp_path) as found:
        await found.apply(agents=[{"extension": "101"}, {"extension": "102"}])
        publisher = found.publisher("ingest")
        ringing = CallRinging(
            call_id="c1",
            pbx="main",
            leg_id="1",
            callee=Party(extension="101"),
            caller=Party(number="+447700900123"),
        )
        for event in (a_call(), ringing):
            await publisher.publish(event, tenant="acme")

        async def rings() -> bool:
            return len((await record(found)).get("legs", ())) == 1

        await eventually(rings)
        yield found


async def record(api: CrmApi) -> dict[str, Any]:
    status, found = await api.send("GET", CALL)
    return found if status == 200 else {}


async def tell(api: CrmApi, said: Any, *, path: str = CALL, key: str | None = None) -> int:
    status, _ = await api.send("POST", f"{path}/summary", key=key, json=said)
    return status


async def becomes(api: CrmApi, **said: str) -> None:
    async def is_so() -> bool:
        found = await record(api)
        return {name: found.get(name) for name in said} == said

    await eventually(is_so)


async def test_what_was_said_is_in_the_record_of_the_call(api: CrmApi) -> None:
    assert await tell(api, SAID) == 202
    await becomes(api, **SAID)
    told = ("k0", "summarise_call", "sentiment, summary, transcription of call c1")
    assert await api.audited() == [told]


async def test_the_last_word_holds_and_what_is_left_out_stays(api: CrmApi) -> None:
    for said in (SAID, {"summary": "asks for two boats"}, {"sentiment": "0.9"}):
        assert await tell(api, said) == 202
    await becomes(
        api,
        summary="asks for two boats",
        transcription=SAID["transcription"],
        sentiment="0.9",
    )


async def test_a_key_of_another_phone_says_nothing(api: CrmApi) -> None:
    other = await api.a_key(Scope.CALLS_WRITE, extension="102")
    assert await tell(api, SAID, key=other) == 403
    reader = await api.a_key(Scope.CALLS_READ, extension="101")
    assert await tell(api, SAID, key=reader) == 403
    assert await api.audited() == []
    own = await api.a_key(Scope.CALLS_WRITE, extension="101")
    assert await tell(api, SAID, key=own) == 202


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"summary": ""},
        {"summary": None},
        {"summary": "x" * 10_001},
        {"transcription": "x" * 100_001},
        {"sentiment": "x" * 257},
        {"mood": "good"},
        [],
    ],
)
async def test_what_says_nothing_or_too_much_is_refused(api: CrmApi, said: Any) -> None:
    assert await tell(api, said) == 422
    assert await api.audited() == []


async def test_of_a_call_that_is_not_there_nothing_is_said(api: CrmApi) -> None:
    assert await tell(api, SAID, path="/v1/calls/c2") == 404
