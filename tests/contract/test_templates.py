"""Every template against recorded answers: the requests it makes, what it reads out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.crm.form.answers import Meaning
from shared.crm.registry import shipped, shipped_names
from shared.errors import MeshError, TransientError
from shared.testing.cassettes import (
    Cassette,
    Do,
    Replay,
    differences,
    play,
    read_cassette,
    recorder,
)

FOLDER = Path(__file__).parents[1] / "data" / "crm"
CASSETTES = sorted(FOLDER.glob("*/*.yaml"))


def _id(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


@pytest.mark.parametrize("file", CASSETTES, ids=_id)
async def test_a_template_asks_and_reads_as_recorded(file: Path) -> None:
    cassette = read_cassette(file)
    replay = Replay(cassette)
    async with replay.running() as url, recorder() as made:
        account = made.account(file.parent.name, cassette.connection, url)
        expected = _placed(cassette.expect, url)
        found: dict[str, Any] = {}
        try:
            connector = made.connections.connector(account)
            found = await play(connector, cassette, cassette.connection.region)
        except MeshError as error:
            found = {"error": error.code, "message": error.message}
            if isinstance(error, TransientError) and error.retry_after is not None:
                found["retry_after"] = error.retry_after.total_seconds()
    message = expected.pop("message", "")
    assert not replay.faults
    assert found.get("error") == expected.pop("error", None), found
    assert message in found.get("message", "")
    assert not differences(expected, found)
    assert not replay.left


@pytest.mark.parametrize("name", shipped_names())
def test_everything_a_template_can_do_is_shown(name: str) -> None:
    manifest = shipped(name)
    done = {cassette.do for cassette in _of(name)}
    wanted = {Do.SEARCH, Do.CHECK}
    if manifest.users is not None:
        wanted.add(Do.USERS)
    if manifest.manager is not None:
        wanted.add(Do.MANAGER)
    if any(contact.create for contact in manifest.contacts.values()):
        wanted.add(Do.CREATE)
    if manifest.journal is not None:
        wanted |= {Do.JOURNAL, *([Do.FIND] if manifest.journal.find else [])}
        wanted |= {Do.UPDATE} if manifest.journal.update else set()
    if manifest.changes is not None:
        wanted |= {Do.HOOK} if manifest.changes.hook else set()
        wanted |= {Do.POLL} if manifest.changes.poll else set()
    if any(contact.new_page_url for contact in manifest.contacts.values()):
        wanted.add(Do.NEW_PAGE)
    if (telephony := manifest.telephony) is not None:
        wanted |= {Do.REGISTER, Do.MODULE} if telephony.modules else set()
        wanted |= {Do.CARD} if telephony.cards else set()
        wanted |= {Do.CLICK} if telephony.click else set()
        wanted |= {Do.HEARD} if telephony.status and telephony.status.query else set()
        wanted |= {Do.TELL} if telephony.status and telephony.status.tell else set()
    assert wanted <= done, f"no cassette for {sorted(wanted - done)}"


@pytest.mark.parametrize("name", shipped_names())
def test_refusal_and_emptiness_are_shown(name: str) -> None:
    cassettes = _of(name)
    errors = {cassette.expect.get("error") for cassette in cassettes}
    assert "needs_reconnect" in errors, "no cassette of refused credentials"
    assert errors & {"throttled", "unavailable"}, "no cassette of a CRM that cannot answer now"
    assert any(c.do is Do.SEARCH and c.expect.get("contacts") == [] for c in cassettes)
    means_nothing = any(rule.means is Meaning.SLOW_DOWN for rule in shipped(name).outcome.rules)
    assert not means_nothing or "throttled" in errors


def test_every_cassette_belongs_to_a_template() -> None:
    assert {file.parent.name for file in CASSETTES} <= set(shipped_names())


def _of(name: str) -> list[Cassette]:
    return [read_cassette(file) for file in (FOLDER / name).glob("*.yaml")]


def _placed(expect: dict[str, Any], url: str) -> dict[str, Any]:
    text = yaml.safe_dump(expect).replace("{server}", url)
    placed: dict[str, Any] = yaml.safe_load(text)
    return placed
