"""
The question of the Call Flow Designer's component `HTTP Request`. Pure.

What it asks with is written by the PBX's administrator, so several names are taken for each
thing, in the query, a form or JSON. It is answered in JSON, or with ``format=text`` in the words of
`/v1/route`: one text that a `Condition` can compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson

from shared.contracts.routing import RouteDecision
from shared.errors import ContractError
from shared.pbx.asking import LONGEST_NUMBER, digits_of, menu_of, variables_of, way_of
from shared.pbx.port import RawHook, RouteQuestion, RouteReply
from shared.pbx.yeastar import fields

_DID = ("did", "to", "dialled", "called", "flowNum")
_CALLER = ("from", "ani", "caller", "callernum")
_DTMF = ("dtmf", "digits", "userInput")
_CALL = ("callid", "call_id", "call")
_MENU = ("ivr", "menu")
#: Who entered nothing leaves ``dtmf`` empty, as who was not asked does.
_COLLECTED = ("collected",)
_LONGEST_BODY = 16 * 1024
_MOST_FIELDS = 50
_YES = frozenset({"1", "true", "yes"})


class YeastarRoute:
    """A :class:`RouteFace`."""

    def question(self, request: RawHook) -> RouteQuestion:
        asked = _asked(request)
        did = _first(asked, _DID)
        if did is None:
            raise ContractError("say which number was called: did=$Session.did")
        dtmf, collected = digits_of(_first(asked, _DTMF) or "")
        return RouteQuestion(
            did=did[:LONGEST_NUMBER],
            caller=(_first(asked, _CALLER) or "")[:LONGEST_NUMBER],
            dtmf=dtmf,
            call=_first(asked, _CALL),
            ivr=menu_of(_first(asked, _MENU) or ""),
            collected=collected or (_first(asked, _COLLECTED) or "").lower() in _YES,
        )

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        """Without a destination and a greeting all are empty: the call flow goes its own way."""
        to, told = decision.destination, variables_of(decision)
        if _asked_for_text(request):
            return RouteReply("text/plain; charset=utf-8", way_of(decision).encode())
        body = {
            "destination": way_of(decision),
            "kind": str(to.kind) if to else "",
            "target": to.target if to else "",
            "reason": str(decision.reason),
            "greeting": told["CRM_GREETING"],
            "name": told["CRM_NAME"],
            "url": told["CRM_URL"],
            "priority": told["CRM_PRIORITY"],
            "voicemail": told["CRM_VOICEMAIL"],
            "attributes": decision.attributes,
        }
        return RouteReply("application/json", orjson.dumps(body))


def _asked_for_text(request: RawHook) -> bool:
    return request.query.get("format", "").strip().lower() == "text"


def _asked(request: RawHook) -> dict[str, str]:
    """The body before the query. Raises: ContractError."""
    if len(request.body) > _LONGEST_BODY:
        raise ContractError("a question has no more than 16 KiB")
    found = dict(request.query)
    if not request.body.strip():
        return found
    if "form-urlencoded" in request.content_type.lower():
        found.update(_form(request.body))
        return found
    for name, value in fields.load(request.body, "the question").items():
        if (text := fields.text(value)) is not None:
            found[name] = text
    return found


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise ContractError("the question's form cannot be read") from None


def _first(asked: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := fields.text(asked.get(name)))), None)
