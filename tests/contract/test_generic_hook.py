"""What the page for administrators says of the generic hook, done as it says it, over a socket."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.journal.domain import Seen, fold
from shared.bus.port import Consumer, Subscription
from shared.contracts.calls import CallRecord, Direction, Disposition, EndKnown
from shared.contracts.envelope import Message
from shared.contracts.hooks import HookReceived
from shared.ids import call_id
from shared.pbx.generic.adapter import GenericSettings, generic_adapter
from shared.pbx.port import Phones, RawHook, Sighting
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened

PAGE = (Path(__file__).parents[2] / "docs/how-to/send-calls-from-any-pbx.md").read_text()
SECRET = "both sides know it"


def blocks(language: str, heading: str) -> list[str]:
    """What a reader of the section would type."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


class Branch:
    """PBX connection ``branch`` of tenant acme, and what its hooks tell."""

    def __init__(self, api: CrmApi) -> None:
        self._api = api
        self.came: list[Message[HookReceived]] = []

    async def apply(self, *, secret: str | None) -> None:
        sealed = self._api.box.seal(SecretStr(secret)) if secret else None
        await self._api.apply(pbx=[{"name": "branch", "kind": "generic", "signing_secret": sealed}])

    async def typed(self, command: list[str], program: str, *, secret: str = SECRET) -> str:
        """What the example printed; it speaks to the API of this test."""
        assert "http://127.0.0.1:8080" in program
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, program.replace("http://127.0.0.1:8080", self._api.origin)],
            env={"PATH": "/usr/bin:/bin", "KEY": self._api.key, "SECRET": secret},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    async def sightings(self, *, hooks: int) -> list[Sighting]:
        await eventually(lambda: len(self.came) == hooks)
        reader = generic_adapter(GenericSettings(), tenant="acme", pbx="branch").hooks
        assert reader is not None
        found: list[Sighting] = []
        for message in self.came:
            raw = RawHook(body=message.body.body.encode(), received_at=message.occurred_at)
            found += reader.read(raw, Phones()).sightings
        return found

    async def call(self, pbx_call_id: str, *, hooks: int) -> CallRecord:
        identity = call_id("acme", "branch", pbx_call_id)
        seen = [Seen(one.key, one.at, one.body) for one in await self.sightings(hooks=hooks)]
        return fold(identity, [one for one in seen if one.body.subject() == identity])


@pytest.fixture
async def branch(tmp_path: Path) -> AsyncIterator[Branch]:
    made: list[Branch] = []

    async def take(message: Message[Any]) -> None:
        made[0].came.append(message)

    subscription = Subscription(consumer=Consumer("ingest", HookReceived), handler=take)
    async with opened(tmp_path, also=(subscription,)) as api:
        made.append(Branch(api))
        yield made[0]


async def test_the_record_of_the_page_is_a_call(branch: Branch) -> None:
    await branch.apply(secret=None)
    (live,) = blocks("sh", "2. A call as it happens")
    (record,) = blocks("sh", "3. A whole call in one event")
    helpers = live.partition("\n\n")[0]

    printed = await branch.typed(["sh", "-c"], f"{helpers}\n{record}")

    assert printed.strip() == '{"accepted":1}'
    call = await branch.call("pbx-0002", hooks=1)
    assert call.direction is Direction.INBOUND
    assert (call.disposition, call.end_known) == (Disposition.ANSWERED, EndKnown.REPORT)
    assert {leg.leg_id: leg.outcome for leg in call.legs} == {"101": "elsewhere", "102": "answered"}
    assert call.talk_time.total_seconds() == 20.5
    assert (call.queue, call.recordings) == ("support", ("https://pbx.example/rec/0002.wav",))


@pytest.mark.parametrize(
    ("language", "command"), [("sh", ["sh", "-c"]), ("python", [sys.executable, "-c"])]
)
async def test_the_signature_of_the_page_is_taken_and_no_other(
    branch: Branch, language: str, command: list[str]
) -> None:
    await branch.apply(secret=SECRET)
    (program,) = blocks(language, "Sign the requests")

    assert "403" in await branch.typed(command, program, secret="guessed")
    assert '{"accepted":1}' in await branch.typed(command, program)
    (found,) = await branch.sightings(hooks=1)
    assert found.body.subject() == call_id("acme", "branch", "pbx-0001")


async def test_without_a_signature_the_refusal_says_what_is_missing(branch: Branch) -> None:
    await branch.apply(secret=SECRET)
    (live,) = blocks("sh", "2. A call as it happens")
    helpers = live.partition("\n\n")[0]

    said = 'say \'{"event": "ended", "call": "1", "at": "2026-11-21T10:00:00Z"}\''
    printed = await branch.typed(["sh", "-c"], f"{helpers}\n{said}")

    assert "header X-Callmesh-Timestamp is missing" in printed
    assert branch.came == []
