"""Yeastar's user association → the CRM's users, page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shared.crm.importing.yeastar.bodies import folded, without_query
from shared.crm.importing.yeastar.contacts import CARD, records_of
from shared.crm.importing.yeastar.requests import File, Parameters, at
from shared.crm.importing.yeastar.words import NOTHING

USERS = "UserAssociation"
_IDS = ("UserUniqueId", "UserId", "Id")
_USER = {"Extension": "extension", **{n: ours for n, ours in CARD.items() if n != "Company"}}
_LARGEST_PAGE = 10_000


def users_of(file: File) -> dict[str, Any] | None:
    """None where there are none, or with a note."""
    if not file.is_on(USERS, USERS):
        return None
    request, *others = file.requests(USERS)
    for other in others:
        file.notes.left(at(other, USERS), "a second request for users")
    place = at(request, USERS)
    read = records_of(file, request, place, _IDS, None)
    if read is None:
        file.notes.left(place, "users without UserUniqueId")
        return None
    if (asked := file.request(request, place, NOTHING)) is None:
        return None
    columns, paths = read
    users: dict[str, Any] = {"request": asked, "user_id": columns.id}
    if columns.records:
        users["records"] = columns.records
    for name, path in paths.items():
        if name in _USER:
            users[_USER[name]] = path
        else:
            file.notes.left(place, f"{name} of a user")
    if not users.keys() & {"display_name", "first_name", "last_name"}:
        users["display_name"] = users.get("email", columns.id)
    _add_pages(file, users, file.parameters(USERS), place)
    return users


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How a kind of pages may be written, and what it is here."""

    variable: str
    first: int
    page: tuple[str, ...]
    start: tuple[str, ...]
    size_name: tuple[str, ...]
    size: tuple[str, ...]


SPELLINGS = {
    "offset": _Spelling(
        "{{.Offset}}",
        0,
        ("OffsetParameterName", "OffsetParamName", "OffsetName"),
        ("OffsetValue", "OffsetStartValue", "OffsetStart"),
        ("LimitParameterName", "LimitParamName", "LimitName"),
        ("LimitValue", "Limit"),
    ),
    "page": _Spelling(
        "{{.Page}}",
        1,
        ("PageParameterName", "PageParamName", "PageName"),
        ("PageStartValue", "PageStart", "StartPage"),
        ("PageSizeParameterName", "PageSizeParamName", "PageSizeName"),
        ("PageSizeValue", "PageSize"),
    ),
}
_LINK = ("NextPageLinkPath", "NextLinkPath", "LinkPath")


def _add_pages(file: File, users: dict[str, Any], given: Parameters, place: str) -> None:
    """
    Pages of users (firmware 83.21). No file with them was seen: these are the names of the form's
    fields, in the spellings that are likely.
    """
    for group in given.groups:
        if "pag" in group:
            given.plain |= {folded(n): e for n, e in given.groups[group].items()}
    kind = folded(given.get("PaginationType", "PageType", "Pagination") or "")
    if kind in {"", "0", "none", "disabled", "disable"}:
        return
    if "link" in kind:
        if link := given.get(*_LINK):
            users["pages"] = {"kind": "next_link", "link": link, "full_pages": False}
        else:
            file.notes.left(place, f"pages by a link without {_LINK[0]}: only the first is read")
        return
    wanted = next((one for one in SPELLINGS if one in kind), None)
    if wanted is None:
        file.notes.left(place, f"pages of kind {kind[:20]}: only the first is read")
        return
    spelling = SPELLINGS[wanted]
    name, size = given.get(*spelling.page), _number(given.get(*spelling.size), 0)
    if not name or (wanted == "offset" and not size):
        file.notes.left(place, "pages without their parameter or size: only the first is read")
        return
    start = _number(given.get(*spelling.start), spelling.first)
    pages: dict[str, Any] = {"kind": wanted, "start": start}
    query = {name: spelling.variable}
    if size:
        pages["size"] = min(size, _LARGEST_PAGE)
        if size_name := given.get(*spelling.size_name):
            query[size_name] = "{{.Limit}}"
    else:
        # Nobody knows which page is a short one.
        pages["full_pages"] = False
    request = users["request"]
    request["url"], _ = without_query(request["url"], list(query))
    request["query"] = {**request.get("query", {}), **query}
    users["pages"] = pages


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else otherwise
