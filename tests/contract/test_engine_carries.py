"""What every request carries: keys wherever they are wanted, and a signature of the request itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.testing.cassettes import ConnectionIn, recorder

SECRET = "s3cret/+="
TEMPLATE: dict[str, Any] = {
    "schema": 2,
    "name": "signed",
    "title": "Signed",
    "quality": "declared",
    "sources": ["this test"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url"}],
    "credentials": [{"name": "key", "title": "Key"}, {"name": "secret", "title": "Secret"}],
    "phone_formats": ["e164"],
    "search": [{"request": {"url": "{{.url}}/people", "query": {"phone": "{{.Phone}}"}}}],
    "contacts": {"People": {"phone_fields": ["phone"]}},
    "check": {"url": "{{.url}}/me", "query": {"of": "{{.key}}"}},
}


@asynccontextmanager
async def asked(tmp_path: Path, **parts: Any) -> AsyncIterator[tuple[web.Request, bytes]]:
    """The request of ``check`` by the template with *parts*, as the CRM got it."""
    got: list[tuple[web.Request, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request, await request.read()))
        return web.json_response({"ok": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    # JSON is YAML, too.
    (tmp_path / "signed.yaml").write_text(json.dumps({**TEMPLATE, **parts}))
    given = ConnectionIn(
        parameters={"url": "{server}"}, credentials={"key": "k&1", "secret": SECRET}
    )
    async with recorder(tmp_path) as made:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await made.connections.connector(made.account("signed", given, url)).check()
        (one,) = got
        yield one
    await runner.cleanup()


async def test_a_request_is_signed_over_all_that_it_says(tmp_path: Path) -> None:
    auth = {
        "compute": {
            "signed": "{{.Method}}\n{{.Path}}?{{.Query}}\n{{.Timestamp}}\n{{.Nonce}}\n{{.Body}}",
            "mac": "{{.signed | hmac_sha256 .secret}}",
            "stamp": "{{.Timestamp}}.{{.Nonce}}",
        },
        "apply": [
            {"in": "header", "name": "X-Stamp", "value": "{{.stamp}}"},
            {"in": "header", "name": "X-Mac", "value": "{{.mac}}"},
        ],
    }
    check = {"method": "POST", "url": "{{.url}}/me", "query": {"q": "a b"}, "json": {"a": "ü"}}
    async with asked(tmp_path, auth=auth, check=check) as (request, body):
        stamp, nonce = request.headers["X-Stamp"].split(".")
        text = f"POST\n{request.raw_path}\n{stamp}\n{nonce}\n{body.decode()}"
        mac = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        assert request.headers["X-Mac"] == mac


async def test_a_key_and_a_mac_may_go_into_one_header(tmp_path: Path) -> None:
    """As EspoCRM wants it: base64 of the key, a colon, and the MAC of method and path."""
    auth = {
        "compute": {
            "said": "{{.Method}} {{.Path}}",
            "mac": "{{.said | hmac_sha256 .secret}}",
            "pair": "{{.key}}:{{.mac}}",
        },
        "apply": [{"in": "header", "name": "X-Hmac-Authorization", "value": "{{.pair | base64}}"}],
    }
    async with asked(tmp_path, auth=auth) as (request, _):
        key, mac = base64.b64decode(request.headers["X-Hmac-Authorization"]).decode().split(":")
        assert key == "k&1"
        assert mac == hmac.new(SECRET.encode(), b"GET /me", hashlib.sha256).hexdigest()


@pytest.mark.parametrize("kind", ["header", "query", "form", "json"])
async def test_a_key_goes_where_the_crm_wants_it(tmp_path: Path, kind: str) -> None:
    auth = {"apply": [{"in": kind, "name": "api_key", "value": "{{.key}}"}]}
    bodies: dict[str, dict[str, Any]] = {"form": {"form": {"a": "1"}}, "json": {"json": {"a": 1}}}
    check: dict[str, Any] = {"method": "POST", "url": "{{.url}}/me?x=1", **bodies.get(kind, {})}
    async with asked(tmp_path, auth=auth, check=check) as (request, body):
        match kind:
            case "header":
                assert request.headers["api_key"] == "k&1"
            case "query":
                assert dict(request.query) == {"x": "1", "api_key": "k&1"}
            case "form":
                assert body == b"a=1&api_key=k%261"
            case "json":
                assert json.loads(body) == {"a": 1, "api_key": "k&1"}


async def test_a_pair_is_sent_as_basic(tmp_path: Path) -> None:
    async with asked(tmp_path, auth={"basic": "{{.key}}/token:{{.secret}}"}) as (request, _):
        scheme, pair = request.headers["Authorization"].split()
        assert (scheme, base64.b64decode(pair).decode()) == ("Basic", f"k&1/token:{SECRET}")
