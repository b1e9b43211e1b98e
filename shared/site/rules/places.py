"""
Where a row leads: a place at the PBX (``queue:support``), the caller's manager (``manager``), another
rule (``rule:vip``), or one of several by chance (``split``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from shared.contracts.routing import Destination
from shared.ids import Name
from shared.site.parts import Part

#: Rules that lead to rules, the first one included.
LONGEST_CHAIN = 20
_MOST_WAYS = 10
_MOST_SHARES = 20
_WHOLE = 100


class Manager(Part):
    """The responsible manager: who owns the caller's record, or whom the CRM names."""

    #: Somebody who is busy, away or on a call is passed over.
    only_free: bool = True

    def __str__(self) -> str:
        return "manager" if self.only_free else "manager:any"


class ToRule(Part):
    """What another rule says."""

    rule: Name

    def __str__(self) -> str:
        return f"rule:{self.rule}"


def to_way(value: Any) -> Any:
    """A text as the model that it means; anything else as it is. Raises: ValueError."""
    return _read(value) if isinstance(value, str) else value


# The destinations of a hundred thousand rows are a handful.
@lru_cache(maxsize=10_000)
def _read(value: str) -> Destination | Manager | ToRule:
    kind, _, target = value.partition(":")
    try:
        match kind:
            case "manager" if target in {"", "free", "any"}:
                return Manager(only_free=target != "any")
            case "rule":
                return ToRule(rule=target)
            case _:
                return Destination.parse(value)
    except ValidationError as error:
        said = error.errors()[0]
        what = said["msg"].removeprefix("Value error, ")
        if said["loc"] == ("kind",):
            what = f"there is no destination of that kind. {what}, `manager` or `rule`"
        raise ValueError(what if value in what else f"{value!r:.80}: {what}") from None


_TEXT = WithJsonSchema(
    {
        "type": "string",
        "examples": ["queue:support", "extension:101", "manager", "rule:vip", "hangup:busy"],
    }
)
#: A place that is surely there.
Plain: TypeAlias = Destination | Manager | ToRule
PlainWay = Annotated[Plain, BeforeValidator(to_way), PlainSerializer(str, when_used="json"), _TEXT]


class Share(Part):
    percent: Annotated[int, Field(ge=1, le=_WHOLE)]
    destination: PlainWay


class Split(Part):
    """One of them by chance, the same for a call however often it is asked about."""

    split: Annotated[tuple[Share, ...], Field(min_length=2, max_length=_MOST_SHARES)]

    @model_validator(mode="after")
    def shares_are_the_whole(self) -> Self:
        total = sum(share.percent for share in self.split)
        if total != _WHOLE:
            raise ValueError(f"the percents add up to {total}, not to {_WHOLE}")
        return self

    def __str__(self) -> str:
        return ", ".join(f"{share.percent} % {share.destination}" for share in self.split)


Way: TypeAlias = Plain | Split


def _to_ways(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(to_way(item) for item in value)
    return (to_way(value),)


@lru_cache(maxsize=10_000)
def _alone(value: str) -> tuple[Plain, ...]:
    return (_read(value),)


def _known(value: Any, handler: ValidatorFunctionWrapHandler) -> tuple[Way, ...]:
    """A text that was read before needs no second look: rows that lead to one place share it."""
    if isinstance(value, str):
        return _alone(value)
    ways: tuple[Way, ...] = handler(value)
    for place, way in enumerate(ways[:-1], start=1):
        if is_sure((way,)):
            raise ValueError(
                f"number {place} of the list, {way}, can always be had, so those behind it are never "
                "tried: leave them out"
            )
    return ways


def _from_ways(ways: tuple[Way, ...]) -> Any:
    shown = [way.model_dump(mode="json") if isinstance(way, Split) else str(way) for way in ways]
    return shown[0] if len(shown) == 1 else shown


_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "object"}]}
#: Tried in order: the first that can be had is taken. One alone needs no list.
Ways = Annotated[
    tuple[Way, ...],
    BeforeValidator(_to_ways),
    PlainSerializer(_from_ways, when_used="json"),
    Field(min_length=1, max_length=_MOST_WAYS),
    WrapValidator(_known),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["queue:support", "manager", "rule:vip"]},
                {"type": "object", "required": ["split"]},
                {"type": "array", "items": _SCHEMA, "minItems": 1, "maxItems": _MOST_WAYS},
            ]
        }
    ),
]


def plain_in(ways: tuple[Way, ...]) -> Iterator[Plain]:
    for way in ways:
        if isinstance(way, Split):
            yield from (share.destination for share in way.split)
        else:
            yield way


def is_sure(ways: tuple[Way, ...]) -> bool:
    """Whether one of them can always be had: a manager may be away."""
    return any(
        not isinstance(way, Manager)
        and not (
            isinstance(way, Split) and any(isinstance(s.destination, Manager) for s in way.split)
        )
        for way in ways
    )
