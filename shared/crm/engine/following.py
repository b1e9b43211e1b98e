"""
Follow-up requests of a template: after sign-in, users, a search, a new contact, an entry.

Those of the sign-in make what other requests need, so these wait for them. All others go out
behind what they follow: nobody's screen and no entry waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.clock import Clock
from shared.crm.form.manifest import Event, FollowUp
from shared.errors import MeshError

log = structlog.get_logger(__name__)

#: Those of a sign-in that failed are tried again, at the next request, after so long.
_AGAIN = timedelta(minutes=1)
#: Operations of one connection whose follow-ups are under way; those of more are left out.
_MOST_UNDER_WAY = 20
_CLOSED_WITHIN = timedelta(seconds=3)

#: Sends one: its variables with what it made. Raises: MeshError.
Send = Callable[[FollowUp, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class SignIn:
    """The follow-ups of one session's beginning; *done*: whether all of them went well."""

    session: object | None
    begun_at: datetime
    done: asyncio.Task[bool]


class FollowUps:
    """Of one connection. *send* is given when all is there that it needs."""

    def __init__(self, follow_ups: tuple[FollowUp, ...], *, send: Send, clock: Clock) -> None:
        self._of = {event: [one for one in follow_ups if one.on is event] for event in Event}
        self._send = send
        self._clock = clock
        #: What those of the sign-in made: as good as the session, so it may be an address.
        self.own: dict[str, Any] = {}
        #: What the others made: it comes from records, and is escaped wherever it lands.
        self.taken: dict[str, Any] = {}
        self._signed_in: SignIn | None = None
        self._under_way: set[asyncio.Task[bool]] = set()

    async def sign_in(self, session: object | None, *, refused: SignIn | None = None) -> None:
        """Done once for each session, whoever asks; *refused*: not by this one again."""
        if not self._of[Event.AUTH]:
            return
        known = self._signed_in
        if known is None or known is refused or known.session is not session or self._failed(known):
            work = asyncio.create_task(self._follow(Event.AUTH, {}))
            self._signed_in = known = SignIn(session, self._clock.now(), work)
        # Who gives up waiting does not stop it.
        await asyncio.shield(known.done)

    @property
    def signed_in(self) -> SignIn | None:
        return self._signed_in

    def may_sign_in_again(self, refused: SignIn | None) -> bool:
        """
        Whether there is, or may be, another than *refused*: where a template has no session, what
        its follow-ups took at the sign-in is one.
        """
        if not self._of[Event.AUTH] or refused is None:
            return False
        is_old = self._clock.now() - refused.begun_at >= _AGAIN
        return self._signed_in is not refused or is_old

    def after(self, event: Event, variables: Mapping[str, Any]) -> None:
        """In the background; *variables* are those of the operation."""
        if not self._of[event]:
            return
        if len(self._under_way) >= _MOST_UNDER_WAY:
            log.warning("follow_ups_left_out", after=str(event))
            return
        task = asyncio.create_task(self._follow(event, variables))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def finished(self) -> None:
        """What is under way now is over."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    async def close(self) -> None:
        """What is under way gets a moment, then is given up."""
        sign_in = {self._signed_in.done} if self._signed_in is not None else set()
        if tasks := {*self._under_way, *sign_in}:
            _, late = await asyncio.wait(tasks, timeout=_CLOSED_WITHIN.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _failed(self, known: SignIn) -> bool:
        """And long enough ago to be tried again."""
        if not known.done.done() or self._clock.now() - known.begun_at < _AGAIN:
            return False
        return known.done.cancelled() or bool(known.done.exception()) or not known.done.result()

    async def _follow(self, event: Event, variables: Mapping[str, Any]) -> bool:
        """In their order; one that fails is logged and stops no other."""
        well = True
        taken = self.own if event is Event.AUTH else self.taken
        for follow_up in self._of[event]:
            try:
                made = await self._send(follow_up, variables)
            except MeshError as error:
                log.warning("follow_up_failed", after=str(event), error=error.message)
                well = False
                continue
            taken.update({name: made.get(name) for name in follow_up.makes})
        return well
