"""A connector against answers, records and callers that mean no good, or that mean nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from shared.crm.port import NewContact
from shared.errors import MeshError, Rejected, Unavailable
from shared.phone import parse
from shared.testing.cassettes import entry_of
from tests.contract.scripted_crm import Asked, connected

SHOP = yaml.safe_load(
    (Path(__file__).parents[1] / "data/templates/own/corner-shop.yaml").read_text()
)
WITHIN = timedelta(seconds=5)
CALLER = parse("+442079460123", "GB")
GIVEN = {"credentials": {"api_key": "key-0001"}}
CALL = {
    "direction": "inbound",
    "disposition": "answered",
    "started_at": "2026-11-21T10:00:00+00:00",
    "ended_at": "2026-11-21T10:01:05+00:00",
    "number": CALLER.key,
}
ANN = {"id": 7, "first": "Ann", "phone": CALLER.key}


def shop(**parts: Any) -> dict[str, Any]:
    return {**SHOP, **parts}


def people(**parts: Any) -> dict[str, Any]:
    person = SHOP["contacts"]["People"]
    return {"People": {**person, **parts, "map": {**person["map"], **parts.get("map", {})}}}


async def search(template: dict[str, Any], answer: Any, folder: Path) -> Any:
    def answers(_: Asked) -> Any:
        return web.Response(status=answer) if isinstance(answer, HTTPStatus) else answer

    async with connected(template, answers, folder, given=GIVEN) as made:
        (found,) = await made.connector.search(
            CALLER, modules=(), fields=("shop",), card=True, within=WITHIN
        )
    return found.contacts


# -- nobody, or no answer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        HTTPStatus.OK,
        {},
        {"error": "maintenance"},
        {"people": "soon"},
        {"people": [{"message": "no such index"}]},
        [],
        "maintenance",
    ],
    ids=str,
)
async def test_an_answer_without_records_is_not_taken_for_nobody(
    answer: Any, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable):
        await search(SHOP, answer, tmp_path)


@pytest.mark.parametrize("answer", [{"error": "maintenance"}, "maintenance", 0])
async def test_where_the_answer_is_the_list_an_object_is_none(answer: Any, tmp_path: Path) -> None:
    own = [{"request": SHOP["search"][0]["request"]}]
    with pytest.raises(Unavailable):
        await search(shop(search=own), answer, tmp_path)


@pytest.mark.parametrize("answer", [{"people": []}, {"people": None}, HTTPStatus.NO_CONTENT])
async def test_what_says_that_there_is_nobody_does(answer: Any, tmp_path: Path) -> None:
    assert await search(SHOP, answer, tmp_path) == ()


@pytest.mark.parametrize("answer", [web.Response(status=200), {"error": "busy"}, "busy"], ids=str)
async def test_an_entry_is_not_missing_because_the_crm_says_something_else(
    answer: Any, tmp_path: Path
) -> None:
    async with connected(SHOP, lambda _: answer, tmp_path, given=GIVEN) as made:
        with pytest.raises(Unavailable):
            await made.connector.find_entry(entry_of(CALL), within=WITHIN)


async def test_users_without_ids_are_no_users(tmp_path: Path) -> None:
    answer = {"sellers": [{"error": "busy"}]}
    async with connected(SHOP, lambda _: answer, tmp_path, given=GIVEN) as made:
        with pytest.raises(Unavailable):
            await made.connector.list_users(within=WITHIN)


# -- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["javascript:alert(1)", "https://crm.example\\@evil/", "http://"])
async def test_a_script_for_a_link_costs_the_link_and_not_the_contact(
    page: str, tmp_path: Path
) -> None:
    template = shop(contacts=people(map={"page": "page"}))
    (card,) = await search(template, {"people": [{**ANN, "page": page}]}, tmp_path)
    assert (card.contact_id, card.page_url) == ("7", None)


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:00"])
async def test_a_moment_beyond_the_calendar_is_none(moment: str, tmp_path: Path) -> None:
    template = shop(contacts=people(map={"changed_at": "at"}))
    (card,) = await search(template, {"people": [{**ANN, "at": moment}]}, tmp_path)
    assert card.changed_at is None


async def test_a_field_of_megabytes_is_cut(tmp_path: Path) -> None:
    ann = {**ANN, "shop": ["x" * 100_000] * 50}
    (card,) = await search(SHOP, {"people": [ann]}, tmp_path)
    assert len(json.dumps(card.fields)) < 600_000


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/", "//evil.example/x", "mailto:x", "javascript:x", "http://[", "{pw}"],
)
async def test_the_key_follows_no_link_to_another_place(link: str, tmp_path: Path) -> None:
    users = {**SHOP["users"], "pages": {"kind": "next_link", "link": "next"}}

    def answers(asked: Asked) -> Any:
        own = f"http://u:p@{asked.headers['host']}/sellers?page=2"
        return {"sellers": [{"id": 1, "name": "Bo"}], "next": link.replace("{pw}", own)}

    async with connected(shop(users=users), answers, tmp_path, given=GIVEN) as made:
        with pytest.raises(Rejected, match="next page"):
            await made.connector.list_users(within=WITHIN)
    assert len(made.crm.asked) == 1


async def test_a_page_of_a_million_records_is_not_read(tmp_path: Path) -> None:
    huge: dict[str, Any] = {"sellers": [{}] * 500_000}
    async with connected(SHOP, lambda _: huge, tmp_path, given=GIVEN) as made:
        with pytest.raises(Unavailable, match="500000 records"):
            await made.connector.list_users(within=WITHIN)


# -- secrets ------------------------------------------------------------------------------------


async def test_a_crm_that_repeats_the_key_is_not_quoted_with_it(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        return web.json_response({"message": f"bad key {asked.headers['x-api-key']}"}, status=400)

    async with connected(SHOP, answers, tmp_path, given=GIVEN) as made:
        with pytest.raises(Rejected, match="bad key") as caught:
            await made.connector.write_entry(entry_of(CALL), within=WITHIN)
    assert "key-0001" not in str(caught.value)


async def test_the_template_s_own_header_wins_over_auth_however_it_is_spelt(tmp_path: Path) -> None:
    template = shop(headers={"x-api-KEY": "own"})
    async with connected(template, lambda _: {}, tmp_path, given=GIVEN) as made:
        await made.connector.check()
        assert made.crm.asked[0].headers["x-api-key"] == "own"


# -- entries ------------------------------------------------------------------------------------


async def test_an_entry_whose_answer_is_too_long_may_be_there(tmp_path: Path) -> None:
    """It was written; "rejected" would have it written again, without its links."""

    def answers(_: Asked) -> Any:
        return web.Response(body=b" " * (9 * 1024 * 1024))

    async with connected(SHOP, answers, tmp_path, given=GIVEN) as made:
        with pytest.raises(Unavailable):
            await made.connector.write_entry(entry_of(CALL), within=WITHIN)


async def test_a_long_name_does_not_push_the_reference_out_of_the_subject(tmp_path: Path) -> None:
    """The entry is found again by it."""
    journal = {**SHOP["journal"], "subject": "{{.ContactName}} {{.Reference}}"}
    call = {
        **CALL,
        "contact": {"module": "People", "contact_id": "7", "display_name": "Ann " * 200},
    }
    async with connected(shop(journal=journal), lambda _: {"id": 3}, tmp_path, given=GIVEN) as made:
        assert await made.connector.write_entry(entry_of(call), within=WITHIN) == "3"
        sent = made.crm.asked[0].json["text"]
    assert sent.endswith(" ref-0001")
    assert len(sent) <= 250


async def test_links_of_a_flat_form_are_fields_of_it(tmp_path: Path) -> None:
    create = {"method": "POST", "url": "{{.url}}/calls", "form": {"text": "{{.Subject}}"}}
    journal = {**SHOP["journal"], "create": create}
    call = {**CALL, "contact": {"module": "People", "contact_id": "7"}}
    async with connected(shop(journal=journal), lambda _: {"id": 3}, tmp_path, given=GIVEN) as made:
        await made.connector.write_entry(entry_of(call), within=WITHIN)
        assert made.crm.asked[0].form["person"] == "7"


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("file:///etc/passwd", Rejected),
        ("http://[", Rejected),
        ("http://10.0.0.1/a.wav", Rejected),
        ("{url}/moved", Rejected),
        ("{url}/busy", Unavailable),
    ],
)
async def test_a_recording_is_fetched_from_where_it_is_or_not_at_all(
    address: str, error: type[MeshError], tmp_path: Path
) -> None:
    create = {
        "method": "POST",
        "url": "{{.url}}/calls",
        "multipart": {"text": "{{.Subject}}", "file": {"fetch": "{{.Recording}}"}},
    }

    def answers(asked: Asked) -> Any:
        assert "x-api-key" not in asked.headers, "our key went to who has the recording"
        return web.Response(status=302 if asked.what.endswith("moved") else 503)

    template = shop(journal={**SHOP["journal"], "create": create}, contacts=people(journal={}))
    async with connected(template, answers, tmp_path, given=GIVEN) as made:
        call = entry_of({**CALL, "recording": address.replace("{url}", made.crm.url)})
        with pytest.raises(error):
            await made.connector.write_entry(call, within=WITHIN)
    assert not made.crm.of("POST /calls")


# -- callers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['"}}', "a\r\nX-Evil: 1", "../../x", "\ud800", "{{.api_key}}", "=cmd|' /C calc'!A0"]
)
async def test_a_caller_s_name_stays_one_value(name: str, tmp_path: Path) -> None:
    person = SHOP["contacts"]["People"]
    create = {**person["create"]["request"], "headers": {"X-Name": "x"}}
    template = shop(contacts=people(create={"request": create, "contact_id": "id"}))
    async with connected(template, lambda _: {"id": 9}, tmp_path, given=GIVEN) as made:
        new = NewContact(module="People", number=CALLER, display_name=name)
        assert (await made.connector.create_contact(new, within=WITHIN)).contact_id == "9"
        (asked,) = made.crm.asked
    assert asked.what == "POST /people"
    assert set(asked.json) == {"last", "phone"}
    assert "key-0001" not in asked.body.decode()
