"""What a CRM tells of changed contacts: a hook's signature checked, its events read. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict

from shared.crm.form.changes import (
    ChangeMap,
    CheckKind,
    DigestForm,
    Hook,
    HookCheck,
    HookFormat,
    SecretForm,
)
from shared.crm.language.functions import plain_text
from shared.crm.language.jsontext import read_json
from shared.crm.language.paths import at_path, list_at, of_record
from shared.crm.rendering import Scope
from shared.errors import ContractError, Unauthenticated

#: Events of one hook that are read, and contacts or numbers of one event.
_MOST_EVENTS, _MOST_OF_EVENT = 1000, 200
_DEEPEST = 10
_PLACE = re.compile(r"[0-9]{1,9}")
_KEYS = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request as it came; names of headers in lower case, *url* as the CRM called it."""

    method: str
    url: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Change(BaseModel):
    """One contact; neither id nor numbers: some contact, nobody knows which."""

    model_config = ConfigDict(frozen=True)

    contact_id: str | None = None
    numbers: tuple[str, ...] = ()


class HookReading(BaseModel):
    """*reply*: what has to be sent back to a challenge."""

    model_config = ConfigDict(frozen=True)

    changes: tuple[Change, ...] = ()
    reply: dict[str, Any] | None = None


def verify(hook: Hook, request: HookRequest, scope: Scope, *, now: datetime) -> None:
    """Raises: Unauthenticated."""
    check = hook.check
    if check.kind is CheckKind.KEY:
        return
    secret = plain_text(scope.own.get(check.secret or ""))
    if not secret:
        raise Unauthenticated(
            f"the connection has no credential {check.secret}: the hook cannot be checked"
        )
    given = _given(hook, request)
    if check.kind is CheckKind.TOKEN:
        _same(secret, given)
        return
    timestamp = request.headers.get((check.timestamp_header or "").lower(), "")
    text = _signed_text(check, request, scope, timestamp)
    mac = hmac.new(_key(check, secret), text, str(check.digest)).digest()
    hexed = check.form is DigestForm.HEX
    wanted = mac.hex() if hexed else base64.b64encode(mac).decode()
    offered = given.removeprefix(check.prefix)
    _same(wanted, offered.lower() if hexed else offered)
    # Behind the signature: what is told apart is a time that is over and one that nobody signed.
    if check.timestamp_header is not None:
        _is_fresh(timestamp, check.tolerance, now)


def read(hook: Hook, body: bytes) -> HookReading:
    """Raises: ContractError for what is no JSON."""
    value = read_json(body) if hook.format is HookFormat.JSON else nested(body)
    if hook.echo is not None:
        challenge = at_path(value, hook.echo)
        if isinstance(challenge, str | int) and not isinstance(challenge, bool):
            return HookReading(reply={hook.echo: challenge})
    events = list_at(value, hook.events)[:_MOST_EVENTS]
    found = [change for event in events for change in changes_of(hook.map, event, str)]
    return HookReading(changes=tuple(dict.fromkeys(found)))


def changes_of(mapping: ChangeMap, event: Any, path: Callable[[str], str]) -> list[Change]:
    """*path* fills the placeholders of a path."""
    ids = _texts(of_record(event, path(mapping.contact_id))) if mapping.contact_id else []
    numbers = tuple(
        dict.fromkeys(
            text for one in mapping.numbers for text in _texts(of_record(event, path(one)))
        )
    )
    if not ids:
        return [Change(numbers=numbers)] if numbers else []
    return [Change(contact_id=contact_id, numbers=numbers) for contact_id in ids]


def nested(body: bytes) -> Any:
    """
    ``contacts[update][0][id]=1`` → ``{"contacts": {"update": [{"id": "1"}]}}``.

    Raises: ContractError for too many fields or keys nested too deep.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20 * _MOST_EVENTS)
    except (UnicodeDecodeError, ValueError):
        raise ContractError("the hook's form cannot be read") from None
    root: dict[str, Any] = {}
    for name, value in pairs:
        first, bracket, rest = name.partition("[")
        keys = [first, *_KEYS.findall(bracket + rest)]
        if len(keys) > _DEEPEST:
            raise ContractError("the hook's form is nested too deep")
        place = root
        for key in keys[:-1]:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                break
            place = inner
        else:
            last = keys[-1] or str(len(place))
            place[last] = value
    return _with_lists(root)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    filled = {key: _with_lists(item) for key, item in value.items()}
    if filled and all(_PLACE.fullmatch(key) for key in filled):
        return [filled[key] for key in sorted(filled, key=int)]
    return filled


def _key(check: HookCheck, secret: str) -> bytes:
    try:
        match check.secret_form:
            case SecretForm.TEXT:
                return secret.encode()
            case SecretForm.HEX:
                return bytes.fromhex(secret)
            case SecretForm.BASE64:
                return base64.b64decode(secret, validate=True)
    except ValueError:
        raise Unauthenticated(
            f"the credential {check.secret} is not written as {check.secret_form}: the hook cannot "
            "be checked"
        ) from None


def _given(hook: Hook, request: HookRequest) -> str:
    check = hook.check
    if check.header is not None:
        return request.headers.get(check.header.lower(), "").strip()
    if check.query is not None:
        return request.query.get(check.query, "")
    value = read_json(request.body) if hook.format is HookFormat.JSON else nested(request.body)
    return plain_text(at_path(value, check.path or ""))


def _signed_text(check: HookCheck, request: HookRequest, scope: Scope, timestamp: str) -> bytes:
    url, _, query = request.url.partition("?")
    known = {
        "Method": request.method,
        "Url": request.url,
        "Path": "/" + url.partition("://")[2].partition("/")[2],
        "Query": query,
        "Timestamp": timestamp,
    }
    if check.text == "{{.Body}}":
        return request.body
    try:
        body = request.body.decode()
    except UnicodeDecodeError:
        raise Unauthenticated("the hook's body is no text") from None
    return scope.having({**known, "Body": body}).text(check.text).encode()


def _is_fresh(timestamp: str, tolerance: timedelta, now: datetime) -> None:
    try:
        if timestamp.isascii() and timestamp.isdigit():
            seconds = int(timestamp[:16])
            sent = datetime.fromtimestamp(seconds / (1000 if seconds > 10**11 else 1), UTC)
        else:
            sent = datetime.fromisoformat(timestamp)
            sent = sent if sent.tzinfo else sent.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise Unauthenticated("the hook does not say when it was sent") from None
    if abs(now - sent) > tolerance:
        raise Unauthenticated(
            "the hook was sent too long ago, or one of the clocks is wrong", out_of_time=True
        )


def _same(wanted: str, given: str) -> None:
    """In a time that tells nothing of where they differ."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (wanted, given))
    if not hmac.compare_digest(one, other):
        raise Unauthenticated("the hook is not signed with the secret of this connection")


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    texts = [plain_text(item).strip() for item in items if not isinstance(item, dict | list)]
    return [text for text in texts if text][:_MOST_OF_EVENT]
