"""Lists of what is held in memory: page by page, or those of some ids. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from shared.errors import ContractError
from shared.http.routes import FromQuery

#: In one request.
MOST_IDS = 500
#: In one answer.
MOST_ITEMS = 1000

IdList = Annotated[str, StringConstraints(max_length=20_000)]
Cursor = Annotated[str, StringConstraints(max_length=1000)]
#: In an address: of a call, a decision. One that is longer is none of ours.
Id = Annotated[str, StringConstraints(max_length=200)]
#: In an address, in place of a key.
Token = Annotated[str, StringConstraints(max_length=4000)]
#: A part of a name or title that somebody looks for.
SearchText = Annotated[str, StringConstraints(max_length=100)]

T = TypeVar("T")


class Paged(BaseModel):
    """Part of a request for a list."""

    ids: FromQuery[IdList | None] = Field(
        default=None,
        description=f"Only these, up to {MOST_IDS}, with commas between them. What is not there is "
        "left out.",
    )
    limit: FromQuery[int] = Field(default=MOST_ITEMS, ge=1, le=MOST_ITEMS)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")

    def page(self, items: Iterable[T], key: Callable[[T], str]) -> tuple[tuple[T, ...], str | None]:
        """
        In the order of *key*, by which each is known; and where it goes on, if it does.

        Raises: ContractError.
        """
        wanted = ids_in(self.ids)
        after = _read(self.cursor) if self.cursor is not None else None
        found = sorted(
            (
                item
                for item in items
                if (wanted is None or key(item) in wanted) and (after is None or key(item) > after)
            ),
            key=key,
        )
        shown = tuple(found[: self.limit])
        more = _written(key(shown[-1])) if len(found) > len(shown) else None
        return shown, more


def ids_in(text: str | None, *, name: str = "ids") -> frozenset[str] | None:
    """None: none were said. *name*: of the parameter. Raises: ContractError for too many."""
    if text is None:
        return None
    ids = frozenset(filter(None, map(str.strip, text.split(","))))
    if len(ids) > MOST_IDS:
        raise ContractError(f"query.{name}: at most {MOST_IDS} in one request")
    return ids


def _written(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read(cursor: str) -> str:
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise ContractError("query.cursor: not one that a page of this list returned") from None
