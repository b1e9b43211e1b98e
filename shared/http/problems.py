"""Errors as ``application/problem+json`` (RFC 9457) with a stable ``code``; the input never echoes."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import (
    Conflict,
    ContractError,
    Forbidden,
    Gone,
    MeshError,
    NeedsReconnect,
    NotFound,
    Rejected,
    Stale,
    Throttled,
    TooMany,
    TransientError,
    Unauthenticated,
    Unavailable,
)
from shared.faults import Path, faults_by_path
from shared.observe.logging import mask_text


class Fault(BaseModel):
    where: str = Field(description="Path of the field: body.number, query.limit.")
    what: str


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem document."})

    type: str = Field(description="urn:callmesh:problem:<code>")
    title: str
    status: int
    code: str = Field(description="Stable; decide by it, not by the text.")
    detail: str
    errors: tuple[Fault, ...] = ()


#: The statuses by class; the first that fits, so special ones come first.
STATUSES: tuple[tuple[type[MeshError], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (Gone, HTTPStatus.GONE),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Stale, HTTPStatus.PRECONDITION_FAILED),
    (Conflict, HTTPStatus.CONFLICT),
    (ContractError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Rejected, HTTPStatus.BAD_GATEWAY),
    (TooMany, HTTPStatus.TOO_MANY_REQUESTS),
    (Throttled, HTTPStatus.SERVICE_UNAVAILABLE),
    (NeedsReconnect, HTTPStatus.SERVICE_UNAVAILABLE),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_RETRY_AFTER = timedelta(seconds=5)
_CODE: web.ResponseKey[str] = web.ResponseKey("callmesh_code", str)


def status_of(error: type[MeshError]) -> HTTPStatus:
    return next(
        (status for cls, status in STATUSES if issubclass(error, cls)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def of_error(error: MeshError) -> web.Response:
    status = status_of(type(error))
    headers = {}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        wait = getattr(error, "retry_after", None) or _RETRY_AFTER
        headers["Retry-After"] = str(math.ceil(wait.total_seconds()))
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    detail = mask_text(error.message)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        detail = "The fault is ours; it is in the log under the trace id."
    return problem(status, error.code, detail, headers=headers)


def of_validation(
    error: ValidationError, model: type[BaseModel], called: Callable[[Path], str]
) -> web.Response:
    """*called*: how a client knows a place in *model*."""
    faults = [Fault(where=called(path), what=what) for path, what in faults_by_path(error, model)]
    return _invalid(tuple(faults))


def of_fault(path: Path, what: str) -> web.Response:
    """*path*: as a client knows it."""
    return _invalid((Fault(where=".".join(map(str, path)), what=what),))


def _invalid(faults: tuple[Fault, ...]) -> web.Response:
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        "The request does not match what this operation takes; see errors.",
        errors=faults,
    )


def of_http(error: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses: no such path, method, too large a body."""
    status = HTTPStatus(error.status)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    detail = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than this server takes.",
    }.get(status, status.description or status.phrase)
    return problem(status, status.phrase.lower().replace(" ", "_"), detail, headers=headers)


def of_no_request(status: HTTPStatus) -> web.Response:
    """What could not be read as HTTP; nothing of it is repeated. Its connection ends."""
    answer = problem(
        status,
        "bad_request",
        "This is no HTTP that we can read, or its head is longer than we take.",
    )
    answer.force_close()
    return answer


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    errors: tuple[Fault, ...] = (),
    headers: dict[str, str] | None = None,
) -> web.Response:
    body = Problem(
        type=f"urn:callmesh:problem:{code}",
        title=status.phrase,
        status=status,
        code=code,
        detail=detail,
        errors=errors,
    )
    answer = web.Response(
        status=status,
        body=body.model_dump_json(exclude_defaults=True),
        content_type="application/problem+json",
        headers=headers,
    )
    answer[_CODE] = code
    return answer


def code_of(answer: web.StreamResponse) -> str | None:
    """None for what is no problem."""
    return answer.get(_CODE)
