"""CRM connections as documents: listed, set up, changed, tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue, RootModel, ValidationError

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import change_site, remove_from_site
from shared.crm.form.access import ParameterKind
from shared.crm.sessions.standing import SessionStanding
from shared.errors import Conflict, ContractError, MeshError, NotFound, Stale, Unavailable
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.described import AsIn
from shared.http.lists import Paged
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.ids import Name
from shared.observe.logging import mask_text
from shared.site.accounts import account_of
from shared.site.crmcheck import check_crm
from shared.site.fetching import masked
from shared.site.masked import KEPT, unmasked_connection
from shared.site.models import CrmConnection, Site
from shared.site.parts import Typed
from shared.site.templated import Surroundings, connection_faults

routes: Routes[HttpDeps] = Routes(tag="mesh")

Settings = Annotated[dict[str, JsonValue], AsIn(CrmConnection, without=("name",))]


class CrmShown(Tagged):
    """A connection, and how its sign-in is. Secrets are shown as asterisks."""

    name: Name
    template: Name
    settings: Settings = Field(
        description="As in a site file: docs/reference/site.schema.json, `crm`."
    )
    session: SessionStanding | None = Field(
        default=None,
        description="Nothing where the CRM needs no sign-in, or the store is away.",
    )
    fault: str | None = Field(
        default=None, description="Why the connection cannot be used as it is set up."
    )


class CrmList(BaseModel):
    """In the order of their names."""

    connections: tuple[CrmShown, ...]
    next_cursor: str | None = None


class CrmDocument(RootModel[Settings]):
    """
    As in a site file (docs/reference/site.schema.json, `crm`), without `name`. A credential is its
    text; left out, or sent back as asterisks, the stored one stays. With another template, or
    another parameter that may lead to another server, it has to be said again.
    """


class CrmFinding(BaseModel):
    """One thing that was tried."""

    what: str
    fault: str | None = Field(default=None, description="What is wrong, and what to do about it.")


class CrmFindings(BaseModel):
    well: bool
    findings: tuple[CrmFinding, ...]


class ListCrm(Paged):
    caller: FromKey[Caller]
    template: FromQuery[Name | None] = None


class OfCrm(BaseModel):
    caller: FromKey[Caller]
    connection: FromPath[Name]


class ChangeCrm(OnlyIf, OfCrm):
    pass


class PutCrm(ChangeCrm):
    body: FromBody[CrmDocument]


class PatchCrm(ChangeCrm):
    body: FromBody[MergePatch]


@routes("GET", "/v1/crm", scope=Scope.SITE_READ, fields=("connections",))
async def list_crm(deps: HttpDeps, asked: ListCrm) -> CrmList:
    """List the CRM connections, and how their sign-in is."""
    site = deps.site.site(asked.caller.tenant)
    of_template = asked.template
    wanted = (crm for crm in (site.crm if site else ()) if of_template in {None, crm.template})
    found, more = asked.page(wanted, lambda crm: crm.name)
    shown = [await _shown(deps, site, crm) for crm in found if site is not None]
    return CrmList(connections=tuple(shown), next_cursor=more)


@routes("GET", "/v1/crm/{connection}", scope=Scope.SITE_READ, errors=(NotFound,), fields=("",))
async def read_crm(deps: HttpDeps, asked: OfCrm) -> CrmShown:
    """Read one CRM connection, and how its sign-in is."""
    site, crm = deps.connection(asked.caller.tenant, asked.connection)
    return await _shown(deps, site, crm)


@routes(
    "PUT",
    "/v1/crm/{connection}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def put_crm(deps: HttpDeps, asked: PutCrm) -> CrmShown:
    """Set up a CRM connection, or change it.

    It is checked against its template; whether the CRM accepts it says the check. Running services
    notice within a second.
    """

    def wanted(old: CrmConnection | None) -> CrmConnection:
        body = dict(asked.body.root)
        said = body.get("credentials") or {}
        if old is not None and body.get("template") == old.template and isinstance(said, Mapping):
            body["credentials"] = {**dict.fromkeys(old.credentials, KEPT), **said}
        return _read(deps, asked.connection, body, old)

    return await _put(deps, asked, wanted, action="put_crm")


@routes(
    "PATCH",
    "/v1/crm/{connection}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_crm(deps: HttpDeps, asked: PatchCrm) -> CrmShown:
    """Change some settings of a CRM connection; a credential that is `null` is removed."""

    def wanted(old: CrmConnection | None) -> CrmConnection:
        if old is None:
            raise NotFound(f"There is no CRM connection {asked.connection}.")
        return _read(deps, asked.connection, merged(_settings(old), asked.body.root), old)

    return await _put(deps, asked, wanted, action="patch_crm")


@routes(
    "DELETE",
    "/v1/crm/{connection}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale),
)
async def delete_crm(deps: HttpDeps, asked: ChangeCrm) -> CrmShown:
    """Remove a CRM connection, and who of its users sits at which phone.

    Refused while a rule or a PBX needs it. Entries that wait for it are never sent; those that were
    written stay in the CRM.
    """
    removed: list[tuple[Site, CrmConnection]] = []

    def edit(site: Site) -> Site:
        old = site.crm_named(asked.connection)
        if old is None:
            raise NotFound(f"There is no CRM connection {asked.connection}.")
        asked.check(_tag(old))
        removed[:] = [(site, old)]
        agents = (
            agent.model_copy(
                update={"users": {n: u for n, u in agent.users.items() if n != old.name}}
            )
            for agent in site.agents
        )
        return site.model_copy(
            update={
                "crm": tuple(crm for crm in site.crm if crm.name != old.name),
                "agents": tuple(agents),
            }
        )

    subject = f"connection {asked.connection}"
    await remove_from_site(deps, asked.caller, edit, action="delete_crm", subject=subject)
    (_, crm), *_ = removed
    return CrmShown(name=crm.name, template=crm.template, settings=_settings(crm), tag=_tag(crm))


@routes(
    "POST",
    "/v1/crm/{connection}/check",
    scope=Scope.SITE_READ,
    errors=(NotFound,),
    is_change=False,
)
async def check_crm_connection(deps: HttpDeps, asked: OfCrm) -> CrmFindings:
    """Try a CRM connection from here, and say what is wrong with it: as `callmesh doctor` does."""
    site, crm = deps.connection(asked.caller.tenant, asked.connection)
    findings = [
        CrmFinding(
            what=mask_text(found.what), fault=mask_text(found.fault) if found.fault else None
        )
        async for found in check_crm(site, crm, deps.connections)
    ]
    return CrmFindings(well=all(f.fault is None for f in findings), findings=tuple(findings))


async def _put(
    deps: HttpDeps,
    asked: PutCrm | PatchCrm,
    wanted: Callable[[CrmConnection | None], CrmConnection],
    *,
    action: str,
) -> CrmShown:
    found: list[CrmConnection] = []

    def edit(site: Site) -> Site:
        old = site.crm_named(asked.connection)
        found[:] = [wanted(old)]
        asked.check(_tag(old) if old else None)
        kept = [found[0] if crm.name == asked.connection else crm for crm in site.crm]
        return site.model_copy(update={"crm": tuple(kept if old else [*kept, found[0]])})

    subject = f"connection {asked.connection}"
    site = await change_site(deps, asked.caller, edit, action=action, subject=subject)
    return await _shown(deps, site, found[0])


def _read(
    deps: HttpDeps, name: str, body: Mapping[str, JsonValue], old: CrmConnection | None
) -> CrmConnection:
    """Raises: ContractError."""
    if body.get("name", name) != name:
        raise ContractError(f"name: this is connection {name}; one is not renamed, make another")
    stored = old.model_dump(mode="json") if old is not None else {}
    said, kept = unmasked_connection(body, stored, harmless=lambda n: _is_harmless(deps, body, n))
    try:
        new = CrmConnection.model_validate(
            {**said, "name": name}, context=Typed(deps.secrets, kept)
        )
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None
    around = Surroundings(deps.connections.templates, deps.http.may_be_plain)
    if faults := list(connection_faults(new, around)):
        raise ContractError("; ".join(f"{'.'.join(map(str, at))}: {what}" for at, what in faults))
    return new


def _is_harmless(deps: HttpDeps, body: Mapping[str, JsonValue], parameter: str) -> bool:
    """Whether no value of it leads to a server that its template does not name."""
    try:
        manifest = deps.connections.templates.get(str(body.get("template")))
    except MeshError:
        return False
    found = next((one for one in manifest.parameters if one.name == parameter), None)
    if found is None:
        return False
    return bool(found.options) or found.kind is ParameterKind.SWITCH


async def _shown(deps: HttpDeps, site: Site, crm: CrmConnection) -> CrmShown:
    session, fault = None, None
    try:
        session = await deps.connections.standing(account_of(site, crm))
    except Unavailable:
        session = None  # the store is away; what is set up is known all the same
    except MeshError as error:
        fault = mask_text(error.message)
    return CrmShown(
        name=crm.name,
        template=crm.template,
        settings=_settings(crm),
        session=session,
        fault=fault,
        tag=_tag(crm),
    )


def _settings(crm: CrmConnection) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = masked(
        crm.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    )
    return shown


def _tag(crm: CrmConnection) -> str:
    return tag_of(crm.model_dump(mode="json"))
