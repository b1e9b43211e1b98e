"""Orders in the words of FreeSWITCH's API. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from shared.contracts.agents import AgentStatus
from shared.errors import ContractError, Rejected
from shared.pbx.freeswitch.channels import CLICK_VARIABLE, NUMBER_VARIABLE
from shared.pbx.port import AgentAt, DialRequest

#: Words of a command that need no quotes and mean nothing else.
_WORD = re.compile(r"[A-Za-z0-9_+*#.@:-]{1,256}")
#: A dollar expands, braces, brackets and pipes are syntax, a caret sets other separators; what
#: a quote would do inside quotes, no version agrees on.
_UNSAFE = re.compile(r"[^\w +*#.@:/-]")
#: Statuses that mod_callcenter has. It knows no status of who is on the telephone.
_STATUSES = {
    AgentStatus.FREE: "Available",
    AgentStatus.BREAK: "On Break",
    AgentStatus.DINNER: "On Break",
    AgentStatus.OFFLINE: "Logged Out",
}


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


def agent_status(agent: AgentAt, status: AgentStatus, *, queue_domain: str) -> str:
    """Raises: Rejected for a status that mod_callcenter has not, ContractError."""
    known = _STATUSES.get(status)
    if known is None:
        raise Rejected(f"mod_callcenter has no status for {status.value}")
    name = agent.user or f"{agent.extension}@{queue_domain}"
    return f"callcenter_config agent set status {word(name)} '{known}'"


def word(text: str) -> str:
    """Raises: ContractError for anything but one plain word."""
    if not _WORD.fullmatch(text):
        raise ContractError(f"{text!r:.80} cannot be part of a command for FreeSWITCH")
    return text
