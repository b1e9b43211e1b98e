"""One client of the screens: what it wants to hear, what waits for it, and where it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.gateway.domain.events import AgentEvent, AgentEventKind
from shared.contracts.screens import Seen
from shared.http.live import LiveStream, Placed

#: Live events that a client may be behind before its stream ends; it connects again and goes on. Of
#: a call that rings at 500 phones, who follows them all is told 1,000 things at once.
BEHIND, BEHIND_OF_ALL = 100, 5_000
#: Whatever it wants to hear, a client is told of these.
_ALWAYS = frozenset({AgentEventKind.RESET, AgentEventKind.BEHIND})

#: An event's id or position, or the position that a beat named.
Position = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
CallId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class Wants:
    """*extension*: whose screens alone; of all else, *extensions* of them. None: any."""

    extension: str | None = None
    kinds: frozenset[AgentEventKind] | None = None
    extensions: frozenset[str] | None = None

    def take(self, event: AgentEvent) -> bool:
        if event.kind in _ALWAYS:
            return True
        if self.extension is not None and event.extension != self.extension:
            return False
        if self.extensions is not None and event.extension not in self.extensions:
            return False
        return self.kinds is None or event.kind in self.kinds


class SaidByWatcher(BaseModel):
    """What a client of a tenant's events may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resume: Position = Field(description="Send what came after this id, and shortly before it.")


class SaidByScreen(BaseModel):
    """What an agent's screen may say: where it goes on from, or what became of a pop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resume: Position | None = Field(
        default=None, description="Send what came after this id, and shortly before it."
    )
    call_id: CallId | None = Field(default=None, description="Whose pop was seen.")
    seen: Seen | None = None
    pop_id: Position | None = Field(
        default=None, description="Which of its pops, where there were several; else the last."
    )

    @model_validator(mode="after")
    def says_one_thing(self) -> SaidByScreen:
        if (self.resume is None) == (self.seen is None):
            raise ValueError("say `resume`, or `seen` and `call_id`")
        if (self.seen is None) != (self.call_id is None):
            raise ValueError("`seen` and `call_id` go together")
        return self


#: Events, and the position of who goes on by them.
GoneOn = tuple[Sequence[Placed[AgentEvent]], str]


class Following(LiveStream[AgentEvent]):
    """
    Made by ``Screens.follow``. *now*: the position of who has had all so far; *go_on*: what a
    client is told that goes on from a position.
    """

    def __init__(
        self,
        wants: Wants,
        *,
        now: Callable[[], str],
        go_on: Callable[[str], GoneOn],
        left: Callable[[Following], None],
    ) -> None:
        self.wants = wants
        #: What becomes of a pop that the client has seen, where it may say so.
        self.mark: Callable[[str, Seen, str | None], Awaitable[None]] | None = None
        self._most = BEHIND if wants.extension is not None else BEHIND_OF_ALL
        self._now = now
        self._go_on = go_on
        self._left = left
        self._again: deque[Placed[AgentEvent]] = deque()
        self._live: deque[Placed[AgentEvent]] = deque()
        self._came = asyncio.Event()
        self._position = now()
        self._cut = self._said_so = False

    @property
    def is_cut(self) -> bool:
        return self._cut

    @property
    def position(self) -> str:
        return self._position if self._again or self._live or self._cut else self._now()

    def give(self, placed: Placed[AgentEvent]) -> None:
        if self._cut or not self.wants.take(placed.event):
            return
        if len(self._live) >= self._most:
            self._cut = True
            self._left(self)
        else:
            self._live.append(placed)
        self._came.set()

    def tell_again(self, events: Sequence[Placed[AgentEvent]], position: str) -> None:
        """Before all that comes live; in place of what was still to be told again."""
        self._again = deque(event for event in events if self.wants.take(event.event))
        self._position = position
        self._came.set()

    async def next(self) -> Placed[AgentEvent] | None:
        while not (self._again or self._live or self._cut):
            self._came.clear()
            await self._came.wait()
        if self._again or self._live:
            found = (self._again or self._live).popleft()
            self._position = found.position or self._position
            return found
        if self._said_so:
            return None
        self._said_so = True
        event = AgentEvent(
            kind=AgentEventKind.BEHIND,
            id=self._position,
            position=self._position,
            extension=self.wants.extension,
        )
        return Placed(event, None)

    async def hear(self, said: SaidByScreen | SaidByWatcher) -> None:
        match said:
            case SaidByScreen(seen=Seen() as seen, call_id=str(call_id)) if self.mark is not None:
                await self.mark(call_id, seen, said.pop_id)
            case _ if said.resume is not None:
                self.tell_again(*self._go_on(said.resume))

    def close(self) -> None:
        self._left(self)
