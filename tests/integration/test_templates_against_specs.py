"""What the templates send, judged by the CRMs' own descriptions (Prism as an unforgiving reader)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from shared.errors import MeshError
from shared.testing.cassettes import Do, Replay, Seen, play, read_cassette, recorder
from shared.testing.prism import prism, spec_for, specs_at_hand

FOLDER = Path(__file__).parents[1] / "data" / "crm"
#: How a path of the template becomes one of the description, whose server has the rest of it.
PATHS = {
    "bitrix24": (r"^/rest(/\d+/[^/]+)?", ""),
    "pipedrive": (r"^(/api)?/v1", ""),
    "sugarcrm": (r"^/rest/v11(_\d+)?", ""),
    "zoho": (r"^/crm/v\d", "/crm/v8"),
}
#: Descriptions that want the key in the query, where the template sends it in a header (newer than
#: the description) or in the body (which Prism cannot look into).
KEYS = {"pipedrive": {"api_token": "secret"}, "bitrix24": {"auth": "secret"}}
SKIPPED_HEADERS = {"host", "content-length", "accept-encoding", "user-agent", "traceparent"}


@pytest.mark.parametrize("name", specs_at_hand())
async def test_a_crm_takes_what_its_template_sends(name: str) -> None:
    spec = spec_for(name)
    assert spec is not None
    described = yaml.safe_load(spec.read_text())["paths"]
    judged: dict[str, int] = {}
    refused: list[str] = []
    async with prism(spec) as base, aiohttp.ClientSession() as session:
        for file in sorted((FOLDER / name).glob("*.yaml")):
            for seen in await sent_by(file):
                path = re.sub(*PATHS.get(name, ("^$", "")), seen.target)
                known = operation(described, seen.method, path.partition("?")[0])
                if known is None:
                    continue
                status, words = await asked(
                    session, URL(base + path, encoded=True) % KEYS.get(name, {}), seen
                )
                judged[known] = judged.get(known, 0) + 1
                if status >= 400:
                    refused.append(f"{file.stem}: {seen.method} {path}: {status} {words}")
    assert not refused, "\n".join(refused)
    assert judged, "not one request of the template is in the description"


async def sent_by(file: Path) -> list[Seen]:
    """The requests of a cassette; those of one that wrong credentials spoil are none."""
    cassette = read_cassette(file)
    if cassette.do is Do.HOOK or cassette.expect.get("error") == "needs_reconnect":
        return []
    replay = Replay(cassette)
    async with replay.running() as url, recorder() as made:
        account = made.account(file.parent.name, cassette.connection, url)
        try:
            connector = made.connections.connector(account)
            await play(connector, cassette, cassette.connection.region)
        except MeshError:
            assert "error" in cassette.expect
    return replay.seen


def operation(described: dict[str, Any], method: str, path: str) -> str | None:
    """The description's name for it; None for what it does not describe."""
    for template, operations in described.items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path, re.IGNORECASE) and method.lower() in operations:
            return f"{method} {template}"
    return None


async def asked(session: aiohttp.ClientSession, url: URL, seen: Seen) -> tuple[int, str]:
    headers = {
        name: value for name, value in seen.headers.items() if name.lower() not in SKIPPED_HEADERS
    }
    async with session.request(seen.method, url, headers=headers, data=seen.body or None) as answer:
        return answer.status, (await answer.text())[:500]
