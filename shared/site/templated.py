"""What connections and rules say of a CRM, against the template that it is connected by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shared.crm.form.call_words import check_words
from shared.crm.form.manifest import Manifest
from shared.crm.registry import Templates, check_credentials, parameters_of
from shared.errors import BadSetting, ContractError, NotFound
from shared.site.models import CrmConnection
from shared.site.parts import PartPath
from shared.site.rules.rule import RoutingRule


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a site file is checked against; *may_be_plain*: hosts that plain http may go to."""

    templates: Templates = field(default_factory=Templates)
    may_be_plain: Callable[[str], bool] = lambda _: False


def connection_faults(crm: CrmConnection, around: Surroundings) -> Iterator[tuple[PartPath, str]]:
    """The path is within the connection."""
    try:
        manifest = around.templates.get(crm.template)
    except (NotFound, BadSetting) as error:
        yield ("template",), error.message
        return
    for part, check in (
        (
            "parameters",
            lambda: parameters_of(manifest, crm.parameters, may_be_plain=around.may_be_plain),
        ),
        ("credentials", lambda: check_credentials(manifest, crm.credentials)),
    ):
        try:
            check()
        except BadSetting as error:
            yield (part,), error.message
    for what in _module_faults(crm.modules, crm, around.templates):
        yield ("modules",), what
    yield from _journal_faults(crm, manifest)
    if crm.create is not None:
        contact = manifest.contacts.get(crm.create.module)
        if contact is None or contact.create is None:
            able = [name for name, known in manifest.contacts.items() if known.create]
            what = f"the template cannot create {crm.create.module}; it can: {', '.join(able)}"
            yield ("create", "module"), what


def _journal_faults(crm: CrmConnection, manifest: Manifest) -> Iterator[tuple[PartPath, str]]:
    """Texts in words that are there. A secret is none of them, nor is a text's own name."""
    known = manifest.entry_words - {"Description"}
    for part, text, words in (
        ("subject", crm.journal.subject, known - {"Subject"}),
        ("description", crm.journal.description, known),
    ):
        try:
            check_words(text or "", known=words, maps=manifest.maps)
        except ContractError as error:
            yield ("journal", part), error.message


def rule_words_faults(
    rule: RoutingRule, crm: CrmConnection | None, templates: Templates
) -> Iterator[tuple[PartPath, str]]:
    """*crm* is the rule's; the path is within the rule. Nothing, where the template is not there."""
    if crm is None:
        return
    for what in _module_faults(rule.modules, crm, templates):
        yield ("modules",), what
    try:
        known = {credential.name for credential in templates.get(crm.template).credentials}
    except (NotFound, BadSetting):
        return
    for name in rule.credentials:
        if name not in known:
            has = f"it has: {', '.join(sorted(known))}" if known else "it has none"
            yield (
                ("credentials", name),
                f"template {crm.template} has no credential {name}; {has}",
            )


def _module_faults(
    modules: tuple[str, ...], crm: CrmConnection, templates: Templates
) -> Iterator[str]:
    try:
        known = templates.get(crm.template).contacts
    except (NotFound, BadSetting):
        return
    for module in modules:
        if known and module not in known:
            yield f"the template has no contact type {module}; it has: {', '.join(known)}"
