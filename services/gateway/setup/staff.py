"""Extensions: a tenant's phones, and who uses them in each CRM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import change_site, remove_from_site
from shared.contracts.contacts import FetchUsers, UserAnswer
from shared.errors import Conflict, ContractError, MeshError, NotFound, Stale
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.lists import Paged, SearchText
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.ids import Extension, Name
from shared.observe.logging import mask_text
from shared.site.models import Agent, Site
from shared.site.parts import Part, Text

routes: Routes[HttpDeps] = Routes(tag="mesh")


class With(StrEnum):
    USERS = "users"


class ExtensionSettings(Part):
    """As a whole: what is left out is nobody's and nothing."""

    name: Text | None = None
    pbx: Name | None = Field(default=None, description="Needed where there are several.")
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")] | None = (
        Field(default=None, description="By which the agent's user is found in each CRM.")
    )
    pbx_user: Text | None = Field(
        default=None, description="The agent's id at the PBX, where that speaks of users."
    )
    users: Annotated[dict[Name, Text], Field(max_length=100)] = Field(
        default_factory=dict,
        description="CRM connection → the agent's user id there. Without it the user is found by "
        "e-mail, else by the extension that the CRM has for a user.",
    )

    def of(self, extension: str) -> Agent:
        return Agent(extension=extension, **dict(self))

    @classmethod
    def of_agent(cls, agent: Agent) -> ExtensionSettings:
        return cls(**agent.model_dump(exclude={"extension"}))


class UserInCrm(BaseModel):
    """Who sits there as one CRM knows it, by its users as they were last read."""

    connection: Name
    user_id: str | None = None
    display_name: str | None = None
    email: str | None = None
    fault: str | None = Field(default=None, description="Why nobody is found, or nobody can tell.")


class ExtensionShown(Tagged):
    extension: Extension
    settings: ExtensionSettings
    in_crm: tuple[UserInCrm, ...] | None = Field(
        default=None, description="With `with=users`: one of each CRM connection."
    )


class ExtensionList(BaseModel):
    """In the order of the extensions, as texts."""

    extensions: tuple[ExtensionShown, ...]
    next_cursor: str | None = None


_WITH = Field(
    default=None,
    alias="with",
    description="`users`: say, too, who is matched in each CRM. Asks `lookup`; no CRM is asked.",
)


class ListExtensions(Paged):
    caller: FromKey[Caller]
    search: FromQuery[SearchText] = Field(
        default="", description="Part of an extension, name or e-mail; case does not matter."
    )
    pbx: FromQuery[Name | None] = None
    with_: FromQuery[With | None] = _WITH


class OfExtension(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]


class ReadExtension(OfExtension):
    with_: FromQuery[With | None] = _WITH


class ChangeExtension(OnlyIf, OfExtension):
    pass


class PutExtension(ChangeExtension):
    body: FromBody[ExtensionSettings]


class PatchExtension(ChangeExtension):
    body: FromBody[MergePatch]


@routes("GET", "/v1/extensions", scope=Scope.SITE_READ, fields=("extensions",))
async def list_extensions(deps: HttpDeps, asked: ListExtensions) -> ExtensionList:
    """List the extensions, or search among them."""
    site = deps.site.site(asked.caller.tenant)
    said = asked.search.casefold()
    wanted = [
        agent
        for agent in (site.agents if site else ())
        if asked.pbx in {None, agent.pbx}
        and any(said in (t or "").casefold() for t in (agent.extension, agent.name, agent.email))
    ]
    found, more = asked.page(wanted, lambda agent: agent.extension)
    matched = await _matched(deps, site, found) if site and asked.with_ is With.USERS else None
    return ExtensionList(
        extensions=tuple(_shown(agent, matched) for agent in found), next_cursor=more
    )


@routes(
    "GET",
    "/v1/extensions/{extension}",
    scope=Scope.SITE_READ,
    errors=(NotFound,),
    fields=("",),
)
async def read_extension(deps: HttpDeps, asked: ReadExtension) -> ExtensionShown:
    """Read one extension."""
    site = deps.site.site(asked.caller.tenant)
    agent = _agent(site, asked.extension) if site else None
    if site is None or agent is None:
        raise _nobody(asked.extension)
    matched = await _matched(deps, site, [agent]) if asked.with_ is With.USERS else None
    return _shown(agent, matched)


@routes(
    "PUT",
    "/v1/extensions/{extension}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def put_extension(deps: HttpDeps, asked: PutExtension) -> ExtensionShown:
    """Set up an extension, or change it.

    Running services notice within a second; users are matched anew when they are read next.
    """
    return await _put(deps, asked, lambda _: asked.body, action="put_extension")


@routes(
    "PATCH",
    "/v1/extensions/{extension}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale, ContractError),
)
async def patch_extension(deps: HttpDeps, asked: PatchExtension) -> ExtensionShown:
    """Change some settings of an extension."""

    def wanted(old: Agent | None) -> ExtensionSettings:
        if old is None:
            raise _nobody(asked.extension)
        known = old.model_dump(mode="json", exclude={"extension"}, exclude_none=True)
        try:
            return ExtensionSettings.model_validate(merged(known, asked.body.root))
        except ValidationError as error:
            raise ContractError(faults_in(error)) from None

    return await _put(deps, asked, wanted, action="patch_extension")


@routes(
    "DELETE",
    "/v1/extensions/{extension}",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, Stale),
)
async def delete_extension(deps: HttpDeps, asked: ChangeExtension) -> ExtensionShown:
    """Remove an extension; its calls stay. Refused while a rule needs it."""
    removed: list[Agent] = []

    def edit(site: Site) -> Site:
        old = _agent(site, asked.extension)
        if old is None:
            raise _nobody(asked.extension)
        asked.check(_tag(old))
        removed[:] = [old]
        kept = tuple(agent for agent in site.agents if agent.extension != asked.extension)
        return site.model_copy(update={"agents": kept})

    subject = f"extension {asked.extension}"
    await remove_from_site(deps, asked.caller, edit, action="delete_extension", subject=subject)
    return _shown(removed[0], None)


async def _put(
    deps: HttpDeps,
    asked: PutExtension | PatchExtension,
    wanted: Callable[[Agent | None], ExtensionSettings],
    *,
    action: str,
) -> ExtensionShown:
    found: list[Agent] = []

    def edit(site: Site) -> Site:
        old = _agent(site, asked.extension)
        found[:] = [wanted(old).of(asked.extension)]
        asked.check(_tag(old) if old else None)
        kept = [found[0] if a.extension == asked.extension else a for a in site.agents]
        return site.model_copy(update={"agents": tuple(kept if old else [*kept, found[0]])})

    subject = f"extension {asked.extension}"
    await change_site(deps, asked.caller, edit, action=action, subject=subject)
    return _shown(found[0], None)


# -- who is it in the CRMs? ------------------------------------------------------------------------


async def _matched(
    deps: HttpDeps, site: Site, agents: Sequence[Agent]
) -> Mapping[str, tuple[UserInCrm, ...]]:
    """By extension."""
    answers = await asyncio.gather(*(_users(deps, site, crm.name) for crm in site.crm))
    found: dict[str, list[UserInCrm]] = {agent.extension: [] for agent in agents}
    for crm, answer in zip(site.crm, answers, strict=True):
        by_phone = {}
        if isinstance(answer, UserAnswer):
            by_phone = {user.extension: user for user in answer.users if user.extension}
        for agent in agents:
            user = by_phone.get(agent.extension)
            found[agent.extension].append(
                UserInCrm(
                    connection=crm.name,
                    user_id=user.user_id if user else agent.users.get(crm.name),
                    display_name=user.display_name if user else None,
                    email=user.email if user else None,
                    fault=None if user else _fault(answer, agent.extension),
                )
            )
    return {extension: tuple(users) for extension, users in found.items()}


async def _users(deps: HttpDeps, site: Site, connection: str) -> UserAnswer | str:
    """Or why they are not known."""
    try:
        return await deps.requester.request(
            FetchUsers(connection=connection), within=deps.ask_within, tenant=site.tenant
        )
    except MeshError as error:
        return mask_text(error.message)


def _fault(answer: UserAnswer | str, extension: str) -> str:
    if isinstance(answer, str):
        return answer
    if answer.synced_at is None:
        return "its users were not read yet"
    return answer.unmatched.get(extension, "none of its users is matched")


# --------------------------------------------------------------------------------------------------


def _agent(site: Site, extension: str) -> Agent | None:
    return next((agent for agent in site.agents if agent.extension == extension), None)


def _nobody(extension: str) -> NotFound:
    return NotFound(f"There is no extension {extension}.")


def _shown(agent: Agent, matched: Mapping[str, tuple[UserInCrm, ...]] | None) -> ExtensionShown:
    return ExtensionShown(
        extension=agent.extension,
        settings=ExtensionSettings.of_agent(agent),
        in_crm=None if matched is None else matched[agent.extension],
        tag=_tag(agent),
    )


def _tag(agent: Agent) -> str:
    return tag_of(agent.model_dump(mode="json"))
