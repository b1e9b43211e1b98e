"""One scenario's answer: its records, and the paths of its variables within one."""

from __future__ import annotations

from dataclasses import dataclass

from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.paths import Names, Paths
from shared.crm.importing.threecx.scenarios import Scenario, Taken, names_in, tests_in
from shared.errors import ContractError


@dataclass(frozen=True, slots=True)
class Record:
    """One scenario's answer: where its records are, and its variables within one."""

    scenario: Scenario
    home: Names
    paths: Paths
    notes: Notes

    def noted_path(self, variable: Taken, *, every: bool = False) -> str | None:
        """None, with a note, for a variable that is not within a record."""
        try:
            return self.path(variable, every=every)
        except ContractError as error:
            self.notes.left(self.scenario.at(f"Variable {variable.name}"), error.message)
            return None

    def path(self, variable: Taken, *, every: bool = False) -> str:
        """Raises: ContractError for a variable that is not within a record."""
        names = names_in(variable.path, self.scenario.place, self.notes)
        if not names or names[: len(self.home)] != self.home:
            raise ContractError(f"the path {variable.path[:60]!r} is not within a record")
        inner = names[len(self.home) :]
        if not inner:
            return "@this"
        tests = [
            test
            for _, test in tests_in(variable.filters, self.home, self.scenario.place, self.notes)
        ]
        return self.paths.value(inner, inner=tests, every=every)


def record_of(scenario: Scenario, paths: Paths, notes: Notes) -> Record:
    return Record(scenario, scenario.home(notes), paths, notes)


def first_id(scenario: Scenario) -> Taken | None:
    """The first variable whose path ends in ``id``."""
    return next((v for v in scenario.variables if v.path.lower().endswith("id")), None)
