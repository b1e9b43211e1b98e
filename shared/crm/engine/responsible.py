"""Who the CRM says is responsible for a number, and free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.orders import Reply
from shared.crm.engine.pages import refuse_without_list
from shared.crm.form.responsible import ManagerRequest
from shared.crm.language.functions import plain_text
from shared.crm.port import FreeManager, Priority
from shared.errors import Unavailable
from shared.phone import PhoneNumber, spellings

#: An id of the CRM's; a longer one is none.
_LONGEST_ID = 200
_LONGEST_EXTENSION = 10


async def free_manager(
    requests: CrmRequests,
    asked: ManagerRequest,
    number: PhoneNumber,
    *,
    formats: Sequence[str],
    within: timedelta,
    priority: Priority,
) -> FreeManager | None:
    """
    One spelling after the other, until an answer names somebody.

    Raises: as CrmRequests.ask; Unavailable for an answer that is none.
    """
    for variables in _asked(asked, number, formats):
        reply = await requests.ask(
            asked.request, variables, within=within, priority=priority, searching=True
        )
        if reply is None or reply.nothing:
            continue
        if (found := _read(requests, asked, reply, variables)) is not None:
            return found
    return None


def _read(
    requests: CrmRequests, asked: ManagerRequest, reply: Reply, variables: Mapping[str, Any]
) -> FreeManager | None:
    def at(path: str | None) -> Any:
        return requests.at(reply.value, path, variables) if path else None

    refuse_without_list(reply.value, asked.user_id or asked.extension or "")
    if asked.answered is not None and at(asked.answered) is None:
        raise Unavailable(f"the CRM's answer has nothing at {asked.answered}")
    user_id, extension = _word(at(asked.user_id)), _word(at(asked.extension))
    if len(user_id) > _LONGEST_ID:
        user_id = ""
    if not is_extension(extension):
        extension = ""
    if not (user_id or extension):
        return None
    return FreeManager(user_id=user_id or None, extension=extension or None)


def is_extension(text: str) -> bool:
    """Whether it is dialled inside: what else a CRM has there is some outside number."""
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_EXTENSION


def _asked(
    asked: ManagerRequest, number: PhoneNumber, formats: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The variables of each request; none of a caller without a number."""
    forms = spellings(number, asked.formats or formats)
    known = {"Number": number.key, "Phones": list(forms)}
    each = forms if "Phone" in asked.request.used else forms[:1]
    for form in each:
        yield {**known, "Phone": form}


def _word(value: Any) -> str:
    """Nothing for a list, an object, yes and no."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return plain_text(value).strip()
