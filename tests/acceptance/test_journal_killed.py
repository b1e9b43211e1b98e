"""
The journal killed at every step of writing an entry: every call has exactly one entry all the same.

Each life of the process ends at the first step at which none ended before, until there is no such
step left, those of getting over a death included; each life gets over what the one before left.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from shared.sandbox.crm import SandboxCrm
from tests.acceptance.killing_kit import (
    DONE_WITHIN,
    RECORDINGS,
    assert_one_entry_each,
    entries_in,
    telling,
)
from tests.mesh.fate import DIES_WHEN_DONE, KILLED, SEVERAL
from tests.mesh.lives import Lives
from tests.mesh.mortal import Order
from tests.mesh.processes import Mesh

pytestmark = pytest.mark.timeout(1200)

#: So often one call may end a process.
MOST_DEATHS = 4
#: Of the calls whose try is broken off, before their request and when it is done.
MOST_BROKEN_OFF = 8

#: Of one entry, from the call's first event to the word that its change was made.
EVENTS = ("calls.started", "contacts.resolved", "calls.answered", "calls.ended")
LATER = ("calls.recording_ready", "journal.written", "journal.written (updated)")
STEPS = (
    *(f"{word} {event}" for word in ("keep", "acknowledge") for event in (*EVENTS, *LATER)),
    "entry due",
    "entry sending",
    "write",
    "entry sent",
    "send journal.written",
    "entry sent (told, nothing due)",
    "entry sent (told, to be changed)",
    "entry sent (told, to be changed, being changed)",
    "change",
    "entry updated",
    "send journal.written (updated)",
    "entry updated (told, nothing due)",
    # Of getting over a death in the middle of a request.
    "entry maybe_sent",
    "entry sending (again)",
    "look",
    "entry sent (found)",
    "write after a look",
)
DONE = ("write", "change", "look", "write after a look")
PLACES = {*(f"{when} {step}" for when in ("before", "after") for step in STEPS)} | {
    f"done {step}" for step in DONE
}


async def test_killed_at_every_step_there_is_one_entry_per_call(
    mesh: Mesh, crm: SandboxCrm, tmp_path: Path
) -> None:
    places: Counter[str] = Counter()
    deaths: Counter[str] = Counter()
    broken_off = 4
    lives = Lives(mesh.environment("journal"), tmp_path / "lives.log")

    @web.middleware
    async def kill_who_asks_for_it(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if request.headers.get(DIES_WHEN_DONE) == str(lives.pid):
            lives.kill()
        return answer

    crm._app.middlewares.insert(0, kill_who_asks_for_it)
    telling_all = telling(mesh, crm, is_written=lambda call: bool(entries_in(crm, call)))
    async with telling_all as stories, lives:
        while True:
            # One that is not heard yet is not joined by another: what is on its way for too many
            # lives is taken for what ends them, and is a dead letter.
            if is_new := await stories.heard():
                await stories.tell(len(stories.calls))
            # Only calls whose try was broken off come to the steps of getting over that.
            covered = [
                place
                for place, count in places.items()
                if count >= (broken_off if place in {"before write", "done write"} else 1)
            ]
            spared = [call for call, count in deaths.items() if count >= MOST_DEATHS]
            life = await lives.begin(Order(covered=covered, spared=spared))
            if is_done := await stories.all_done(life, within=DONE_WITHIN):
                if is_new and ({*places} >= PLACES or broken_off > MOST_BROKEN_OFF):
                    break
                broken_off += is_new
                lives.kill()
            end = await life
            assert end.code in {KILLED, -signal.SIGKILL}, lives.log()[-3000:]
            if end.death is not None:
                places[end.death.place] += 1
                deaths[end.death.call] += end.death.call != SEVERAL
            else:
                assert is_done
        lives.kill(signal.SIGTERM)
        assert (await life).code == os.EX_OK
        assert_one_entry_each(crm, stories.calls)
        for call in stories.calls:
            (said,) = entries_in(crm, call)
            assert f"{RECORDINGS}{call}.wav" in said
    assert PLACES - {*places} == set()
