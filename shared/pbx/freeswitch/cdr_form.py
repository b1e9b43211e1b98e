"""
What mod_json_cdr posts: the record of one channel, as JSON, as a form field ``cdr``, or that in
base64, its values URL-encoded or not. Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from shared.errors import ContractError
from shared.pbx.freeswitch.channels import from_micros
from shared.pbx.freeswitch.esl_wire import Event, json_object
from shared.pbx.port import RawHook

#: A record with all its variables is 10 to 60 kB; a call that was sent on many times has more.
MAX_RECORD_BYTES = 4 * 1024 * 1024
_MOST_PROFILES = 200
#: A clock that is further off is not believed.
_FAR_OFF = timedelta(days=1)
_LONGEST_CALL = timedelta(days=7)
_CALLED = "destination_number"


@dataclass(frozen=True, slots=True)
class LegReport:
    """
    *event*: the same words as an event of the channel has, so that the same reading applies.
    *times* by name (``start``, ``progress``, ``answer``, ``bridge``, ``end``), where they were.
    *called*: name and number of each channel that was made on its behalf. *files*: recordings.
    """

    event: Event
    times: Mapping[str, datetime]
    held: timedelta
    called: tuple[tuple[str, str], ...]
    files: tuple[str, ...]


def read_report(hook: RawHook) -> LegReport:
    """Raises: ContractError."""
    record = json_object(_payload(hook))
    variables = _texts(record.get("variables"))
    flow = _listed(record.get("callflow"))[:_MOST_PROFILES]
    # FreeSWITCH counts profiles from 1, and lists the newest first.
    flow.sort(key=lambda part: _number(part.get("profile_index")))
    first = _mapping(flow[0].get("caller_profile")) if flow else {}
    profile = _texts(first)
    uuid = variables.get("uuid") or profile.get("uuid")
    if not uuid:
        raise ContractError("no record of a call: variables.uuid is missing")
    event = {f"variable_{name}": value for name, value in variables.items()}
    event |= {
        "Unique-ID": uuid,
        "Call-Direction": variables.get("direction", ""),
        "Channel-Call-UUID": variables.get("call_uuid", ""),
        "Channel-Name": variables.get("channel_name") or profile.get("chan_name", ""),
        "Channel-Presence-ID": variables.get("presence_id", ""),
        "Caller-Username": profile.get("username", ""),
        "Caller-Network-Addr": profile.get("network_addr", ""),
        "Caller-Caller-ID-Name": profile.get("caller_id_name", ""),
        "Caller-Caller-ID-Number": profile.get("caller_id_number", ""),
        "Caller-Destination-Number": profile.get(_CALLED, ""),
    }
    return LegReport(
        event=event,
        times=_times(variables, flow, hook.received_at),
        held=_held(flow),
        called=tuple(_called(flow)),
        files=tuple(_files(record)),
    )


def _payload(hook: RawHook) -> bytes:
    body = hook.body.strip()
    if len(body) > MAX_RECORD_BYTES:
        raise ContractError(f"a record of a call over {MAX_RECORD_BYTES} bytes")
    if body.startswith(b"{"):
        return body
    fields = (part.partition(b"=") for part in body.split(b"&"))
    value = next((value for name, _, value in fields if name == b"cdr"), None)
    if value is None:
        raise ContractError("no record of a call: neither JSON nor a form field named cdr")
    plain = unquote_to_bytes(value)  # what it encodes it encodes as %20, never as +
    if plain.lstrip().startswith(b"{"):
        return plain
    try:
        return base64.b64decode(plain.replace(b"\n", b"").replace(b"\r", b""), validate=True)
    except (binascii.Error, ValueError):
        raise ContractError("the form field cdr is neither JSON nor base64") from None


def _times(
    variables: Mapping[str, str], flow: list[dict[str, Any]], now: datetime
) -> dict[str, datetime]:
    told = [_texts(part.get("times")) for part in flow]
    found = {}
    for name, column in _COLUMNS.items():
        micros = [
            variables.get(f"{name}_uepoch", ""),
            f"{variables.get(f'{name}_epoch', '')}000000",
            *(times.get(column, "") for times in (reversed(told) if name == "end" else told)),
        ]
        at = next(filter(None, map(_moment, micros)), None)
        if at is not None:
            found[name] = at
    end = found.setdefault("end", now)
    if abs(end - now) >= _FAR_OFF:
        # Its clock is not believed; how long things took is.
        found, end = {name: _moved(at, now - end, now) for name, at in found.items()}, now
    # A clock that was set while the call went on tells times that cannot be.
    first = min(at for at in found.values() if at >= end - _LONGEST_CALL)
    return {name: min(max(at, first), end) for name, at in found.items()}


_COLUMNS = {
    "start": "created_time",
    "progress": "progress_time",
    "progress_media": "progress_media_time",
    "answer": "answered_time",
    "bridge": "bridged_time",
    "end": "hangup_time",
}


def _moved(at: datetime, by: timedelta, now: datetime) -> datetime:
    try:
        return at + by
    except OverflowError:
        return now


def _moment(micros: str) -> datetime | None:
    """None also for 0: it was not."""
    try:
        at = from_micros(micros)
    except ContractError:
        return None
    return at if at.timestamp() > 0 else None


def _held(flow: list[dict[str, Any]]) -> timedelta:
    micros = [_texts(part.get("times")).get("hold_accum_time", "") for part in flow]
    return sum(
        (timedelta(microseconds=_number(text)) for text in micros if len(text) < 15),  # noqa: PLR2004  30 years
        timedelta(0),
    )


def _called(flow: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for part in flow:
        profile = _mapping(part.get("caller_profile"))
        made = _mapping(profile.get("originatee"))
        for other in _listed(made.get("originatee_caller_profiles")):
            texts = _texts(other)
            yield texts.get("chan_name", ""), texts.get(_CALLED, "")


def _files(record: dict[str, Any]) -> Iterator[str]:
    for done in _listed(_mapping(record.get("app_log")).get("applications")):
        texts = _texts(done)
        # ``/path/file.wav +300``: a bound may follow the file.
        file = texts.get("app_data", "").partition(" ")[0]
        if texts.get("app_name") in {"record_session", "record"} and file and "${" not in file:
            yield file


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[dict[str, Any]]:
    """FreeSWITCH leaves the list out around what is one alone, in some versions."""
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, dict)]


def _texts(value: Any) -> dict[str, str]:
    """With ``encode-values`` they are URL-encoded, without it hardly one has a percent sign."""
    return {
        name: unquote(str(one))
        for name, one in _mapping(value).items()
        if isinstance(one, str | int | float) and not isinstance(one, bool)
    }


def _number(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004  64 bits
