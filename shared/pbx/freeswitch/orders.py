"""Orders in the words of FreeSWITCH's API. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Rejected
from shared.pbx.freeswitch.channels import CLICK_VARIABLE, NUMBER_VARIABLE
from shared.pbx.port import AgentAt, DialRequest
from shared.pbx.statuses import StatusWords

#: Words of a command that need no quotes and mean nothing else.
_WORD = re.compile(r"[A-Za-z0-9_+*#.@:-]{1,256}")
#: A dollar expands, braces, brackets and pipes are syntax, a caret sets other separators; what
#: a quote would do inside quotes, no version agrees on.
_UNSAFE = re.compile(r"[^\w +*#.@:/-]")
#: Statuses that mod_callcenter has. It knows no status of who is on the telephone.
STATUSES: Mapping[AgentStatus, str] = {
    AgentStatus.FREE: "Available",
    AgentStatus.BREAK: "On Break",
    AgentStatus.DINNER: "On Break",
    AgentStatus.OFFLINE: "Logged Out",
}
_ON_DEMAND = "Available (On Demand)"
#: All that there are, as it takes them: to the letter.
_TAKEN = {word.lower(): word for word in (*STATUSES.values(), _ON_DEMAND)}
#: By far more than a FreeSWITCH has calls.
_MOST_ROWS = 20_000


def originate(order: DialRequest, *, channel: str, domain: str | None, context: str) -> str:
    """
    Rings the agent as *channel*, then sends him to the number in *context*.

    Raises: ContractError for an extension or a name that cannot be said in a command.
    """
    seconds = max(1, round(order.ring_for / timedelta(seconds=1)))
    told = {
        "origination_uuid": channel,
        # What the agent's phone shows while it rings.
        "origination_caller_id_number": order.number,
        "origination_caller_id_name": f"Call {order.number}",
        "originate_timeout": str(seconds),
        "ignore_early_media": "true",
        CLICK_VARIABLE: order.reference,
        NUMBER_VARIABLE: order.number,
    }
    if order.caller_id is not None:
        # What the customer's phone shows: `bridge` takes it from the channel that dials.
        told["effective_caller_id_number"] = order.caller_id
        told["effective_caller_id_name"] = order.caller_id
    phone = word(order.extension) + (f"@{word(domain)}" if domain else "")
    number, place = word(order.number), word(context)
    return f"originate {{{assignments(told)}}}user/{phone} {number} XML {place}"


def assignments(variables: Mapping[str, str]) -> str:
    """``name=value,…`` within braces. What would end a value or begin another becomes a blank."""
    return ",".join(f"{name}={_value(value)}" for name, value in variables.items())


def _value(text: str) -> str:
    if any(c in text for c in "\r\n\x00"):
        raise ContractError("a value for the PBX holds a line break")
    safe = _UNSAFE.sub(" ", text)
    return f"'{safe}'" if " " in safe else safe


def words_of(site: Mapping[AgentStatus, str] | None) -> StatusWords:
    """*site*: what the site says in place of mod_callcenter's own words."""
    return StatusWords(preset=STATUSES, site=site or {}, heard={_ON_DEMAND: AgentStatus.FREE})


def status_word(words: StatusWords, status: AgentStatus, own: str | None) -> str:
    """As mod_callcenter takes it. Raises: Rejected for what it has not."""
    said = words.word(status, own)
    if said is None:
        raise Rejected(
            f"mod_callcenter has no status for {status.value}: say in `statuses` of the PBX which "
            f"of {', '.join(sorted(_TAKEN.values()))} it shall be"
        )
    known = _TAKEN.get(said.strip().lower())
    if known is None:
        raise Rejected(
            f"mod_callcenter has no status {said!r:.60}: it has {', '.join(sorted(_TAKEN.values()))}"
        )
    return known


def agent_status(agent: AgentAt, known: str, *, queue_domain: str) -> str:
    """*known* as :func:`status_word` says it. Raises: ContractError."""
    name = agent.user or f"{agent.extension}@{queue_domain}"
    return f"callcenter_config agent set status {word(name)} '{known}'"


def channels_of(listed: Mapping[str, Any], channel: str) -> list[str]:
    """
    Those of the call that began with *channel*, that first: of ``show channels as json``. What was
    made for it has its id as ``call_uuid``, also when it is gone itself.
    """
    rows = listed.get("rows")
    found = [channel]
    for row in rows[:_MOST_ROWS] if isinstance(rows, list) else []:
        uuid = row.get("uuid") if isinstance(row, dict) else None
        if isinstance(uuid, str) and uuid != channel and row.get("call_uuid") == channel:
            found.append(uuid)
    return found


def word(text: str) -> str:
    """Raises: ContractError for anything but one plain word."""
    if not _WORD.fullmatch(text):
        raise ContractError(f"{text!r:.80} cannot be part of a command for FreeSWITCH")
    return text
