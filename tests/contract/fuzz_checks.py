"""What of our own is checked of every answer that schemathesis gets; it reads this file itself."""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import negative_data_rejection

from shared.secrets import PREFIX

#: Of a language or library of ours: nobody outside shall see it.
_INNARDS = re.compile(
    rf"{PREFIX}[A-Za-z0-9_=-]|Traceback|pydantic|ValidationError|bytearray|sqlite3|pymongo|0x[0-9a-f]{{8}}"
)
#: They leave empty what they do not have: `as=`.
_OF_DIALPLANS = "/v1/route"


@schemathesis.check
def wrong_heads_are_refused(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """
    Paths, queries and headers that the document forbids. Of bodies the document is stricter than we
    are: a site file has `yes` for true and 10 for ten seconds, and who says them by the API is
    understood.
    """
    if _is_of_the_body(case) or case.operation.path == _OF_DIALPLANS:
        return None
    return negative_data_rejection(ctx, response, case)


@schemathesis.check
def innards_are_not_shown(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    text = response.content.decode(errors="replace")
    if found := _INNARDS.search(text):
        raise AssertionError(f"the answer has {found[0]!r}")


def _is_of_the_body(case: Case[Any]) -> bool:
    if case.meta is None:
        return False
    return any(
        place.name == "BODY" and info.mode.is_negative
        for place, info in case.meta.components.items()
    )
