"""The table of operations on an aiohttp server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from shared.clock import Clock
from shared.errors import ContractError, MeshError, Throttled, Unavailable
from shared.http import problems
from shared.http.auth import Caller, KeyBook, authenticate
from shared.http.bytestream import ByteStream
from shared.http.files import FileAnswer
from shared.http.forms import FORM_BODY, JSON_BODY, form_wanted, read_form, read_json
from shared.http.routes import (
    Answer,
    Form,
    In,
    Operation,
    RawRequest,
    ServerEvent,
    header_name,
    input_name,
    input_path,
    places,
)
from shared.observe import tracing
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A call event or order is a few hundred bytes, a batch of 500 some hundred kilobytes.
MAX_BODY_BYTES = 512 * 1024
#: What a handler reads itself: a CRM's batch has whole records in it.
MAX_RAW_BYTES = 1024 * 1024
#: Requests under way at once; more are told to come back.
MAX_AT_ONCE = 256
#: A client has so long for its body, and for taking a piece of a stream.
PATIENCE = timedelta(seconds=10)
#: Files under way at once, and of one tenant. A player takes the next piece when it has played the
#: last, and one that is paused keeps its place for a while.
MAX_FILES, MAX_FILES_OF_ONE = 256, 96
FILE_PATIENCE = timedelta(minutes=2)
_PIECE_BYTES = 256 * 1024
#: Their own: a mount whose server is gone holds them for ever, and nobody else's.
_FILE_THREADS = 8
#: Streams that one key may have open: a CRM that follows every agent's phone by one key.
MAX_STREAMS = 200
#: A proxy closes a silent connection after 30 to 60 s.
_KEEP_ALIVE = timedelta(seconds=15)

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A service's operations with the dependencies they are called with."""

    operations: Sequence[Operation[Any]]
    deps: Any


class HttpServer:
    """One listener; ``stop`` ends streams and lets other requests finish for *drain*."""

    def __init__(
        self,
        mounted: Iterable[Mounted],
        *,
        keys: KeyBook,
        clock: Clock,
        metrics: Metrics,
        drain: timedelta,
        documents: dict[str, Callable[[], bytes]] | None = None,
    ) -> None:
        """*documents*: paths that anyone may read, as JSON (the OpenAPI document)."""
        self._keys = keys
        self._clock = clock
        self._metrics = metrics
        self._drain = drain
        self._at_once = 0
        self._files: Counter[str] = Counter()
        self._file_threads = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="files")
        self._streams: Counter[tuple[str, str]] = Counter()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._app = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._around_every_request]
        )
        for part in mounted:
            for operation in part.operations:
                self._app.router.add_route(
                    operation.method, operation.path, self._handler(operation, part.deps)
                )
        for path, content in (documents or {}).items():
            self._app.router.add_get(path, _document(content))

    async def start(self, host: str, port: int) -> int:
        """The port that was bound: *port*, or a free one for 0. Raises OSError."""
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            # aiohttp waits twice: for requests, then again for those that did not end by it.
            shutdown_timeout=self._drain.total_seconds() / 2,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self._file_threads.shutdown(wait=False, cancel_futures=True)

    @web.middleware
    async def _around_every_request(self, request: web.Request, handler: _Handle) -> Any:
        operation = _label(request)
        began = perf_counter()
        with tracing.span(
            f"{request.method} {operation}", parent=request.headers.get("traceparent")
        ) as trace:
            answer = await self._answered(request, handler)
            if not answer.prepared:
                answer.headers["X-Trace-Id"] = trace.trace_id
        self._metrics.count("callmesh_http_requests_total", operation, str(answer.status))
        self._metrics.observe(
            "callmesh_http_request_seconds", operation, seconds=perf_counter() - began
        )
        return answer

    async def _answered(self, request: web.Request, handler: _Handle) -> web.StreamResponse:
        if self._at_once >= MAX_AT_ONCE:
            return problems.of_error(Unavailable("More requests are under way than we take."))
        self._at_once += 1
        try:
            return await handler(request)
        except web.HTTPException as error:
            return problems.of_http(error)
        except MeshError as error:
            if problems.status_of(type(error)) is HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("request_failed", path=request.path)
            return problems.of_error(error)
        except Exception:
            log.exception("request_failed", path=request.path)
            return problems.of_error(MeshError("internal error"))
        finally:
            self._at_once -= 1

    def _handler(self, operation: Operation[Any], deps: Any) -> _Handle:
        where = places(operation.request_model)

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                caller = await self._caller(operation, request)
                asked = await self._asked(operation, where, request, caller)
            except ValidationError as error:
                model = operation.request_model
                return problems.of_validation(error, model, partial(input_path, model))
            if isinstance(asked, web.Response):
                return asked
            if operation.answer is Answer.STREAM:
                with self._one_more_stream(caller):
                    return await self._stream(await operation.handler(deps, asked), request)
            try:
                answer = await operation.handler(deps, asked)
            except ContractError as error:
                if In.REQUEST not in where.values() or In.BODY in where.values():
                    raise
                return _unreadable(mask_text(error.message))
            if isinstance(answer, FileAnswer):
                return await self._file(answer, request)
            if isinstance(answer, ByteStream):
                with self._one_more_stream(caller):
                    return await self._chunks(answer, request)
            return _plain(operation, answer, request)

        return handle

    async def _caller(self, operation: Operation[Any], request: web.Request) -> Caller | None:
        """Before anything is read: a stranger learns nothing of what would be valid."""
        if operation.scope is None:
            return None
        caller = await authenticate(
            request, self._keys, scope=operation.scope, key_in_query=operation.key_in_query
        )
        structlog.contextvars.bind_contextvars(tenant=caller.tenant)
        return caller

    @contextmanager
    def _one_more_stream(self, caller: Caller | None) -> Iterator[None]:
        """A stream is open for hours; it is not one of the requests under way."""
        key = (caller.tenant, caller.key_name) if caller else ("", "")
        if self._streams[key] >= MAX_STREAMS:
            raise Throttled(f"This API key has {MAX_STREAMS} streams open; end one first.")
        self._streams[key] += 1
        self._at_once -= 1
        try:
            yield
        finally:
            self._at_once += 1
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    async def _asked(
        self,
        operation: Operation[Any],
        where: dict[str, In],
        request: web.Request,
        caller: Caller | None,
    ) -> BaseModel | web.Response:
        raw: dict[str, Any] = {name: caller for name, place in where.items() if place is In.KEY}
        whole: RawRequest | None = None
        if In.REQUEST in where.values():
            most = MAX_BODY_BYTES if In.BODY in where.values() else MAX_RAW_BYTES
            found = await self._raw(request, most=most)
            if isinstance(found, web.Response):
                return found
            whole = found
        for field, place in where.items():
            name = input_name(operation.request_model, field)
            if place is In.PATH:
                raw[name] = request.match_info[name]
            elif place is In.QUERY and name in request.query:
                raw[name] = request.query[name]
            elif place is In.HEADER and header_name(name) in request.headers:
                raw[name] = request.headers[header_name(name)]
            elif place is In.REQUEST:
                raw[name] = whole
            elif place is In.BODY:
                body = await self._structured(operation, request, whole)
                if isinstance(body, web.Response):
                    return body
                raw[name] = body
        return operation.request_model.model_validate(raw)

    async def _structured(
        self, operation: Operation[Any], request: web.Request, whole: RawRequest | None
    ) -> Any:
        """*whole*: the request, where it was read before."""
        taken = (JSON_BODY, FORM_BODY) if operation.form_body else (JSON_BODY,)
        if request.content_type not in taken:
            return problems.problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                f"Send the body as {' or '.join(taken)}.",
            )
        body = whole.body if whole is not None else await self._body(request)
        if isinstance(body, web.Response):
            return body
        try:
            return read_form(body) if request.content_type == FORM_BODY else read_json(body)
        except ContractError as error:
            return _unreadable(error.message)

    async def _raw(self, request: web.Request, *, most: int) -> RawRequest | web.Response:
        body = await self._body(request.clone(client_max_size=most))
        if isinstance(body, web.Response):
            return body
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), _clean(value))
        return RawRequest(
            method=request.method,
            peer=request.remote or "",
            origin=_clean(f"{request.scheme}://{request.host}"),
            target=_clean(request.rel_url.raw_path_qs),
            query={_clean(name): _clean(value) for name, value in request.query.items()},
            headers=headers,
            body=body,
        )

    async def _body(self, request: web.Request) -> bytes | web.Response:
        try:
            # Most came with their heads.
            there = request.content.is_eof()
            return await (request.read() if there else self._patiently(request.read()))
        except TimeoutError:
            late = problems.problem(
                HTTPStatus.REQUEST_TIMEOUT,
                "request_timeout",
                f"The body did not come within {PATIENCE.total_seconds():g} s.",
            )
            late.force_close()
            return late
        except (ConnectionError, web.RequestPayloadError):
            return _unreadable("The body broke off.")

    async def _stream(
        self, events: AsyncIterator[ServerEvent], request: web.Request
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold events back
            }
        )
        await response.prepare(request)
        self._metrics.count("callmesh_live_streams", by=1)
        stopping = asyncio.create_task(self._stopping.wait())
        coming = asyncio.create_task(_next(events))
        try:
            while True:
                done, _ = await asyncio.wait(
                    {coming, stopping},
                    timeout=_KEEP_ALIVE.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if coming in done:
                    event = coming.result()
                    if event is None:
                        break
                    await self._patiently(response.write(_frame(event)), stopping)
                    coming = asyncio.create_task(_next(events))
                elif stopping in done:
                    break
                else:
                    await self._patiently(response.write(b": alive\n\n"), stopping)
            await self._patiently(response.write_eof(), stopping)
        except (ConnectionError, TimeoutError):
            _cut(request)  # the client went away, or does not read
        except Exception:
            # The status is out, so all that can still be said is that the stream is broken off.
            log.exception("stream_failed", path=request.path)
            _cut(request)
        finally:
            self._metrics.count("callmesh_live_streams", by=-1)
            for task in (coming, stopping):
                task.cancel()
            await asyncio.gather(coming, stopping, return_exceptions=True)
            if isinstance(events, AsyncGenerator):
                await events.aclose()
        return response

    async def _chunks(self, answer: ByteStream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=HTTPStatus.OK, headers=answer.headers)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await response.prepare(request)
            async for chunk in answer.chunks:
                await self._patiently(response.write(chunk), stopping, within=FILE_PATIENCE)
            await self._patiently(response.write_eof(), stopping, within=FILE_PATIENCE)
        except (ConnectionError, TimeoutError):
            _cut(request)  # the client went away, or does not read; or this server stops
        except Exception:
            # The status is out: that it breaks off is all that can still be said.
            log.exception("stream_failed", path=request.path)
            _cut(request)
        finally:
            stopping.cancel()
            if isinstance(answer.chunks, AsyncGenerator):
                await answer.chunks.aclose()
        return response

    async def _file(self, answer: FileAnswer, request: web.Request) -> web.StreamResponse:
        """As long as the client takes for it, it is not one of the requests under way."""
        #: By a thread, perhaps: closing it would wait for that.
        is_read = False
        try:
            if answer.part.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return problems.problem(
                    answer.part.status,
                    "range_not_satisfiable",
                    f"The file has {answer.part.size} bytes; the range begins behind them.",
                    headers=answer.part.headers,
                )
            with self._one_more_file(answer.tenant):
                return await self._sent(answer, request)
        except asyncio.CancelledError:
            is_read = True
            raise
        finally:
            if not is_read:
                answer.file.close()

    @contextmanager
    def _one_more_file(self, tenant: str) -> Iterator[None]:
        if self._files[tenant] >= MAX_FILES_OF_ONE or self._files.total() >= MAX_FILES:
            raise Throttled("As many files are under way as we give at once; end one first.")
        self._files[tenant] += 1
        self._at_once -= 1
        try:
            yield
        finally:
            self._at_once += 1
            self._files[tenant] -= 1
            if not self._files[tenant]:
                del self._files[tenant]

    async def _sent(self, answer: FileAnswer, request: web.Request) -> web.StreamResponse:
        part = answer.part
        response = web.StreamResponse(
            status=part.status, headers={**answer.headers, **part.headers, "Accept-Ranges": "bytes"}
        )
        response.content_length = part.length
        left = part.length if request.method != "HEAD" else 0
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._file_threads)
        try:
            await in_thread(answer.file.seek, part.start)
            await response.prepare(request)
            while left:
                piece = await in_thread(answer.file.read, min(left, _PIECE_BYTES))
                if not piece:
                    # It has become shorter: that it ends here must not look like its end.
                    _cut(request)
                    break
                left -= len(piece)
                await self._patiently(response.write(piece), within=FILE_PATIENCE)
            else:
                await self._patiently(response.write_eof())
        except (ConnectionError, TimeoutError, OSError):
            _cut(request)  # the client went away, or does not read
        return response

    async def _patiently(
        self,
        work: Coroutine[Any, Any, T],
        *unless: asyncio.Task[Any],
        within: timedelta = PATIENCE,
    ) -> T:
        """Raises TimeoutError when it is not done in time, or by when one of *unless* is."""
        working = asyncio.create_task(work)
        patience = asyncio.create_task(self._clock.sleep(within))
        try:
            await asyncio.wait({working, patience, *unless}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise TimeoutError
            return await working
        finally:
            patience.cancel()
            working.cancel()


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _next(events: AsyncIterator[ServerEvent]) -> ServerEvent | None:
    return await anext(events, None)


def _frame(event: ServerEvent) -> bytes:
    data = event.model_dump_json(exclude_none=True)
    return f"event: {event.event_name}\ndata: {data}\n\n".encode()


def _plain(operation: Operation[Any], answer: Any, request: web.Request) -> web.Response:
    if operation.answer is Answer.TEXT:
        match form_wanted(answer, request.headers.get("Accept", "")):
            case Form.TEXT:
                return web.Response(status=operation.status, text=answer.as_text())
            case Form.XML:
                xml = answer.as_xml()
                return web.Response(
                    status=operation.status, text=xml, content_type="application/xml"
                )
    if operation.answer is Answer.RAW:
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )
    return web.Response(
        status=operation.status,
        body=answer.model_dump_json(exclude_none=True),
        content_type="application/json",
    )


def _unreadable(detail: str) -> web.Response:
    return problems.problem(HTTPStatus.BAD_REQUEST, "unreadable_body", detail)


def _clean(text: str) -> str:
    """Odd bytes in a head are lone surrogates by now; nothing that is signed has any."""
    return text.encode(errors="replace").decode()


def _document(content: Callable[[], bytes]) -> _Handle:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content(), content_type="application/json")

    return handle


def _label(request: web.Request) -> str:
    """The path's pattern, never the path: ids would make a metric without end."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
