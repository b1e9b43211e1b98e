"""Each request to a CRM is noted for what it was, and no secret of any template is in a note."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from aiohttp import web

from shared.crm.engine.noting import operations_of
from shared.crm.masking import Mask
from shared.crm.registry import shipped, shipped_names
from shared.errors import MeshError
from shared.net.requests import AskedSide, Detail
from shared.testing.cassettes import Cassette, Replay, Seen, play, read_cassette, recorder
from tests.contract.notes_kit import Notes

FOLDER = Path(__file__).parents[1] / "data" / "crm"
CASSETTES = sorted(FOLDER.glob("*/*.yaml"))
#: Shorter ones are masked by the names of what holds them.
SHORTEST = 4


def _id(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


class Mirror(Replay):
    """Fails at the last request, and repeats all that it was sent, in several ways."""

    async def _answer(self, request: web.Request) -> web.Response:
        last = len(self._left) <= 1
        answer = await super()._answer(request)
        if not last:
            return answer
        seen = self.seen[-1]
        body = seen.body.decode(errors="replace")
        repeated = {
            "error": f"you sent {dict(seen.headers)} to {seen.target}",
            "message": body,
            "coded": base64.b64encode(seen.body).decode(),
            "headers": dict(seen.headers),
            "said": [seen.target, body],
        }
        return web.Response(
            status=400, text=json.dumps(repeated), headers={"Content-Type": "application/json"}
        )


def carried(seen: Seen) -> list[str]:
    """What a request has under a name that says it is a secret."""
    by_name = Mask((), sign_in=False)
    found = []
    for name, value in seen.headers.items():
        if by_name.hides(name):
            secret = value.partition(" ")[2] or value
            found.append(secret)
            if value.startswith("Basic "):
                found += base64.b64decode(secret).decode().split(":", 1)
    return found


async def noted(file: Path, replay: Replay, cassette: Cassette, detail: Detail) -> Notes:
    notes = Notes(detail)
    async with replay.running() as url, recorder(notes=notes) as made:
        account = made.account(file.parent.name, cassette.connection, url)
        try:
            connector = made.connections.connector(account)
            await play(connector, cassette, cassette.connection.region)
            await connector.requests.followed()
        except MeshError:
            pass  # noted as well
    return notes


@pytest.mark.parametrize("kind", [Replay, Mirror])
@pytest.mark.parametrize("file", CASSETTES, ids=_id)
async def test_no_secret_of_a_template_is_in_a_note(file: Path, kind: type[Replay]) -> None:
    """Also where the CRM repeats them; of each request there is one note."""
    cassette = read_cassette(file)
    replay = kind(cassette)

    notes = await noted(file, replay, cassette, Detail.BODIES)

    given = cassette.connection.credentials.values()
    secrets = {*given, *(secret for seen in replay.seen for secret in carried(seen))}
    # An address that a credential is, is told by what it leads to.
    known = [s for s in secrets if len(s) >= SHORTEST and "://" not in s and "{server}" not in s]
    assert notes.leaked(known) == []
    assert len(notes.taken) == len(replay.seen)
    assert {(one.tenant, one.side, one.connection) for one in notes.taken} <= {
        ("acme", AskedSide.CRM, "crm")
    }
    assert "other" not in {one.operation for one in notes.taken}


@pytest.mark.parametrize("name", shipped_names())
def test_every_request_of_a_template_is_for_something(name: str) -> None:
    known = {
        "search",
        "create",
        "check",
        "users",
        "manager",
        "journal",
        "changes",
        "follow_up",
        "module",
        "card",
        "status",
        "auth",
    }
    assert set(operations_of(shipped(name)).values()) <= known


async def test_a_request_is_noted_with_what_came_of_it() -> None:
    file = FOLDER / "zoho" / "search_hit.yaml"
    replay = Replay(cassette := read_cassette(file))
    notes = await noted(file, replay, cassette, Detail.ALL)

    sign_in, *searches = notes.taken
    assert (sign_in.operation, sign_in.method, sign_in.status) == ("session", "POST", 200)
    assert {search.operation for search in searches} == {"search"}
    assert [search.status for search in searches] == [
        exchange.answer.status for exchange in cassette.exchanges[1:]
    ]
    for search in searches:
        # Well, also where nobody was found; and asked for lines alone.
        assert search.error is search.request is search.answer is None
        assert search.took.total_seconds() > 0
    assert max(search.got_bytes for search in searches) > 0


async def test_a_refusal_is_noted_with_the_crm_s_words_and_both_bodies() -> None:
    file = FOLDER / "zoho" / "journal_refused_in_202.yaml"
    replay = Replay(cassette := read_cassette(file))
    notes = await noted(file, replay, cassette, Detail.FAILED)

    (refused,) = notes.taken
    assert (refused.operation, refused.method, refused.status) == ("journal", "POST", 202)
    assert refused.error
    assert refused.request
    assert json.loads(refused.answer or "")["data"]


async def test_a_sign_in_s_bodies_are_never_kept() -> None:
    file = FOLDER / "zoho" / "check_refused_grant.yaml"
    replay = Replay(cassette := read_cassette(file))
    notes = await noted(file, replay, cassette, Detail.BODIES)

    (refused,) = notes.of("session")
    assert refused.error is not None
    assert refused.request is refused.answer is None
    assert refused.sent_bytes + len(refused.url) > 0


async def test_nothing_is_noted_where_the_log_is_off() -> None:
    file = FOLDER / "zoho" / "search_hit.yaml"
    replay = Replay(cassette := read_cassette(file))

    assert (await noted(file, replay, cassette, Detail.OFF)).taken == []
    assert replay.seen
