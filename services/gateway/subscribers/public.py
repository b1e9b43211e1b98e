"""
The mesh's events as others are told of them. Pure.

Every event contract is either in :data:`PUBLIC` or in :data:`INTERNAL`; a test says so of new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.contracts.agents import AgentStatusChanged, AgentStatusSettled, CrmStatusTold
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    LegEnded,
    PbxResynced,
    RecordingReady,
)
from shared.contracts.cards import CardTold
from shared.contracts.contacts import (
    ContactChanged,
    ContactCreated,
    ContactResolved,
    ContactUnknown,
    UsersSynced,
)
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Event, Message
from shared.contracts.hooks import CrmHookReceived, HookReceived
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.contracts.routing import CallRouted
from shared.contracts.screens import PopSeen
from shared.moments import Instant

PUBLIC: tuple[type[Event], ...] = (
    CallStarted,
    CallQueued,
    CallRinging,
    CallAnswered,
    CallHeld,
    CallResumed,
    CallTransferred,
    LegEnded,
    CallEnded,
    RecordingReady,
    CallSummarised,
    CallRouted,
    ContactResolved,
    ContactUnknown,
    ContactCreated,
    ContactChanged,
    CallJournaled,
    JournalFailed,
    DialStateChanged,
    CardTold,
    AgentStatusSettled,
)
#: Raw requests, with whatever stands in them; what replicas tell each other; lists of megabytes;
#: what one side says of an agent, before it is known whether it is news, or to what it was told.
INTERNAL: tuple[type[Event], ...] = (
    HookReceived,
    CrmHookReceived,
    PbxResynced,
    UsersSynced,
    AgentStatusChanged,
    CrmStatusTold,
    PopSeen,
)
TYPES: Mapping[str, type[Event]] = {event.contract_name: event for event in PUBLIC}
#: Objects inside each other whose fields have names of their own.
_DEEPEST = 4


class PublicEvent(BaseModel):
    """What is sent where the subscriber has no body of its own."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="The same for every subscriber, and for every try.")
    type: str = Field(description="`calls.ended`.")
    version: int = Field(description="Of the type: fields are added within one, never changed.")
    tenant: str
    occurred_at: Instant = Field(description="When it happened, by the clock of who saw it.")
    correlation: str = Field(description="One per call, dial or agent: the events of one story.")
    data: dict[str, JsonValue] = Field(
        description="As in docs/reference/asyncapi.yaml; lengths of time are in ISO 8601."
    )


def public_event(message: Message[Any]) -> PublicEvent:
    return PublicEvent(
        id=str(message.id),
        type=message.type,
        version=message.version,
        tenant=message.tenant,
        occurred_at=message.occurred_at,
        correlation=str(message.correlation),
        data=message.body.model_dump(mode="json"),
    )


# -- its fields by name --------------------------------------------------------------------------


def paths_of(types: frozenset[str]) -> frozenset[str]:
    """
    Dotted places of what events of *types* may hold: ``type``, ``data.caller.number``. One that
    ends in ``.*`` is an object of anything.
    """
    own = frozenset(name for name in PublicEvent.model_fields if name != "data")
    return own.union(*map(_paths_of, types))


@cache
def _paths_of(name: str) -> frozenset[str]:
    """By type, and not by types: there are millions of choices of them."""
    return frozenset(f"data.{path}" for path in _paths(TYPES[name], _DEEPEST))


def _paths(model: type[BaseModel], deeper: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel) and deeper:
                yield from (f"{name}.{path}" for path in _paths(part, deeper - 1))
            elif get_origin(part) is dict:
                yield f"{name}.*"


def _parts(annotation: Any) -> tuple[Any, ...]:
    """What a value may be beside None; the items of a list have no names."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return tuple(part for one in get_args(annotation) for part in _parts(one))
    return () if annotation in {NoneType, timedelta} else (annotation,)


def is_known(path: str, types: frozenset[str]) -> bool:
    known = paths_of(types)
    if path in known:
        return True
    parts = path.split(".")
    return any(".".join([*parts[:n], "*"]) in known for n in range(1, len(parts)))


def value_at(event: Mapping[str, Any], path: str) -> Any:
    """None for what is not there."""
    found: Any = event
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


# -- its fields as variables of texts ------------------------------------------------------------


def variables_of(types: frozenset[str]) -> frozenset[str]:
    """``CallId``, ``CallerNumber``: what texts for events of *types* may name."""
    return frozenset(
        {"Event", "Data"} | {variable(path) for path in paths_of(types) if not path.endswith(".*")}
    )


def variable(path: str) -> str:
    """``data.caller.number`` → ``CallerNumber``; ``occurred_at`` → ``OccurredAt``."""
    words = path.removeprefix("data.").replace(".", "_").split("_")
    return "".join(word[:1].upper() + word[1:] for word in words)


def variables(event: Mapping[str, Any], types: frozenset[str]) -> dict[str, Any]:
    """Every one of :func:`variables_of`, with its value; what the event lacks is None."""
    own = {variable(path): value_at(event, path) for path in paths_of(types)}
    return {**own, "Event": dict(event), "Data": event.get("data")}
