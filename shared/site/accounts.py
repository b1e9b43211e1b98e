"""A tenant's CRM connection in the terms of the CRM engine."""

from __future__ import annotations

from shared.crm.connections import Account
from shared.crm.finder import Question
from shared.phone import parse
from shared.site.models import CrmConnection, Site


def account_of(site: Site, crm: CrmConnection) -> Account:
    return Account(
        tenant=site.tenant,
        name=crm.name,
        template=crm.template,
        region=site.region,
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
) -> Question:
    """*modules* empty: those of the connection."""
    return Question(
        account=account_of(site, crm),
        number=parse(number, site.region),
        modules=modules or crm.modules,
        fields=fields,
        card=card,
        fresh=crm.fresh,
        unknown=crm.unknown,
    )
