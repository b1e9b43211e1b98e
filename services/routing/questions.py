"""A question as its face read it → the query that is decided."""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from shared.contracts.routing import DecideRoute, RouteDecision
from shared.errors import ContractError
from shared.faults import faults_in
from shared.ids import call_id
from shared.pbx.asking import LONGEST_NUMBER
from shared.pbx.lines import one_line
from shared.pbx.port import RouteQuestion


class Decides(Protocol):
    """The decider, as its faces see it."""

    async def decide(self, tenant: str, asked: DecideRoute, *, face: str) -> RouteDecision:
        """Never raises, and answers in time."""
        ...


def query_of(asked: RouteQuestion, *, tenant: str, pbx: str | None) -> DecideRoute:
    """
    Numbers are cut at 64 characters: who calls with a longer one is routed as somebody unknown.
    Only a question that names its PBX and its call is kept with the call.

    Raises: ContractError for digits or a menu that are none.
    """
    try:
        return DecideRoute(
            pbx=pbx,
            call_id=call_id(tenant, pbx, asked.call) if pbx and asked.call else None,
            did=one_line(asked.did, most=LONGEST_NUMBER),
            ivr=asked.ivr,
            caller=one_line(asked.caller, most=LONGEST_NUMBER),
            dtmf=asked.dtmf,
            collected=asked.collected,
        )
    except ValidationError as error:
        raise ContractError(f"the question cannot be read: {faults_in(error)}") from None
