"""What was said in a call, told by who listened to it: a person, or a service of speech."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.gateway.calls.reading import may_speak_of
from services.gateway.deps import HttpDeps
from shared.contracts.calls import CallSummarised, FetchCall, Summary, Text, Transcription
from shared.errors import NotFound
from shared.http.auth import Caller, Scope
from shared.http.lists import Id
from shared.http.routes import FromBody, FromKey, FromPath, Routes

_SOME = StringConstraints(min_length=1)

routes: Routes[HttpDeps] = Routes(tag="mesh")


class SummaryIn(BaseModel):
    """At least one of them; what is left out stays as it was told before."""

    model_config = ConfigDict(extra="forbid")

    summary: Annotated[Summary, _SOME] | None = Field(default=None, description="In short.")
    transcription: Annotated[Transcription, _SOME] | None = Field(
        default=None, description="Word by word."
    )
    sentiment: Annotated[Text, _SOME] | None = Field(
        default=None, description="How it was said: `positive`, `0.8`."
    )

    @model_validator(mode="after")
    def says_something(self) -> Self:
        if not (self.summary or self.transcription or self.sentiment):
            raise ValueError("summary, transcription or sentiment is missing")
        return self


class SummariseCall(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]
    body: FromBody[SummaryIn]


class SummaryReceipt(BaseModel):
    """What was said is durable; the call's entries follow it."""

    call_id: str


@routes(
    "POST",
    "/v1/calls/{call_id}/summary",
    scope=Scope.CALLS_WRITE,
    status=202,
    errors=(NotFound,),
)
async def summarise_call(deps: HttpDeps, asked: SummariseCall) -> SummaryReceipt:
    """Say what was said in a call.

    The last word counts; an entry that was sent follows it where the CRM's template can change one.
    A key that is bound to an extension may do so for calls of that phone.
    """
    caller, said = asked.caller, asked.body
    call = await deps.requester.request(
        FetchCall(call_id=asked.call_id), within=deps.ask_within, tenant=caller.tenant
    )
    may_speak_of(deps, caller, call)
    if call.pbx is None:
        raise NotFound("No PBX has told of this call yet.")
    # First: what is refused for want of its note must not have been told.
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="summarise_call",
        subject=f"{', '.join(sorted(said.model_fields_set))} of call {call.call_id}",
    )
    told = CallSummarised(call_id=call.call_id, pbx=call.pbx, **said.model_dump())
    # Each has an id of its own: to go back to the first after the second is news, too.
    await deps.publisher.publish(told, tenant=caller.tenant)
    return SummaryReceipt(call_id=call.call_id)
