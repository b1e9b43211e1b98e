"""The question as Asterisk puts it by FastAGI, and the answer as its dialplan reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.routing.questions import Decides, query_of
from shared.contracts.routing import RouteDecision
from shared.errors import Forbidden
from shared.net.guard import contains
from shared.pbx.asking import digits_of, menu_of, variables_of
from shared.pbx.asterisk.fastagi import AgiAnswer, AgiQuestion
from shared.pbx.port import RouteQuestion
from shared.site.book import SiteBook
from shared.site.pbx import AsteriskPbx

_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class FastAgiFace:
    """
    ``route/TENANT/PBX`` names who asks; plain ``route`` will do where one PBX alone asks from
    that address. Arguments, by their places:

    1. the DID, else the dialled extension;
    2. digits that the caller entered; ``-``: he was asked for some, and entered none;
    3. the menu that asks.
    """

    decider: Decides
    site: SiteBook

    def may_ask(self, peer: str) -> bool:
        return any(contains(pbx.askers, peer) for _, pbx in self.site.asterisks())

    async def decide(self, question: AgiQuestion) -> AgiAnswer:
        """
        Raises: Forbidden for a PBX that may not ask from there, ContractError for digits or a
        menu that are none. Then no variable is set, and the dialplan goes on by itself.
        """
        tenant, pbx = self._asker(question)
        asked = query_of(_read(question), tenant=tenant, pbx=pbx.name)
        decision = await self.decider.decide(tenant, asked, face="fastagi")
        return variables(decision, again=bool(asked.ivr or asked.dtmf or asked.collected))

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


def _read(question: AgiQuestion) -> RouteQuestion:
    did, digits, menu = (*question.arguments, "", "", "")[:3]
    dtmf, collected = digits_of(digits)
    return RouteQuestion(
        did=did or question.did,
        caller=question.caller,
        dtmf=dtmf,
        call=question.linkedid or None,
        ivr=menu_of(menu),
        collected=collected,
    )


def variables(decision: RouteDecision, *, again: bool) -> dict[str, str]:
    """
    As ``variables_of`` has them, without control characters, none over 200 characters. What is
    empty is left out (each variable is a turn of its own), but for who asks *again*: an earlier
    answer to the channel must not show through.
    """
    return {
        name: _UNSAFE.sub(" ", value)[:_LONGEST_VALUE]
        for name, value in variables_of(decision).items()
        if value or again or name == "CRM_DEST"
    }
