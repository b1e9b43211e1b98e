"""What pydantic found wrong with something from outside, in words that never repeat its values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_args

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

#: In place of pydantic's words, which speak of Python.
_WORDS = {
    "extra_forbidden": "unknown key",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "time_delta_parsing": "not a length of time: 250ms, 1.5s, 10m, 2h",
    "time_delta_type": "not a length of time: 250ms, 1.5s, 10m, 2h",
}
#: What somebody sent on purpose has thousands; who made a mistake mends these first.
_MOST_FAULTS = 200
#: A bound comes as Python writes it: ``datetime.timedelta(seconds=10)``.
_LENGTH = re.compile(r"datetime\.timedelta\((.*)\)")
_PART = re.compile(r"(\w+)=(-?\d+)")
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def faults_by_path(
    error: ValidationError, model: type[BaseModel] | None = None
) -> list[tuple[Path, str]]:
    """
    Path and message of each fault. "Too few items" is left out where items are there and are
    faulty themselves: that is what makes them too few. With the *model* that was read, an unknown
    key comes with the known one that it is close to.
    """
    faults = error.errors(include_url=False, include_input=False)
    found = [(tuple(fault["loc"]), _words(fault, model)) for fault in faults[:_MOST_FAULTS]]
    above = {path[:length] for path, _ in found for length in range(len(path))}
    told = [(path, what) for path, what in found if path not in above]
    if len(faults) > _MOST_FAULTS:
        told.append(((), f"and {len(faults) - _MOST_FAULTS} faults more"))
    return told


def faults_in(error: ValidationError) -> str:
    """``body.caller.number: Field required; …``."""
    return "; ".join(
        f"{'.'.join(map(str, path)) or 'document'}: {what}" for path, what in faults_by_path(error)
    )


def _words(fault: ErrorDetails, model: type[BaseModel] | None) -> str:
    context: Mapping[str, Any] = fault.get("ctx", {})
    for name, words in _BOUNDS.items():
        if found := _LENGTH.fullmatch(str(context.get(name))):
            length = timedelta(**{n: int(v) for n, v in _PART.findall(found[1])})
            return f"Input should be {words} {length.total_seconds():g}s"
    what = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    if model is not None and fault["type"] == "extra_forbidden":
        *above, key = fault["loc"]
        if near := difflib.get_close_matches(str(key), _keys_at(model, tuple(above)), n=1):
            return f"{what}; did you mean `{near[0]}`?"
    return what


def _keys_at(kind: Any, path: Path) -> set[str]:
    """What may stand at *path* of a *kind*; the members of a union are taken together."""
    if isinstance(kind, type) and issubclass(kind, RootModel):
        kind = kind.model_fields["root"].annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        if not path:
            return set(fields)
        field = fields.get(str(path[0]))
        return _keys_at(field.annotation, path[1:]) if field else set()
    # A place in a list takes a step of the path, and so does the name of a union's member.
    parts = get_args(kind)
    steps = [path, path[1:]] if path else [path]
    return {key for part in parts for step in steps for key in _keys_at(part, step)}
