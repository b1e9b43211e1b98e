"""Click-to-call."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.gateway.deps import HttpDeps
from shared.contracts.dialing import (
    CancelDial,
    DialableNumber,
    DialPage,
    DialRecord,
    DialState,
    DialWanted,
    FetchDial,
    ListDials,
    PlaceDial,
    Word,
)
from shared.errors import Conflict, ContractError, Forbidden, NotFound, Rejected, TooMany
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.lists import MOST_IDS, Cursor, IdList, ids_in
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, derived_id, new_id
from shared.moments import Instant

DialId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
#: As long as a number may be spelt.
Spelling = Annotated[str, StringConstraints(min_length=1, max_length=64)]

routes: Routes[HttpDeps] = Routes(tag="mesh")


class DialIn(DialWanted):
    """Who shall be rung, and whom to dial then."""

    model_config = ConfigDict(extra="forbid")


class DialCall(BaseModel):
    caller: FromKey[Caller]
    idempotency_key: FromHeader[str | None] = Field(
        default=None, description="The same key again is the same order.", max_length=200
    )
    body: FromBody[DialIn]


class DialReceipt(BaseModel):
    """The order is on its way; its states follow on the agent's stream and at ``/v1/dials``."""

    dial_id: str
    state: DialState = Field(description="Of an order that came again: how far it is.")
    extension: Extension
    number: DialableNumber = Field(description="As it is dialled.")
    caller_id: DialableNumber | None = Field(
        default=None, description="What the customer sees; none: as the PBX does by itself."
    )


@routes(
    "POST",
    "/v1/calls",
    scope=Scope.CALLS_DIAL,
    status=202,
    errors=(NotFound, Forbidden, Conflict, TooMany),
)
async def dial_call(deps: HttpDeps, asked: DialCall) -> DialReceipt:
    """Dial a number from an agent's phone.

    The agent's phone rings first, then the number; what may be dialled, how much of it, and which
    number the customer sees stands in the site under `dialing`. An order that cannot be handed on at
    once is refused with 503: nobody wants a phone to ring out of the blue.
    """
    caller, wanted = asked.caller, asked.body
    caller.may_act_for(wanted.extension)
    if asked.idempotency_key:
        dial_id = str(derived_id("dial", caller.tenant, caller.key_name, asked.idempotency_key))
    else:
        dial_id = str(new_id())
    # First: an order that is refused for want of its note must not have been given.
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="dial",
        subject=f"dial {dial_id} from extension {wanted.extension}",
    )
    dial = await deps.requester.request(
        PlaceDial(
            **wanted.model_dump(),
            dial_id=dial_id,
            requested_by=_by(caller),
            expires_at=deps.clock.now() + deps.dial_within,
        ),
        within=deps.ask_within,
        tenant=caller.tenant,
    )
    return DialReceipt(**dial.model_dump(include=set(DialReceipt.model_fields)))


class ReadDials(BaseModel):
    caller: FromKey[Caller]
    extension: FromQuery[Extension | None] = None
    state: FromQuery[DialState | None] = None
    under_way: FromQuery[bool | None] = Field(
        default=None, description="`true`: those that are not over; `false`: those that are."
    )
    number: FromQuery[Spelling | None] = Field(default=None, description="In any spelling.")
    requested_by: FromQuery[Word | None] = Field(
        default=None, description="`key NAME`, or `crm NAME` for a click in the CRM."
    )
    campaign: FromQuery[Word | None] = None
    shop: FromQuery[Word | None] = None
    since: FromQuery[Instant | None] = Field(default=None, description="Asked for at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Asked for before.")
    ids: FromQuery[IdList | None] = Field(
        default=None, description=f"Only these, up to {MOST_IDS}, with commas between them."
    )
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")

    def question(self) -> ListDials:
        """Raises: Forbidden for another phone than the key's, ContractError."""
        extension = self.extension or self.caller.extension
        if extension is not None:
            self.caller.may_act_for(extension)
        ids = ids_in(self.ids)
        try:
            return ListDials(
                extension=extension,
                states=(self.state,) if self.state else (),
                dial_ids=None if ids is None else tuple(sorted(ids)),
                **self.model_dump(
                    include=set(ListDials.model_fields) - {"extension", "states", "dial_ids"}
                ),
            )
        except ValidationError as error:
            raise ContractError(faults_in(error)) from None


@routes("GET", "/v1/dials", scope=Scope.CALLS_DIAL, errors=(Forbidden,), fields=("dials",))
async def read_dials(deps: HttpDeps, asked: ReadDials) -> DialPage:
    """Orders to dial, the newest first.

    All that is said must hold. A key that is bound to an extension sees those of that phone.
    """
    return await deps.requester.request(
        asked.question(), within=deps.ask_within, tenant=asked.caller.tenant
    )


class ReadDial(BaseModel):
    caller: FromKey[Caller]
    dial_id: FromPath[DialId]


@routes("GET", "/v1/dials/{dial_id}", scope=Scope.CALLS_DIAL, errors=(NotFound,), fields=("",))
async def read_dial(deps: HttpDeps, asked: ReadDial) -> DialRecord:
    """How far an order to dial has come."""
    dial = await deps.requester.request(
        FetchDial(dial_id=asked.dial_id), within=deps.ask_within, tenant=asked.caller.tenant
    )
    asked.caller.may_act_for(dial.extension)
    return dial


@routes(
    "POST",
    "/v1/dials/{dial_id}/cancel",
    scope=Scope.CALLS_DIAL,
    errors=(NotFound, Forbidden, Conflict, Rejected),
)
async def cancel_dial(deps: HttpDeps, asked: ReadDial) -> DialRecord:
    """End a dial, whatever it has come to.

    Before the PBX was asked, it never is; later the call is hung up, a conversation too. The same
    again does no harm; one that was over by itself is a 409. A PBX that cannot end calls is a 502,
    with its words.
    """
    caller = asked.caller
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="cancel_dial",
        subject=f"dial {asked.dial_id}",
    )
    return await deps.requester.request(
        CancelDial(dial_id=asked.dial_id, requested_by=_by(caller), extension=caller.extension),
        within=deps.ask_within,
        tenant=caller.tenant,
    )


def _by(caller: Caller) -> str:
    return f"key {caller.key_name}"
