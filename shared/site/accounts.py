"""A tenant's CRM connection in the terms of the CRM engine."""

from __future__ import annotations

from collections.abc import Iterable

from shared.crm.connections import Account
from shared.crm.finder import Question
from shared.crm.port import Priority
from shared.crm.users import Seat
from shared.phone import parse
from shared.site.models import Agent, CrmConnection, Site


def keys_of(numbers: Iterable[str], site: Site | None) -> list[str]:
    """What caches know *numbers* by. What is no number is left out: where none is left, none was told."""
    found = (parse(number, site.region if site else None) for number in numbers)
    return [number.key for number in found if not number.withheld]


def account_of(site: Site, crm: CrmConnection) -> Account:
    return Account(
        tenant=site.tenant,
        name=crm.name,
        template=crm.template,
        region=site.region,
        zone=site.zone,
        parameters=tuple(sorted(crm.parameters.items())),
        credentials=tuple(sorted(crm.credentials.items())),
        phone_formats=crm.phone_formats,
    )


def question_about(
    number: str,
    *,
    site: Site,
    crm: CrmConnection,
    modules: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
    card: bool = True,
    priority: Priority = Priority.POP,
) -> Question:
    """*modules* empty: those of the connection."""
    return Question(
        account=account_of(site, crm),
        number=parse(number, site.region),
        modules=modules or crm.modules,
        fields=fields,
        card=card,
        fresh=crm.fresh,
        stale=crm.stale,
        unknown=crm.unknown,
        priority=priority,
    )


def seat_of(agent: Agent, crm: CrmConnection) -> Seat:
    """The agent's phone, as users of the connection are matched to it."""
    return Seat(extension=agent.extension, user_id=agent.users.get(crm.name), email=agent.email)


def seats_of(site: Site, crm: CrmConnection) -> tuple[Seat, ...]:
    return tuple(seat_of(agent, crm) for agent in site.agents)
