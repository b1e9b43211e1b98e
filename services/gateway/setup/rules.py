"""Routing rules as documents: listed, put, removed, rolled back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, RootModel, StringConstraints

from services.gateway.deps import HttpDeps
from shared.errors import BadSetting, Conflict, ContractError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant
from shared.site.documents import RuleDocument, RuleVersion
from shared.site.drafts import read_draft
from shared.site.masked import masked_rule
from shared.site.rules.rule import RoutingRule

Number = Annotated[int, Field(ge=1, le=10**9)]

routes: Routes[HttpDeps] = Routes(tag="mesh")


class RuleSummary(BaseModel):
    """A rule as a list shows it."""

    name: Name
    field: str | None = Field(default=None, description="API name of the CRM field.")
    location: Literal["DID", "IVR", "rule"] = Field(
        description="What leads to it: numbers, menus, or other rules alone."
    )
    dids: tuple[str, ...]
    ivrs: tuple[str, ...]
    crm: str | None = Field(default=None, description="The connection, or `custom`.")
    rows: int = Field(description="How many.")
    version: int
    changed_at: Instant
    changed_by: str


class RuleSummaries(BaseModel):
    rules: tuple[RuleSummary, ...]


class RuleShown(RuleSummary):
    """A whole rule. Secrets are shown as asterisks."""

    settings: dict[str, JsonValue] = Field(
        description="As in a site file: docs/reference/site.schema.json, `rules`."
    )


class RuleVersionShown(BaseModel):
    version: int
    what: str = Field(description='"created", "changed", "deleted", "rolled back to 3".')
    rows: int
    changed_at: Instant
    changed_by: str


class RuleVersions(BaseModel):
    """The newest first."""

    versions: tuple[RuleVersionShown, ...]


class RuleAtVersion(RuleVersionShown):
    settings: dict[str, JsonValue] | None = Field(
        default=None, description="As in a site file; nothing for a deletion."
    )


class PutRuleBody(RootModel[dict[str, JsonValue]]):
    """
    As in a site file (docs/reference/site.schema.json, `rules`), without `name`. A secret is its
    text; sent back as asterisks, the stored one stays. With another address or connection it has
    to be said again. What is larger than half a megabyte is for `callmesh rule put`.
    """


class RollBack(BaseModel):
    number: Number


class ListRules(BaseModel):
    caller: FromKey[Caller]
    search: FromQuery[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default="", description="Part of a name, field, DID, menu or CRM; case does not matter."
    )


class OfRule(BaseModel):
    caller: FromKey[Caller]
    name: FromPath[Name]


class OfRuleVersion(OfRule):
    number: FromPath[Number]


class PutRule(OfRule):
    version: FromQuery[Annotated[int, Field(ge=0, le=10**9)] | None] = Field(
        default=None,
        description="The version that it has to be at, else nothing is changed; 0: it has to be new.",
    )
    if_match: FromHeader[
        Annotated[str, StringConstraints(pattern=r'^(W/)?"?[0-9]{1,9}"?$')] | None
    ] = Field(default=None, description="The same as `version`, as a header.")
    body: FromBody[PutRuleBody]

    @property
    def expected(self) -> int | None:
        if self.version is not None or self.if_match is None:
            return self.version
        return int(self.if_match.removeprefix("W/").strip('"'))


class DeleteRule(OfRule):
    confirm: FromQuery[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default="", description="The name of the rule again, as it cannot be taken for another."
    )


class RollBackRule(OfRule):
    body: FromBody[RollBack]


@routes("GET", "/v1/rules", scope=Scope.SITE_READ)
async def list_rules(deps: HttpDeps, asked: ListRules) -> RuleSummaries:
    """List the routing rules, or search among them."""
    documents = deps.rules.book.of(asked.caller.tenant).values()
    return RuleSummaries(
        rules=tuple(_summary(document) for document in documents if document.has(asked.search))
    )


@routes("GET", "/v1/rules/{name}", scope=Scope.SITE_READ, errors=(NotFound,))
async def read_rule(deps: HttpDeps, asked: OfRule) -> RuleShown:
    """Read one routing rule."""
    document = deps.rules.book.of(asked.caller.tenant).get(asked.name)
    if document is None:
        raise NotFound(f"There is no rule {asked.name}.")
    return await _shown(document)


@routes(
    "PUT", "/v1/rules/{name}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict, ContractError)
)
async def put_rule(deps: HttpDeps, asked: PutRule) -> RuleShown:
    """Make a routing rule, or change it.

    It is checked with all others: what cannot be is refused with its row. Running services notice
    within a second.
    """
    tenant = asked.caller.tenant
    await deps.rules.book.refresh()
    old = deps.rules.book.of(tenant).get(asked.name)
    rule = await asyncio.to_thread(_read, deps, asked.name, asked.body.root, old)
    await _note(deps, asked, "put_rule")
    # What of the old one stays was read from it: its secrets must not come to another.
    expected = old.number if asked.expected is None and old is not None else asked.expected
    with _sealed_by_a_lost_key(asked):
        new = await deps.rules.put_rule(tenant, rule, by=_by(asked), expected=expected)
    return await _shown(new)


@routes("DELETE", "/v1/rules/{name}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict))
async def delete_rule(deps: HttpDeps, asked: DeleteRule) -> RuleSummary:
    """Remove a routing rule; its versions stay. Refused while other rules lead to it."""
    await deps.rules.book.refresh()
    if asked.name not in deps.rules.book.of(asked.caller.tenant):
        raise NotFound(f"There is no rule {asked.name}.")
    if asked.confirm != asked.name:
        raise ContractError(
            f"Are you sure you want to remove '{asked.name}'? Then ask with confirm={asked.name}."
        )
    await _note(deps, asked, "delete_rule")
    gone = await deps.rules.delete_rule(asked.caller.tenant, asked.name, by=_by(asked))
    return _summary(gone)


@routes("GET", "/v1/rules/{name}/versions", scope=Scope.SITE_READ, errors=(NotFound,))
async def list_rule_versions(deps: HttpDeps, asked: OfRule) -> RuleVersions:
    """List what a routing rule was, and who changed it."""
    versions = await deps.rules.versions(asked.caller.tenant, asked.name)
    return RuleVersions(versions=tuple(RuleVersionShown(**_facts(one)) for one in versions))


@routes("GET", "/v1/rules/{name}/versions/{number}", scope=Scope.SITE_READ, errors=(NotFound,))
async def read_rule_version(deps: HttpDeps, asked: OfRuleVersion) -> RuleAtVersion:
    """Read a routing rule as it was."""
    version, source = await deps.rules.version(asked.caller.tenant, asked.name, asked.number)
    settings = await asyncio.to_thread(_settings, source) if source else None
    return RuleAtVersion.model_construct(**_facts(version), settings=settings)


@routes(
    "POST",
    "/v1/rules/{name}/rollback",
    scope=Scope.SITE_WRITE,
    errors=(NotFound, Conflict, ContractError),
)
async def roll_back_rule(deps: HttpDeps, asked: RollBackRule) -> RuleShown:
    """Make a routing rule what it was, as a new version; also one that was removed."""
    await _note(deps, asked, "roll_back_rule")
    with _sealed_by_a_lost_key(asked):
        new = await deps.rules.roll_back(
            asked.caller.tenant, asked.name, asked.body.number, by=_by(asked)
        )
    return await _shown(new)


def _read(
    deps: HttpDeps, name: str, body: dict[str, JsonValue], old: RuleDocument | None
) -> RoutingRule:
    """Raises: ContractError."""
    if body.get("name", name) != name:
        raise ContractError(f"name: this is rule {name}; a rule is not renamed, make another")
    return read_draft({**body, "name": name}, old, secrets=deps.secrets)


@contextmanager
def _sealed_by_a_lost_key(asked: OfRule) -> Iterator[None]:
    try:
        yield
    except BadSetting as error:
        raise Conflict(
            f"{error.message}. Or remove rule {asked.name}, and make it with its secrets anew."
        ) from None


async def _note(deps: HttpDeps, asked: OfRule, action: str) -> None:
    await deps.audit.note(
        tenant=asked.caller.tenant,
        key_name=asked.caller.key_name,
        action=action,
        subject=f"rule {asked.name}",
    )


def _by(asked: OfRule) -> str:
    return f"key {asked.caller.key_name}"


def _summary(document: RuleDocument) -> RuleSummary:
    return RuleSummary(**_row(document))


def _row(document: RuleDocument) -> dict[str, Any]:
    with_numbers = "DID" if document.dids else "rule"
    return {
        "name": document.name,
        "field": document.field,
        "location": "IVR" if document.ivrs else with_numbers,
        "dids": document.dids,
        "ivrs": document.ivrs,
        "crm": document.crm_words or None,
        "rows": document.rows,
        "version": document.number,
        "changed_at": document.changed_at,
        "changed_by": document.changed_by,
    }


async def _shown(document: RuleDocument) -> RuleShown:
    settings = await asyncio.to_thread(_settings, document.source)
    # Not validated again: it may be megabytes.
    return RuleShown.model_construct(**_row(document), settings=settings)


def _settings(source: str) -> dict[str, JsonValue]:
    rule = masked_rule(json.loads(source))
    del rule["name"]
    return rule


def _facts(version: RuleVersion) -> dict[str, Any]:
    return {
        "version": version.number,
        "what": version.what,
        "rows": version.rows,
        "changed_at": version.changed_at,
        "changed_by": version.changed_by,
    }
