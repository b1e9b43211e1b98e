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

from shared.contracts.routing import RouteDecision, Tone
from shared.errors import ContractError
from shared.pbx.asking import menu_of, tone_of, variables_of
from shared.pbx.port import RawHook, RouteQuestion, RouteReply

#: Contexts that calls are sent to, one for each kind of destination: ``crm_to_queue``. The number
#: that was called goes to ``crm_to_greeting``, which takes the caller's digits and asks again.
PLACES = "crm_to_"
GREETING = f"{PLACES}greeting"
#: The tones of a hangup, by FreeSWITCH's names of their causes.
_CAUSES = {
    Tone.BUSY: "USER_BUSY",
    Tone.CONGESTION: "NORMAL_CIRCUIT_CONGESTION",
    Tone.UNOBTAINABLE: "UNALLOCATED_NUMBER",
    Tone.NONE: "NORMAL_CLEARING",
}
_XML = "text/xml"
#: All headers and variables of a channel are 10 to 30 kB.
_MOST_BYTES = 1024 * 1024
_MOST_FIELDS = 5_000
_LONGEST = 256
_CONTEXT = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGITS = re.compile(r"[0-9*#A-D]{0,32}")
_DIALLED = re.compile(r"[A-Za-z0-9_+*#.-]{1,64}")
#: A dollar or a brace in the dialplan would be expanded, and could run a command of the PBX's.
_PAGE = re.compile(r"https?://[A-Za-z0-9._~:/?#@!&+=%;,-]{1,500}")
#: Nor a comma: between the braces of a dial string it begins another setting.
_UNSAFE = re.compile(r"[^\w .:/+*#@'-]")
_LONGEST_VALUE = 200


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
        dtmf = digits if _DIGITS.fullmatch(digits) else ""
        call = _first(asked, "Channel-Call-UUID", "Unique-ID", "session_id") or None
        return RouteQuestion(
            did=_number(did),
            caller=_number(
                _first(asked, "crm_caller", "Hunt-Caller-ID-Number", "Caller-Caller-ID-Number")
            ),
            dtmf=dtmf,
            # Who is on his way to a place was routed already.
            call=None if _context(asked).startswith(PLACES) and not _is_httapi(asked) else call,
            ivr=menu_of(_first(asked, "crm_ivr")),
            # `-`, or what is no digits: he was asked, and is not asked again.
            collected=bool(digits) and not dtmf,
        )

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        asked = _fields(request)
        ordered = _order(decision, self.question(request).did)
        document = (
            _work(decision, ordered)
            if _is_httapi(asked)
            else _dialplan(decision, ordered, _context(asked))
        )
        return RouteReply(_XML, tostring(document, encoding="utf-8", xml_declaration=True))


def _order(decision: RouteDecision, did: str) -> tuple[str, str] | None:
    """The application that takes the call on, and what it is told; None: none does."""
    if (tone := tone_of(decision.destination)) is not None:
        return "hangup", _CAUSES[tone]
    if (target := decision.destination) is not None:
        return "transfer", f"{target.target} XML {PLACES}{target.kind}"
    if decision.greeting and _DIALLED.fullmatch(did):
        return "transfer", f"{did} XML {GREETING}"
    return None


def _dialplan(decision: RouteDecision, ordered: tuple[str, str] | None, context: str) -> Element:
    """In the context that was asked for; FreeSWITCH takes none of another."""
    document = Element("document", {"type": "freeswitch/xml"})
    if ordered is None or context.startswith(PLACES) or not _CONTEXT.fullmatch(context):
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
    _action(condition, *ordered)
    return document


def _action(condition: Element, application: str, data: str) -> None:
    SubElement(condition, "action", {"application": application, "data": data})


def _work(decision: RouteDecision, ordered: tuple[str, str] | None) -> Element:
    """Needs the permissions ``set-vars`` and ``execute-apps`` of the httapi profile."""
    document = Element("document", {"type": "xml/freeswitch-httapi"})
    told = SubElement(document, "variables")
    for name, value in variables(decision).items():
        SubElement(told, name).text = value
    work = SubElement(document, "work")
    match ordered:
        case None:
            SubElement(work, "break")
        case "hangup", cause:
            SubElement(work, "hangup", {"cause": cause})
        case application, data:
            SubElement(work, "execute", {"application": application, "data": data})
    return document


def variables(decision: RouteDecision) -> dict[str, str]:
    """
    As ``variables_of`` has them, in small letters: crm_dest, crm_reason … None holds anything that
    a dialplan expands; an empty one takes the variable off the channel.
    """
    page = decision.contact.page_url if decision.contact else None
    found = {
        name.lower(): _UNSAFE.sub(" ", value)[:_LONGEST_VALUE]
        for name, value in variables_of(decision).items()
    }
    return found | {"crm_url": page if page and _PAGE.fullmatch(page) else ""}


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
