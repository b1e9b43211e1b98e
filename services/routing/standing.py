"""A rule as it stands: compiled, with what is asked of it at every call. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.routing.compiled import CompiledRule
from shared.site.rules.rule import RoutingRule
from shared.site.rules.subjects import Ask

#: Of a record these come without its card.
_WITHOUT_CARD = frozenset({Ask.FIELD, Ask.KNOWN, Ask.MODULE})


@dataclass(frozen=True, slots=True)
class Wants:
    """What it has to be told at a call."""

    #: Of the CRM.
    fields: tuple[str, ...] = ()
    #: Name, company, owner and such.
    card: bool = False
    #: Whether anything may be asked of it at all.
    crm: bool = False
    #: Whether it matters what agents are doing.
    staff: bool = False

    @classmethod
    def of(cls, rule: RoutingRule) -> Wants:
        subjects = dict.fromkeys(rule.subjects)
        fields = tuple(subject.name for subject in subjects if subject.ask is Ask.FIELD)
        manager = rule.wants_manager
        card = manager or rule.caller_name
        card = card or any(s.needs_crm and s.ask not in _WITHOUT_CARD for s in subjects)
        crm = card or any(s.needs_crm for s in subjects)
        return cls(fields, card, crm, manager or any(s.ask is Ask.AGENT for s in subjects))


@dataclass(frozen=True, slots=True)
class Standing:
    """*version* None: it is stored nowhere."""

    compiled: CompiledRule
    version: int | None
    wants: Wants
    leads_to: frozenset[str]

    @property
    def rule(self) -> RoutingRule:
        return self.compiled.rule

    @classmethod
    def of(
        cls, rule: RoutingRule, *, zone: str, region: str | None, version: int | None = None
    ) -> Standing:
        """*zone* and *region* are the tenant's. Takes a second or two for 100,000 rows."""
        compiled = CompiledRule(rule, zone=zone, region=region)
        leads_to = frozenset(to for _, to in rule.leads_to)
        return cls(compiled, version, Wants.of(rule), leads_to)
