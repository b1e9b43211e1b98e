"""Chained scenarios → steps: a request each, whose values the next ones use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.meanings import Kind, Known, Meaning, own_name, taken
from shared.crm.importing.threecx.paths import Paths
from shared.crm.importing.threecx.records import Record, record_of
from shared.crm.importing.threecx.requests import request_of, skipped
from shared.crm.importing.threecx.scenarios import Scenario, Taken, tests_in
from shared.crm.importing.threecx.words import Words
from shared.crm.language.text import compile_text
from shared.errors import ContractError

_NAME = re.compile(r"\[\s*([A-Za-z_][A-Za-z0-9_-]*)\s*\]")


@dataclass(slots=True)
class Steps:
    """*known* grows with each scenario; *gates*: when those so far are sent at all."""

    known: Known
    paths: Paths
    notes: Notes
    gates: tuple[str, ...] = ()

    def add(self, scenario: Scenario, later: Iterable[Scenario]) -> dict[str, Any]:
        """One step, which takes what *later* scenarios use."""
        words = Words(self.known, self.notes, scenario.place)
        request = request_of(scenario, words, when=[*self.gates, *self._needed(scenario, words)])
        gate = skipped(scenario, words)
        if gate is not None and gate not in self.gates:
            self.gates = (*self.gates, gate)
        record = record_of(scenario, self.paths, self.notes)
        wanted = names_used(later)
        take = {
            own_name(variable.name): path
            for variable in scenario.variables
            if variable.name in wanted and (path := self.path(record, variable)) is not None
        }
        made = {v.name: taken(v.name) for v in scenario.variables if own_name(v.name) in take}
        self.known = self.known.having(made)
        if not scenario.allows_empty and scenario.next:
            self.notes.changed(
                scenario.at("Outputs@AllowEmpty"),
                "where nothing is found the later requests that need it are not sent; the chain "
                "goes on",
            )
        return {"request": request, **({"take": take} if take else {})}

    def path(self, record: Record, variable: Taken) -> str | None:
        """In the whole answer, of the first record that the rules let through."""
        scenario, inner = record.scenario, record.noted_path(variable)
        if inner is None:
            return None
        tests = []
        for rule, test in tests_in(scenario.rules, record.home, scenario.at("Rules"), self.notes):
            if rule.kind == "number":
                self.notes.changed(scenario.at("Rules"), "the number is not compared again here")
            elif test.equals is not None or rule.path not in {v.path for v in scenario.variables}:
                # That a value is there says itself: what is taken is empty.
                tests.append(test)
        return self.paths.out_of_answer(record.home, inner, tests)

    def _needed(self, scenario: Scenario, words: Words) -> list[str]:
        """Values of steps before without which an address would be another one."""
        quiet = replace(words, notes=Notes())
        try:
            names = compile_text(quiet.of_text(scenario.request.get("Url"))).names
        except ContractError:
            return []
        made = {meaning.operand for layer in self.known.layers for meaning in _of_steps(layer)}
        return sorted(f".{name}" for name in names if f".{name}" in made)


def names_used(scenarios: Iterable[Scenario]) -> frozenset[str]:
    """Every name in brackets."""
    return frozenset(
        name
        for scenario in scenarios
        for words in scenario.element.words()
        for name in _NAME.findall(words)
    )


def _of_steps(layer: Mapping[str, Meaning]) -> list[Meaning]:
    return [meaning for meaning in layer.values() if meaning.kind is Kind.TAKEN]


def maker(chain: Sequence[Scenario]) -> int:
    """Which of them makes the entry or contact: the last that is no plain question."""
    writing = [
        place
        for place, scenario in enumerate(chain)
        if scenario.request.get("RequestType").lower() not in {"", "get"}
    ]
    return writing[-1] if writing else len(chain) - 1
