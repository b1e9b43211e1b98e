"""Hooks in, call events out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.ingest.domain import ends_first, read_hook
from services.ingest.raw import RawTape
from services.ingest.store import LinkBook, RawKind, ReportBook
from shared.bus.port import ForeignHandler, Publisher
from shared.bus.router import Router
from shared.contracts.envelope import Message
from shared.contracts.hooks import HookKind, HookReceived
from shared.contracts.pbx import LinkPage, ListLinks
from shared.errors import ContractError, Rejected, Unavailable
from shared.observe.metrics import Metrics
from shared.site.adapters import Adapters, phones_of
from shared.site.book import SiteBook
from shared.site.pbx import GenericPbx

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    publisher: Publisher
    adapters: Adapters
    site: SiteBook
    tape: RawTape
    reports: ReportBook
    links: LinkBook
    metrics: Metrics
    report_within: timedelta


router: Router[Deps] = Router("ingest")


@router.on(HookReceived)
async def take_hook(deps: Deps, message: Message[HookReceived]) -> None:
    hook = message.body
    deps.tape.keep(
        message.tenant,
        hook.pbx,
        hook.model_dump_json().encode(),
        what=RawKind.HOOKS,
        at=message.occurred_at,
    )
    if not deps.site.loaded:
        raise Unavailable("the sites are not loaded yet")
    site, pbx = deps.site.pbx(message.tenant, hook.pbx)
    adapter = deps.adapters.of(site, pbx)
    try:
        reading = read_hook(adapter, hook, phones_of(site, pbx), received_at=message.occurred_at)
    except ContractError:
        deps.metrics.count("callmesh_pbx_events_total", pbx.kind, "garbage")
        raise
    for one in ends_first(reading.sightings):
        # Not as consequences of the hook: the same event in two hooks is one event.
        await deps.publisher.publish(one.body, tenant=message.tenant, key=one.key, at=one.at)
    if adapter.reporter is not None:
        for call in reading.reports:
            await deps.reports.want(
                tenant=message.tenant,
                pbx=hook.pbx,
                pbx_call_id=call,
                ended_at=message.occurred_at,
                within=deps.report_within,
            )
    told = len(reading.sightings)
    outcome = "used" if told else "ignored"
    deps.metrics.count("callmesh_pbx_events_total", pbx.kind, outcome, by=told or 1)
    log.info("hook_read", pbx=hook.pbx, events=told)


@router.on(ListLinks)
async def list_links(deps: Deps, message: Message[ListLinks]) -> LinkPage:
    return LinkPage(links=tuple(await deps.links.links(message.tenant, message.body.pbx)))


def door(deps: Deps) -> ForeignHandler:
    """What a PBX published by itself becomes a hook like any other."""

    async def take(
        tenant: str, pbx: str, body: bytes, content_type: str, received_at: datetime
    ) -> None:
        if not deps.site.loaded:
            raise Unavailable("the sites are not loaded yet")
        _, connection = deps.site.pbx(tenant, pbx)
        if not isinstance(connection, GenericPbx):
            raise Rejected(
                f"PBX {pbx} is a {connection.kind}: only a generic one publishes by itself"
            )
        hook = HookReceived(
            pbx=pbx, kind=HookKind.GENERIC, body=body.decode(), content_type=content_type
        )
        digest = hashlib.sha256(body).hexdigest()
        await deps.publisher.publish(hook, tenant=tenant, key=f"{pbx}/{digest}", at=received_at)
        deps.metrics.count("callmesh_hooks_total", "accepted")

    return take
