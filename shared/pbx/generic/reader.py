"""The generic hook: its signature, and its body → sightings. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import from_json

from shared.contracts.hooks import MOST_EVENTS, HookEvent
from shared.errors import ContractError, Forbidden
from shared.faults import faults_by_path
from shared.pbx.generic.cdr import sightings
from shared.pbx.port import HookReading, Phones, RawHook, Sighting

TIMESTAMP = "X-Callmesh-Timestamp"
SIGNATURE = "X-Callmesh-Signature"
#: How far the clock of a PBX that signs may be off, and how long its hook may be on its way.
SIGNED_FOR = timedelta(minutes=5)
#: An event that is older was not late: the clock of its PBX is wrong, as it is when it lies ahead.
MOST_LATE = timedelta(days=7)
MOST_EARLY = timedelta(days=1)

_UNIX_SECONDS = re.compile(r"[0-9]{1,11}")
_MILLISECONDS = 12
#: More than any event has; each one that is unknown would be a fault to tell.
_MOST_FIELDS = 100
#: What else is wrong is said when these are mended.
_MOST_FAULTS = 10


class GenericHookReader:
    """Without *secret*, hooks are not signed: the key that let them in is enough."""

    def __init__(self, *, tenant: str, pbx: str, secret: SecretStr | None = None) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._secret = secret

    def verify(self, hook: RawHook) -> None:
        """
        ``X-Callmesh-Timestamp`` is in unix seconds; ``X-Callmesh-Signature`` is ``sha256=`` and the
        HMAC-SHA256 of the timestamp, a full stop and the body, in hexadecimal digits. The same
        hook again within five minutes is let in: it makes the same sightings.
        """
        if self._secret is None:
            return
        stamp, signature = _header(hook, TIMESTAMP), _header(hook, SIGNATURE)
        if not _UNIX_SECONDS.fullmatch(stamp):
            in_ms = stamp.isdigit() and len(stamp) > _MILLISECONDS
            hint = ", not in milliseconds" if in_ms else ""
            raise Forbidden(f"{TIMESTAMP} is to be the time in whole unix seconds{hint}")
        key = self._secret.get_secret_value().encode()
        mac = hmac.new(key, stamp.encode() + b"." + hook.body, hashlib.sha256).hexdigest()
        # As bytes: of texts, only those in ASCII can be compared.
        if not hmac.compare_digest(
            f"sha256={mac}".encode(), signature.lower().encode(errors="replace")
        ):
            raise Forbidden(
                f"{SIGNATURE} is wrong: it is `sha256=` and the HMAC-SHA256 of {TIMESTAMP}, a full "
                "stop and the body as it is sent, by this connection's `signing_secret`"
            )
        ahead = int(stamp) - hook.received_at.timestamp()
        if abs(ahead) > SIGNED_FOR.total_seconds():
            side = "ahead of" if ahead > 0 else "behind"
            raise Forbidden(
                f"{TIMESTAMP} is {abs(ahead):.0f} s {side} our clock, {SIGNED_FOR.seconds} s are "
                "allowed: set the clock of the PBX by NTP, and sign each request when it is sent",
                out_of_time=True,
            )

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        """
        One event or a batch; one that cannot be read keeps all of the batch out. Where the clock
        of the PBX is plainly wrong, its times are moved so that the last of them is now.
        """
        read = [
            (event.at, sightings(event, tenant=self._tenant, pbx=self._pbx, phones=phones))
            for event in events_in(hook.body)
        ]
        return HookReading(_set_right(read, hook.received_at))


def events_in(body: bytes) -> list[HookEvent]:
    """
    One event, or those of a batch. The doors have bounded the body.

    Raises: ContractError, which repeats nothing of it.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ContractError(f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(document, dict):
        raise ContractError('an event is a JSON object, and several are {"events": […]}')
    if "events" not in document:
        documents: Any = [document]
    elif len(document) > 1:
        raise ContractError("beside `events` there is an unknown key")
    else:
        documents = document["events"]
    if not isinstance(documents, list) or not 1 <= len(documents) <= MOST_EVENTS:
        raise ContractError(f"events: a list of 1 to {MOST_EVENTS} events is needed")
    return _events(documents, batch="events" in document)


def _events(documents: Sequence[Any], *, batch: bool) -> list[HookEvent]:
    events, faults = [], list[str]()
    for place, document in enumerate(documents):
        where = ("events", place) if batch else ()
        if isinstance(document, dict) and len(document) > _MOST_FIELDS:
            faults.append(f"{_path(where)}: more than {_MOST_FIELDS} fields")
        else:
            try:
                events.append(HookEvent.model_validate(document))
            except ValidationError as error:
                found = faults_by_path(error, HookEvent)
                faults += [f"{_path((*where, *path))}: {what}" for path, what in found]
        if len(faults) >= _MOST_FAULTS:
            break
    if faults:
        raise ContractError("; ".join(faults[:_MOST_FAULTS]))
    return events


def _path(parts: tuple[str | int, ...]) -> str:
    return ".".join(str(part)[:64] for part in parts) or "event"


def _set_right(read: Sequence[tuple[datetime, list[Sighting]]], now: datetime) -> list[Sighting]:
    wrong = [at for at, _ in read if not _is_plausible(at, now)]
    last = max(wrong, default=now)
    found: list[Sighting] = []
    for at, seen in read:
        if _is_plausible(at, now):
            found += seen
        else:
            # What lies far apart was not told by one clock.
            by = now - (last if last - at <= MOST_LATE else at)
            found += [replace(one, at=one.at + by) for one in seen]
    return found


def _is_plausible(at: datetime, now: datetime) -> bool:
    return -MOST_LATE <= at - now <= MOST_EARLY


def _header(hook: RawHook, name: str) -> str:
    """Raises: Forbidden."""
    found = hook.headers.get(name.lower(), "").strip()
    if not found:
        raise Forbidden(
            f"header {name} is missing: this connection has a `signing_secret`, so that each "
            "request is to be signed"
        )
    return found
