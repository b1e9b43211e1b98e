"""What a request says, by the table of operations: its path, query, head and body, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from shared.clock import Clock
from shared.errors import ContractError
from shared.faults import Path
from shared.http import problems
from shared.http.auth import Caller
from shared.http.forms import kinds_taken, read_body
from shared.http.patience import PATIENCE, patiently
from shared.http.peers import peer_of
from shared.http.routes import In, Operation, RawRequest, header_name, input_name
from shared.http.storable import fault_in_body, fault_in_head

#: A call event or order is a few hundred bytes, a batch of 500 some hundred kilobytes.
MAX_BODY_BYTES = 512 * 1024
#: What a handler reads itself: a CRM's batch has whole records in it.
MAX_RAW_BYTES = 1024 * 1024


class Reading:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def asked(
        self,
        operation: Operation[Any],
        where: dict[str, In],
        request: web.Request,
        caller: Caller | None,
    ) -> BaseModel | web.Response:
        """
        The operation's request, or the answer where nothing can be read of it. *where*: the place
        of each of its fields. Raises: ValidationError, in the model's own names.
        """
        raw: dict[str, Any] = {name: caller for name, place in where.items() if place is In.KEY}
        whole: RawRequest | None = None
        if In.REQUEST in where.values():
            most = MAX_BODY_BYTES if In.BODY in where.values() else MAX_RAW_BYTES
            found = await self._raw(request, most=most)
            if isinstance(found, web.Response):
                return found
            whole = found
        head = {path: (name, text) for name, path, text in _head(operation, where, request)}
        raw |= dict(head.values())
        for field, place in where.items():
            name = input_name(operation.request_model, field)
            if place is In.REQUEST:
                raw[name] = whole
            elif place is In.BODY:
                body = await self._structured(operation, request, whole)
                if isinstance(body, web.Response):
                    return body
                raw[name] = body
        texts = {path: text for path, (_, text) in head.items()}
        if not operation.is_traffic and (fault := fault_in_head(texts)) is not None:
            return problems.of_fault(*fault)
        return operation.request_model.model_validate(raw)

    async def _structured(
        self, operation: Operation[Any], request: web.Request, whole: RawRequest | None
    ) -> Any:
        """*whole*: the request, where it was read before."""
        taken = kinds_taken(operation)
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
            found = read_body(body, request.content_type)
        except ContractError as error:
            return unreadable(error.message)
        if not operation.is_traffic and (fault := fault_in_body(found, body)) is not None:
            return problems.of_fault(*fault)
        return found

    async def _raw(self, request: web.Request, *, most: int) -> RawRequest | web.Response:
        body = await self._body(request.clone(client_max_size=most))
        if isinstance(body, web.Response):
            return body
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers.setdefault(name.lower(), _clean(value))
        return RawRequest(
            method=request.method,
            peer=peer_of(request),
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
            return await (request.read() if there else patiently(self._clock, request.read()))
        except TimeoutError:
            late = problems.problem(
                HTTPStatus.REQUEST_TIMEOUT,
                "request_timeout",
                f"The body did not come within {PATIENCE.total_seconds():g} s.",
            )
            late.force_close()
            return late
        except (ConnectionError, web.RequestPayloadError):
            return unreadable("The body broke off.")


def _head(
    operation: Operation[Any], where: Mapping[str, In], request: web.Request
) -> Iterator[tuple[str, Path, str]]:
    """What the request's head says: by what the model takes it, where it stands, and the text."""
    for field, place in where.items():
        name = input_name(operation.request_model, field)
        if place is In.PATH:
            yield name, ("path", name), request.match_info[name]
        elif place is In.QUERY and name in request.query:
            yield name, ("query", name), request.query[name]
        elif place is In.HEADER and header_name(name) in request.headers:
            yield name, ("header", header_name(name)), request.headers[header_name(name)]


def unreadable(detail: str) -> web.Response:
    return problems.problem(HTTPStatus.BAD_REQUEST, "unreadable_body", detail)


def _clean(text: str) -> str:
    """Odd bytes in a head are lone surrogates by now; nothing that is signed has any."""
    return text.encode(errors="replace").decode()
