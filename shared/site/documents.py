"""How sites are kept: one document per tenant, one per rule, and each rule's versions beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import ValidationError

from shared.errors import ContractError
from shared.faults import faults_in
from shared.moments import Instant
from shared.site.models import Site
from shared.site.rules.checks import Outline
from shared.site.rules.rule import RoutingRule
from shared.storage.port import Collection, CollectionSpec, Document, DocumentStore, Index

#: Of a rule as JSON. MongoDB takes documents of 16 MiB.
MOST_SOURCE_BYTES = 8 * 1024 * 1024


class SiteDocument(Document):
    """``key`` is the tenant."""

    site: Site
    changed_at: Instant
    changed_by: str


SITES: CollectionSpec[SiteDocument] = CollectionSpec(
    name="site.tenants", model=SiteDocument, indexes=(Index(fields=("changed_at",)),)
)


class RuleDocument(Document, Outline):
    """
    ``key`` is ``tenant/name``. A rule that was deleted stays, without its source: so its deletion
    is seen by who reads what changed, and its numbers go on when it comes back.
    """

    #: Its version, from 1; ``version`` counts the store's replacements.
    number: int
    #: JSON of the rule, secrets sealed; empty when it is deleted.
    source: str
    deleted: bool = False
    #: "created", "changed", "deleted", "rolled back to 3".
    what: str
    changed_at: Instant
    changed_by: str
    #: Of the change, over all tenants: digits; later changes have later ones.
    serial: str

    @property
    def crm_words(self) -> str:
        """The connection's name, or ``custom``; empty without any."""
        return "custom" if self.custom else self.crm or ""

    def has(self, search: str) -> bool:
        """Whether that is in its name, field, a DID, a menu or the CRM; case does not matter."""
        texts = (self.name, self.field or "", self.crm_words, *self.dids, *self.ivrs)
        return any(search.casefold() in text.casefold() for text in texts)

    def read(self) -> RoutingRule:
        """A second for a hundred thousand rows: call it in a thread. Raises: ContractError."""
        return rule_of(self.source, name=self.name)


class RuleVersion(Document):
    """``key`` is ``tenant/name/number``. What a rule was; what it is stands in its own document."""

    name: str
    number: int
    deleted: bool
    what: str
    changed_at: Instant
    changed_by: str
    rows: int


class RuleSource(Document):
    """``key`` as of the version. Beside it, as a list of versions needs none of these megabytes."""

    source: str


class RuleTurn(Document):
    """Whose turn it is to write a rule: one document for all tenants, as serials are."""

    #: Of the last change, or of the one that is being written.
    serial: int
    taken_at: Instant


RULES: CollectionSpec[RuleDocument] = CollectionSpec(
    name="site.rules",
    model=RuleDocument,
    # The first is in the order that changes are read in. By the second every process asks each
    # second whether the last one is still there, and nobody has to look into megabytes.
    indexes=(Index(fields=("serial", "key")), Index(fields=("serial", "changed_at"))),
)
RULE_VERSIONS: CollectionSpec[RuleVersion] = CollectionSpec(
    name="site.rule_versions",
    model=RuleVersion,
    indexes=(Index(fields=("tenant", "name", "number")),),
)
RULE_SOURCES: CollectionSpec[RuleSource] = CollectionSpec(
    name="site.rule_sources", model=RuleSource
)
RULE_TURNS: CollectionSpec[RuleTurn] = CollectionSpec(name="site.rule_turns", model=RuleTurn)


@dataclass(frozen=True, slots=True)
class Stored:
    """The collections of the sites."""

    sites: Collection[SiteDocument]
    rules: Collection[RuleDocument]
    versions: Collection[RuleVersion]
    sources: Collection[RuleSource]
    turns: Collection[RuleTurn]

    @classmethod
    def in_store(cls, store: DocumentStore) -> Stored:
        return cls(
            store.collection(SITES),
            store.collection(RULES),
            store.collection(RULE_VERSIONS),
            store.collection(RULE_SOURCES),
            store.collection(RULE_TURNS),
        )


def source_of(rule: RoutingRule) -> str:
    """Raises: ContractError for one that is too large to be kept."""
    source = rule.model_dump_json(exclude_defaults=True)
    if (size := len(source.encode())) > MOST_SOURCE_BYTES:
        raise ContractError(
            f"rule {rule.name} has {size / 1024**2:.1f} MiB as JSON, and a rule may have "
            f"{MOST_SOURCE_BYTES // 1024**2}: make several of it, the last row of one being "
            "`rule:NAME` of the next"
        )
    return source


def says_same(one: str, other: str) -> bool:
    """Also where the keys of an object, such as credentials, stand in another order."""
    try:
        return one == other or json.loads(one) == json.loads(other)
    except ValueError:
        return False  # one of a deletion has no text


def rule_of(source: str, *, name: str) -> RoutingRule:
    """Raises: ContractError."""
    try:
        return RoutingRule.model_validate_json(source)
    except ValidationError as error:
        raise ContractError(f"rule {name} cannot be read: {faults_in(error)}") from None
