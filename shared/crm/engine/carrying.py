"""What goes out with a request beside its own: the template's headers, its auth, fetched files."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus

import orjson
from yarl import URL

from shared.clock import Clock
from shared.crm.form.access import PlaceKind
from shared.crm.form.manifest import Manifest
from shared.crm.form.requests import FilePart
from shared.crm.language.contexts import form_value, header_name, header_value, query_value
from shared.crm.rendering import Rendered, Scope
from shared.errors import ContractError, Rejected, Unavailable
from shared.net.client import HttpClient


def carrying(
    manifest: Manifest, rendered: Rendered, scope: Scope, *, clock: Clock, plain: bool
) -> Rendered:
    """
    With what auth puts on each request and, unless it is *plain*, the template's own headers,
    which win over those of auth; the request's own win over both.
    """
    own = {} if plain else manifest.headers
    template = {name: value for name, text in own.items() if (value := scope.text(text))}
    auth = manifest.auth
    scope = _signed(manifest, rendered, scope, clock)
    authed = {}
    if auth.basic is not None:
        pair = base64.b64encode(scope.text(auth.basic).encode()).decode()
        authed["Authorization"] = f"Basic {pair}"
    carried = [
        (place.kind, name, value)
        for place in auth.carried
        if (name := scope.text(place.name)) and (value := scope.text(place.value))
    ]
    headers = _layered(
        {"Accept": "application/json"},
        authed,
        {header_name(name): value for kind, name, value in carried if kind is PlaceKind.HEADER},
        template,
    )
    safe = {name: header_value(value) for name, value in headers.items()}
    ready = replace(rendered, headers=_layered(safe, rendered.headers))
    for kind, name, value in carried:
        if kind is not PlaceKind.HEADER:
            ready = _placed(ready, kind, name, value)
    return ready


async def with_parts(
    rendered: Rendered,
    parts: Mapping[str, str | FilePart],
    scope: Scope,
    *,
    http: HttpClient,
    within: timedelta,
) -> Rendered:
    """
    RFC 7578; files are fetched without any of the CRM's credentials.

    Raises: Unavailable, Rejected for a file that cannot be fetched.
    """
    boundary = secrets.token_hex(16)
    body = bytearray()
    for name, part in parts.items():
        quoted = name.replace('"', "%22")
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"'.encode()
        if isinstance(part, FilePart):
            filename = scope.text(part.filename).replace('"', "%22")
            body += f'; filename="{header_value(filename)}"\r\n'.encode()
            body += f"Content-Type: {part.content_type}\r\n\r\n".encode()
            body += await _fetched(scope.text(part.fetch), http, within)
        else:
            body += b"\r\n\r\n" + scope.text(part).encode()
        body += b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return replace(rendered, body=bytes(body), headers=_layered(rendered.headers, kind))


async def _fetched(address: str, http: HttpClient, within: timedelta) -> bytes:
    try:
        url = URL(address)
    except ValueError:
        raise Rejected("the recording's address is none") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise Rejected("a recording without an http address cannot be uploaded")
    file = await http.send("GET", url, within=within)
    if file.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable(f"the recording's address answered {file.status}")
    if file.status != HTTPStatus.OK:
        # What stands behind a redirect is not followed, and its page is no recording.
        raise Rejected(f"the recording's address answered {file.status}")
    return file.body


def _layered(*layers: Mapping[str, str]) -> dict[str, str]:
    """Of headers that differ in capitals only, the one of the last layer."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        found |= {name.lower(): (name, value) for name, value in layer.items()}
    return dict(found.values())


def _signed(manifest: Manifest, rendered: Rendered, scope: Scope, clock: Clock) -> Scope:
    if not (manifest.auth.compute or manifest.auth.apply):
        return scope
    url = rendered.url
    scope = scope.having(
        {
            "Method": rendered.method,
            "Url": str(url),
            "Path": url.raw_path,
            "Query": url.raw_query_string,
            "Body": (rendered.body or b"").decode("utf-8", "replace"),
            "Timestamp": int(clock.now().timestamp()),
            "Nonce": secrets.token_hex(16),
        }
    )
    for name, text in manifest.auth.compute.items():
        scope = scope.having({name: scope.text(text)})
    return scope


def _placed(ready: Rendered, kind: PlaceKind, name: str, value: str) -> Rendered:
    pair = f"{query_value(name)}={form_value(value)}"
    if kind is PlaceKind.QUERY:
        text, hash_, fragment = str(ready.url).partition("#")
        joined = f"{text}{'&' if ready.url.raw_query_string else '?'}{pair}"
        return replace(ready, url=URL(f"{joined}{hash_}{fragment}", encoded=True))
    try:
        if kind is PlaceKind.FORM:
            body = f"{ready.body.decode()}&{pair}" if ready.body else pair
            typed = _layered({"Content-Type": "application/x-www-form-urlencoded"}, ready.headers)
            return replace(ready, body=body.encode(), headers=typed)
        filled = orjson.loads(ready.body) if ready.body else {}
    except ValueError:
        filled = None
    if not isinstance(filled, dict):
        raise ContractError(f"auth puts a key into the {kind} body, and this body is none")
    filled[name] = value
    typed = _layered({"Content-Type": "application/json"}, ready.headers)
    return replace(ready, body=orjson.dumps(filled), headers=typed)
