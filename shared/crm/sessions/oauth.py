"""OAuth 2 (RFC 6749): one question to a token address, in the form that the CRM takes."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

import orjson
from yarl import URL

from shared.crm.form.access import ClientPlace, Encoding, Grant, OAuth2
from shared.crm.form.requests import Method, Request
from shared.crm.language.contexts import form_value, query_value
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.crm.rendering import Rendered, Scope, render
from shared.crm.sessions.replies import LONGEST_VALUE, AuthRequests, Reply
from shared.errors import ContractError, NeedsReconnect, Throttled, TransientError

#: Beside those that begin with ``invalid_`` (RFC 6749, 4.1.2.1 and 5.2): Zoho has more of them.
_REFUSALS = frozenset({"access_denied", "unauthorized_client", "unsupported_grant_type"})
#: Words of CRMs that have no such codes: Kommo, Bitrix24.
_LOST = re.compile(r"\b(?:invalid|revoked|expired|decrypt)", re.IGNORECASE)
#: Longer ones are not believed; a connection is used every day.
_LONGEST_LIFE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Granted:
    """
    *life* is None where the answer does not say it; *taken* is what the template takes. With a
    *fault* the rest cannot be used, but a new refresh token is not to be lost for it.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    life: timedelta | None
    taken: Mapping[str, str] = field(repr=False)
    fault: NeedsReconnect | None = None


def wanted_by(grant: Grant, scope: Scope) -> dict[str, str]:
    """What goes to the token address for *grant*, where nothing is refreshed."""
    wanted = {"grant_type": str(grant)}
    if grant is Grant.PASSWORD:
        wanted |= {name: _own(scope, name) for name in ("username", "password")}
    return wanted


async def fetch(
    oauth2: OAuth2,
    wanted: Mapping[str, str],
    *,
    scope: Scope,
    requests: AuthRequests,
    again: str,
) -> Granted:
    """
    Asks with *wanted* (``grant_type`` and what belongs to it), the client and the template's own
    parameters.

    Raises: NeedsReconnect for a grant that is refused, Throttled for one that is refused for now,
    Unavailable, Rejected, ContractError for a wrong template.
    """
    rendered, sent = _question(oauth2, wanted, scope)
    reply = await requests.send(rendered)
    found, missing = reply.take({"AccessToken": oauth2.access_token})
    if missing or reply.status >= HTTPStatus.BAD_REQUEST:
        raise _refused(reply, sent, again)
    taken: Mapping[str, str] = {}
    fault = None
    try:
        taken, _ = reply.take(oauth2.take)
    except NeedsReconnect as error:
        fault = error
    refresh_token = at_path(reply.value, oauth2.refresh_token)
    usable = isinstance(refresh_token, str) and 0 < len(refresh_token) <= LONGEST_VALUE
    return Granted(
        access_token=found["AccessToken"],
        refresh_token=refresh_token if usable else None,
        life=_life(at_path(reply.value, oauth2.expires_in)),
        taken=taken,
        fault=fault,
    )


def _question(
    oauth2: OAuth2, wanted: Mapping[str, str], scope: Scope
) -> tuple[Rendered, dict[str, str]]:
    """The request, and all the parameters that are in it."""
    is_refresh = wanted["grant_type"] == Grant.REFRESH_TOKEN
    address = (oauth2.refresh_url if is_refresh else None) or oauth2.token_url
    rendered = render(Request(method=oauth2.method, url=address), scope)
    if rendered is None:
        raise ContractError("auth.oauth2.token_url comes out as nothing")
    parameters = dict(wanted)
    client = {n: v for n in ("client_id", "client_secret") if (v := _own(scope, n))}
    headers = dict(rendered.headers)
    if oauth2.client is ClientPlace.BASIC:
        # RFC 6749, 2.3.1: each of the two is encoded before they are joined.
        pair = ":".join(quote_plus(client.get(n, "")) for n in ("client_id", "client_secret"))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        parameters |= client
    if wanted["grant_type"] in {Grant.CLIENT_CREDENTIALS, Grant.PASSWORD} and (
        asked := scope.text(oauth2.scope).strip()
    ):
        parameters["scope"] = asked
    parameters |= {
        name: value for name, text in oauth2.token_parameters.items() if (value := scope.text(text))
    }
    rendered = replace(rendered, headers=headers)
    return _encoded(rendered, oauth2, parameters), {**parameters, **client}


def _encoded(rendered: Rendered, oauth2: OAuth2, parameters: Mapping[str, str]) -> Rendered:
    """Whatever the template says, a GET has no body."""
    headers = dict(rendered.headers)
    if oauth2.method is Method.GET or oauth2.encoding is Encoding.QUERY:
        return replace(rendered, url=with_query(rendered.url, parameters))
    if oauth2.encoding is Encoding.JSON:
        headers["Content-Type"] = "application/json"
        return replace(rendered, headers=headers, body=orjson.dumps(parameters))
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    pairs = "&".join(f"{query_value(n)}={form_value(v)}" for n, v in parameters.items())
    return replace(rendered, headers=headers, body=pairs.encode())


def with_query(url: URL, parameters: Mapping[str, str]) -> URL:
    """Those of *parameters* that the template's own address does not have already."""
    pairs = "&".join(
        f"{query_value(n)}={query_value(v)}" for n, v in parameters.items() if n not in url.query
    )
    if not pairs:
        return url
    plain = str(url.with_fragment(None))
    return URL(f"{plain}{'&' if '?' in plain else '?'}{pairs}", encoded=True)


def _refused(reply: Reply, sent: Mapping[str, str], again: str) -> TransientError:
    """Zoho refuses with status 200, and 400 may mean "too many"."""
    public = {"grant_type", "scope"}
    said = reply.words(value for name, value in sent.items() if name not in public)
    lost = (
        reply.status == HTTPStatus.UNAUTHORIZED
        or reply.code in _REFUSALS
        or reply.code.startswith("invalid_")
        or _LOST.search(said) is not None
    )
    if lost:
        return NeedsReconnect(f"the CRM refuses the grant ({said}); {again}")
    return Throttled(f"the CRM gives no token for now ({said})", retry_after=reply.wait)


def _life(told: Any) -> timedelta | None:
    """Seconds, as a number or as text; None for anything else and for nothing."""
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return None
    try:
        seconds = float(told)
    except (ValueError, OverflowError):
        return None
    if math.isnan(seconds) or seconds <= 0:
        return None
    return timedelta(seconds=min(seconds, _LONGEST_LIFE.total_seconds()))


def _own(scope: Scope, name: str) -> str:
    return str(plain_text(scope.own.get(name)))
