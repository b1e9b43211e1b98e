"""An error of a CRM shows what was asked and what was said, and no secret in any form."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import re
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml
from aiohttp import web

from shared.clock import ManualClock
from shared.contracts.journal import Exchange
from shared.crm.exchanges import exchange_of
from shared.errors import MeshError, NeedsReconnect, OutOfTime, Rejected, Throttled, Unavailable
from shared.http.problems import of_error
from shared.testing.cassettes import entry_of
from tests.contract.scripted_crm import Asked, connected

SHOP = yaml.safe_load(
    (Path(__file__).parents[1] / "data/templates/own/corner-shop.yaml").read_text()
)
WITHIN = timedelta(seconds=5)
#: With every sign that some form of writing changes.
SECRET = 'k&y/1+"ü" <x>%'
PASSWORD = "pass:w/rd+'2'"
TOKEN = "tok/en+3=="
CALL = entry_of(
    {
        "direction": "inbound",
        "disposition": "answered",
        "started_at": "2026-11-21T10:00:00+00:00",
        "ended_at": "2026-11-21T10:01:05+00:00",
        "talk_s": 60,
        "number": "+442079460123",
    }
)
#: As it may come back.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "json-utf8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json-php": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "percent": lambda text: quote(text, safe=""),
    "percent-lower": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, "")),
    "form": quote_plus,
    "html": html.escape,
    "javascript": lambda text: quote(text, safe="!'()*~"),
    "percent-twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json-net": lambda text: _each_sign(text, "\\u{:04X}"),
    "json-in-json": lambda text: json.dumps(json.dumps(text).replace("+", "\\u002b"))[1:-1],
    "html-numbers": lambda text: _each_sign(text, "&#{};"),
    "html-hex": lambda text: _each_sign(text, "&#x{:x};"),
    "html-twice": lambda text: html.escape(html.escape(text)),
    "quoted": lambda text: re.sub(r"(['\"])", r"\\\1", text),
}


def _each_sign(text: str, form: str) -> str:
    return "".join(s if s.isascii() and s.isalnum() else form.format(ord(s)) for s in text)


def template(apply: list[dict[str, str]], **parts: Any) -> dict[str, Any]:
    return {**SHOP, "name": "shop", "auth": {"apply": apply}, **parts}


async def fails(shop: dict[str, Any], answer: Any, folder: Path, **secrets: str) -> MeshError:
    given = {"credentials": {"api_key": SECRET, **secrets}}
    async with connected(shop, answer, folder, given=given) as made:
        with pytest.raises(MeshError) as caught:
            await made.connector.write_entry(CALL, within=WITHIN)
    return caught.value


def shown(error: MeshError) -> Exchange:
    found = exchange_of(error)
    assert found is not None
    return found


def assert_hidden(error: MeshError, *secrets: str) -> None:
    told = f"{error.message} {shown(error)!r} {shown(error).model_dump()}"
    for secret in secrets:
        for spelt in SPELLINGS.values():
            assert spelt(secret) not in told, spelt(secret)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
@pytest.mark.parametrize("kind", ["header", "query", "form", "json"])
async def test_a_crm_that_repeats_all_it_got_tells_no_key(
    kind: str, status: int, tmp_path: Path
) -> None:
    def echoes(asked: Asked) -> web.Response:
        told = {
            "message": f"bad request {asked.query} {asked.body.decode()}",
            "request": {"query": dict(asked.query), "headers": dict(asked.headers)},
            "spelt": [spelt(SECRET) for spelt in SPELLINGS.values()],
        }
        return web.json_response(told, status=status)

    shop = template([{"in": kind, "name": "X-Own", "value": "{{.api_key}}"}])
    if kind == "form":
        journal = SHOP["journal"]
        create = {key: value for key, value in journal["create"].items() if key != "json"}
        shop["journal"] = {**journal, "create": {**create, "form": journal["create"]["json"]}}
    if kind == "header":
        shop["auth"]["apply"][0]["value"] = "{{.api_key | UrlEncode}}"
    error = await fails(shop, echoes, tmp_path)

    assert_hidden(error, SECRET)
    assert (shown(error).status, shown(error).method) == (status, "POST")
    assert "inbound answered ref-0001" in shown(error).body


@pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("form", ["{}", '{{"error": {{"said": "{}"', "<pre>GET /calls?k={}</pre>"])
async def test_an_answer_that_is_no_json_tells_no_key(
    form: str, spelt: Callable[[str], str], tmp_path: Path
) -> None:
    said = form.format(spelt(SECRET))
    shop = template([{"in": "query", "name": "k", "value": "{{.api_key}}"}])
    error = await fails(shop, lambda _: web.Response(text=said), tmp_path)

    assert isinstance(error, Unavailable)
    assert_hidden(error, SECRET)


async def test_a_user_s_password_is_in_no_form_of_basic(tmp_path: Path) -> None:
    def echoes(asked: Asked) -> web.Response:
        pair = asked.headers["authorization"].partition(" ")[2]
        told = f"{pair} {base64.b64decode(pair).decode()} {asked.headers['authorization']}"
        return web.json_response({"message": told}, status=400)

    shop = template([])
    shop["auth"] = {"basic": "ann:{{.api_key}}"}
    error = await fails(shop, echoes, tmp_path)

    assert_hidden(error, SECRET, base64.b64encode(f"ann:{SECRET}".encode()).decode())
    assert shown(error).headers["Authorization"] == "Basic •••"


async def test_what_a_sign_in_made_and_what_was_signed_are_hidden(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        if asked.what == "POST /login":
            return {"session": TOKEN}
        signed = [asked.headers["x-signed"], asked.headers["x-sum"]]
        told = [*signed, *(spelt(TOKEN) for spelt in SPELLINGS.values())]
        return web.json_response({"message": " ".join(told)}, status=400)

    shop = template([])
    shop["auth"] = {
        "login": [
            {
                "request": {
                    "method": "POST",
                    "url": "{{.url}}/login",
                    "json": {"password": "{{.api_key}}"},
                },
                "take": {"made": "session"},
            }
        ],
        "compute": {
            "signed": "{{.Body | hmac_sha256 .api_key}}",
            "sum": "{{.Body | hmac_sha1 .api_key}}",
        },
        "apply": [
            {"in": "header", "name": "X-Session", "value": "{{.made}}"},
            {"in": "header", "name": "X-Signed", "value": "Digest {{.signed}}"},
            {"in": "header", "name": "X-Sum", "value": "{{.sum}}"},
        ],
    }
    error = await fails(shop, answers, tmp_path)

    assert_hidden(error, SECRET, TOKEN)
    headers = shown(error).headers
    assert (headers["X-Session"], headers["X-Signed"]) == ("•••", "Digest •••")
    assert shown(error).answer.count("•••") >= 3
    assert not [word for word in shown(error).answer.split() if len(word) in {40, 64}]


async def test_a_session_that_is_refused_at_once_is_hidden(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        if asked.what == "POST /login":
            return {"session": TOKEN}
        return web.json_response({"message": f"unknown: {TOKEN}"}, status=401)

    shop = template([{"in": "header", "name": "X-Session", "value": "{{.made}}"}])
    login = {"method": "POST", "url": "{{.url}}/login", "json": {"key": "{{.api_key}}"}}
    shop["auth"]["login"] = [{"request": login, "take": {"made": "session"}}]
    error = await fails(shop, answers, tmp_path)

    assert isinstance(error, NeedsReconnect)
    assert shown(error).status == 401
    assert_hidden(error, TOKEN, SECRET)


async def test_a_session_that_another_request_renewed_meanwhile_is_hidden(
    clock: ManualClock, tmp_path: Path
) -> None:
    """The one that it was sent with may be good for an hour yet."""
    made_tokens: list[str] = []
    came, renewed = asyncio.Event(), asyncio.Event()

    async def answers(asked: Asked) -> Any:
        if asked.what == "POST /login":
            made_tokens.append(f"{TOKEN}{len(made_tokens)}")
            return {"session": made_tokens[-1]}
        token = asked.headers["x-session"]
        if asked.what == "GET /me":
            return web.Response(status=401) if token == made_tokens[0] else {}
        came.set()
        await renewed.wait()
        return web.json_response({"message": f"not with {token}"}, status=400)

    shop = template([{"in": "header", "name": "X-Session", "value": "{{.made}}"}])
    login = {"method": "POST", "url": "{{.url}}/login", "json": {"key": "{{.api_key}}"}}
    shop["auth"]["login"] = [{"request": login, "take": {"made": "session"}}]
    given = {"credentials": {"api_key": SECRET}}
    async with connected(shop, answers, tmp_path, given=given, clock=clock) as made:
        writing = asyncio.create_task(made.connector.write_entry(CALL, within=WITHIN))
        await came.wait()
        # A session that was just given is not renewed.
        await clock.advance(timedelta(minutes=10))
        await made.connector.check()
        renewed.set()
        with pytest.raises(Rejected, match="not with •••") as caught:
            await writing
    assert_hidden(caught.value, *made_tokens)


async def test_a_token_is_hidden_without_the_word_before_it(tmp_path: Path) -> None:
    """A key that is given with its scheme, and a header that the template makes by itself."""

    def answers(asked: Asked) -> Any:
        pair = asked.headers["authorization"].partition(" ")[2]
        made = asked.headers["x-auth-token"]
        return web.json_response({"message": f"no {pair}, no {made}"}, status=400)

    shop = template(
        [{"in": "header", "name": "Authorization", "value": "{{.api_key}}"}],
        headers={"X-Auth-Token": "{{.api_key | sha256}}"},
    )
    given = {"credentials": {"api_key": f"Bearer {TOKEN}"}}
    async with connected(shop, answers, tmp_path, given=given) as made:
        with pytest.raises(Rejected) as caught:
            await made.connector.write_entry(CALL, within=WITHIN)
    assert caught.value.message.endswith("no •••, no •••")
    assert_hidden(caught.value, TOKEN)


async def test_why_an_entry_was_not_accepted_tells_no_key(tmp_path: Path) -> None:
    shop = template([{"in": "header", "name": "X-Own", "value": "{{.api_key | UrlEncode}}"}])
    shop["journal"] = {**SHOP["journal"], "accepted": "verdict"}
    verdict = f"no: {SECRET}\x1b[2J{'x' * 5000}"
    error = await fails(shop, lambda _: {"verdict": verdict, "id": 1}, tmp_path)

    assert isinstance(error, Rejected)
    assert error.message.startswith("the CRM did not take the entry: no: ••• [2J")
    assert len(error.message) < 500
    assert_hidden(error, SECRET)


async def test_the_codes_of_errors_are_shown(tmp_path: Path) -> None:
    answer = {"data": [{"code": "INVALID_DATA", "state": "error", "api_key": "of-somebody"}]}
    shop = template([{"in": "header", "name": "X-Own", "value": "{{.api_key | UrlEncode}}"}])
    error = await fails(shop, lambda _: web.json_response(answer, status=400), tmp_path)

    assert "INVALID_DATA" in shown(error).answer
    assert "of-somebody" not in shown(error).answer


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (web.Response(status=400, text="{}"), Rejected, 400),
        (web.Response(status=429), Throttled, 429),
        (web.Response(status=502, text="<html>"), Unavailable, 502),
        (web.Response(status=200, text="<html>"), Unavailable, 200),
        (web.Response(status=200, text="{}"), Unavailable, 200),
    ],
    ids=["refused", "slow-down", "away", "a-page", "no-id"],
)
async def test_whatever_went_wrong_has_its_exchange(
    answer: web.Response, kind: type[MeshError], status: int, tmp_path: Path
) -> None:
    shop = template([{"in": "header", "name": "X-Own", "value": "{{.api_key | UrlEncode}}"}])
    error = await fails(shop, lambda _: answer, tmp_path)

    assert isinstance(error, kind)
    assert shown(error).status == status
    assert shown(error).url.endswith("/calls")


async def test_a_request_without_an_answer_is_shown(tmp_path: Path) -> None:
    given = {
        "credentials": {"api_key": SECRET},
        "parameters": {"url": f"http://127.0.0.1:{_closed()}"},
    }
    shop = template([{"in": "query", "name": "key", "value": "{{.api_key}}"}])
    async with connected(shop, lambda _: {}, tmp_path, given=given) as made:
        with pytest.raises(Unavailable) as caught:
            await made.connector.write_entry(CALL, within=WITHIN)
    assert (shown(caught.value).status, shown(caught.value).answer) == (None, "")
    assert shown(caught.value).url.endswith("/calls?key=•••")
    assert_hidden(caught.value, SECRET)


async def test_a_request_whose_time_was_over_is_shown(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def waits() -> Any:
        await never.wait()

    given = {"credentials": {"api_key": "k-1"}}
    async with connected(SHOP, lambda _: waits(), tmp_path, given=given) as made:
        with pytest.raises(OutOfTime) as caught:
            await made.connector.write_entry(CALL, within=timedelta(seconds=0.5))
        never.set()
    assert shown(caught.value).status is None


async def test_what_was_not_sent_is_not_shown(tmp_path: Path) -> None:
    slow = web.Response(status=429, headers={"Retry-After": "60"})
    given = {"credentials": {"api_key": "k-1"}}
    async with connected(SHOP, lambda _: slow, tmp_path, given=given) as made:
        for sent in (True, False):
            with pytest.raises(Throttled) as caught:
                await made.connector.write_entry(CALL, within=WITHIN)
            assert (exchange_of(caught.value) is not None) is sent
    assert len(made.crm.asked) == 1


async def test_a_large_answer_is_not_looked_through(tmp_path: Path) -> None:
    body = {"message": "x" * 300_000}
    error = await fails(SHOP, lambda _: web.json_response(body, status=400), tmp_path)
    assert shown(error).answer == "(300015 bytes)"
    long = {"message": "x" * 30_000}
    error = await fails(SHOP, lambda _: web.json_response(long, status=400), tmp_path)
    assert len(shown(error).answer) < 4100


async def test_neither_a_problem_nor_a_traceback_shows_the_exchange(tmp_path: Path) -> None:
    answer = {"only": "in the exchange"}
    error = await fails(SHOP, lambda _: web.json_response(answer, status=400), tmp_path)
    assert "in the exchange" in shown(error).answer
    told = f"{of_error(error).text} {''.join(traceback.format_exception(error))} {error!r}"
    assert "in the exchange" not in told
    assert "ref-0001" not in told


def _closed() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
