"""
The value of a CRM field and a rule's rows → a destination. Pure.

How values are compared: two numbers as numbers, anything else as text without regard to case.
Where one side is a number and the other is not, ``=`` compares them as text and the ordering
operators do not match: "GOLD" is neither more nor less than 50. Of a list, one item that fits is
enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import JsonValue

from shared.contracts.contacts import ContactCard
from shared.contracts.routing import RouteDecision, RouteReason, TraceStep
from shared.site.models import Operator, RoutingRule, Row

#: A number of more digits is no number that anybody compares.
_LONGEST_NUMBER = 40


class Trace:
    """What a decision looked at; *elapsed* gives milliseconds since the question."""

    def __init__(self, elapsed: Any) -> None:
        self._elapsed = elapsed
        self.steps: list[TraceStep] = []

    def note(self, step: str, detail: str) -> None:
        after = round(self._elapsed(), 2)
        self.steps.append(TraceStep(step=step, detail=detail, after_ms=after))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about the caller; *failure* says why nothing could be."""

    candidates: Sequence[ContactCard] = ()
    refused: Sequence[str] = ()
    failure: RouteReason | None = None


def decide(rule: RoutingRule, evidence: Evidence, trace: Trace) -> RouteDecision:
    """The first row that matches; in every other case the default, with the reason."""
    for refusal in evidence.refused:
        trace.note("contact", f"not asked: {refusal}")
    if evidence.failure is not None:
        return _default(rule, evidence.failure, trace)
    if not evidence.candidates:
        trace.note("contact", "none found")
        reason = RouteReason.NO_VALUE if evidence.refused else RouteReason.NO_CONTACT
        return _default(rule, reason, trace)
    contact = _with_value(evidence.candidates, rule.field)
    if contact is None:
        first = evidence.candidates[0]
        trace.note("value", f"{first.module} {first.contact_id} has no value in {rule.field}")
        return _default(rule, RouteReason.NO_VALUE, trace, contact=first)
    value = contact.fields[rule.field]
    trace.note("value", f"{contact.module} {contact.contact_id}: {rule.field} is {value!r}")
    for number, row in enumerate(rule.rows, start=1):
        if matches(row, value):
            trace.note("row", f"{number}: {row.operator} {row.value!r} matches")
            return _decision(
                rule,
                RouteReason.ROW_MATCHED,
                trace,
                destination=row.destination,
                row=number,
                value=value,
                contact=contact,
            )
        trace.note("row", f"{number}: {row.operator} {row.value!r} does not match")
    return _default(rule, RouteReason.NO_ROW_MATCHED, trace, value=value, contact=contact)


def matches(row: Row, value: JsonValue) -> bool:
    if isinstance(value, list):
        return any(matches(row, item) for item in value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return False
    ours, theirs = _number(value), _number(row.value)
    if ours is not None and theirs is not None:
        return _compare(row.operator, ours, theirs)
    text, wanted = _text(value).casefold(), row.value.strip().casefold()
    if (ours is None) != (theirs is None):
        return row.operator is Operator.EQUAL and text == wanted
    return _compare(row.operator, text, wanted)


def _compare(operator: Operator, value: Any, wanted: Any) -> bool:
    match operator:
        case Operator.EQUAL:
            return bool(value == wanted)
        case Operator.LESS:
            return bool(value < wanted)
        case Operator.GREATER:
            return bool(value > wanted)
        case Operator.LESS_OR_EQUAL:
            return bool(value <= wanted)
        case Operator.GREATER_OR_EQUAL:
            return bool(value >= wanted)


def _number(value: JsonValue) -> Decimal | None:
    """None for what is no finite number; a yes or no is none either."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    # Decimal takes underscores, which no CRM means.
    if len(text) > _LONGEST_NUMBER or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _text(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip()


def _with_value(candidates: Sequence[ContactCard], field: str) -> ContactCard | None:
    return next((card for card in candidates if card.fields.get(field) not in (None, "", [])), None)


def _default(
    rule: RoutingRule,
    reason: RouteReason,
    trace: Trace,
    *,
    value: JsonValue = None,
    contact: ContactCard | None = None,
) -> RouteDecision:
    trace.note("default", f"{rule.default}: {reason}")
    return _decision(rule, reason, trace, destination=rule.default, value=value, contact=contact)


def _decision(rule: RoutingRule, reason: RouteReason, trace: Trace, **more: Any) -> RouteDecision:
    took = trace.steps[-1].after_ms if trace.steps else 0.0
    return RouteDecision(
        reason=reason,
        rule=rule.name,
        field=rule.field,
        took_ms=took,
        trace=tuple(trace.steps),
        **more,
    )
