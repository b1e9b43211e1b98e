"""
"Interactive call processing": where a scenario asks us for the way, and how it wants the answer.

A scenario knows numbers to call and branches of its own, no extensions or queues: the settings say
which destination is which. Pure.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.contracts.routing import Destination, DestinationKind, RouteDecision
from shared.errors import ContractError
from shared.pbx.port import RawHook, RouteQuestion, RouteReply
from shared.pbx.uis.fields import fields_of
from shared.pbx.uis.parties import is_session
from shared.pbx.uis.settings import UisSettings

_NUMBER = re.compile(r"\+?[0-9]{2,20}")
_DTMF = re.compile(r"[0-9*#A-D]{0,32}")
#: A caller's number, or a word for a withheld one.
_LONGEST_NUMBER = 64


@dataclass(frozen=True, slots=True)
class UisRoute:
    settings: UisSettings

    def question(self, request: RawHook) -> RouteQuestion:
        """``cdr_id`` names a leg; only ``call_session_id``, where it is sent, names the call."""
        fields = fields_of(request)
        did = fields.text("numb")
        if did is None:
            raise ContractError(
                "numb, the number that was called, is missing: let the scenario's operation send "
                "cdr_id, start_time, input_result, numa and numb"
            )
        digits = fields.text("input_result") or ""
        call = fields.text("call_session_id")
        return RouteQuestion(
            did=did[:_LONGEST_NUMBER],
            caller=(fields.text("numa") or "")[:_LONGEST_NUMBER],
            dtmf=digits if _DTMF.fullmatch(digits) else "",
            call=call if call is not None and is_session(call) else None,
        )

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        """An empty object where the scenario has no such way: it goes on by its own default."""
        answer = self._answer(decision.destination)
        return RouteReply("application/json; charset=UTF-8", json.dumps(answer).encode())

    def _answer(self, destination: Destination | None) -> dict[str, Any]:
        settings = self.settings
        if destination is not None:
            if (code := settings.branches.get(str(destination))) is not None:
                return {"returned_code": code}
            number = settings.numbers.get(str(destination))
            if number is None and destination.kind is DestinationKind.EXTERNAL:
                number = destination.target
            if number is not None and _NUMBER.fullmatch(number):
                return {"phones": [number.removeprefix("+")]}
        if settings.default_branch is not None:
            return {"returned_code": settings.default_branch}
        return {}
