"""What a tenant says of itself: title, region, zone, hours, whom its agents may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue, StringConstraints, ValidationError

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import change_site
from shared.errors import Conflict, ContractError, NotFound, Stale
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.ids import TenantId
from shared.moments import Instant
from shared.site.dialing import DialPolicy
from shared.site.documents import SiteDocument
from shared.site.models import Site
from shared.site.parts import Part, Text, Zone
from shared.site.rules.hours import Hours

routes: Routes[HttpDeps] = Routes(tag="mesh")


class SiteSettings(Part):
    """
    What stands in a site file beside connections, agents and rules. As a whole: what is left out is
    as it is by itself.
    """

    title: Text | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="Country whose national numbers are meant: GB, US, DE."
    )
    zone: Zone = Field(default="UTC", description="Time zone: `Europe/Berlin`.")
    hours: Annotated[tuple[Hours, ...], Field(max_length=100)] = ()
    dialing: DialPolicy = DialPolicy()

    def of(self, site: Site) -> Site:
        """*site* with these. Raises: ContractError."""
        try:
            return Site.model_validate({**dict(site), **dict(self)})
        except ValidationError as error:
            raise ContractError(faults_in(error)) from None

    @classmethod
    def in_site(cls, site: Site) -> SiteSettings:
        return cls.model_construct(**{name: getattr(site, name) for name in cls.model_fields})


class TenantShown(Tagged):
    """A tenant, without what has addresses of its own."""

    tenant: TenantId
    settings: SiteSettings
    changed_at: Instant = Field(description="Anything of it but its rules.")
    changed_by: str


class OfTenant(BaseModel):
    caller: FromKey[Caller]


class ChangesSite(OnlyIf, OfTenant):
    pass


class PutSite(ChangesSite):
    body: FromBody[SiteSettings]


class PatchSite(ChangesSite):
    body: FromBody[MergePatch]


@routes("GET", "/v1/site", scope=Scope.SITE_READ, errors=(NotFound,), fields=("",))
async def read_site(deps: HttpDeps, asked: OfTenant) -> TenantShown:
    """Read the tenant's own settings: title, region, zone, hours, whom its agents may call."""
    return await shown_of(deps, asked.caller.tenant)


@routes(
    "PUT",
    "/v1/site",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def put_site(deps: HttpDeps, asked: PutSite) -> TenantShown:
    """Say the tenant's own settings.

    Running services notice within a second. Hours that a rule needs cannot be left out.
    """
    return await put_settings(
        deps, asked, asked.caller.tenant, lambda _: asked.body, action="put_site"
    )


@routes(
    "PATCH",
    "/v1/site",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_site(deps: HttpDeps, asked: PatchSite) -> TenantShown:
    """Change some of the tenant's own settings."""
    return await put_settings(
        deps,
        asked,
        asked.caller.tenant,
        lambda old: patched(old, asked.body.root),
        action="patch_site",
    )


# --------------------------------------------------------------------------------------------------


async def put_settings(
    deps: HttpDeps,
    asked: ChangesSite,
    tenant: str,
    settings: Callable[[Site], SiteSettings],
    *,
    action: str,
) -> TenantShown:
    await document_of(deps, tenant)

    def edit(site: Site) -> Site:
        changed = settings(site).of(site)
        asked.check(tag_of_site(site))
        return changed

    await change_site(
        deps, asked.caller, edit, action=action, subject=f"tenant {tenant}", tenant=tenant
    )
    return await shown_of(deps, tenant)


def patched(old: Site, patch: dict[str, JsonValue]) -> SiteSettings:
    """Raises: ContractError."""
    known = SiteSettings.in_site(old).model_dump(mode="json", exclude_none=True)
    try:
        return SiteSettings.model_validate(merged(known, patch))
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None


async def document_of(deps: HttpDeps, tenant: str) -> SiteDocument:
    """Raises: NotFound."""
    try:
        return await deps.rules.stored.sites.get(tenant)
    except NotFound:
        raise NotFound(f"There is no tenant {tenant}.") from None


async def shown_of(deps: HttpDeps, tenant: str) -> TenantShown:
    return shown_as(await document_of(deps, tenant))


def shown_as(document: SiteDocument) -> TenantShown:
    return TenantShown(
        tenant=document.key,
        settings=SiteSettings.in_site(document.site),
        changed_at=document.changed_at,
        changed_by=document.changed_by,
        tag=tag_of_site(document.site),
    )


def tag_of_site(site: Site) -> str:
    return tag_of(SiteSettings.in_site(site).model_dump(mode="json"))
