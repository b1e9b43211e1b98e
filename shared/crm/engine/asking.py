"""
One request to a CRM: its turn, its session, what it carries, pauses, and one more try where a
session was refused. An error of a request that was made has its ``exchange``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from yarl import URL

from shared.clock import Clock
from shared.crm.engine.carrying import carrying, with_parts
from shared.crm.engine.following import FollowUps
from shared.crm.engine.noting import CrmNotes
from shared.crm.engine.orders import Order, Reply, Sent
from shared.crm.engine.together import Part, counted, joined
from shared.crm.engine.verdicts import Verdicts, meaning_of, read
from shared.crm.form.answers import Meaning
from shared.crm.form.journal import Batch
from shared.crm.form.manifest import Event, FollowUp, Manifest
from shared.crm.form.requests import Request, Step
from shared.crm.language.functions import plain_text
from shared.crm.language.gjson import escape_literal
from shared.crm.language.paths import at_path
from shared.crm.language.text import compile_text
from shared.crm.meaning import wait_of
from shared.crm.port import Priority
from shared.crm.rendering import Rendered, Scope, render
from shared.crm.sessions.keeper import Session, SessionKeeper
from shared.crm.turns.gate import Gate
from shared.errors import MeshError, NeedsReconnect, OutOfTime, Rejected, Unavailable
from shared.net.client import Answer, HttpClient
from shared.observe.metrics import Metrics

_SPARE = timedelta(milliseconds=50)
_WELL = frozenset({Meaning.SUCCESS, Meaning.NOTHING})


class CrmRequests:
    """The requests of one connection."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        scope: Scope,
        sessions: SessionKeeper | None,
        gate: Gate,
        http: HttpClient,
        clock: Clock,
        metrics: Metrics,
        notes: CrmNotes,
    ) -> None:
        """*scope*: the parameters and opened credentials of the connection, and its maps."""
        self._notes = notes
        self._manifest = manifest
        self._scope = scope
        self._sessions = sessions
        self._gate = gate
        self._http = http
        self._clock = clock
        self._metrics = metrics
        self._follow_ups = FollowUps(manifest.follow_ups, send=self._followed, clock=clock)
        self._verdicts = Verdicts(manifest)
        self._session_seen: Session | None = None

    async def ask(
        self,
        request: Request,
        variables: Mapping[str, Any],
        *,
        within: timedelta,
        priority: Priority,
        searching: bool = False,
        merge: tuple[str, Mapping[str, Any]] | None = None,
        address: URL | None = None,
        after: Event | None = None,
    ) -> Reply | None:
        """
        The answer, where it is a success or says that there is nothing; None where the request is
        not to be sent. A refused session is renewed once. *address* replaces the request's URL,
        for the next page of a list; *after* is said of a follow-up request.

        Raises: Rejected (with the answer's ``status``), Throttled, NeedsReconnect, Unavailable,
        ContractError for a template that makes no request.
        """
        return await self._asked(
            Order(
                request,
                within,
                priority,
                variables=variables,
                searching=searching,
                merge=merge,
                address=address,
                after=after,
            )
        )

    async def ask_together(
        self,
        request: Request,
        parts: Sequence[Part],
        batch: Batch,
        *,
        within: timedelta,
        priority: Priority,
    ) -> list[Reply | MeshError]:
        """
        *request*, filled by each of *parts*, as one: for each, in their order, its answer or why it
        has none. With ``batch.taken`` they share the answer.

        Raises: as :meth:`ask`; Rejected also where they cannot go together, or were not all taken.
        """
        order = Order(request, within, priority, parts=tuple(parts), batch=batch)
        reply = await self._asked(order)
        if reply is None:
            raise Rejected("the template makes no request for these calls")
        if batch.answers is not None:
            return self._verdicts.each(order.last, reply, batch.answers, self.scope)
        if (taken := counted(reply.value, batch.taken)) != len(parts):
            raise reply.showing(Rejected(f"the CRM took {taken} of {len(parts)} entries"))
        return [reply] * len(parts)

    async def run(
        self,
        steps: tuple[Step, ...],
        variables: Mapping[str, Any],
        *,
        within: timedelta,
        priority: Priority,
        after: Event | None = None,
    ) -> dict[str, Any]:
        """*variables* and what the steps made of them. Raises as :meth:`ask`."""
        known = dict(variables)
        for step in steps:
            if step.compute and after is not Event.AUTH:
                await self.ready(within=within)
            scope = self.scope.having(known)
            for name, text in step.compute.items():
                known[name] = compile_text(text).value(scope.all, maps=scope.maps)
                scope = scope.having({name: known[name]})
            if step.request is None:
                continue
            reply = await self.ask(
                step.request, known, within=within, priority=priority, after=after
            )
            for name, path in step.take.items():
                known[name] = self.at(reply.value, path, known) if reply is not None else None
                if after is Event.AUTH and reply is not None and reply.url.scheme == "https":
                    _refuse_plain(name, known[name])
        return known

    async def ready(self, *, within: timedelta) -> None:
        """
        What the sign-in makes is there for texts that are filled before a request. Raises as
        :meth:`ask`.
        """
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._session(None, refused=None)
        except TimeoutError:
            raise OutOfTime(f"the CRM's sign-in took over {within.total_seconds():g} s") from None

    def follow(self, event: Event, variables: Mapping[str, Any]) -> None:
        """Its follow-up requests go out behind it; what becomes of them is logged."""
        self._follow_ups.after(event, variables)

    async def followed(self) -> None:
        """Every follow-up request that is under way is over."""
        await self._follow_ups.finished()

    async def close(self) -> None:
        """Follow-up requests get a moment."""
        await self._follow_ups.close()

    @property
    def scope(self) -> Scope:
        """What a text may use beside the variables of its operation."""
        return self._scope_of(self._session_seen)

    def path(self, path: str, variables: Mapping[str, Any]) -> str:
        """*path* with its placeholders filled; a value cannot change what is asked."""
        if "{{" not in path:
            return path
        scope = self.scope
        outside = {**scope.variables, **variables}
        shown = {name: escape_literal(plain_text(value)) for name, value in outside.items()}
        return compile_text(path).text({**scope.own, **shown}, maps=scope.maps)

    def at(self, value: Any, path: str, variables: Mapping[str, Any]) -> Any:
        return at_path(value, self.path(path, variables))

    # -- one request ---------------------------------------------------------------------------

    async def _asked(self, order: Order) -> Reply | None:
        try:
            # Its parts keep to the time themselves, and say better what took it.
            async with asyncio.timeout((order.within + _SPARE).total_seconds()):
                reply = await self._ask(order)
        except TimeoutError:
            self._count(OutOfTime.code)
            error = OutOfTime(f"the CRM did not answer within {order.within.total_seconds():g} s")
            raise self._verdicts.with_exchange(error, order.last, self.scope) from None
        except MeshError as error:
            self._count(error.code)
            self._verdicts.with_exchange(error, order.last, self.scope)
            raise
        self._count("ok")
        return reply

    async def _ask(self, order: Order) -> Reply | None:
        session = await self._session(order.after, refused=None)
        signed_in = self._follow_ups.signed_in
        sent = await self._sent(order, session)
        if sent is not None and sent.means is Meaning.CREDENTIALS:
            if session is not None:
                session = await self._renewed(order, session)
                sent = await self._sent(order, session)
            elif order.after is not Event.AUTH and self._follow_ups.may_sign_in_again(signed_in):
                await self._follow_ups.sign_in(None, refused=signed_in)
                sent = await self._sent(order, None)
        if sent is None:
            return None
        self._verdicts.check(sent, order.last, self.scope)
        return Reply(
            sent.answer.status,
            sent.answer.headers,
            sent.value,
            sent.means is Meaning.NOTHING,
            not sent.answer.body.strip(),
            sent.url,
            partial(self._verdicts.exchange_of, order.last, self.scope),
            partial(self._verdicts.repeated, last=order.last, scope=self.scope),
        )

    async def _renewed(self, order: Order, refused: Session) -> Session | None:
        try:
            return await self._session(order.after, refused=refused)
        except MeshError as error:
            # All who wait for the session get this one, and each has a request of its own to show.
            twin = copy(error)
            twin.details = {**error.details}
            raise twin from error

    async def _session(self, after: Event | None, *, refused: Session | None) -> Session | None:
        session = None
        if self._sessions is not None:
            session = await self._sessions.session(refused=refused)
        self._session_seen = session
        if after is not Event.AUTH:
            await self._follow_ups.sign_in(session)
        return session

    async def _followed(
        self, follow_up: FollowUp, variables: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return await self.run(
            (follow_up,),
            variables,
            within=self._manifest.limits.timeout,
            # A ringing call may wait for those of the sign-in.
            priority=Priority.POP if follow_up.on is Event.AUTH else Priority.JOURNAL,
            after=follow_up.on,
        )

    def _scope_of(self, session: Session | None) -> Scope:
        made = session.variables if session is not None else {}
        own = {**self._scope.own, **made, **self._follow_ups.own}
        return replace(self._scope, own=own, variables=self._follow_ups.taken)

    async def _sent(self, order: Order, session: Session | None) -> Sent | None:
        scope = self._scope_of(session).having(order.variables)
        rendered = self._rendered(order, scope)
        if rendered is None:
            return None
        if order.address is not None:
            rendered = replace(rendered, url=order.address)
        if order.request.multipart is not None:
            rendered = await with_parts(
                rendered,
                order.request.multipart,
                scope,
                http=self._http,
                within=order.within,
            )
        ready = carrying(
            self._manifest, rendered, scope, clock=self._clock, plain=order.after is not None
        )
        began = self._clock.now()
        async with self._gate.turn(order.priority, within=order.within):
            waited = self._clock.now() - began
            self._metrics.observe(
                "callmesh_crm_turn_seconds",
                self._manifest.name,
                order.priority.name.lower(),
                seconds=max(0.0, waited.total_seconds()),
            )
            left = order.within - waited
            if left <= timedelta(0):
                # No fault of the CRM's: it was not asked.
                raise OutOfTime("the turn at the CRM came as the time was over")
            last = order.last
            last.sent, last.answer, last.scope = ready, None, scope
            with self._notes.noting(order, ready, scope) as noted:
                answer = await self._exchange(ready, min(left, self._manifest.limits.timeout))
                noted.answer = last.answer = answer
                # Before the next one's turn: a pause, or a failed probe, must stop it.
                judged = await self._judged(ready.url, answer, order)
                if judged.means not in _WELL:
                    noted.refusal = self._verdicts.words(answer, judged.value, last, scope)
            return judged

    def _rendered(self, order: Order, scope: Scope) -> Rendered | None:
        """Raises: ContractError, Rejected for parts that cannot be joined."""
        if order.batch is None:
            return render(order.request, scope, merge=order.merge)
        parts = [
            render(order.request, scope.having(part.variables), merge=part.merge)
            for part in order.parts
        ]
        order.last.parts = tuple(part for part in parts if part is not None)
        return joined(order.request, parts, order.batch.list_at)

    async def _exchange(self, ready: Rendered, within: timedelta) -> Answer:
        try:
            with self._metrics.timed("callmesh_crm_request_seconds", self._manifest.name):
                return await self._http.send(
                    ready.method, ready.url, within=within, headers=ready.headers, body=ready.body
                )
        except Unavailable as error:
            self._gate.failed(error.message)
            raise

    async def _judged(self, url: URL, answer: Answer, order: Order) -> Sent:
        value, fault = await read(self._manifest.answer, answer.body)
        each = order.batch.answers if order.batch is not None else None
        outcome = self._manifest.outcome
        means = meaning_of(outcome, answer, value, searching=order.searching, each=each)
        if means is Meaning.SUCCESS and fault is not None:
            # A proxy's page instead of the CRM's answer is no answer.
            kind = self._manifest.answer.upper()
            why = f"the CRM answered {answer.status} with something that is no {kind}"
            self._gate.failed(why)
            raise Unavailable(why)
        wait = wait_of(self._manifest.limits, answer, value, self._clock.now())
        if means is Meaning.UNAVAILABLE:
            self._gate.failed(self._verdicts.words(answer, value, order.last, self.scope))
        else:
            self._gate.answered()
        if means is Meaning.SLOW_DOWN:
            wait = self._manifest.limits.patience if wait is None else wait
            # Every other request of this connection waits too: a ban would hit them all.
            self._gate.pause(wait)
        return Sent(url, answer, value, means, wait)

    def _count(self, outcome: str) -> None:
        self._metrics.count("callmesh_crm_requests_total", self._manifest.name, outcome)


def _refuse_plain(name: str, value: Any) -> None:
    """As of a token's answer. Raises: NeedsReconnect."""
    if isinstance(value, str) and value.strip().lower().startswith("http:"):
        raise NeedsReconnect(
            f"the CRM gave an http:// address for {name} in an answer over https; it is not used, "
            "for everything sent there could be read on the way"
        )
