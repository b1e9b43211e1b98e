"""What a subscriber answered, as people may see it. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from shared.crm.masking import Mask, printable
from shared.observe.logging import mask_text

_SECONDS = re.compile(r"[0-9]{1,9}")
#: Of an answer, before what it repeats of ours is masked.
_READ_BYTES = 16 * 1024
#: In other spellings a secret is longer.
_SPELT = 3


def shown_of(body: bytes, *, secrets: Collection[str], longest: int) -> str:
    """The beginning; what we sent as a secret may come back in it, in whatever spelling."""
    known = {part for secret in secrets for part in _parts(secret)}
    text = Mask(known).text(body[:_READ_BYTES].decode(errors="replace"))
    if len(body) > _READ_BYTES:
        # One that was cut is not recognised.
        text = text[: max(0, len(text) - _SPELT * max(map(len, known), default=0))]
    return printable(mask_text(text))[:longest]


def retry_after_of(headers: Mapping[str, str]) -> timedelta | None:
    """In seconds; as a date it is not heeded. Longer than a day is cut by who uses it."""
    found = _SECONDS.fullmatch(headers.get("retry-after", ""))
    return timedelta(seconds=int(found[0])) if found else None


def _parts(value: str) -> Iterator[str]:
    """Of a header: as a whole, behind ``Bearer``, and what ``Basic`` is made of."""
    yield value
    scheme, _, rest = value.partition(" ")
    if not rest:
        return
    yield rest.strip()
    if scheme.lower() != "basic":
        return
    try:
        pair = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return
    yield pair
    yield pair.partition(":")[2]
