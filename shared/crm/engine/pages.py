"""Lists that come in pages: what to ask next, and when it was the last."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from yarl import URL

from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.orders import Reply
from shared.crm.form.requests import PageKind, Pages, Request
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path, is_there, list_at
from shared.crm.port import Priority
from shared.errors import Rejected, Unavailable

#: Records of one page that are read: each is asked for a dozen paths.
_MOST_OF_PAGE = 20_000
#: In a path with lists, the first word of each alternative: ``data.#(id=="7").id``, ``d.0.Id``.
_LIST = re.compile(r"(?:^|,)\s*(?:([A-Za-z_]\w*)[\w.]*?\.)?(?:#[(.]|0\.)")


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
    blank_is_none: bool = False,
    to_the_end: bool = False,
) -> AsyncIterator[Any]:
    """
    Each record of each page. *within* is the time of one request; *blank_is_none*: an answer
    without a body has no records, where else it is a fault; *to_the_end*: so are more pages than
    are read, for who asks what is on none of them.

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
        if reply is None or (reply.blank and blank_is_none):
            return
        found = records_in(reply, requests.path(records, variables))
        if len(found) > _MOST_OF_PAGE:
            raise Unavailable(
                f"the CRM answered {len(found)} records on one page; {_MOST_OF_PAGE} are read"
            )
        for record in found:
            yield record
        asked, seen = asked + 1, seen + len(found)
        if pages is None or not found:
            return
        step = _next(requests, pages, reply, step, count=len(found), seen=seen)
        if step is not None and asked >= pages.most:
            if to_the_end:
                raise Unavailable(
                    f"the CRM's list has more than the {asked} pages that are gone through"
                )
            return


def records_in(reply: Reply, path: str, *, absent_is_nobody: bool = False) -> list[Any]:
    """Raises: Unavailable: an answer without what it should hold must not mean "nobody"."""
    if reply.nothing:
        return []
    found = at_path(reply.value, path)
    is_none = reply.blank or not is_there(reply.value, path) or not _may_hold(found)
    if is_none and not absent_is_nobody:
        raise Unavailable(
            f"the CRM's answer has no records {f'at {path}' if path else 'in it'}, where its "
            "template says that they are"
        )
    return list_at(reply.value, path)


def refuse_without_list(value: Any, path: str) -> None:
    """
    Of a *path* into a list of an answer's *value*, in which nothing was found. Raises: Unavailable
    where there is not even the list.
    """
    heads = [found[1] or "@this" for found in _LIST.finditer(path)]
    is_none = not isinstance(value, Mapping | list)
    if is_none or (heads and not any(is_there(value, head) for head in heads)):
        raise Unavailable(f"the CRM's answer has nothing at {' or '.join(heads) or path}")


def _may_hold(found: Any) -> bool:
    return found is None or isinstance(found, Mapping | list | tuple)


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
        is_same = address.origin() == reply.url.origin() and address.user is None
    except ValueError:
        raise Rejected("the CRM's link to the next page is no address") from None
    if not is_same:
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
