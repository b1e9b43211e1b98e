"""
Links to recordings that end, and that nobody but us can make.

A link is ``{public_url}/recordings/{token}``. The token says whose call, which recording of it and
until when, and is signed with HMAC-SHA256 by a key that is derived from the mesh's own. It is text
all through and compared as text, so no other spelling of it means the same. It ends as the file
does, in ``.mp3`` or ``.wav``: by that CRMs choose their player (HubSpot), or take it (Bitrix24).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from shared.errors import ContractError, Gone, NotFound
from shared.ids import TENANT_PATTERN
from shared.moments import from_ms, to_ms

PATH = "/recordings/"
#: What the signing keys are derived for.
PURPOSE = "callmesh recording links 1"
#: Ends of links are rounded up to it: an end that is known better does not make another link.
_STEP = timedelta(hours=1)
_STEP_MS = _STEP // timedelta(milliseconds=1)
#: 128 bits; RFC 2104, 5 asks for half of the hash.
_SIGNATURE_BYTES = 16
_MARK_BYTES = 9
_TENANT = TENANT_PATTERN.strip("^$")
_CALL = re.compile(r"[0-9A-Za-z-]{1,64}")
_ENDINGS = ("wav", "mp3", "ogg", "opus", "flac", "m4a", "webm", "aac")
_TOKEN = re.compile(
    rf"(?P<said>(?P<tenant>{_TENANT})\.(?P<call>{_CALL.pattern})\.(?P<mark>[\w-]{{12}})"
    rf"\.(?P<ends>[0-9a-f]{{1,8}}))\.(?P<signature>[\w-]{{22}})(?P<ending>(?:\.(?:{'|'.join(_ENDINGS)}))?)",
    re.ASCII,
)
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Linked:
    """*mark*: which recording of the call, as :func:`mark_of` its name."""

    tenant: str
    call_id: str
    mark: str


def mark_of(recording: str) -> str:
    """Twelve characters that stand for a recording among those of its call."""
    digest = hashlib.sha256(recording.encode(errors="surrogatepass")).digest()
    return _text(digest[:_MARK_BYTES])


class RecordingLinks:
    """
    *keys* are 32 bytes each: the first signs, all are honoured. A link dies with its key, or at
    its end.
    """

    def __init__(self, keys: Sequence[bytes], *, public_url: str | None) -> None:
        """Without *public_url* none can be made."""
        self._keys = tuple(keys)
        self._public_url = public_url

    def link(
        self, *, tenant: str, call_id: str, recording: str, ended_at: datetime, lasts: timedelta
    ) -> str | None:
        """
        The same for the same recording, however often; None without a public address.

        Raises: ContractError for a call id that cannot stand in an address.
        """
        if self._public_url is None:
            return None
        if not _CALL.fullmatch(call_id):
            raise ContractError("the id of the call cannot stand in an address")
        said = f"{tenant}.{call_id}.{mark_of(recording)}.{_end(ended_at, lasts):x}"
        ending = _ending(recording)
        signature = _signature(self._keys[0], said + ending)
        return f"{self._public_url}{PATH}{said}.{signature}{ending}"

    def read(self, token: str, *, now: datetime) -> Linked:
        """
        Raises: NotFound, with the same words whatever is wrong with it; Gone for one of ours whose
        time is over.
        """
        found = _TOKEN.fullmatch(token) if len(token) <= _LONGEST else None
        if found is None or not self._is_ours(found["said"] + found["ending"], found["signature"]):
            raise NotFound("This is no link to a recording, or it does not hold any more.")
        if now >= from_ms(int(found["ends"], 16) * _STEP_MS):
            raise Gone("This link has ended; the recording can be had by the API.")
        return Linked(found["tenant"], found["call"], found["mark"])

    def _is_ours(self, signed: str, signature: str) -> bool:
        # Every key is tried: how long it takes does not tell which one it was.
        fits = [hmac.compare_digest(signature, _signature(key, signed)) for key in self._keys]
        return any(fits)


def _end(ended_at: datetime, lasts: timedelta) -> int:
    """In steps since 1970, up; a time beyond the calendar is its last."""
    try:
        ends = to_ms(ended_at + lasts)
    except OverflowError:
        ends = to_ms(datetime.max.replace(tzinfo=ended_at.tzinfo) - _STEP)
    return -(-ends // _STEP_MS)


def _ending(recording: str) -> str:
    """``.wav``; empty where the name does not tell that it is one that we know."""
    ending = PurePosixPath(recording.partition("?")[0]).suffix.lower()
    return ending if ending[1:] in _ENDINGS else ""


def _signature(key: bytes, signed: str) -> str:
    return _text(hmac.digest(key, signed.encode(), "sha256")[:_SIGNATURE_BYTES])


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
