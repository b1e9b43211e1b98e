"""What is wrong with a rule that cannot be read, at the places of its text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from shared.faults import Path, faults_by_path

_FORMS = frozenset({"all", "any", "none", "test"})
_WAYS = "a destination is a text such as queue:support, a `split`, or a list of them"


def faults_of_rule(
    error: ValidationError, model: type[BaseModel] | None = None, *, above: Path = ()
) -> list[tuple[Path, str]]:
    """
    Path and message of each fault. Pydantic names the members of unions in its paths, and tells
    what each of them wants; here is what was meant. *above* leads to what was read, if that was a
    part of a rule.
    """
    return as_meant(((*above, *path), what) for path, what in faults_by_path(error, model))


def as_meant(faults: Iterable[tuple[Path, str]], *, at: int = 0) -> list[tuple[Path, str]]:
    """As :func:`faults_of_rule`; the rule begins after *at* steps of the paths."""
    found: dict[tuple[Path, str], None] = {}
    for path, what in faults:
        if (fault := _meant(path, at, what)) is not None:
            found[fault] = None
    above = {path[:length] for path, _ in found for length in range(len(path))}
    # What is wrong within a list of values, and not that it is no text.
    return [(path, what) for path, what in found if path[-1:] != ("value",) or path not in above]


def _meant(path: Path, at: int, what: str) -> tuple[Path, str] | None:
    match path[at:]:
        case ("rows", int(row), "destination", *rest):
            return _of_ways((*path[:at], "rows", row, "destination"), tuple(rest), what)
        case ("default", *rest):
            return _of_ways((*path[:at], "default"), tuple(rest), what)
        case ("rows", int(row), "when", *rest):
            return _of_condition((*path[:at], "rows", row, "when"), list(rest), what)
        case ("rows", int(row), "value", *rest):
            return _of_value((*path[:at], "rows", row), ("value", *rest), what)
        case (*steps, "[key]"):
            return (*path[:at], *steps), what
        case _:
            return path, what


def _of_ways(place: Path, rest: Path, what: str) -> tuple[Path, str] | None:
    match rest:
        case () | (int(),):
            return (*place, *rest), what
        case (int(number), str(member)):
            return ((*place, number), what if what.startswith("the percents") else _WAYS)
        case (int(number), str(member), *steps) if "Split" in member:
            return (*place, number, *steps), what
        case _:
            return None


def _of_condition(place: Path, rest: list[str | int], what: str) -> tuple[Path, str] | None:
    """``all, all, 1, test, operator`` is ``all, 1, operator``."""
    found: Path = ()
    while rest and (form := rest[0]) in _FORMS:
        if form == "test":
            return _of_value((*place, *found), tuple(rest[1:]), what)
        # The form, then the key of the same name and the place in its list.
        found, rest = (*found, *rest[1:3]), rest[3:]
    return (*place, *found, *rest), what


def _of_value(place: Path, rest: Path, what: str) -> tuple[Path, str] | None:
    key, member, number = (*rest, None, None, None)[:3]
    if key != "value" or member is None:
        return (*place, *rest), what
    if number is not None:
        return (*place, "value", number), what
    return None if str(member).startswith("tuple") else ((*place, "value"), what)
