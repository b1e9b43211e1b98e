"""Click-to-call."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as Invalid

from services.gateway.deps import HttpDeps
from shared.contracts.dialing import DialableNumber, DialNumber, DialRecord, DialState, FetchDial
from shared.errors import ContractError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, Routes
from shared.ids import Extension, Name, derived_id, new_id

_DIALABLE: TypeAdapter[str] = TypeAdapter(DialableNumber)
_PUNCTUATION = re.compile(r"[\s().\-/]")

routes: Routes[HttpDeps] = Routes(tag="mesh")


class DialIn(BaseModel):
    """Who shall be rung, and whom to dial then."""

    model_config = ConfigDict(extra="forbid")

    extension: Extension = Field(description="The agent's phone; it rings first.")
    number: str = Field(
        description="The number to dial; spaces and punctuation are taken out.", max_length=64
    )
    pbx: Name | None = Field(default=None, description="Where there are several.")


class DialCall(BaseModel):
    caller: FromKey[Caller]
    idempotency_key: FromHeader[str | None] = Field(
        default=None, description="The same key again is the same order.", max_length=200
    )
    body: FromBody[DialIn]


class DialReceipt(BaseModel):
    """The order is on its way; its states follow on the agent's stream and at ``/v1/dials``."""

    dial_id: str
    state: DialState


@routes("POST", "/v1/calls", scope=Scope.CALLS_DIAL, status=202, errors=(NotFound,))
async def dial_call(deps: HttpDeps, asked: DialCall) -> DialReceipt:
    """Dial a number from an agent's phone.

    The agent's phone rings first, then the number. An order that cannot be handed on at once is
    refused with 503 and forgotten: nobody wants a phone to ring out of the blue.
    """
    caller, wanted = asked.caller, asked.body
    caller.may_act_for(wanted.extension)
    site = deps.site.site(caller.tenant)
    if site is None or site.agent_at(wanted.extension) is None:
        raise NotFound(f"Extension {wanted.extension} is not one of this tenant's agents.")
    now = deps.clock.now()
    if asked.idempotency_key:
        dial_id = str(derived_id("dial", caller.tenant, caller.key_name, asked.idempotency_key))
    else:
        dial_id = str(new_id())
    order = DialNumber(
        dial_id=dial_id,
        extension=wanted.extension,
        number=_dialable(wanted.number),
        requested_at=now,
        pbx=wanted.pbx,
        expires_at=now + deps.dial_within,
    )
    # First: an order that is refused for want of its note must not have been given.
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="dial",
        subject=f"dial {dial_id} from extension {wanted.extension}",
    )
    await deps.publisher.publish(order, tenant=caller.tenant, key=dial_id)
    return DialReceipt(dial_id=dial_id, state=DialState.REQUESTED)


class ReadDial(BaseModel):
    caller: FromKey[Caller]
    dial_id: FromPath[str]


@routes("GET", "/v1/dials/{dial_id}", scope=Scope.CALLS_DIAL, errors=(NotFound,))
async def read_dial(deps: HttpDeps, asked: ReadDial) -> DialRecord:
    """How far an order to dial has come."""
    dial = await deps.requester.request(
        FetchDial(dial_id=asked.dial_id), within=deps.ask_within, tenant=asked.caller.tenant
    )
    asked.caller.may_act_for(dial.extension)
    return dial


def _dialable(number: str) -> str:
    """Raises: ContractError."""
    try:
        return _DIALABLE.validate_python(_PUNCTUATION.sub("", number))
    except Invalid:
        raise ContractError(
            "body.number: a number to dial is 2 to 20 digits, with a plus sign in front if need be"
        ) from None
