"""Which number of a call a CRM would know, and who becomes a contact. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from shared.contracts.calls import CallStarted, Direction
from shared.phone import parse, same_number
from shared.site.models import ContactCreation, Site


def number_to_look_up(call: CallStarted, region: str | None) -> str | None:
    """
    The outside party's: the caller of an inbound call, the dialled number of an outbound one.
    None for internal calls and withheld numbers: there is nobody to look up.
    """
    if call.direction is Direction.INTERNAL:
        return None
    raw = call.dialled if call.direction is Direction.OUTBOUND else call.caller.number
    return raw if raw and not parse(raw, region).withheld else None


class CallFacts(BaseModel):
    """What creating a contact hangs on, as far as it is known of a call; events have no order."""

    #: The number that every CRM was asked about in vain.
    number: str | None = None
    name: str | None = None
    direction: Direction | None = None
    answered: bool = False
    ended: bool = False
    #: The phone of who spoke first.
    agent: str | None = None
    #: Connections whose order is given.
    ordered: tuple[str, ...] = ()


def facts_of(call: CallStarted, number: str) -> CallFacts:
    """Of a call whose *number* nobody knows."""
    inbound = call.direction is Direction.INBOUND
    name = call.caller.name.strip() if inbound and call.caller.name else ""
    return CallFacts(
        number=number,
        # Where a caller has no name, many PBXs put the number in its place.
        name=name if any(letter.isalpha() for letter in name) else None,
        direction=call.direction,
        agent=None if inbound else call.caller.extension,
    )


def together(one: CallFacts, other: CallFacts) -> CallFacts:
    """What both know, *one*'s word first."""
    return CallFacts(
        number=one.number or other.number,
        name=one.name or other.name,
        direction=one.direction or other.direction,
        answered=one.answered or other.answered,
        ended=one.ended or other.ended,
        agent=one.agent or other.agent,
        ordered=tuple(dict.fromkeys((*one.ordered, *other.ordered))),
    )


def becomes_contact(facts: CallFacts, create: ContactCreation) -> bool:
    """Whether the call's outside party is to be added by now."""
    if facts.number is None or facts.direction not in create.directions:
        return False
    return facts.answered or (facts.ended and not create.answered_only)


def is_outside(number: str, site: Site, dids: Iterable[str]) -> bool:
    """
    Whether somebody outside has this number: it is a valid one (what is none may be internal),
    and neither an agent's phone nor a DID of ours, which come back by trunks and forwardings.
    """
    found = parse(number, site.region)
    if found.e164 is None:
        return False
    ours = [*(agent.extension for agent in site.agents), *dids]
    return not any(
        same_number(number, one, site.region) or parse(one, site.region).digits == found.digits
        for one in ours
    )
