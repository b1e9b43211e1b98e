"""A rule as somebody writes it: read, its secrets put in, checked against what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from shared.crm.registry import Templates
from shared.errors import ContractError
from shared.secrets import SecretBox
from shared.site.documents import RuleDocument
from shared.site.masked import unmasked_rule
from shared.site.models import Site
from shared.site.parts import Typed
from shared.site.rules.checks import Outline, in_words, rule_faults
from shared.site.rules.misread import faults_of_rule
from shared.site.rules.rule import CustomCrm, RoutingRule
from shared.site.templated import rule_words_faults


def read_draft(
    document: Mapping[str, JsonValue], stored: RuleDocument | None, *, secrets: SecretBox
) -> RoutingRule:
    """
    As it came over the API. Asterisks stand for the secret of *stored*, the rule of its name,
    unless it would go elsewhere now.

    Raises: ContractError. Takes a second or two for 100,000 rows.
    """
    said, kept = unmasked_rule(document, _source(stored))
    try:
        return RoutingRule.model_validate(said, context=Typed(secrets, kept))
    except ValidationError as error:
        faults = [(("rules", 0, *path), what) for path, what in faults_of_rule(error, RoutingRule)]
        raise ContractError(in_words(faults)) from None


def with_stored_secrets(
    rule: RoutingRule, document: Mapping[str, JsonValue], stored: RuleDocument | None
) -> RoutingRule:
    """
    *rule* as it was read from *document*, a file, with the secrets of *stored* where that has
    asterisks. Raises: ContractError, as :func:`read_draft`.
    """
    _, kept = unmasked_rule(document, _source(stored))
    credentials, custom = dict(rule.credentials), rule.custom
    for place, seal in kept.items():
        room, _, name = place.partition(".")
        if room == "credentials":
            credentials[name] = seal
        elif custom is not None:
            custom = _with_header_value(custom, seal)
    return rule.model_copy(update={"credentials": credentials, "custom": custom})


def leads_elsewhere(rule: RoutingRule, stored: RuleDocument | None) -> bool:
    """Whether it asks an address that the stored rule of its name does not ask."""
    custom = _source(stored).get("custom")
    known = custom.get("url") if isinstance(custom, Mapping) else None
    return rule.custom is not None and rule.custom.url != known


def signs_in_anew(rule: RoutingRule, stored: RuleDocument | None) -> bool:
    """Whether it has credentials that the stored rule of its name does not have: a password to try."""
    known = _source(stored).get("credentials") or {}
    return any(known.get(name) != seal for name, seal in rule.credentials.items())


def check_rule(
    rule: RoutingRule, site: Site, others: Iterable[Outline], templates: Templates
) -> None:
    """
    *others* are the rules that are stored, the one of this name too.

    Raises: ContractError with everything for which the rule cannot be stored, in
    ``details["faults"]`` by place.
    """
    crm = site.crm_named(rule.crm) if rule.crm else None
    words = rule_words_faults(rule, crm, templates)
    faults = [
        *rule_faults(site, (rule,), others),
        *((("rules", 0, *path), what) for path, what in words),
    ]
    if faults:
        raise ContractError(in_words(faults), faults=faults)


def _source(stored: RuleDocument | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stored.source) if stored is not None else {}
    return found


def _with_header_value(custom: CustomCrm, seal: str) -> CustomCrm:
    header = custom.header
    same = header.model_copy(update={"value": seal}) if header is not None else None
    return custom.model_copy(update={"header": same})
