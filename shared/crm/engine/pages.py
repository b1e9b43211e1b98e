"""Lists that come in pages: what to ask next, and when it was the last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from yarl import URL

from shared.crm.engine.asking import CrmRequests, Reply
from shared.crm.form.requests import PageKind, Pages, Request
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import is_there, list_at
from shared.crm.port import Priority
from shared.errors import Rejected, Unavailable


@dataclass(frozen=True, slots=True)
class _Next:
    """*address*: the whole URL of the next page, where the CRM gives it."""

    variables: Mapping[str, Any]
    address: URL | None = None


async def records_of(
    requests: CrmRequests,
    request: Request,
    pages: Pages | None,
    *,
    records: str,
    variables: Mapping[str, Any],
    within: timedelta,
    priority: Priority,
) -> AsyncIterator[Any]:
    """
    Each record of each page. *within* is the time of one request.

    Raises: as CrmRequests.ask, and Rejected for a next page on another host.
    """
    step: _Next | None = _Next(_first(pages))
    asked = 0
    seen = 0
    while step is not None:
        reply = await requests.ask(
            request,
            {**variables, **step.variables},
            within=within,
            priority=priority,
            searching=True,
            address=step.address,
        )
        if reply is None or reply.nothing:
            return
        found = records_in(reply.value, requests.path(records, variables))
        for record in found:
            yield record
        asked, seen = asked + 1, seen + len(found)
        if pages is None or asked >= pages.most or not found:
            return
        step = _next(requests, pages, reply, step, count=len(found), seen=seen)


def records_in(value: Any, path: str, *, absent_is_nobody: bool = False) -> list[Any]:
    """Raises: Unavailable: an answer without what it should hold must not mean "nobody"."""
    if not absent_is_nobody and not is_there(value, path):
        raise Unavailable(
            f"the CRM's answer has nothing at {path}, where its template says that records are"
        )
    return list_at(value, path)


def _first(pages: Pages | None) -> dict[str, Any]:
    if pages is None:
        return {}
    start = pages.start
    offset = start if pages.kind is PageKind.OFFSET else 0
    return {"Page": start, "Offset": offset, "Limit": pages.size, "Cursor": None}


def _next(
    requests: CrmRequests, pages: Pages, reply: Reply, last: _Next, *, count: int, seen: int
) -> _Next | None:
    """None: that was the last."""

    def at(path: str) -> Any:
        return requests.at(reply.value, path, last.variables)

    if pages.more is not None and plain_text(at(pages.more)) in {"", "false", "0"}:
        return None
    total = plain_text(at(pages.total)) if pages.total else ""
    if pages.total_header:
        total = reply.headers.get(pages.total_header.lower(), "")
    if total.isascii() and total.isdigit() and seen >= int(total[:12]):
        return None
    return _by_kind(pages, reply, last, count=count, at=at)


def _by_kind(
    pages: Pages, reply: Reply, last: _Next, *, count: int, at: Callable[[str], Any]
) -> _Next | None:
    match pages.kind:
        case PageKind.CURSOR:
            cursor = plain_text(at(pages.cursor or ""))
            if not cursor or cursor in pages.end or cursor == plain_text(last.variables["Cursor"]):
                return None
            return _Next({**last.variables, "Cursor": cursor})
        case PageKind.NEXT_LINK:
            return _linked(plain_text(at(pages.link or "")), reply, last)
        case PageKind.LINK_HEADER:
            return _linked(next_in_header(reply.headers.get("link", "")), reply, last)
        case PageKind.PAGE | PageKind.OFFSET:
            if pages.full_pages and pages.more is None and count < pages.size:
                return None
            if pages.kind is PageKind.PAGE:
                return _Next({**last.variables, "Page": last.variables["Page"] + 1})
            return _Next({**last.variables, "Offset": last.variables["Offset"] + pages.size})


def _linked(link: str, reply: Reply, last: _Next) -> _Next | None:
    """A relative link counts from the page before; our key goes to no other host."""
    if not link:
        return None
    try:
        address = reply.url.join(URL(link, encoded="%" in link))
    except ValueError:
        raise Rejected("the CRM's link to the next page is no address") from None
    if address.origin() != reply.url.origin():
        raise Rejected(f"the CRM's next page is on another host: {address.host}")
    return None if address == reply.url else _Next(last.variables, address)


def next_in_header(text: str) -> str:
    """The target of ``<…>; rel="next"`` (RFC 8288), empty where there is none."""
    for part in text.split("<")[1:101]:
        target, closed, parameters = part.partition(">")
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            relations = value.strip().rstrip(",").strip().strip('"').lower().split()
            if closed and name.strip().lower() == "rel" and "next" in relations:
                return target.strip()
    return ""
