"""
What 3CX says of a participant: one phone, queue or line at its end of a call. Pure.

3CX gives calls small numbers that begin anew when it restarts, so that a number alone would make
one call of two. A call is named by the day on which it was first seen, its number, and the last
digits of the other side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.errors import ContractError
from shared.pbx.lines import text_of

_DN = re.compile(r"[A-Za-z0-9_.*#-]{1,64}")
_ENTITY = re.compile(
    r"/callcontrol/(?P<dn>[A-Za-z0-9_.*#-]{1,64})/participants/(?P<id>[0-9]{1,18})"
)
_NUMBER = re.compile(r"[0-9+() ./-]*")
_TAIL = 4

EXTERNAL, EXTENSION, QUEUE = "externalline", "extension", "queue"
DIALING, RINGING, CONNECTED = "dialing", "ringing", "connected"


@dataclass(frozen=True, slots=True)
class Participant:
    """
    *dn* is whose end of the call it is, *party* the other side. *caller*: this end placed the call.
    Types and status are in lower case, types without the leading ``W`` (``Wextension``).
    """

    dn: str
    number: int
    call: int
    status: str
    caller: bool
    party_dn: str
    party_type: str
    party_number: str
    party_name: str | None
    did: str | None
    queue: str | None
    referred_by: str | None

    @property
    def key(self) -> tuple[str, int]:
        return self.dn, self.number


def entity(path: object) -> tuple[str, int] | None:
    """``/callcontrol/101/participants/22`` → DN and participant; None for what is something else."""
    found = _ENTITY.fullmatch(path) if isinstance(path, str) else None
    if found is None or found["dn"] in {".", ".."}:
        return None
    return found["dn"], int(found["id"])


def participant(values: Mapping[str, Any], *, dn: str, number: int) -> Participant:
    """Raises: ContractError."""
    call, status = _whole(values.get("callid")), text_of(values.get("status")).lower()
    if call is None or not status:
        raise ContractError("a participant without callid or status")
    did = text_of(values.get("party_did")) or None
    originator = text_of(values.get("originated_by_dn"))
    # The first leg of a call is who placed it; an inbound one's is the line outside.
    placed = status == DIALING or originator == dn or _whole(values.get("legid")) == 1
    party_number = text_of(values.get("party_caller_id"))
    name = text_of(values.get("party_caller_name"))
    held_for = text_of(values.get("on_behalf_of_dn"))
    referred = text_of(values.get("referred_by_dn"))
    return Participant(
        dn=dn,
        number=number,
        call=call,
        status=status,
        caller=placed and did is None,
        party_dn=text_of(values.get("party_dn")),
        party_type=kind_of(values.get("party_dn_type")),
        party_number=party_number,
        # Without a name 3CX shows the number in its place, perhaps spelt otherwise.
        party_name=None if _NUMBER.fullmatch(name) else name,
        did=did,
        queue=held_for if kind_of(values.get("on_behalf_of_type")) == QUEUE else None,
        referred_by=referred if referred and referred != dn else None,
    )


def kind_of(type_name: object) -> str:
    """``Wexternalline`` → ``externalline``; ``None``, which 3CX writes out, → nothing."""
    kind = text_of(type_name).lower().removeprefix("w")
    return "" if kind == "none" else kind


def state_of(state: object) -> dict[str, tuple[str, list[Mapping[str, Any]]]]:
    """
    ``GET /callcontrol`` → DN → its type and participants. Raises: ContractError for what is no
    list; what in it cannot be read is left out.
    """
    if not isinstance(state, list):
        raise ContractError("the state of 3CX is no list")
    found: dict[str, tuple[str, list[Mapping[str, Any]]]] = {}
    for entry in state:
        dn = text_of(entry.get("dn")) if isinstance(entry, dict) else ""
        if not _DN.fullmatch(dn):
            continue
        listed = entry.get("participants")
        some: list[Mapping[str, Any]] = []
        if isinstance(listed, list):
            some = [one for one in listed if isinstance(one, dict)]
        found[dn] = kind_of(entry.get("type")), some
    return found


def number_in(values: Mapping[str, Any]) -> int | None:
    return _whole(values.get("id"))


def call_name(call: int, far: str, at: datetime) -> str:
    """Ours for a call; *at* is when it was first seen."""
    return f"{at.astimezone(UTC):%Y%m%d}-{call}-{_tail(far) or 'x'}"


def named(name: str, one: Participant) -> bool:
    """
    Whether *one* is in the call that has this name; 3CX gives a number again after its restart,
    but hardly to a call with the same other side. Who has none yet is believed.
    """
    _, _, rest = name.partition("-")
    number, _, tail = rest.partition("-")
    far = _tail(one.party_number)
    return number == str(one.call) and (not far or tail in {far, "x"})


def _tail(number: str) -> str:
    return "".join(character for character in number if character.isdigit())[-_TAIL:]


def _whole(value: object) -> int | None:
    text = text_of(value)
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004  fits 63 bits
        return None
    return int(text)
