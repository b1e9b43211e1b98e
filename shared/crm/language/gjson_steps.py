"""
The steps of a GJSON path. Each takes what the one before it found; a dot and a pipe have become
different steps when the path was read (``gjson_read``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from shared.crm.language.gjson_query import Condition
from shared.crm.language.gjson_values import LOST, MISSING, Budget, Wild, is_array, is_object


class Step(Protocol):
    def apply(self, value: Any, budget: Budget) -> Any:
        """
        What it finds, MISSING, or LOST where the whole path leads nowhere. Raises: Spent, and
        ContractError for a value that JSON has no form for.
        """


Steps = tuple[Step, ...]


def run(steps: Steps, value: Any, budget: Budget) -> Any:
    """MISSING where the steps lead nowhere. Raises: as Step.apply."""
    for step in steps:
        value = step.apply(value, budget)
        if value is LOST:
            return MISSING
    return value


@dataclass(frozen=True, slots=True)
class Key:
    """A name in an object, a place in a list. *index* is -1 for what is no number."""

    name: str
    index: int

    def apply(self, value: Any, budget: Budget) -> Any:
        if is_object(value):
            return value.get(self.name, MISSING)
        if is_array(value):
            return value[self.index] if 0 <= self.index < len(value) else MISSING
        return LOST


@dataclass(frozen=True, slots=True)
class WildKey:
    """The first member whose name fits and through which *inner* leads to something."""

    name: Wild
    inner: Steps

    def apply(self, value: Any, budget: Budget) -> Any:
        if is_array(value):
            return MISSING
        if not is_object(value):
            return LOST
        for key, member in value.items():
            if self.name.matches(key, budget):
                found = run(self.inner, member, budget)
                if found is not MISSING:
                    return found
        return MISSING


@dataclass(frozen=True, slots=True)
class Count:
    def apply(self, value: Any, budget: Budget) -> Any:
        if is_array(value):
            return len(value)
        return value.get("#", MISSING) if is_object(value) else LOST


@dataclass(frozen=True, slots=True)
class Each:
    """What *inner* finds in every element; one without it leaves no gap."""

    inner: Steps

    def apply(self, value: Any, budget: Budget) -> Any:
        if not is_array(value):
            is_named = is_object(value) and "#" in value
            return run(self.inner, value["#"], budget) if is_named else LOST
        budget.spend(len(value))
        every = [run(self.inner, element, budget) for element in value]
        return [found for found in every if found is not MISSING]


@dataclass(frozen=True, slots=True)
class Query:
    """*subject* None is the element itself. *inner* is what stands behind the query's dot."""

    subject: Steps | None
    condition: Condition
    takes_all: bool
    inner: Steps

    def apply(self, value: Any, budget: Budget) -> Any:
        if not is_array(value):
            return LOST
        every = []
        for element in value:
            budget.spend()
            if not self._chooses(element, budget):
                continue
            found = run(self.inner, element, budget)
            if not self.takes_all:
                return found
            if found is not MISSING:
                every.append(found)
        return every if self.takes_all else MISSING

    def _chooses(self, element: Any, budget: Budget) -> bool:
        if is_object(element) or is_array(element):
            subject = _NAMELESS if self.subject is None else self.subject
            return self.condition.holds(run(subject, element, budget), budget)
        return self.subject is None and self.condition.holds(element, budget)


_NAMELESS: Steps = (Key("", -1),)


@dataclass(frozen=True, slots=True)
class ListOf:
    """``[a,b]``: what is not there leaves no gap."""

    members: tuple[Steps, ...]

    def apply(self, value: Any, budget: Budget) -> Any:
        every = [run(member, value, budget) for member in self.members]
        made = [found for found in every if found is not MISSING]
        budget.weigh(made)
        return made


@dataclass(frozen=True, slots=True)
class ObjectOf:
    """``{a,"name":b}``: what is not there has no name either."""

    members: tuple[tuple[str, Steps], ...]

    def apply(self, value: Any, budget: Budget) -> Any:
        every = [(name, run(member, value, budget)) for name, member in self.members]
        made = {name: found for name, found in every if found is not MISSING}
        budget.weigh(made)
        return made


@dataclass(frozen=True, slots=True)
class Literal:
    """``!"text"``."""

    value: Any

    def apply(self, value: Any, budget: Budget) -> Any:
        return self.value


@dataclass(frozen=True, slots=True)
class Lines:
    """``..``: the document as a list of its lines. What was parsed is one line."""

    def apply(self, value: Any, budget: Budget) -> Any:
        return [] if value is MISSING else [value]


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Where a path cannot be read."""

    def apply(self, value: Any, budget: Budget) -> Any:
        return LOST
