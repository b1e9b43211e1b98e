"""What makes no sense between a tenant's rules, and between them and the rest of its site. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice, pairwise, product
from operator import itemgetter
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from shared.site.models import Site
from shared.site.parts import PartPath
from shared.site.rules.conditions import tests_in
from shared.site.rules.places import LONGEST_CHAIN
from shared.site.rules.reach import unreachable
from shared.site.rules.rule import RoutingRule, Row
from shared.site.rules.subjects import Ask, Subject
from shared.site.rules.values import Around

#: The place, ``("rules", 3, "rows", 0)``, and what is wrong there.
Fault = tuple[PartPath, str]

#: Who makes a mistake in a hundred thousand rows mends these first.
MOST_FAULTS = 200
#: Numbers times menus of one rule.
_MOST_LOCATIONS = 10_000


class Thing(StrEnum):
    """What a rule can need to be there."""

    CRM = "crm"
    HOURS = "hours"
    AGENT = "agent"
    RULE = "rule"


class Need(BaseModel):
    """*part* is where it is named first: `rows`, then *row* is its number from 1; else another key."""

    model_config = ConfigDict(frozen=True)

    thing: Thing
    name: str
    part: str
    row: int | None = None

    @property
    def path(self) -> PartPath:
        return (self.part,) if self.row is None else (self.part, self.row - 1)


class Outline(BaseModel):
    """As much of a rule as others have to know of it: without its rows."""

    name: str
    dids: tuple[str, ...] = ()
    ivrs: tuple[str, ...] = ()
    field: str | None = None
    #: Name of the connection; None also for a custom one.
    crm: str | None = None
    custom: bool = False
    #: How many.
    rows: int = 0
    needs: tuple[Need, ...] = ()

    def needed(self, thing: Thing) -> Iterator[Need]:
        return (need for need in self.needs if need.thing is thing)


def outline_of(rule: RoutingRule) -> Outline:
    """Takes a second for a hundred thousand rows with conditions."""
    found: dict[tuple[Thing, str], Need] = {}
    for need in _needs(rule):
        found.setdefault((need.thing, need.name), need)
    return Outline(
        name=rule.name,
        dids=rule.dids,
        ivrs=rule.ivrs,
        field=rule.field,
        crm=rule.crm,
        custom=rule.custom is not None,
        rows=len(rule.rows),
        needs=tuple(found.values()),
    )


def rule_faults(
    site: Site, rules: Sequence[RoutingRule], others: Iterable[Outline] = ()
) -> list[Fault]:
    """
    What is wrong with *rules* beside *others* of the tenant, which are there already and are no
    fault of theirs. At most :data:`MOST_FAULTS`, and a word that there are more. Rules of a
    hundred thousand rows take seconds.
    """
    outlines = [outline_of(rule) for rule in rules]
    names = {outline.name for outline in outlines}
    kept = [other for other in others if other.name not in names]
    faults = _faults(site, rules, outlines, kept)
    found = list(islice(faults, MOST_FAULTS))
    if next(faults, None) is not None:
        found.append((("rules",), "and more faults"))
    return found


def dangling(site: Site, outlines: Iterable[Outline], names: Collection[str]) -> Iterator[Fault]:
    """
    What stored rules need and is not there; *names* are of all rules that are. The path has the
    rule's name in place of a number.
    """
    for outline in outlines:
        yield from _missing(site, outline, names, place=outline.name)


def lonely(outlines: Sequence[Outline]) -> Iterator[Fault]:
    """
    Rules that no number, no menu and no other rule leads to. Of a whole file only: where rules are
    put one by one, the one that is led to comes before the one that leads there.
    """
    led_to = {need.name for rule in outlines for need in rule.needed(Thing.RULE)}
    for place, rule in enumerate(outlines):
        if not rule.dids and not rule.ivrs and rule.name not in led_to:
            yield ("rules", place), f"nothing leads to rule {rule.name}: say its `dids` or `ivrs`"


def in_words(faults: Iterable[Fault]) -> str:
    """``row 3: there are no hours shop; rule vip, row 1: …``, for who sees no lines of a file."""
    said = []
    for path, what in faults:
        place, rest = (path[1], path[2:]) if len(path) > 1 else (0, ())
        words = [f"rule {place}"] if isinstance(place, str) else []
        match rest:
            case ("rows", int(row), *more):
                words += [f"row {row + 1}", *map(str, more)]
            case _:
                words += map(str, rest)
        said.append(f"{', '.join(words)}: {what}" if words else what)
    return "; ".join(said)


def _faults(
    site: Site, rules: Sequence[RoutingRule], outlines: Sequence[Outline], kept: Sequence[Outline]
) -> Iterator[Fault]:
    names = [outline.name for outline in outlines]
    for place, name in enumerate(names):
        if name in names[:place]:
            yield ("rules", place), f"{name} is there twice"
    yield from _locations_taken(outlines, kept)
    known = {*names, *(other.name for other in kept)}
    for place, outline in enumerate(outlines):
        yield from _missing(site, outline, known, place=place)
    yield from _circles(outlines, kept)
    for place, rule in enumerate(rules):
        around = Around(zone=ZoneInfo(rule.zone or site.zone), region=site.region)
        for row, why in unreachable(rule, around):
            yield ("rules", place, "rows", row - 1), f"this row is never taken: {why}"


def _locations_taken(outlines: Sequence[Outline], kept: Sequence[Outline]) -> Iterator[Fault]:
    taken: dict[tuple[str | None, str | None], str] = {}
    for other in kept:
        taken.update(dict.fromkeys(_locations(other), other.name))
    for place, outline in enumerate(outlines):
        if len(outline.dids) * len(outline.ivrs) > _MOST_LOCATIONS:
            yield (
                ("rules", place, "ivrs"),
                f"numbers times menus are over {_MOST_LOCATIONS}: make several rules of it",
            )
            continue
        written = {did.lstrip("+"): did for did in outline.dids}
        for ivr, number in _locations(outline):
            holder = taken.setdefault((ivr, number), outline.name)
            if holder != outline.name:
                part = "ivrs" if ivr else "dids"
                words = [f"menu {ivr}"] if ivr else []
                words += [f"DID {written[number]}"] if number else []
                yield ("rules", place, part), f"{', '.join(words)} is already in rule {holder}"


def _locations(outline: Outline) -> Iterator[tuple[str | None, str | None]]:
    """Menu and number; for a menu without numbers the number is None, which is any other."""
    numbers = [did.lstrip("+") for did in outline.dids]
    if outline.ivrs or numbers:
        yield from product(outline.ivrs or (None,), numbers or (None,))


def _missing(
    site: Site, outline: Outline, names: Collection[str], *, place: int | str
) -> Iterator[Fault]:
    there: dict[Thing, Collection[str]] = {
        Thing.CRM: {crm.name for crm in site.crm},
        Thing.HOURS: {hours.name for hours in site.hours},
        Thing.AGENT: {agent.extension for agent in site.agents},
        Thing.RULE: names,
    }
    for need in outline.needs:
        if need.name not in there[need.thing]:
            many = "are" if need.thing is Thing.HOURS else "is"
            yield ("rules", place, *need.path), f"there {many} no {need.thing} {need.name}"


def _circles(outlines: Sequence[Outline], kept: Sequence[Outline]) -> Iterator[Fault]:
    """
    Each once, at the row of the first of *outlines* that it goes through; and ways over more rules
    than a decision follows.
    """
    edges = {
        outline.name: {need.name: need for need in outline.needed(Thing.RULE)}
        for outline in (*kept, *outlines)
    }
    places = {outline.name: place for place, outline in enumerate(outlines)}
    #: Rule → how many are on the longest way from it, and the next one there.
    done: dict[str, tuple[int, str | None]] = {}
    for name in (*places, *edges):
        if name in done:
            continue
        trail, ahead = [name], [iter(edges[name])]
        while ahead:
            following = next(ahead[-1], None)
            if following is None:
                ahead.pop()
                one = trail.pop()
                ways = ((done[to][0] + 1, to) for to in edges[one] if to in done)
                done[one] = max(ways, key=itemgetter(0), default=(1, None))
            elif following in trail:
                way = trail[trail.index(following) :]
                if ours := [name for name in way if name in places]:
                    first = min(ours, key=places.__getitem__)
                    yield _circle(way, first, edges, places[first])
            elif following not in done and following in edges:
                trail.append(following)
                ahead.append(iter(edges[following]))
    yield from _too_long(done, edges, places)


def _too_long(
    done: Mapping[str, tuple[int, str | None]],
    edges: Mapping[str, Mapping[str, Need]],
    places: Mapping[str, int],
) -> Iterator[Fault]:
    """The longest way, if it is too long and one of *places* is on it."""
    start = max(done, key=lambda name: done[name][0], default=None)
    if start is None or done[start][0] <= LONGEST_CHAIN:
        return
    way = [start]
    while (following := done[way[-1]][1]) is not None:
        way.append(following)
    for name, following in pairwise(way):
        if name in places:
            said = f"{way[0]} → {way[1]} → … → {way[-1]}"
            what = f"{len(way)} rules lead to one another, at most {LONGEST_CHAIN} are followed"
            yield ("rules", places[name], *edges[name][following].path), f"{what}: {said}"
            return


def _circle(way: list[str], first: str, edges: dict[str, dict[str, Need]], place: int) -> Fault:
    turned = [*way[way.index(first) :], *way[: way.index(first)], first]
    need = edges[first][turned[1]]
    return ("rules", place, *need.path), f"rules lead in a circle: {' → '.join(turned)}"


def _needs(rule: RoutingRule) -> Iterator[Need]:
    if rule.crm is not None:
        yield Need(thing=Thing.CRM, name=rule.crm, part="crm")
    for number, row in enumerate(rule.rows, start=1):
        for subject in _subjects(row):
            if thing := _OF_THE_SITE.get(subject.ask):
                yield Need(thing=thing, name=subject.name, part="rows", row=number)
    for subject in rule.variables.values():
        if thing := _OF_THE_SITE.get(subject.ask):
            yield Need(thing=thing, name=subject.name, part="variables")
    for number_or_default, name in rule.leads_to:
        part = "default" if number_or_default is None else "rows"
        yield Need(thing=Thing.RULE, name=name, part=part, row=number_or_default)


_OF_THE_SITE = {Ask.HOURS: Thing.HOURS, Ask.AGENT: Thing.AGENT}


def _subjects(row: Row) -> Iterator[Subject]:
    if row.when is not None:
        yield from (test.of for test in tests_in(row.when) if test.of is not None)
    yield from row.variables.values()
