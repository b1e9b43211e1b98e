"""
How FreeSWITCH asks for a route by HTTP: mod_xml_curl, which fetches a piece of dialplan, or the
application ``httapi`` within a dialplan, which fetches what to do next. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

# It only writes here; nothing that somebody sent is read as XML.
from xml.etree.ElementTree import Element, SubElement, tostring

from shared.contracts.routing import RouteDecision
from shared.errors import ContractError
from shared.pbx.port import RawHook, RouteQuestion, RouteReply

#: Contexts that calls are sent to, one for each kind of destination: ``crm_to_queue``.
PLACES = "crm_to_"
_XML = "text/xml"
#: All headers and variables of a channel are 10 to 30 kB.
_MOST_BYTES = 1024 * 1024
_MOST_FIELDS = 5_000
_LONGEST = 256
_CONTEXT = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGITS = re.compile(r"[0-9*#A-D]{0,32}")
#: A dollar or a brace in the dialplan would be expanded, and could run a command of the PBX's.
_PAGE = re.compile(r"https?://[A-Za-z0-9._~:/?#@!&+=%;,-]{1,500}")
_UNSAFE = re.compile(r"[^\w .+@'-]")


class RouteByHttp:
    """The RouteFace: which of the two forms it is, the parameters tell."""

    def question(self, request: RawHook) -> RouteQuestion:
        """Raises: ContractError."""
        asked = _fields(request)
        if _is_httapi(asked):
            if asked.get("exiting") == "true":
                raise ContractError("httapi says that the call is over, and asks for nothing")
        elif asked.get("section", "dialplan") != "dialplan":
            raise ContractError(
                f"xml_curl asks for {asked['section']!r:.40}: bind its URL to `dialplan` alone"
            )
        did = _first(asked, "crm_did", "Hunt-Destination-Number", "Caller-Destination-Number")
        if not did:
            raise ContractError("a question without Caller-Destination-Number or crm_did")
        digits = _first(asked, "crm_digits")
        call = _first(asked, "Channel-Call-UUID", "Unique-ID", "session_id") or None
        return RouteQuestion(
            did=_number(did),
            caller=_number(
                _first(asked, "crm_caller", "Hunt-Caller-ID-Number", "Caller-Caller-ID-Number")
            ),
            dtmf=digits if _DIGITS.fullmatch(digits) else "",
            # Who is on his way to a place was routed already.
            call=None if _context(asked).startswith(PLACES) else call,
        )

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        asked = _fields(request)
        document = _work(decision) if _is_httapi(asked) else _dialplan(decision, _context(asked))
        return RouteReply(_XML, tostring(document, encoding="utf-8", xml_declaration=True))


def _dialplan(decision: RouteDecision, context: str) -> Element:
    """In the context that was asked for; FreeSWITCH takes none of another."""
    document = Element("document", {"type": "freeswitch/xml"})
    target = decision.destination
    if target is None or context.startswith(PLACES) or not _CONTEXT.fullmatch(context):
        # The documented "go on with your own files".
        section = SubElement(document, "section", {"name": "result"})
        SubElement(section, "result", {"status": "not found"})
        return document
    section = SubElement(document, "section", {"name": "dialplan"})
    within = SubElement(section, "context", {"name": context})
    extension = SubElement(within, "extension", {"name": "callmesh"})
    condition = SubElement(extension, "condition")
    for name, value in variables(decision).items():
        _action(condition, "set", f"{name}={value}")
    _action(condition, "transfer", _transfer(decision))
    return document


def _action(condition: Element, application: str, data: str) -> None:
    SubElement(condition, "action", {"application": application, "data": data})


def _work(decision: RouteDecision) -> Element:
    """Needs the permissions ``set-vars`` and ``execute-apps`` of the httapi profile."""
    document = Element("document", {"type": "xml/freeswitch-httapi"})
    told = SubElement(document, "variables")
    for name, value in variables(decision).items():
        SubElement(told, name).text = value
    work = SubElement(document, "work")
    if decision.destination is None:
        SubElement(work, "break")
    else:
        data = {"application": "transfer", "data": _transfer(decision)}
        SubElement(work, "execute", data)
    return document


def _transfer(decision: RouteDecision) -> str:
    target = decision.destination
    return f"{target.target} XML {PLACES}{target.kind}" if target else ""


def variables(decision: RouteDecision) -> dict[str, str]:
    """
    crm_dest ``kind:target``, crm_reason, crm_rule, and of a caller who was found crm_url, the
    contact's page, and crm_name. None holds anything that a dialplan expands.
    """
    contact = decision.contact
    found = {
        "crm_dest": str(decision.destination or ""),
        "crm_reason": decision.reason.value,
        "crm_rule": decision.rule or "",
    }
    if contact is not None:
        page = contact.page_url or ""
        found["crm_url"] = page if _PAGE.fullmatch(page) else ""
        if contact.display_name != contact.contact_id:
            found["crm_name"] = _UNSAFE.sub(" ", contact.display_name)[:200]
    return {name: value for name, value in found.items() if value}


def _fields(request: RawHook) -> Mapping[str, str]:
    """Of the address and of the form that was posted; the form's hold."""
    found = dict(request.query)
    if request.body:
        if len(request.body) > _MOST_BYTES:
            raise ContractError(f"a question over {_MOST_BYTES} bytes")
        try:
            posted = parse_qsl(
                request.body.decode("utf-8", "replace"),
                keep_blank_values=True,
                max_num_fields=_MOST_FIELDS,
            )
        except ValueError:
            raise ContractError(f"a question with over {_MOST_FIELDS} fields") from None
        found |= dict(posted)
    return found


def _is_httapi(asked: Mapping[str, str]) -> bool:
    return "session_id" in asked and "section" not in asked


def _context(asked: Mapping[str, str]) -> str:
    return _first(asked, "Hunt-Context", "Caller-Context")


def _first(asked: Mapping[str, str], *names: str) -> str:
    return next((found for name in names if (found := asked.get(name))), "")[:_LONGEST]


def _number(text: str) -> str:
    """A plus sign that somebody did not encode has become a blank."""
    return f"+{text[1:]}" if text[:1] == " " and text[1:].isdigit() else text.strip()
