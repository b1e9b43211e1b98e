"""
What all ways of asking for a route have in common: how digits and menus are read, and what a PBX
is told beside the destination. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from shared.contracts.routing import Destination, DestinationKind, RouteDecision, Tone
from shared.errors import ContractError

#: A PBX's own words stand in place of a number now and then; no number is as long.
LONGEST_NUMBER = 64
#: In place of digits: the caller was asked for some, and entered none.
NONE_ENTERED: Final = "-"
_DIGITS = re.compile(r"[0-9*#A-D]{0,32}")
_MENU = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"CRM_[A-Z0-9_]{1,40}")


def digits_of(text: str) -> tuple[str, bool]:
    """The digits, and whether the caller was asked and entered none. Raises: ContractError."""
    if text == NONE_ENTERED:
        return "", True
    if not _DIGITS.fullmatch(text):
        raise ContractError(
            "the digits are none: send up to 32 of 0-9, *, #, A-D, or - for a caller who was "
            "asked and entered nothing"
        )
    return text, False


def menu_of(text: str) -> str | None:
    """None of an empty text: no menu asks. Raises: ContractError."""
    if text and not _MENU.fullmatch(text):
        raise ContractError(
            "ivr is no name of a menu: send one as a rule's `ivrs` has it, small letters, digits, "
            "- and _, at most 64"
        )
    return text or None


def way_of(decision: RouteDecision) -> str:
    """``queue:support``, ``hangup:busy``, ``greeting:welcome``; empty: the PBX goes on by itself."""
    if decision.destination is not None:
        return str(decision.destination)
    return f"greeting:{decision.greeting}" if decision.greeting else ""


def tone_of(destination: Destination | None) -> Tone | None:
    """None for everything but a hangup."""
    if destination is None or destination.kind is not DestinationKind.HANGUP:
        return None
    return Tone(destination.target)


def variables_of(decision: RouteDecision) -> dict[str, str]:
    """
    What goes to the channel. Our own names are always there, empty where there is nothing to say;
    the rule's attributes follow them.

    Nothing is cleaned: names and addresses are as the CRM has them.
    """
    contact, tone = decision.contact, tone_of(decision.destination)
    # A contact without a name shows its id.
    named = contact is not None and contact.display_name != contact.contact_id
    ours = {
        "CRM_DEST": str(decision.destination or ""),
        "CRM_REASON": decision.reason.value,
        "CRM_RULE": decision.rule or "",
        "CRM_URL": (contact.page_url or "") if contact else "",
        "CRM_NAME": contact.display_name if contact and named else "",
        "CRM_GREETING": decision.greeting or "",
        "CRM_PRIORITY": "" if decision.priority is None else str(decision.priority),
        "CRM_VOICEMAIL": _yes_or_no(decision.voicemail),
        "CRM_CAUSE": "" if tone is None else str(tone.cause),
    }
    return ours | {
        name: value
        for name, value in decision.attributes.items()
        if name not in ours and _VARIABLE.fullmatch(name)
    }


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
