"""A recorded call, the link that its entry has in the CRM, and a player that follows it."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.ids import call_id
from shared.runtime.platform import Choice
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT
from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh, opened

PUBLIC = "https://mesh.example"
_LINK = re.compile(rf"{PUBLIC}(/recordings/\S+)")


@pytest.fixture
async def mesh(choice: Choice, crm: SandboxCrm, tmp_path: Path) -> AsyncIterator[WholeMesh]:
    public = choice.mesh.model_copy(update={"public_url": PUBLIC})
    async with opened(replace(choice, mesh=public), crm, monitor=tmp_path / "monitor") as found:
        yield found
        assert found.state.failed is None


class Player:
    """As a browser has it: no key, and nothing but the link."""

    def __init__(self, mesh: WholeMesh, path: str) -> None:
        self._mesh = mesh
        self._url = mesh.url + path

    async def get(self, *, range_: str | None = None) -> tuple[int, dict[str, str], bytes]:
        headers = {"Range": range_} if range_ else {}
        async with self._mesh.session.get(self._url, headers=headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()


def linked(crm: SandboxCrm) -> list[str]:
    """Paths of the links in the CRM's entries."""
    return [
        found for entry in crm.records("Calls") for found in _LINK.findall(entry["Description"])
    ]


async def test_the_link_in_an_entry_plays_and_who_listened_is_known(
    mesh: WholeMesh, tmp_path: Path
) -> None:
    cast = Cast(started_at=SystemClock().now(), serial=1)
    await mesh.pbx.play("answered", cast)
    await eventually(lambda: linked(mesh.crm) != [])
    (path,) = linked(mesh.crm)
    (written,) = (tmp_path / "monitor").iterdir()
    sound = written.read_bytes()
    player = Player(mesh, path)

    status, headers, whole = await player.get()
    assert (status, headers["Content-Type"]) == (200, "audio/wav")
    assert whole == sound
    with wave.open(io.BytesIO(whole)) as heard:
        assert heard.getnframes() == 2 * heard.getframerate()
    pieces = []
    for first in range(0, len(sound), 10_000):
        status, headers, piece = await player.get(range_=f"bytes={first}-{first + 9_999}")
        assert status == 206
        assert headers["Content-Range"].endswith(f"/{len(sound)}")
        pieces.append(piece)
    assert b"".join(pieces) == sound
    status, _, _ = await player.get(range_=f"bytes={len(sound)}-")
    assert status == 416
    forged = path.replace("demo", "other")
    assert (await Player(mesh, forged).get())[0] == 404

    call = call_id(TENANT, PBX, cast.linkedid)
    status, told = await mesh.get(f"/v1/calls/{call}/recordings/accesses")
    # One, or two where the minute changed meanwhile.
    accesses = told["accesses"]
    assert status == 200
    assert sum(access["requests"] for access in accesses) == len(pieces) + 2
    assert sum(access["bytes"] for access in accesses) == 2 * len(sound)
    assert {access["recording"] for access in accesses} == {str(written)}
    assert {access.get("key") for access in accesses} == {None}
