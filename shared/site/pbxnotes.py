"""Each request and order to a PBX as a note: what it was for, and what came of it; secrets masked."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import SecretStr

from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.crm.masking import Mask, basic_forms, printable
from shared.net.client import Answer, Exchange, HttpClient
from shared.net.requests import (
    MOST_OF_A_BODY,
    AskedSide,
    RequestNote,
    RequestNotes,
    asked_for,
    asking_for,
)
from shared.pbx.lines import one_line
from shared.pbx.port import (
    AgentAt,
    DialReceipt,
    DialRequest,
    FetchesRecordings,
    Finding,
    HangUp,
    OnRefusal,
    PbxAdapter,
    Phones,
    Reporter,
    Sighting,
    SocketOrder,
    Switchboard,
)

log = structlog.get_logger(__name__)

#: Where nobody says what it is for: a connection that is kept, for events.
_EVENTS = "events"
_SIGN_IN = "session"
#: Of Yeastar, 3CX, Wazo: the last part of the path, or the part before a token.
_SIGNS_IN = re.compile(r"/(?:get_|refresh_|del_)?token(?:/|$)")
_ERRORS_FROM = 400
#: Bytes: to mask a longer body would hold up everybody else.
_LONGEST_BODY = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
#: Of an address that is good by itself, as stores of recordings redirect to.
_SIGNED = ("X-Amz-Signature", "X-Amz-Credential", "X-Goog-Signature", "X-Goog-Credential")


def secrets_of(settings: Any) -> list[str]:
    """The opened secrets of a PBX's settings, in each form in which they are sent."""
    values = [getattr(settings, field.name) for field in fields(settings)]
    found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    user = getattr(settings, "username", None)
    return found + basic_forms(f"{user}:{secret}" for secret in found if user)


@dataclass(frozen=True, slots=True, kw_only=True)
class PbxNotes:
    """Of one connection; *secrets* are in no note."""

    tenant: str
    pbx: str
    host: str
    secrets: Sequence[str]
    notes: RequestNotes
    clock: Clock

    def http(self, http: HttpClient) -> HttpClient:
        """The same client, of which each request is noted."""
        mask = Mask(self.secrets, names=_SIGNED)

        def watch(seen: Exchange) -> None:
            try:
                self._exchanged(seen, mask)
            except Exception:
                # What was asked counts, not the note of it.
                log.exception("request_not_noted", pbx=self.pbx)

        return http.watched(watch)

    def ordered(self, order: SocketOrder) -> None:
        """As :data:`shared.pbx.port.OnOrder`."""
        try:
            self._ordered(order)
        except Exception:
            # As with requests: this runs within the order.
            log.exception("request_not_noted", pbx=self.pbx)

    def _ordered(self, order: SocketOrder) -> None:
        if not self.notes.detail.keeps(failed=order.error is not None):
            return
        mask = Mask(self.secrets)
        name = order.name.replace(" ", "/")
        self.notes.note(
            self._note(
                asked_for(_EVENTS),
                at=order.at,
                method=order.protocol,
                url=printable(mask.text(f"{order.protocol.lower()}://{self.host}/{name}")),
                took=order.took,
                sent_bytes=len(order.text.encode()),
                got_bytes=len((order.answer or "").encode()),
                error=_words(order.error, mask),
                request=printable(mask.text(order.text))[:MOST_OF_A_BODY],
                answer=_words(order.answer, mask),
                brief=True,
            )
        )

    def noting(self, adapter: PbxAdapter) -> PbxAdapter:
        """*adapter*, whose requests say what they are for."""
        make, reporter, recordings = adapter.switchboard, adapter.reporter, adapter.recordings
        return replace(
            adapter,
            check=lambda: _checking(adapter),
            switchboard=None if make is None else lambda: _NotedSwitchboard(make()),
            reporter=None if reporter is None else _NotedReporter(reporter),
            recordings=None if recordings is None else NotedRecordings(recordings),
        )

    def _exchanged(self, seen: Exchange, mask: Mask) -> None:
        fault = seen.error or _fault(seen.answer)
        detail = self.notes.detail
        if not detail.keeps(failed=fault is not None):
            return
        if carried := _carried(seen):
            mask = Mask([*self.secrets, *carried], names=_SIGNED)
        signs_in = _SIGNS_IN.search(seen.url.path) is not None
        url = seen.url.with_user(None) if seen.url.user else seen.url
        found: dict[str, Any] = {}
        if detail.keeps_bodies(failed=fault is not None) and not signs_in:
            form = seen.headers.get("Content-Type", "").startswith(_FORM)
            found["request"] = _shown(seen.body, mask, form=form)
            found["answer"] = _shown(seen.answer.body, mask) if seen.answer is not None else None
        self.notes.note(
            self._note(
                _SIGN_IN if signs_in else asked_for(_EVENTS),
                at=self.clock.now() - seen.took,
                method=seen.method,
                url=printable(mask.address(str(url))),
                took=seen.took,
                status=seen.answer.status if seen.answer is not None else None,
                sent_bytes=len(seen.body or b""),
                got_bytes=len(seen.answer.body) if seen.answer is not None else 0,
                error=_words(fault, mask),
                **found,
            )
        )

    def _note(self, operation: str, *, at: datetime, took: timedelta, **more: Any) -> RequestNote:
        return RequestNote(
            tenant=self.tenant,
            side=AskedSide.PBX,
            connection=self.pbx,
            operation=operation,
            at=at,
            took=took,
            **more,
        )


def _carried(seen: Exchange) -> list[str]:
    """The token of this very request; a PBX may have it in the path as well."""
    by_name = Mask(())
    given = [*seen.headers.items(), *seen.url.query.items()]
    return [value.partition(" ")[2] or value for name, value in given if by_name.hides(name)]


def _fault(answer: Answer | None) -> str | None:
    """Also of a PBX that refuses under status 200: Yeastar by an errcode, UIS by an error."""
    if answer is None:
        return None
    if answer.status >= _ERRORS_FROM:
        return f"answered {answer.status}"
    try:
        said = json.loads(answer.body) if len(answer.body) <= _LONGEST_BODY else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    if said.get("errcode") not in {None, 0}:
        return f"errcode {said['errcode']} {said.get('errmsg') or ''}".strip()
    error = said.get("error")
    if isinstance(error, dict):
        data = error.get("data")
        mnemonic = data.get("mnemonic") if isinstance(data, dict) else None
        return f"{mnemonic or error.get('code')}: {error.get('message') or ''}".strip()
    return None


def _words(text: str | None, mask: Mask) -> str | None:
    return None if text is None else one_line(mask.text(text), most=500) or None


def _shown(body: bytes | None, mask: Mask, *, form: bool = False) -> str:
    if body is None or len(body) > _LONGEST_BODY:
        return f"({len(body)} bytes)" if body else ""
    show = mask.form if form else mask.body
    return show(body, longest=MOST_OF_A_BODY)


# -- what requests are for -------------------------------------------------------------------------


async def _checking(adapter: PbxAdapter) -> AsyncIterator[Finding]:
    found = aiter(adapter.check())
    while True:
        # Not around the `yield`: what the caller does meanwhile is none of it.
        with asking_for("check"):
            try:
                finding = await anext(found)
            except StopAsyncIteration:
                return
        yield finding


@dataclass(frozen=True, slots=True)
class _NotedSwitchboard:
    """As :class:`Switchboard`."""

    board: Switchboard

    @property
    def fault(self) -> str | None:
        return self.board.fault

    async def run(self, on_refusal: OnRefusal) -> None:
        with asking_for(_SIGN_IN):
            await self.board.run(on_refusal)

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        with asking_for("originate"):
            return await self.board.dial(order, within=within)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        with asking_for("hangup"):
            await self.board.hang_up(call, within=within)

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        with asking_for("set_status"):
            await self.board.set_status(agent, status, own=own, within=within)

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        return self.board.heard_as(status, own)


@dataclass(frozen=True, slots=True)
class _NotedReporter:
    """As :class:`Reporter`."""

    reporter: Reporter

    async def report(self, pbx_call_id: str, ended_at: datetime, phones: Phones) -> list[Sighting]:
        with asking_for("report"):
            return await self.reporter.report(pbx_call_id, ended_at, phones)


@dataclass(frozen=True, slots=True)
class NotedRecordings:
    """As :class:`FetchesRecordings`."""

    recordings: FetchesRecordings

    def fetch(self, recording: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._fetched(recording)

    @asynccontextmanager
    async def _fetched(self, recording: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            with asking_for("recording"):
                pieces = await stack.enter_async_context(self.recordings.fetch(recording))
            yield pieces
