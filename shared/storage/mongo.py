"""
Documents in MongoDB, by motor: the only file that imports it.

Motor is past its end of life upstream; PyMongo's own async client has nearly the same calls and
will replace it here: docs/decisions/0003-motor-behind-a-port.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Generic, TypeVar

import pymongo
import structlog
from bson.codec_options import CodecOptions, TypeRegistry
from bson.errors import InvalidDocument
from motor.frameworks.asyncio import max_workers
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import SecretStr, ValidationError
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.write_concern import WriteConcern

from shared.clock import Clock
from shared.errors import BadSetting, Conflict, ContractError, NotFound, Unavailable
from shared.faults import faults_in
from shared.observe.logging import mask_text
from shared.storage.mongo_where import field as _field
from shared.storage.mongo_where import filter_of
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Condition,
    Document,
    Find,
    Page,
    comparable,
    counting,
    cursor_after,
    read_cursor,
    value_at,
)

D = TypeVar("D", bound=Document)

log = structlog.get_logger(__name__)

#: One call with its wait for a place. A frozen mongod would otherwise hang it for ever.
_WITHIN = timedelta(seconds=3)
#: The driver's time for one command; it speaks before we do, for it knows more.
_COMMAND_WITHIN = timedelta(seconds=2.5)
#: Motor runs a call in one of its threads. Its queue for them knows no fairness and no end:
#: callers queue in ours.
_AT_ONCE: int = max_workers
#: For the farewell to a server that may not be there.
_CLOSE_SECONDS = 0.5
_REFUSED = frozenset({13, 18})  # Unauthorized, AuthenticationFailed
_DUPLICATE = 11000
_OTHER_INDEX = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
#: What a call returned from is on the disk of most nodes, whatever the URL says.
_DURABLE = WriteConcern(w="majority", j=True)


class MongoStore:
    """
    *prefix* comes before every collection's name, so that several meshes share a database.

    Raises BadSetting for a URL that is none. A server that refuses us is Unavailable to every
    call, as one that is away: what waits for it is not at fault, and an operator can mend it.
    """

    def __init__(self, url: SecretStr, *, database: str, clock: Clock, prefix: str = "") -> None:
        try:
            self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
                url.get_secret_value(),
                timeoutMS=round(_COMMAND_WITHIN / timedelta(milliseconds=1)),
                maxPoolSize=_AT_ONCE,
                tz_aware=True,
                uuidRepresentation="standard",
                appname="callmesh",
            )
        except (PyMongoError, ValueError) as error:
            raise BadSetting(f"CALLMESH_MONGO_URL: {mask_text(str(error))}") from None
        options: CodecOptions[dict[str, Any]] = CodecOptions(
            tz_aware=True,
            uuid_representation=4,
            type_registry=TypeRegistry(fallback_encoder=_encode),
        )
        self._database = self._client.get_database(
            database, codec_options=options, write_concern=_DURABLE
        )
        self._prefix = prefix
        self._clock = clock
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def collection(self, spec: CollectionSpec[D]) -> Collection[D]:
        return MongoCollection(
            self._database[self._prefix + spec.name], self._gate, self._clock, spec
        )

    async def ready(self) -> bool:
        try:
            async with _translated(self._gate):
                # Not a ping: that needs no rights.
                await self._database[f"{self._prefix}ready"].find_one()
        except _Refused:
            raise BadSetting(
                "CALLMESH_MONGO_URL: MongoDB refuses the user, its password or its rights"
            ) from None
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        await asyncio.to_thread(self._say_goodbye)

    def _say_goodbye(self) -> None:
        # Sessions are ended at the server, which by itself is looked for during 30 s.
        with pymongo.timeout(_CLOSE_SECONDS):
            self._client.close()


class MongoCollection(Generic[D]):
    def __init__(
        self, collection: Any, gate: asyncio.Semaphore, clock: Clock, spec: CollectionSpec[D]
    ) -> None:
        self._documents = collection
        self._gate = gate
        self._clock = clock
        self._spec = spec
        self._indexed = False

    async def get(self, key: str) -> D:
        async with self._call():
            found = await self._documents.find_one({"_id": key, **self._alive()})
        if found is None:
            raise NotFound(f"{self._spec.name}: no {key}", key=key)
        return self._parsed(found)

    async def add(self, document: D) -> None:
        await self._unique(document.key, lambda: self._documents.insert_one(self._row(document)))

    async def add_all(self, documents: Sequence[D]) -> None:
        rows = [self._row(document) for document in documents]
        if not rows:
            return
        async with self._call():
            try:
                # Unordered: one that is there keeps out no other.
                await self._documents.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                found = error.details.get("writeErrors", [])
                if error.details.get("writeConcernErrors") or any(
                    one.get("code") != _DUPLICATE for one in found
                ):
                    raise

    async def put(self, document: D) -> None:
        row = self._row(document)
        await self._unique(
            document.key,
            lambda: self._documents.replace_one({"_id": document.key}, row, upsert=True),
        )

    async def replace(self, document: D) -> D:
        following = document.model_copy(update={"version": document.version + 1})
        row = self._row(following)
        asked = {"_id": document.key, "version": document.version, **self._alive()}
        done = await self._unique(document.key, lambda: self._documents.replace_one(asked, row))
        if not done.matched_count:
            await self.get(document.key)  # NotFound, where it is gone
            raise Conflict(
                f"{self._spec.name}: {document.key} was changed meanwhile", key=document.key
            )
        return following

    async def delete(self, key: str) -> bool:
        async with self._call():
            done = await self._documents.delete_one({"_id": key, **self._alive()})
        return bool(done.deleted_count)

    async def page(self, query: Find) -> Page[D]:
        way = DESCENDING if query.descending else ASCENDING
        order = _field(query.order_by)
        sort = [(order, way)] if order == "_id" else [(order, way), ("_id", way)]
        async with self._call():
            found = (
                await self._documents.find(self._filter(query))
                .sort(sort)
                .limit(query.limit + 1)
                .to_list(query.limit + 1)
            )
        documents = [self._parsed(one) for one in found[: query.limit]]
        more = len(found) > query.limit
        last = documents[-1] if documents and more else None
        return Page(
            documents, cursor_after(value_at(last, query.order_by), last.key) if last else None
        )

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        asked = self._filter(counting(what, equals))
        async with self._call():
            return int(await self._documents.count_documents(asked))

    def _filter(self, query: Find) -> dict[str, Any]:
        order = _field(query.order_by)
        parts: list[dict[str, Any]] = [self._alive()]
        if order != "_id":  # every document has one; to ask would be to read each
            parts.append({order: {"$ne": None}})
        parts += [{_field(n): comparable(v)} for n, v in query.equals.items()]
        parts += [{_field(n): {"$gte": comparable(v)}} for n, v in query.since.items()]
        parts += [{_field(n): {"$lt": comparable(v)}} for n, v in query.until.items()]
        if query.where is not None:
            parts.append(filter_of(query.where))
        if query.cursor is not None:
            value, key = read_cursor(query.cursor)
            past = "$lt" if query.descending else "$gt"
            parts.append(
                {"$or": [{order: {past: value}}, {order: value, "_id": {past: key}}]}
                if order != "_id"
                else {"_id": {past: key}}
            )
        wanted = [part for part in parts if part]
        return {"$and": wanted} if wanted else {}

    def _alive(self) -> dict[str, Any]:
        """The TTL thread runs once a minute; what is past its time is gone for us at once."""
        if self._spec.expires_by is None:
            return {}
        field = self._spec.expires_by
        return {"$or": [{field: None}, {field: {"$gt": self._clock.now()}}]}

    async def _unique(self, key: str, write: Any) -> Any:
        """One more try after a clash: what is in the way may be past its time."""
        for last_try in (False, True):
            try:
                async with self._call():
                    return await write()
            except DuplicateKeyError:
                if last_try or self._spec.expires_by is None:
                    raise Conflict(
                        f"{self._spec.name}: {key} or one of its unique values exists", key=key
                    ) from None
                async with self._call():
                    await self._documents.delete_many(
                        {self._spec.expires_by: {"$lte": self._clock.now()}}
                    )
        raise AssertionError("unreachable")

    def _row(self, document: D) -> dict[str, Any]:
        row = document.model_dump(exclude={"key"})
        return {"_id": document.key, **row}

    def _parsed(self, found: dict[str, Any]) -> D:
        found["key"] = found.pop("_id")
        try:
            return self._spec.model.model_validate(found, extra="ignore")
        except ValidationError as error:
            raise ContractError(
                f"{self._spec.name}: a document cannot be read: {faults_in(error)}"
            ) from None

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        async with _translated(self._gate):
            if not self._indexed:
                await self._make_indexes()
            yield

    async def _make_indexes(self) -> None:
        wanted = [
            IndexModel(
                # With the key, in whose order pages have equal values: a page of a million would
                # be sorted else.
                [
                    (_field(name), ASCENDING)
                    for name in (index.fields if index.unique else (*index.fields, "key"))
                ],
                unique=index.unique,
                # A missing value would count as a value, and two of them as duplicates.
                **(
                    {
                        "partialFilterExpression": {
                            _field(name): {"$type": "string"} for name in index.fields
                        }
                    }
                    if index.unique
                    else {}
                ),
            )
            for index in self._spec.indexes
        ]
        if self._spec.expires_by:
            wanted.append(IndexModel([(self._spec.expires_by, ASCENDING)], expireAfterSeconds=0))
        for one in wanted:
            await self._make_index(one)
        self._indexed = True

    async def _make_index(self, index: IndexModel) -> None:
        where = f"{self._spec.name}: the index {index.document['name']}"
        try:
            await self._documents.create_indexes([index])
        except DuplicateKeyError:
            raise BadSetting(
                f"{where} cannot be made: documents share a value that is to be unique; "
                "remove all but one of them"
            ) from None
        except OperationFailure as error:
            if error.code not in _OTHER_INDEX:
                raise
            raise BadSetting(
                f"{where} exists with other options; drop it, it is made again"
            ) from None


class _Refused(Unavailable):
    """Away for us: the user or its password is wrong, or it lacks a right."""


@asynccontextmanager
async def _translated(gate: asyncio.Semaphore) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_WITHIN.total_seconds()), gate:
            yield
    except DuplicateKeyError:
        raise
    except TimeoutError:
        raise Unavailable(f"MongoDB did not answer within {_WITHIN.total_seconds():g} s") from None
    except (InvalidDocument, DocumentTooLarge, OverflowError) as error:
        raise ContractError(f"MongoDB cannot hold this document: {error}") from None
    except OperationFailure as error:
        if error.code in _REFUSED:
            raise _Refused(
                "MongoDB refuses the user, its password or its rights; see CALLMESH_MONGO_URL"
            ) from None
        # The driver's text quotes what it was asked; clients are told less.
        log.warning("store_failed", code=error.code, error=(error.details or {}).get("errmsg"))
        raise Unavailable(f"MongoDB failed with code {error.code}") from error
    except PyMongoError as error:
        raise Unavailable(f"MongoDB is away: {type(error).__name__}") from error


def _encode(value: Any) -> Any:
    """What BSON has no type for, in the form that pydantic reads back."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set):
        return list(value)
    if isinstance(value, IPv4Network | IPv6Network):
        return str(value)
    return value
