"""A request of a template and its variables → what goes out. Escaping follows the place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from yarl import URL

from shared.crm.engine.manifest import Request
from shared.crm.language.contexts import path_segment, query_value
from shared.crm.language.text import Template, compile_text
from shared.errors import ContractError

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Rendered:
    method: str
    url: URL
    body: bytes | None


def render(
    request: Request,
    variables: Mapping[str, Any],
    *,
    trusted: Mapping[str, str],
    maps: Mapping[str, Any],
    merge: tuple[str, Mapping[str, Any]] | None = None,
) -> Rendered:
    """
    *trusted* are the connection's own parameters: an administrator's addresses, which stand in a
    URL as they are. Everything in *variables* is escaped for its place. *merge* puts fields into
    the object at a path of the body.

    Raises: ContractError.
    """
    url = _url(request.url, variables, trusted)
    query = "&".join(
        f"{name}={_compiled(text).text({**trusted, **variables}, escape=query_value, maps=maps)}"
        for name, text in request.query.items()
    )
    whole = f"{url}?{query}" if query else url
    body = None
    if request.json_body is not None:
        filled = fill(request.json_body, {**trusted, **variables}, maps)
        if merge is not None:
            path, extra = merge
            _object_at(filled, path).update(fill(dict(extra), {**trusted, **variables}, maps) or {})
        body = orjson.dumps(filled)
    try:
        return Rendered(request.method, URL(whole, encoded=True), body)
    except ValueError as error:
        raise ContractError(f"the template makes no URL: {error}") from None


def fill(shape: Any, variables: Mapping[str, Any], maps: Mapping[str, Any]) -> Any:
    """
    JSON as a structure, so that types are kept. A key whose value is one placeholder without a
    value is left out, and so is an object that has nothing left.
    """
    filled = _fill(shape, variables, maps)
    return None if filled is _ABSENT else filled


def _fill(shape: Any, variables: Mapping[str, Any], maps: Mapping[str, Any]) -> Any:
    if isinstance(shape, str):
        value = _compiled(shape).value(variables, maps)
        return _ABSENT if value is None else value
    if isinstance(shape, Mapping):
        pairs = ((name, _fill(value, variables, maps)) for name, value in shape.items())
        kept = {name: value for name, value in pairs if value is not _ABSENT}
        return kept if kept or not shape else _ABSENT
    if isinstance(shape, list):
        items = (_fill(item, variables, maps) for item in shape)
        return [item for item in items if item is not _ABSENT]
    return shape


def _url(text: str, variables: Mapping[str, Any], trusted: Mapping[str, str]) -> str:
    """The address comes first and is trusted; what follows are segments of its path."""
    template = _compiled(text)
    for name in template.names - trusted.keys():
        # Raises for dots, which would walk up the path.
        path_segment(str(variables.get(name, "")))
    shown = {name: path_segment(str(value)) for name, value in variables.items()}
    return template.text({**shown, **trusted})


def _object_at(body: Any, path: str) -> dict[str, Any]:
    found = body
    for name in path.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    if not isinstance(found, dict):
        raise ContractError(f"the template's body has no object at {path}")
    return found


@lru_cache(maxsize=2048)
def _compiled(text: str) -> Template:
    return compile_text(text)
