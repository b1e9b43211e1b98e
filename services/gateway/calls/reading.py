"""Calls are read, and a person says who a caller is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from services.gateway.calls.history import pbx_of_phone, readable
from services.gateway.deps import HttpDeps
from shared.contracts.calls import CallPage, CallRecord, Direction, Disposition, FetchCall
from shared.contracts.columns import Operator
from shared.contracts.contacts import ContactCard, ContactResolved
from shared.contracts.history import (
    MAX_IDS,
    MAX_ROWS,
    CallFilter,
    Cursor,
    FindCalls,
    WhichCalls,
)
from shared.errors import ContractError, Forbidden, NotFound
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.lists import Id
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, Name
from shared.moments import Instant, to_text

routes: Routes[HttpDeps] = Routes(tag="mesh")


Value = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ReadCalls(BaseModel):
    caller: FromKey[Caller]
    since: FromQuery[Instant | None] = Field(default=None, description="Started at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Started before.")
    direction: FromQuery[Direction | None] = None
    disposition: FromQuery[Disposition | None] = Field(
        default=None, description="What became of it."
    )
    under_way: FromQuery[bool | None] = Field(
        default=None, description="`true`: those that have not ended; `false`: those that have."
    )
    number: FromQuery[Value | None] = Field(
        default=None, description="The outside party's, in any spelling."
    )
    did: FromQuery[Value | None] = Field(
        default=None, description="The number that was dialled, in any spelling."
    )
    extension: FromQuery[Extension | None] = Field(
        default=None, description="A phone that had to do with it."
    )
    queue: FromQuery[Value | None] = None
    pbx: FromQuery[Name | None] = None
    contact: FromQuery[Value | None] = Field(default=None, description="The CRM's id of it.")
    entry: FromQuery[Value | None] = Field(
        default=None, description="What became of it in a CRM: `zoho:dead`."
    )
    ids: FromQuery[Annotated[str, StringConstraints(max_length=20_000)] | None] = Field(
        default=None, description=f"Of up to {MAX_IDS} calls, with commas between them."
    )
    limit: FromQuery[int] = Field(default=50, ge=1, le=MAX_ROWS)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")

    def which(self) -> WhichCalls:
        """Raises: ContractError."""
        wanted: list[tuple[str, Operator, JsonValue]] = [
            ("started_at", Operator.GE, to_text(self.since) if self.since else None),
            ("started_at", Operator.LT, to_text(self.until) if self.until else None),
            ("direction", Operator.EQ, self.direction),
            ("disposition", Operator.EQ, self.disposition),
            ("ended_at", Operator.IS_NULL, self.under_way),
            ("number", Operator.EQ, self.number),
            ("dialled", Operator.EQ, self.did),
            ("queue", Operator.EQ, self.queue),
            ("pbx", Operator.EQ, self.pbx),
            ("contact_id", Operator.EQ, self.contact),
            ("entries", Operator.HAS, self.entry),
        ]
        tests = [
            CallFilter(field=field, operator=operator, value=value)
            for field, operator, value in wanted
            if value is not None
        ]
        ids = None if self.ids is None else tuple(filter(None, map(str.strip, self.ids.split(","))))
        try:
            return WhichCalls(
                filter=CallFilter(filters=tuple(tests)) if tests else None,
                call_ids=ids,
                extension=self.extension,
            )
        except ValidationError as error:
            raise ContractError(faults_in(error).replace("call_ids", "query.ids")) from None


@routes("GET", "/v1/calls", scope=Scope.CALLS_READ, fields=("calls",))
async def read_calls(deps: HttpDeps, asked: ReadCalls) -> CallPage:
    """The tenant's calls, newest first, under way or over.

    All that is said must hold; for more, search. A page may be short where there is more: go on
    while there is `next_cursor`. A key that is bound to an extension sees the calls of that phone.
    """
    return await deps.requester.request(
        FindCalls(
            which=readable(deps, asked.caller, asked.which()),
            limit=asked.limit,
            cursor=asked.cursor,
        ),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class ReadCall(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]


@routes("GET", "/v1/calls/{call_id}", scope=Scope.CALLS_READ, errors=(NotFound,), fields=("",))
async def read_call(deps: HttpDeps, asked: ReadCall) -> CallRecord:
    """One call: its legs, its contact, why it was routed as it was, its CRM entries."""
    call = await deps.requester.request(
        FetchCall(call_id=asked.call_id), within=deps.ask_within, tenant=asked.caller.tenant
    )
    may_speak_of(deps, asked.caller, call)
    return call


# -- who of several is it? -------------------------------------------------------------------


class ChoiceIn(BaseModel):
    """One of the call's ``candidates``."""

    model_config = ConfigDict(extra="forbid")

    connection: Name
    module: str = Field(min_length=1, max_length=200)
    contact_id: str = Field(min_length=1, max_length=200)


class ChooseContact(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]
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
    may_speak_of(deps, caller, call)
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


def may_speak_of(deps: HttpDeps, caller: Caller, call: CallRecord) -> None:
    """Raises: Forbidden for a key that is bound to a phone at which the call was not, Unavailable."""
    there = pbx_of_phone(deps, caller)
    phones = {leg.callee.extension for leg in call.legs}
    phones |= {call.caller.extension} if call.caller else set()
    is_elsewhere = there is not None and call.pbx != there
    if caller.extension is not None and (is_elsewhere or caller.extension not in phones):
        raise Forbidden(
            f"This key is for extension {caller.extension} only, and the call was not at that phone."
        )
