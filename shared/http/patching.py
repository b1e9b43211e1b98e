"""Changing a part of a document: JSON Merge Patch (RFC 7396). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, RootModel

MERGE_PATCH = "application/merge-patch+json"


class MergePatch(RootModel[dict[str, JsonValue]]):
    """
    RFC 7396: what is said takes the place of what is there, within objects name by name; `null`
    removes, and a list is replaced as a whole. A secret that is not said stays.
    """


def merged(there: Mapping[str, JsonValue], patch: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    found = dict(there)
    for name, said in patch.items():
        if said is None:
            found.pop(name, None)
        elif isinstance(said, Mapping):
            inner = found.get(name)
            found[name] = merged(inner if isinstance(inner, Mapping) else {}, said)
        else:
            found[name] = said
    return found
