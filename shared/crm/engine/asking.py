"""
One request to a CRM and what its answer means: its turn, its session, what it carries, pauses,
and one more try where a session was refused.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from yarl import URL

from shared.clock import Clock
from shared.crm.bodies import read_body
from shared.crm.form.access import PlaceKind
from shared.crm.form.answers import Meaning
from shared.crm.form.manifest import Event, Manifest
from shared.crm.form.requests import FilePart, Request, Step
from shared.crm.language.contexts import form_value, header_name, header_value, query_value
from shared.crm.language.functions import plain_text
from shared.crm.language.gjson import escape_literal
from shared.crm.language.paths import at_path
from shared.crm.language.text import compile_text
from shared.crm.meaning import meaning, wait_of, words
from shared.crm.port import Priority
from shared.crm.rendering import Rendered, Scope, render
from shared.crm.sessions.keeper import Session, SessionKeeper
from shared.crm.turns.gate import Gate
from shared.errors import (
    ContractError,
    MeshError,
    NeedsReconnect,
    OutOfTime,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import Answer, HttpClient
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

_SPARE = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Reply:
    """A success; *nothing* where it says that there is nobody or has no body."""

    status: int
    headers: Mapping[str, str]
    value: Any
    nothing: bool
    url: URL


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be asked, and how."""

    request: Request
    variables: Mapping[str, Any]
    within: timedelta
    priority: Priority
    searching: bool
    merge: tuple[str, Mapping[str, Any]] | None
    address: URL | None


@dataclass(frozen=True, slots=True)
class _Sent:
    """An answer and what it means; *wait*: how long the CRM wants to be left alone."""

    url: URL
    answer: Answer
    value: Any
    means: Meaning
    wait: timedelta | None


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
    ) -> None:
        """*scope*: the parameters and opened credentials of the connection, and its maps."""
        self._manifest = manifest
        self._scope = scope
        self._sessions = sessions
        self._gate = gate
        self._http = http
        self._clock = clock
        self._metrics = metrics
        #: What follow-up requests took out of their answers.
        self._taken: dict[str, Any] = {}
        self._session_seen: Session | None = None
        self._begun = False

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
    ) -> Reply | None:
        """
        The answer, where it is a success or says that there is nothing; None where the request is
        not to be sent. A refused session is renewed once. *address* replaces the request's URL,
        for the next page of a list.

        Raises: Rejected, Throttled, NeedsReconnect, Unavailable, ContractError for a template that
        makes no request.
        """
        order = _Order(request, variables, within, priority, searching, merge, address)
        try:
            # Its parts keep to the time themselves, and say better what took it.
            async with asyncio.timeout((within + _SPARE).total_seconds()):
                reply = await self._ask(order)
        except TimeoutError:
            self._count(OutOfTime.code)
            raise OutOfTime(f"the CRM did not answer within {within.total_seconds():g} s") from None
        except MeshError as error:
            self._count(error.code)
            raise
        self._count("ok")
        return reply

    async def run(
        self,
        steps: tuple[Step, ...],
        variables: Mapping[str, Any],
        *,
        within: timedelta,
        priority: Priority,
    ) -> dict[str, Any]:
        """*variables* and what the steps made of them. Raises as :meth:`ask`."""
        known = dict(variables)
        for step in steps:
            scope = self.scope.having(known)
            for name, text in step.compute.items():
                known[name] = compile_text(text).value(scope.all, maps=scope.maps)
                scope = scope.having({name: known[name]})
            if step.request is None:
                continue
            reply = await self.ask(step.request, known, within=within, priority=priority)
            for name, path in step.take.items():
                known[name] = self.at(reply.value, path, known) if reply is not None else None
        return known

    async def follow(self, event: Event, variables: Mapping[str, Any]) -> None:
        """The follow-up requests of *event*; one that fails is logged and stops no other."""
        for follow_up in self._manifest.follow_ups:
            if follow_up.on is not event:
                continue
            try:
                made = await self.run(
                    (follow_up,),
                    variables,
                    within=self._manifest.limits.timeout,
                    priority=Priority.JOURNAL,
                )
            except MeshError as error:
                log.warning("follow_up_failed", after=str(event), error=error.message)
                continue
            self._taken.update({name: made.get(name) for name in follow_up.makes})

    @property
    def scope(self) -> Scope:
        """What a text may use beside the variables of its operation."""
        seen = self._session_seen
        made = seen.variables if seen is not None else {}
        return replace(self._scope, own={**self._scope.own, **made, **self._taken})

    def path(self, path: str, variables: Mapping[str, Any]) -> str:
        """*path* with its placeholders filled; a value cannot change what is asked."""
        if "{{" not in path:
            return path
        scope = self.scope
        shown = {name: escape_literal(plain_text(value)) for name, value in variables.items()}
        return compile_text(path).text({**scope.own, **shown}, maps=scope.maps)

    def at(self, value: Any, path: str, variables: Mapping[str, Any]) -> Any:
        return at_path(value, self.path(path, variables))

    # -- one request ---------------------------------------------------------------------------

    async def _ask(self, order: _Order) -> Reply | None:
        session = await self._session(refused=None)
        sent = await self._sent(order, session)
        if sent is None:
            return None
        if sent.means is Meaning.CREDENTIALS and session is not None:
            session = await self._session(refused=session)
            sent = await self._sent(order, session)
            if sent is None:
                return None
        answer = sent.answer
        self._raise_failures(sent)
        nothing = sent.means is Meaning.NOTHING or sent.value is None
        return Reply(answer.status, answer.headers, sent.value, nothing, sent.url)

    async def _session(self, *, refused: Session | None) -> Session | None:
        session = None
        if self._sessions is not None:
            session = await self._sessions.session(refused=refused)
        if not self._begun or session is not self._session_seen:
            # Before the requests that follow: they ask for a session, too.
            self._begun, self._session_seen = True, session
            await self.follow(Event.AUTH, {})
        return session

    async def _sent(self, order: _Order, session: Session | None) -> _Sent | None:
        scope = replace(
            self._scope,
            own={
                **self._scope.own,
                **(session.variables if session is not None else {}),
                **self._taken,
            },
        ).having(order.variables)
        rendered = render(order.request, scope, merge=order.merge)
        if rendered is None:
            return None
        if order.address is not None:
            rendered = replace(rendered, url=order.address)
        if order.request.multipart is not None:
            rendered = await self._with_parts(
                rendered, order.request.multipart, scope, order.within
            )
        ready = self._carrying(rendered, scope)
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
            answer = await self._exchange(ready, min(left, self._manifest.limits.timeout))
            # Before the next one's turn: a pause, or a failed probe, must stop it.
            return self._judged(ready.url, answer, searching=order.searching)

    async def _exchange(self, ready: Rendered, within: timedelta) -> Answer:
        try:
            with self._metrics.timed("callmesh_crm_request_seconds", self._manifest.name):
                return await self._http.send(
                    ready.method, ready.url, within=within, headers=ready.headers, body=ready.body
                )
        except Unavailable as error:
            self._gate.failed(error.message)
            raise

    def _judged(self, url: URL, answer: Answer, *, searching: bool) -> _Sent:
        value, means = self._read(answer, searching=searching)
        wait = wait_of(self._manifest.limits, answer, value, self._clock.now())
        if means is Meaning.SLOW_DOWN:
            wait = self._manifest.limits.patience if wait is None else wait
            # Every other request of this connection waits too: a ban would hit them all.
            self._gate.pause(wait)
        return _Sent(url, answer, value, means, wait)

    def _read(self, answer: Answer, *, searching: bool) -> tuple[Any, Meaning]:
        fault = None
        try:
            value = read_body(self._manifest.answer, answer.body)
        except ContractError as error:
            value, fault = None, error.message
        means = meaning(self._manifest.outcome, answer, value, searching=searching)
        if means is Meaning.SUCCESS and fault is not None:
            # A proxy's page instead of the CRM's answer is no answer.
            why = (
                f"the CRM answered {answer.status} with something that is no "
                f"{self._manifest.answer.upper()}"
            )
            self._gate.failed(why)
            raise Unavailable(why)
        if means is Meaning.UNAVAILABLE:
            self._gate.failed(words(self._manifest.outcome, answer, value))
        else:
            self._gate.answered()
        return value, means

    def _raise_failures(self, sent: _Sent) -> None:
        means = sent.means
        if means in {Meaning.SUCCESS, Meaning.NOTHING}:
            return
        said = words(self._manifest.outcome, sent.answer, sent.value)
        if means is Meaning.SLOW_DOWN:
            raise Throttled(f"the CRM asks to slow down: {said}", retry_after=sent.wait)
        if means is Meaning.UNAVAILABLE:
            raise Unavailable(said, retry_after=sent.wait)
        if means is Meaning.CREDENTIALS:
            raise NeedsReconnect(
                f"{said}: it does not accept its own token or the credentials; the grant is lost "
                "or lacks a right; connect it again with every scope that is needed"
            )
        if means is Meaning.FORBIDDEN:
            raise NeedsReconnect(f"{said}: the account lacks a right or was blocked")
        raise Rejected(said)

    # -- what every request carries --------------------------------------------------------------

    def _carrying(self, rendered: Rendered, scope: Scope) -> Rendered:
        """With the template's headers and what its auth puts on each request."""
        headers = {"Accept": "application/json"}
        for name, text in self._manifest.headers.items():
            if value := header_value(scope.text(text)):
                headers[name] = value
        auth = self._manifest.auth
        scope = self._signed(rendered, scope)
        if auth.basic is not None:
            pair = base64.b64encode(scope.text(auth.basic).encode()).decode()
            headers.setdefault("Authorization", f"Basic {pair}")
        carried = [
            (place.kind, name, value)
            for place in auth.carried
            if (name := scope.text(place.name)) and (value := scope.text(place.value))
        ]
        for kind, name, value in carried:
            if kind is PlaceKind.HEADER and name not in self._manifest.headers:
                headers[header_name(name)] = header_value(value)
        own = {name.lower() for name in rendered.headers}
        kept = {name: value for name, value in headers.items() if name.lower() not in own}
        ready = replace(rendered, headers={**kept, **rendered.headers})
        for kind, name, value in carried:
            if kind is not PlaceKind.HEADER:
                ready = _placed(ready, kind, name, value)
        return ready

    def _signed(self, rendered: Rendered, scope: Scope) -> Scope:
        if not (self._manifest.auth.compute or self._manifest.auth.apply):
            return scope
        url = rendered.url
        scope = scope.having(
            {
                "Method": rendered.method,
                "Url": str(url),
                "Path": url.raw_path,
                "Query": url.raw_query_string,
                "Body": (rendered.body or b"").decode("utf-8", "replace"),
                "Timestamp": int(self._clock.now().timestamp()),
                "Nonce": secrets.token_hex(16),
            }
        )
        for name, text in self._manifest.auth.compute.items():
            scope = scope.having({name: scope.text(text)})
        return scope

    async def _with_parts(
        self,
        rendered: Rendered,
        parts: Mapping[str, str | FilePart],
        scope: Scope,
        within: timedelta,
    ) -> Rendered:
        """RFC 7578. Raises: Unavailable, Rejected for a file that cannot be fetched."""
        boundary = secrets.token_hex(16)
        body = bytearray()
        for name, part in parts.items():
            quoted = name.replace('"', "%22")
            body += f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted}"'.encode()
            if isinstance(part, FilePart):
                filename = scope.text(part.filename).replace('"', "%22")
                body += f'; filename="{header_value(filename)}"\r\n'.encode()
                body += f"Content-Type: {part.content_type}\r\n\r\n".encode()
                address = scope.text(part.fetch)
                if not address.startswith(("http://", "https://")):
                    raise Rejected("a recording without an http address cannot be uploaded")
                file = await self._http.send("GET", URL(address), within=within)
                if file.status >= HTTPStatus.BAD_REQUEST:
                    raise Rejected(f"the recording's address answered {file.status}")
                body += file.body
            else:
                body += b"\r\n\r\n" + scope.text(part).encode()
            body += b"\r\n"
        body += f"--{boundary}--\r\n".encode()
        headers = {
            **rendered.headers,
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        return replace(rendered, body=bytes(body), headers=headers)

    def _count(self, outcome: str) -> None:
        self._metrics.count("callmesh_crm_requests_total", self._manifest.name, outcome)


def _placed(ready: Rendered, kind: PlaceKind, name: str, value: str) -> Rendered:
    pair = f"{query_value(name)}={form_value(value)}"
    if kind is PlaceKind.QUERY:
        text = str(ready.url)
        joined = f"{text}{'&' if ready.url.raw_query_string else '?'}{pair}"
        return replace(ready, url=URL(joined, encoded=True))
    if kind is PlaceKind.FORM:
        body = f"{ready.body.decode()}&{pair}" if ready.body else pair
        typed = {"Content-Type": "application/x-www-form-urlencoded", **ready.headers}
        return replace(ready, body=body.encode(), headers=typed)
    filled = orjson.loads(ready.body) if ready.body else {}
    if not isinstance(filled, dict):
        raise ContractError("auth puts a key into the JSON body, and this body is no object")
    filled[name] = value
    typed = {"Content-Type": "application/json", **ready.headers}
    return replace(ready, body=orjson.dumps(filled), headers=typed)
