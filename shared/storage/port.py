"""
A document store as the repositories see it: what SQLite and MongoDB can both promise.

* A change is durable when the call returns.
* ``replace`` is compare-and-set: of two writers that read the same version, one gets Conflict.
* Unique indexes are over text fields; a field that is None is nobody's duplicate.
* A document is gone from the moment in its spec's ``expires_by`` field, whenever the
  backend gets round to deleting it.
* Moments are whole milliseconds in UTC. Numbers are doubles or integers of 64 bits; MongoDB
  refuses a larger one with ContractError.
"""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Collection as Collected
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, Generic, Protocol, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictFloat,
    StrictInt,
    StrictStr,
)

from shared.errors import Conflict, ContractError, NotFound
from shared.ids import TenantId
from shared.moments import Instant, to_instant

#: MongoDB's bound, kept by both.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


class Document(BaseModel):
    """
    ``key`` is unique in its collection, over all tenants; ``version`` counts the replacements.
    Fields that are not known are ignored when a document is read, whatever its models say: a
    newer version of the program may have written it. One that cannot be read is a ContractError.
    """

    key: str
    tenant: TenantId
    version: int = 0


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    fields: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec(Generic[D]):
    """*name* is ``service.noun``."""

    name: str
    model: type[D]
    indexes: Sequence[Index] = ()
    #: A field of the model that holds an Instant or None.
    expires_by: str | None = None


class Op(StrEnum):
    """How a field is tested; a field that is None passes NE and NOT_IN, and else only IS_NULL."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"  # the value is a sequence
    NOT_IN = "not_in"
    BEGINS = "begins"  # text, as it is written
    CONTAINS = "contains"  # text, whatever the case of its ASCII letters
    HAS = "has"  # the field is a list of texts that has one of the value's
    IS_NULL = "is_null"  # the value is a boolean: whether it is


@dataclass(frozen=True, slots=True)
class Is:
    """
    Text, numbers, booleans and moments are four types: a value of another type than the field's is
    unequal to it, and comes neither before nor after it. A list passes HAS, NE and NOT_IN alone.
    Text is ordered by its code points. Of a field with a NUL in it nothing is promised: SQLite sees
    what stands before that.
    """

    field: str
    op: Op
    value: Any


@dataclass(frozen=True, slots=True)
class AllOf:
    """Of no parts: it holds."""

    parts: Sequence[Condition]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of them holds; of no parts: it does not."""

    parts: Sequence[Condition]


Condition = Is | AllOf | AnyOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """
    *where* beside the others: all must hold. Fields are named with dots into nested objects, never
    through lists; values are text, numbers, booleans, moments, and in ``equals`` None. What has no
    value in ``order_by`` is left out; equal values are ordered by key.
    """

    equals: Mapping[str, Any] = field(default_factory=dict)
    since: Mapping[str, Any] = field(default_factory=dict)  # field >= value
    until: Mapping[str, Any] = field(default_factory=dict)  # field < value
    where: Condition | None = None
    order_by: str = "key"
    descending: bool = False
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[D]):
    documents: list[D]
    #: Where the next page begins; None: this was the last.
    next_cursor: str | None


class Collection(Protocol[D]):
    """Every method raises Unavailable while the backend is away."""

    async def get(self, key: str) -> D:
        """Raises: NotFound."""
        ...

    async def add(self, document: D) -> None:
        """Raises: Conflict, when the key or a unique index is taken."""
        ...

    async def add_all(self, documents: Sequence[D]) -> None:
        """
        In one go. One whose key or unique value is taken is left out, be the other past its time:
        so the same again is harmless. After an error some of them may be there.
        Raises: ContractError, for one that cannot be held.
        """
        ...

    async def put(self, document: D) -> None:
        """Insert or replace, whatever the version. Raises: Conflict by a unique index."""
        ...

    async def replace(self, document: D) -> D:
        """
        Replace when the stored version is the one read; the answer has the next version.

        Raises: NotFound, Conflict.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Whether there was one."""
        ...

    async def page(self, query: Find) -> Page[D]:
        """
        Raises: ContractError for a cursor that is none of this query, ValueError for a test whose
        value its op cannot take.
        """
        ...

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        """
        How many there are that have what *equals* says, and pass a condition or are found by a
        query, on all of its pages together. Raises: ValueError as ``page``.
        """
        ...


class DocumentStore(Protocol):
    def collection(self, spec: CollectionSpec[D]) -> Collection[D]:
        """Its table or collection and indexes are made at the first use."""
        ...

    async def ready(self) -> bool:
        """Whether it answers. Raises: BadSetting when it answers that we may not in."""
        ...

    async def close(self) -> None: ...


async def every(collection: Collection[D], query: Find) -> AsyncIterator[D]:
    """All that *query* finds, page by page; ``limit`` is the size of a page."""
    while True:
        page = await collection.page(query)
        for document in page.documents:
            yield document
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


async def change(
    collection: Collection[D], key: str, edit: Callable[[D | None], D | None], *, tries: int = 50
) -> D | None:
    """
    Read, edit and write until nobody came between: *edit* gets None for what does not exist yet,
    and answers None to leave things as they are. It may run several times.

    Raises: Conflict after *tries*.
    """
    for _ in range(tries):
        try:
            found: D | None = await collection.get(key)
        except NotFound:
            found = None
        wanted = edit(found)
        if wanted is None:
            return found
        try:
            if found is not None:
                return await collection.replace(wanted)
            await collection.add(wanted)
        except (Conflict, NotFound):
            continue
        return wanted
    raise Conflict(f"{key} is changed by too many at once", key=key)


def _of_64_bits(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("no database takes it")
    return value


class _Place(BaseModel):
    """A cursor's content. It comes back from outside, so its values are checked to be plain."""

    model_config = ConfigDict(extra="forbid")

    key: str
    moment: Instant | None = None
    value: Annotated[StrictStr | StrictInt | StrictFloat | None, BeforeValidator(_of_64_bits)] = (
        None
    )


def cursor_after(value: Any, key: str) -> str:
    """Opaque to callers: the place in the order, with the key for equal values."""
    is_moment = isinstance(value, datetime)
    place = _Place(
        key=key,
        moment=value if is_moment else None,
        value=None if is_moment else _plain(value),
    )
    return base64.urlsafe_b64encode(place.model_dump_json(exclude_none=True).encode()).decode()


def read_cursor(cursor: str) -> tuple[Any, str]:
    """Raises: ContractError."""
    try:
        place = _Place.model_validate_json(base64.urlsafe_b64decode(cursor.encode()))
    except ValueError:
        raise ContractError("cursor: not one that a page of this list returned") from None
    return (place.value if place.moment is None else place.moment), place.key


def comparable(value: Any) -> Any:
    """A query's value as documents hold it. Raises ValueError for a naive time."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a naive time compares with nothing; give it a zone")
        return to_instant(value.astimezone(UTC))
    return _plain(value)


def counting(what: Find | Condition | None, equals: Mapping[str, Any]) -> Find:
    """What ``count`` is asked, as a query."""
    query = what if isinstance(what, Find) else Find(where=what)
    return replace(query, equals={**query.equals, **equals}, cursor=None)


def values_of(test: Is) -> tuple[Any, ...]:
    """What a test compares with, as documents hold it; a single value alone. Raises: ValueError."""
    if test.op in _OF_MANY:
        if isinstance(test.value, str) or not isinstance(test.value, Collected):
            raise ValueError(f"{test.field}: {test.op} takes a list of values")
        values = tuple(map(comparable, test.value))
    else:
        values = (comparable(test.value),)
    taken = _TAKEN.get(test.op, (str, int, float, bool, datetime))
    for value in values:
        if not isinstance(value, taken):
            raise ValueError(f"{test.field}: {test.op} takes no {type(value).__name__}")  # noqa: TRY004  one fault, one class
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{test.field}: {value} compares with nothing")
        _of_64_bits(value)
    return values


_OF_MANY = frozenset({Op.IN, Op.NOT_IN, Op.HAS})
_TAKEN: Mapping[Op, tuple[type, ...]] = {
    Op.BEGINS: (str,),
    Op.CONTAINS: (str,),
    Op.HAS: (str,),
    Op.IS_NULL: (bool,),
}


def value_at(document: BaseModel, path: str) -> Any:
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name)
    return found


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
