from __future__ import annotations

import json
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, JsonValue, ValidationError

import shared.contracts  # noqa: F401  its import fills the registry
from shared.contracts.agents import AgentStatus, SetAgentStatus
from shared.contracts.calls import CallEnded, CallRinging, CallStarted, Party
from shared.contracts.columns import Operator
from shared.contracts.contacts import (
    ContactChanged,
    ContactResolved,
    ContactUnknown,
    FindContact,
    SyncUsers,
)
from shared.contracts.envelope import (
    REGISTRY,
    Contract,
    Event,
    Message,
    Query,
    contract,
    decode,
    decode_known,
    wrap,
)
from shared.contracts.history import (
    COLUMNS,
    MAX_DEPTH,
    MAX_ROWS,
    SORTABLE,
    CallFilter,
    SearchCalls,
    WhichCalls,
)
from shared.contracts.routing import CallRouted, Destination, RouteDecision, RouteReason
from shared.errors import ContractError
from shared.ids import derived_id
from shared.testing.builders import NOON, a_call, a_contact

SYNC = SyncUsers(connection="zoho")


def sent(body: Contract, **options: Any) -> Message[Any]:
    known: dict[str, Any] = {"source": "ingest", "tenant": "acme", "occurred_at": NOON}
    return wrap(body, **(known | options))


def edited(edit: Callable[[dict[str, Any]], None]) -> bytes:
    """A good ``calls.started`` with one thing changed."""
    document = json.loads(sent(a_call()).encode())
    edit(document)
    return json.dumps(document).encode()


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for name in above:
            document = document[name]
        document[last] = value

    return edit


def removing(path: str) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for name in above:
            document = document[name]
        del document[last]

    return edit


# -- a value of any model -----------------------------------------------------------------------

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)
_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    timedelta: st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    AwareDatetime: st.datetimes(
        datetime(1970, 1, 1),  # noqa: DTZ001  hypothesis takes naive bounds and adds the zone
        datetime(2199, 1, 1),  # noqa: DTZ001  the same
        timezones=st.just(UTC),
    ),
    UUID: st.uuids(),
    JsonValue: json_values,
}


def values_of(kind: Any, limits: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Values of the annotation *kind*: only what our contracts use; the rest is an error."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values_of(args[0], (*args[1:], *limits))
    if origin in {Union, types.UnionType}:
        return st.one_of(*(values_of(arg) for arg in args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values_of(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(values_of(args[0]), values_of(args[1]), max_size=2)
    return plain_values_of(kind, limits)


def plain_values_of(kind: Any, limits: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    if issubclass(kind, BaseModel):
        return models_of(kind)
    if kind is str:
        if pattern := bound(limits, "pattern"):
            return st.from_regex(pattern.strip("^$"), fullmatch=True)
        most = min(bound(limits, "max_length") or 8, 8)
        return st.text(min_size=bound(limits, "min_length") or 0, max_size=most)
    assert kind is int, f"no values for {kind}"
    return st.integers(bound(limits, "ge"), bound(limits, "le"))


def bound(limits: tuple[Any, ...], name: str) -> Any:
    return next((found for one in limits if (found := getattr(one, name, None)) is not None), None)


_TESTS = st.sampled_from(
    [
        CallFilter(field="disposition", value="missed"),
        CallFilter(field="talk_s", operator=Operator.GT, value=1.5),
        CallFilter(field="entries", operator=Operator.HAS, value=["zoho:dead"]),
        CallFilter(field="ended_at", operator=Operator.IS_NULL, value=True),
    ]
)
#: Models of which not all that their types allow is valid.
_SPECIAL: dict[type[BaseModel], st.SearchStrategy[Any]] = {
    # A hangup has one of a few tones.
    Destination: st.sampled_from(["queue:support", "extension:101", "hangup:busy"]).map(
        Destination.parse
    ),
    CallFilter: st.recursive(
        _TESTS,
        lambda inner: st.builds(
            CallFilter,
            filters=st.lists(inner, max_size=2).map(tuple),
            condition=st.sampled_from(["and", "or"]),
        ),
        max_leaves=4,
    ).filter(lambda found: found.depth <= MAX_DEPTH),
}


def models_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    if model in _SPECIAL:
        return _SPECIAL[model]
    if model is SearchCalls:
        return st.builds(
            SearchCalls,
            which=models_of(WhichCalls),
            fields=st.lists(st.sampled_from(list(COLUMNS.by_name)), unique=True).map(tuple),
            sort=st.sampled_from(SORTABLE),
            descending=st.booleans(),
            limit=st.integers(1, MAX_ROWS),
        )
    fields = {
        name: values_of(field.annotation, tuple(field.metadata))
        for name, field in model.model_fields.items()
    }
    return st.fixed_dictionaries(
        {name: fields[name] for name, field in model.model_fields.items() if field.is_required()},
        optional={n: s for n, s in fields.items() if not model.model_fields[n].is_required()},
    ).map(model.model_validate)


each_contract = pytest.mark.parametrize(
    "kind", REGISTRY.values(), ids=lambda kind: str(kind.wire_name())
)


# -- wrap: identity -----------------------------------------------------------------------------


def test_without_a_key_or_a_cause_a_message_is_a_new_one() -> None:
    assert sent(SYNC).id != sent(SYNC).id


def test_the_same_key_gives_the_same_message() -> None:
    assert sent(a_call(), key="main/1/started").id == sent(a_call(), key="main/1/started").id


def test_the_id_of_a_key_is_derived_from_tenant_contract_and_key() -> None:
    """Other ids would double what is on the way during an update."""
    assert sent(a_call(), key="k").id == derived_id("acme", "calls.started.v1", "k")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"key": "other"}, id="another key"),
        pytest.param({"key": "k", "tenant": "other"}, id="another tenant"),
    ],
)
def test_another_key_or_tenant_gives_another_message(other: dict[str, Any]) -> None:
    assert sent(a_call(), **other).id != sent(a_call(), key="k").id


def test_the_same_key_of_another_contract_gives_another_message() -> None:
    ended = CallEnded(call_id="c1", pbx="main")

    assert sent(ended, key="k").id != sent(a_call(), key="k").id


def test_a_handler_that_runs_twice_publishes_the_same_message() -> None:
    cause = sent(a_call())
    unknown = ContactUnknown(call_id="c1", number="1")

    assert sent(unknown, cause=cause).id == sent(unknown, cause=cause).id


@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param(ContactUnknown(call_id="c1", number="1"), "zoho", id="with a key"),
        pytest.param(SYNC, None, id="of another contract"),
    ],
)
def test_consequences_of_one_cause_are_told_apart(body: Contract, key: str | None) -> None:
    cause = sent(a_call())
    first = sent(ContactUnknown(call_id="c1", number="1"), cause=cause)

    assert sent(body, cause=cause, key=key).id != first.id


def test_the_same_key_below_another_cause_is_another_message() -> None:
    one, other = sent(a_call()), sent(a_call())

    assert sent(SYNC, cause=one, key="k").id != sent(SYNC, cause=other, key="k").id


def test_a_consequence_names_its_cause() -> None:
    cause = sent(a_call())

    assert sent(SYNC, cause=cause).causation == cause.id


def test_a_message_without_a_cause_has_none() -> None:
    assert sent(SYNC).causation is None


# -- wrap: tenant, correlation, the rest --------------------------------------------------------


def test_a_consequence_stays_in_the_tenant_of_its_cause() -> None:
    assert sent(SYNC, cause=sent(a_call()), tenant=None).tenant == "acme"


def test_a_consequence_cannot_leave_the_tenant_of_its_cause() -> None:
    with pytest.raises(ValueError, match="cannot lead into other"):
        sent(SYNC, cause=sent(a_call()), tenant="other")


def test_a_message_without_a_cause_names_its_tenant() -> None:
    with pytest.raises(ValueError, match="names its tenant"):
        sent(SYNC, tenant=None)


@pytest.mark.parametrize("tenant", ["", "Acme", "a.b", "#"])
def test_a_tenant_that_is_none_is_refused(tenant: str) -> None:
    with pytest.raises(ValidationError):
        sent(SYNC, tenant=tenant)


def test_all_messages_of_one_call_share_their_correlation() -> None:
    ringing = CallRinging(
        call_id="c1", pbx="main", leg_id="1", callee=Party(extension="101"), caller=Party()
    )
    resolved = ContactResolved(call_id="c1", number="1", contact=a_contact())

    assert (
        sent(a_call()).correlation
        == sent(ringing).correlation
        == sent(resolved, cause=sent(ringing)).correlation
        == derived_id("subject", "acme", "c1")
    )


@pytest.mark.parametrize("other", [{"tenant": "other"}, {}])
def test_another_call_or_tenant_is_another_story(other: dict[str, Any]) -> None:
    call = a_call() if other else a_call(call_id="c2")

    assert sent(call, **other).correlation != sent(a_call()).correlation


def test_a_message_without_a_subject_belongs_to_the_story_of_its_cause() -> None:
    cause = sent(a_call())

    assert sent(SYNC, cause=cause).correlation == cause.correlation


def test_a_message_without_a_subject_or_a_cause_begins_a_story() -> None:
    message = sent(SYNC)

    assert message.correlation == message.id


def test_a_message_is_the_first_delivery_of_its_contract() -> None:
    message = sent(a_call(), traceparent="00-a-b-01")

    assert (message.type, message.version, message.attempt) == ("calls.started", 1, 1)
    assert (message.source, message.traceparent) == ("ingest", "00-a-b-01")
    assert message.occurred_at == NOON


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValidationError):
        sent(SYNC, occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001  the naive time is the point


# -- there and back -----------------------------------------------------------------------------


@each_contract
@given(st.data())
@settings(deadline=None, max_examples=15)
def test_what_was_encoded_is_decoded(kind: type[Contract], data: st.DataObject) -> None:
    message = sent(data.draw(models_of(kind)), key=data.draw(st.none() | st.just("k")))

    assert decode(message.encode(), kind, tenant="acme") == message


@each_contract
@given(st.data())
@settings(deadline=None, max_examples=5)
def test_what_we_wrote_is_read_whichever_it_is(kind: type[Contract], data: st.DataObject) -> None:
    message = sent(data.draw(models_of(kind)), cause=sent(a_call()))

    assert decode_known(message.encode()) == message


@pytest.mark.parametrize(
    "kind",
    [kind for kind in REGISTRY.values() if issubclass(kind, Query)],
    ids=lambda kind: str(kind.wire_name()),
)
@given(st.data())
@settings(deadline=None, max_examples=5)
def test_an_answer_is_read_back(kind: type[Query[Any]], data: st.DataObject) -> None:
    answer = data.draw(models_of(kind.answer_model))

    assert kind.answer_model.model_validate_json(answer.model_dump_json()) == answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            ContactResolved(call_id="c", number="1", contact=a_contact(fields={"Tier": None})),
            id="a field without a value",
        ),
        pytest.param(
            CallRouted(
                call_id="c",
                pbx="main",
                did="1",
                decision=RouteDecision(reason=RouteReason.NO_ROW_MATCHED, value={"Tier": None}),
            ),
            id="an object with one",
        ),
    ],
)
def test_a_null_of_the_crm_stays_a_null(body: Contract) -> None:
    """That a field is empty is something else than that it was not asked for."""
    message = sent(body)

    assert decode(message.encode(), type(body), tenant="acme") == message


def test_what_is_not_set_is_not_sent() -> None:
    sent_keys = json.loads(sent(a_call()).encode())

    assert "causation" not in sent_keys
    assert "dial_id" not in sent_keys["body"]


def test_text_and_bytes_are_read_alike() -> None:
    data = sent(a_call()).encode()

    assert decode(data.decode(), CallStarted, tenant="acme") == decode(
        data, CallStarted, tenant="acme"
    )


@pytest.mark.parametrize("path", ["mood", "body.mood", "body.caller.mood"])
def test_a_field_of_a_newer_sender_is_ignored(path: str) -> None:
    message = decode(edited(setting(path, "sunny")), CallStarted, tenant="acme")

    assert message.body == a_call()


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "id",
        "type",
        "version",
        "source",
        "tenant",
        "occurred_at",
        "correlation",
        "body",
        "body.call_id",
        "body.pbx",
        "body.pbx_call_id",
        "body.direction",
        "body.caller",
    ],
)
def test_a_missing_field_is_named(path: str) -> None:
    with pytest.raises(ContractError) as caught:
        decode(edited(removing(path)), CallStarted, tenant="acme")

    assert caught.value.message == f"{path}: Field required"


@pytest.mark.parametrize("path", ["causation", "traceparent", "body.dialled", "body.caller.name"])
def test_an_optional_field_may_be_null(path: str) -> None:
    message = decode(edited(setting(path, None)), CallStarted, tenant="acme")

    assert message.body.caller == a_call().caller


def test_a_message_that_does_not_say_so_is_the_first_delivery() -> None:
    assert decode(edited(removing("attempt")), CallStarted, tenant="acme").attempt == 1


def test_every_fault_is_named() -> None:
    def edit(document: dict[str, Any]) -> None:
        del document["source"]
        document["body"]["direction"] = "sideways"

    with pytest.raises(ContractError, match=r"source: .*; body\.direction: "):
        decode(edited(edit), CallStarted, tenant="acme")


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"hello", b'{"id":', b"\xff\xfe", b"[" * 10_000],
    ids=["empty", "null", "list", "object", "word", "half", "bytes", "deep"],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError):
        decode(data, CallStarted, tenant="acme")


@given(st.binary() | st.text().map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_read_or_break_the_contract(data: bytes) -> None:
    with pytest.raises(ContractError):
        decode_known(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("type", "calls.ended", id="another type"),
        pytest.param("version", 2, id="another version"),
        pytest.param("tenant", "other", id="another tenant"),
        pytest.param("tenant", "A.#", id="no tenant"),
        pytest.param("occurred_at", "2026-01-01T12:00:00", id="a naive time"),
        pytest.param("occurred_at", "0001-01-01T00:00:00+14:00", id="a time before all times"),
        pytest.param("attempt", 0, id="a delivery before the first"),
        pytest.param("id", "not-a-uuid", id="no id"),
        pytest.param("body", [], id="no body"),
        pytest.param("body.direction", "sideways", id="an unknown word"),
        pytest.param("body.pbx", "Not A Name", id="no name"),
        pytest.param("body.dialled", "1" * 257, id="a long text"),
        pytest.param("body.caller", "447700900123", id="a text for an object"),
        pytest.param("body.call_id", 5, id="a number for a text"),
    ],
)
def test_a_message_that_breaks_its_contract_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ContractError):
        decode(edited(setting(path, value)), CallStarted, tenant="acme")


@pytest.mark.parametrize(
    "path",
    [
        "id",
        "type",
        "version",
        "tenant",
        "occurred_at",
        "correlation",
        "causation",
        "attempt",
        "body",
        "body.pbx",
        "body.direction",
        "body.caller",
    ],
)
def test_the_error_names_the_field_and_never_repeats_its_value(path: str) -> None:
    """It is logged and kept with the dead letter; the value may be anybody's number or secret."""
    value = "S3CR3T 447700900123"
    with pytest.raises(ContractError) as caught:
        decode(edited(setting(path, value)), CallStarted, tenant="acme")

    assert value not in caught.value.message


def test_the_error_of_a_message_gone_astray_does_not_name_its_tenant() -> None:
    """It is kept where another tenant reads it."""
    with pytest.raises(ContractError) as caught:
        decode(edited(setting("tenant", "globex")), CallStarted, tenant="acme")

    assert "globex" not in caught.value.message


def test_the_error_of_a_type_that_is_not_known_does_not_repeat_it() -> None:
    with pytest.raises(ContractError) as caught:
        decode_known(edited(setting("type", "s3cr3t-447700900123")))

    assert "s3cr3t" not in caught.value.message


def test_the_error_of_what_is_no_json_does_not_repeat_it() -> None:
    with pytest.raises(ContractError) as caught:
        decode(b"s3cr3t", CallStarted, tenant="acme")

    assert "s3cr3t" not in caught.value.message


def test_the_error_says_for_which_contract_it_was_read() -> None:
    with pytest.raises(ContractError) as caught:
        decode(b"{}", CallStarted, tenant="acme")

    assert caught.value.details == {"contract": "calls.started.v1"}


@pytest.mark.parametrize(("path", "value"), [("type", "calls.exploded"), ("version", 99)])
def test_a_contract_that_is_not_known_is_not_read(path: str, value: Any) -> None:
    with pytest.raises(ContractError):
        decode_known(edited(setting(path, value)))


# -- the registry -------------------------------------------------------------------------------


@each_contract
def test_a_contract_is_found_by_its_name_and_version(kind: type[Contract]) -> None:
    assert REGISTRY[kind.contract_name, kind.contract_version] is kind
    assert kind.wire_name() == f"{kind.contract_name}.v{kind.contract_version}"


@each_contract
def test_a_contract_says_what_it_is_for(kind: type[Contract]) -> None:
    """The reference shows it."""
    assert kind.__doc__


def test_a_contract_is_not_defined_twice() -> None:
    with pytest.raises(TypeError, match="defined twice"):

        @contract("calls.started", version=1)
        class Another(Event):
            """Would take the place of the real one."""

    assert REGISTRY["calls.started", 1] is CallStarted


def test_a_query_needs_to_say_what_its_answer_is() -> None:
    with pytest.raises(TypeError, match="answer"):

        @contract("contacts.guess", version=1)
        class Guess(Query[ContactChanged]):
            """Without an answer."""

    assert ("contacts.guess", 1) not in REGISTRY


def test_the_story_of_an_agent_is_kept_by_extension() -> None:
    order = SetAgentStatus(extension="101", status=AgentStatus.BREAK)

    assert sent(order).correlation == derived_id("subject", "acme", "agent:101")


def test_a_question_has_a_message_of_its_own_each_time() -> None:
    assert sent(FindContact(number="1")).id != sent(FindContact(number="1")).id
