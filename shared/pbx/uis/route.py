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
from shared.pbx.asking import LONGEST_NUMBER, menu_of, way_of
from shared.pbx.port import RawHook, RouteQuestion, RouteReply
from shared.pbx.uis.fields import fields_of
from shared.pbx.uis.parties import is_session
from shared.pbx.uis.settings import UisSettings

_NUMBER = re.compile(r"\+?[0-9]{2,20}")
_DTMF = re.compile(r"[0-9*#A-D]{0,32}")


@dataclass(frozen=True, slots=True)
class UisRoute:
    settings: UisSettings

    def question(self, request: RawHook) -> RouteQuestion:
        """
        ``cdr_id`` names a leg; only ``call_session_id``, where it is sent, names the call. ``ivr``
        and ``collected`` are ours, for the address that the operation asks at.
        """
        fields = fields_of(request)
        did = fields.text("numb")
        if did is None:
            raise ContractError(
                "numb, the number that was called, is missing: let the scenario's operation send "
                "cdr_id, start_time, input_result, numa and numb"
            )
        digits = fields.text("input_result") or ""
        dtmf = digits if _DTMF.fullmatch(digits) else ""
        call = fields.text("call_session_id")
        return RouteQuestion(
            did=did[:LONGEST_NUMBER],
            caller=(fields.text("numa") or "")[:LONGEST_NUMBER],
            dtmf=dtmf,
            call=call if call is not None and is_session(call) else None,
            ivr=menu_of(fields.text("ivr") or ""),
            # What is no digits was an answer too: he is not asked again.
            collected=(bool(digits) and not dtmf) or bool(fields.flag("collected")),
        )

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        """An empty object where the scenario has no such way: it goes on by its own default."""
        answer = self._answer(decision)
        return RouteReply("application/json; charset=UTF-8", json.dumps(answer).encode())

    def _answer(self, decision: RouteDecision) -> dict[str, Any]:
        settings, way, destination = self.settings, way_of(decision), decision.destination
        if (code := settings.branches.get(way)) is not None:
            return {"returned_code": code}
        number = settings.numbers.get(way)
        if number is None and destination is not None and _is_outside(destination):
            number = destination.target
        if number is not None and _NUMBER.fullmatch(number):
            return {"phones": [number.removeprefix("+")]}
        if settings.default_branch is not None:
            return {"returned_code": settings.default_branch}
        return {}


def _is_outside(destination: Destination) -> bool:
    return destination.kind is DestinationKind.EXTERNAL
