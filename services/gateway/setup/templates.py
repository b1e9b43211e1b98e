"""Connector templates: what there is, and what each asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.deps import HttpDeps
from shared.crm.abilities import abilities
from shared.crm.form.access import Grant, ParameterKind
from shared.crm.form.manifest import Manifest, Quality
from shared.errors import BadSetting, NotFound
from shared.http.auth import Caller, Scope
from shared.http.lists import Paged, SearchText
from shared.http.routes import FromKey, FromPath, FromQuery, Routes
from shared.ids import Name

routes: Routes[HttpDeps] = Routes(tag="mesh")

Word = Annotated[str, StringConstraints(max_length=40)]


class TemplateSummary(BaseModel):
    name: Name
    title: str
    quality: Quality = Field(description="How far it was tried.")
    can: tuple[str, ...] = Field(description="`search`, `users`, `manager`, `journal`, `cards` …")
    modules: tuple[str, ...] = Field(description="Contact types that it knows.")
    fault: str | None = Field(
        default=None, description="Why its file cannot be read; then nothing else is known."
    )


class TemplateList(BaseModel):
    """In the order of their names."""

    templates: tuple[TemplateSummary, ...]
    next_cursor: str | None = None


class FormField(BaseModel):
    """A parameter of a connection: what its administrator fills in."""

    name: str
    title: str
    help: str = ""
    kind: ParameterKind
    required: bool
    default: str | None = Field(
        default=None, description="May be made of the parameters before it: `{{.region}}`."
    )
    options: tuple[str, ...] = Field(default=(), description="The only values it takes.")
    pattern: str | None = Field(default=None, description="An RE2 pattern of the whole value.")


class FormSecret(BaseModel):
    """A credential of a connection."""

    name: str
    title: str
    help: str = ""
    required: bool


class TemplateShown(TemplateSummary):
    """With the form by which a connection is set up."""

    description: str
    grant: Grant | None = Field(
        default=None,
        description="How OAuth 2 is begun; `authorization_code`: by a person's consent.",
    )
    phone_formats: tuple[str, ...]
    parameters: tuple[FormField, ...]
    credentials: tuple[FormSecret, ...]
    sources: tuple[str, ...] = Field(description="Where its facts come from.")


class ListTemplates(Paged):
    caller: FromKey[Caller]
    search: FromQuery[SearchText] = Field(
        default="", description="Part of a name or title; case does not matter."
    )
    can: FromQuery[Word | None] = Field(default=None, description="`journal`, `users` …")
    quality: FromQuery[Quality | None] = None


class OfTemplate(BaseModel):
    caller: FromKey[Caller]
    template: FromPath[Name]


@routes("GET", "/v1/templates", scope=Scope.SITE_READ, fields=("templates",))
async def list_templates(deps: HttpDeps, asked: ListTemplates) -> TemplateList:
    """List the connector templates, or search among them."""
    known = [_known(deps, name) for name in deps.connections.templates.names()]
    said = asked.search.casefold()
    wanted = (
        one
        for one in known
        if (said in one.name or said in one.title.casefold())
        and (asked.can is None or asked.can in one.can)
        and asked.quality in {None, one.quality}
    )
    found, more = asked.page(wanted, lambda one: one.name)
    return TemplateList(templates=found, next_cursor=more)


@routes("GET", "/v1/templates/{template}", scope=Scope.SITE_READ, errors=(NotFound,), fields=("",))
async def read_template_form(deps: HttpDeps, asked: OfTemplate) -> TemplateShown:
    """Read one template: what it can, and the form by which a connection is set up."""
    try:
        manifest = deps.connections.templates.get(asked.template)
    except BadSetting as error:
        raise NotFound(f"Its file cannot be read: {error.message}") from None
    grant = manifest.auth.oauth2.grant if manifest.auth.oauth2 else None
    return TemplateShown(
        **dict(_summary(manifest)),
        description=manifest.description,
        grant=grant,
        phone_formats=manifest.phone_formats,
        parameters=tuple(
            FormField(
                name=one.name,
                title=one.title,
                help=one.help,
                kind=one.kind,
                required=one.default is None,
                default=one.default,
                options=one.options,
                pattern=one.pattern,
            )
            for one in manifest.parameters
        ),
        credentials=tuple(
            FormSecret(name=one.name, title=one.title, help=one.help, required=one.required)
            for one in manifest.credentials
        ),
        sources=manifest.sources,
    )


def _known(deps: HttpDeps, name: str) -> TemplateSummary:
    try:
        return _summary(deps.connections.templates.get(name))
    except BadSetting as error:
        return TemplateSummary(
            name=name,
            title=name,
            quality=Quality.DECLARED,
            can=(),
            modules=(),
            fault=error.message,
        )


def _summary(manifest: Manifest) -> TemplateSummary:
    return TemplateSummary(
        name=manifest.name,
        title=manifest.title,
        quality=manifest.quality,
        can=tuple(abilities(manifest)),
        modules=tuple(manifest.contacts),
    )
