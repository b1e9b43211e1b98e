"""PBX connections as documents: listed, set up, changed, tried."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, JsonValue, RootModel, TypeAdapter, ValidationError

from services.gateway.deps import HttpDeps
from shared.contracts.pbx import LinkRecord, ListLinks
from shared.errors import Conflict, ContractError, NotFound, TransientError
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, Routes
from shared.ids import Name
from shared.observe.logging import mask_text
from shared.site.editing import edit_site
from shared.site.fetching import FilesOfPbx, masked, sealed_in, unmasked
from shared.site.masked import KEPT, is_sealed
from shared.site.models import Site
from shared.site.parts import Typed
from shared.site.pbx import Pbx

#: Where a stored secret goes: who may not read it must not have it sent to a host of his.
_LEADS_TO = ("host", "url", "call_api", "data_api")
_PBX: TypeAdapter[Pbx] = TypeAdapter(Pbx)

routes: Routes[HttpDeps] = Routes(tag="mesh")


class PbxConnection(BaseModel):
    """A connection and how it is. Secrets are shown as asterisks."""

    name: Name
    kind: str
    settings: dict[str, JsonValue] = Field(
        description="As in a site file: docs/reference/site.schema.json, `pbx`."
    )
    links: tuple[LinkRecord, ...] = Field(
        default=(),
        description="The connection of each replica of ingest; none where events come by hooks, "
        "or while ingest is away.",
    )


class PbxConnections(BaseModel):
    connections: tuple[PbxConnection, ...]


class PbxDocument(RootModel[dict[str, JsonValue]]):
    """
    As in a site file (docs/reference/site.schema.json, `pbx`), without `name`. A secret is its
    text; left out, or sent back as asterisks, the stored one stays. With another host or address
    it has to be said again.
    """


class PbxFinding(BaseModel):
    """One thing that was tried."""

    what: str
    fault: str | None = Field(default=None, description="What is wrong, and what to do about it.")


class PbxFindings(BaseModel):
    well: bool
    findings: tuple[PbxFinding, ...]


class OfTenant(BaseModel):
    caller: FromKey[Caller]


class OfPbx(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]


class PutPbx(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]
    body: FromBody[PbxDocument]


@routes("GET", "/v1/pbx", scope=Scope.SITE_READ)
async def list_pbx(deps: HttpDeps, asked: OfTenant) -> PbxConnections:
    """List the PBX connections, and how they are."""
    site = deps.site.site(asked.caller.tenant)
    links = await _links(deps, asked.caller.tenant, None)
    return PbxConnections(
        connections=tuple(_shown(pbx, links) for pbx in (site.pbx if site else ()))
    )


@routes("GET", "/v1/pbx/{pbx}", scope=Scope.SITE_READ, errors=(NotFound,))
async def read_pbx(deps: HttpDeps, asked: OfPbx) -> PbxConnection:
    """Read one PBX connection, and how it is."""
    _, pbx = deps.site.pbx(asked.caller.tenant, asked.pbx)
    return _shown(pbx, await _links(deps, asked.caller.tenant, asked.pbx))


@routes("PUT", "/v1/pbx/{pbx}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict, ContractError))
async def put_pbx(deps: HttpDeps, asked: PutPbx) -> PbxConnection:
    """Set up a PBX connection, or change it.

    Running services notice within a second.
    """
    found: list[Pbx] = []

    def edit(site: Site) -> Site:
        old = site.pbx_named(asked.pbx)
        new = _read(deps, asked.pbx, asked.body.root, old)
        found[:] = [new]
        kept = [new if pbx.name == new.name else pbx for pbx in site.pbx]
        return site.model_copy(update={"pbx": tuple(kept if old else [*kept, new])})

    await _edit(deps, asked.caller, "put_pbx", asked.pbx, edit)
    return _shown(found[0], ())


@routes("DELETE", "/v1/pbx/{pbx}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict))
async def delete_pbx(deps: HttpDeps, asked: OfPbx) -> PbxConnection:
    """Remove a PBX connection; its calls stay. Refused while an agent's phone is there."""
    _, removed = deps.site.pbx(asked.caller.tenant, asked.pbx)

    def edit(site: Site) -> Site:
        there = [agent.extension for agent in site.agents if agent.pbx == asked.pbx]
        if there:
            raise Conflict(f"Phones of agents are there: {', '.join(there[:20])}.")
        return site.model_copy(
            update={"pbx": tuple(pbx for pbx in site.pbx if pbx.name != asked.pbx)}
        )

    await _edit(deps, asked.caller, "delete_pbx", asked.pbx, edit)
    return _shown(removed, ())


@routes("POST", "/v1/pbx/{pbx}/check", scope=Scope.SITE_READ, errors=(NotFound,))
async def check_pbx(deps: HttpDeps, asked: OfPbx) -> PbxFindings:
    """Try a PBX connection from here, and say what is wrong with it: as `callmesh doctor` does."""
    site, pbx = deps.site.pbx(asked.caller.tenant, asked.pbx)
    findings = [
        PbxFinding(what=found.what, fault=mask_text(found.fault) if found.fault else None)
        async for found in deps.adapters.check(site, pbx)
    ]
    return PbxFindings(well=all(f.fault is None for f in findings), findings=tuple(findings))


async def _edit(deps: HttpDeps, caller: Caller, action: str, pbx: str, edit: Any) -> None:
    await deps.audit.note(
        tenant=caller.tenant, key_name=caller.key_name, action=action, subject=f"pbx {pbx}"
    )
    by = f"key {caller.key_name}"
    await edit_site(deps.rules, caller.tenant, edit, by=by)
    await deps.site.refresh()


def _read(deps: HttpDeps, name: str, body: dict[str, JsonValue], old: Pbx | None) -> Pbx:
    """Raises: ContractError."""
    stored = _secrets(old) if old is not None and old.kind == body.get("kind") else {}
    said = {key: value for key, value in body.items() if value not in (None, KEPT)}
    known = old.fetch_recordings if old is not None else None
    if "fetch_recordings" in said:
        said["fetch_recordings"] = unmasked(said["fetch_recordings"], known)
    inner = sealed_in(known.model_dump()) if known is not None else []
    seals = stored | {f"fetch_recordings.{n}": seal for n, seal in enumerate(inner)}
    try:
        new = _PBX.validate_python(
            {**stored, **said, "name": name}, context=Typed(deps.secrets, seals)
        )
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None
    moved = [field for field in _LEADS_TO if getattr(new, field, None) != getattr(old, field, None)]
    if moved and (kept := stored.keys() - said.keys()):
        raise ContractError(
            f"{moved[0]}: is another; say {' and '.join(sorted(kept))} again, as it will go there"
        )
    if isinstance(new.fetch_recordings, FilesOfPbx) and new.fetch_recordings != known:
        raise ContractError(
            "fetch_recordings.folder: a place on the operator's machine; it is said in a site file, "
            "which the operator applies"
        )
    return new


def _shown(pbx: Pbx, links: tuple[LinkRecord, ...]) -> PbxConnection:
    settings = pbx.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    settings = masked(settings)
    return PbxConnection(
        name=pbx.name,
        kind=pbx.kind,
        settings=settings,
        links=tuple(link for link in links if link.pbx == pbx.name),
    )


def _secrets(pbx: Pbx) -> dict[str, str]:
    """Fields that hold sealed text."""
    return {k: v for k, v in pbx.model_dump().items() if is_sealed(v)}


async def _links(deps: HttpDeps, tenant: str, pbx: str | None) -> tuple[LinkRecord, ...]:
    try:
        page = await deps.requester.request(
            ListLinks(pbx=pbx), within=deps.ask_within, tenant=tenant
        )
    except TransientError:
        return ()  # ingest is away; what is set up is known all the same
    return page.links
