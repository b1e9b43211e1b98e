"""Routing rules as the API says them, and how it is asked about them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue, RootModel, StringConstraints

from shared.http.auth import Caller
from shared.http.lists import Paged
from shared.http.patching import MergePatch
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, FromQuery
from shared.http.tags import Tagged
from shared.ids import Name
from shared.moments import Instant

Number = Annotated[int, Field(ge=1, le=10**9)]


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
    """In the order of their names."""

    rules: tuple[RuleSummary, ...]
    next_cursor: str | None = None


class RuleShown(RuleSummary, Tagged):
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


class ListRules(Paged):
    caller: FromKey[Caller]
    search: FromQuery[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default="", description="Part of a name, field, DID, menu or CRM; case does not matter."
    )


class OfRule(BaseModel):
    caller: FromKey[Caller]
    name: FromPath[Name]


class OfRuleVersion(OfRule):
    number: FromPath[Number]


class ChangeRule(OfRule):
    version: FromQuery[Annotated[int, Field(ge=0, le=10**9)] | None] = Field(
        default=None,
        description="The version that it has to be at, else nothing is changed; 0: it has to be new.",
    )
    if_match: FromHeader[
        Annotated[str, StringConstraints(pattern=r'^(\*|(W/)?"?[0-9]{1,9}"?)$')] | None
    ] = Field(
        default=None,
        description="The same as `version`, as a header; `*`: it has to be there, whatever it is at.",
    )
    if_none_match: FromHeader[Annotated[str, StringConstraints(pattern=r"^\*$")] | None] = Field(
        default=None, description="`*`: it has to be new, as with `version=0`."
    )

    @property
    def expected(self) -> int | None:
        if self.if_none_match is not None:
            return 0
        if self.version is not None or self.if_match in {None, "*"}:
            return self.version
        return int(self.if_match.removeprefix("W/").strip('"'))


class PutRule(ChangeRule):
    body: FromBody[PutRuleBody]


class PatchRule(ChangeRule):
    body: FromBody[MergePatch]


class DeleteRule(ChangeRule):
    confirm: FromQuery[Annotated[str, StringConstraints(max_length=100)]] = Field(
        default="", description="The name of the rule again, as it cannot be taken for another."
    )


class RollBackRule(ChangeRule):
    body: FromBody[RollBack]
