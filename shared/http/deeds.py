"""
The log of deeds, as the server keeps it: of each request that may change something one entry,
which is durable before the handler runs and has the outcome behind it. No handler can forget it;
what it may add are the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from shared.errors import Unauthenticated
from shared.http.auth import caller_of, left_of
from shared.http.callers import Caller
from shared.http.peers import peer_of
from shared.http.problems import code_of
from shared.http.rates import Left
from shared.observe import tracing
from shared.observe.logging import NUMBER_KEYS, mask_number

#: Of an id in a path; those of ours are shorter.
_LONGEST_ID = 128


@dataclass(slots=True, kw_only=True, eq=False)
class Deed:
    """One request. What stands in its path is in *ids* where the path is no secret."""

    operation: str
    #: It is for the log; else only a handler's own note, or its refusal, makes an entry.
    is_change: bool = True
    method: str = ""
    #: The path's pattern.
    path: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    trace: str = ""
    caller: Caller | None = None
    left: Left | None = None
    #: Who it was where no key says it: by a key that is good no more, or as its handler found out.
    tenant: str | None = None
    key_name: str | None = None
    #: The handler's words.
    action: str = ""
    subjects: list[str] = field(default_factory=list)
    #: What its entry is called, drawn for the first try to write it: of two there is one.
    draft_id: str = ""
    #: The same, once it is durable.
    entry_id: str | None = None
    #: It was answered.
    is_over: bool = False


class DeedLog(Protocol):
    async def begin(self, deed: Deed) -> None:
        """Its entry is durable when it returns. Raises: Unavailable."""
        ...

    def end(self, deed: Deed, *, status: int, code: str | None) -> None:
        """What became of a deed that was begun; written behind, as far as that is possible."""
        ...

    def tell(self, deed: Deed, *, status: int, code: str | None) -> None:
        """
        One that was not begun, for it was refused; written behind, and of many that are alike not
        each.
        """
        ...


_DEED: web.RequestKey[Deed] = web.RequestKey("callmesh_deed", Deed)
_current: ContextVar[Deed | None] = ContextVar("callmesh_deed", default=None)


def current_deed() -> Deed | None:
    """The request that this task answers."""
    return _current.get()


@contextmanager
def answering(deed: Deed) -> Iterator[None]:
    token = _current.set(deed)
    try:
        yield
    finally:
        _current.reset(token)


def deed_of(
    request: web.Request, *, operation: str, path: str, is_change: bool, has_key: bool
) -> Deed:
    """*has_key*: the operation asks for one, so what is in its path is none."""
    trace = tracing.current()
    ids = {name: _id(name, text) for name, text in request.match_info.items()} if has_key else {}
    deed = Deed(
        operation=operation,
        is_change=is_change,
        method=request.method,
        path=path,
        ids=ids,
        peer=peer_of(request),
        trace=trace.trace_id if trace else "",
    )
    request[_DEED] = deed
    return deed


@contextmanager
def admitting(deed: Deed, request: web.Request) -> Iterator[None]:
    """Whoever is let in or refused here did it."""
    try:
        yield
    except Unauthenticated as error:
        deed.tenant = error.details.get("tenant")
        deed.key_name = error.details.get("key_name")
        raise
    finally:
        deed.caller, deed.left = caller_of(request), left_of(request)


def conclude(log: DeedLog, request: web.Request, answer: web.StreamResponse) -> None:
    """Once the answer stands."""
    deed = request.get(_DEED)
    if deed is None:
        return
    deed.is_over = True
    status, code = answer.status, code_of(answer)
    if deed.entry_id is not None:
        log.end(deed, status=status, code=code)
    elif deed.is_change or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        log.tell(deed, status=status, code=code)


def _id(name: str, text: str) -> str:
    """Odd bytes are lone surrogates by now, and no database takes a NUL in every place."""
    clean = text.encode(errors="replace").decode().replace("\x00", "?")[:_LONGEST_ID]
    return mask_number(clean) if name in NUMBER_KEYS else clean
