"""
What travels around every payload.

The attribute names are those of CloudEvents where it has one. Ids are derived wherever the
input has an identity, so that a handler which runs twice publishes the same ids twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ContractError
from shared.faults import faults_in
from shared.ids import TenantId, derived_id, new_id
from shared.moments import Instant


class Contract(BaseModel):
    """Base of events, commands and queries. Unknown fields are ignored: senders may be newer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    contract_name: ClassVar[str]
    contract_version: ClassVar[int]

    @classmethod
    def wire_name(cls) -> str:
        """``calls.started.v1``: the routing key behind the tenant."""
        return f"{cls.contract_name}.v{cls.contract_version}"

    def subject(self) -> str | None:
        """What all messages of one story share; their ``correlation`` is made from it."""
        return None


class Event(Contract):
    """Something that happened; zero or more services care."""


class Command(Contract):
    """Something that the one service which owns it is asked to do."""


A = TypeVar("A", bound=BaseModel)


class Query(Contract, Generic[A]):
    """A question to the one service that answers it, within a time budget."""

    answer_model: ClassVar[type[BaseModel]]


C = TypeVar("C", bound=Contract)


class Message(BaseModel, Generic[C]):
    """A contract and its metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID = Field(description="Derived from what the message is about; a repeat has it too.")
    type: str = Field(description="Name of the contract.")
    version: int = Field(description="Version of the contract.")
    source: str = Field(description="The service that published it.")
    tenant: TenantId
    occurred_at: Instant = Field(description="When it happened, by the clock of who saw it.")
    correlation: UUID = Field(description="One per call, dial order or request.")
    causation: UUID | None = Field(default=None, description="The message that led to this one.")
    traceparent: str | None = Field(default=None, description="W3C Trace Context.")
    attempt: int = Field(default=1, ge=1, description="Which delivery to this handler it is.")
    body: C

    def encode(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()


def wrap(
    body: C,
    *,
    source: str,
    occurred_at: datetime,
    tenant: str | None = None,
    cause: Message[Any] | None = None,
    key: str | None = None,
    traceparent: str | None = None,
) -> Message[C]:
    """
    Put *body* into its envelope.

    The id comes from *key*, or from *cause* (one consequence of a type per cause unless *key*
    tells them apart), or is new. A consequence stays in the tenant of its cause.

    Raises ValueError without a tenant, or with one that is not the cause's.
    """
    if cause is not None:
        if tenant not in {None, cause.tenant}:
            raise ValueError(f"a message of tenant {cause.tenant} cannot lead into {tenant}")
        tenant = cause.tenant
    if tenant is None:
        raise ValueError("a message without a cause names its tenant")
    if cause is not None:
        identity = derived_id(str(cause.id), body.wire_name(), key or "")
    elif key is not None:
        identity = derived_id(tenant, body.wire_name(), key)
    else:
        identity = new_id()
    subject = body.subject()
    if subject is not None:
        correlation = derived_id("subject", tenant, subject)
    else:
        correlation = cause.correlation if cause else identity
    return _message_of(type(body))(
        id=identity,
        type=body.contract_name,
        version=body.contract_version,
        source=source,
        tenant=tenant,
        occurred_at=occurred_at,
        correlation=correlation,
        causation=cause.id if cause else None,
        traceparent=traceparent,
        body=body,
    )


def decode(data: bytes | str, contract: type[C], *, tenant: str) -> Message[C]:
    """
    Read a message that must hold *contract* and belong to *tenant*, to whom it was addressed.

    Raises ContractError; its text names the fields and never repeats their values.
    """
    try:
        message = _message_of(contract).model_validate_json(data)
    except ValidationError as error:
        raise ContractError(faults_in(error), contract=contract.wire_name()) from None
    if (message.type, message.version) != (contract.contract_name, contract.contract_version):
        raise ContractError(f"type, version: not those of {contract.wire_name()}")
    if message.tenant != tenant:
        raise ContractError(f"addressed to tenant {tenant}, says it is of another")
    return message


def decode_known(data: bytes | str) -> Message[Any]:
    """Read a message that we wrote ourselves, whichever it is. Raises ContractError."""
    try:
        head = _Head.model_validate_json(data)
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None
    contract = REGISTRY.get((head.type, head.version))
    if contract is None:
        raise ContractError("type, version: of no contract")
    return decode(data, contract, tenant=head.tenant)


class _Head(BaseModel):
    type: str
    version: int
    tenant: TenantId


#: By contract. pydantic forgets a parametrised model of which nobody holds on to the type, and
#: takes milliseconds to build it again.
_MESSAGES: dict[type[Contract], type[Message[Any]]] = {}


def _message_of(contract: type[C]) -> type[Message[C]]:
    if contract not in _MESSAGES:
        # A subscript with a variable is no type to mypy.
        _MESSAGES[contract] = cast("type[Message[Any]]", Message.__class_getitem__(contract))
    return _MESSAGES[contract]


REGISTRY: dict[tuple[str, int], type[Contract]] = {}

T = TypeVar("T", bound=type[Contract])


def contract(name: str, *, version: int, answer: type[BaseModel] | None = None) -> Callable[[T], T]:
    """Register a class as *version* of the contract *name*; queries name their answer's model."""

    def register(cls: T) -> T:
        cls.contract_name = name
        cls.contract_version = version
        if issubclass(cls, Query):
            if answer is None:
                raise TypeError(f"{name}: a query needs an answer model")
            cls.answer_model = answer
        if REGISTRY.setdefault((name, version), cls) is not cls:
            raise TypeError(f"contract {name} v{version} is defined twice")
        return cls

    return register
