"""
PBX adapters as the services see them.

What can be done with a PBX connection is a :class:`PbxAdapter`; each kind of PBX makes one from
its settings, and leaves out what it cannot. Reading is pure everywhere: a transport brings raw
records, a reader makes sightings of them, so that what came can be read again later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import CallEvent, PbxResynced
from shared.contracts.dialing import DialReason
from shared.contracts.routing import RouteDecision
from shared.errors import Forbidden


class LoginRefused(Forbidden):
    """Wrong user, secret or address list: trying again could lock the account."""

    code = "pbx_login_refused"


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    Something seen of a call, or of an agent. *key* tells it apart from every other sighting of
    the tenant, and is the same for every replica that saw it: the message's id is made from it.
    *at* is by the PBX's clock.
    """

    body: CallEvent | AgentStatusChanged | PbxResynced
    at: datetime
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phones:
    """Who is who at a PBX, as the site says; that changes while calls go on."""

    #: Names of what leads outside, in the PBX's own words (endpoints, gateways).
    trunks: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    #: The PBX's own id of a user → the extension, where the PBX speaks of users.
    users: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def user_at(self, extension: str) -> str | None:
        return next((user for user, known in self.users.items() if known == extension), None)


# -- events come in --------------------------------------------------------------------------------


class RecordReader(Protocol):
    """
    Raw records of one PBX, in the order in which they came → sightings. Pure: no clock, no
    connection. It keeps the calls in progress, and forgets those that have ended.
    """

    @property
    def live_calls(self) -> int: ...

    def know(self, phones: Phones) -> None: ...

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        """*now* is when it came, by our clock. Raises: ContractError for what cannot be read."""
        ...

    def tick(self, now: datetime) -> list[Sighting]:
        """What follows from nothing having come since; asked about ten times a second."""
        ...


#: Takes what was seen; waits while too much is on its way already.
See = Callable[[Sequence[Sighting]], Awaitable[None]]
#: Keeps a raw record for replay; never waits, never fails.
Keep = Callable[[bytes], None]


class EventSource(Protocol):
    """A connection of ours to a PBX that tells its events by itself."""

    @property
    def connected(self) -> bool: ...

    @property
    def fault(self) -> str | None:
        """Why there is no connection; None while there is one."""
        ...

    def know(self, phones: Phones) -> None: ...

    async def run(self, see: See, keep: Keep) -> None:
        """
        For ever: connects, reads, connects again after a loss. After a refused login it only
        waits: a new source is made when the configuration changes.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RawHook:
    """A PBX's HTTP request. *query* is without our key, *body* as it came."""

    method: str = "POST"
    content_type: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    #: Names in lower case. Empty when a kept hook is read: they are for its check alone.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class HookReading:
    """*reports*: the PBX's own ids of calls of which it can tell more when asked a little later."""

    sightings: Sequence[Sighting]
    reports: Sequence[str] = ()


class HookReader(Protocol):
    """The HTTP requests by which a PBX tells its events."""

    def verify(self, hook: RawHook) -> None:
        """
        Its signature and time, where the PBX signs; nothing else is asked of it.

        Raises: Forbidden.
        """
        ...

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        """Pure and without memory: replicas share the hooks. Raises: ContractError."""
        ...


class Reporter(Protocol):
    """A PBX that can be asked what became of a call, some seconds after it ended."""

    async def report(self, pbx_call_id: str, ended_at: datetime, phones: Phones) -> list[Sighting]:
        """Empty: it does not know yet, ask later. Raises: Unavailable, Rejected."""
        ...


# -- orders go out ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """
    Ring *extension* for *ring_for*, then *number*. *user*: the PBX's own id of the agent.
    *caller_id*: the number that the customer shall see; None: as the PBX does by itself.
    """

    reference: str
    extension: str
    number: str
    ring_for: timedelta
    user: str | None = None
    caller_id: str | None = None


@dataclass(frozen=True, slots=True)
class DialReceipt:
    """*pbx_call_id*: what the PBX calls the call, where that is not the reference."""

    pbx_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """Which call to end: the order's *reference*, and what the PBX calls the call, where known."""

    reference: str
    extension: str
    pbx_call_id: str | None = None
    user: str | None = None


#: The reference of an order that the PBX took and then could not carry out, and why.
OnRefusal = Callable[[str, DialReason], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOrder:
    """
    An order over a PBX's own *protocol* as it was given, and what was said of it. *text*: what it
    was given with; no secret is in one.
    """

    protocol: str
    name: str
    text: str
    at: datetime
    took: timedelta
    answer: str | None = None
    error: str | None = None


#: Told of each; never waits, never fails.
OnOrder = Callable[[SocketOrder], None]


class Switchboard(Protocol):
    """What orders go to."""

    @property
    def fault(self) -> str | None:
        """Why no order can be given now; None when one can."""
        ...

    async def run(self, on_refusal: OnRefusal) -> None:
        """For ever: keeps whatever connection orders need."""
        ...

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        """
        Gives the order once; it is never sent again.

        Raises: Rejected with the PBX's words; Unavailable with ``sent=False`` in its details
        when nothing was sent, with ``sent=True`` when nobody knows.
        """
        ...

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        """
        Ends the call of an order, all its legs; one that is over is no fault.

        Raises: Rejected with the PBX's words, also of a PBX that cannot; Unavailable.
        """
        ...

    async def set_status(
        self,
        agent: AgentAt,
        status: AgentStatus,
        *,
        own: str | None = None,
        within: timedelta,
    ) -> None:
        """
        *own*: the PBX's own word for *status*, where the site or a person says one; else the
        adapter's for *status*.

        Raises: Rejected (also where the PBX knows no such status), Unavailable.
        """
        ...

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        """As what this PBX tells it once it was set: one with fewer words makes one of several."""
        ...


@dataclass(frozen=True, slots=True)
class AgentAt:
    extension: str
    user: str | None = None


# -- questions come in -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteQuestion:
    """
    Where shall this call go? *call*: the PBX's own id of it, where it says one. *ivr*: the menu
    that asks. *collected*: the caller was asked for digits, and entered none.
    """

    did: str
    caller: str = ""
    dtmf: str = ""
    call: str | None = None
    ivr: str | None = None
    collected: bool = False


@dataclass(frozen=True, slots=True)
class RouteReply:
    content_type: str
    body: bytes
    status: int = 200


class RouteFace(Protocol):
    """How a PBX asks by HTTP, and how it wants the answer. Pure."""

    def question(self, request: RawHook) -> RouteQuestion:
        """Raises: ContractError."""
        ...

    def reply(self, decision: RouteDecision, request: RawHook) -> RouteReply:
        """
        For a decision without a destination: what makes the PBX go on by itself, or where it has
        a greeting, what makes it play that and ask again with the digits.
        """
        ...


# -- recordings come when they are asked for -------------------------------------------------------


class FetchesRecordings(Protocol):
    """A PBX that gives its recordings, by what ``RecordingReady`` calls them."""

    def fetch(self, recording: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """
        Its bytes in order, as they come. Raises on opening: NotFound (none, or none yet), Forbidden,
        Rejected, Unavailable; on reading: Unavailable where it breaks off.
        """
        ...


# -- all of a connection ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. *fault* None: all is well; else what is wrong and what to do."""

    what: str
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PbxAdapter:
    """
    What can be done with one PBX connection; None: this kind cannot, or is not set up for it.

    *check* tries what the connection is set up for and takes at most some seconds; it raises
    nothing.
    """

    check: Callable[[], AsyncIterator[Finding]]
    source: Callable[[], EventSource] | None = None
    #: A new one, that knows of no calls.
    reader: Callable[[], RecordReader] | None = None
    hooks: HookReader | None = None
    reporter: Reporter | None = None
    switchboard: Callable[[], Switchboard] | None = None
    route: RouteFace | None = None
    recordings: FetchesRecordings | None = None
