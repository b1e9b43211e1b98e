"""
The sandbox CRM's OAuth 2 server, as Zoho's: consent by a page, authorization codes with PKCE,
refresh tokens that may rotate, the client's own and a user's password grant.

As Zoho does, it reports a refused grant with status 200.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta

from aiohttp import web
from yarl import URL

from shared.clock import Clock
from shared.sandbox.faults import Faults, failure

CLIENT_ID = "1000.SANDBOX"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105  opens nothing but the sandbox
REFRESH_TOKEN = "1000.sandbox.refresh"  # noqa: S105  as above
USERNAME = "jane@sandbox.example"
PASSWORD = "sandbox-password"  # noqa: S105  as above

_CODE_LIFE = timedelta(minutes=1)
_TOKENS_IN_TEN_MINUTES = 10
_FAMILY = "sandbox"

_TABLES = """
CREATE TABLE IF NOT EXISTS tokens (token TEXT PRIMARY KEY, issued_ms INTEGER, until_ms INTEGER);
CREATE TABLE IF NOT EXISTS refresh_tokens (
  token TEXT PRIMARY KEY, family TEXT, spent INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS codes (
  code TEXT PRIMARY KEY, redirect_uri TEXT, challenge TEXT, until_ms INTEGER)"""

_PAGE = """<!doctype html><meta charset="utf-8"><title>Sandbox CRM</title>
<h1>Sandbox CRM</h1><p>{client} wants to use your data: {scope}</p>
<p><a href="{yes}">Accept</a> <a href="{no}">Deny</a></p>"""


class SandboxOAuth:
    """``asked`` counts the requests for tokens."""

    def __init__(self, db: sqlite3.Connection, clock: Clock, faults: Callable[[], Faults]) -> None:
        self.asked = 0
        self._db = db
        self._clock = clock
        self._faults = faults
        db.executescript(_TABLES)
        db.execute(
            "INSERT OR IGNORE INTO refresh_tokens VALUES (?, ?, 0)", (REFRESH_TOKEN, _FAMILY)
        )

    def add_routes(self, app: web.Application) -> None:
        app.router.add_route("GET", "/oauth/v2/auth", self._consent)
        app.router.add_route("POST", "/oauth/v2/token", self._token)

    def knows(self, token: str) -> bool:
        """Whether it is an access token that is good."""
        query = "SELECT 1 FROM tokens WHERE token = ? AND until_ms > ?"
        return self._db.execute(query, (token, self._ms())).fetchone() is not None

    def forget(self) -> None:
        """Every access token is refused from now on; refresh tokens still work."""
        self._db.execute("UPDATE tokens SET until_ms = 0")

    # -- consent -------------------------------------------------------------------------------

    async def _consent(self, request: web.Request) -> web.Response:
        """A page; its links are this address with ``approve=1`` or ``approve=0``."""
        query = request.query
        back = _address(query.get("redirect_uri", ""))
        if query.get("client_id") != CLIENT_ID or back is None:
            # RFC 6749, 4.1.2.1: nobody is sent to an address that is not the client's.
            return web.Response(status=400, text="ERROR: invalid client_id or redirect_uri")
        state = {"state": query["state"]} if "state" in query else {}
        if query.get("response_type") != "code":
            raise web.HTTPFound(back.update_query({"error": "unsupported_response_type", **state}))
        challenge = query.get("code_challenge", "")
        if challenge and query.get("code_challenge_method") != "S256":
            raise web.HTTPFound(back.update_query({"error": "invalid_request", **state}))
        if (approve := query.get("approve")) is None:
            return web.Response(text=_page(request), content_type="text/html")
        if approve != "1":
            raise web.HTTPFound(back.update_query({"error": "access_denied", **state}))
        code = f"1000.{secrets.token_hex(16)}"
        until = self._ms() + _ms(_CODE_LIFE)
        self._db.execute(
            "INSERT INTO codes VALUES (?, ?, ?, ?)", (code, query["redirect_uri"], challenge, until)
        )
        raise web.HTTPFound(back.update_query({"code": code, "location": "us", **state}))

    # -- tokens --------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        faults = self._faults()
        if faults.takes("fail_tokens"):
            return failure(faults)
        form = {n: str(v) for n, v in {**request.query, **(await request.post())}.items()}
        grants: dict[str, Callable[[Mapping[str, str]], str | None]] = {
            "refresh_token": self._by_refresh_token,
            "authorization_code": self._by_code,
            "client_credentials": lambda _: "",
            "password": self._by_password,
        }
        by_grant = grants.get(form.get("grant_type", ""))
        if by_grant is None:
            return web.json_response({"error": "unsupported_grant_type"})
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return web.json_response({"error": "invalid_client"})
        family = by_grant(form)
        if family is None:
            return web.json_response({"error": "invalid_code"})
        if self._issued_lately() >= _TOKENS_IN_TEN_MINUTES:
            return web.json_response(
                {"error": "Access Denied", "error_description": "too many requests"}, status=400
            )
        answer = self._issued(form, family, f"http://{request.host}")
        if faults.takes("lose_tokens"):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return web.json_response(answer)

    def _by_refresh_token(self, form: Mapping[str, str]) -> str | None:
        """Its family, None where it is refused."""
        row = self._db.execute(
            "SELECT family, spent FROM refresh_tokens WHERE token = ?",
            (form.get("refresh_token", ""),),
        ).fetchone()
        if row is None or self._faults().grant_revoked:
            return None
        family, spent = row
        if spent:
            self._db.execute("UPDATE refresh_tokens SET spent = 1 WHERE family = ?", (family,))
            return None
        return str(family)

    def _by_code(self, form: Mapping[str, str]) -> str | None:
        row = self._db.execute(
            "DELETE FROM codes WHERE code = ? RETURNING redirect_uri, challenge, until_ms",
            (form.get("code", ""),),
        ).fetchone()
        if row is None:
            return None
        redirect_uri, challenge, until = row
        if until <= self._ms() or form.get("redirect_uri") != redirect_uri:
            return None
        if challenge and _challenge(form.get("code_verifier", "")) != challenge:
            return None
        return secrets.token_hex(8)

    def _by_password(self, form: Mapping[str, str]) -> str | None:
        given = (form.get("username"), form.get("password"))
        return secrets.token_hex(8) if given == (USERNAME, PASSWORD) else None

    def _issued_lately(self) -> int:
        since = self._ms() - _ms(timedelta(minutes=10))
        (lately,) = self._db.execute(
            "SELECT count(*) FROM tokens WHERE issued_ms > ?", (since,)
        ).fetchone()
        return int(lately)

    def _issued(self, form: Mapping[str, str], family: str, url: str) -> dict[str, str | int]:
        token, now = f"1000.{secrets.token_hex(16)}", self._ms()
        life = timedelta(seconds=self._faults().token_life_s)
        self._db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (token, now, now + _ms(life)))
        answer: dict[str, str | int] = {
            "access_token": token,
            "api_domain": url,
            "token_type": "Bearer",
            "expires_in": round(life.total_seconds()),
        }
        grant = form["grant_type"]
        rotated = grant == "refresh_token" and self._faults().rotate_refresh_tokens
        if rotated:
            spent = "UPDATE refresh_tokens SET spent = 1 WHERE token = ?"
            self._db.execute(spent, (form["refresh_token"],))
        if rotated or grant in {"authorization_code", "password"}:
            answer["refresh_token"] = fresh = f"1000.{secrets.token_hex(16)}"
            self._db.execute("INSERT INTO refresh_tokens VALUES (?, ?, 0)", (fresh, family))
        return answer

    def _ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)


def _ms(length: timedelta) -> int:
    return round(length / timedelta(milliseconds=1))


def _challenge(verifier: str) -> str:
    """S256 of RFC 7636."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _address(text: str) -> URL | None:
    try:
        url = URL(text)
    except ValueError:
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def _page(request: web.Request) -> str:
    def link(approve: str) -> str:
        return html.escape(str(request.rel_url.update_query({"approve": approve})))

    return _PAGE.format(
        client=html.escape(request.query.get("client_id", "")),
        scope=html.escape(request.query.get("scope", "") or "everything"),
        yes=link("1"),
        no=link("0"),
    )
