"""Which card opens for a call, when and how. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from services.gateway.domain.calls import Call, Pop, whom
from services.gateway.domain.events import AgentEvent, AgentEventKind
from shared.contracts.calls import Direction
from shared.site.telling import PopMoment, PopupPolicy

_LONGEST_URL = 4096


class PopRules(Protocol):
    """What the tenants' sites say of cards."""

    def known(self, tenant: str, connection: str) -> PopupPolicy:
        """For callers whom this CRM knows."""
        ...

    def unknown(self, tenant: str, direction: Direction) -> PopupPolicy | None:
        """For callers whom no CRM knows; None: nothing is opened for them."""
        ...

    def new_page(
        self, tenant: str, direction: Direction, number: str | None, name: str | None
    ) -> str | None:
        """A CRM's page for a new contact; None where there is none, or it cannot be had now."""
        ...


def card_of(call: Call, pop: Pop, rules: PopRules, *, at: datetime) -> AgentEvent | None:
    """What is opened at the screen by now and was not before."""
    # A phone that rings without more being known of the call is called from outside, else nobody
    # would have been looked up.
    direction = call.direction or Direction.INBOUND
    if call.contact_known is None or direction is Direction.INTERNAL:
        return None
    known = call.contact if call.contact_known else None
    policy = (
        rules.known(call.tenant, known.connection)
        if known
        else rules.unknown(call.tenant, direction)
    )
    if policy is None or direction not in policy.directions:
        return None
    target = whom(call)
    if target in pop.opened or not _is_due(policy.moment, call, pop):
        return None
    page_url = create_url = None
    if known is None:
        # The phone may show the colleague who asks whether it takes the call.
        number = call.unknown_number or pop.number
        create_url = web_address(rules.new_page(call.tenant, direction, number, pop.name))
    elif not call.ambiguous:
        page_url = web_address(known.page_url)
    pop.opened.add(target)
    pop.stays = pop.left_at is not None
    pop.card = AgentEvent(
        kind=AgentEventKind.POP,
        id=call.about(pop, AgentEventKind.POP, target),
        at=at,
        extension=pop.extension,
        call_id=call.call_id,
        direction=direction,
        caller_number=pop.number,
        caller_name=pop.name,
        queue=pop.queue,
        opens=policy.opens,
        page_url=page_url,
        create_url=create_url,
        **call.known_of_contact(),
    )
    return call.as_shown(pop.card)


def _is_due(moment: PopMoment, call: Call, pop: Pop) -> bool:
    if pop.left_at is not None:
        # Who did not take the call has nothing to write down; who called somebody has.
        at_end = moment is PopMoment.ENDED and (pop.answered or pop.outgoing)
        # Asked who it was, the agent has answered late.
        return at_end or (call.chosen and pop.card is not None and bool(pop.card.ambiguous))
    match moment:
        case PopMoment.RINGING:
            return call.reached or not pop.outgoing
        case PopMoment.ANSWERED:
            return pop.answered
    return False


def web_address(text: str | None) -> str | None:
    """*text*, where a browser may be sent there: by http or https, to a host."""
    if not text or len(text) > _LONGEST_URL or not text.isprintable() or " " in text:
        return None
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    return text if url.scheme in {"http", "https"} and url.hostname else None
