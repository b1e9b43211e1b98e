"""The stand-ins for CRMs take what their description allows and refuse the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.testing.prism import VENDOR_SPECS, VENDORS, prism, spec_for, specs_at_hand

BEARER = {"Authorization": "Bearer secret"}
FOUND = {200, 201}
REFUSED = {400, 422}


@dataclass(frozen=True, slots=True)
class Example:
    """A request that a CRM takes, and how to spoil its body or its query."""

    method: str
    path: str
    content: Mapping[str, Any]
    spoil: Mapping[str, Any]
    put: str = "json"
    """``json``, ``data`` (a form) or ``params``: where *content* goes."""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    """The credential is in one of these two."""


EXAMPLES = {
    "bitrix24": Example(
        "POST",
        "/crm.duplicate.findbycomm",
        content={"type": "PHONE", "values": ["+12025550143"]},
        spoil={"type": "FAX"},
        query={"auth": "secret"},
    ),
    "hubspot": Example(
        "POST",
        "/crm/v3/objects/calls",
        content={"properties": {"hs_timestamp": "1795274856000", "hs_call_duration": "73000"}},
        spoil={"properties": {"hs_timestamp": "1795274856000", "hs_call_duration": 73000}},
        headers=BEARER,
    ),
    "retailcrm": Example(
        "POST",
        "/api/v5/telephony/calls/upload",
        content={"calls": "[]"},
        spoil={"calls": "none"},
        headers={"X-API-KEY": "secret"},
        put="data",
    ),
    "salesforce": Example(
        "POST",
        "/services/data/v60.0/sobjects/Task",
        content={"Subject": "Call", "CallDurationInSeconds": 73},
        spoil={"CallDurationInSeconds": "01:13"},
        headers=BEARER,
    ),
    "pipedrive": Example(
        "GET",
        "/persons/search",
        content={"term": "+12025550143", "fields": "phone"},
        spoil={"fields": "fax"},
        query={"api_token": "secret"},
        put="params",
    ),
    "sugarcrm": Example(
        "POST",
        "/Contacts/filter",
        content={"max_num": 5},
        spoil={"max_num": "five"},
        headers=BEARER,
    ),
    "zendesk": Example(
        "POST",
        "/api/v2/users",
        content={"user": {"name": "Ann Example"}},
        spoil={"usr": {"name": "Ann Example"}},
        headers={"Authorization": aiohttp.encode_basic_auth("ann@example.org/token", "secret")},
    ),
    "zoho": Example(
        "POST",
        "/crm/v8/coql",
        content={"select_query": "select Last_Name from Contacts where Phone = '+12025550143'"},
        spoil={"query": "select"},
        headers={"Authorization": "Zoho-oauthtoken secret"},
    ),
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.mark.parametrize("name", specs_at_hand())
async def test_a_stand_in_is_as_strict_as_its_description(
    name: str, session: aiohttp.ClientSession
) -> None:
    spec, example = spec_for(name), EXAMPLES[name]
    assert spec is not None

    async with prism(spec) as base:
        assert await asked(session, base, example) in FOUND
        assert await asked(session, base, spoilt(example)) in REFUSED
        assert await asked(session, base, replace(example, headers={}, query={})) == 401


async def asked(session: aiohttp.ClientSession, base: str, example: Example) -> int:
    """The status of the answer."""
    ask: dict[str, Any] = {"params": dict(example.query)}
    ask[example.put] = {**ask.get(example.put, {}), **example.content}
    async with session.request(
        example.method, base + example.path, headers=example.headers, **ask
    ) as answer:
        return answer.status


def spoilt(example: Example) -> Example:
    return replace(example, content={**example.content, **example.spoil})


def test_vendors_are_not_at_hand_unless_the_environment_names_their_folder() -> None:
    assert not set(specs_at_hand({})) & set(VENDORS)
    assert spec_for("zoho", {}) is None


def test_a_named_folder_must_have_every_vendors_file(tmp_path: Path) -> None:
    named = {VENDOR_SPECS: str(tmp_path)}

    assert set(VENDORS) < set(specs_at_hand(named))
    with pytest.raises(FileNotFoundError, match=r"no zoho\.yaml"):
        spec_for("zoho", named)


def test_a_crm_without_a_description_is_named() -> None:
    with pytest.raises(ValueError, match="acme"):
        spec_for("acme")
