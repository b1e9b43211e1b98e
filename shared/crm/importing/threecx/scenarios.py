"""The scenarios of a 3CX template as they are written, and the chains that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shared.crm.importing.report import Notes
from shared.crm.importing.threecx.paths import Condition, Names, names_of, shared_beginning
from shared.crm.importing.xml import Element
from shared.errors import ContractError

#: Scenarios in a row: as many steps as a template takes.
MOST_IN_CHAIN = 10


@dataclass(frozen=True, slots=True)
class Rule:
    kind: str
    equals: str
    path: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A ``<Variable>``."""

    name: str
    path: str
    filters: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """*outputs*: by type; of one that is there twice the last counts."""

    id: str
    element: Element = field(repr=False)
    request: Element = field(repr=False)
    rules: tuple[Rule, ...]
    variables: tuple[Taken, ...]
    outputs: Mapping[str, str]
    next: str
    allows_empty: bool

    @property
    def place(self) -> str:
        return f"Scenario {self.id or '(lookup)'}, line {self.element.line}"

    def at(self, what: str) -> str:
        line = (self.request if what.startswith("Request") else self.element).line
        return f"Scenario {self.id or '(lookup)'}/{what}, line {line}"

    def variable(self, name: str) -> Taken | None:
        """Of several of one name the last."""
        found = [taken for taken in self.variables if taken.name == name]
        return found[-1] if found else None

    def home(self, notes: Notes) -> Names:
        """Where its records are: what all its paths begin with."""
        paths = [rule.path for rule in self.rules] + [taken.path for taken in self.variables]
        return shared_beginning(
            names[:-1] for path in paths if (names := names_in(path, self.place, notes))
        )


def names_in(path: str, place: str, notes: Notes) -> Names:
    """Nothing for a path that cannot be read; noted."""
    try:
        return names_of(path)
    except ContractError as error:
        notes.left(place, error.message)
        return ()


def tests_in(
    rules: tuple[Rule, ...], home: Names, place: str, notes: Notes
) -> Iterator[tuple[Rule, Condition]]:
    """Within a record at *home*."""
    for rule in rules:
        names = names_in(rule.path, place, notes)
        if not names or names[: len(home)] != home or len(names) == len(home):
            notes.left(place, f"the rule on {rule.path[:60]!r} is not about a record: not checked")
            continue
        if rule.kind == "equals" and "[" in rule.equals:
            notes.changed(place, f"{rule.path[:60]} is not compared with {rule.equals[:60]}")
            continue
        equals = rule.equals if rule.kind == "equals" else None
        yield rule, Condition(names[len(home) :], equals)


def read_scenarios(root: Element, notes: Notes) -> list[Scenario]:
    """Those that ask by HTTP."""
    found = []
    for element in root.all("Scenarios", "Scenario"):
        made = _scenario(element)
        kind = element.get("Type").lower()
        if kind not in {"", "rest"} or made is None:
            what = f"of type {element.get('Type')}: callmesh asks by HTTP" if kind else "no Request"
            if kind == "rest":
                what = "without a Request"
            notes.left(f"Scenario {element.get('Id') or '(lookup)'}, line {element.line}", what)
            continue
        found.append(made)
    return found


def _scenario(element: Element) -> Scenario | None:
    request = element.first("Request")
    if request is None:
        return None
    outputs = element.first("Outputs")
    return Scenario(
        id=element.get("Id"),
        element=element,
        request=request,
        rules=tuple(_rule(rule) for rule in element.all("Rules", "Rule")),
        variables=tuple(
            Taken(
                name=variable.get("Name"),
                path=variable.get("Path"),
                filters=tuple(_rule(rule) for rule in variable.all("Filter", "Rule")),
            )
            for variable in element.all("Variables", "Variable")
            if variable.get("Name") and variable.get("Path")
        ),
        outputs={
            output.get("Type").lower(): output.attributes.get("Value", "") or output.text
            for output in element.all("Outputs", "Output")
        },
        next=outputs.get("Next") if outputs is not None else "",
        allows_empty=outputs is not None and outputs.get("AllowEmpty").lower() == "true",
    )


def _rule(element: Element) -> Rule:
    return Rule(element.get("Type").lower() or "any", element.get("Ethalon"), element.text.strip())


def chain_from(first: Scenario, scenarios: list[Scenario], notes: Notes) -> list[Scenario]:
    """*first* and those that follow by ``Outputs@Next``."""
    by_id = {scenario.id: scenario for scenario in scenarios if scenario.id}
    chain = [first]
    while chain[-1].next:
        last = chain[-1]
        following = by_id.get(last.next)
        if following is None:
            notes.left(last.at("Outputs@Next"), f"there is no scenario {last.next[:60]!r}")
            break
        if following in chain or len(chain) > MOST_IN_CHAIN:
            notes.left(last.at("Outputs@Next"), "the chain is endless, or over 10 scenarios long")
            break
        chain.append(following)
    return chain
