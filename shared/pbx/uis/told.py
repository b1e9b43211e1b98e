"""What a notification says that happened: in our word, or in the vendor's names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from shared.errors import ContractError
from shared.pbx.uis.fields import Fields


class Told(StrEnum):
    """What ``event`` may say."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    RINGING = "ringing"
    ANSWERED = "answered"
    TALK_ENDED = "talk_ended"
    ENDED = "ended"
    LOST = "lost"
    RECORDING = "recording"
    #: Of no call: an employee's.
    STATUS = "status"


_OURS = {str(told): told for told in Told}
#: Names of the vendor's event types, as its pages and other people's templates write them.
_VENDORS: Mapping[str, Told] = {
    "inbound_call_on_a_virtual_phone_number": Told.INCOMING,
    "inbound_call": Told.INCOMING,
    "in_call_session": Told.INCOMING,
    "outbound_call": Told.OUTGOING,
    "out_call_session": Told.OUTGOING,
    "waiting_for_the_answer": Told.RINGING,
    "waiting_for_an_answer": Told.RINGING,
    "waiting_for_answer": Told.RINGING,
    "waiting_for_a_reply": Told.RINGING,
    "talk_started": Told.ANSWERED,
    "call_connected": Told.ANSWERED,
    "talk_finished": Told.TALK_ENDED,
    "call_finished": Told.ENDED,
    "end_of_call": Told.ENDED,
    "end_call": Told.ENDED,
    "call_ending": Told.ENDED,
    "call_session_finished": Told.ENDED,
    "lost_call": Told.LOST,
    "call_recording_completed": Told.RECORDING,
    "record_ready": Told.RECORDING,
    "employee_status": Told.STATUS,
    "employee_status_changed": Told.STATUS,
    "employee_status_change": Told.STATUS,
    "change_of_employee_status": Told.STATUS,
    "change_employee_status": Told.STATUS,
    "changing_employee_status": Told.STATUS,
}


def told_by(fields: Fields) -> Told:
    """Raises: ContractError."""
    names = [
        name
        for key in ("event", "notification_mnemonic", "notification_name")
        if (name := fields.text(key)) is not None
    ]
    for name in names:
        word = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if (found := _OURS.get(word) or _VENDORS.get(word)) is not None:
            return found
    if not names:
        raise ContractError(
            f'the notification does not say what happened: write "event": "…" into its body, one '
            f"of {', '.join(Told)}"
        )
    raise ContractError(
        f'no event of a call is called {names[0]!r}: write "event": "…" into the body of this '
        f"notification, one of {', '.join(Told)}"
    )
