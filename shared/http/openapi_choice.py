"""How the OpenAPI document says that an answer can be cut to some fields, and has an ETag."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.http.choice import LONGEST_CHOICE, names_of, things_at
from shared.http.routes import Answer, Operation
from shared.http.tags import Tagged
from shared.http.writing import FIELDS_PARAMETER

_PREFIX = "#/components/schemas/"
_CHOSEN = "ChosenOf"
_MOST_SHOWN = 60
_ETAG = {
    "ETag": {
        "description": "What it is at: another after each change.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-zA-Z]+"$'},
    }
}


def is_tagged(op: Operation[Any]) -> bool:
    return op.answer is Answer.JSON and issubclass(op.response_model, Tagged)


def headers_of(op: Operation[Any]) -> dict[str, Any]:
    return _ETAG if is_tagged(op) and op.method != "DELETE" else {}


def has_not_modified(op: Operation[Any]) -> bool:
    return is_tagged(op) and op.method == "GET"


NOT_MODIFIED = {
    "description": "It is what the tag in If-None-Match says; nothing comes.",
    "headers": _ETAG,
}


def parameters_of(op: Operation[Any]) -> Iterable[dict[str, Any]]:
    if op.fields:
        yield {
            "name": FIELDS_PARAMETER,
            "in": "query",
            "required": False,
            "schema": {"type": "string", "maxLength": LONGEST_CHOICE},
            "description": _fields_in_words(op),
        }
    if has_not_modified(op):
        yield {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Tags as the header ETag said them: is it at one of them still, the "
            "answer is 304.",
        }


def _fields_in_words(op: Operation[Any]) -> str:
    names: dict[str, Any] = {}
    for place in op.fields:
        for thing in things_at(op.response_model, place):
            names |= names_of(thing) or {}
    wholes = [place for place in op.fields if place]
    of = f" of each of {' and '.join(f'`{place}`' for place in wholes)}" if wholes else ""
    known = ", ".join(f"`{name}`" for name in list(names)[:_MOST_SHOWN])
    return (
        f"Only these{of}, with commas between them; `a.b` is b within a, also of each a of a list. "
        f"There are: {known}."
    )


def with_chosen(schema: dict[str, Any], op: Operation[Any], components: dict[str, Any]) -> Any:
    """*schema*, a reference, or what is left of it by ``fields``; *components* get what that needs."""
    if not op.fields:
        return schema
    name = schema["$ref"].removeprefix(_PREFIX)
    _relax(name, components, keeps_required="" not in op.fields)
    return {"anyOf": [schema, {"$ref": f"{_PREFIX}{_CHOSEN}{name}"}]}


def _relax(name: str, components: dict[str, Any], *, keeps_required: bool = False) -> None:
    chosen = f"{_CHOSEN}{name}"
    if chosen in components:
        return
    components[chosen] = {}  # it may lead to itself
    relaxed = _relaxed(components[name], components)
    if keeps_required and "required" in components[name]:
        relaxed["required"] = components[name]["required"]
    components[chosen] = relaxed


def _relaxed(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_relaxed(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            name = value.removeprefix(_PREFIX)
            _relax(name, components)
            found[key] = f"{_PREFIX}{_CHOSEN}{name}"
        elif key == "properties":
            found[key] = {name: _relaxed(part, components) for name, part in value.items()}
        elif key == "oneOf":
            found["anyOf"] = _relaxed(value, components)  # with less of it, it may be several
        elif key not in {"required", "discriminator"}:
            found[key] = _relaxed(value, components)
    return found
