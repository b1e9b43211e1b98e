"""What an event's headers say of its channel: whose it is, what it belongs to, and when. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from shared.errors import ContractError
from shared.pbx.freeswitch.esl_wire import Event
from shared.pbx.live import Kind
from shared.pbx.port import Phones

#: Set by originate on the agent's channel: the order behind the call, and the number it is for.
CLICK_VARIABLE = "crm_click_id"
NUMBER_VARIABLE = "crm_number"

#: What events keep of a text from outside.
LONGEST = 256
#: A clock that is further off is not believed; ours is right, or all of the mesh is wrong.
_FAR_OFF = timedelta(days=1)
_LOOPBACK = "loopback"
_INBOUND = "inbound"
#: What stands in a caller id for nothing; ``Outbound Call`` is FreeSWITCH's own name for a callee.
_UNKNOWN = frozenset({"", "unknown", "<unknown>", "0000000000", "outbound call", "_undef_"})
#: ``1700000000:<uuid>:bl_xfer:102/default/XML``; of several, the last is in ``transfer_source``.
_BLIND = re.compile(r"(?P<epoch>\d{1,12}):[^:]*:bl_xfer:(?P<to>[^/,:]{1,256})")


def text(event: Event, name: str) -> str:
    """Cut to what an event of ours holds; empty where there is none."""
    return event.get(name, "")[:LONGEST]


def variable(event: Event, name: str) -> str:
    return text(event, f"variable_{name}")


def identity(event: Event) -> str:
    return text(event, "Unique-ID")


def is_inbound(event: Event) -> bool:
    """Seen from the switch: the other end called us."""
    return text(event, "Call-Direction") == _INBOUND


def shown(value: str) -> str | None:
    """A caller id field, or None for the words that stand for nothing."""
    return None if value.strip().lower() in _UNKNOWN else value.strip()[:LONGEST]


def caller_name(event: Event) -> str | None:
    """A number that repeats itself as a name is no name."""
    name = shown(text(event, "Caller-Caller-ID-Name"))
    return None if name == text(event, "Caller-Caller-ID-Number").strip() else name


def parent_of(event: Event) -> str | None:
    """
    The channel on whose behalf this one was made; None for the first of a call.

    ``Channel-Call-UUID`` comes last: it is the call's only while channels are bridged. An agent's
    channel of mod_callcenter has no originator, it names the member it is for.
    """
    own = identity(event)
    candidates = [text(event, "Other-Leg-Unique-ID")] * (text(event, "Other-Type") == "originator")
    if variable(event, "cc_side") == "agent":
        candidates.append(variable(event, "cc_member_session_uuid"))
    if is_inbound(event):
        candidates = []  # who calls us was not made by us; but for the far half of a loopback:
    candidates.append(variable(event, "other_loopback_leg_uuid"))
    if not is_inbound(event):
        candidates += [
            variable(event, "originating_leg_uuid"),
            text(event, "Channel-Call-UUID"),
        ]
    return next((found for found in candidates if found not in {"", own}), None)


def split_name(channel: str) -> tuple[str, str, str]:
    """
    Technology, profile and user of a channel's name: ``sofia/internal/101@192.0.2.7:5060``;
    ``verto.rtc/101@…`` has no profile.
    """
    technology, _, rest = channel.partition("/")
    profile, slash, address = rest.rpartition("/")
    user = (address if slash else rest).removeprefix("sip:").partition("@")[0]
    return technology, profile.partition("/")[0], user


def kind_of(event: Event, phones: Phones) -> Kind:
    """
    A gateway, a carrier's address or a profile that the site names as a trunk leads outside. Whom
    FreeSWITCH knows as one of its users is a phone, also on the profile of a trunk.
    """
    technology, profile, _ = split_name(text(event, "Channel-Name"))
    if technology == _LOOPBACK:
        return Kind.LOCAL
    gateways = {variable(event, "sip_gateway_name"), variable(event, "sip_gateway")}
    if is_inbound(event):  # an outbound channel shows its caller's address there
        gateways.add(text(event, "Caller-Network-Addr"))
    if gateways & phones.trunks:
        return Kind.TRUNK
    users = {variable(event, "user_name"), variable(event, "dialed_user")} - {""}
    if users & (phones.extensions | phones.users.keys()):
        return Kind.PHONE
    profiles = {profile, variable(event, "sofia_profile_name"), technology}
    return Kind.TRUNK if profiles & phones.trunks else Kind.PHONE


def endpoint_of(event: Event, kind: Kind, phones: Phones) -> str:
    """The extension of a phone; for anything else the name of where it leads."""
    _, profile, user = split_name(text(event, "Channel-Name"))
    if kind is not Kind.PHONE:
        return variable(event, "sip_gateway_name") or profile or user
    who = "user_name" if is_inbound(event) else "dialed_user"
    presence = text(event, "Channel-Presence-ID").partition("@")[0]
    candidates = [variable(event, who), presence, user]
    candidates.append(text(event, "Caller-Username" if is_inbound(event) else _CALLED))
    named = [phones.users.get(found, found) for found in candidates if found]
    known = [found for found in named if found in phones.extensions]
    return next(iter(known or named), "unknown")


_CALLED = "Caller-Destination-Number"


def called(event: Event) -> str:
    """The number that was dialled: of an inbound channel the DID, of an outbound one its target."""
    return text(event, _CALLED).removeprefix("sip:").partition("@")[0]


def moment(event: Event, now: datetime) -> datetime:
    """When it was by the PBX's clock, where that is plausible; else *now*."""
    try:
        at = from_micros(text(event, "Event-Date-Timestamp"))
    except ContractError:
        return now
    return at if abs(at - now) < _FAR_OFF else now


def from_micros(value: str) -> datetime:
    """Microseconds since 1970. Raises: ContractError."""
    if not (value.isascii() and value.isdigit()) or len(value) > 18:  # noqa: PLR2004  64 bits
        raise ContractError("no time in microseconds")
    try:
        return datetime.fromtimestamp(int(value) / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ContractError("no time of the calendar") from None


def blind_target(event: Event) -> tuple[str, datetime] | None:
    """Where the channel was last sent by a transfer, and when, to the second."""
    found = _BLIND.search(variable(event, "transfer_source"))
    if found is None:
        return None
    return found["to"], datetime.fromtimestamp(min(int(found["epoch"]), _LAST_EPOCH), UTC)


#: The year 9999.
_LAST_EPOCH = 253_402_300_799
