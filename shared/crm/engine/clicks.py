"""What a CRM's telephony module asks of us and tells us, out of its requests' parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from multidict import MultiMapping

from shared.contracts.agents import AgentStatus
from shared.crm.form.telephony import ClickQuery, Query, Statuses, StatusQuery
from shared.crm.port import ClickAsked, StatusAsked
from shared.errors import ContractError

#: Characters of a parameter.
_LONGEST = 200
_LONGEST_NUMBER = 64
_LONGEST_WORD = 100
#: As an extension of the site is written.
_EXTENSION = re.compile(r"[A-Za-z0-9_.*#-]{1,32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: A plus sign that was not escaped arrives as a space.
_LOST_PLUS = re.compile(r"^ (?=[0-9])")


def read_click(query: ClickQuery, given: Mapping[str, str]) -> ClickAsked:
    """Raises: ContractError."""
    number = _number(given, query.number)
    if not number:
        raise ContractError(f"the request has no number to be called: {query.number} is missing")
    client_id, extension, user_id = _whose(query, given)
    return ClickAsked(
        client_id=client_id,
        number=number,
        extension=extension,
        user_id=user_id,
        own_number=_number(given, query.own_number) or None,
        shop=_text(given, query.shop) or None,
    )


def read_status(
    statuses: Statuses, given: Mapping[str, str], words: Mapping[AgentStatus, str]
) -> StatusAsked:
    """Raises: ContractError, also for a word that nobody knows; one without a `query`."""
    query = statuses.query
    if query is None:
        raise ContractError("the template does not say how a status is read")
    client_id, extension, user_id = _whose(query, given)
    own = _text(given, query.status, longest=_LONGEST_WORD)
    return StatusAsked(
        client_id=client_id,
        status=_status(statuses, query, own, words),
        own=own,
        extension=extension,
        user_id=user_id,
    )


def status_word(
    statuses: Statuses, status: AgentStatus, words: Mapping[AgentStatus, str]
) -> str | None:
    return words.get(status) or statuses.words.get(status)


def _status(
    statuses: Statuses, query: StatusQuery, own: str, words: Mapping[AgentStatus, str]
) -> AgentStatus:
    """
    Where one word stands for several of ours, the one of which the template says it: an agent who
    went offline may be told as one on a break, and a break is heard as a break.
    """
    meant = [one for one in AgentStatus if own and status_word(statuses, one, words) == own]
    if meant:
        return next((one for one in meant if statuses.words.get(one) == own), meant[0])
    if (heard := statuses.heard.get(own)) is not None:
        return heard
    known = sorted({*statuses.words.values(), *words.values(), *statuses.heard})
    raise ContractError(
        f"{query.status} is none of {', '.join(known)}: add the word to `status.words` of the "
        "connection"
    )


def _whose(query: Query, given: Mapping[str, str]) -> tuple[str, str | None, str | None]:
    """The client's id, the extension, the user; an extension that is none does not count."""
    client_id = _text(given, query.client_id)
    if not client_id:
        raise ContractError(f"the request does not say who sends it: {query.client_id} is missing")
    extension: str | None = _text(given, query.extension)
    if not _EXTENSION.fullmatch(extension or ""):
        extension = None
    user_id = _text(given, query.user_id) or None
    if extension is None and user_id is None:
        names = " or ".join(filter(None, (query.extension, query.user_id)))
        raise ContractError(f"the request does not say whose phone is meant: {names} is missing")
    return client_id, extension, user_id


def _number(given: Mapping[str, str], name: str | None) -> str:
    text = _LOST_PLUS.sub("+", _raw(given, name, longest=_LONGEST_NUMBER)).strip()
    if text and not any(sign.isdecimal() for sign in text):
        raise ContractError(f"{name} is no phone number: it has no digit")
    return text


def _text(given: Mapping[str, str], name: str | None, *, longest: int = _LONGEST) -> str:
    return _raw(given, name, longest=longest).strip()


def _raw(given: Mapping[str, str], name: str | None, *, longest: int) -> str:
    """Empty where it is not there. What it says is in no error: it may be a secret."""
    if name is None:
        return ""
    if isinstance(given, MultiMapping) and len(given.getall(name, [])) > 1:
        raise ContractError(f"the request has {name} more than once")
    text = given.get(name, "")
    if len(text) > longest:
        raise ContractError(f"{name} is longer than {longest} characters")
    if _CONTROL.search(text):
        raise ContractError(f"{name} holds a control character")
    return text
