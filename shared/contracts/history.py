"""
Questions about calls that were: a call as one flat row, filters over its fields, counts.

:class:`CallRow` is the vocabulary of filters, of chosen fields and of exports.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from shared.contracts.calls import CallPage, Direction, Disposition, EndKnown, HangupBy
from shared.contracts.columns import Columns, Kind, Operator, nearest
from shared.contracts.envelope import Query, contract
from shared.contracts.routing import RouteReason
from shared.ids import Extension, Name
from shared.moments import Instant

#: What an administrator writes by hand has five tests.
MAX_TESTS = 50
MAX_DEPTH = 5
MAX_IDS = 500
MAX_ROWS = 500


class CallRow(BaseModel):
    """A call in one row. What is not known is null; lengths of time are in seconds."""

    model_config = ConfigDict(frozen=True)

    call_id: str = Field(description="Our id of the call.")
    pbx: str | None = Field(default=None, description="The PBX connection that saw it.")
    pbx_call_id: str | None = Field(default=None, description="The PBX's own id of it.")
    dial_id: str | None = Field(default=None, description="The click-to-call order behind it.")
    direction: Direction | None = Field(default=None, description="As seen from the company.")
    disposition: Disposition | None = Field(
        default=None, description="What became of it; null while it lasts."
    )
    number: Annotated[str | None, Kind.PHONE] = Field(
        default=None,
        description="The outside party's: who called, or whom an outbound call was for.",
    )
    caller: Annotated[str | None, Kind.PHONE] = Field(
        default=None, description="The caller's number."
    )
    caller_extension: str | None = Field(
        default=None, description="The phone that called, where it is one of ours."
    )
    caller_name: str | None = Field(default=None, description="As the PBX shows the caller.")
    dialled: Annotated[str | None, Kind.PHONE] = Field(
        default=None, description="The DID of an inbound call, else the number dialled."
    )
    queue: str | None = Field(default=None, description="The first queue that it waited in.")
    started_at: Instant = Field(description="When it began, or when it was first heard of.")
    answered_at: Instant | None = Field(default=None, description="When it was first picked up.")
    ended_at: Instant | None = Field(default=None, description="Null while it lasts.")
    wait_s: float = Field(default=0, description="From the first ring or queue to the answer.")
    talk_s: float = Field(default=0, description="In conversation, without holds.")
    hold_s: float = Field(default=0, description="On hold.")
    duration_s: float = Field(default=0, description="From its start to its end; 0 while it lasts.")
    extensions: tuple[str, ...] = Field(
        default=(), description="Every phone of ours that had to do with it, the caller's too."
    )
    agents: tuple[str, ...] = Field(default=(), description="Phones of ours that it was put to.")
    answered_by: tuple[str, ...] = Field(
        default=(), description="Extensions, else numbers, that picked it up."
    )
    transfers: int = Field(default=0, description="How many.")
    recordings: int = Field(default=0, description="How many.")
    contact_connection: str | None = Field(default=None, description="The CRM connection.")
    contact_module: str | None = Field(default=None, description="The CRM's contact type.")
    contact_id: str | None = Field(default=None, description="The CRM's id of the contact.")
    contact_name: str | None = Field(default=None, description="As the CRM shows the contact.")
    contact_known: bool | None = Field(
        default=None, description="Whether a CRM knows the number; null: it could not be asked."
    )
    candidates: int = Field(default=0, description="Contacts that have the number, where several.")
    chosen_by: str | None = Field(
        default=None, description="The API key by which a person chose the contact."
    )
    rule: str | None = Field(default=None, description="The routing rule that decided.")
    destination: str | None = Field(
        default=None, description="Where it was routed to, such as `queue:support`."
    )
    route_reason: RouteReason | None = Field(default=None, description="Why there.")
    hangup_by: HangupBy | None = Field(default=None, description="Who ended it.")
    end_known: EndKnown | None = Field(
        default=None, description="How the end is known; other than `seen`: reconciled."
    )
    summary: str | None = Field(default=None, description="What was said in it, in short.")
    sentiment: str | None = Field(default=None, description="As who tells it calls it.")
    entries: tuple[str, ...] = Field(
        default=(), description="What became of it in each CRM: `zoho:sent`, `zoho:dead`."
    )


COLUMNS = Columns.of(CallRow)
#: Fields that every call has a value in: nothing is lost in a list that is ordered by one of them.
SORTABLE = ("started_at", "call_id", *COLUMNS.having(Kind.NUMBER))


class CallFilter(BaseModel):
    """
    One test (`field`, `operator`, `value`); or several parts in `filters`, of which all (`and`) or
    one (`or`) must hold. A field without a value passes `!=` and `not_in`, and else only `is_null`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str | None = Field(default=None, max_length=100, description="Of a call's row.")
    operator: Operator = Operator.EQ
    value: JsonValue = None
    filters: tuple[CallFilter, ...] | None = Field(default=None, max_length=MAX_TESTS)
    condition: Literal["and", "or"] = "and"

    @model_validator(mode="after")
    def can_be_asked(self) -> Self:
        if self.filters is not None:
            if self.field is not None or self.value is not None:
                raise ValueError("a test, or `filters`: not both")
            self._is_small_enough()
        elif self.field is None:
            raise ValueError("say `field`, `operator` and `value`; or `filters`, a list of such")
        else:
            COLUMNS.named(self.field).value(self.operator, self.value)
        return self

    @property
    def depth(self) -> int:
        return 1 + max((part.depth for part in self.filters or ()), default=0)

    @property
    def tests(self) -> int:
        return 1 if self.filters is None else sum(part.tests for part in self.filters)

    def _is_small_enough(self) -> None:
        # A test is no level of its own.
        if self.depth - 1 > MAX_DEPTH:
            raise ValueError(f"filters stand in filters more than {MAX_DEPTH} deep")
        if self.tests > MAX_TESTS:
            raise ValueError(f"{self.tests} tests; at most {MAX_TESTS} in one question")


class WhichCalls(BaseModel):
    """All that is said must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: CallFilter | None = None
    call_ids: tuple[Annotated[str, StringConstraints(max_length=200)], ...] | None = Field(
        default=None, max_length=MAX_IDS, description="Only these; left out: all."
    )
    extension: Extension | None = Field(
        default=None, description="Only calls that this phone had to do with."
    )
    pbx: Name | None = Field(default=None, description="Only calls that this PBX saw.")


def _are_fields(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        COLUMNS.named(name)
    if len(set(names)) < len(names):
        raise ValueError("a field stands there twice")
    return names


def _is_sortable(name: str) -> str:
    if name not in SORTABLE:
        raise ValueError(
            f"calls are not sorted by `{name}`{nearest(name, SORTABLE)}; "
            f"there are: {', '.join(SORTABLE)}"
        )
    return name


#: The fields of rows that are wanted, in their order; none: all.
Fields = Annotated[tuple[str, ...], Field(max_length=100), AfterValidator(_are_fields)]
Sort = Annotated[str, Field(max_length=100), AfterValidator(_is_sortable)]
Cursor = Annotated[str, StringConstraints(max_length=2000)]


class CallRows(BaseModel):
    rows: tuple[dict[str, JsonValue], ...] = Field(
        description="Each with the fields that were asked for."
    )
    next_cursor: str | None = Field(
        default=None, description="There is more: pass it on. A page may be short, also empty."
    )


@contract("calls.search", version=1, answer=CallRows)
class SearchCalls(Query[CallRows]):
    """Rows of the tenant's calls that pass a filter, under way or over."""

    which: WhichCalls = WhichCalls()
    fields: Fields = ()
    sort: Sort = "started_at"
    descending: bool = True
    limit: int = Field(default=50, ge=1, le=MAX_ROWS)
    cursor: Cursor | None = None


@contract("calls.find", version=1, answer=CallPage)
class FindCalls(Query[CallPage]):
    """The tenant's calls that pass a filter, as wholes, newest first."""

    which: WhichCalls = WhichCalls()
    limit: int = Field(default=50, ge=1, le=MAX_ROWS)
    cursor: Cursor | None = None


class CallCount(BaseModel):
    count: int


@contract("calls.count", version=1, answer=CallCount)
class CountCalls(Query[CallCount]):
    """How many of the tenant's calls pass a filter?"""

    which: WhichCalls = WhichCalls()
