"""The question as Asterisk puts it by FastAGI, and the answer as its dialplan reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from services.routing.decider import Decider
from shared.contracts.routing import DecideRoute, RouteDecision
from shared.errors import Forbidden
from shared.ids import call_id
from shared.net.guard import contains
from shared.pbx.asterisk.fastagi import AgiAnswer, AgiQuestion
from shared.site.book import SiteBook
from shared.site.pbx import AsteriskPbx

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class FastAgiFace:
    """
    ``route/TENANT/PBX`` names who asks; plain ``route`` will do where one PBX alone asks from
    that address. Arguments: the DID (else the dialled extension), digits the caller entered,
    which are kept with the decision and read by no rule.
    """

    decider: Decider
    site: SiteBook

    def may_ask(self, peer: str) -> bool:
        return any(contains(pbx.askers, peer) for _, pbx in self.site.asterisks())

    async def decide(self, question: AgiQuestion) -> AgiAnswer:
        """Raises: Forbidden for a PBX that may not ask from there."""
        tenant, pbx = self._asker(question)
        arguments = question.arguments
        try:
            asked = DecideRoute(
                pbx=pbx.name,
                call_id=call_id(tenant, pbx.name, question.linkedid),
                did=arguments[0] if arguments and arguments[0] else question.did,
                caller=question.caller,
                dtmf=arguments[1] if len(arguments) > 1 else "",
            )
        except ValidationError:
            raise Forbidden("the digits of the second argument are none") from None
        return variables(await self.decider.decide(tenant, asked, face="fastagi"))

    def _asker(self, question: AgiQuestion) -> tuple[str, AsteriskPbx]:
        script = question.script.partition("?")[0].strip("/").split("/")
        named = tuple(script[1:3]) if script[0] == "route" else ()
        found = [
            (tenant, pbx)
            for tenant, pbx in self.site.asterisks()
            if contains(pbx.askers, question.peer) and named in {(), (tenant, pbx.name)}
        ]
        if script[0] != "route" or len(found) != 1:
            raise Forbidden(
                f"{question.peer} asked for {question.script!r}: say route/TENANT/PBX, and list the "
                "address in the PBX's `askers`"
            )
        return found[0]


def variables(decision: RouteDecision) -> dict[str, str]:
    """
    CRM_DEST ``kind:target`` (empty: no rule, the dialplan goes on), CRM_REASON, CRM_RULE,
    CRM_URL of the contact's page, and CRM_NAME where the rule says `caller_name`.
    """
    contact = decision.contact
    found = {
        "CRM_DEST": str(decision.destination) if decision.destination else "",
        "CRM_REASON": decision.reason.value,
        "CRM_RULE": decision.rule or "",
    }
    if contact is not None:
        found["CRM_URL"] = contact.page_url or ""
        if contact.display_name != contact.contact_id:
            found["CRM_NAME"] = contact.display_name
    return {name: _UNSAFE.sub(" ", value)[:_LONGEST_VALUE] for name, value in found.items()}
