"""Routing rules as documents: listed, put, removed, rolled back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import JsonValue

from services.gateway.deps import HttpDeps
from services.gateway.setup.rule_shapes import (
    DeleteRule,
    ListRules,
    OfRule,
    OfRuleVersion,
    PatchRule,
    PutRule,
    RollBackRule,
    RuleAtVersion,
    RuleShown,
    RuleSummaries,
    RuleSummary,
    RuleVersions,
    RuleVersionShown,
)
from shared.errors import BadSetting, Conflict, ContractError, NotFound
from shared.http.auth import Scope
from shared.http.patching import merged
from shared.http.routes import Routes
from shared.site.documents import RuleDocument, RuleVersion
from shared.site.drafts import read_draft
from shared.site.masked import masked_rule
from shared.site.rules.rule import RoutingRule

routes: Routes[HttpDeps] = Routes(tag="mesh")


@routes("GET", "/v1/rules", scope=Scope.SITE_READ, fields=("rules",))
async def list_rules(deps: HttpDeps, asked: ListRules) -> RuleSummaries:
    """List the routing rules, or search among them."""
    documents = deps.rules.book.of(asked.caller.tenant).values()
    wanted = (document for document in documents if document.has(asked.search))
    found, more = asked.page(wanted, lambda document: document.name)
    return RuleSummaries(rules=tuple(map(_summary, found)), next_cursor=more)


@routes("GET", "/v1/rules/{name}", scope=Scope.SITE_READ, errors=(NotFound,), fields=("",))
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
    if old is None and asked.if_match == "*":
        raise NotFound(f"There is no rule {asked.name}, and If-Match wants one.")
    rule = await asyncio.to_thread(_read, deps, asked.name, asked.body.root, old)
    await _note(deps, asked, "put_rule")
    # What of the old one stays was read from it: its secrets must not come to another.
    expected = old.number if asked.expected is None and old is not None else asked.expected
    with _sealed_by_a_lost_key(asked):
        new = await deps.rules.put_rule(tenant, rule, by=_by(asked), expected=expected)
    return await _shown(new)


@routes(
    "PATCH", "/v1/rules/{name}", scope=Scope.SITE_WRITE, errors=(NotFound, Conflict, ContractError)
)
async def patch_rule(deps: HttpDeps, asked: PatchRule) -> RuleShown:
    """Change some settings of a routing rule; its rows are one list, replaced as a whole."""
    tenant = asked.caller.tenant
    await deps.rules.book.refresh()
    old = deps.rules.book.of(tenant).get(asked.name)
    if old is None:
        raise NotFound(f"There is no rule {asked.name}.")
    rule = await asyncio.to_thread(_patched, deps, asked.name, asked.body.root, old)
    await _note(deps, asked, "patch_rule")
    # What is not said is as it was read.
    expected = old.number if asked.expected is None else asked.expected
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
    gone = await deps.rules.delete_rule(
        asked.caller.tenant, asked.name, by=_by(asked), expected=asked.expected
    )
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
            asked.caller.tenant,
            asked.name,
            asked.body.number,
            by=_by(asked),
            expected=asked.expected,
        )
    return await _shown(new)


def _read(
    deps: HttpDeps, name: str, body: dict[str, JsonValue], old: RuleDocument | None
) -> RoutingRule:
    """Raises: ContractError."""
    if body.get("name", name) != name:
        raise ContractError(f"name: this is rule {name}; a rule is not renamed, make another")
    return read_draft({**body, "name": name}, old, secrets=deps.secrets)


def _patched(
    deps: HttpDeps, name: str, patch: dict[str, JsonValue], old: RuleDocument
) -> RoutingRule:
    """Raises: ContractError."""
    return _read(deps, name, merged(_settings(old.source), patch), old)


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
    return RuleShown.model_construct(**_row(document), settings=settings, tag=str(document.number))


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
