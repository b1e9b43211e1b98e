"""
Typed HTTP operations: one request model in, one response model out, in a table that knows no
server. An operation is a plain function of the dependencies and the request.

    class FetchCall(BaseModel):
        caller: FromKey[Caller]
        call_id: FromPath[str]

    @routes("GET", "/v1/calls/{call_id}", scope=Scope.CALLS_READ, errors=(NotFound,))
    async def fetch_call(deps: Deps, asked: FetchCall) -> CallRecord: ...
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Generic, Protocol, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel
from pydantic.json_schema import SkipJsonSchema

from shared.errors import MeshError
from shared.faults import Path
from shared.http.auth import Scope, Wanted
from shared.http.bytestream import ByteStream
from shared.http.files import FileAnswer
from shared.http.live import LiveStream


class In(Enum):
    """Where a field of a request model comes from."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    BODY = "body"
    KEY = "key"
    #: All of it, as it came.
    REQUEST = "request"


class RawRequest(BaseModel):
    """
    A request that its handler reads itself: a signature may be over every byte of it. What the
    handler cannot read (ContractError) is answered with 400.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    #: The address that the connection comes from: behind a proxy the proxy's.
    peer: str
    #: Scheme and host as this server was called: behind a proxy not what the client wrote.
    origin: str
    #: Path and query, as they were written.
    target: str = Field(repr=False)
    query: Mapping[str, str] = Field(repr=False)
    #: Names in lower case; the first of several of a name.
    headers: Mapping[str, str] = Field(repr=False)
    body: bytes = Field(repr=False)


class RawAnswer(BaseModel):
    """An answer whose form somebody else has laid down."""

    model_config = ConfigDict(frozen=True)

    content_type: str
    body: bytes
    status: int = 200


class Form(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"
    XML = "xml"


class InForms(BaseModel):
    """
    An answer that can be had as text, JSON or XML: as the header Accept says, or *form*, which is
    not part of what is answered.
    """

    form: SkipJsonSchema[Form | None] = Field(default=None, exclude=True)

    @abstractmethod
    def as_text(self) -> str: ...

    @abstractmethod
    def as_xml(self) -> str:
        """A whole document in UTF-8."""
        ...


T = TypeVar("T")
FromPath = Annotated[T, In.PATH]
FromQuery = Annotated[T, In.QUERY]
FromHeader = Annotated[T, In.HEADER]
FromBody = Annotated[T, In.BODY]
#: The Caller behind the API key.
FromKey = Annotated[T, In.KEY]
#: The RawRequest.
FromRequest = Annotated[T, In.REQUEST]

D = TypeVar("D")
Q = TypeVar("Q", bound=BaseModel)
A = TypeVar("A", bound=BaseModel)


class Answer(Enum):
    JSON = "application/json"
    #: The model's ``as_text()``, or JSON for who wants that; XML too where it is :class:`InForms`.
    TEXT = "text/plain"
    #: Server-sent events: one per model that the handler yields.
    STREAM = "text/event-stream"
    #: The same on a WebSocket, each as a message.
    SOCKET = "websocket"
    #: A :class:`RawAnswer`: in whatever form a PBX wants it.
    RAW = "*/*"
    #: A :class:`FileAnswer`: recorded sound, whole or in parts.
    FILE = "audio/*"
    #: A :class:`ByteStream`: made while it is sent.
    CHUNKS = "chunks"


class ServerEvent(Protocol):
    """A model that a stream sends: ``event_name`` is the event's name, its JSON the data."""

    @property
    def event_name(self) -> str: ...

    def model_dump_json(self, *, exclude_none: bool = False) -> str: ...


S = TypeVar("S", bound=BaseModel)
_Opens = Callable[[D, Q], Awaitable[AsyncIterator[S] | LiveStream[S]]]
_OpensSocket = Callable[[D, Q], Awaitable[LiveStream[S]]]

#: Methods by which nothing is changed.
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[D]):
    method: str
    path: str
    status: int
    #: Of several one is enough.
    scope: Scope | frozenset[Scope] | None
    key_in_query: bool
    errors: tuple[type[MeshError], ...]
    tag: str
    answer: Answer
    handler: Callable[[D, Any], Any]
    request_model: type[BaseModel]
    response_model: type[BaseModel]
    #: The body may be an HTML form in place of JSON.
    form_body: bool = False
    #: What of the answer can be cut to some fields: places as :func:`choice.cut` takes them.
    fields: tuple[str, ...] = ()
    #: It may change something, or takes much away: each request is in the audit log.
    is_change: bool = False
    #: Is told with which status a request is not done, and of the error where one was raised.
    refused: Callable[[D, HTTPStatus, MeshError | None], None] | None = None
    #: What a client may say on a socket.
    hears: type[BaseModel] | None = None

    @property
    def is_live(self) -> bool:
        """Whether it stays open: then a ticket opens it as well as a key."""
        return self.answer in {Answer.STREAM, Answer.SOCKET}

    @property
    def operation_id(self) -> str:
        return self.handler.__name__

    @property
    def is_traffic(self) -> bool:
        """What PBXs send and ask all day: it is read as it came, and mended rather than refused."""
        return self.scope in {Scope.HOOKS_WRITE, Scope.ROUTE_ASK}

    @property
    def wanted(self) -> Wanted | None:
        """Of a key; None: it asks for none."""
        if self.scope is None:
            return None
        # What a PBX sends is not in the audit log, but is no looking.
        changes = self.is_change or self.scope is Scope.HOOKS_WRITE
        return Wanted(scope=self.scope, key_in_query=self.key_in_query, changes=changes)


class Routes(Generic[D]):
    """A table of operations; nothing happens until a server mounts it."""

    def __init__(self, *, tag: str) -> None:
        self.tag = tag
        self.operations: list[Operation[D]] = []

    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: Scope | frozenset[Scope] | None,
        status: int = 200,
        key_in_query: bool = False,
        errors: tuple[type[MeshError], ...] = (),
        text: bool = False,
        form_body: bool = False,
        fields: tuple[str, ...] = (),
        is_change: bool | None = None,
        refused: Callable[[D, HTTPStatus, MeshError | None], None] | None = None,
    ) -> Callable[[Callable[[D, Q], Awaitable[A]]], Callable[[D, Q], Awaitable[A]]]:
        """
        *scope* None is for operations that authenticate their caller themselves. *form_body*: an
        HTML form does as well as JSON; its values are texts. *fields*: places in the answer, ``""``
        for the whole, of which a request may choose the fields that it wants. *is_change*: whether
        the audit log has each request; as the method says, unless it is a PBX's traffic.
        ``tests/shape`` names what is changed by no method of reading and is not in the log.
        *refused* is told what is not done, whoever says no.
        """

        def register(handler: Callable[[D, Q], Awaitable[A]]) -> Callable[[D, Q], Awaitable[A]]:
            asked, answer = _models(handler)
            self.operations.append(
                Operation(
                    method=method,
                    path=path,
                    status=status,
                    scope=scope,
                    key_in_query=key_in_query,
                    errors=errors,
                    tag=self.tag,
                    answer=_answer_of(answer, text=text),
                    handler=handler,
                    request_model=asked,
                    response_model=answer,
                    form_body=form_body,
                    fields=fields,
                    is_change=_changes(method, scope) if is_change is None else is_change,
                    refused=refused,
                )
            )
            return handler

        return register

    def stream(
        self, path: str, *, scope: Scope, errors: tuple[type[MeshError], ...] = ()
    ) -> Callable[[_Opens[D, Q, S]], _Opens[D, Q, S]]:
        """
        Server-sent events: the handler checks the request and returns what is then sent, for as
        long as the client listens.
        """

        def register(handler: _Opens[D, Q, S]) -> _Opens[D, Q, S]:
            self.operations.append(self._live(handler, path, scope, errors, Answer.STREAM))
            return handler

        return register

    def socket(
        self,
        path: str,
        *,
        scope: Scope,
        hears: type[BaseModel],
        errors: tuple[type[MeshError], ...] = (),
    ) -> Callable[[_OpensSocket[D, Q, S]], _OpensSocket[D, Q, S]]:
        """A WebSocket: as ``stream``; the client may say *hears*, which the stream is told."""

        def register(handler: _OpensSocket[D, Q, S]) -> _OpensSocket[D, Q, S]:
            operation = self._live(handler, path, scope, errors, Answer.SOCKET)
            self.operations.append(replace(operation, status=101, hears=hears))
            return handler

        return register

    def _live(
        self,
        handler: Callable[[D, Any], Any],
        path: str,
        scope: Scope,
        errors: tuple[type[MeshError], ...],
        answer: Answer,
    ) -> Operation[D]:
        asked, events = _models(handler)
        return Operation(
            method="GET",
            path=path,
            status=200,
            scope=scope,
            key_in_query=False,
            errors=errors,
            tag=self.tag,
            answer=answer,
            handler=handler,
            request_model=asked,
            response_model=get_args(events)[0],
        )


def _changes(method: str, scope: Scope | frozenset[Scope] | None) -> bool:
    """What a PBX's key is for is its traffic."""
    return method not in _READING and scope not in {Scope.HOOKS_WRITE, Scope.ROUTE_ASK}


def _answer_of(model: type[BaseModel], *, text: bool) -> Answer:
    if model is RawAnswer:
        return Answer.RAW
    if model is FileAnswer:
        return Answer.FILE
    if issubclass(model, ByteStream):
        return Answer.CHUNKS
    return Answer.TEXT if text else Answer.JSON


def places(model: type[BaseModel]) -> dict[str, In]:
    """Where each field of a request model comes from; unmarked means query."""
    return {
        name: next((m for m in field.metadata if isinstance(m, In)), In.QUERY)
        for name, field in model.model_fields.items()
    }


def input_name(model: type[BaseModel], name: str) -> str:
    """What pydantic takes the field by: its alias, where Python has the name for itself."""
    return model.model_fields[name].alias or name


def input_path(model: type[BaseModel], path: Path) -> str:
    """``query.limit``, ``body.events.1.at``: how a place is called where a client is told of it."""
    name, *rest = map(str, path or ("request",))
    for field, place in places(model).items():
        if input_name(model, field) != name:
            continue
        if place is not In.BODY:
            name = f"{place.value}.{header_name(name) if place is In.HEADER else name}"
        elif _is_one_of_several(model.model_fields[field].annotation):
            del rest[:1]  # which of them, in our words; it stands nowhere in the body
    return ".".join([name, *rest])


def _is_one_of_several(model: Any) -> bool:
    if not (isinstance(model, type) and issubclass(model, RootModel)):
        return False
    return any(isinstance(mark, Discriminator) for mark in model.model_fields["root"].metadata)


def header_name(field: str) -> str:
    """``idempotency_key`` → ``Idempotency-Key``."""
    return "-".join(part.capitalize() for part in field.split("_"))


def _models(handler: Callable[..., Any]) -> tuple[type[BaseModel], Any]:
    hints = get_type_hints(handler)
    answer = hints.pop("return")
    _, asked = hints.values()
    return asked, answer
