"""Calls are read, and a person says who a caller is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.deps import HttpDeps
from shared.contracts.calls import CallPage, CallRecord, FetchCall, ListCalls
from shared.contracts.contacts import ContactCard, ContactResolved
from shared.errors import Forbidden, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")


class ReadCalls(BaseModel):
    caller: FromKey[Caller]
    since: FromQuery[Instant | None] = Field(default=None, description="Started at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Started before.")
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[str | None] = Field(default=None, description="`next_cursor` of a page.")


@routes("GET", "/v1/calls", scope=Scope.CALLS_READ)
async def read_calls(deps: HttpDeps, asked: ReadCalls) -> CallPage:
    """The tenant's calls, newest first."""
    return await deps.requester.request(
        ListCalls(since=asked.since, until=asked.until, limit=asked.limit, cursor=asked.cursor),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class ReadCall(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[str]


@routes("GET", "/v1/calls/{call_id}", scope=Scope.CALLS_READ, errors=(NotFound,))
async def read_call(deps: HttpDeps, asked: ReadCall) -> CallRecord:
    """One call: its legs, its contact, why it was routed as it was, its CRM entries."""
    return await deps.requester.request(
        FetchCall(call_id=asked.call_id), within=deps.ask_within, tenant=asked.caller.tenant
    )


# -- who of several is it? -------------------------------------------------------------------


class ChoiceIn(BaseModel):
    """One of the call's ``candidates``."""

    model_config = ConfigDict(extra="forbid")

    connection: Name
    module: str = Field(min_length=1, max_length=200)
    contact_id: str = Field(min_length=1, max_length=200)


class ChooseContact(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[str]
    body: FromBody[ChoiceIn]


class ChoiceReceipt(BaseModel):
    """The choice is durable; screens and the call's entry follow it."""

    call_id: str
    contact: ContactCard


@routes(
    "POST",
    "/v1/calls/{call_id}/contact",
    scope=Scope.CALLS_WRITE,
    status=202,
    errors=(NotFound,),
)
async def choose_contact(deps: HttpDeps, asked: ChooseContact) -> ChoiceReceipt:
    """Say which of several contacts a caller is.

    The last choice counts; an entry that was sent follows it where the CRM's template can change
    one. A key that is bound to an extension may choose for calls of that phone.
    """
    caller, wanted = asked.caller, asked.body
    call = await deps.requester.request(
        FetchCall(call_id=asked.call_id), within=deps.ask_within, tenant=caller.tenant
    )
    _may_choose(caller, call)
    card = next((card for card in call.candidates if _is(card, wanted)), None)
    if card is None:
        raise NotFound("This contact is not among the call's candidates.")
    # First: a choice that is refused for want of its note must not have been made.
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="choose_contact",
        subject=f"{card.module} {card.contact_id} of {card.connection} for call {call.call_id}",
    )
    chosen = ContactResolved(
        call_id=call.call_id,
        number=call.outside_number or "",
        contact=card,
        candidates=call.candidates,
        chosen_by=caller.key_name,
    )
    # Each has an id of its own: to go back to the first after the second is a choice too.
    await deps.publisher.publish(chosen, tenant=caller.tenant)
    return ChoiceReceipt(call_id=call.call_id, contact=card)


def _is(card: ContactCard, wanted: ChoiceIn) -> bool:
    return (card.connection, card.module, card.contact_id) == (
        wanted.connection,
        wanted.module,
        wanted.contact_id,
    )


def _may_choose(caller: Caller, call: CallRecord) -> None:
    """Raises: Forbidden."""
    phones = {leg.callee.extension for leg in call.legs}
    phones |= {call.caller.extension} if call.caller else set()
    if caller.extension is not None and caller.extension not in phones:
        raise Forbidden(
            f"This key is for extension {caller.extension} only, and the call was not at that phone."
        )
