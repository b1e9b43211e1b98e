"""``fields=id,caller.number``: of what is answered, only what was asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, JsonValue, RootModel
from typing_extensions import TypeAliasType

from shared.errors import ContractError

#: Of the parameter; an answer has some dozen names.
LONGEST_CHOICE = 2000
_MOST_NAMES = 100
#: What may be repeated to who asked: nothing that a page or a terminal takes for more than a word.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,80}")

_ANYTHING: Any = JsonValue

#: Name → what of it; nothing more means all of it.
Choice = dict[str, "Choice"]


def read_choice(text: str, things: Iterable[Any]) -> Choice:
    """
    *things*: the types that the names are of. Nothing at all means everything.

    Raises: ContractError for a name that is not there, with those that are.
    """
    names = list(filter(None, (name.strip() for name in text.split(","))))
    if len(names) > _MOST_NAMES:
        raise ContractError(f"query.fields: at most {_MOST_NAMES} names")
    things, chosen, whole = tuple(things), Choice(), set[tuple[str, ...]]()
    for name in names:
        path = tuple(name.split("."))
        _check(path, things)
        at = chosen
        for depth, part in enumerate(path, start=1):
            at = at.setdefault(part, {})
            if path[:depth] in whole:
                break  # all of it was asked for before
        else:
            at.clear()
            whole.add(path)
    return chosen


def cut(answer: Any, places: Iterable[str], chosen: Choice) -> Any:
    """
    *answer*, JSON, with what is at *places* cut to what was *chosen*. A place leads through lists:
    ``answers.candidates`` is every candidate of every answer; an empty one is the answer itself.
    """
    if not chosen:
        return answer
    for place in places:
        answer = _at(answer, tuple(filter(None, place.split("."))), chosen)
    return answer


def names_of(thing: Any) -> Mapping[str, Any] | None:
    """What a thing of this type has, with the types of that; None: it may have any name."""
    if isinstance(thing, TypeAliasType):
        return None if thing is _ANYTHING else names_of(thing.__value__)
    if thing is Any:
        return None
    if isinstance(thing, type) and issubclass(thing, RootModel):
        return names_of(thing.model_fields["root"].annotation)
    if isinstance(thing, type) and issubclass(thing, BaseModel):
        return {
            field.serialization_alias or field.alias or name: field.annotation
            for name, field in thing.model_fields.items()
            if not field.exclude
        }
    if _is(get_origin(thing), Mapping):
        return None
    found: dict[str, Any] = {}
    for part in get_args(thing):
        names = names_of(part)
        if names is None:
            return None
        found |= names
    return found


def things_at(model: type[BaseModel], place: str) -> list[Any]:
    """The types of what is at a place of :func:`cut`."""
    found: list[Any] = [model]
    for part in filter(None, place.split(".")):
        names = [names_of(thing) or {} for thing in found]
        found = [of[part] for of in names if part in of]
    return found


def _check(path: Sequence[str], things: Sequence[Any]) -> None:
    """Raises: ContractError."""
    for depth, part in enumerate(path):
        known: dict[str, Any] = {}
        for thing in things:
            names = names_of(thing)
            if names is None:
                return
            known |= names
        if part not in known:
            raise ContractError(_unknown(path[: depth + 1], known))
        things = (known[part],)


def _unknown(path: Sequence[str], known: Collection[str]) -> str:
    said = ".".join(path)
    what = said if _WORD.fullmatch(said) else "one of the names"
    within = ".".join(path[:-1])
    if not known:
        return f"query.fields: {what} is not there; {within} has no parts"
    has = f"{within} has" if within else "there are"
    return f"query.fields: {what} is not there; {has}: {', '.join(sorted(known))}"


def _at(found: Any, place: Sequence[str], chosen: Choice) -> Any:
    if isinstance(found, list):
        return [_at(item, place, chosen) for item in found]
    if not place:
        return _cut(found, chosen)
    if isinstance(found, dict) and place[0] in found:
        return {**found, place[0]: _at(found[place[0]], place[1:], chosen)}
    return found


def _cut(found: Any, chosen: Choice) -> Any:
    if isinstance(found, list):
        return [_cut(item, chosen) for item in found]
    if not chosen or not isinstance(found, dict):
        return found
    return {name: _cut(found[name], more) for name, more in chosen.items() if name in found}


def _is(kind: Any, of: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, of)
