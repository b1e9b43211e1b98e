"""The table of operations on an aiohttp server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from shared.clock import Clock
from shared.errors import ContractError, MeshError
from shared.http import problems
from shared.http.auth import Admission, Caller, KeyBook, KeyUses, Wanted
from shared.http.bytestream import ByteStream
from shared.http.deeds import Deed, DeedLog, admitting, answering, conclude, deed_of
from shared.http.files import FileAnswer
from shared.http.listening import MAX_LINE_BYTES, Runner
from shared.http.origins import Origins
from shared.http.peers import note_peer
from shared.http.rates import Limits
from shared.http.reading import MAX_BODY_BYTES, Reading, unreadable
from shared.http.routes import In, Operation, input_path, places
from shared.http.sending import Sending
from shared.http.sockets import Sockets, refusal
from shared.http.streaming import Streaming
from shared.http.tickets import TICKET_PARAMETER, Tickets, is_still_good
from shared.http.underway import UnderWay
from shared.http.writing import choice_in, written
from shared.net.guard import Network
from shared.observe import tracing
from shared.observe.logging import MASK, mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

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
        limits: Limits = Limits(),  # noqa: B008  frozen
        uses: KeyUses | None = None,
        deeds: DeedLog | None = None,
        is_tenant: Callable[[str], bool] = lambda _: False,
        proxies: Sequence[Network] = (),
        tickets: Tickets | None = None,
        origins: Origins = Origins(),  # noqa: B008  never changed
    ) -> None:
        """
        *documents*: paths that anyone may read, as JSON (the OpenAPI document). *deeds*: where
        requests that change something are noted. *proxies*: whose word of a client's address is
        believed. *tickets*: by which streams are opened too. *origins*: whose pages may ask.
        """
        self._keys = keys
        self._tickets = tickets
        self._origins = origins
        self._admission = Admission(keys, clock, limits=limits, uses=uses, is_tenant=is_tenant)
        self._deeds = deeds
        self._proxies = proxies
        self._clock = clock
        self._metrics = metrics
        self._drain = drain
        self._stopping = asyncio.Event()
        self._under_way = UnderWay()
        self._reading = Reading(clock)
        self._sending = Sending(clock, self._under_way, self._stopping)
        self._streaming = Streaming(clock, metrics, self._stopping)
        self._sockets = Sockets(clock, metrics, self._stopping)
        self._runner: Runner | None = None
        self._app = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._around_every_request]
        )
        self._app.on_response_prepare.append(self._add_headers)
        for part in mounted:
            for operation in part.operations:
                self._app.router.add_route(
                    operation.method, operation.path, self._handler(operation, part.deps)
                )
        for path, content in (documents or {}).items():
            self._app.router.add_get(path, _document(content))

    async def start(self, host: str, port: int) -> int:
        """The port that was bound: *port*, or a free one for 0. Raises OSError."""
        self._runner = Runner(
            self._app,
            access_log=None,
            handle_signals=False,
            max_line_size=MAX_LINE_BYTES,
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
        self._sending.close()

    @web.middleware
    async def _around_every_request(self, request: web.Request, handler: _Handle) -> Any:
        operation = _label(request)
        began = perf_counter()
        if self._proxies:
            note_peer(request, self._proxies)
        with tracing.span(
            f"{request.method} {operation}", parent=request.headers.get("traceparent")
        ) as trace:
            answer = await self._answered(request, handler)
            if not answer.prepared:
                answer.headers["X-Trace-Id"] = trace.trace_id
        if self._deeds is not None:
            conclude(self._deeds, request, answer)
        self._metrics.count("callmesh_http_requests_total", operation, str(answer.status))
        self._metrics.observe(
            "callmesh_http_request_seconds", operation, seconds=perf_counter() - began
        )
        return answer

    async def _answered(self, request: web.Request, handler: _Handle) -> web.StreamResponse:
        if (answer := self._origins.preflight(request)) is not None:
            return answer
        try:
            with self._under_way.one_more_request():
                return await handler(request)
        except web.HTTPException as error:
            return problems.of_http(error)
        except MeshError as error:
            if problems.status_of(type(error)) is HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("request_failed", path=_shown(request))
            return problems.of_error(error)
        except Exception:
            log.exception("request_failed", path=_shown(request))
            return problems.of_error(MeshError("internal error"))

    def _handler(self, operation: Operation[Any], deps: Any) -> _Handle:
        where = places(operation.request_model)
        wanted = operation.wanted

        async def handle(request: web.Request) -> web.StreamResponse:
            deed = deed_of(
                request,
                operation=operation.operation_id,
                path=operation.path,
                is_change=operation.is_change,
                has_key=wanted is not None,
            )
            try:
                caller = await self._caller(wanted, request, deed, is_live=operation.is_live)
                known = caller is not None
                with nullcontext() if known else self._under_way.one_more_stranger(request):
                    asked = await self._reading.asked(operation, where, request, caller)
                chosen = choice_in(operation, request)
            except ValidationError as error:
                model = operation.request_model
                return problems.of_validation(error, model, partial(input_path, model))
            if isinstance(asked, web.Response):
                return asked
            if self._deeds is not None and deed.is_change and caller is not None:
                await self._deeds.begin(deed)
            with answering(deed):
                if operation.is_live:
                    return await self._live(operation, deps, asked, caller, request)
                try:
                    answer = await operation.handler(deps, asked)
                except ContractError as error:
                    if In.REQUEST not in where.values() or In.BODY in where.values():
                        raise
                    return unreadable(mask_text(error.message))
                if isinstance(answer, FileAnswer):
                    return await self._sending.file(answer, request)
                if isinstance(answer, ByteStream):
                    with self._under_way.one_more_stream(caller):
                        return await self._sending.chunks(answer, request)
                return written(operation, answer, request, chosen)

        return handle if operation.refused is None else _telling(handle, operation.refused, deps)

    async def _live(
        self,
        operation: Operation[Any],
        deps: Any,
        asked: BaseModel,
        caller: Caller | None,
        request: web.Request,
    ) -> web.StreamResponse:
        async def still() -> bool:
            return caller is None or await is_still_good(caller, self._keys)

        if operation.hears is not None:
            if (refused := refusal(request)) is not None:
                return refused
            self._origins.check_socket(request)
        with self._under_way.one_more_stream(caller):
            opened = await operation.handler(deps, asked)
            if operation.hears is None:
                return await self._streaming.events(opened, request, still)
            return await self._sockets.serve(opened, operation.hears, request, still)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        self._admission.add_headers(request, response)
        self._origins.add_headers(request, response)

    async def _caller(
        self, wanted: Wanted | None, request: web.Request, deed: Deed, *, is_live: bool
    ) -> Caller | None:
        """Before anything is read: a stranger learns nothing of what would be valid."""
        if wanted is None:
            return None
        if is_live and self._tickets is not None and TICKET_PARAMETER in request.query:
            with admitting(deed, request):
                caller = await self._tickets.caller(request.query[TICKET_PARAMETER], wanted.scopes)
            structlog.contextvars.bind_contextvars(tenant=caller.tenant)
            return caller
        with admitting(deed, request):
            caller = await self._admission.enter(request, wanted)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant)
        return caller


def _document(content: Callable[[], bytes]) -> _Handle:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content(), content_type="application/json")

    return handle


def _telling(
    handle: _Handle, refused: Callable[[Any, HTTPStatus, MeshError | None], None], deps: Any
) -> _Handle:
    """*handle*, and what it does not do is told."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            answer = await handle(request)
        except web.HTTPException as error:
            refused(deps, HTTPStatus(error.status), None)
            raise
        except MeshError as error:
            refused(deps, problems.status_of(type(error)), error)
            raise
        if answer.status >= HTTPStatus.BAD_REQUEST:
            refused(deps, HTTPStatus(answer.status), None)
        return answer

    return told


def _shown(request: web.Request) -> str:
    """Its path, without the secret that some have."""
    token = request.match_info.get("token")
    return request.path.replace(token, MASK) if token else request.path


def _label(request: web.Request) -> str:
    """The path's pattern, never the path: ids would make a metric without end."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
