"""
The message bus as the services see it.

Promises, the same for every adapter, tested by ``shared.testing.bus_contract``:

* At least once. A message is done with only after its handler returned; a crash before that
  delivers it again. A handler may therefore run twice and must have one effect.
* One copy per service that subscribes, whatever the number of its replicas. A *live*
  subscription gets a copy per process instead, only while the process runs: for screens.
* No order between messages.
* ``PermanentError`` sends the message to the dead letters at once; anything else that a handler
  raises is retried with growing delay, then goes there: a ``TransientError`` after a day, since
  what is away comes back, a fault of ours after some attempts. So does a message that ends the
  process again and again. A dead letter is never dropped.
* ``send`` returns when the message is durable, else raises Unavailable: there is no third case.
* Payloads cross as JSON, also within one process.
* A message belongs to one tenant: its address carries it, and one whose envelope says otherwise
  is a dead letter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, Field

from shared.contracts.envelope import Command, Contract, Event, Message, Query
from shared.moments import Instant

A = TypeVar("A", bound=BaseModel)

Handler = Callable[[Message[Any]], Awaitable[BaseModel | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Waits *base*, 4 · *base*, 16 · *base* …, never over *ceiling*; then the dead letters."""

    #: Of a message whose handler raises what it should not.
    attempts: int = 7
    #: With a message whose handler raises TransientError, from the first failure on.
    patience: timedelta = timedelta(days=1)
    base: timedelta = timedelta(milliseconds=250)
    ceiling: timedelta = timedelta(seconds=256)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who gets which contract: known before anything runs, so that its queue can wait for it."""

    service: str
    contract: type[Contract]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    consumer: Consumer
    handler: Handler
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Handlers running at once in this process. More than 32 only adds waiting (measured).
    prefetch: int = 32
    #: A copy per process, best effort, never retried.
    live: bool = False

    @property
    def durable(self) -> bool:
        """Whether it has a queue of its own, in which its messages wait for it and are kept."""
        return not self.live and not issubclass(self.contract, Query)

    @property
    def service(self) -> str:
        return self.consumer.service

    @property
    def contract(self) -> type[Contract]:
        return self.consumer.contract


#: Tenant, PBX connection, body, content type, and when it was taken from the broker.
ForeignHandler = Callable[[str, str, bytes, str, datetime], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDoor:
    """
    Where PBXs publish by themselves what they would else send as hooks, JSON of up to
    ``MAX_HOOK_BYTES``.

    Whose it is says the address alone, to which the broker let it be published; nothing within is
    believed. The handler has the promises of a subscription: at least once, retried, and dead
    letters of *service*, where also lies, with the reason, what has no address or is no JSON.
    """

    service: str
    handler: ForeignHandler
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Few: the broker hands out as they are also messages of megabytes, that are never handled.
    prefetch: int = 8


class DeadLetter(BaseModel):
    """A message that no handler could take, with all that is needed to decide on it."""

    letter_id: str
    service: str
    type: str = Field(description="Wire name of the contract.")
    tenant: str | None
    message_id: str | None
    error_code: str
    error: str
    attempts: int
    first_failed_at: Instant | None
    died_at: Instant
    message: str = Field(description="The message as it came.")


#: In place of a tenant: letters whose message says none.
OF_NO_TENANT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichLetters:
    """All that is said must hold; *contract* is a wire name."""

    service: str | None = None
    tenant: str | None = None
    contract: str | None = None
    #: Died at that moment, or later.
    since: datetime | None = None

    def has(self, letter: DeadLetter) -> bool:
        return (
            self.service in {None, letter.service}
            and self.tenant in {None, letter.tenant or OF_NO_TENANT}
            and self.contract in {None, letter.type}
            and (self.since is None or letter.died_at >= self.since)
        )


class DeadLetters(Protocol):
    """What the consumers of this bus could not handle."""

    async def list(
        self, which: WhichLetters | None = None, /, *, limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Oldest first. Raises: Unavailable."""
        ...

    async def get(self, letter_id: str) -> DeadLetter:
        """Raises: NotFound, Unavailable."""
        ...

    async def replay(self, letter_id: str) -> DeadLetter:
        """
        Give it to its service again, as a first attempt; other services do not see it.

        Raises: NotFound, Unavailable.
        """
        ...


class Publisher(Protocol):
    """Publishes in the name of one service."""

    async def publish(
        self,
        body: Event | Command,
        *,
        tenant: str | None = None,
        cause: Message[Any] | None = None,
        key: str | None = None,
        at: datetime | None = None,
    ) -> Message[Any]:
        """
        Returns once the message is durable. See ``envelope.wrap`` for tenant, cause and key.

        Raises: Unavailable.
        """
        ...


class Requester(Protocol):
    async def request(self, query: Query[A], *, within: timedelta, tenant: str | None = None) -> A:
        """
        Ask the service that answers *query*.

        Raises: Unavailable when there is no answer in time, and whatever the answering handler
        raised.
        """
        ...


class MessageBus(Protocol):
    @property
    def dead_letters(self) -> DeadLetters: ...

    def subscribe(self, subscription: Subscription) -> None:
        """Before ``start`` only."""
        ...

    def open_door(self, door: ForeignDoor) -> None:
        """Before ``start`` only, and one; without a broker there is nowhere to publish to."""
        ...

    async def start(self) -> None:
        """Returns when messages flow, or when the broker is away and is being waited for."""
        ...

    async def stop(self, *, drain: timedelta) -> None:
        """Takes no new messages, lets handlers finish for *drain*, gives the rest back."""
        ...

    async def ready(self) -> bool:
        """Whether messages can be sent and every subscription is being served."""
        ...

    async def send(self, message: Message[Any]) -> None:
        """Raises: Unavailable."""
        ...

    async def ask(self, message: Message[Any], *, within: timedelta) -> bytes:
        """The answer to a query, as JSON. Raises: Unavailable, or the handler's error."""
        ...
