"""A value as comparisons look at it. Pure."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import Any

from pydantic import JsonValue

from shared.site.rules.keys import (
    Around,
    Key,
    Kind,
    dialled_of,
    folded,
    heads_of,
    items_of,
    keys_of,
    moments_of,
    stream_safe,
    text_of,
)
from shared.site.rules.patterns import LONGEST_SEARCHED

#: Is in no folded text, as that has no line breaks.
_BETWEEN = "\n"


class Reading:
    """Each view of it is made once, however many rows ask, and when the first one does."""

    def __init__(self, value: JsonValue, kind: Kind, around: Around) -> None:
        self.kind = kind
        self.around = around
        self.items = items_of(value)

    @cached_property
    def keys(self) -> frozenset[Key]:
        return frozenset(
            key for item in self.items for key in keys_of(item, self.kind, self.around)
        )

    @cached_property
    def bare(self) -> dict[str, list[Any]]:
        """Type → what the keys of that type are, in their order: the least, the most, what is between."""
        found: dict[str, list[Any]] = {}
        for type_, bare in self.keys:
            found.setdefault(type_, []).append(bare)
        for of_type in found.values():
            of_type.sort()
        return found

    @cached_property
    def moments(self) -> list[Any]:
        """In their order."""
        found = (moments_of(item, self.around.zone) for item in self.items)
        return sorted(moment for of_item in found for moment in of_item)

    @cached_property
    def heads(self) -> tuple[str, ...]:
        found = (heads_of(item, self.kind, self.around) for item in self.items)
        return tuple(dict.fromkeys(head for of_item in found for head in of_item))

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """What patterns are looked for in: accents composed, case as it is."""
        texts = tuple(
            unicodedata.normalize("NFC", stream_safe(text_of(item)[:LONGEST_SEARCHED]))
            for item in self.items
        )
        return texts + self.heads if self.kind is Kind.PHONE else texts

    def starts_with(self, head: str) -> bool:
        return _BETWEEN + head in self._starts

    def contains(self, part: str) -> bool:
        return part in self._holds

    # One search in C for all items, and not one for each.
    @cached_property
    def _starts(self) -> str:
        return _BETWEEN + _BETWEEN.join(self.heads)

    @cached_property
    def _holds(self) -> str:
        if self.kind is Kind.PHONE:
            return _BETWEEN.join((*self.heads, *(dialled_of(text_of(i)) for i in self.items)))
        return _BETWEEN.join(folded(text_of(item)) for item in self.items)
