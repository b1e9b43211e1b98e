"""Requests for one record each as one request, and its answer as one of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

from shared.crm.form.requests import Request
from shared.crm.language.contexts import form_value, query_value
from shared.crm.language.functions import plain_text
from shared.crm.language.jsontext import read_json, write_json
from shared.crm.language.paths import at_path
from shared.crm.rendering import Rendered
from shared.errors import Rejected

_MOST_DIGITS = 9
#: Entries of one request: the form of templates allows no more.
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """What one of the requests is filled with; as of :func:`shared.crm.rendering.render`."""

    variables: Mapping[str, Any]
    merge: tuple[str, Mapping[str, Any]] | None = None


def joined(request: Request, parts: Sequence[Rendered | None], at: str) -> Rendered:
    """
    One request with the elements of all lists at the path *at* of *parts*, in their order.

    Raises: Rejected where one is not to be sent, or differs from the others in more than that
    element: they have to go alone.
    """
    frames, elements = [], []
    for part in parts:
        if part is None:
            raise Rejected("the template makes no request for one of these calls")
        frame, element = _apart(request, part, at)
        frames.append(frame)
        elements.append(element)
    first = frames[0]
    for frame in frames[1:]:
        if differing := _difference(first, frame):
            raise Rejected(
                f"these calls cannot share a request: {differing} differs from call to call"
            )
    return first.with_list(elements)


def each_alone(value: Any, at: str) -> list[Any]:
    """
    *value* once for each element of its list at *at*, which has that element alone; of a list that
    is longer than any request, for the first of them.
    """
    return _each(value, _names(at))


def counted(value: Any, paths: Sequence[str]) -> int:
    """The sum of the counts at *paths*; of a list, its elements; 0 for what is not there."""
    return sum(_count(at_path(value, path)) for path in paths)


def _count(found: Any) -> int:
    if isinstance(found, list):
        return len(found)
    text = plain_text(found)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0


def _each(value: Any, names: Sequence[str]) -> list[Any]:
    if not names:
        return [[element] for element in value[: _LONGEST + 1]] if isinstance(value, list) else []
    name, *rest = names
    if isinstance(value, Mapping):
        return [{**value, name: inner} for inner in _each(value.get(name), rest)]
    if isinstance(value, list) and name.isdigit() and int(name) < len(value):
        at = int(name)
        return [[*value[:at], inner, *value[at + 1 :]] for inner in _each(value[at], rest)]
    return []


@dataclass(frozen=True, slots=True)
class _Frame:
    """A request without its element: *fields* of a form, *field* the one with the list."""

    rendered: Rendered
    value: Any
    fields: tuple[str, ...] = ()
    field: int | None = None
    names: tuple[str, ...] = ()

    def with_list(self, elements: list[Any]) -> Rendered:
        inner = _list_at(self.value, self.names)
        if inner is not None:
            inner[:] = elements
        body = write_json(self.value)
        if self.field is not None:
            fields = list(self.fields)
            name = fields[self.field].partition("=")[0]
            fields[self.field] = f"{name}={form_value(body)}"
            body = "&".join(fields)
        return replace(self.rendered, body=body.encode())


def _apart(request: Request, part: Rendered, at: str) -> tuple[_Frame, Any]:
    """Raises: Rejected."""
    names, body = _names(at), part.body or b""
    fields: tuple[str, ...] = ()
    field = None
    if request.form is not None:
        begin, names = f"{query_value(''.join(names[:1]))}=", names[1:]
        fields = tuple(body.decode().split("&"))
        field = next((i for i, one in enumerate(fields) if one.startswith(begin)), None)
        body = b"" if field is None else unquote_plus(fields[field].partition("=")[2]).encode()
        fields = tuple(begin if i == field else one for i, one in enumerate(fields))
    value = read_json(body) if body else None
    inner = _list_at(value, names)
    if inner is None or len(inner) != 1:
        raise Rejected(f"`batch.list`: the body of an entry has no list of one element at {at}")
    return _Frame(part, value, fields, field, names), inner.pop()


def _names(path: str) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


def _list_at(value: Any, names: Sequence[str]) -> list[Any] | None:
    for name in names:
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value if isinstance(value, list) else None


def _difference(one: _Frame, other: _Frame) -> str:
    """What to look at in the template; empty where there is none."""
    if (one.rendered.method, one.rendered.url) != (other.rendered.method, other.rendered.url):
        return "the address"
    if one.rendered.headers != other.rendered.headers:
        return "a header"
    same = (one.value, one.fields) == (other.value, other.fields)
    return "" if same else "something in the body beside the list"
