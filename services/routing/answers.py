"""A decision as the HTTP face answers with it: text, JSON or XML. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

# It only writes here; nothing that somebody sent is read as XML.
from xml.etree.ElementTree import Element, SubElement, tostring

from shared.contracts.routing import RouteDecision
from shared.http.routes import InForms
from shared.pbx.asking import variables_of, way_of
from shared.pbx.lines import one_line

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: Characters that XML 1.0 knows no way to write.
_NOT_IN_XML = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 1000
#: Element → the variable of the channel that holds the same. Without a value there is no element.
_SAID = {
    "greeting": "CRM_GREETING",
    "rule": "CRM_RULE",
    "cause": "CRM_CAUSE",
    "priority": "CRM_PRIORITY",
    "voicemail": "CRM_VOICEMAIL",
}
_OF_THE_CONTACT = {"name": "CRM_NAME", "url": "CRM_URL"}


class RouteAnswer(RouteDecision, InForms):
    """
    As text: ``kind:target``; ``greeting:RECORDING`` where the caller is asked for digits first;
    nothing where no rule is set for the call.
    """

    def as_text(self) -> str:
        return way_of(self)

    def as_xml(self) -> str:
        """What a PBX acts on, of an element each; the trace is in the JSON."""
        root = Element("route")
        if (to := self.destination) is not None:
            place = SubElement(root, "destination", {"kind": to.kind, "target": to.target})
            place.text = str(to)
        SubElement(root, "reason").text = self.reason
        told = variables_of(self)
        _say(root, told, _SAID)
        if (card := self.contact) is not None:
            found = SubElement(
                root, "contact", {"module": _fit(card.module), "id": _fit(card.contact_id)}
            )
            _say(found, told, _OF_THE_CONTACT)
        for name, value in self.attributes.items():
            SubElement(root, "attribute", {"name": _fit(name)}).text = _fit(value)
        return _DECLARATION + tostring(root, encoding="unicode")


def _say(where: Element, told: Mapping[str, str], what: Mapping[str, str]) -> None:
    for element, variable in what.items():
        if told[variable]:
            SubElement(where, element).text = _fit(told[variable])


def _fit(text: str) -> str:
    return one_line(_NOT_IN_XML.sub(" ", text), most=_LONGEST)
