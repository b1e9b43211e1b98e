"""
A rule and what is known of a call → a destination. Pure.

The first row that matches and whose destination can be had wins; in every other case the default,
each with its reason. What has to be asked of others is asked when a row wants it, not before:
``ContactWanted`` and ``ManagerWanted`` say so, and the decision is begun anew with the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue

from services.routing.brief import brief, brief_card
from services.routing.compiled import CompiledRule, Unknown
from services.routing.facts import Facts, is_empty
from services.routing.standing import Standing
from services.routing.trace import Trace
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import (
    DecideRoute,
    Destination,
    DestinationKind,
    RouteDecision,
    RouteReason,
)
from shared.errors import ContractError
from shared.site.rules.keys import items_of, text_of
from shared.site.rules.places import LONGEST_CHAIN, Manager, Split, ToRule, Way, Ways, plain_in
from shared.site.rules.rule import RoutingRule, Row
from shared.site.rules.subjects import Ask, Subject

#: Rows that are noted one by one; of more only the last are.
_ROWS_NOTED = 20
_LONGEST_ATTRIBUTE = 200


@dataclass(frozen=True, slots=True)
class Around:
    """What a decision may look at beside the rule that it begins with."""

    asked: DecideRoute
    rules: Callable[[str], Standing | None]
    facts: Callable[[Standing], Facts]
    trace: Trace

    @property
    def chance(self) -> str:
        """The same for every question about a call; without a call's id, of a caller to a number."""
        return self.asked.call_id or f"{self.asked.caller}/{self.asked.did}"


def decide(first: Standing, around: Around) -> RouteDecision:
    """Raises: ContactWanted, ManagerWanted, which carry the rule that wants it."""
    standing, chain = first, [first.rule.name]
    while True:
        outcome = _in_rule(standing, around)
        if isinstance(outcome, RouteDecision):
            return outcome
        following = around.rules(outcome.rule)
        if following is None or len(chain) == LONGEST_CHAIN:
            # Both are refused when a rule is written; a store may be older than that.
            raise ContractError(f"rule {outcome.rule} cannot be followed from {' → '.join(chain)}")
        chain.append(following.rule.name)
        around.trace.note("rule", f"{following.rule.name}{_version(following)}")
        standing = following


def _in_rule(standing: Standing, around: Around) -> RouteDecision | ToRule:
    rule, trace = standing.rule, around.trace
    facts = around.facts(standing)
    if rule.greeting and around.asked.ivr and not (around.asked.dtmf or around.asked.collected):
        trace.note("greeting", f"{rule.greeting}: the caller is asked for digits first")
        return _decision(standing, facts, trace, RouteReason.DIGITS_WANTED, greeting=rule.greeting)
    noted, passed_over = 0, False
    for number in standing.compiled.matching(facts):
        _note_value(rule, facts, trace, first=noted == 0)
        _note_rows(standing.compiled, trace, noted + 1, number - 1)
        noted = number
        row = rule.rows[number - 1]
        trace.note("row", f"{number}: {standing.compiled.describe(number)} matches")
        way = _had(row.destination, rule, number, facts, around)
        if isinstance(way, ToRule):
            return way
        if way is not None:
            said = row.voicemail if row.voicemail is not None else rule.voicemail
            return _decision(
                standing,
                facts,
                trace,
                RouteReason.ROW_MATCHED,
                destination=way,
                row=number,
                voicemail=said if _is_phone(way) else None,
            )
        passed_over = True
    _note_value(rule, facts, trace, first=noted == 0)
    _note_rows(standing.compiled, trace, noted + 1, len(rule.rows))
    reason = _why_passed_over(rule, facts) if passed_over else _why_no_row(rule, facts)
    return _default(standing, facts, around, reason)


def _default(
    standing: Standing, facts: Facts, around: Around, reason: RouteReason
) -> RouteDecision | ToRule:
    rule = standing.rule
    way = _had(_defaults(rule), rule, None, facts, around)
    around.trace.note("default", f"{way}: {reason}")
    if isinstance(way, ToRule):
        return way
    return _decision(
        standing,
        facts,
        around.trace,
        reason,
        destination=way,
        voicemail=_voicemail_after(rule, way),
    )


def last_resort(standing: Standing, trace: Trace, reason: RouteReason) -> RouteDecision:
    """The default's last plain place, asking nobody: for when deciding itself went wrong."""
    rule = standing.rule
    places = [way for way in plain_in(_defaults(rule)) if isinstance(way, Destination)]
    destination = places[-1] if places else None
    trace.note("default", f"{destination}: {reason}")
    return RouteDecision(
        destination=destination,
        reason=reason,
        rule=rule.name,
        version=standing.version,
        field=rule.field,
        priority=rule.priority,
        voicemail=_voicemail_after(rule, destination),
        took_ms=trace.elapsed_ms,
        trace=trace.steps,
    )


def _defaults(rule: RoutingRule) -> Ways:
    """With the voicemail in place of the extension where the rule says so; not of a manager's."""
    if not rule.default_voicemail:
        return rule.default
    return tuple(
        Destination(kind=DestinationKind.VOICEMAIL, target=way.target)
        if isinstance(way, Destination) and way.kind is DestinationKind.EXTENSION
        else way
        for way in rule.default
    )


def _voicemail_after(rule: RoutingRule, way: Destination | None) -> bool | None:
    said = rule.voicemail if rule.default_voicemail is None else rule.default_voicemail
    return said if _is_phone(way) else None


def _is_phone(way: Destination | None) -> bool:
    return way is not None and way.kind is DestinationKind.EXTENSION


# -- where it leads ----------------------------------------------------------------------------


def _had(
    ways: Ways, rule: RoutingRule, row: int | None, facts: Facts, around: Around
) -> Destination | ToRule | None:
    """The first of *ways* that can be had; None: not one."""
    for place, way in enumerate(ways):
        found = _one(way, f"{rule.name}/{row}/{place}", facts, around)
        if found is not None:
            return found
    return None


def _one(way: Way, seed: str, facts: Facts, around: Around) -> Destination | ToRule | None:
    match way:
        case Destination() | ToRule():
            return way
        case Manager():
            return _manager(way, facts, around.trace)
        case Split():
            drawn = _percent(f"{around.chance}/{seed}")
            bound = 0
            for share in way.split:
                bound += share.percent
                if drawn < bound:
                    around.trace.note("split", f"{share.destination}, by {drawn} of 100")
                    return _one(share.destination, seed, facts, around)
            raise AssertionError("unreachable: the shares are the whole")


def _percent(seed: str) -> int:
    """0 to 99, as good as by chance, and the same for the same *seed*."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % 100


def _manager(way: Manager, facts: Facts, trace: Trace) -> Destination | None:
    found = facts.found_manager()
    trace.note("manager", found.said)
    if found.extension is None or (way.only_free and not found.free):
        return None
    return Destination(kind=DestinationKind.EXTENSION, target=found.extension)


# -- why --------------------------------------------------------------------------------------


def _why_passed_over(rule: RoutingRule, facts: Facts) -> RouteReason:
    """A row matched. Whose customer the caller is may not be known, and that is why then."""
    evidence, manager = facts.evidence, facts.manager
    named = manager is not None and manager.extension is not None
    if named or evidence is None or (evidence.candidates and evidence.failure is None):
        return RouteReason.NOBODY_FREE
    return _why_no_row(rule, facts)


def _why_no_row(rule: RoutingRule, facts: Facts) -> RouteReason:
    evidence = facts.evidence
    if evidence is None:
        return RouteReason.NO_ROW_MATCHED
    if evidence.failure is not None:
        return evidence.failure
    if rule.field is not None and not is_empty(evidence.value(rule.field)):
        return RouteReason.NO_ROW_MATCHED
    if not evidence.candidates and rule.custom is None:
        return RouteReason.NO_FIELD if evidence.refused else RouteReason.NO_CONTACT
    if rule.field is None:
        return RouteReason.NO_ROW_MATCHED
    return RouteReason.NO_VALUE if evidence.has(rule.field) else RouteReason.NO_FIELD


def _note_value(rule: RoutingRule, facts: Facts, trace: Trace, *, first: bool) -> None:
    if not first or facts.evidence is None or facts.evidence.failure is not None:
        return
    evidence = facts.evidence
    contact = evidence.contact(rule.field)
    who = f"{contact.module} {contact.contact_id}" if contact else "the custom CRM"
    if contact is None and rule.custom is None:
        trace.note("contact", "none found")
    elif rule.field is not None:
        value = evidence.value(rule.field)
        said = f"{rule.field} is {brief(value)!r}"
        if is_empty(value):
            has = "no value in" if evidence.has(rule.field) else "no field"
            said = f"has {has} {rule.field}"
        trace.note("value", f"{who}: {said}")


def _note_rows(compiled: CompiledRule, trace: Trace, first: int, last: int) -> None:
    """Rows *first* to *last* did not match."""
    begin = max(first, last - _ROWS_NOTED + 1)
    if begin > first:
        trace.note("row", f"{first} to {begin - 1}: none matches")
    for number in range(begin, last + 1):
        trace.note("row", f"{number}: {compiled.describe(number)} does not match")


def _version(standing: Standing) -> str:
    return f" (version {standing.version})" if standing.version is not None else ""


# -- the answer ---------------------------------------------------------------------------------


def _decision(
    standing: Standing,
    facts: Facts,
    trace: Trace,
    reason: RouteReason,
    *,
    destination: Destination | None = None,
    row: int | None = None,
    greeting: str | None = None,
    voicemail: bool | None = None,
) -> RouteDecision:
    rule = standing.rule
    chosen = rule.rows[row - 1] if row is not None else None
    asking = greeting is not None
    contact = None if asking else _contact(rule, facts)
    attributes = {} if asking else _attributes(rule, chosen, facts)
    evidence = facts.evidence
    priority = chosen.priority if chosen is not None else None
    return RouteDecision(
        destination=destination,
        reason=reason,
        rule=rule.name,
        version=standing.version,
        row=row,
        field=rule.field,
        value=brief(evidence.value(rule.field)) if evidence and rule.field else None,
        contact=brief_card(contact) if contact is not None else None,
        greeting=greeting,
        priority=priority if priority is not None else rule.priority,
        voicemail=voicemail,
        attributes=attributes,
        took_ms=trace.elapsed_ms,
        trace=trace.steps,
    )


def _contact(rule: RoutingRule, facts: Facts) -> ContactCard | None:
    """Raises: ContactWanted where the rule wants the caller's name in any case."""
    if rule.caller_name:
        return facts.known().contact(rule.field)
    return facts.evidence.contact(rule.field) if facts.evidence is not None else None


def _attributes(rule: RoutingRule, row: Row | None, facts: Facts) -> dict[str, str]:
    """Empty for what is not known: a value of an earlier question must not stay at the PBX."""
    wanted = {**rule.variables, **(row.variables if row is not None else {})}
    return {name: _told(subject, facts) for name, subject in wanted.items()}


def _told(subject: Subject, facts: Facts) -> str:
    """A number in one spelling, whatever the PBX shows; of a list all, of an object its name."""
    if subject.ask is Ask.NUMBER:
        return facts.number.key
    value = facts.of(subject)
    if isinstance(value, Unknown):
        return ""
    return ", ".join(map(_text, items_of(value)))[:_LONGEST_ATTRIBUTE]


def _text(item: JsonValue) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    return text_of(item)
