"""PBX connections as documents: listed, set up, changed, tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import BaseModel, Field, JsonValue, RootModel, TypeAdapter, ValidationError

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import change_site, remove_from_site
from shared.contracts.pbx import LinkRecord, ListLinks
from shared.errors import Conflict, ContractError, NotFound, Rejected, Stale, TransientError
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.described import AsIn
from shared.http.lists import Paged
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.ids import Name
from shared.net.guard import Network
from shared.observe.logging import mask_text
from shared.site.fetching import FilesOfPbx, masked, sealed_in, unmasked
from shared.site.masked import KEPT, is_sealed
from shared.site.models import Site
from shared.site.parts import Typed
from shared.site.pbx import AsteriskPbx, FreeSwitchPbx, Pbx

#: Where a stored secret goes: who may not read it must not have it sent to a host of his.
_LEADS_TO = ("host", "url", "call_api", "data_api")
_PBX: TypeAdapter[Pbx] = TypeAdapter(Pbx)

routes: Routes[HttpDeps] = Routes(tag="mesh")


Settings = Annotated[dict[str, JsonValue], AsIn(Pbx, without=("name",))]


class PbxConnection(Tagged):
    """A connection and how it is. Secrets are shown as asterisks."""

    name: Name
    kind: str
    settings: Settings = Field(
        description="As in a site file: docs/reference/site.schema.json, `pbx`."
    )
    links: tuple[LinkRecord, ...] = Field(
        default=(),
        description="The connection of each replica of ingest; none where events come by hooks, "
        "or while ingest is away.",
    )


class PbxConnections(BaseModel):
    """In the order of their names."""

    connections: tuple[PbxConnection, ...]
    next_cursor: str | None = None


class PbxDocument(RootModel[Settings]):
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


class ListPbx(Paged):
    caller: FromKey[Caller]
    kind: FromQuery[Name | None] = Field(default=None, description="`asterisk`, `generic` …")


class OfPbx(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]


class ChangePbx(OnlyIf, OfPbx):
    pass


class PutPbx(ChangePbx):
    body: FromBody[PbxDocument]


class PatchPbx(ChangePbx):
    body: FromBody[MergePatch]


@routes("GET", "/v1/pbx", scope=Scope.SITE_READ, fields=("connections",))
async def list_pbx(deps: HttpDeps, asked: ListPbx) -> PbxConnections:
    """List the PBX connections, and how they are."""
    site = deps.site.site(asked.caller.tenant)
    wanted = (pbx for pbx in (site.pbx if site else ()) if asked.kind in {None, pbx.kind})
    found, more = asked.page(wanted, lambda pbx: pbx.name)
    links = await _links(deps, asked.caller.tenant, None) if found else ()
    return PbxConnections(connections=tuple(_shown(pbx, links) for pbx in found), next_cursor=more)


@routes("GET", "/v1/pbx/{pbx}", scope=Scope.SITE_READ, errors=(NotFound,), fields=("",))
async def read_pbx(deps: HttpDeps, asked: OfPbx) -> PbxConnection:
    """Read one PBX connection, and how it is."""
    _, pbx = deps.site.pbx(asked.caller.tenant, asked.pbx)
    return _shown(pbx, await _links(deps, asked.caller.tenant, asked.pbx))


@routes(
    "PUT",
    "/v1/pbx/{pbx}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def put_pbx(deps: HttpDeps, asked: PutPbx) -> PbxConnection:
    """Set up a PBX connection, or change it.

    Running services notice within a second.
    """

    def wanted(old: Pbx | None) -> Pbx:
        return _read(deps, asked.pbx, asked.body.root, old, kept=_secrets(old))

    return await _put(deps, asked, wanted, action="put_pbx")


@routes(
    "PATCH",
    "/v1/pbx/{pbx}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_pbx(deps: HttpDeps, asked: PatchPbx) -> PbxConnection:
    """Change some settings of a PBX connection; a secret that is `null` is removed."""

    def wanted(old: Pbx | None) -> Pbx:
        if old is None:
            raise NotFound(f"There is no PBX connection {asked.pbx}.")
        body = merged(_settings(old), asked.body.root)
        kept = {name: seal for name, seal in _secrets(old).items() if body.get(name) == KEPT}
        return _read(deps, asked.pbx, body, old, kept=kept)

    return await _put(deps, asked, wanted, action="patch_pbx")


@routes("DELETE", "/v1/pbx/{pbx}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict, Stale))
async def delete_pbx(deps: HttpDeps, asked: ChangePbx) -> PbxConnection:
    """Remove a PBX connection; its calls stay. Refused while an agent's phone is there."""
    removed: list[Pbx] = []

    def edit(site: Site) -> Site:
        old = site.pbx_named(asked.pbx)
        if old is None:
            raise NotFound(f"There is no PBX connection {asked.pbx}.")
        asked.check(_tag(old))
        there = [agent.extension for agent in site.agents if agent.pbx == asked.pbx]
        if there:
            raise Conflict(f"Phones of agents are there: {', '.join(there[:20])}.")
        removed[:] = [old]
        kept = tuple(pbx for pbx in site.pbx if pbx.name != asked.pbx)
        return site.model_copy(update={"pbx": kept})

    subject = f"pbx {asked.pbx}"
    await remove_from_site(deps, asked.caller, edit, action="delete_pbx", subject=subject)
    return _shown(removed[0], ())


@routes("POST", "/v1/pbx/{pbx}/check", scope=Scope.SITE_READ, errors=(NotFound,), is_change=False)
async def check_pbx(deps: HttpDeps, asked: OfPbx) -> PbxFindings:
    """Try a PBX connection from here, and say what is wrong with it: as `callmesh doctor` does."""
    site, pbx = deps.site.pbx(asked.caller.tenant, asked.pbx)
    findings = [
        PbxFinding(what=found.what, fault=mask_text(found.fault) if found.fault else None)
        async for found in deps.adapters.check(site, pbx)
    ]
    return PbxFindings(well=all(f.fault is None for f in findings), findings=tuple(findings))


async def _put(
    deps: HttpDeps, asked: PutPbx | PatchPbx, wanted: Callable[[Pbx | None], Pbx], *, action: str
) -> PbxConnection:
    found: list[Pbx] = []

    def edit(site: Site) -> Site:
        old = site.pbx_named(asked.pbx)
        found[:] = [_guarded(deps, wanted(old), old)]
        asked.check(_tag(old) if old else None)
        _check_askers(deps, asked.caller.tenant, found[0], old)
        kept = [found[0] if pbx.name == asked.pbx else pbx for pbx in site.pbx]
        return site.model_copy(update={"pbx": tuple(kept if old else [*kept, found[0]])})

    await change_site(deps, asked.caller, edit, action=action, subject=f"pbx {asked.pbx}")
    return _shown(found[0], ())


def _read(
    deps: HttpDeps,
    name: str,
    body: Mapping[str, JsonValue],
    old: Pbx | None,
    *,
    kept: Mapping[str, str],
) -> Pbx:
    """*kept*: what is sealed of *old* and stays where *body* does not say it. Raises: ContractError."""
    stored = dict(kept) if old is not None and old.kind == body.get("kind") else {}
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
    if moved and (staying := stored.keys() - said.keys()):
        raise ContractError(
            f"{moved[0]}: is another; say {' and '.join(sorted(staying))} again, as it will go "
            "there"
        )
    if isinstance(new.fetch_recordings, FilesOfPbx) and new.fetch_recordings != known:
        raise ContractError(
            "fetch_recordings.folder: a place on the operator's machine; it is said in a site file, "
            "which the operator applies"
        )
    return new


def _guarded(deps: HttpDeps, new: Pbx, old: Pbx | None) -> Pbx:
    """
    A host that was set here may not lead into the operator's network, though a site file's may.
    Which addresses a name has is seen whenever it is connected to.

    Raises: ContractError.
    """
    if not isinstance(new, AsteriskPbx | FreeSwitchPbx):
        return new
    if isinstance(old, AsteriskPbx | FreeSwitchPbx) and (old.host, old.port) == (
        new.host,
        new.port,
    ):
        return new.model_copy(update={"guarded": old.guarded})
    try:
        deps.http.check_host(new.host)
    except Rejected as error:
        raise ContractError(f"host: {error.message}, or say it in a site file") from None
    return new.model_copy(update={"guarded": True})


def _check_askers(deps: HttpDeps, tenant: str, new: Pbx, old: Pbx | None) -> None:
    """
    Where two PBXs ask from, plain ``route`` is nobody's: one tenant may not do that to another.
    What an operator applied stays.

    Raises: ContractError.
    """
    if not isinstance(new, AsteriskPbx):
        return
    known = old.askers if isinstance(old, AsteriskPbx) else ()
    others = [net for of, pbx in deps.site.asterisks() if of != tenant for net in pbx.askers]
    for asker in new.askers:
        if asker not in known and any(_overlap(asker, other) for other in others):
            raise ContractError(
                f"askers: a PBX of somebody else asks from {asker}; say the addresses of your own "
                "alone, or have the operator say it in a site file"
            )


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)


def _shown(pbx: Pbx, links: tuple[LinkRecord, ...]) -> PbxConnection:
    return PbxConnection(
        name=pbx.name,
        kind=pbx.kind,
        settings=_settings(pbx),
        links=tuple(link for link in links if link.pbx == pbx.name),
        tag=_tag(pbx),
    )


def _settings(pbx: Pbx) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = masked(
        pbx.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    )
    return shown


def _tag(pbx: Pbx) -> str:
    return tag_of(pbx.model_dump(mode="json"))


def _secrets(pbx: Pbx | None) -> dict[str, str]:
    """Fields that hold sealed text."""
    return {k: v for k, v in pbx.model_dump().items() if is_sealed(v)} if pbx else {}


async def _links(deps: HttpDeps, tenant: str, pbx: str | None) -> tuple[LinkRecord, ...]:
    try:
        page = await deps.requester.request(
            ListLinks(pbx=pbx), within=deps.ask_within, tenant=tenant
        )
    except TransientError:
        return ()  # ingest is away; what is set up is known all the same
    return page.links
