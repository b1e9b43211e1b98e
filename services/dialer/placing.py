"""An order to dial comes in: checked, counted, kept, handed on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import structlog

from services.dialer.callerids import shown
from services.dialer.deps import Deps
from services.dialer.permits import Why, longest, permit
from services.dialer.store import DialDocument
from services.dialer.telling import tell
from services.dialer.whose import pbx_of, site_of
from shared.contracts.dialing import DialNumber, DialRecord, DialState, DialWanted, PlaceDial
from shared.errors import Conflict, MeshError, NotFound, Unavailable
from shared.ids import call_id
from shared.phone import plain_number, same_number
from shared.site.models import Site

log = structlog.get_logger(__name__)


async def place(deps: Deps, tenant: str, asked: PlaceDial) -> DialRecord:
    """
    Raises: as :class:`PlaceDial` says. What was refused is not kept: the same ``dial_id`` may be
    asked again.
    """
    site = site_of(deps.site, tenant)
    try:
        document = await deps.dials.find(tenant, asked.dial_id)
        if document is None:
            if deps.clock.now() > asked.expires_at:
                raise Unavailable("the order came too late to be dialled", why=Why.TOO_LATE)
            document = await admit(
                deps,
                site,
                asked,
                tenant=tenant,
                dial_id=asked.dial_id,
                requested_by=asked.requested_by,
                requested_at=deps.clock.now(),
                waits_until=asked.expires_at,
            )
        if not is_same(document, asked, site.region if site else None):
            raise Conflict(
                f"Dial {asked.dial_id} is another order. The same idempotency key is for the "
                "very same order; take a new one.",
                why=Why.OTHER_ORDER,
            )
    except MeshError as error:
        if why := error.details.get("why"):
            deps.metrics.count("callmesh_dials_refused_total", why)
            log.info("dial_not_placed", dial_id=asked.dial_id, why=why)
        raise
    await _hand_on(deps, document)
    return document.record


async def admit(
    deps: Deps,
    site: Site | None,
    wanted: DialWanted,
    *,
    tenant: str,
    dial_id: str,
    requested_by: str | None,
    requested_at: datetime,
    waits_until: datetime,
) -> DialDocument:
    """
    Check it, take the phone's turn, count it, keep it. Raises: NotFound, ContractError, Forbidden,
    Conflict, Throttled, each with ``why``; Unavailable.
    """
    agent = site.agent_at(wanted.extension, wanted.pbx) if site else None
    if site is None or agent is None:
        at = f" at PBX {wanted.pbx}" if wanted.pbx else ""
        raise NotFound(
            f"Extension {wanted.extension} is not one of this tenant's agents{at}.",
            why=Why.NO_AGENT,
        )
    allowed = permit(wanted.number, extension=wanted.extension, site=site)
    own = shown(
        site.dialing.numbers,
        extension=wanted.extension,
        campaign=wanted.campaign,
        shop=wanted.shop,
        caller_id=wanted.caller_id,
        region=site.region,
    )
    pbx = pbx_of(site, wanted.pbx or agent.pbx)
    pbx_name = pbx.name if pbx else None
    identity = call_id(tenant, pbx_name or "", dial_id)
    price = 0 if allowed.inside else price_of(allowed.number, site.dialing.prices)
    await deps.turns.take(tenant, pbx_name, wanted.extension, dial_id)
    try:
        await deps.meters.take(
            tenant,
            wanted.extension,
            dial_id,
            price=price,
            limits=site.dialing.limits,
            zone=site.zone,
        )
    except MeshError:
        await deps.turns.give_back(tenant, pbx_name, wanted.extension, dial_id)
        raise
    document, is_new = await deps.dials.open(
        tenant,
        DialRecord(
            dial_id=dial_id,
            extension=wanted.extension,
            number=allowed.number,
            requested_at=requested_at,
            # A colleague sees the phone that calls.
            caller_id=None if allowed.inside else own.number,
            shop=own.shop,
            campaign=wanted.campaign,
            requested_by=requested_by,
            pbx=pbx_name,
            call_id=identity,
            state=DialState.REQUESTED,
            changed_at=requested_at,
        ),
        key=identity,
        wanted=DialWanted(
            **wanted.model_dump(include=set(DialWanted.model_fields) - {"number"}),
            number=plain_number(wanted.number) or wanted.number,
        ),
        waits_until=waits_until,
        price=price,
    )
    first = document.record
    if not is_new and (first.extension, first.pbx) != (wanted.extension, pbx_name):
        # Another order with this id was faster, for another phone: nothing was dialled from this.
        await deps.turns.give_back(tenant, pbx_name, wanted.extension, dial_id)
        if first.extension != wanted.extension:  # phones of one number are counted together
            await deps.meters.give_back(tenant, wanted.extension, dial_id)
    return document


def is_same(document: DialDocument, asked: DialWanted, region: str | None) -> bool:
    """Whether *asked* is the order that the document is of; the number in any spelling."""
    first = document.wanted
    if first is None:
        return document.record.extension == asked.extension and same_number(
            document.record.number, asked.number, region
        )
    rest = set(DialWanted.model_fields) - {"number"}
    if first.model_dump(include=rest) != asked.model_dump(include=rest):
        return False
    plain = plain_number(asked.number)
    return plain == first.number or same_number(plain or "", document.record.number, region)


def price_of(e164: str, prices: Mapping[str, Decimal]) -> int:
    """Of a begun minute, in millionths."""
    prefix = longest(prices, e164)
    return int(prices[prefix] * 1_000_000) if prefix else 0


async def _hand_on(deps: Deps, document: DialDocument) -> None:
    """
    Also of an order that came again: whoever took it first may have been killed before this.

    Raises: Unavailable. Then it waits until it is too late, or comes again.
    """
    record = document.record
    if record.state is not DialState.REQUESTED or document.waits_until is None:
        return
    await tell(deps, document)
    await deps.publisher.publish(
        DialNumber(
            **record.model_dump(include=set(DialNumber.model_fields)),
            expires_at=document.waits_until,
        ),
        tenant=document.tenant,
        key=record.dial_id,
    )
