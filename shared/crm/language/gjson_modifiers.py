"""GJSON's modifiers, ``@reverse``, as steps. Those that only change white space change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.crm.language.gjson_steps import Step, Steps, run
from shared.crm.language.gjson_values import MISSING, Budget, is_array, is_object
from shared.crm.language.jsontext import MAX_DEPTH, read_json, write_json
from shared.errors import ContractError

#: Letters that are read or written for the price of one visit.
_LETTERS = 8

_Change = Callable[[Any, Mapping[str, Any], Budget], Any]


@dataclass(frozen=True, slots=True)
class Modifier:
    change: _Change
    options: Mapping[str, Any]

    def apply(self, value: Any, budget: Budget) -> Any:
        budget.spend()
        return self.change(value, self.options, budget)


@dataclass(frozen=True, slots=True)
class Dig:
    """What *inner* finds in the value and in everything inside it, outermost first."""

    inner: Steps

    def apply(self, value: Any, budget: Budget) -> Any:
        every = []
        waiting = [value]
        while waiting:
            budget.spend()
            outer = waiting.pop()
            found = run(self.inner, outer, budget)
            if found is not MISSING:
                every.append(found)
            children = list(outer.values()) if is_object(outer) else outer
            if is_array(children):
                budget.spend(len(children))
                waiting.extend(reversed(children))
        budget.weigh(every)
        return every


def modifier_of(name: str, argument: str) -> Step:
    """*name* is one of NAMES, and not ``dig``. An argument that is no object is none."""
    options: Any = {}
    if argument.startswith("{"):
        try:
            options = read_json(argument)
        except ContractError:
            options = {}
    return Modifier(_CHANGES[name], options)


def _same(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    return value


def _reverse(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if is_array(value):
        budget.spend(len(value))
        return list(reversed(value))
    if is_object(value):
        budget.spend(len(value))
        return dict(reversed(list(value.items())))
    return value


def _keys(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if is_object(value):
        budget.spend(len(value))
        return list(value)
    values = _values(value, options, budget)
    return [None] * len(values)


def _values(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if is_array(value):
        return value
    if is_object(value):
        budget.spend(len(value))
        return list(value.values())
    return [] if value is MISSING else [value]


def _flatten(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if not is_array(value):
        return value
    is_deep = _is_on(options, "deep")
    flat: list[Any] = []
    waiting = [(element, 0) for element in reversed(value)]
    while waiting:
        budget.spend()
        element, depth = waiting.pop()
        if is_array(element) and (is_deep or depth == 0):
            waiting.extend((inner, depth + 1) for inner in reversed(element))
        else:
            flat.append(element)
    return flat


def _join(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if not is_array(value):
        return value
    keeps_first = _is_on(options, "preserve")
    joined: dict[str, Any] = {}
    for element in value:
        budget.spend()
        if not is_object(element):
            continue
        budget.spend(len(element))
        for key, inner in element.items():
            if not (keeps_first and key in joined):
                joined[key] = inner
    return joined


def _group(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if not is_object(value):
        return MISSING
    rows: list[dict[str, Any]] = []
    for key, column in value.items():
        if not is_array(column):
            continue
        budget.spend(1 + len(column))
        rows.extend({} for _ in range(len(column) - len(rows)))
        for row, cell in zip(rows, column, strict=False):
            row[key] = cell
    return rows


def _to_text(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if value is MISSING:
        return ""
    budget.weigh(value)
    text = write_json(value)
    budget.spend(len(text) // _LETTERS)
    return text


def _from_text(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    if not isinstance(value, str):
        return MISSING if value is None else value
    budget.spend(len(value) // _LETTERS)
    return read_json(value)


def _pretty(value: Any, options: Mapping[str, Any], budget: Budget) -> Any:
    return _sorted(value, budget, MAX_DEPTH) if _is_on(options, "sortKeys") else value


def _sorted(value: Any, budget: Budget, depth: int) -> Any:
    budget.spend()
    if depth and is_object(value):
        return {key: _sorted(value[key], budget, depth - 1) for key in sorted(value)}
    if depth and is_array(value):
        return [_sorted(inner, budget, depth - 1) for inner in value]
    return value


def _is_on(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name)
    if isinstance(value, str):
        return value not in {"", "0", "false"}
    return isinstance(value, int | float) and bool(value)


_CHANGES: dict[str, _Change] = {
    "this": _same,
    "valid": _same,
    "ugly": _same,
    "pretty": _pretty,
    "reverse": _reverse,
    "keys": _keys,
    "values": _values,
    "flatten": _flatten,
    "join": _join,
    "group": _group,
    "tostr": _to_text,
    "fromstr": _from_text,
}
NAMES = frozenset(_CHANGES) | {"dig"}
