"""A tenant's CRM connection in the terms of the CRM engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from shared.crm.connections import Account
from shared.crm.finder import Question
from shared.crm.port import Priority
from shared.crm.users import Seat
from shared.phone import PhoneNumber, parse
from shared.site.models import Agent, CrmConnection, Site


def keys_of(numbers: Iterable[str], site: Site | None) -> list[str]:
    """What caches know *numbers* by. What is no number is left out: where none is left, none was told."""
    found = (parse(number, site.region if site else None) for number in numbers)
    return [number.key for number in found if not number.withheld]


def account_of(
    site: Site,
    crm: CrmConnection,
    *,
    credentials: Mapping[str, str] = MappingProxyType({}),
    login: str = "",
) -> Account:
    """
    With sealed *credentials* the connection as *login*, a rule's name, signs in to it: they take
    the place of the connection's of the same name. Without any it is the connection's own account.

    Raises: ValueError for credentials of nobody.
    """
    if not credentials:
        own, login = crm.credentials, ""
    elif login:
        own = {**_lent(crm.credentials), **credentials}
    else:
        raise ValueError("credentials beside the connection's need a login")
    return Account(
        tenant=site.tenant,
        name=crm.name,
        login=login,
        template=crm.template,
        region=site.region,
        zone=site.zone,
        parameters=tuple(sorted(crm.parameters.items())),
        credentials=tuple(sorted(own.items())),
        phone_formats=crm.phone_formats,
    )


def _lent(credentials: Mapping[str, str]) -> dict[str, str]:
    """
    Not the grant of the connection's user: where refresh tokens rotate, two sessions that begin
    with one end each other.
    """
    return {name: sealed for name, sealed in credentials.items() if name != "refresh_token"}


def question_about(
    number: str | PhoneNumber,
    *,
    site: Site,
    crm: CrmConnection,
    modules: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
    card: bool = True,
    priority: Priority = Priority.POP,
    credentials: Mapping[str, str] = MappingProxyType({}),
    login: str = "",
) -> Question:
    """*modules* empty: those of the connection. *credentials*, *login*: as :func:`account_of`."""
    return Question(
        account=account_of(site, crm, credentials=credentials, login=login),
        number=parse(number, site.region) if isinstance(number, str) else number,
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
