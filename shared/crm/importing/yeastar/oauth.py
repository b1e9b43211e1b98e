"""Yeastar's OAuth 2 and its Bearer with an address for tokens → auth.oauth2."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

from shared.crm.importing.yeastar.bodies import form_of, json_of, without_query
from shared.crm.importing.yeastar.fields import AUTH, Fields
from shared.crm.importing.yeastar.requests import File, Parameters, at
from shared.crm.importing.yeastar.words import NOTHING

#: What the engine sends by itself, in an address for consent and in one for a token.
_OF_CONSENT = ("client_id", "client_secret", "redirect_uri", "response_type", "state", "scope")
_OF_TOKEN = (
    "grant_type",
    "client_id",
    "client_secret",
    "redirect_uri",
    "code",
    "refresh_token",
    "username",
    "password",
)
#: When a file's field for it is there and empty (the vendor's form says so).
DEFAULT_REFRESH = "25m"
_REFRESH_TIME = ("TokenRefreshTime", "RefreshTokenTime", "TokenRefreshInterval", "RefreshTime")
_REFRESH_URL = ("TokenRefreshEndPoint", "RefreshTokenEndPoint", "RefreshEndPoint")
_REFRESH_BODY = ("TokenRefreshRequestBody", "TokenRefreshBody", "RefreshTokenBody", "RefreshBody")
_TOKEN_KIND = ("TokenContentType", "ContentType", "TokenRequestEncoding", "RequestEncoding")


def oauth2_of(file: File, given: Parameters, fields: Fields, *, grant: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    query: dict[str, str] = {}
    if source := given.get("AuthEndPoint"):
        made["authorize_url"], parts = _address(file, source, "AuthEndPoint", _OF_CONSENT)
        made["scope"] = parts.get("scope")
    token, query = _address(file, given.get("TokenEndPoint") or "", "TokenEndPoint", _OF_TOKEN)
    told = query.get("grant_type", "")
    if grant != "authorization_code" and told in {"password", "refresh_token"}:
        grant = told
    if token is None or (grant == "authorization_code" and not made.get("authorize_url")):
        file.notes.left(AUTH, "OAuth 2 without both its addresses; write `auth` by hand")
        return {}
    made |= {"grant": grant, "token_url": token}
    if query:
        made["encoding"] = "query"
    _add_scope(file, given, made)
    _add_renewal(file, given, made)
    if "json" in (given.get(*_TOKEN_KIND) or "").lower():
        made["encoding"] = "json"
    for name in ("username", "password") if grant == "password" else ():
        fields.need(name)
    for name in ("client_id", "client_secret"):
        fields.need(name)
    file.names.own["AccessToken"] = "AccessToken"
    if grant == "authorization_code":
        made["pkce"] = False
        file.notes.changed(
            AUTH, "pkce is off, as the vendor has none; set it where the CRM knows it"
        )
    order = ("grant", "authorize_url", "token_url", "refresh_url")
    auth: dict[str, Any] = {"oauth2": {n: made[n] for n in (*order, *made) if made.get(n)}}
    auth["oauth2"] |= {name: made[name] for name in ("pkce",) if name in made}
    scheme = given.get("TokenType") or "Bearer"
    if scheme.lower() != "bearer":
        value = f"{scheme} {{{{.AccessToken}}}}"
        auth["apply"] = [{"in": "header", "name": "Authorization", "value": value}]
    return auth


def _address(
    file: File, source: str, name: str, known: tuple[str, ...]
) -> tuple[str | None, dict[str, str]]:
    """Without what the engine puts to it, and what that was. None where there is no address."""
    place = f"{AUTH}, {name}"
    plain, found = without_query(file.names.scrubbed(source.strip(), place), known)
    if found:
        file.notes.taken(place, f"{', '.join(found)}: sent by the engine")
    return (file.names.text(plain, place, NOTHING) if plain else None), found


def _add_scope(file: File, given: Parameters, made: dict[str, Any]) -> None:
    place = f"{AUTH}, AdditionalQueryString"
    more = file.names.scrubbed(f"?{given.get('AdditionalQueryString') or ''}", place)
    rest, found = without_query(more, _OF_CONSENT)
    scope = given.get("Scope") or made.get("scope") or unquote_plus(found.get("scope", ""))
    made["scope"] = file.names.text(scope, f"{AUTH}, Scope", NOTHING)
    parameters = {
        name: file.names.text(str(value), place, NOTHING)
        for name, value in form_of(rest.removeprefix("?")).items()
    }
    made["authorize_parameters"] = {name: text for name, text in parameters.items() if text}


def _add_renewal(file: File, given: Parameters, made: dict[str, Any]) -> None:
    """The names of 83.21's fields are not documented; the likely spellings are read."""
    if source := given.get(*_REFRESH_URL):
        address, _ = _address(file, source, "token refresh", _OF_TOKEN)
        if address and address != made["token_url"]:
            made["refresh_url"] = address
    if body := given.get(*_REFRESH_BODY):
        made["token_parameters"] = _further(file, body)
    if (minutes := given.get(*_REFRESH_TIME)) is not None:
        if not minutes:
            made["refresh_every"] = DEFAULT_REFRESH
        elif re.fullmatch(r"[0-9]{1,6}", minutes):
            made["refresh_every"] = f"{int(minutes)}m" if int(minutes) else "0s"
    for option in given.group("AuthOption"):
        if option.get("Name") == "NoNeedRefreshAccessToken":
            if option.get("Value") == "1":
                made["refresh_every"] = "0s"
        else:
            file.notes.left(at(option, AUTH), "an option that has no place here")


def _further(file: File, body: str) -> dict[str, str]:
    """What a body for a new token says beside what the engine does."""
    place = f"{AUTH}, token refresh body"
    body = file.names.scrubbed(body, place)
    read = json_of(body) if body.lstrip().startswith("{") else form_of(body)
    found = read if isinstance(read, dict) else {}
    kept = {}
    for name, said in found.items():
        value = str(said)
        if name in _OF_TOKEN:
            continue
        is_grant = any(f".{one}" in value for one in ("refresh_token", "redirect_uri", "code"))
        text = None if is_grant else file.names.text(value, place, NOTHING)
        if text:
            kept[name] = text
            file.notes.changed(place, f"{name} is sent with every request for a token")
        else:
            file.notes.left(place, f"{name[:40]}: the engine sends the token as refresh_token")
    if not found:
        file.notes.left(place, "a body that is no JSON object and no form")
    return kept
