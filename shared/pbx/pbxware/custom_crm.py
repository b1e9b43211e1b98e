"""
PBXware's "Custom CRM": ``{URL}?field_name={CRM_FIELD_NAME}&dtmf={DTMF}``, or the same names as
JSON in a POST. It compares the value that it gets with the rows of its routing rule. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from shared.errors import ContractError
from shared.pbx.lines import one_line, text_of
from shared.pbx.port import RawHook, RouteReply

#: "API Name" of a field; the paths of our templates are of the same characters.
_FIELD = re.compile(r"[A-Za-z0-9_.]{1,100}")
_DTMF = re.compile(r"[0-9*#A-D]{0,32}")
#: What an administrator may have called it: its example has no caller's number.
_CALLER_NAMES = ("from", "caller", "callerid", "phone", "number")
_LONGEST_NUMBER = 64
_LONGEST_VALUE = 1000
_MAX_BODY_BYTES = 16 * 1024
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class CustomCrmQuestion:
    """*dtmf*: what the caller typed; *caller*: the calling number; each empty where not sent."""

    field: str
    dtmf: str = ""
    caller: str = ""


def parse_question(hook: RawHook) -> CustomCrmQuestion:
    """
    GET with a query or POST with JSON; of a name in both the body's counts.

    Raises: ContractError.
    """
    said = {name.lower(): value for name, value in hook.query.items()}
    said.update({name.lower(): value for name, value in _body(hook).items()})
    field = text_of(said.get("field_name"))
    if not field:
        raise ContractError(
            "field_name is missing: set `CRM Field Name` in the routing rule of PBXware"
        )
    if not _FIELD.fullmatch(field):
        raise ContractError(
            "field_name is no name of a field: letters, digits, _ and . only, at most 100"
        )
    dtmf = text_of(said.get("dtmf"))
    if not _DTMF.fullmatch(dtmf):
        raise ContractError("dtmf is not what a phone can type: at most 32 of 0-9, *, #, A-D")
    caller = next((found for name in _CALLER_NAMES if (found := text_of(said.get(name)))), "")
    if len(caller) > _LONGEST_NUMBER:
        raise ContractError(f"the caller's number is longer than {_LONGEST_NUMBER} characters")
    return CustomCrmQuestion(field=field, dtmf=dtmf, caller=caller)


def render_value(value: JsonValue, *, as_json: bool) -> RouteReply:
    """
    The value on one line, or ``{"value": …}``. No value is an empty text with status 200: PBXware
    takes the rule's default destination then, as it does for a value that no row matches.
    """
    text = _line(value)
    if not as_json:
        return RouteReply(_TEXT, text.encode())
    plain = value if isinstance(value, int | float) and not isinstance(value, bool) else text
    if isinstance(plain, float) and not text:
        plain = text
    return RouteReply(_JSON, json.dumps({"value": plain}, ensure_ascii=False).encode())


def _body(hook: RawHook) -> Mapping[str, Any]:
    if len(hook.body) > _MAX_BODY_BYTES:
        raise ContractError(f"the body has more than {_MAX_BODY_BYTES} bytes")
    if not hook.body.strip():
        return {}
    try:
        found = json.loads(hook.body)
    except (ValueError, RecursionError):
        raise ContractError("the body is no JSON") from None
    if not isinstance(found, dict):
        raise ContractError("the body is JSON, but no object")
    return found


def _line(value: JsonValue) -> str:
    """A list is its items; an object, and a number that is none, are no value."""
    match value:
        case None | dict():
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            items = (_line(item) for item in value if not isinstance(item, list))
            return ", ".join(filter(None, items))[:_LONGEST_VALUE]
        case float():
            if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124  NaN is not itself
                return ""
            return str(int(value)) if value.is_integer() else str(value)
        case _:
            return one_line(str(value), most=_LONGEST_VALUE)
