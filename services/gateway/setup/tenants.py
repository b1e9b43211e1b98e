"""Tenants, by the operator."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import note
from services.gateway.setup.own import (
    ChangesSite,
    OfTenant,
    SiteSettings,
    TenantShown,
    document_of,
    patched,
    put_settings,
    shown_as,
    shown_of,
    tag_of_site,
)
from shared.errors import Conflict, ContractError, NotFound, Stale
from shared.http.auth import Scope
from shared.http.lists import Paged, SearchText
from shared.http.patching import MergePatch
from shared.http.routes import FromBody, FromPath, FromQuery, Routes
from shared.ids import TenantId
from shared.site.apply import store_sites
from shared.site.documents import SiteDocument
from shared.site.models import Site

routes: Routes[HttpDeps] = Routes(tag="mesh")


class TenantSummary(BaseModel):
    tenant: TenantId
    title: str | None = None
    region: str | None = None
    zone: str
    pbx: int = Field(description="How many PBX connections.")
    crm: int = Field(description="How many CRM connections.")
    extensions: int
    rules: int


class TenantList(BaseModel):
    """In the order of their names."""

    tenants: tuple[TenantSummary, ...]
    next_cursor: str | None = None


class ListTenants(OfTenant, Paged):
    search: FromQuery[SearchText] = Field(
        default="", description="Part of a name or title; case does not matter."
    )
    region: FromQuery[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None] = None


class OneTenant(OfTenant):
    tenant: FromPath[TenantId]


class PutTenant(ChangesSite, OneTenant):
    body: FromBody[SiteSettings]


class PatchTenant(ChangesSite, OneTenant):
    body: FromBody[MergePatch]


class DeleteTenant(ChangesSite, OneTenant):
    confirm: FromQuery[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default="", description="The tenant's name again, as it cannot be taken for another."
    )


# -- the operator's --------------------------------------------------------------------------------


@routes("GET", "/v1/tenants", scope=Scope.TENANTS_READ, fields=("tenants",))
async def list_tenants(deps: HttpDeps, asked: ListTenants) -> TenantList:
    """List the tenants, or search among them."""
    said = asked.search.casefold()
    wanted = [
        site
        for site in deps.site.current.values()
        if (said in site.tenant or said in (site.title or "").casefold())
        and (asked.region is None or site.region == asked.region)
    ]
    sites, more = asked.page(wanted, lambda site: site.tenant)
    return TenantList(tenants=tuple(_summary(deps, site) for site in sites), next_cursor=more)


@routes("GET", "/v1/tenants/{tenant}", scope=Scope.TENANTS_READ, errors=(NotFound,), fields=("",))
async def read_tenant(deps: HttpDeps, asked: OneTenant) -> TenantShown:
    """Read one tenant."""
    return await shown_of(deps, asked.tenant)


@routes(
    "PUT",
    "/v1/tenants/{tenant}",
    scope=Scope.TENANTS_WRITE,
    errors=(Conflict, Stale, ContractError),
)
async def put_tenant(deps: HttpDeps, asked: PutTenant) -> TenantShown:
    """Make a tenant, or say its settings anew; its connections, agents and rules stay."""
    if deps.site.site(asked.tenant) is None and await _made(deps, asked):
        return await shown_of(deps, asked.tenant)
    return await put_settings(deps, asked, asked.tenant, lambda _: asked.body, action="put_tenant")


@routes(
    "PATCH",
    "/v1/tenants/{tenant}",
    scope=Scope.TENANTS_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_tenant(deps: HttpDeps, asked: PatchTenant) -> TenantShown:
    """Change some of a tenant's settings."""
    return await put_settings(
        deps,
        asked,
        asked.tenant,
        lambda old: patched(old, asked.body.root),
        action="patch_tenant",
    )


@routes(
    "DELETE",
    "/v1/tenants/{tenant}",
    scope=Scope.TENANTS_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def delete_tenant(deps: HttpDeps, asked: DeleteTenant) -> TenantShown:
    """Remove a tenant, its agents, its subscribers, its API users and their keys.

    Refused while it has connections or rules: remove those first. Its calls, contacts and logs stay
    for as long as each is kept; whoever makes a tenant of this name meanwhile would see them.
    """
    name, stored = asked.tenant, deps.rules.stored.sites
    document = await document_of(deps, name)
    if asked.confirm != name:
        raise ContractError(
            f"Are you sure you want to remove '{name}'? Then ask with confirm={name}."
        )
    if asked.caller.home_tenant == name:
        raise Conflict("Your own key is of this tenant; remove it with a key of another.")
    asked.check(tag_of_site(document.site))
    await deps.rules.book.refresh()
    if left := [*_left(document.site), *(f"rule {rule}" for rule in deps.rules.book.of(name))]:
        raise Conflict(f"Remove first what it has: {', '.join(left[:20])}.")
    await note(deps, asked.caller, action="delete_tenant", subject=f"tenant {name}")
    # Whoever changed it meanwhile is not passed over.
    await store_sites([document], frozenset(), stored, clock=deps.clock)
    await stored.delete(name)
    await deps.access.remove_all(name)
    await deps.subscribers.remove_all(name)
    await deps.site.refresh()
    return shown_as(document)


# --------------------------------------------------------------------------------------------------


async def _made(deps: HttpDeps, asked: PutTenant) -> bool:
    """Whether it was not there. Raises: Stale, ContractError."""
    site = asked.body.of(Site(tenant=asked.tenant))
    try:
        await deps.rules.stored.sites.get(asked.tenant)
    except NotFound:
        asked.check(None)
    else:
        return False
    await note(deps, asked.caller, action="put_tenant", subject=f"tenant {asked.tenant}")
    document = SiteDocument(
        key=asked.tenant,
        tenant=asked.tenant,
        site=site,
        changed_at=deps.clock.now(),
        changed_by=f"key {asked.caller.key_name}",
    )
    try:
        await store_sites(
            [document], frozenset({asked.tenant}), deps.rules.stored.sites, clock=deps.clock
        )
    except Conflict:
        return False  # by somebody else, in this moment
    await deps.site.refresh()
    return True


def _summary(deps: HttpDeps, site: Site) -> TenantSummary:
    return TenantSummary(
        tenant=site.tenant,
        title=site.title,
        region=site.region,
        zone=site.zone,
        pbx=len(site.pbx),
        crm=len(site.crm),
        extensions=len(site.agents),
        rules=len(deps.rules.book.of(site.tenant)),
    )


def _left(site: Site) -> list[str]:
    return [
        *(f"PBX connection {pbx.name}" for pbx in site.pbx),
        *(f"CRM connection {crm.name}" for crm in site.crm),
    ]
